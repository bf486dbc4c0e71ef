from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from entities import row, table
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.evaluate.lockstep import RunMismatch, with_words, zip_runs

LANGS = ("por_Latn", "swe_Latn")


def _tables(rows: Sequence[tuple[str, str, int]], sizes: Sequence[int]) -> list[pa.Table]:
    """One table for every stretch of one language and split, cut into pieces of `sizes`."""
    found, ordered = [], sorted(rows)
    for lang, split in sorted({(lang, split) for lang, split, _ in ordered}):
        own = [number for one, other, number in ordered if (one, other) == (lang, split)]
        while own:
            size = sizes[len(found) % len(sizes)]
            cut, own = own[:size], own[size:]
            found.append(table([{"row": number, "split": split, "id": str(number)} for number in cut], lang))
    return found


_ROWS = st.lists(
    st.tuples(st.sampled_from(LANGS), st.sampled_from(["train", "test"]), st.integers(0, 20)), unique=True, max_size=30
)
_SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)


def _keys(piece: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(piece.column(name).to_pylist() for name in ("lang", "split", "row")), strict=True))


@given(st.lists(st.tuples(_ROWS, _SIZES), min_size=1, max_size=3))
def test_every_row_comes_once_and_beside_its_own(runs: list[tuple[list[tuple[str, str, int]], list[int]]]) -> None:
    seen: list[list[tuple[str, str, int]]] = [[] for _ in runs]
    for pieces in zip_runs([_tables(*run) for run in runs]):
        found = [_keys(piece) for piece in pieces]
        assert any(found)
        for keys, other in zip(found, seen, strict=True):
            other += keys
        in_all = set.intersection(*(set(run[0]) for run in runs))
        for key in {key for keys in found for key in keys} & in_all:
            assert all(key in keys for keys in found)
    assert seen == [sorted(run[0]) for run in runs]


def _rows(**others: Any) -> list[dict[str, Any]]:
    return [row([(0, 1, "PER")], [], id=f"s{n}") | others for n in range(4)]


def _told(first: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    strangers = RunMismatch("runs/a", "runs/b")
    same = [strangers.check(*pieces) for pieces in zip_runs([[table(first)], [table(other)]])]
    assert not all(same)
    return strangers.message()


def test_what_differs_is_counted_with_an_example() -> None:
    rows = _rows()
    assert (
        "runs/a and runs/b are not over the same sentences: 2 rows only in runs/a, as spa_Latn row 2, id 's2'. "
    ) in _told(rows, rows[:2])
    assert "4 rows only in runs/b, as spa_Latn row 0, id 's0'" in _told([], rows)
    other = [*rows[:3], {**rows[3], "id": "x"}]
    assert "1 rows with another id, as spa_Latn row 3: 's3' against 'x'" in _told(rows, other)
    other = [rows[0], *_rows(tokens=["v"] * 24)[1:]]
    text = _told(rows, other)
    assert "3 rows with other words, as spa_Latn row 1: 'w w w" in text
    assert "' against 'v v v" in text
    assert f"'{'w ' * 28}w...' against" in _told(_rows(tokens=["w"] * 40), other)
    other = [*rows[:3], row([(0, 1, "LOC"), (3, 5, "PER")], [], id="s3")]
    assert "1 rows with other gold, as spa_Latn row 3: 'PER [0, 1)' against 'LOC [0, 1) PER [3, 5)'" in _told(
        rows, other
    )
    assert "row 3: 'PER [0, 1)' against 'None'" in _told(rows, [*rows[:3], row(None, [], id="s3")])


def test_a_row_rejected_before_it_had_words_takes_them_from_another_run() -> None:
    rows = _rows(doc_id="d")
    lost = [rows[0], {"id": "s1", "status": "rejected", "reason": "too_long"}, *rows[2:]]
    first, other = table(lost), table(rows)
    assert RunMismatch("a", "b").check(first, other)
    for piece in with_words([first, other]):
        for name in ("tokens", "gold_spans", "doc_id"):
            assert piece.column(name).to_pylist() == other.column(name).to_pylist()
    assert with_words([first, other])[0].column("status").to_pylist() == ["ok", "rejected", "ok", "ok"]


@pytest.mark.parametrize("runs", [[[]], [[], []]])
def test_runs_without_rows(runs: list[list[pa.Table]]) -> None:
    assert list(zip_runs(runs)) == []
