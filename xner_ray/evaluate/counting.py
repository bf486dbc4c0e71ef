"""Entities against gold as counts per sentence and label, of which all figures are functions.

Tables are read one by one and only small integers are kept: 12 bytes per sentence and label, 16 per sentence, and the
document ids. A rejected row counts as a row without predictions, because a student gets none from it; a row rejected as
a duplicate does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, flat, ints, lengths, offsets
from xner_ray.data.row import REJECTED, SCALE
from xner_ray.errors import Loss, Reason

COLUMNS = (
    *("row", "doc_id", "lang", "tokens", "source_spans", "unprojected", "spans", "gold_spans", "status", "reason"),
)
EXACT, TYPE, BOUNDARY, BOTH, MISSED, SPURIOUS = range(6)
_OUTCOMES = 6
_SET_ASIDE = (str(Loss.NESTED), str(Loss.OVERLAPPING_SPAN))  # by reading, so they were never to be projected

Small = NDArray[np.int32]
Entity = tuple[int, int, str]  # start, end (words, half open), label


@dataclass(frozen=True)
class Counts:
    """One language's sentences with gold, as counts.

    labels: [labels], sorted. rows: [sentences], the input's row numbers. docs: [sentences], a number per document, the
    same in every language, -1 without one. cells: [sentences, labels, 3], entities that are exact, predicted, in gold.
    outcomes: [2, labels, 6], entities of gold and of the prediction, over all sentences, by outcome (EXACT to
    SPURIOUS). source: [labels], source entities to be projected. shared: [labels], the sum over sentences of
    min(source, gold). from_source: some prediction names its source entity, or there is no prediction at all.
    scored: [2, SCALE + 1], wrong and right predictions by score (`by_score`), those with one.
    """

    lang: str
    labels: tuple[str, ...]
    rows: Ints
    docs: Ints
    cells: Small
    rejected: int
    outcomes: Ints
    source: Ints
    shared: Ints
    from_source: bool
    scored: Ints


def pair(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[tuple[int, int, int]]:
    """Pair entities that share words one to one; return (index in gold, index in predicted, outcome) for each pair.

    Pairs with the same span and label (EXACT) come first, then the same span (TYPE), the same label (BOUNDARY), and any
    (BOTH); among these the pair with more words in common, then the leftmost gold, then the leftmost prediction. An
    entity without a partner is missed or spurious, even where it touches one that has a partner. Neither side may
    overlap within itself.

    >>> pair([(0, 3, "ORG")], [(0, 1, "LOC"), (1, 3, "ORG")])
    [(0, 1, 2)]
    """
    touching = []
    for g, (start, end, label) in enumerate(gold):
        for p, (begin, stop, other) in enumerate(predicted):
            common = min(end, stop) - max(start, begin)
            if common > 0:
                wrong_type, wrong_span = label != other, (start, end) != (begin, stop)
                outcome = (EXACT, TYPE, BOUNDARY, BOTH)[wrong_type + 2 * wrong_span]
                touching.append((outcome, -common, start, begin, g, p))
    pairs, free_gold, free_predicted = [], set(range(len(gold))), set(range(len(predicted)))
    for outcome, *_, g, p in sorted(touching):
        if g in free_gold and p in free_predicted:
            pairs.append((g, p, outcome))
            free_gold.remove(g)
            free_predicted.remove(p)
    return pairs


def count(tables: Iterable[pa.Table]) -> list[Counts]:
    """Count each language that has gold, in order of the codes. `tables` need the columns `COLUMNS`."""
    counter = Counter()
    for table in tables:
        counter.add(table)
    return counter.counts()


class Counter:
    """The counts of languages, added up table by table."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._docs: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        part = table.select([name for name in COLUMNS if name != "tokens"]).filter(counted(table))
        for lang in pc.unique(part.column("lang")).to_pylist():
            tally = self._tallies.setdefault(lang, _Tally())
            tally.add(part.filter(pc.equal(part.column("lang"), lang)), self._docs)

    def counts(self) -> list[Counts]:
        return [self._tallies[lang].counts(lang) for lang in sorted(self._tallies)]


def counted(table: pa.Table, *, gold: bool = True) -> pa.ChunkedArray:
    """Return which rows count: those with words and, if asked for, gold, not rejected as duplicates. [rows], bool."""
    words = pc.greater(pc.list_value_length(table.column("tokens")), 0).fill_null(False)
    wanted = pc.and_(pc.is_valid(table.column("gold_spans")), words) if gold else words
    twice = pc.fill_null(pc.equal(table.column("reason"), str(Reason.DUPLICATE_ID)), False)
    return pc.and_not(wanted, twice)


def entities(lists: pa.ListArray, labels: dict[str, int]) -> Ints:
    """Return spans as numbers [entities, 4]: row, start, end, label. `labels` numbers the labels and remembers them."""
    row, _, cells = flat(lists)
    label = _codes(cells.field("label"), labels)
    return np.stack([row, ints(cells.field("start")), ints(cells.field("end")), label], axis=1)


def by_score(scores: Floats, right: Ints) -> Ints:
    """Return the number of wrong and of right entities by score: (2, SCALE + 1). scores: in 0..1. right: 0 or 1."""
    cells = right * (SCALE + 1) + np.rint(np.clip(scores, 0, 1) * SCALE).astype(np.int64)
    result: Ints = np.bincount(cells, minlength=2 * (SCALE + 1)).reshape(2, SCALE + 1)
    return result


class _Tally:
    """The counts of one language so far, its labels in order of appearance."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self.rows: list[Ints] = []
        self.docs: list[Ints] = []
        self.cells: list[Small] = []
        self.totals: list[Ints] = []
        self.rejected = 0
        self.predicted = 0
        self.from_source = False
        self.scored = by_score(np.zeros(0), np.zeros(0, dtype=np.int64))

    def add(self, table: pa.Table, docs: dict[str, int]) -> None:
        n = table.num_rows
        lost = pc.equal(table.column("status"), REJECTED).to_numpy()
        gold = entities(table.column("gold_spans").combine_chunks(), self.labels)
        spans = table.column("spans").combine_chunks()
        predicted = entities(spans, self.labels)
        emitted = ~lost[predicted[:, 0]]
        predicted = predicted[emitted]
        named = flat(spans)[2].field("source").is_valid().to_numpy(zero_copy_only=False)
        source = self._source(table)
        # Equal entities of both sides get one number, so common ones are found without comparing strings.
        _, number = np.unique(np.concatenate([gold, predicted]), axis=0, return_inverse=True)
        number = number.reshape(-1)
        ours, theirs = number[: len(gold)], number[len(gold) :]
        of_gold = np.where(np.isin(ours, theirs), EXACT, MISSED)
        of_predicted = np.where(np.isin(theirs, ours), EXACT, SPURIOUS)
        _pair_the_rest(gold, predicted, of_gold, of_predicted)

        scores = flat(spans)[2].field("score").filter(pa.array(emitted))
        has = scores.is_valid().to_numpy(zero_copy_only=False)
        self.scored = self.scored + by_score(
            scores.drop_null().to_numpy(zero_copy_only=False).astype(np.float64),
            (of_predicted == EXACT).astype(np.int64)[has],
        )
        n_labels = len(self.labels)
        per_cell = [_histogram(part, n, n_labels) for part in (gold[of_gold == EXACT], predicted, gold)]
        self.cells.append(np.stack(per_cell, axis=2))
        shared = np.minimum(_histogram(source, n, n_labels), per_cell[2]).sum(axis=0)
        totals = np.zeros((n_labels, 2 * _OUTCOMES + 2), dtype=np.int64)
        np.add.at(totals, (gold[:, 3], of_gold), 1)
        np.add.at(totals, (predicted[:, 3], _OUTCOMES + of_predicted), 1)
        totals[:, -2:] = np.stack([np.bincount(source[:, 3], minlength=n_labels), shared], axis=1)
        self.totals.append(totals)
        self.rows.append(ints(table.column("row").combine_chunks()))
        self.docs.append(_codes(table.column("doc_id").combine_chunks(), docs))
        self.rejected += int(lost.sum())
        self.predicted += len(predicted)
        self.from_source |= bool(named[emitted].any())

    def _source(self, table: pa.Table) -> Ints:
        """Return the source entities as `entities` does, without those that reading set aside."""
        lists = table.column("source_spans").combine_chunks()
        base = offsets(lengths(lists))
        row, _, cells = flat(table.column("unprojected").combine_chunks())
        early = pc.is_in(cells.field("reason"), pa.array(_SET_ASIDE)).to_numpy(zero_copy_only=False)
        return np.delete(entities(lists, self.labels), (base[row] + ints(cells.field("source")))[early], axis=0)

    def counts(self, lang: str) -> Counts:
        order = [self.labels[label] for label in sorted(self.labels)]

        def grown(array: NDArray[Any], axis: int) -> NDArray[Any]:
            """Return an array with a place for every label, in sorted order."""
            missing = [(0, len(self.labels) - array.shape[axis] if a == axis else 0) for a in range(array.ndim)]
            return np.pad(array, missing).take(order, axis=axis)

        total = sum((grown(one, 0) for one in self.totals), np.zeros((len(order), 2 * _OUTCOMES + 2), dtype=np.int64))
        return Counts(
            lang,
            tuple(sorted(self.labels)),
            np.concatenate(self.rows),
            np.concatenate(self.docs),
            np.concatenate([grown(cells, 1) for cells in self.cells]),
            self.rejected,
            np.stack([total[:, :_OUTCOMES], total[:, _OUTCOMES:-2]]),
            total[:, -2],
            total[:, -1],
            self.from_source or not self.predicted,
            self.scored,
        )


def _pair_the_rest(gold: Ints, predicted: Ints, of_gold: Ints, of_predicted: Ints) -> None:
    """Write the outcomes of the entities that are not exact."""
    rest: dict[int, tuple[list[int], list[int]]] = {}
    for index in np.flatnonzero(of_predicted == SPURIOUS).tolist():
        rest.setdefault(int(predicted[index, 0]), ([], []))[1].append(index)
    for index in np.flatnonzero(of_gold == MISSED).tolist():
        if int(gold[index, 0]) in rest:
            rest[int(gold[index, 0])][0].append(index)
    for ours, theirs in rest.values():
        for g, p, outcome in pair(gold[ours, 1:].tolist(), predicted[theirs, 1:].tolist()) if ours else ():
            of_gold[ours[g]] = of_predicted[theirs[p]] = outcome


def _histogram(entities: Ints, n_rows: int, n_labels: int) -> Small:
    """Count entities per row and label: [rows, labels]."""
    cell = entities[:, 0] * n_labels + entities[:, 3]
    return np.bincount(cell, minlength=n_rows * n_labels).reshape(n_rows, n_labels).astype(np.int32)


def _codes(values: pa.Array, known: dict[str, int]) -> Ints:
    """Return a number for each text, -1 for null. `known` numbers the texts and remembers them."""
    encoded = values.dictionary_encode()
    numbers = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
    return np.array([*numbers, -1], dtype=np.int64)[ints(encoded.indices.fill_null(len(numbers)))]
