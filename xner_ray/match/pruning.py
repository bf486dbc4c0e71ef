"""Pruning before an expensive score: which cells (entity, candidate) can still win.

A cell's final score is base + weight x expensive, rounded to 1e-4, with expensive in [0, 1]. So it lies between
lower = base + weight x known (0 if unknown) and upper = base + weight x known (1 if unknown). A cell is out if

1. upper does not exceed `min_score`, so that `scores.fuse` will not offer it; or
2. a cell d of its entity, its rival, has lower(d) > upper, and the cell contains every word of d that cells of other
   entities cover too: d's "busy" words, which range over d's core. Say other entities cover the words 2 and 3 only:

       word    0   1   2   3   4   5
       busy            *   *
       d       [         ]             core [2, 3): a rival of every cell of the entity that contains word 2
       e                       [   ]   no core: a rival of all cells of the entity

Proof of 2, for at most one place per entity: say a best choice holds the cell. It holds no other cell of the entity,
and its cells of other entities touch d at busy words alone, which the cell contains, so they do not touch d. Put d in
the cell's place: the choice stays possible, and its sum grows. So no best choice holds the cell, and to leave it out
changes neither the best choices nor which of them the tie rule takes. Nor the greedy answer: greedy meets d first, and
a choice that keeps it from d overlaps the cell as well. An equal score rules nothing out, because the tie rule decides
ties. Cells may go at once and round after round: each is in no best choice, so it covers no word for others either, and
its rival stays, or the rival of its rival. An entity that has an offered cell keeps one.

The rule contains "d lies inside the cell" and "the entity's cells touch no other entity's". With several places per
entity only the first of these two holds: d overlaps the cell, so it is not yet in the choice. That is the rule with
every word busy, and right for every form of `match`.

Work: cells + words of the entities' hulls x longest cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, ranges
from xner_ray.data.row import SCALE
from xner_ray.match.batch import EntityBatch, stretches
from xner_ray.match.candidates import Candidates

Mask = NDArray[np.bool_]

# Ten-thousandths. Another order of summing may round a score at a half to its other neighbour.
_NOISE = 1e-6
_NEVER = np.iinfo(np.int64).min


def can_win(
    batch: EntityBatch,
    candidates: Candidates,
    base: Floats,
    weight: float,
    known: Floats | None = None,
    *,
    min_score: float = 0.0,
    one_each: bool = True,
) -> Mask:
    """Return whether each candidate can still be chosen, whatever the unknown expensive scores are: bool.

    Matching only these gives the answer of all, exact or greedy.

    base: sum of weight x score over the cheap scores, per candidate, in units of 1, not rounded; may be negative.
    weight: of the expensive score. known: expensive scores in [0, 1], NaN where unknown; None for all unknown.
    min_score: as in `scores.fuse`. one_each: no entity can have two places ("<=1", "<2", "=1").
    ValueError if a length does not fit, base is not finite, weight or min_score is negative, or a known score
    is not in [0, 1].

    >>> from xner_ray.match.candidates import ngrams
    >>> batch = EntityBatch(n_source=[1], n_target=[2], row=[0], start=[0], end=[1])
    >>> can_win(batch, ngrams(batch), np.array([0.9, 0.6, 0.3]), 0.4).tolist()
    [True, True, False]
    """
    if known is None:
        known = np.full(len(candidates), np.nan)
    if not len(base) == len(known) == len(candidates):
        raise ValueError(f"{len(candidates)} candidates, but {len(base)} base and {len(known)} known scores")
    if not (np.isfinite(base).all() and 0 <= weight < np.inf and 0 <= min_score < np.inf):
        raise ValueError("base, weight and min_score must be finite, and the last two not negative")
    if ((known < 0) | (known > 1)).any():
        raise ValueError("a known score is not in 0 to 1")
    unknown = np.isnan(known)
    upper = np.rint((base + weight * np.where(unknown, 1.0, known)) * SCALE + _NOISE).astype(np.int64)
    alive: Mask = upper > round(min_score * SCALE)
    lower = np.rint((base + weight * np.where(unknown, 0.0, known)) * SCALE - _NOISE).astype(np.int64)
    open_ = np.flatnonzero(alive)
    while len(open_):
        beaten = _highest_rival(batch, candidates.take(open_), lower[open_], one_each) > upper[open_]
        alive[open_[beaten]] = False
        # Fewer words are busy now, but only in rows that have lost a cell.
        row = batch.row[candidates.entity[open_]]
        changed = np.zeros(batch.n_rows, dtype=np.bool_)
        changed[row[beaten]] = one_each
        open_ = open_[changed[row] & ~beaten]
    return alive


def best_first(
    batch: EntityBatch,
    candidates: Candidates,
    base: Floats,
    weight: float,
    score: Callable[[NDArray[np.intp]], Floats],
    *,
    first: int = 3,
    min_score: float = 0.0,
    one_each: bool = True,
) -> Floats:
    """Compute the expensive scores of all candidates that can win, in rounds; return them, NaN where not needed.

    Each round computes, for every entity, the cells of highest base that can win and are still unknown: `first` of
    them, and twice as many each time, so there are few rounds, and few cells that an earlier one could have ruled out.
    Candidates with NaN must not be matched.

    score: returns the expensive scores, in [0, 1], of candidates given by ascending indices; never called twice for
    one. The other parameters as in `can_win`. ValueError also if `first` is below 1 or `score` returns another length.
    """
    if first < 1:
        raise ValueError(f"first is {first}; allowed: 1 or more")
    known = np.full(len(candidates), np.nan)
    left = np.arange(len(candidates))  # a cell that is out stays out, and rules out none that no other does
    while True:
        rest = candidates.take(left)
        can = can_win(batch, rest, base[left], weight, known[left], min_score=min_score, one_each=one_each)
        left = left[can]
        wanted = left[np.isnan(known[left])]
        if not len(wanted):
            return known
        wanted = wanted[np.lexsort((-base[wanted], candidates.entity[wanted]))]
        rank = ranges(0, stretches(candidates.entity[wanted])[1])  # among the entity's own
        wanted = np.sort(wanted[rank < first])
        values = score(wanted)
        if values.shape != wanted.shape or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the score of {len(wanted)} candidates has the shape {values.shape} or leaves 0 to 1")
        known[wanted] = values
        first *= 2


def _highest_rival(batch: EntityBatch, cells: Candidates, lower: Ints, one_each: bool) -> Ints:
    """Return, for each cell, the highest `lower` of a cell of its entity whose core it contains; its own counts too.

    cells: sorted by entity, at least one. With several places per entity the core is the whole cell.
    """
    first, size = stretches(cells.entity)
    entity = np.repeat(np.arange(len(first)), size)
    low, high = np.minimum.reduceat(cells.start, first), np.maximum.reduceat(cells.end, first)
    # Number the words of all entities' hulls through.
    hull = (high - low).astype(np.int64)
    offset = np.cumsum(hull) - hull - low
    start, end = offset[entity] + cells.start, offset[entity] + cells.end
    core_start, core_end = start, end
    if one_each:
        core_start, core_end = _cores(_busy(batch, cells.entity[first], low, hull, start, end), start, end)
    coreless = core_end <= core_start
    rival = np.full(len(first), _NEVER)
    np.maximum.at(rival, entity[coreless], lower[coreless])
    has_core = np.flatnonzero(~coreless)
    inside = _highest_inside(core_start[has_core], core_end[has_core], lower[has_core], start, end, int(hull.sum()))
    np.maximum(inside, rival[entity], out=inside)
    return inside


def _cores(busy: Mask, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return the range from the first to the last busy word of each cell; it ends before it starts if there is none."""
    word = np.arange(len(busy))
    following = np.minimum.accumulate(np.where(busy, word, len(busy))[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(busy, word, -1))
    return following[start], preceding[end - 1] + 1


def _highest_inside(own_start: Ints, own_end: Ints, value: Ints, start: Ints, end: Ints, n_words: int) -> Ints:
    """Return the highest value of a range [own_start, own_end) inside each range [start, end); `_NEVER` for none.

    The highest inside [s, s + n) is that of [s, s + n - 1), of [s + 1, s + n), or of its own ranges. So there is one
    step per length n, for all words at once, here with the value 5 of [0, 1) and the value 7 of [1, 3):

        first word s       0   1   2
        n = 1              5   -   -
        n = 2              5   7   -
        n = 3              7

    >>> three = np.array([0, 0, 1]), np.array([2, 3, 2])
    >>> _highest_inside(np.array([0, 1]), np.array([1, 3]), np.array([5, 7]), *three, 3)[:2].tolist()
    [5, 7]
    """
    longest = int((end - start).max())
    own, asked = _by_length(own_end - own_start, longest), _by_length(end - start, longest)
    highest = np.full(n_words + 1, _NEVER)  # by first word
    result = np.empty(len(start), dtype=np.int64)
    for of_length, wanted in zip(own[1:], asked[1:], strict=True):
        np.maximum(highest[:-1], highest[1:], out=highest[:-1])
        np.maximum.at(highest, own_start[of_length], value[of_length])
        result[wanted] = highest[start[wanted]]
    return result


def _busy(
    batch: EntityBatch, entity: NDArray[np.int32], low: NDArray[np.int32], hull: Ints, start: Ints, end: Ints
) -> Mask:
    """Return whether cells of two entities cover each word of the hulls."""
    n_words = int(hull.sum())
    change = np.bincount(start, minlength=n_words + 1) - np.bincount(end, minlength=n_words + 1)
    word = ranges(batch.target_base[batch.row[entity]] + low, hull)
    n_entities = np.bincount(word[np.cumsum(change)[:-1] > 0], minlength=int(batch.target_base[-1]))
    return n_entities[word] > 1


def _by_length(length: Ints, longest: int) -> list[NDArray[np.intp]]:
    """Return the indices of length 0, of length 1, and so on, up to `longest`."""
    counts = np.bincount(length, minlength=longest + 1)
    return np.split(np.argsort(length, kind="stable"), np.cumsum(counts)[:-1])
