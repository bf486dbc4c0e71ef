from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray import schema
from xner_ray.evaluation import evaluate


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return schema.table_from_rows([{"row": n, "lang": "spa_Latn", **row} for n, row in enumerate(rows)], schema.ROW)


def _span(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def _found(*spans: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**span, "score": 1.0, "source": n} for n, span in enumerate(spans)]


def test_scores_count_exact_spans() -> None:
    a, b, c = _span(0, 2, "PER"), _span(3, 4, "LOC"), _span(3, 4, "ORG")
    rows = [
        {"tokens": list("abcde"), "gold_spans": [a, b], "spans": _found(a, c)},  # wrong label
        {"tokens": list("abcde"), "gold_spans": [a], "spans": _found(_span(0, 1, "PER"))},  # wrong border
        {"tokens": list("ab"), "gold_spans": [a], "spans": _found(a)},
    ]
    result = evaluate([_table(rows)])[0]
    assert (result.overall.precision, result.overall.recall, result.overall.gold) == (2 / 4, 2 / 4, 4)
    assert result.labels["PER"].f1 == pytest.approx(2 / 3)
    assert result.labels["LOC"].gold == 1
    assert result.projection_ratio == 1.0


def test_rejected_rows_count_as_missed_and_duplicates_not_at_all() -> None:
    a = _span(0, 1, "PER")
    rows = [
        {"tokens": ["a"], "gold_spans": [a], "spans": _found(a)},
        {"tokens": ["a"], "gold_spans": [a], "status": "rejected", "reason": "too_long"},
        {"tokens": ["a"], "gold_spans": [a], "status": "rejected", "reason": "duplicate_id"},
    ]
    result = evaluate([_table(rows)])[0]
    assert (result.rows, result.rejected_rows) == (2, 1)
    assert (result.overall.precision, result.overall.recall) == (1.0, 0.5)


def test_rows_without_gold_are_no_gold() -> None:
    assert evaluate([_table([{"tokens": ["a"], "gold_spans": None, "spans": []}])]) == []
    nothing = evaluate([_table([{"tokens": ["a"], "gold_spans": [], "spans": []}])])[0]
    assert nothing.overall.gold == 0
    assert nothing.projection_ratio is None


SpanSet = set[tuple[int, int, str]]


@st.composite
def _pairs(draw: st.DrawFn) -> list[tuple[SpanSet, SpanSet]]:
    def spans() -> SpanSet:
        found, position = set(), 0
        for _ in range(draw(st.integers(0, 3))):
            start = position + draw(st.integers(0, 1))
            position = start + draw(st.integers(1, 2))
            found.add((start, position, draw(st.sampled_from(["PER", "LOC"]))))
        return found

    return [(spans(), spans()) for _ in range(draw(st.integers(1, 4)))]


@settings(deadline=None)
@given(_pairs())
def test_scores_agree_with_set_arithmetic(
    pairs: list[tuple[set[tuple[int, int, str]], set[tuple[int, int, str]]]],
) -> None:
    rows = [
        {
            "tokens": ["w"] * 12,
            "gold_spans": [_span(*s) for s in sorted(gold)],
            "spans": _found(*[_span(*s) for s in sorted(found)]),
        }
        for gold, found in pairs
    ]
    score = evaluate([_table(rows)])[0].overall
    right = sum(len(gold & found) for gold, found in pairs)
    n_gold, n_found = sum(len(gold) for gold, _ in pairs), sum(len(found) for _, found in pairs)
    assert score.precision == pytest.approx(right / n_found if n_found else 0.0)
    assert score.recall == pytest.approx(right / n_gold if n_gold else 0.0)
