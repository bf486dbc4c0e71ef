"""The matcher's explanation of every cell."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from match_cells import ANY, KINDS, cells_of, one, table

from xner_ray.match.solver import Explained, explain
from xner_ray.match.solver_exact import Cell


def test_explain_says_what_every_cell_lost_to() -> None:
    cells = [(0, 0, 2, 9), (0, 0, 1, 6), (0, 3, 4, 7), (0, 4, 5, 7)]
    cells += [(1, 0, 2, 9), (1, 1, 2, 9), (2, 1, 2, 1)]
    found = one(cells, 4)
    assert cells_of(found.chosen) == [(1, 0, 2, 9), (0, 3, 4, 7)]
    fates = {row.cell: (row.status, row.lost_to) for row in explain(table(cells), found, [0] * 4)}
    assert fates == {
        (0, 0, 2, 9): ("overlaps entity 1's choice", (1, 0, 2, 9)),
        (0, 0, 1, 6): ("lower score", (0, 3, 4, 7)),
        (0, 3, 4, 7): ("chosen", None),
        (0, 4, 5, 7): ("tie", (0, 3, 4, 7)),
        (1, 0, 2, 9): ("chosen", None),
        (1, 1, 2, 9): ("tie", (1, 0, 2, 9)),
        (2, 1, 2, 1): ("overlaps entity 1's choice", (1, 0, 2, 9)),
    }


def test_explain_with_several_places() -> None:
    cells = [(0, 0, 1, 6), (0, 1, 2, 6), (0, 0, 2, 9), (0, 3, 4, 5), (0, 4, 5, 6), (1, 4, 5, 7)]
    fates = explain(table(cells), one(cells, 2, "<=2"), [0, 0], per_entity="<=2")
    assert {row.cell: (row.status, row.lost_to) for row in fates} == {
        (0, 0, 2, 9): ("chosen", None),
        (0, 3, 4, 5): ("chosen", None),
        (0, 0, 1, 6): ("lower score", (0, 0, 2, 9)),
        (0, 1, 2, 6): ("lower score", (0, 0, 2, 9)),
        (0, 4, 5, 6): ("overlaps entity 1's choice", (1, 4, 5, 7)),
        (1, 4, 5, 7): ("chosen", None),
    }
    forced = [(0, 0, 1, 1), (0, 1, 2, 1), (0, 0, 2, 9)]
    fates = explain(table(forced), one(forced, 1, "=2"), [0], per_entity="=2")
    assert fates[0] == Explained((0, 0, 2, 9), "lower limit", (0, 0, 1, 1))


@settings(max_examples=200)
@given(ANY, st.sampled_from(["<=1", "<=2", ">=0", "=1"]))
def test_explain_names_a_true_reason(cells: list[Cell], form: str) -> None:
    for found in (one(cells, 3, form, solver) for solver in KINDS):
        chosen = cells_of(found.chosen)
        rows = explain(table(cells), found, [0] * 3, per_entity=form)
        assert sorted(row.cell for row in rows) == sorted(cells)
        assert sorted(row.cell for row in rows if row.status == "chosen") == sorted(chosen)
        for cell, status, lost_to in ((row.cell, row.status, row.lost_to) for row in rows):
            if status == "chosen":
                continue
            assert lost_to in chosen and lost_to != cell
            own = lost_to[0] == cell[0]
            crossed = lost_to[1] < cell[2] and cell[1] < lost_to[2]
            assert own == (status in ("lower score", "tie", "lower limit"))
            assert own or status == f"overlaps entity {lost_to[0]}'s choice"
            assert own or crossed
            if form == "<=1":
                assert (status == "lower score") == (own and cell[3] < lost_to[3])
                assert (status == "tie") == (own and cell[3] == lost_to[3])
