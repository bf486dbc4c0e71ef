"""A bounded sample of a run's sentences, and distributions over all rows seen.

Each language gives its worst sentences, rejected ones, and sentences drawn by a hash of their key, so the sample does
not depend on the order of the tables. Memory is bounded by the sample, not by the rows: few distinct values are counted
(scores in steps, lengths up to a limit, labels of the run).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.row import OK, REJECTED
from xner_ray.evaluate.counting import COLUMNS as COUNTED
from xner_ray.read.index.units import Unit

SENTENCES = 300  # on a page
STEP = 0.01  # scores are rounded to it
_MOST = 1000  # larger scores, in steps, and lengths are counted as this
_SMALL = ("row", "status", "source_spans", "spans", "unprojected", "gold_spans", "translation_score")

COLUMNS = (
    *COUNTED,
    *("id", "split", "source_lang", "source_text", "source_tokens", "source_offsets", "text", "offsets"),
    *("bridge_tokens", "bridge_spans", "links", "translation_score", "flags", "detail"),
)
"""The columns that the page reads."""

PICTURES = ("image", "image_id", "image_evidence", "image_labels", "image_boxes")
"""Those that it reads besides of a run with pictures."""

Key = tuple[int, int, float, int]


def draw(units: Sequence[Unit], rows: int) -> list[Unit]:
    """Draw units by a hash of their names, one language after the other, until they have `rows` rows.

    Every language gets one at least.
    """
    queues: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: (_hash(unit.name), unit.name)):
        queues.setdefault(unit.lang, []).append(unit)
    found: list[Unit] = []
    seen = 0
    for turn in range(max(map(len, queues.values()), default=0)):
        for lang in sorted(queues):
            if turn < len(queues[lang]) and (turn == 0 or seen < rows):
                found.append(queues[lang][turn])
                seen += queues[lang][turn].n_rows
    return found


def entities(spans: Sequence[Mapping[str, Any]] | None) -> set[tuple[int, int, str]]:
    """Return spans as they are compared with gold: start, end, label."""
    return {(span["start"], span["end"], span["label"]) for span in spans or ()}


def rank(row: Mapping[str, Any], drawn: int) -> Key:
    """Return the sort key of a row on the page, worst first; `drawn`, a hash, breaks ties.

    First come sentences with entities that are missing or differ from gold, those with most of them first, then
    rejected sentences, then the others, by their lowest score.
    """
    if row["status"] == REJECTED:
        return 1, 0, 0.0, drawn
    wrong = len(row["unprojected"] or ())
    if row["gold_spans"] is not None:
        wrong += len(entities(row["gold_spans"]) ^ entities(row["spans"]))
    lowest = min((span["score"] for span in row["spans"] or () if span["score"] is not None), default=2.0)
    return (0 if wrong else 2), -wrong, round(lowest, 4), drawn


class _Best:
    """The rows with the `size` smallest keys so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: list[tuple[Any, dict[str, Any]]] = []

    def wanted(self, keys: Mapping[int, Any]) -> dict[int, Any]:
        """Return which of a table's rows (index -> key) may be among them."""
        worst = self.rows[-1][0] if len(self.rows) == self.size else None
        found = ((key, index) for index, key in keys.items() if worst is None or key < worst)
        return {index: key for key, index in heapq.nsmallest(self.size, found)}

    def add(self, found: Mapping[int, Any], rows: Mapping[int, dict[str, Any]]) -> None:
        rows_found = [(key, rows[index]) for index, key in found.items()]
        self.rows = sorted([*self.rows, *rows_found], key=itemgetter(0))[: self.size]


class _Language:
    """The rows kept of one language: the worst ones, rejected ones, random ones."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.worst, self.rejected, self.any = (_Best(size) for _ in range(3))
        self.scores: Counter[int] = Counter()

    def chosen(self) -> dict[Key, dict[str, Any]]:
        """Return at most `size` rows by key: half of them worst ones, a fifth rejected ones, if there are so many."""
        found: dict[Key, dict[str, Any]] = {}
        shares = [(self.worst, -(-self.size // 2)), (self.rejected, -(-self.size // 5)), (self.any, self.size)]
        for best, share in [*shares, (self.worst, self.size), (self.rejected, self.size)]:
            for key, row in best.rows:
                key = key[-1] if best is self.any else key
                if key in found:
                    continue
                if share <= 0 or len(found) == self.size:
                    break
                found[key] = row
                share -= 1
        return found


class Sample:
    """A sample and distributions; `add` takes tables with the columns `COLUMNS`, each row once."""

    def __init__(self, languages: Sequence[str], *, size: int = SENTENCES) -> None:
        """languages: get equal shares of the page's sentences, one at least."""
        share = max(1, size // max(1, len(languages)))
        self._languages = {lang: _Language(share) for lang in languages}
        self.rows = 0
        self.scores: Counter[int] = Counter()  # of projected entities, in steps of STEP
        self.source_scores: Counter[int] = Counter()
        self.translation_scores: Counter[int] = Counter()
        self.source_words: Counter[int] = Counter()  # of emitted sentences
        self.target_words: Counter[int] = Counter()
        self.entity_words: Counter[int] = Counter()
        self.labels: dict[str, Counter[str]] = {"source": Counter(), "projected": Counter(), "gold": Counter()}

    def add(self, table: pa.Table) -> None:
        whole = table.combine_chunks()
        small = whole.select(_SMALL).to_pylist()
        languages = whole.column("lang").to_pylist()
        words = [pc.list_value_length(whole.column(name)).to_pylist() for name in ("source_tokens", "tokens")]
        for number, row in enumerate(small):
            if row["status"] == OK:
                self._count(row, languages[number], *(each[number] for each in words))
        self.rows += len(small)
        for lang in sorted({*languages} & {*self._languages}):
            members = [index for index, each in enumerate(languages) if each == lang]
            kept = self._languages[lang]
            ranks = {index: rank(small[index], _hash(f"{lang} {small[index]['row']}")) for index in members}
            sides: dict[_Best, dict[int, Any]] = {
                kept.worst: {i: key for i, key in ranks.items() if key[0] != 1},
                kept.rejected: {i: key for i, key in ranks.items() if key[0] == 1},
                kept.any: {i: (key[-1], key) for i, key in ranks.items() if key[0] != 1},
            }
            wanted = {best: best.wanted(keys) for best, keys in sides.items()}
            indices = sorted({index for found in wanted.values() for index in found})
            rows = dict(zip(indices, whole.take(pa.array(indices, pa.int64())).to_pylist(), strict=True))
            for best, found in wanted.items():
                best.add(found, rows)

    def _count(self, row: Mapping[str, Any], lang: str, source_words: int | None, target_words: int | None) -> None:
        for counter, value in ((self.source_words, source_words), (self.target_words, target_words)):
            if value is not None:
                counter[min(value, _MOST)] += 1
        for span in row["spans"] or ():
            self.entity_words[min(span["end"] - span["start"], _MOST)] += 1
            if span["score"] is not None:
                step = _step(span["score"])
                self.scores[step] += 1
                if lang in self._languages:
                    self._languages[lang].scores[step] += 1
        for span in row["source_spans"] or ():
            if span["score"] is not None:
                self.source_scores[_step(span["score"])] += 1
        if row["translation_score"] is not None:
            self.translation_scores[_step(row["translation_score"])] += 1
        for name, spans in (("source", row["source_spans"]), ("projected", row["spans"]), ("gold", row["gold_spans"])):
            self.labels[name].update(span["label"] for span in spans or ())

    def scores_of(self, lang: str) -> Mapping[int, int]:
        return self._languages[lang].scores

    def chosen(self) -> list[dict[str, Any]]:
        """Return the sample, worst first; rows with equal keys in order of their languages."""
        found = [(key, lang, row) for lang, kept in self._languages.items() for key, row in kept.chosen().items()]
        return [row for _, _, row in sorted(found, key=lambda each: each[:2])]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest())


def _step(score: float) -> int:
    return max(-_MOST, min(_MOST, math.floor(score / STEP + 0.5)))
