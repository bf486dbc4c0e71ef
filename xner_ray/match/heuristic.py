"""The word-to-word baseline: label the runs of target words that are linked to an entity (method.md 2).

1. The target words linked to any word of the entity form maximal runs.
2. Neighbouring runs with at most `gap` words between them are merged; the words between are absorbed.
3. A run stays if its words / the entity's words is above `ratio`, and then only the `top_k` longest of them.
4. Every run that is left is a projection, so one entity may be projected several times, unless runs of different
   entities share words: then `order` and `collision` decide.

The settings that the paper's runs had are the defaults. Where texts and reference codes contradict each other
(method.md 6.2, 6.3), and what is done here:

- Collisions: the thesis says the longest wins ("longest"), its code gives way to whoever came first ("first", with
  `order="shortest"`), the paper's code lets later entities overwrite earlier ones ("last"). All three can be chosen.
- Overwriting leaves orphan tags in the paper's code (B-ORG B-PER I-ORG). A bug, not to be had: here the earlier run
  keeps the words from its first one up to the overwritten ones, which are those under its own B- tag; words beyond
  are lost, and so is all of a run whose first word is overwritten. Nothing checks the ratio again.
- `top_k`: the text says the longest, the code keeps the shortest. Here the longest; of equal ones the leftmost.
- Ratio: the text's formula counts closed ranges, both codes words. Here words; strictly above, as in both codes.
- Order of entities: the text has that of the sentence, the thesis's code the shortest first. Both can be chosen.
- Errors are raised: the paper's code turns a sentence that raises into one without entities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.links import Links
from xner_ray.errors import Loss
from xner_ray.match.batch import EntityBatch, Ints, ranges
from xner_ray.match.candidates import Candidates, linked_runs

Order = Literal["given", "shortest", "longest"]
Collision = Literal["last", "first", "longest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the baseline does; the defaults are the paper's. ValueError if a value is not allowed.

    gap: most words between two runs that are merged. ratio: a run's words / the entity's must be above it; None for
    no such test. top_k: most runs per entity; None for all. only_first: do not merge a run whose first word is linked
    to the entity's first word, which looks like a second mention (the thesis's "only_i").
    order: entities as given, or by their source words; equal ones as given.
    collision: where runs share a word, the later entity overwrites ("last"); a run that touches a word of an earlier
    one is left out ("first"); the same, but the run with more target words goes before ("longest").
    """

    gap: int = 1
    ratio: float | None = 0.8
    top_k: int | None = None
    only_first: bool = False
    order: Order = "given"
    collision: Collision = "last"

    def __post_init__(self) -> None:
        if self.gap < 0:
            raise ValueError(f"gap is {self.gap}; allowed: 0 or more")
        if self.ratio is not None and not 0 <= self.ratio < np.inf:
            raise ValueError(f"ratio is {self.ratio}; allowed: 0 or more, or None")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; allowed: 1 or more, or None")
        for name, value, allowed in (("order", self.order, Order), ("collision", self.collision, Collision)):
            if value not in get_args(allowed):
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(get_args(allowed))}")


PAPER = Settings()


@dataclass(frozen=True, eq=False, slots=True)
class Projected:
    """Projections of many sentence pairs, none overlapping another of its pair.

    entity, start, end: int32, sorted by entity, then start; half-open ranges of target words of the entity's pair.
    unprojected: the entities without one, ascending. reasons: why, one each: NO_CANDIDATE if no word is linked or no
    run is long enough, OVERLAP if all that were lost their words to others.
    """

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    unprojected: NDArray[np.int32]
    reasons: list[Loss]

    def __len__(self) -> int:
        return len(self.entity)


def project(batch: EntityBatch, links: Links, settings: Settings = PAPER) -> Projected:
    """Projections by the heuristic. All `links` count, so give those of one method: `links.hard("itermax")`.

    ValueError if a link leaves the words of its pair.

    >>> from xner_ray.data.links import Links
    >>> word, one = np.array([0, 1]), np.ones(2)
    >>> links = Links(0 * word, word, 2 * word, one, one, one, one)  # words 0-0 and 1-2
    >>> found = project(EntityBatch(n_source=[2], n_target=[4], row=[0], start=[0], end=[2]), links)
    >>> found.start.tolist(), found.end.tolist()
    ([0], [3])
    """
    runs = _long_enough(batch, _merged(batch, links, settings), settings)
    rank = _rank(batch, runs, settings)
    settle = _overwritten if settings.collision == "last" else _first_come
    left = settle(batch, runs, rank)
    n_runs, n_left = (np.bincount(found.entity, minlength=len(batch)) for found in (runs, left))
    unprojected = np.flatnonzero(n_left == 0)
    reasons = [Loss.OVERLAP if had else Loss.NO_CANDIDATE for had in n_runs[unprojected] > 0]
    return Projected(left.entity, left.start, left.end, unprojected.astype(np.int32), reasons)


def _merged(batch: EntityBatch, links: Links, settings: Settings) -> Candidates:
    """Runs of linked words, with small gaps closed."""
    ones = np.ones(len(links), dtype=np.int64)
    runs = linked_runs(batch, batch.spread(links, ones))
    opens = np.ones(len(runs), dtype=np.bool_)
    opens[1:] = (np.diff(runs.entity) > 0) | (runs.start[1:] - runs.end[:-1] > settings.gap)
    if settings.only_first:
        opens_entity = np.zeros(int(batch.source_base[-1]), dtype=np.bool_)
        opens_entity[batch.source_base[batch.row] + batch.start] = True
        is_first = opens_entity[batch.source_base[links.row] + links.source]
        of_first = batch.spread(links.take(is_first), ones[is_first])
        opens |= of_first[batch.cell_base[runs.entity] + runs.start] > 0
    closes = np.ones(len(runs), dtype=np.bool_)
    closes[:-1] = opens[1:]
    return Candidates(runs.entity[opens], runs.start[opens], runs.end[closes])


def _long_enough(batch: EntityBatch, runs: Candidates, settings: Settings) -> Candidates:
    if settings.ratio is not None:
        # Divided, not multiplied: 4 / 5 is the double 0.8, whatever the threshold's spelling.
        runs = runs.take((runs.end - runs.start) / batch.length[runs.entity] > settings.ratio)
    if settings.top_k is not None:
        longest = np.lexsort((runs.start, runs.start - runs.end, runs.entity))
        _, first, n_runs = np.unique(runs.entity, return_index=True, return_counts=True)
        place = np.arange(len(runs)) - np.repeat(first, n_runs)  # among the entity's own
        runs = runs.take(np.sort(longest[place < settings.top_k]))
    return runs


def _rank(batch: EntityBatch, runs: Candidates, settings: Settings) -> Ints:
    """The place of every run in the order in which they are labelled; between pairs it means nothing."""
    words = batch.length[runs.entity]
    by_entity = {"given": 0 * words, "shortest": words, "longest": -words}[settings.order]
    by_run = runs.start - runs.end if settings.collision == "longest" else 0 * runs.start
    rank = np.empty(len(runs), dtype=np.int64)
    rank[np.lexsort((runs.start, runs.entity, by_entity, by_run))] = np.arange(len(runs))
    return rank


def _overwritten(batch: EntityBatch, runs: Candidates, rank: Ints) -> Candidates:
    """Every run up to the first of its words that a run of higher rank has."""
    length = (runs.end - runs.start).astype(np.int64)
    word = ranges(batch.target_base[batch.row[runs.entity]] + runs.start, length)
    owner = np.full(int(batch.target_base[-1]), -1, dtype=np.int64)
    np.maximum.at(owner, word, np.repeat(rank, length))
    position = ranges(np.zeros_like(length), length)
    lost = np.where(owner[word] == np.repeat(rank, length), np.repeat(length, length), position)
    kept = np.minimum.reduceat(lost, np.cumsum(length) - length) if len(runs) else length
    cut = Candidates(runs.entity, runs.start, (runs.start + kept).astype(np.int32))
    return cut.take(kept > 0)


def _first_come(batch: EntityBatch, runs: Candidates, rank: Ints) -> Candidates:
    """The runs that touch no word of one taken before, in the order of their rank."""
    base = batch.target_base[batch.row[runs.entity]]
    first, last = base + runs.start, base + runs.end
    taken, kept = bytearray(int(batch.target_base[-1])), np.zeros(len(runs), dtype=np.bool_)
    for run in np.argsort(rank).tolist():
        words = slice(int(first[run]), int(last[run]))
        if not any(taken[words]):
            taken[words] = b"\1" * (words.stop - words.start)
            kept[run] = True
    return runs.take(kept)
