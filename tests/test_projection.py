import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from xner_ray import projection
from xner_ray.errors import RecipeError
from xner_ray.links import METHODS
from xner_ray.prior import Prior, count, merge
from xner_ray.recipe import Match
from xner_ray.schema import row_schema, table_from_rows

ITERMAX = 1 << METHODS.index("itermax")


def _link(source: int, target: int, forward: float = 1.0, backward: float = 1.0, hard: bool = True) -> dict[str, Any]:
    bits = ITERMAX if hard else 0
    return {
        "source": source,
        "target": target,
        "forward": forward,
        "backward": backward,
        "cosine": 0.9,
        "methods": bits,
    }


def _span(start: int, end: int, label: str = "PER") -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "score": 1.0}


def _row(spans: list[dict[str, Any]], links: list[dict[str, Any]], n: int = 4, **cells: Any) -> dict[str, Any]:
    tokens = {"source_tokens": [f"s{i}" for i in range(n)], "tokens": [f"t{i}" for i in range(n)]}
    return {**tokens, "source_spans": spans, "links": links, **cells}


def _table(*rows: dict[str, Any]) -> pa.Table:
    return table_from_rows([{"row": number, **row} for number, row in enumerate(rows)], row_schema())


def _projected(table: pa.Table, method: str = "itermax", prior: Prior | None = None, **settings: Any) -> list[Any]:
    return projection.project(table, Match(**settings), method, prior).select(projection.WRITES).to_pylist()


def _chosen(row: dict[str, Any]) -> list[tuple[int, int, str, float, int]]:
    return [(s["start"], s["end"], s["label"], round(s["score"], 4), s["source"]) for s in row["spans"]]


def _random_rows(n_rows: int) -> pa.Table:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(n_rows):
        n = int(random.integers(1, 12))
        cuts = sorted(random.choice(n + 1, size=min(n + 1, 4), replace=False).tolist())
        spans = [_span(a, b, label) for a, b, label in zip(cuts, cuts[1:], ["PER", "LOC", "ORG"], strict=False)]
        cells = sorted({(int(random.integers(n)), int(random.integers(n))) for _ in range(2 * n)})
        links = [_link(s, t, *np.round(random.random(2), 4), hard=bool(random.random() < 0.5)) for s, t in cells]
        extra = {"status": "rejected", "reason": "too_long"} if random.random() < 0.1 else {}
        rows.append({**_row(spans, links, n), **extra})
    return _table(*rows)


def _prior_of(table: pa.Table) -> Prior:
    rows = projection.read(table)
    return Prior(merge([count(rows.source_tokens, rows.tokens, *rows.earlier)]))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"candidates": "ngram"},
        {"candidates": "runs", "scores": {"align": 1.0}},
        {"solver": "greedy", "scores": {"align": 0.5, "soft": 2.0}},
        {"solver": "heuristic"},
        {"per_entity": "=1", "min_score": 0.0},
    ],
)
def test_golden_31_projecting_is_a_pure_function_of_one_row(settings: dict[str, Any]) -> None:
    table = _random_rows(60)
    first = projection.project(table, Match(**settings), "itermax", None)
    prior = _prior_of(first)
    for prior_or_none, rows in ((None, table), (prior, first)):
        whole = _projected(rows, prior=prior_or_none, **settings)
        alone = [_projected(rows.slice(at, 1), prior=prior_or_none, **settings)[0] for at in range(rows.num_rows)]
        assert whole == alone
        order = np.random.default_rng(1).permutation(rows.num_rows)
        assert _projected(rows.take(pa.array(order)), prior=prior_or_none, **settings) == [whole[at] for at in order]


def test_rejected_rows_stay_as_they_are_and_every_other_row_is_accounted_for() -> None:
    table = _random_rows(60)
    result = projection.project(table, Match(), "itermax", None)
    assert result.schema == table.schema
    for before, after in zip(table.to_pylist(), result.to_pylist(), strict=True):
        if before["status"] == "rejected":
            assert after == before
        else:
            placed = [s["source"] for s in after["spans"]] + [u["source"] for u in after["unprojected"]]
            assert sorted(placed) == list(range(len(before["source_spans"])))
            assert after["complete"] == (not after["unprojected"])
            ends = [(s["start"], s["end"]) for s in after["spans"]]
            assert all(left[1] <= right[0] for left, right in itertools.pairwise(ends))


def test_soft_dice_is_the_score_and_says_how_sure() -> None:
    row = _row([_span(0, 2)], [_link(0, 1, 0.8, 0.9), _link(1, 2, 0.6, 0.5), _link(1, 3, 0.4, 0.0)])
    result = _projected(_table(row))[0]
    assert _chosen(result) == [(1, 3, "PER", 0.7, 0)]  # (0.8 + 0.9 + 0.6 + 0.5) / 4
    assert result["objective"] == 0.7


def test_an_entity_below_min_score_stays_unprojected() -> None:
    row = _row([_span(0, 1), _span(1, 2)], [_link(0, 0, 0.4, 0.4), _link(1, 1, 0.5, 0.5)])
    result = _projected(_table(row), min_score=0.45)[0]
    assert _chosen(result) == [(1, 2, "PER", 0.5, 1)]
    assert result["unprojected"] == [{"source": 0, "reason": "no_candidate"}]
    assert _chosen(_projected(_table(row), min_score=0.0)[0])[0][:2] == (0, 1)


def test_hard_links_count_for_the_align_score_alone() -> None:
    row = _row([_span(0, 1)], [_link(0, 0, 0.5, 0.5, hard=False), _link(0, 1, 0.5, 0.5)])
    assert _chosen(_projected(_table(row), scores={"align": 1.0})[0]) == [(1, 2, "PER", 1.0, 0)]
    assert _projected(_table(row), method="argmax", scores={"align": 1.0})[0]["spans"] == []


def test_scores_are_shares_of_the_most_that_the_weights_allow() -> None:
    row = _row([_span(0, 1)], [_link(0, 0, 0.9, 0.7)])
    assert _chosen(_projected(_table(row), scores={"soft": 3.0})[0])[0][3] == 0.8
    assert _chosen(_projected(_table(row), scores={"soft": 1.0, "align": 1.0})[0])[0][3] == 0.9


def test_a_prior_moves_an_edge() -> None:
    """`de` stands before names everywhere else, so it is no part of this one, though it is weakly linked to it."""
    others = [
        {
            "source_tokens": ["x", "Bob"],
            "tokens": ["de", "Bob"],
            "source_spans": [_span(1, 2)],
            "links": [_link(1, 1)],
        }
        for _ in range(60)
    ]
    words = {"source_tokens": ["the", "Rhine"], "tokens": ["de", "Rin"]}
    row = {**words, "source_spans": [_span(0, 2)], "links": [_link(0, 0, 0.4, 0.4), _link(1, 1)]}
    first = projection.project(_table(row, *others), Match(), "itermax", None)
    assert _chosen(first.to_pylist()[0])[0][:2] == (0, 2)
    assert _chosen(_projected(first, prior=_prior_of(first))[0])[0][:2] == (1, 2)


def test_spans_that_reading_set_aside_take_no_part() -> None:
    row = _row(
        [_span(0, 2), _span(1, 2), _span(2, 3)],
        [_link(0, 0), _link(1, 1), _link(2, 2)],
        unprojected=[{"source": 1, "reason": "nested"}],
    )
    result = _projected(_table(row))[0]
    assert [cell[4] for cell in _chosen(result)] == [0, 2]
    assert result["unprojected"] == [{"source": 1, "reason": "nested"}]
    assert not result["complete"]


def test_empty_rows_and_empty_tables() -> None:
    assert _projected(_table().slice(0, 0)) == []
    result = _projected(_table(_row([], []), _row([_span(0, 1)], [])))
    assert (result[0]["spans"], result[0]["complete"], result[0]["solver"]) == ([], True, "none")
    assert result[1]["unprojected"] == [{"source": 0, "reason": "no_candidate"}]


def test_heuristic_projects_an_entity_twice() -> None:
    row = _row([_span(0, 1)], [_link(0, 0), _link(0, 3)])
    result = _projected(_table(row), solver="heuristic")[0]
    assert [cell[:2] for cell in _chosen(result)] == [(0, 1), (3, 4)]
    assert (result["solver"], result["optimal"], result["objective"]) == ("heuristic", False, 2.0)
    strict = _projected(_table(row), solver="heuristic", heuristic={"top_k": 1})[0]
    assert [cell[:2] for cell in _chosen(strict)] == [(0, 1)]


def test_an_infeasible_form_is_reported_and_never_all_o() -> None:
    row = _row([_span(0, 1), _span(1, 2)], [_link(0, 0, 0.9, 0.9), _link(1, 0, 0.5, 0.5)])
    result = _projected(_table(row), per_entity="=1", min_score=0)[0]
    assert (result["solver"], result["optimal"]) == ("infeasible", False)
    assert [cell[4] for cell in _chosen(result)] == [0]
    assert result["unprojected"] == [{"source": 1, "reason": "infeasible"}]


def test_edges_without_a_prior_need_another_score() -> None:
    with pytest.raises(RecipeError, match="edges alone"):
        projection.project(_table(), Match.model_construct(scores={"edges": 1.0}), "itermax", None)
