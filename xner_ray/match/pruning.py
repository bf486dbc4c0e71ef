"""Which cells (entity, candidate) are worth an expensive score: those that can still win.

A cell's final score is base + weight x expensive, rounded to 1e-4, with expensive in [0, 1]. So it lies between
lower = base + weight x known (0 if unknown) and upper = base + weight x known (1 if unknown). A cell is out if

1. upper does not exceed `min_score`: `scores.fuse` will not offer it; or
2. a cell d of its entity has lower(d) > upper, and every word of d that cells of other entities cover too (d's
   "busy" words) lies in the cell.

Proof of 2, for at most one place per entity: say a best choice holds the cell. It holds no other cell of the entity,
and what it holds of other entities touches d at busy words alone, which lie in the cell, so it does not touch d. Put d
in the cell's place: the choice stays possible, and its sum grows. So no best choice holds the cell, and to leave
it out changes neither the best choices nor which of them the tie rule takes. Nor the greedy answer: greedy meets d
first, and a choice that keeps it from d overlaps the cell as well. An equal score rules nothing out, because ties
are the tie rule's. Cells may go at once and round after round: each is in no best choice, so it covers no word for
others either, and who ruled it out, or who ruled that one out in turn, stays. An entity that has an offered cell
keeps one.

The rule contains "d lies inside the cell" and "the entity's cells touch no other entity's". With several places
per entity only the first of these two holds: d overlaps the cell, so it is not yet in the choice. That is the rule
with every word busy, and right for every form of `match`.

Inside an interval [s, s + n), the highest `lower` is that of [s, s + n - 1), of [s + 1, s + n), or of its own: one pass
over the lengths, each over all words of the batch at once. Work: cells + words of the cells' hulls x longest cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.row import SCALE
from xner_ray.match.batch import EntityBatch, Ints, ranges
from xner_ray.match.candidates import Candidates
from xner_ray.match.scores import Floats

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
    """Whether each candidate can still be chosen, whatever the unknown expensive scores turn out to be: bool.

    To match only these gives the answer of all, exact or greedy. Needed next are those of them that are not `known`.

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
) -> tuple[Floats, Mask]:
    """The expensive scores of all candidates that can win, in rounds: float64 by candidate, and which are computed.

    Each round computes, of every entity, the cells of highest base that can win and are still unknown: `first` of them,
    and twice as many each time, so there are few rounds, and few cells that an earlier one could have ruled out.
    Candidates without a computed score have 0, and must not be matched: they could win on that only by mistake.

    score: the expensive scores, in [0, 1], of candidates given by ascending indices; never called twice for one.
    The rest as in `can_win`. ValueError also if `first` is below 1 or `score` gives another length.
    """
    if first < 1:
        raise ValueError(f"first is {first}; allowed: 1 or more")
    known = np.full(len(candidates), np.nan)
    left = np.arange(len(candidates))  # who is out stays out, and rules out nobody whom no one else does
    while True:
        rest = candidates.take(left)
        can = can_win(batch, rest, base[left], weight, known[left], min_score=min_score, one_each=one_each)
        left = left[can]
        wanted = left[np.isnan(known[left])]
        if not len(wanted):
            return np.nan_to_num(known), ~np.isnan(known)
        wanted = wanted[np.lexsort((-base[wanted], candidates.entity[wanted]))]
        begins = np.flatnonzero(np.diff(candidates.entity[wanted], prepend=-1))
        rank = ranges(np.zeros_like(begins), np.diff(begins, append=len(wanted)))
        wanted = np.sort(wanted[rank < first])
        values = score(wanted)
        if values.shape != wanted.shape or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the score of {len(wanted)} candidates has the shape {values.shape} or leaves 0 to 1")
        known[wanted] = values
        first *= 2


def _highest_rival(batch: EntityBatch, cells: Candidates, lower: Ints, one_each: bool) -> Ints:
    """The highest `lower` of a cell of the same entity whose busy words lie in the cell; its own counts too."""
    begins = np.flatnonzero(np.diff(cells.entity, prepend=-1))
    group = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(cells)))
    low, high = np.minimum.reduceat(cells.start, begins), np.maximum.reduceat(cells.end, begins)
    # The words of all hulls, numbered through
    hull = (high - low).astype(np.int64)
    offset = np.cumsum(hull) - hull - low
    start, end = offset[group] + cells.start, offset[group] + cells.end
    first, length = start, end - start
    if one_each:
        busy = _busy(batch, cells.entity[begins], low, hull, start, end)
        place = np.arange(len(busy))
        following = np.minimum.accumulate(np.where(busy, place, len(busy))[::-1])[::-1]
        preceding = np.maximum.accumulate(np.where(busy, place, -1))
        first = following[start]
        core = np.maximum(preceding[end - 1] + 1 - first, 0)
    else:
        core = length
    free = np.full(len(begins), _NEVER)  # the highest of the cells without busy words, for every cell of the entity
    np.maximum.at(free, group[core == 0], lower[core == 0])
    rival = free[group]
    longest = int(length.max())
    by_core, by_length = _by_length(core, longest), _by_length(length, longest)
    inside = np.full(int(hull.sum()) + 1, _NEVER)  # by first word: the highest within the next n words
    for own, asked in zip(by_core[1:], by_length[1:], strict=True):
        np.maximum(inside[:-1], inside[1:], out=inside[:-1])
        np.maximum.at(inside, first[own], lower[own])
        rival[asked] = np.maximum(rival[asked], inside[start[asked]])
    return rival


def _busy(
    batch: EntityBatch, entity: NDArray[np.int32], low: NDArray[np.int32], hull: Ints, start: Ints, end: Ints
) -> Mask:
    """Of all words of the hulls, whether cells of two entities cover them."""
    n_words = int(hull.sum())
    change = np.bincount(start, minlength=n_words + 1) - np.bincount(end, minlength=n_words + 1)
    word = ranges(batch.target_base[batch.row[entity]] + low, hull)
    n_entities = np.bincount(word[np.cumsum(change)[:-1] > 0], minlength=int(batch.target_base[-1]))
    busy: Mask = n_entities[word] > 1
    return busy


def _by_length(length: Ints, longest: int) -> list[NDArray[np.intp]]:
    """The indices of length 0, of length 1, and so on, up to `longest`."""
    counts = np.bincount(length, minlength=longest + 1)
    return np.split(np.argsort(length, kind="stable"), np.cumsum(counts)[:-1])
