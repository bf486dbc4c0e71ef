"""Exact-span precision, recall and F1 against gold, per language and label, by seqeval.

Tags are IOB2 by construction, so seqeval's strict and lenient modes agree; strict is asked for. A rejected row counts
as one without predictions, because that is what a student gets of it; a duplicate row counts not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from xner_ray.errors import Reason
from xner_ray.schema import REJECTED
from xner_ray.spans import Span, spans_to_tags

COLUMNS = ("lang", "tokens", "spans", "gold_spans", "status", "reason")


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 in 0..1 over `gold` entities."""

    precision: float
    recall: float
    f1: float
    gold: int


@dataclass
class Evaluation:
    """One language's scores. `projection_ratio` is entities projected over entities in gold, null without any."""

    lang: str
    rows: int
    rejected_rows: int
    overall: Score
    labels: dict[str, Score] = field(default_factory=dict)
    projected: int = 0
    projection_ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(tables: Iterable[pa.Table]) -> list[Evaluation]:
    """Scores of each language that has gold, by language code. `tables` need the columns `COLUMNS`."""
    gold: dict[str, list[list[str]]] = {}
    predicted: dict[str, list[list[str]]] = {}
    rejected: dict[str, int] = {}
    for table in tables:
        with_gold = table.select(COLUMNS).filter(pc.is_valid(table.column("gold_spans")))
        for row in with_gold.to_pylist():
            if row["reason"] == Reason.DUPLICATE_ID or not row["tokens"]:
                continue
            lang, n_words = row["lang"], len(row["tokens"])
            lost = row["status"] == REJECTED
            rejected[lang] = rejected.get(lang, 0) + lost
            gold.setdefault(lang, []).append(_tags(row["gold_spans"], n_words))
            predicted.setdefault(lang, []).append(_tags([] if lost else row["spans"] or [], n_words))
    return [_score(lang, gold[lang], predicted[lang], rejected[lang]) for lang in sorted(gold)]


def _tags(spans: Sequence[dict[str, Any]], n_words: int) -> list[str]:
    return spans_to_tags([Span(s["start"], s["end"], s["label"]) for s in spans], n_words)


def _score(lang: str, gold: list[list[str]], predicted: list[list[str]], rejected: int) -> Evaluation:
    in_gold, found = _entities(gold), _entities(predicted)
    result = Evaluation(lang, len(gold), rejected, Score(0.0, 0.0, 0.0, in_gold), projected=found)
    if in_gold or found:
        report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
        averages = {"micro avg", "macro avg", "weighted avg"}
        result.overall = _of(report["micro avg"])
        result.labels = {label: _of(report[label]) for label in sorted(set(report) - averages)}
    if in_gold:
        result.projection_ratio = found / in_gold
    return result


def _entities(sentences: list[list[str]]) -> int:
    return sum(tag.startswith("B-") for sentence in sentences for tag in sentence)


def _of(cells: dict[str, Any]) -> Score:
    return Score(float(cells["precision"]), float(cells["recall"]), float(cells["f1-score"]), int(cells["support"]))
