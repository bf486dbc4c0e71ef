"""Sentences of one language of one run as counts, with gold or without: what losses, scores and F1 are functions of.

Tables are read one by one, and `CELLS` integers a sentence are kept. A sentence counts once: rows rejected as
duplicates do not. The source entities of a rejected row are missing, since a student gets none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import Ints, flat, lengths, offsets
from xner_ray.data.row import SCALE, rejected
from xner_ray.errors import Loss, Reason
from xner_ray.evaluate.counting import by_score, counted, entities

COLUMNS = (
    *("row", "doc_id", "lang", "source_lang", "source_tokens", "source_spans", "tokens", "spans", "unprojected"),
    *("gold_spans", "status", "reason"),
)
EXACT, PREDICTED, GOLD, SOURCE, MISSING, SCORED, DOUBTFUL, SCORES, JUDGED, JUDGED_SCORES, RIGHT = range(11)
"""Columns of cells: exact, predicted and gold entities of sentences with gold; source entities and those without a
place; entities with a score, those of them below the bar, the sum of their scores in 1 / SCALE; and of sentences with
gold the same number, sum, and how many of them are right."""
CELLS = 11
REJECTED_ROW = "rejected_row"
_SET_ASIDE = (str(Loss.NESTED), str(Loss.OVERLAPPING_SPAN))  # by reading, so they were never to be projected


@dataclass
class Tally:
    """One language, or one domain of it, added up table by table.

    doubtful: scores below it are. labels: their numbers. sources: rows by source language. cells: [sentences, CELLS].
    docs: [sentences], a number a document, -1 without one. missing: source entities without a place, by reason.
    looked_at, unchanged: source entities of rows that have both sides, and those whose words stand there as they are.
    histogram: [2, SCALE + 1], wrong and right entities of sentences with gold, by score.
    """

    doubtful: float
    labels: dict[str, int] = field(default_factory=dict)
    known_docs: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    cells: list[Ints] = field(default_factory=list)
    docs: list[Ints] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    with_gold: int = 0
    entities: int = 0
    looked_at: int = 0
    unchanged: int = 0
    histogram: Ints = field(default_factory=lambda: np.zeros((2, SCALE + 1), dtype=np.int64))

    def add(self, table: pa.Table) -> None:
        """Add rows of one language; `table` needs the columns `COLUMNS`."""
        table = table.filter(pc.invert(pc.fill_null(pc.equal(table.column("reason"), str(Reason.DUPLICATE_ID)), False)))
        n = table.num_rows
        if not n:
            return
        lost = rejected(table)
        cells = np.zeros((n, CELLS), dtype=np.int64)
        self._add_losses(table, cells, lost)
        self._add_entities(table, cells, lost)
        self._add_unchanged(table)
        self.cells.append(cells)
        numbers = [
            -1 if doc is None else self.known_docs.setdefault(doc, len(self.known_docs))
            for doc in table.column("doc_id").to_pylist()
        ]
        self.docs.append(np.array(numbers, dtype=np.int64))
        self.rejected += int(lost.sum())
        for lang in table.column("source_lang").to_pylist():
            if lang is not None:
                self.sources[lang] = self.sources.get(lang, 0) + 1

    def _add_losses(self, table: pa.Table, cells: Ints, lost: np.ndarray) -> None:
        row, _, found = flat(table.column("unprojected").combine_chunks())
        reasons = found.field("reason").to_pylist()
        aside = np.array([reason in _SET_ASIDE for reason in reasons], dtype=bool)
        source = lengths(table.column("source_spans")) - np.bincount(row[aside], minlength=len(cells))
        cells[:, SOURCE] = source
        counts = ~aside & ~lost[row]
        cells[:, MISSING] = np.where(lost, source, np.bincount(row[counts], minlength=len(cells)))
        for index in np.flatnonzero(counts).tolist():
            self.missing[reasons[index]] = self.missing.get(reasons[index], 0) + 1
        if in_rejected := int(source[lost].sum()):
            self.missing[REJECTED_ROW] = self.missing.get(REJECTED_ROW, 0) + in_rejected

    def _add_entities(self, table: pa.Table, cells: Ints, lost: np.ndarray) -> None:
        has_gold = counted(table).to_numpy()
        self.with_gold += int(has_gold.sum())
        gold = entities(table.column("gold_spans").combine_chunks(), self.labels)
        gold = gold[has_gold[gold[:, 0]]]
        spans = table.column("spans").combine_chunks()
        predicted = entities(spans, self.labels)
        emitted = ~lost[predicted[:, 0]]
        scores = flat(spans)[2].field("score").filter(pa.array(emitted))
        predicted = predicted[emitted]
        self.entities += len(predicted)
        _, number = np.unique(np.concatenate([gold, predicted]), axis=0, return_inverse=True)
        number = number.reshape(-1)
        right = np.isin(number[len(gold) :], number[: len(gold)])

        row = predicted[:, 0]
        judged = has_gold[row]
        scored = scores.is_valid().to_numpy(zero_copy_only=False)
        values = np.rint(np.clip(scores.fill_null(0).to_numpy().astype(np.float64), 0, 1) * SCALE).astype(np.int64)
        both = judged & scored
        figures = [
            (EXACT, judged & right, None),
            (PREDICTED, judged, None),
            (SCORED, scored, None),
            (DOUBTFUL, scored & (values < round(self.doubtful * SCALE)), None),
            (SCORES, scored, values),
            (JUDGED, both, None),
            (JUDGED_SCORES, both, values),
            (RIGHT, both & right, None),
        ]
        for column, mask, weights in figures:
            np.add.at(cells[:, column], row[mask], 1 if weights is None else weights[mask])
        np.add.at(cells[:, GOLD], gold[:, 0], 1)
        self.histogram = self.histogram + by_score(values[both] / SCALE, right[both].astype(np.int64))

    def _add_unchanged(self, table: pa.Table) -> None:
        some = table.filter(pc.greater(pc.fill_null(pc.list_value_length(table.column("source_spans")), 0), 0))
        sides = (some.column(name).to_pylist() for name in ("source_tokens", "tokens", "source_spans", "unprojected"))
        for source, target, spans, unprojected in zip(*sides, strict=True):
            if source and target:
                aside = {one["source"] for one in unprojected or () if one["reason"] in _SET_ASIDE}
                wanted = [source[s["start"] : s["end"]] for n, s in enumerate(spans) if n not in aside]
                self.looked_at += len(wanted)
                self.unchanged += sum(stands_in(words, target) for words in wanted)


def stands_in(words: Sequence[str], sentence: Sequence[str]) -> bool:
    """Return whether words stand in a sentence as they are, one behind the other.

    >>> stands_in(["New", "York"], ["en", "New", "York", "."]), stands_in(["York"], ["Yorkissa"])
    (True, False)
    """
    return "\0".join(["", *words, ""]) in "\0".join(["", *sentence, ""])


def by_document(cells: Ints, docs: Ints, fewest: int) -> tuple[Ints, bool]:
    """Return the cells of documents if every sentence has one and there are enough of them, else of sentences."""
    if len(docs) and (docs >= 0).all() and len(np.unique(docs)) >= fewest:
        _, number = np.unique(docs, return_inverse=True)
        base = offsets(np.bincount(number.reshape(-1)))[:-1]
        return np.add.reduceat(cells[np.argsort(number.reshape(-1), kind="stable")], base, axis=0), True
    return cells, False
