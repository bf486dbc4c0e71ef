"""Target spans that entities may be projected onto, for many sentence pairs at once (method.md 4.2).

`ngrams`: every range of 1 to `max_words` target words. `windows`: only those between the first and the last target
word linked to the entity. `runs`: runs of linked words with their sub-ranges, and their pairwise hulls. `given`: spans
that a tagger found on the target side. `union` joins sets. For one entity and links to the words 1 and 3 of 4:

    target word    0   1   2   3        windows  [1, 2) [1, 3) [1, 4) [2, 3) [2, 4) [3, 4)
    links              *       *        runs     [1, 2) [1, 4) [3, 4)

Windows lose nothing if the score is (mass inside the candidate) / (|s| + |t|) and that same mass made the window:
clipping a candidate to the window keeps its mass, shortens it, keeps it non-empty and makes no new overlap. So the
optimum is the same, under upper and under lower limits of projections per entity alike, because `scores.fuse` never
offers cells without a positive score. It is not the same for a score of other mass (a window of hard links under soft
scores), nor for one that can punish the clipped candidate (boundaries): give these a `margin`, or n-grams.

No token is forbidden: "Yahoo !" is a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xner_ray.data.arrow import Ints, ranges
from xner_ray.match.batch import EntityBatch, stretches

MAX_WORDS = 30


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Half-open ranges of target words, sorted by entity, start and end, none twice: int32 arrays of one length.

    entity: counts through all pairs of the batch. start, end: words of that entity's own pair.
    """

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return some of them, by mask or indices."""
        return type(self)(*(getattr(self, name)[index] for name in self.__match_args__))


def ngrams(batch: EntityBatch, *, max_words: int = MAX_WORDS) -> Candidates:
    """Return every range of 1 to `max_words` words for every entity: sum of min(max_words, n_words - i) over words i.

    ValueError if `max_words` is below 1.

    >>> len(ngrams(EntityBatch(n_source=[3], n_target=[25], row=[0], start=[0], end=[2]), max_words=10))
    205
    """
    entity = np.arange(len(batch))
    return _ranges_inside(entity, np.zeros_like(entity), batch.words, max_words)


def windows(batch: EntityBatch, mass: Ints, *, max_words: int = MAX_WORDS, margin: int = 0) -> Candidates:
    """Return the ranges of 1 to `max_words` words between an entity's first and last linked word.

    mass: whole numbers by cell, positive where a word is linked (`EntityBatch.spread`); an entity without links has no
    candidate. margin: number of words by which the window is widened on both sides.
    ValueError if `max_words` is below 1, `margin` is negative or `mass` has another shape.

    >>> batch = EntityBatch(n_source=[1], n_target=[4], row=[0], start=[0], end=[1])
    >>> windows(batch, np.array([0, 1, 0, 1]), max_words=2).start.tolist()
    [1, 1, 2, 2, 3]
    """
    if margin < 0:
        raise ValueError(f"margin is {margin}; allowed: 0 or more")
    linked = linked_runs(batch, mass)
    first, n_runs = stretches(linked.entity)
    entity = linked.entity[first]
    low = np.maximum(linked.start[first] - margin, 0)
    high = np.minimum(linked.end[first + n_runs - 1] + margin, batch.words[entity])
    return _ranges_inside(entity, low, high, max_words)


def runs(batch: EntityBatch, mass: Ints, *, max_words: int = MAX_WORDS) -> Candidates:
    """Return every run of linked words, its sub-ranges, and every hull from one run's start to a later one's end.

    The thesis calls them "aligned_ngrams". Ranges of more than `max_words` are left out. Errors as in `windows`.

    >>> batch = EntityBatch(n_source=[1], n_target=[4], row=[0], start=[0], end=[1])
    >>> found = runs(batch, np.array([1, 0, 2, 1]))
    >>> list(zip(found.start.tolist(), found.end.tolist()))
    [(0, 1), (0, 4), (2, 3), (2, 4), (3, 4)]
    """
    linked = linked_runs(batch, mass)
    first, n_runs = stretches(linked.entity)
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
    """Return spans found on the target side, for every entity of their pair; with `sub_ranges` also their parts.

    spans: row, start, end, arrays of one length in any order; classes play no role, and spans may overlap.
    Ranges of more than `max_words` are left out. ValueError if a span is empty or leaves its sentence.

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
    """Return the candidates of all sets, sorted, none twice; the sets may be unsorted and have repetitions."""
    entity, start, end = (
        np.concatenate([np.zeros(0, dtype=np.int32), *(getattr(each, name) for each in candidates)])
        for name in Candidates.__match_args__
    )
    found = Candidates(entity, start, end).take(np.lexsort((end, start, entity)))
    new = [np.diff(column, prepend=-1) != 0 for column in (found.entity, found.start, found.end)]
    return found.take(np.any(new, axis=0))


def linked_runs(batch: EntityBatch, mass: Ints) -> Candidates:
    """Return every entity's maximal runs of neighbouring target words with positive `mass` (by cell).

    ValueError if `mass` does not have one value per cell.
    """
    n_cells = int(batch.cell_base[-1])
    if mass.shape != (n_cells,):
        raise ValueError(f"mass has the shape {mass.shape}; allowed: one value by cell, ({n_cells},)")
    cells = np.flatnonzero(mass > 0)
    entity = np.searchsorted(batch.cell_base, cells, side="right") - 1
    word = cells - batch.cell_base[entity]
    opens = (np.diff(cells, prepend=-2) > 1) | (np.diff(entity, prepend=-1) > 0)
    closes = np.roll(opens, -1)  # the first cell always opens a run
    return _int32(entity[opens], word[opens], word[closes] + 1)


def _ranges_inside(
    entity: NDArray[np.integer], low: NDArray[np.integer], high: NDArray[np.integer], max_words: int
) -> Candidates:
    """Return the ranges of 1 to `max_words` words in [low[i], high[i]) for entity[i]; sorted if these areas are."""
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
