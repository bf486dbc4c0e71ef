import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import table_from_rows

from xner_ray.data.row import ROW
from xner_ray.data.spans import Span
from xner_ray.errors import RunFolderError
from xner_ray.match.combine import combine, union, vote

PER, LOC = Span(0, 2, "PER", 0.9), Span(3, 4, "LOC", 0.5)


def _table(*rows: list[Span] | None, words: str = "a b c d e", **cells: Any) -> pa.Table:
    """Rows with spans whose `source` counts up; None is a rejected row."""
    made = []
    for number, spans in enumerate(rows):
        row: dict[str, Any] = {"row": number, "id": f"s{number}", "lang": "spa_Latn", "tokens": words.split(), **cells}
        if spans is None:
            row |= {"status": "rejected", "reason": "too_long", "tokens": None}
        else:
            row["spans"] = [
                {"start": s.start, "end": s.end, "label": s.label, "score": s.score, "source": n}
                for n, s in enumerate(spans)
            ]
        made.append(row)
    return table_from_rows(made, ROW)


def _spans(table: pa.Table, row: int = 0) -> list[tuple[int, int, str, float, int | None]]:
    return [
        (s["start"], s["end"], s["label"], round(s["score"], 4), s["source"])
        for s in table.column("spans")[row].as_py() or ()
    ]


def test_union_keeps_what_either_run_has_and_a_vote_what_both_have() -> None:
    first, second = _table([PER, LOC]), _table([PER, Span(4, 5, "ORG", 1.0)])
    assert _spans(combine([first, second], [1, 1], "union")) == [
        (0, 2, "PER", 0.9, 0),
        (3, 4, "LOC", 0.25, 1),
        (4, 5, "ORG", 0.5, None),
    ]
    assert _spans(combine([first, second], [1, 1], "vote")) == [(0, 2, "PER", 0.9, 0)]


def test_weights_decide_between_runs() -> None:
    first, second = _table([Span(0, 2, "PER", 0.6)]), _table([Span(1, 2, "LOC", 0.9)])
    assert _spans(combine([first, second], [1, 1], "union")) == [(1, 2, "LOC", 0.45, None)]
    assert _spans(combine([first, second], [2, 1], "union")) == [(0, 2, "PER", 0.4, 0)]
    assert _spans(combine([first, second], [4, 1], "vote")) == [(0, 2, "PER", 0.48, 0)]


def test_a_union_keeps_what_has_next_to_no_weight() -> None:
    first, second = _table([Span(0, 1, "PER", 0.0)]), _table([LOC])
    assert _spans(combine([first, second], [1e6, 1], "union")) == [
        (0, 1, "PER", 0.0001, 0),
        (3, 4, "LOC", 0.0001, None),
    ]


def test_of_three_runs_two_win_a_vote() -> None:
    runs = [_table([PER]), _table([PER]), _table([Span(0, 1, "LOC", 1.0)])]
    assert _spans(combine(runs, [1, 1, 1], "vote")) == [(0, 2, "PER", 0.6, 0)]


def test_a_row_that_one_run_rejected_is_the_others() -> None:
    found = combine([_table(None, [PER]), _table([LOC], None)], [1, 3], "union")
    assert found.column("status").to_pylist() == ["ok", "ok"]
    assert (_spans(found, 0), _spans(found, 1)) == ([(3, 4, "LOC", 0.5, 0)], [(0, 2, "PER", 0.9, 0)])
    both = combine([_table(None), _table(None)], [1, 1], "union")
    assert (both.column("status")[0].as_py(), both.column("spans")[0].as_py()) == ("rejected", None)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (_table([PER], words="a b c d f"), "row 0 .s0. has another tokens"),
        (_table([PER], lang="swh_Latn"), "has another lang"),
        (_table([PER], id="x"), "has another id"),
        (_table([PER], [PER]), "the runs have 1, 2 rows in one unit"),
    ],
)
def test_other_text_is_refused(other: pa.Table, message: str) -> None:
    with pytest.raises(RunFolderError, match=message):
        combine([_table([PER]), other], [1, 1], "union")


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0, 1.0]])
def test_every_run_needs_a_weight_above_zero(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one above 0 for each"):
        combine([_table([PER]), _table([PER])], weights, "union")


SPANS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("AB"), st.integers(1, 100)), max_size=4
)


def _disjoint(drawn: list[tuple[int, int, str, int]]) -> list[Span]:
    spans: list[Span] = []
    for start, length, label, percent in sorted(drawn):
        if not spans or spans[-1].end <= start:
            spans.append(Span(start, start + length, label, percent / 100))
    return spans


@given(SPANS.map(_disjoint), SPANS.map(_disjoint))
def test_union_is_the_best_choice_without_overlap(first: list[Span], second: list[Span]) -> None:
    """Against all subsets."""
    sums: dict[tuple[int, int, str], float] = {}
    for span in [*first, *second]:
        sums[span.start, span.end, span.label] = sums.get((span.start, span.end, span.label), 0.0) + span.score / 2
    cells = list(sums.items())
    best = 0.0
    for chosen in range(1 << len(cells)):
        kept = sorted(cells[n] for n in range(len(cells)) if chosen >> n & 1)
        if all(a[0][1] <= b[0][0] for a, b in itertools.pairwise(kept)):
            best = max(best, sum(round(score, 4) for _, score in kept))
    found = union([(0.5, first), (0.5, second)])
    assert sum(span.score for span in found) == pytest.approx(best, abs=1e-6)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


@given(SPANS.map(_disjoint))
def test_runs_that_agree_stay_as_they_are(spans: list[Span]) -> None:
    sure = [Span(s.start, s.end, s.label, 0.9) for s in spans]
    assert union([(0.5, sure), (0.5, sure)]) == sure
    assert vote([(0.5, sure), (0.5, sure)], 10) == sure


def _entities(table: pa.Table, *source_spans: tuple[int, int, str]) -> pa.Table:
    rows = table.to_pylist()
    for row in rows:
        row["source_spans"] = [{"start": s, "end": e, "label": label, "score": 1.0} for s, e, label in source_spans]
        row |= {"unprojected": row["unprojected"] or [], "complete": not row["unprojected"]}
    return table_from_rows(rows, ROW)


ENTITIES = ((0, 1, "PER"), (2, 3, "LOC"))


def _fate(table: pa.Table) -> tuple[bool, list[tuple[int, str]] | None]:
    (row,) = table.to_pylist()
    losses = row["unprojected"]
    return row["complete"], None if losses is None else [(u["source"], u["reason"]) for u in losses]


def test_an_entity_that_a_vote_drops_is_unprojected() -> None:
    first, second = _entities(_table([PER, LOC]), *ENTITIES), _entities(_table([PER]), *ENTITIES)
    assert _fate(combine([first, second], [1, 1], "vote")) == (False, [(1, "outvoted")])
    assert _fate(combine([first, second], [1, 1], "union")) == (True, [])


def test_an_entity_that_another_run_places_is_projected() -> None:
    first = _entities(_table([PER], unprojected=[{"source": 1, "reason": "low_score"}]), *ENTITIES)
    second = _entities(_table([PER, LOC]), *ENTITIES)
    found = combine([first, second], [1, 1], "union")
    assert (_fate(found), _spans(found)[1][4]) == ((True, []), 1)
    assert _fate(combine([first, first], [1, 1], "union")) == (False, [(1, "low_score")])


def test_places_of_other_entities_say_nothing_of_the_rows_own() -> None:
    first = _entities(_table([PER], unprojected=[{"source": 1, "reason": "low_score"}]), *ENTITIES)
    other = _entities(_table([PER, LOC]), (0, 1, "PER"), (4, 5, "LOC"))
    found = combine([first, other], [1, 1], "union")
    assert (_fate(found), _spans(found)[1][4]) == ((False, [(1, "low_score")]), None)


def test_a_place_that_the_vote_changes_is_still_the_entitys() -> None:
    first = _entities(_table([Span(0, 2, "PER", 1.0)]), (0, 1, "PER"))
    second = _table([Span(1, 3, "PER", 1.0)])
    found = combine([first, second], [1, 1], "vote")
    assert (_spans(found), _fate(found)) == ([(1, 2, "PER", 1.0, None)], (True, []))
    assert _fate(combine([first, _table([])], [1, 2], "vote")) == (False, [(0, "outvoted")])


def test_a_row_without_a_source_side_loses_nothing() -> None:
    transfer = _table([], source_spans=None)
    assert _fate(combine([transfer, _entities(_table([PER]), *ENTITIES)], [1, 1], "vote")) == (True, None)
