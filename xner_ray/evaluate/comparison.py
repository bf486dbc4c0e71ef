"""Runs over the same sentences side by side: scores, tests of differences, agreement.

The runs' tables are read side by side, range of rows by range of rows, and only counts are kept (`counting`: 16 bytes
per sentence and 12 per sentence and label, for each run), with the few sentences to be shown.

Every run is tested against one, the reference, by the paired bootstrap. Of many tests some give small p-values by
chance, so each p-value comes with one corrected for the number of runs (`holm`). Languages are not corrected for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray import defaults
from xner_ray.data.arrow import Ints
from xner_ray.data.row import REJECTED
from xner_ray.errors import InputError
from xner_ray.evaluate import counting
from xner_ray.evaluate.bootstrap import CONFIDENCE, Difference, Interval
from xner_ray.evaluate.counting import Counter, Counts
from xner_ray.evaluate.lockstep import RunMismatch, with_words, zip_runs
from xner_ray.evaluate.scores import SCHEME, By, Evaluations, Rates, score
from xner_ray.evaluate.scores import compare as paired

CORRECTION = "Holm 1979, over the runs"
COLUMNS = (*counting.COLUMNS, "id", "split")
SHOWN = (*COLUMNS, "source_lang", "source_tokens")  # with sentences

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Against:
    """A run's F1 minus the reference's; None where an F1 is undefined, because neither run nor gold has an entity.

    p_holm: p_value corrected for the number of runs. Without resamples, interval and p-values are None too.
    """

    difference: float | None
    interval: Interval | None
    p_value: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Result:
    """One run; `against` is None for the reference."""

    rates: Rates
    against: Against | None


@dataclass(frozen=True)
class Agreement:
    """A run and the reference, sentence by sentence. A rejected sentence counts as one without entities.

    sentences: those with gold; if the language has no gold, those with words. identical: both have the same entities.
    with_entities: either has one. f1: one run's entities against the other's; None if neither has any. The other
    figures count sentences that are not identical by who has all entities right; None without gold.
    """

    sentences: int
    identical: int
    with_entities: int
    identical_with_entities: int
    f1: float | None
    only_reference_right: int | None
    only_run_right: int | None
    neither_right: int | None


@dataclass(frozen=True)
class Language:
    """One language.

    items: sentences or documents that a resample draws, None without gold. results: one per run, none without gold.
    agreement: one per run, None for the reference.
    """

    lang: str
    items: int | None
    results: list[Result]
    agreement: list[Agreement | None]


@dataclass(frozen=True)
class Mean:
    """Unweighted means over the languages with gold."""

    languages: int
    items: int
    results: list[Result]


@dataclass(frozen=True)
class Sentence:
    """A sentence in which a run (its number, from 0) and the reference differ.

    right: reference | run | neither; None without gold. spans: words [start, end) and label of each entity. rejected:
    the reasons for which the row was rejected, the reference's first; None if it was not.
    """

    run: int
    lang: str
    row: int
    id: str
    right: str | None
    source_lang: str | None
    source_tokens: list[str] | None
    source_spans: list[dict[str, Any]]
    tokens: list[str]
    gold: list[dict[str, Any]] | None
    reference_spans: list[dict[str, Any]]
    run_spans: list[dict[str, Any]]
    rejected: list[str | None]


@dataclass(frozen=True)
class Run:
    """A compared run. run: the path as given. keys: recipe keys not at their defaults that differ; method: as text."""

    run: str
    name: str
    method: str
    keys: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """by: what a resample draws; None if no language has gold. reference: the run's number."""

    scheme: str
    confidence: float
    by: By | None
    samples: int
    seed: int
    correction: str
    reference: int
    runs: list[Run]
    languages: list[Language] = field(default_factory=list)
    mean: Mean | None = None
    sentences: list[Sentence] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `compare --json` prints it."""
        return asdict(self)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number: if no run differs, the smallest is below a with probability a at most.

    The k-th smallest of m is multiplied by m - k + 1, and raised to the one before it if that is larger (S. Holm 1979,
    A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65-70). The tests may
    depend on one another, as here, where they share the reference.

    >>> holm([0.5, 0.125, 0.25])
    [0.5, 0.375, 0.5]
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (len(p_values) - done) * p_values[index]))
        corrected[index] = least
    return corrected


def compare(
    tables: Sequence[Iterable[pa.Table]],
    runs: Sequence[Run],
    *,
    reference: int = 0,
    differ: int = 0,
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    by: By | None = None,
) -> Comparison:
    """Compare two or more runs over the same rows.

    tables: the tables of each run, in order of (language, split, row), each of one language and split, with the columns
    `COLUMNS`, or `SHOWN` if sentences are wanted. differ: the number of sentences to show per run and language that
    differ from the reference's: first those where one is right, then those where both are wrong, each in order.
    samples: bootstrap resamples behind intervals and tests, 0 for none. seed, by: as in `scores.score`. InputError if
    rows, ids, words or gold differ between the runs.
    """
    mismatches = [RunMismatch(runs[0].run, run.run) for run in runs]
    counters = [Counter() for _ in runs]
    pairs: dict[str, _Pairs] = {}
    for pieces in zip_runs(tables):
        same = [each.check(pieces[0], piece) for each, piece in zip(mismatches, pieces, strict=True)]
        if not all(same):
            continue
        pieces = with_words(pieces)
        for counter, piece in zip(counters, pieces, strict=True):
            counter.add(piece)
        lang = pieces[0].column("lang")[0].as_py()
        pairs.setdefault(lang, _Pairs(reference, len(runs), differ)).add(pieces)
    if messages := [each.message() for each in mismatches if each.counts]:
        raise InputError(messages[0])
    counts = [counter.counts() for counter in counters]
    scored = [score(each, samples=samples, seed=seed, by=by) for each in counts]
    chosen = scored[0].by if scored[0] else None
    number = {one.lang: n for n, one in enumerate(counts[0])}

    def tested(where: slice, average: Any) -> list[Against | None]:
        return _tested([each[where] for each in counts], reference, average, samples, seed, chosen)

    languages = []
    for lang in sorted(pairs):
        n = number.get(lang)
        results: list[Result] = []
        if n is not None:
            against = tested(slice(n, n + 1), "pooled")
            results = [Result(each[n].overall, one) for each, one in zip(scored, against, strict=True)]
        items = None if n is None else scored[0][n].items
        languages.append(Language(lang, items, results, pairs[lang].agreement(gold=n is not None)))
    sentences = [one for run in range(len(runs)) for lang in sorted(pairs) for one in pairs[lang].sentences(run)]
    mean = _mean(scored, tested(slice(None), "macro")) if len(number) > 1 else None
    return Comparison(
        *(SCHEME, CONFIDENCE, chosen, samples, seed, CORRECTION, reference, list(runs)), languages, mean, sentences
    )


def _tested(
    counts: Sequence[Sequence[Counts]], reference: int, average: Any, samples: int, seed: int, by: By | None
) -> list[Against | None]:
    """Test each run against the reference, whose own place is None."""
    options: dict[str, Any] = {"average": average, "samples": samples, "seed": seed, "by": by}
    found = {n: paired(counts[reference], own, **options) for n, own in enumerate(counts) if n != reference}
    tested = [n for n, one in found.items() if samples and not math.isnan(one.difference)]
    corrected = dict(zip(tested, holm([found[n].p_value for n in tested]), strict=True))
    return [_against(found[n], corrected.get(n)) if n in found else None for n in range(len(counts))]


def _against(found: Difference, p_holm: float | None) -> Against:
    if math.isnan(found.difference):
        return Against(None, None, None, None)
    return Against(found.difference, found.interval, None if p_holm is None else found.p_value, p_holm)


def _mean(scored: Sequence[Evaluations], against: Sequence[Against | None]) -> Mean | None:
    first = scored[0].macro
    if first is None:
        return None
    results = [
        Result(each.macro.overall, one) for each, one in zip(scored, against, strict=True) if each.macro is not None
    ]
    return Mean(first.languages, first.items, results)


class _Pairs:
    """The reference paired with each run, in one language."""

    def __init__(self, reference: int, n_runs: int, differ: int) -> None:
        self.reference, self.differ = reference, differ
        # Over all sentences, then over those with gold: six counts of sentences as `add` makes them, then entities in
        # common, of the reference, of the run.
        self.sums = np.zeros((2, n_runs, 9), dtype=np.int64)
        self.kept: list[tuple[list[Sentence], ...]] = [([], [], []) for _ in range(n_runs)]

    def add(self, pieces: Sequence[pa.Table]) -> None:
        n = pieces[0].num_rows
        first = pieces[self.reference]
        masks = [counting.counted(first, gold=gold).to_numpy() for gold in (False, True)]
        row, there = _entities([*pieces, first.select(["gold_spans"]).rename_columns(["spans"])])
        own, gold = there[self.reference], there[-1]
        for run, piece in enumerate(pieces):
            if run == self.reference:
                continue
            other = there[run]
            same = _without(row, own != other, n)
            either = ~_without(row, own | other, n)
            one, two = (_without(row, side != gold, n) for side in (own, other))
            figures = (same | True, same, either, same & either, one & ~two, two & ~one)
            for sums, mask in zip(self.sums[:, run], masks, strict=True):
                sums += [
                    *((figure & mask).sum() for figure in figures),
                    *((part & mask[row]).sum() for part in (own & other, own, other)),
                ]
            if self.differ:
                self._keep(run, first, piece, masks[0] & ~same, masks[1], one, two)

    def _keep(
        self, run: int, first: pa.Table, piece: pa.Table, differing: Bools, gold: Bools, one: Bools, two: Bools
    ) -> None:
        groups = (gold & (one != two), gold & (one == two), ~gold)
        for kept, group in zip(self.kept[run], groups, strict=True):
            for index in np.flatnonzero(differing & group)[: self.differ - len(kept)].tolist():
                right = ("reference" if one[index] else "run" if two[index] else "neither") if gold[index] else None
                cells = [table.slice(index, 1).to_pylist()[0] for table in (first, piece)]
                kept.append(_sentence(run, right, *cells))

    def agreement(self, *, gold: bool) -> list[Agreement | None]:
        found: list[Agreement | None] = []
        for run, sums in enumerate(self.sums[int(gold)].tolist()):
            sentences, identical, either, both, one, two, common, ours, theirs = sums
            f1 = 2 * common / (ours + theirs) if ours + theirs else None
            right = (one, two, sentences - identical - one - two) if gold else (None, None, None)
            agreement = Agreement(sentences, identical, either, both, f1, *right)
            found.append(None if run == self.reference else agreement)
        return found

    def sentences(self, run: int) -> list[Sentence]:
        return [one for kept in self.kept[run] for one in kept][: self.differ]


def _entities(pieces: Sequence[pa.Table]) -> tuple[Ints, NDArray[np.bool_]]:
    """Find the distinct entities of the same rows in several tables; rejected rows have none.

    Returns the row of each [entities], and which tables have it [tables, entities].
    """
    labels: dict[str, int] = {}
    parts = []
    for piece in pieces:
        part = counting.entities(piece.column("spans").combine_chunks(), labels)
        if "status" in piece.schema.names:
            part = part[pc.not_equal(piece.column("status"), REJECTED).to_numpy()[part[:, 0]]]
        parts.append(part)
    distinct, number = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    there = np.zeros((len(pieces), len(distinct)), dtype=np.bool_)
    ends = np.cumsum([0, *(len(part) for part in parts)])
    for table, (start, end) in enumerate(pairwise(ends.tolist())):
        there[table, number.reshape(-1)[start:end]] = True
    return distinct[:, 0], there


def _without(row: Ints, marked: Bools, n_rows: int) -> Bools:
    """Return which rows have no marked entity: [rows]."""
    free: Bools = np.bincount(row[marked], minlength=n_rows) == 0
    return free


def _sentence(run: int, right: str | None, first: Mapping[str, Any], other: Mapping[str, Any]) -> Sentence:
    def spans(row: Mapping[str, Any], name: str = "spans") -> list[dict[str, Any]]:
        given = () if name == "spans" and row["status"] == REJECTED else row[name] or ()
        return [{key: span[key] for key in ("start", "end", "label")} for span in given]

    return Sentence(
        run=run,
        lang=first["lang"],
        row=first["row"],
        id=first["id"],
        right=right,
        source_lang=first.get("source_lang"),
        source_tokens=first.get("source_tokens"),
        source_spans=spans(first, "source_spans"),
        tokens=first["tokens"],
        gold=None if first["gold_spans"] is None else spans(first, "gold_spans"),
        reference_spans=spans(first),
        run_spans=spans(other),
        rejected=[row["reason"] if row["status"] == REJECTED else None for row in (first, other)],
    )
