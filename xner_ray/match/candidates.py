"""Target spans that entities may be projected onto, for many sentence pairs at once (method.md 4.2).

`ngrams`: every range of 1 to `max_words` target words. `windows`: only those between the first and the last target
word linked to the entity. `runs`: runs of linked words with their sub-ranges, and their pairwise hulls. `given`: spans
that a tagger found on the target side. `union` joins sets.

Windows lose nothing as long as a score is (mass inside the candidate) / (|s| + |t|) and the window was made from that
same mass: clipping a candidate to the window keeps its mass, shortens it, keeps it non-empty and makes no new overlap.
So the optimum is the same, under upper and under lower limits of projections per entity alike, because cells without
a positive score are never offered (`scores.fuse`). It is not the same for a score of other mass (a window of hard
links under soft scores) nor for one that can punish the clipped candidate (edges): give these a `margin`, or n-grams.

No token is forbidden: "Yahoo !" is a name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xner_ray.match.batch import EntityBatch, Ints, ranges

MAX_WORDS = 30


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Half-open ranges of target words: three int32 arrays of one length, sorted by entity, start, end, none twice.

    entity: counts through all pairs of the batch. start, end: words of that entity's own pair.
    """

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Candidates:
        """Some of them, by mask or ascending indices."""
        return Candidates(self.entity[index], self.start[index], self.end[index])


def ngrams(batch: EntityBatch, *, max_words: int = MAX_WORDS) -> Candidates:
    """All ranges of 1 to `max_words` words, for every entity: sum over i of min(max_words, n_words - i) each.

    ValueError if `max_words` is below 1.

    >>> len(ngrams(EntityBatch(n_source=[3], n_target=[25], row=[0], start=[0], end=[2]), max_words=10))
    205
    """
    entity = np.arange(len(batch))
    return _ranges_inside(entity, np.zeros_like(entity), batch.words, max_words)


def windows(batch: EntityBatch, mass: Ints, *, max_words: int = MAX_WORDS, margin: int = 0) -> Candidates:
    """Ranges of 1 to `max_words` words from `margin` words before the first linked word to `margin` after the last.

    mass: whole numbers by cell, positive where a word is linked (`EntityBatch.spread`); without one, no candidate.
    ValueError if `max_words` is below 1, `margin` is negative or `mass` has another shape.

    >>> batch = EntityBatch(n_source=[1], n_target=[4], row=[0], start=[0], end=[1])
    >>> windows(batch, np.array([0, 1, 0, 1]), max_words=2).start.tolist()
    [1, 1, 2, 2, 3]
    """
    if margin < 0:
        raise ValueError(f"margin is {margin}; allowed: 0 or more")
    linked = linked_runs(batch, mass)
    entity, first, n_runs = np.unique(linked.entity, return_index=True, return_counts=True)
    low = np.maximum(linked.start[first] - margin, 0)
    high = np.minimum(linked.end[first + n_runs - 1] + margin, batch.words[entity])
    return _ranges_inside(entity, low, high, max_words)


def runs(batch: EntityBatch, mass: Ints, *, max_words: int = MAX_WORDS) -> Candidates:
    """Every run of linked words, all its sub-ranges, and every hull from one run's start to a later one's end.

    The thesis calls them "aligned_ngrams". Longer ones than `max_words` are left out. Errors as in `windows`.

    >>> batch = EntityBatch(n_source=[1], n_target=[4], row=[0], start=[0], end=[1])
    >>> found = runs(batch, np.array([1, 0, 2, 1]))
    >>> list(zip(found.start.tolist(), found.end.tolist()))
    [(0, 1), (0, 4), (2, 3), (2, 4), (3, 4)]
    """
    linked = linked_runs(batch, mass)
    _, first, n_runs = np.unique(linked.entity, return_index=True, return_counts=True)
    index = np.arange(len(linked))
    n_later = np.repeat(first + n_runs, n_runs) - 1 - index
    left, right = np.repeat(index, n_later), ranges(index + 1, n_later)
    hulls = Candidates(linked.entity[left], linked.start[left], linked.end[right])
    inside = _ranges_inside(linked.entity, linked.start, linked.end, max_words)
    return union(inside, hulls.take(hulls.end - hulls.start <= max_words))


def given(
    batch: EntityBatch,
    spans: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    sub_ranges: bool = False,
    max_words: int = MAX_WORDS,
) -> Candidates:
    """Spans found on the target side, for every entity of their pair; with `sub_ranges` also every part of them.

    spans: row, start, end, arrays of one length in any order; classes play no role, and spans may overlap.
    Longer ones than `max_words` are left out. ValueError if a span is empty or leaves its sentence.

    >>> batch = EntityBatch(n_source=[2], n_target=[4], row=[0, 0], start=[0, 1], end=[1, 2])
    >>> given(batch, ([0], [1], [3])).entity.tolist()
    [0, 1]
    """
    row, start, end = (np.asarray(column, dtype=np.int64) for column in spans)
    if not len(row) == len(start) == len(end):
        raise ValueError(f"row, start and end of the spans differ in length: {len(row)}, {len(start)}, {len(end)}")
    if len(row) and not 0 <= row.min() <= row.max() < batch.n_rows:
        raise ValueError(f"spans of rows {row.min()} to {row.max()}; allowed: 0 to {batch.n_rows - 1}")
    wrong = (start < 0) | (start >= end) | (end > batch.n_target[row])
    if wrong.any():
        which = int(wrong.argmax())
        words = batch.n_target[row[which]]
        raise ValueError(f"span [{start[which]}, {end[which]}) of row {row[which]} is not inside its {words} words")
    order = np.argsort(row, kind="stable")
    n_spans = np.bincount(row, minlength=batch.n_rows)
    first = np.cumsum(n_spans) - n_spans
    entity = np.repeat(np.arange(len(batch)), n_spans[batch.row])
    span = order[ranges(first[batch.row], n_spans[batch.row])]
    if sub_ranges:
        return union(_ranges_inside(entity, start[span], end[span], max_words))
    _check_max_words(max_words)
    found = _int32(entity, start[span], end[span])
    return union(found.take(found.end - found.start <= max_words))


def union(*candidates: Candidates) -> Candidates:
    """All candidates of the sets, sorted, none twice. The columns may also come unsorted and with repetitions."""
    empty = np.zeros(0, dtype=np.int32)
    entity = np.concatenate([empty, *(c.entity for c in candidates)])
    start = np.concatenate([empty, *(c.start for c in candidates)])
    end = np.concatenate([empty, *(c.end for c in candidates)])
    order = np.lexsort((end, start, entity))
    entity, start, end = entity[order], start[order], end[order]
    new = np.ones(len(entity), dtype=np.bool_)
    new[1:] = (np.diff(entity) != 0) | (np.diff(start) != 0) | (np.diff(end) != 0)
    return Candidates(entity[new], start[new], end[new])


def linked_runs(batch: EntityBatch, mass: Ints) -> Candidates:
    """The maximal runs of neighbouring target words with positive `mass` (by cell), for every entity.

    ValueError if `mass` does not have one value per cell.
    """
    n_cells = int(batch.cell_base[-1])
    if mass.shape != (n_cells,):
        raise ValueError(f"mass has the shape {mass.shape}; allowed: one value by cell, ({n_cells},)")
    cells = np.flatnonzero(mass > 0)
    entity = np.searchsorted(batch.cell_base, cells, side="right") - 1
    word = cells - batch.cell_base[entity]
    opens = np.ones(len(cells), dtype=np.bool_)
    opens[1:] = (np.diff(cells) > 1) | (np.diff(entity) > 0)
    closes = np.ones(len(cells), dtype=np.bool_)
    closes[:-1] = opens[1:]
    return _int32(entity[opens], word[opens], word[closes] + 1)


def _ranges_inside(
    entity: NDArray[np.integer], low: NDArray[np.integer], high: NDArray[np.integer], max_words: int
) -> Candidates:
    """Ranges of 1 to `max_words` words inside [low[i], high[i]) for entity[i]; sorted if the areas are and disjoint."""
    _check_max_words(max_words)
    per_area = (high - low).astype(np.int64)
    first = ranges(low.astype(np.int64), per_area)
    per_start = np.minimum(max_words, np.repeat(high, per_area) - first)
    offset = np.cumsum(per_start) - per_start
    end = np.repeat((first + 1 - offset).astype(np.int32), per_start)
    end += np.arange(len(end), dtype=np.int32)
    return Candidates(
        np.repeat(np.repeat(entity.astype(np.int32), per_area), per_start),
        np.repeat(first.astype(np.int32), per_start),
        end,
    )


def _check_max_words(max_words: int) -> None:
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; allowed: 1 or more")


def _int32(entity: NDArray[np.integer], start: NDArray[np.integer], end: NDArray[np.integer]) -> Candidates:
    return Candidates(entity.astype(np.int32), start.astype(np.int32), end.astype(np.int32))
