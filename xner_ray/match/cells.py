"""Columns of what models say of target words and of cells (entity, candidate), from and to arrays over a batch.

Both columns, `target_tags` and `evidence`, name what they speak of (a tag, a score) and leave out zeros, so that they
mean the same in every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, flat, ints
from xner_ray.data.row import SCALE, accepted_rows, fill
from xner_ray.match.batch import EntityBatch, look_up
from xner_ray.match.candidates import Candidates
from xner_ray.match.scores import Scored


@dataclass(frozen=True, eq=False)
class Tags:
    """Probabilities of the tags of all target words; the words of a row without tags have 0 everywhere.

    probabilities: float64 (all target words, 2 L + 1), columns O, B-1, I-1, B-2, ... by `labels`.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]

    def classes(self, labels: pa.Array) -> Ints:
        """Return the number of each label, -1 for one that the tagger does not know."""
        found = pc.index_in(labels, value_set=pa.array(self.labels, pa.string()))
        return ints(found.fill_null(-1))

    def spans(self, batch: EntityBatch) -> tuple[Ints, Ints, Ints]:
        """Return row, start and end of the spans of the words' most probable tags; the first wins ties.

        An I- after O or after another class begins a span, as in every reading of IOB2.
        """
        best = self.probabilities.argmax(axis=1)
        label = (best + 1) // 2  # 0: O
        row = np.repeat(np.arange(batch.n_rows), batch.n_target)
        same = (np.diff(label, prepend=-1) == 0) & (np.diff(row, prepend=-1) == 0)  # as the word before in its row
        inside = label > 0
        begins = inside & (~same | (best % 2 == 1))
        first = np.flatnonzero(begins)
        continued = np.append(inside[1:] & ~begins[1:], False)
        last = np.flatnonzero(inside & ~continued)
        base = batch.target_base[row[first]]
        return row[first], first - base, last + 1 - base


def read_tags(column: pa.Array, batch: EntityBatch) -> Tags:
    """Return the tags of all target words. ValueError if one is no tag or its word is not in its sentence."""
    row, _, cells = flat(column)
    tags = cells.field("tag").dictionary_encode()
    names = tags.dictionary.to_pylist()
    if wrong := sorted(name for name in names if name != "O" and name[:2] not in ("B-", "I-")):
        raise ValueError(f"target_tags: {wrong[0]!r} is no tag; allowed: O, B-label, I-label")
    labels = tuple(sorted({name[2:] for name in names if name != "O"}))
    number = {label: index for index, label in enumerate(labels)}
    columns = [0 if name == "O" else 2 * number[name[2:]] + 1 + (name[0] == "I") for name in names]
    word = ints(cells.field("word"))
    if len(word) and not ((word >= 0) & (word < batch.n_target[row])).all():
        raise ValueError("target_tags: a word is not in its sentence")
    result = np.zeros((int(batch.target_base[-1]), 2 * max(1, len(labels)) + 1))
    place = np.array(columns, dtype=np.int64)[ints(tags.indices)]
    result[batch.target_base[row] + word, place] = cells.field("probability").to_numpy(zero_copy_only=False)
    return Tags(labels or ("",), result)


def read_scores(column: pa.Array, name: str, batch: EntityBatch, source: Ints, candidates: Candidates) -> Floats:
    """Return the score of this name in `evidence` for every candidate, to 1e-4; 0 for cells that it leaves out.

    source: index of each entity in its row's source_spans.
    """
    row, _, cells = flat(column)
    kept = pc.equal(cells.field("score"), name).to_numpy(zero_copy_only=False)
    row, cells = row[kept], cells.filter(pa.array(kept))
    # float32 puts 0.1 above a threshold of 0.1
    values = np.rint(cells.field("value").to_numpy(zero_copy_only=False).astype(np.float64) * SCALE) / SCALE
    cell = [ints(cells.field(field)) for field in ("source", "start", "end")]
    wanted: list[NDArray[Any]] = [source[candidates.entity], candidates.start, candidates.end]
    given: Ints = row
    asked: Ints = batch.row[candidates.entity]
    for here, there in zip(cell, wanted, strict=True):  # one number per cell
        size = 1 + max(int(here.max(initial=0)), int(there.max(initial=0)))
        given = given * size + here
        asked = asked * size + there
    order = np.argsort(given, kind="stable")
    return look_up(given[order], values[order], asked)


def read_cells(column: pa.Array, name: str, batch: EntityBatch, source: Ints) -> Scored:
    """Return every cell that has a score of this name in `evidence`; cells of other than the batch's entities do not.

    source: as in `read_scores`.
    """
    row, _, cells = flat(column)
    kept = pc.equal(cells.field("score"), name).to_numpy(zero_copy_only=False)
    row, cells = row[kept], cells.filter(pa.array(kept))
    own = ints(cells.field("source"))
    size = 1 + max(int(own.max(initial=0)), int(source.max(initial=0)))
    keys = batch.row * size + source
    order = np.argsort(keys, kind="stable")
    entity = look_up(keys[order], order + 1, row * size + own) - 1
    score = np.rint(cells.field("value").to_numpy(zero_copy_only=False).astype(np.float64) * SCALE).astype(np.int64)
    known = (entity >= 0) & (score > 0)
    start, end = (ints(cells.field(name))[known].astype(np.int32) for name in ("start", "end"))
    return Scored(entity[known].astype(np.int32), start, end, score[known])


def add_scores(
    table: pa.Table, scores: Mapping[str, Floats], batch: EntityBatch, source: Ints, candidates: Candidates
) -> pa.Table:
    """Return the table with every positive score appended to its row's `evidence`, by name, then candidate.

    scores: one value per candidate under each name. source: as in `read_scores`.
    """
    before = table.column("evidence").to_pylist()
    by_row: dict[int, list[Any]] = {index: before[index] or [] for index in accepted_rows(table)}
    for name, values in sorted(scores.items()):
        for index in np.flatnonzero(values > 0).tolist():
            entity = int(candidates.entity[index])
            cell = {
                "score": name,
                "source": int(source[entity]),
                "start": int(candidates.start[index]),
                "end": int(candidates.end[index]),
                "value": float(values[index]),
            }
            by_row[int(batch.row[entity])].append(cell)
    return fill(table, {"evidence": by_row})
