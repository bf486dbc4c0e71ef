"""The word-to-word baseline: project an entity onto the runs of target words linked to it (method.md 2).

1. The target words linked to any word of the entity form maximal runs.
2. Neighbouring runs with at most `gap` words between them are merged, these words included.
3. A run stays if its words / the entity's words exceed `ratio`, and then only the `top_k` longest runs stay.
4. Every remaining run is a projection, so one entity may be projected several times, unless runs of different
   entities share words: then `order` and `collision` decide.

Choices where the texts and reference codes contradict each other (method.md 6.2, 6.3):

- Collisions: in the thesis's text the longest run wins ("longest"), in its code the first one ("first", with
  `order="shortest"`); in the paper's code later entities overwrite earlier ones ("last").
- Overwriting leaves orphan tags in the paper's code (B-ORG B-PER I-ORG). That is a bug, and not reproduced: here the
  earlier run keeps its words up to the first overwritten one, those under its own B- tag; the words beyond are lost,
  and so is a run whose first word is overwritten. The ratio is not tested again.
- `top_k`: the text keeps the longest runs, the code the shortest. Here the longest; of equal ones the leftmost.
- Ratio: the text's formula counts closed ranges, both codes count words. Here words; strictly above, as in both codes.
- Order of entities: that of the sentence in the text, the shortest first in the thesis's code.
- Errors are raised: the paper's code turns a sentence that raises into one without entities.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from xner_ray.data.arrow import Ints, ranges
from xner_ray.data.links import Links
from xner_ray.errors import Loss
from xner_ray.match.batch import EntityBatch, stretches
from xner_ray.match.candidates import Candidates, linked_runs

Order = Literal["given", "shortest", "longest"]
Collision = Literal["last", "first", "longest"]


def project(
    batch: EntityBatch,
    links: Links,
    *,
    gap: int = 1,
    ratio: float | None = 0.8,
    top_k: int | None = None,
    only_first: bool = False,
    order: Order = "given",
    collision: Collision = "last",
) -> tuple[Candidates, list[tuple[int, Loss]]]:
    """Return the projections, and every entity without one with the reason; no two projections of a pair overlap.

    All `links` count, so give those of one method: `links.hard("itermax")`. The defaults are those of the paper's runs.

    gap: the most words between two runs that are merged.
    ratio: what a run's words / the entity's must exceed; None for no such test.
    top_k: the most runs per entity; None for all.
    only_first: do not merge a run whose first word is linked to the entity's first word, as this looks like a second
    mention (the thesis's "only_i").
    order: entities as given, or by number of source words; equal ones as given.
    collision: where runs share a word, the later entity overwrites ("last"), or a run that touches a word of an
    earlier one is left out ("first"), or the same with runs of more target words first ("longest").

    The reason is NO_CANDIDATE if no word is linked or no run is long enough, OVERLAP if all runs lost their words to
    others. ValueError if a link leaves the words of its pair.

    >>> from xner_ray.data.links import Links
    >>> word, one = np.array([0, 1]), np.ones(2)
    >>> links = Links(0 * word, word, 2 * word, one, one, one, one)  # words 0-0 and 1-2
    >>> found, _ = project(EntityBatch(n_source=[2], n_target=[4], row=[0], start=[0], end=[2]), links)
    >>> found.start.tolist(), found.end.tolist()
    ([0], [3])
    """
    runs = _long_enough(batch, _merged(batch, links, gap, only_first), ratio, top_k)
    settle = _overwritten if collision == "last" else _first_come
    kept = settle(batch, runs, _rank(batch, runs, order, longest_first=collision == "longest"))
    lost = np.setdiff1d(np.arange(len(batch)), kept.entity)
    had_runs = np.isin(lost, runs.entity).tolist()
    reasons = [Loss.OVERLAP if had else Loss.NO_CANDIDATE for had in had_runs]
    return kept, list(zip(lost.tolist(), reasons, strict=True))


def _merged(batch: EntityBatch, links: Links, gap: int, only_first: bool) -> Candidates:
    """Return the runs of linked words, with small gaps closed."""
    ones = np.ones(len(links), dtype=np.int64)
    runs = linked_runs(batch, batch.spread(links, ones))
    opens = np.diff(runs.entity, prepend=-1) > 0
    opens[1:] |= runs.start[1:] - runs.end[:-1] > gap
    if only_first:
        opens_entity = np.zeros(int(batch.source_base[-1]), dtype=np.bool_)
        opens_entity[batch.source_base[batch.row] + batch.start] = True
        is_first = opens_entity[batch.source_base[links.row] + links.source]
        of_first = batch.spread(links.take(is_first), ones[is_first])
        opens |= of_first[batch.cell_base[runs.entity] + runs.start] > 0
    return Candidates(runs.entity[opens], runs.start[opens], runs.end[np.roll(opens, -1)])


def _long_enough(batch: EntityBatch, runs: Candidates, ratio: float | None, top_k: int | None) -> Candidates:
    """Return the runs that `ratio` and `top_k` leave."""
    if ratio is not None:
        # Divide, do not multiply: 4 / 5 is the double 0.8, however the threshold is spelt.
        runs = runs.take((runs.end - runs.start) / batch.length[runs.entity] > ratio)
    if top_k is not None:
        longest = np.lexsort((runs.start, runs.start - runs.end, runs.entity))
        place = ranges(0, stretches(runs.entity)[1])  # among the entity's own
        runs = runs.take(np.sort(longest[place < top_k]))
    return runs


def _rank(batch: EntityBatch, runs: Candidates, order: Order, *, longest_first: bool) -> Ints:
    """Return the place of every run in the order of labelling; it means nothing between pairs."""
    words = batch.length[runs.entity]
    by_entity = {"given": 0 * words, "shortest": words, "longest": -words}[order]
    by_run = runs.start - runs.end if longest_first else 0 * runs.start
    rank = np.empty(len(runs), dtype=np.int64)
    rank[np.lexsort((runs.start, runs.entity, by_entity, by_run))] = np.arange(len(runs))
    return rank


def _overwritten(batch: EntityBatch, runs: Candidates, rank: Ints) -> Candidates:
    """Return every run up to its first word that a run of higher rank has."""
    length = (runs.end - runs.start).astype(np.int64)
    word = ranges(batch.target_base[batch.row[runs.entity]] + runs.start, length)
    owner = np.full(int(batch.target_base[-1]), -1, dtype=np.int64)
    np.maximum.at(owner, word, np.repeat(rank, length))
    lost = np.where(owner[word] == np.repeat(rank, length), np.repeat(length, length), ranges(0, length))
    kept = np.minimum.reduceat(lost, np.cumsum(length) - length)
    cut = Candidates(runs.entity, runs.start, (runs.start + kept).astype(np.int32))
    return cut.take(kept > 0)


def _first_come(batch: EntityBatch, runs: Candidates, rank: Ints) -> Candidates:
    """Take runs in the order of their rank, if they touch no word of one taken before."""
    base = batch.target_base[batch.row[runs.entity]]
    first, last = base + runs.start, base + runs.end
    taken, kept = bytearray(int(batch.target_base[-1])), np.zeros(len(runs), dtype=np.bool_)
    for run in np.argsort(rank).tolist():
        words = slice(int(first[run]), int(last[run]))
        if not any(taken[words]):
            taken[words] = b"\1" * (words.stop - words.start)
            kept[run] = True
    return runs.take(kept)
