"""The estimate of a run: rates that say where they come from, and sums over pools that can be done by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xner_ray.engine.pools import Group, assumed, group
from xner_ray.errors import RecipeError
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.report.sizing import estimate_table
from xner_ray.sizing import rates, roofline
from xner_ray.sizing.estimate import AROUND, Assumed, estimate, split
from xner_ray.sizing.rates import Rate, rate_of, table

H100 = roofline.DEVICES["H100"]
NLLB = "facebook/nllb-200-distilled-600M"
GIVEN: dict[str, Any] = {"input": {"path": "a.conll", "parallel": {"spa_Latn": "a.txt"}}, "targets": ["spa_Latn"]}


def _recipe(**sections: Any) -> Recipe:
    return load_recipe({"input": {"path": "a.conll"}, "targets": ["swh_Latn"], **sections})


def _rate(found: Rate | str) -> Rate:
    assert isinstance(found, Rate), found
    return found


def test_every_measured_rate_says_where_it_comes_from() -> None:
    for row in table():
        assert row["rows_per_s"] > 0 and row["machine"] and row["source"] and row["date"].year == 2026, row
        assert row["kind"] in ("measured", "simulated") and row.get("device", "cpu") in ("cpu", *roofline.DEVICES), row
    names = ("stage", "engine", "model", "dtype", "beams", "beside", "device")
    keys = [tuple(row.get(key) for key in names) for row in table()]
    assert len(set(keys)) == len(keys)


def test_a_measured_rate_falls_with_longer_rows_where_it_depends_on_them() -> None:
    recipe = load_recipe(GIVEN)
    short, long = (_rate(rate_of(recipe, "align", words, None)) for words in (14, 56))
    assert (short.kind, long.kind) == ("measured", "measured")
    assert short.rows_per_s == pytest.approx(2 * 66.5) and long.rows_per_s == pytest.approx(66.5 / 2)
    assert "docs/scale.md" in short.said and "2026-11-22" in short.said
    assert _rate(rate_of(recipe, "match", 14, None)).rows_per_s == 39_000
    once = load_recipe({**GIVEN, "match": {"prior": "none"}})
    assert _rate(rate_of(once, "match", 56, None)).rows_per_s == 116_000


@pytest.mark.parametrize(
    ("sections", "stage", "device", "missing"),
    [
        ({}, "translate", None, f"no rate of translate with engine nllb {NLLB} float32 is known on a CPU"),
        (
            {"translate": {"gpus": 1}},
            "translate",
            None,
            "translate runs on a GPU that is not named (--assume gpu=H200)",
        ),
        (
            {"align": {"encoder": "owner/mine", "gpus": 1}},
            "align",
            H100,
            "no rate of align with engine batched and model owner/mine is known on a GPU",
        ),
        ({"projector": "marker", "translate": {"gpus": 1}}, "translate", H100, "no rate of translate is known"),
    ],
)
def test_what_is_not_known_is_not_made_up(
    sections: dict[str, Any], stage: str, device: roofline.Device | None, missing: str
) -> None:
    recipe = _recipe(**sections)
    assert rate_of(recipe, stage, 20, device) == missing
    pools = [Group((stage,), (1, 1), 1, 1, 1, None)]
    found = estimate(recipe, pools, {"swh_Latn": 10}, {"swh_Latn": 200}, cpus=1, given=Assumed(device))
    assert found.hours is None and found.cost is None and found.missing == [missing]
    assert estimate_table(found).notes == [f"no estimate: {missing}"]


def test_a_simulated_rate_is_the_rooflines_and_its_hosts() -> None:
    recipe = _recipe(translate={"gpus": 1, "beams": 4, "model": f"{NLLB}@0123abc"}, align={"gpus": 1})
    shape = roofline.MODELS[NLLB]
    found = _rate(rate_of(recipe, "translate", 56, H100))
    rows = (1 << 28) // (4 * shape.vocabulary)  # as many beams as a step of NLLB has room for
    steps = [roofline.decode_step_seconds(shape, H100, rows, 4, n, source_tokens=85) for n in range(110)]
    assert min(steps) < 14.4e-3 < max(steps), "the first ones wait for the host"
    seconds = roofline.encode_seconds(shape, H100, rows, 85) + sum(max(step, 14.4e-3) for step in steps)
    assert found.kind == "simulated" and 1 / found.rows_per_s == pytest.approx(seconds / rows + 2 * 0.30e-3)
    late = sum(step < 14.4e-3 for step in steps)
    assert found.said == (
        f"roofline of H100, {NLLB}, 4 beams, {late} of 110 steps as slow as the host; and 0.6 ms a row of its host, "
        "measured"
    )
    align = _rate(rate_of(recipe, "align", 28, H100))
    rows = (1 << 16) // 50
    both = [roofline.encode_seconds(roofline.MODELS["builtin"], H100, rows, n, 7) for n in (39, 50)]
    assert 1 / align.rows_per_s == pytest.approx(sum(both) / rows + 0.25e-3)
    tagger = {"engine": "hf", "model": "FacebookAI/xlm-roberta-large-finetuned-conll03-english", "gpus": 1}
    assert _rate(rate_of(_recipe(tag=tagger), "tag", 28, H100)).rows_per_s < 1000 / 0.08
    assert _rate(rate_of(recipe, "translate", 56, roofline.DEVICES["L4"])).rows_per_s < found.rows_per_s


def test_workers_that_share_a_gpu_fill_its_waits_and_no_more() -> None:
    def rate(gpus: float) -> float:
        recipe = _recipe(translate={"gpus": gpus, "model": NLLB}, align={"gpus": gpus})
        return _rate(rate_of(recipe, "translate", 28, H100)).rows_per_s

    assert rate(0.5) == pytest.approx(2 * rate(1))  # greedy steps wait for the host
    assert rate(0.25) < 4 * rate(1) and rate(0.05) == rate(0.1)  # then the device is full


def test_a_source_side_counts_once_for_all_languages() -> None:
    def seconds(targets: list[str]) -> float:
        recipe = load_recipe({"input": {"path": "a.conll"}, "targets": targets, "align": {"gpus": 1}})
        return 1 / _rate(rate_of(recipe, "align", 28, H100)).rows_per_s

    assert seconds(["swh_Latn", "hau_Latn"]) < seconds(["swh_Latn"])


def test_a_rate_of_a_gpu_in_the_table_comes_before_the_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"stage": "translate", "engine": "nllb", "model": NLLB, "beams": 1, "device": "H100", "rows_per_s": 80.0}
    said = {"kind": "simulated", "machine": "a simulated device", "source": "bench", "date": "2026-12-01", "words": 10}
    monkeypatch.setattr(rates, "table", lambda: [row | said])
    recipe = _recipe(translate={"gpus": 1})
    assert rate_of(recipe, "translate", 20, H100) == Rate(40.0, "simulated", "a simulated device; bench, 2026-12-01")
    other = _rate(rate_of(recipe, "translate", 20, roofline.DEVICES["A100"]))
    assert other.said.startswith("roofline of A100")


def test_the_slowest_pool_decides_and_gpus_cost_their_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates by hand: a GPU translates 100 rows a second and aligns 300, so it makes 75; a thread matches 50."""
    by_hand = {"translate": 100.0, "align": 300.0, "match": 50.0}
    monkeypatch.setattr(rates, "rate_of", lambda recipe, stage, words, gpu: Rate(by_hand[stage], "simulated", "hand"))
    monkeypatch.setattr(rates, "read_and_write", lambda words: Rate(1000.0, "measured", "hand"))
    recipe = _recipe()
    gpus, cpus = Group(("translate", "align"), (1, 8), 1, 1, 1, None), Group(("match",), (4, 16), 1, 0, 1, None)
    rows, words = {"swh_Latn": 1_080_000, "yor_Latn": 1_080_000}, {"swh_Latn": 9, "yor_Latn": 9}
    found = estimate(recipe, [gpus, cpus], rows, words, cpus=32, given=Assumed(H100, 2.5))
    assert (found.rows, found.bound, found.kinds) == (2_160_000, "translate + align", ["measured", "simulated"])
    assert found.hours == pytest.approx(1.0) and found.gpu_hours == pytest.approx(8.0)
    assert found.cost == pytest.approx(20.0)
    said = estimate_table(found).notes
    assert said[0] == (
        "2,160,000 rows at 600 rows/s: 60 minutes, 8 GPU hours, cost 20.00 (gpu_hour=2.5, GPUs alone); it waits for "
        "translate + align; loading models is not counted"
    )
    assert "rate of translate: simulated, hand" in said and "never seen on one" in said[-1]
    few = estimate(recipe, [gpus, replace(cpus, workers=(1, 8))], rows, words, cpus=32)
    assert (few.bound, few.cost) == ("match", None) and few.hours == pytest.approx(1.5)
    assert "cost" not in estimate_table(few).notes[0]
    shared = [replace(gpus, gpus=0.25, workers=(1, 32)), cpus]  # four workers a GPU are no more GPUs
    assert estimate(recipe, shared, rows, words, cpus=32).gpu_hours == pytest.approx(8.0)
    whole = _recipe(engine={"price_per_hour": 40})
    assert estimate(whole, [gpus, cpus], rows, words, cpus=32, given=Assumed(H100, 2.5)).cost == pytest.approx(40.0)
    narrow = estimate(recipe, [gpus, cpus], rows, words, cpus=0.5)
    assert (narrow.bound, narrow.hours) == (AROUND, pytest.approx(1.2))
    alone = [replace(pool, workers=(1, 1)) for pool in (gpus, cpus)]
    in_turn = estimate(recipe, alone, rows, words, cpus=2, in_process=True)
    assert in_turn.hours == pytest.approx(2_160_000 / 3600 * (1 / 75 + 1 / 50 + 1 / 1000))


def test_text_that_is_given_is_not_translated() -> None:
    recipe = load_recipe({**GIVEN, "targets": ["spa_Latn", "swh_Latn"], "translate": {"engine": "nllb", "gpus": 1}})
    rows = {"spa_Latn": 100, "swh_Latn": 70}
    pools = group(recipe, assumed("cpus=8,gpus=1"), 10)
    found = estimate(recipe, pools, rows, {lang: 20 * n for lang, n in rows.items()}, cpus=8, given=Assumed(H100))
    assert {line.stage: line.rows for line in found.lines} == {
        **{"translate": 70, AROUND: 170},
        **dict.fromkeys(("target_tag", "align", "match"), 170),
    }


def test_what_is_assumed_beside_nodes() -> None:
    assert split("gpus=8, cpus=64,gpu=h100,gpu_hour=2.5,rows=3e6") == (
        "gpus=8, cpus=64",
        Assumed(H100, 2.5, 3_000_000),
    )
    assert split("") == ("", Assumed())
    with pytest.raises(RecipeError, match=r"--assume gpu=B300: no figures of it; allowed: H200, H100, A100, L4, A10G"):
        split("cpus=8,gpu=B300")
    for wrong in ("gpu_hour=cheap", "gpu_hour=0", "rows=-1", "rows=nan", "rows=inf"):
        with pytest.raises(RecipeError, match="allowed is a number above 0"):
            split(f"cpus=8,{wrong}")
