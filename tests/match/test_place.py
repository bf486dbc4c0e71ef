"""Places that a model gave shares to, through the same solver as any candidates."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from made_rows import table_from_rows

from xner_ray.data.row import ROW, span_cells
from xner_ray.data.spans import Span
from xner_ray.match.stage import PlaceStage
from xner_ray.recipe.model import Recipe

Cell = tuple[int, int, int, float]  # source, start, end, share


def _row(cells: list[Cell] | None, n_entities: int = 2, **others: Any) -> dict[str, Any]:
    evidence = cells and [
        {"score": "constrained", "source": source, "start": start, "end": end, "value": value}
        for source, start, end, value in cells
    ]
    spans = span_cells([Span(index, index + 1, "PER") for index in range(n_entities)])
    sides = {"source_tokens": list("abcd"), "tokens": list("wxyz"), "source_spans": spans}
    return {**sides, "evidence": evidence, "unprojected": [], **others}


def _placed(*rows: dict[str, Any], **match: Any) -> list[dict[str, Any]]:
    table: pa.Table = table_from_rows([{"row": number, **row} for number, row in enumerate(rows)], ROW)
    recipe = {"input": {"path": "a"}, "targets": ["spa_Latn"], "projector": "constrained", "match": match}
    found: list[dict[str, Any]] = PlaceStage(Recipe.model_validate(recipe))(table).to_pylist()
    return found


def _spans(row: dict[str, Any]) -> list[tuple[int, int, int, float]]:
    return [(span["source"], span["start"], span["end"], round(span["score"], 4)) for span in row["spans"]]


def test_each_entity_gets_its_likeliest_place() -> None:
    (row,) = _placed(_row([(0, 2, 3, 0.9), (0, 0, 1, 0.1), (1, 0, 2, 1.0)]))
    assert _spans(row) == [(1, 0, 2, 1.0), (0, 2, 3, 0.9)]
    assert (row["complete"], row["objective"], row["optimal"], row["solver"]) == (True, 1.9, True, "independent")


def test_two_entities_that_want_one_word_get_the_places_of_the_largest_sum() -> None:
    """The same name twice: the second entity's mark may stand at either, the first one's only here."""
    cells = [(0, 1, 2, 0.9), (0, 3, 4, 0.1), (1, 1, 2, 0.6), (1, 3, 4, 0.4)]
    (row,) = _placed(_row(cells))
    assert _spans(row) == [(0, 1, 2, 0.9), (1, 3, 4, 0.4)]
    (greedy,) = _placed(_row([(0, 0, 1, 0.4), (0, 2, 4, 0.6), (1, 3, 4, 0.9), (1, 1, 2, 0.1)]), **{"solver": "greedy"})
    assert _spans(greedy) == [(0, 0, 1, 0.4), (1, 3, 4, 0.9)]


@pytest.mark.parametrize("reason", ["marker_unlikely", "marker_too_long", "nested"])
def test_losses_from_before_stay_and_overlaps_are_told(reason: str) -> None:
    lost = [{"source": 0, "reason": reason}]
    none, clash, rejected, bare = _placed(
        _row([(1, 0, 1, 1.0)], unprojected=lost),
        _row([(0, 0, 2, 0.9), (1, 1, 2, 0.8)]),
        _row([(0, 0, 1, 1.0)], status="rejected", reason="too_long", unprojected=None),
        _row(None, 0),
    )
    assert (_spans(none), none["unprojected"], none["complete"]) == ([(1, 0, 1, 1.0)], lost, False)
    assert (_spans(clash), clash["unprojected"]) == ([(0, 0, 2, 0.9)], [{"source": 1, "reason": "overlap"}])
    assert (rejected["spans"], rejected["unprojected"]) == (None, None)
    assert (_spans(bare), bare["complete"], bare["solver"]) == ([], True, "none")


def test_scores_of_other_names_are_no_places() -> None:
    other = {"score": "own", "source": 0, "start": 0, "end": 1, "value": 1.0}
    (row,) = _placed(_row([], 1, evidence=[other]))
    assert (_spans(row), row["unprojected"]) == ([], [{"source": 0, "reason": "no_candidate"}])
