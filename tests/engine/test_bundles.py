"""engine/bundles.py: every unit once, the languages of a range together, and work for every worker."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from xner_ray.engine.bundles import bundled
from xner_ray.engine.pools import Group
from xner_ray.read.index.units import Unit, unit_name
from xner_ray.recipe.load import load_recipe

LANGS = ["spa_Latn", "swh_Latn", "por_Latn", "yor_Latn", "hau_Latn"]
RECIPE = load_recipe({"input": {"path": "a.conll"}, "targets": LANGS})


def _units(n_ranges: int, n_langs: int) -> list[Unit]:
    """As an index lists them: language by language."""
    return [
        Unit(unit_name(lang, 10 * n), lang, "train", 10 * n, 10 * n + 10, None, (), (), (), 100)
        for lang in LANGS[:n_langs]
        for n in range(n_ranges)
    ]


def _pool(workers: int) -> list[Group]:
    return [Group(("translate", "align"), (1, workers), 1, 0, 1, None), Group(("match",), (1, 99), 1, 0, 1, None)]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_unit_is_made_once_and_nobody_waits(n_ranges: int, n_langs: int, workers: int, random: object) -> None:
    units = _units(n_ranges, n_langs)
    left = [unit for unit in units if random.random() < 0.7] or units  # type: ignore[attr-defined]
    found = bundled(left, RECIPE, _pool(workers))
    assert sorted(unit.name for bundle in found for unit in bundle) == sorted(unit.name for unit in left)
    assert all(len({unit.start for unit in bundle}) == 1 for bundle in found)
    assert len(found) >= min(len(left), 2 * workers)


def test_all_languages_of_a_range_stay_together_where_there_are_ranges_enough() -> None:
    assert {len(bundle) for bundle in bundled(_units(20, 5), RECIPE, _pool(4))} == {5}
    assert {len(bundle) for bundle in bundled(_units(20, 5), RECIPE, _pool(100))} == {1}
    assert [unit.lang for bundle in bundled(_units(2, 5), RECIPE) for unit in bundle] == [*LANGS, *LANGS]


def test_a_bundle_holds_so_many_rows_and_no_more() -> None:
    units = [replace(unit, stop=unit.start + 50_000) for unit in _units(20, 5)]
    assert {len(bundle) for bundle in bundled(units, RECIPE, _pool(1))} == {2, 1}


def test_units_that_share_nothing_go_alone() -> None:
    files = {"path": "a.conll", "links": "links.{lang}", "parallel": dict.fromkeys(LANGS, "b.txt")}
    links = {"align": {"backend": "provided"}, "input": files}
    given_links = load_recipe({"targets": LANGS, **links})
    assert {len(bundle) for bundle in bundled(_units(20, 5), given_links, _pool(2))} == {1}
