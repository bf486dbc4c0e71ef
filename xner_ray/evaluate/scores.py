"""Scores against gold, per language and label: rates with intervals, errors, the ceiling.

A predicted entity is right if gold has one with the same words and the same label: seqeval's strict mode with IOB2
(tests compare every figure with seqeval's own). Its lenient mode, the default of `seqeval` and of Hugging Face's
`evaluate`, differs only on tags that are not IOB2, such as an I- that continues nothing. Entities are spans here, so
there are none: reading repairs such tags as the lenient mode reads them and counts them (`repaired_tags` in
report.json).

Right entities are counted per sentence (`counting`); every figure is a function of sums of these counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from xner_ray.data.arrow import Ints
from xner_ray.defaults import PAIRED_SAMPLES, SAMPLES
from xner_ray.errors import InputError
from xner_ray.evaluate.bootstrap import (
    CONFIDENCE,
    Difference,
    Floats,
    Interval,
    interval,
    paired_bootstrap,
    resampled_sums,
)
from xner_ray.evaluate.calibration import Calibration, calibration
from xner_ray.evaluate.counting import Counts, Small, count

SCHEME = "seqeval strict (IOB2)"
GOLD = "gold labels"  # what scores are against, in words, unless a machine made it
# Fewer clusters give too narrow intervals (Cameron, Gelbach and Miller 2008 warn below 30, and more below 10)
FEWEST_DOCUMENTS = 20

By = Literal["sentence", "doc"]
ITEMS: dict[By, str] = {"sentence": "sentences", "doc": "documents"}  # as tables call them


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Precision, recall and F1 in 0..1. An interval is None where fewer than two items have such an entity."""

    precision: float
    recall: float
    f1: float
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Score(Rates):
    """Rates and the counts behind them; rates are 0 where nothing is predicted or in gold, as in seqeval."""

    exact: int
    predicted: int
    gold: int


@dataclass(frozen=True)
class Errors:
    """Entities by outcome; each has one.

    exact: same words and label. type: same words, other label. boundary: other words, same label, some words shared.
    type_and_boundary: other words and label, some shared. missed: in gold, without a partner. spurious: predicted,
    without a partner. Partners are one to one (`counting.pair`), so with the sums over all labels
    gold = exact + type + boundary + type_and_boundary + missed, predicted = the same with spurious for missed.
    """

    exact: int
    type: int
    boundary: int
    type_and_boundary: int
    missed: int
    spurious: int


@dataclass(frozen=True)
class Ceiling:
    """The best scores that the annotations allow: no projection finds gold entities that the source side lacks.

    shared: the sum of min(source, gold) over sentences and labels. A projection that places every source entity right,
    once, has precision shared / source and recall shared / gold. Recall cannot be higher; precision and F1 can, by
    leaving out entities that gold lacks.
    """

    source: int
    shared: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Evaluation:
    """One language.

    rows: sentences with gold. rejected_rows: the rejected ones of them, which count as without predictions. items:
    sentences or documents that the intervals resample. macro: unweighted mean over labels. projection_ratio: entities
    projected over entities in gold; None without gold entities. errors_by_label: gold entities with the label by
    outcome, and as `spurious` predictions with the label that have no partner. ceiling: None if the predictions do not
    come from source entities. calibration: of the scores of predictions; None if none has one.
    """

    lang: str
    rows: int
    rejected_rows: int
    items: int
    overall: Score
    labels: dict[str, Score]
    macro: Rates
    projected: int
    projection_ratio: float | None
    errors: Errors
    errors_by_label: dict[str, Errors]
    ceiling: Ceiling | None
    calibration: Calibration | None


@dataclass(frozen=True)
class Macro:
    """Unweighted means over languages: of the overall rates, and of each label's over the languages that have it.

    languages: the number of languages with any entity; the others are left out.
    """

    languages: int
    items: int
    overall: Rates
    labels: dict[str, Rates]


@dataclass(frozen=True)
class Evaluations(Sequence[Evaluation]):
    """All languages of a run as a sequence, ordered by code; `macro` if there are several.

    scheme: the definition of a right entity. by: what the intervals resample. samples: 0 for no intervals.
    """

    scheme: str
    confidence: float
    by: By
    samples: int
    seed: int
    languages: list[Evaluation] = field(default_factory=list)
    macro: Macro | None = None

    def __len__(self) -> int:
        return len(self.languages)

    def __getitem__(self, index: Any) -> Any:
        return self.languages[index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `evaluate --json` prints it."""
        return asdict(self)


def evaluate(tables: Iterable[pa.Table], *, samples: int = SAMPLES, seed: int = 0, by: By | None = None) -> Evaluations:
    """Count and score. `tables` need the columns `COLUMNS`; only integers of them are kept. See `score`."""
    return score(count(tables), samples=samples, seed=seed, by=by)


def score(counts: Sequence[Counts], *, samples: int = SAMPLES, seed: int = 0, by: By | None = None) -> Evaluations:
    """Score each language, with 95 % percentile bootstrap intervals over sentences or documents.

    by: None takes documents if every sentence has one and each language at least `FEWEST_DOCUMENTS`, because sentences
    of a document repeat names and are not independent; otherwise sentences, in all languages. So one language without
    documents changes what the others resample; apart from that, a language's intervals depend on it alone. Those of the
    macro average draw an item in all languages at once, since these may be translations of one another. InputError if
    documents are asked for and there are none, or only one.
    """
    chosen = _chosen(counts, by)
    languages = [_language(one, _totals([one], chosen, samples, seed)) for one in counts]
    macro = _macro(counts, _totals(counts, chosen, samples, seed)) if len(counts) > 1 else None
    return Evaluations(SCHEME, CONFIDENCE, chosen, samples, seed, languages, macro)


def compare(
    first: Sequence[Counts],
    second: Sequence[Counts],
    *,
    average: Literal["pooled", "macro"] = "pooled",
    samples: int = PAIRED_SAMPLES,
    seed: int = 0,
    by: By | None = None,
) -> Difference:
    """Test the difference of F1 between two runs over the same sentences (`second` minus `first`).

    pooled: one F1 of all entities of all languages; macro: mean of the languages' F1. The test is `paired_bootstrap`.
    InputError if the runs do not have gold for the same sentences, or have different gold.
    """
    names = [", ".join(one.lang for one in counts) or "none" for counts in (first, second)]
    if names[0] != names[1] or not first:
        raise InputError(f"runs to compare must have gold in the same languages, not {names[0]} and {names[1]}")
    for one, two in zip(first, second, strict=True):
        if not np.array_equal(np.sort(one.rows), np.sort(two.rows)):
            raise InputError(f"runs to compare must have gold for the same sentences; they differ in {one.lang}")
    chosen = _chosen([*first, *second], by)
    labels = sorted({label for one in (*first, *second) for label in one.labels})
    tables = [_items(counts, labels, chosen) for counts in (first, second)]
    if not np.array_equal(tables[0][..., 2], tables[1][..., 2]):
        raise InputError("runs to compare must have the same gold: keep the same labels of the same input")
    shape = tables[0].shape[1:]

    def f1(sums: Ints) -> Floats:
        by_language = sums.reshape(len(sums), *shape).sum(axis=2)
        figures = rates(by_language.sum(axis=1)) if average == "pooled" else _mean(rates(by_language), axis=1)
        return figures[..., 2]

    flat = [table.reshape(len(table), -1) for table in tables]
    return paired_bootstrap(flat[0], flat[1], f1, samples=samples, seed=seed)


def rates(cells: Ints) -> Floats:
    """Map [..., (exact, predicted, gold)] to [..., (precision, recall, F1)]; NaN if nothing is predicted or in gold."""
    exact, predicted, gold = np.moveaxis(cells.astype(np.float64), -1, 0)
    figures = np.stack([exact / np.maximum(predicted, 1), exact / np.maximum(gold, 1)], axis=-1)
    f1 = 2 * exact / np.maximum(predicted + gold, 1)
    figures = np.concatenate([figures, f1[..., None]], axis=-1)
    figures[predicted + gold == 0] = np.nan
    return figures


def _mean(figures: Floats, axis: int) -> Floats:
    """Return the mean over the defined figures; NaN without any."""
    defined = ~np.isnan(figures)
    n = defined.sum(axis=axis)
    total: Floats = np.where(defined, figures, 0.0).sum(axis=axis)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _chosen(counts: Sequence[Counts], asked: By | None) -> By:
    known = all(bool((one.docs >= 0).all()) for one in counts)
    fewest = min((len(np.unique(one.docs)) for one in counts), default=0) if known else 0
    if asked == "doc" and counts and fewest < 2:
        found = "only one document" if known else "no doc_id"
        raise InputError(f"cannot resample documents: a language has {found} in its rows with gold; resample sentences")
    return asked or ("doc" if fewest >= FEWEST_DOCUMENTS else "sentence")


def _items(counts: Sequence[Counts], labels: Sequence[str], by: By) -> Small:
    """Return counts [items, languages, labels, 3]; an item is the same sentence or document in every language."""
    keys = [one.docs if by == "doc" else one.rows for one in counts]
    known, number = np.unique(np.concatenate(keys), return_inverse=True)
    table = np.zeros((len(known), len(counts), len(labels), 3), dtype=np.int32)
    numbers = np.split(number.reshape(-1), np.cumsum([len(one) for one in keys])[:-1])
    for language, (one, where) in enumerate(zip(counts, numbers, strict=True)):
        columns = np.array([labels.index(label) for label in one.labels], dtype=np.int64)
        np.add.at(table[:, language], (where[:, None], columns[None]), one.cells)
    return table


@dataclass(frozen=True)
class _Totals:
    """Counts per item, and their sums over the data and over its resamples."""

    labels: list[str]
    items: Small  # [items, languages, labels, 3]
    data: Ints  # [languages, labels, 3]
    drawn: Ints  # [samples, languages, labels, 3]


def _totals(counts: Sequence[Counts], by: By, samples: int, seed: int) -> _Totals:
    labels = sorted({label for one in counts for label in one.labels})
    items = _items(counts, labels, by)
    sums = resampled_sums(items.reshape(len(items), -1), samples=samples, seed=seed)
    return _Totals(labels, items, items.sum(axis=0), sums.reshape(samples, *items.shape[1:]))


def _rates(data: Floats, drawn: Floats, holding: int) -> dict[str, Any]:
    """Return the arguments of `Rates` for data [3], drawn [samples, 3] and the number of items with such an entity."""
    names = ("precision", "recall", "f1")
    found: dict[str, Any] = dict(zip(names, np.nan_to_num(data).tolist(), strict=True))
    for column, name in enumerate(names):
        found[f"{name}_interval"] = interval(drawn[:, column]) if holding > 1 else None
    return found


def _score(cells: Ints, drawn: Ints, items: Small) -> Score:
    """Score one label, or all: cells [3], drawn [samples, 3], items [items, 3]."""
    exact, predicted, gold = cells.tolist()
    found = _rates(rates(cells), rates(drawn), int(items.any(axis=1).sum()))
    return Score(**found, exact=exact, predicted=predicted, gold=gold)


def _language(counts: Counts, totals: _Totals) -> Evaluation:
    data, drawn, items = totals.data[0], totals.drawn[:, 0], totals.items[:, 0]
    overall = _score(data.sum(axis=0), drawn.sum(axis=1), items.sum(axis=1))
    present = [n for n in range(len(totals.labels)) if data[n].any()]
    macro = _rates(_mean(rates(data), axis=0), _mean(rates(drawn), axis=1), _holding(items))
    of_gold, of_predicted = counts.outcomes
    by_label = np.concatenate([of_gold[:, :5], of_predicted[:, 5:]], axis=1)
    source, shared = int(counts.source.sum()), int(counts.shared.sum())
    precision, recall, f1 = np.nan_to_num(rates(np.array([shared, source, overall.gold]))).tolist()
    return Evaluation(
        lang=counts.lang,
        rows=len(counts.rows),
        rejected_rows=counts.rejected,
        items=len(items),
        overall=overall,
        labels={totals.labels[n]: _score(data[n], drawn[:, n], items[:, n]) for n in present},
        macro=Rates(**macro),
        projected=overall.predicted,
        projection_ratio=overall.predicted / overall.gold if overall.gold else None,
        errors=Errors(*by_label.sum(axis=0).tolist()),
        errors_by_label={totals.labels[n]: Errors(*by_label[n].tolist()) for n in present},
        ceiling=Ceiling(source, shared, precision, recall, f1) if counts.from_source and source else None,
        calibration=calibration(counts.scored),
    )


def _macro(counts: Sequence[Counts], totals: _Totals) -> Macro:
    data, drawn, items = totals.data, totals.drawn, totals.items
    overall = _rates(_mean(rates(data.sum(axis=1)), axis=0), _mean(rates(drawn.sum(axis=2)), axis=1), _holding(items))
    labels = {}
    for n, label in enumerate(totals.labels):
        if data[:, n].any():
            means = _mean(rates(data[:, n]), axis=0), _mean(rates(drawn[:, :, n]), axis=1)
            labels[label] = Rates(**_rates(*means, _holding(items[:, :, n])))
    return Macro(int(data.any(axis=(1, 2)).sum()), len(items), Rates(**overall), labels)


def _holding(items: Small) -> int:
    """Return the number of items with any entity: [items, ...]."""
    return int(items.reshape(len(items), -1).any(axis=1).sum())
