"""Where an entity begins and ends on the target side: words, links and brackets at a candidate's edges.

- `edges` is the score of boundaries: words at which the run's other spans begin and end (`Prior.edges`), corrected by
  links. A first or last word that belongs to a source word outside the entity counts against a candidate ("comisión
  parlamentaria" for "parliamentary"), as does every word outside that belongs to the entity, unless spans hardly ever
  hold such a word there (an article), and so does a bracket or quotation mark without its other half.
- `shared_heads` gives the head of coordinated names to the name beside which its translation stands: in "Structural
  and Cohesion Funds" the word "Funds" is of the second entity, in "Fondos estructurales y de cohesión" of the first.

A link is as sure as the lesser of its two probabilities (`sure`): one word often draws the forward mass of many words,
or the backward mass, but both only of its translation.

The weights are two constants for all languages, fitted on gold, each corpus left out in turn
(tests/bench/bench_bounds.py): docs/quality.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, ints, offsets, ranges
from xner_ray.data.links import Links
from xner_ray.data.row import SCALE
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates
from xner_ray.match.prior import Words

AGAINST = 1.5
"""What a sure link, half a bracket or an untypical opening takes from `edges`, in which a word's counts give 1/2."""

MISSING = 0.5
"""What a word outside takes that surely belongs to the entity."""

SURE = SCALE // 2
"""The least certainty of a link, in ten-thousandths, by which coordinated names share a head."""

HARDLY = -0.4
"""A word outside whose counts say less than this (`Prior.edges`: under a tenth of its spans) may stay outside."""

_QUOTES = "[\"\u201c\u201d\u201e\u201f\u00ab\u00bb\u301d\u301e\u301f\uff02]|``|''"  # no single ones: apostrophes
_LOW_QUOTES = "[\u201a\u201e\u301d]"  # which Unicode counts as opening brackets
_CLOSING_QUOTES = "[\u301e\u301f]"


@dataclass(frozen=True, eq=False)
class Sure:
    """How surely target words belong to entities, in ten-thousandths, by cell. inside: it; outside: other words."""

    inside: Ints
    outside: Ints


def sure(batch: EntityBatch, links: Links, owner: Ints) -> Sure:
    """Return the sum of the links' certainties, from the entity and from other words. owner: entity of each link."""
    lesser = np.minimum(links.forward, links.backward)
    certain = np.flatnonzero(lesser)
    values, target = np.rint(lesser[certain] * float(SCALE)), links.target[certain]
    word = batch.target_base[links.row[certain]] + target
    total = np.bincount(word, weights=values, minlength=int(batch.target_base[-1])).astype(np.int64)
    entity = owner[certain]
    own = entity >= 0
    cell = batch.cell_base[entity[own]] + target[own]
    inside = np.bincount(cell, weights=values[own], minlength=int(batch.cell_base[-1])).astype(np.int64)
    return Sure(inside, total[ranges(batch.target_base[batch.row], batch.words)] - inside)


def edges(
    batch: EntityBatch, candidates: Candidates, left: Floats, right: Floats, sides: Sure, cut: NDArray[np.bool_]
) -> Floats:
    """Return how well a candidate's boundaries fit: float64, at most 2.

        left[first] - left[before] + right[last] - right[after]
        - AGAINST (out[first] + out[last] + cut) - MISSING (sum of in[w] over all words w outside)

    left, right: for each of all target words, the probability that it is the first word of a span rather than the one
    before it, and the last rather than the one after it, less 1/2 (`Prior.edges`). A sentence's border counts 0.
    out: the certainty that the word belongs to other words (`sides`) less that it belongs to the entity, at least 0;
    in: that it belongs to the entity, 0 if its `left`, of a word to the left, or its `right` is below `HARDLY`. cut:
    whether the candidate splits a pair of brackets (`cuts`).
    """
    word = ranges(batch.target_base[batch.row], batch.words)  # of each cell
    left, right = left[word], right[word]
    foreign = np.maximum(sides.outside - sides.inside, 0) * (AGAINST / SCALE)
    first, last = left - foreign, right - foreign
    # Sums of whole numbers, so that no other row of the batch moves the last bit.
    to_left, to_right = (offsets(sides.inside * (side >= HARDLY)) for side in (left, right))
    base, words = batch.cell_base[candidates.entity], batch.words[candidates.entity]
    start, end = base + candidates.start, base + candidates.end
    missing = to_left[start] - to_left[base] + to_right[base + words] - to_right[end]
    result: Floats = first[start] + last[end - 1]
    result -= np.where(candidates.start > 0, left[np.maximum(start - 1, 0)], 0.0)
    result -= np.where(candidates.end < words, right[np.minimum(end, len(right) - 1)], 0.0)
    result -= AGAINST * cut + missing * (MISSING / SCALE)
    return result


def cuts(batch: EntityBatch, candidates: Candidates, source: Words, target: Words) -> NDArray[np.bool_]:
    """Return whether a candidate holds one half of a pair of brackets or double quotation marks, not so its entity.

    Brackets of any kind close one another; any two quotation marks are a pair, since languages disagree on which of
    them opens.
    """
    marks = _marks(target)
    if marks is None:
        return np.zeros(len(candidates), dtype=np.bool_)
    base = batch.target_base[batch.row][candidates.entity]
    found: NDArray[np.bool_] = marks[base + candidates.start] != marks[base + candidates.end]
    if found.any() and (marks := _marks(source)) is not None:
        base = batch.source_base[batch.row]
        whole = marks[base + batch.start] == marks[base + batch.end]
        found &= whole[candidates.entity]
    return found


def _marks(words: Words) -> Ints | None:
    """Return how many brackets are open before each of all words and the end, doubled, plus 1 inside quotation marks.

    None if there is no such mark at all.
    """
    odd = pc.indices_nonzero(pc.invert(pc.utf8_is_alnum(words.distinct)))
    some = words.distinct.take(odd)

    def number(pattern: str) -> Ints:
        return ints(pc.count_substring_regex(some, pattern))

    quotes = number(_QUOTES)
    depth = number(r"\p{Ps}") - number(_LOW_QUOTES) - number(r"\p{Pe}") + number(_CLOSING_QUOTES)
    if not quotes.any() and not depth.any():
        return None
    both = np.zeros((2, len(words.distinct)), dtype=np.int64)
    both[:, odd.to_numpy().astype(np.int64)] = depth, quotes
    of_depth, of_quotes = (offsets(each[words.word]) for each in both)
    return 2 * of_depth + of_quotes % 2


def shared_heads(batch: EntityBatch, links: Links, labels: pa.Array) -> tuple[Ints, Ints]:
    """Return the links that change hands between coordinated names: their indices, and their new entities.

    Two entities of one label with one word between them are coordinated. The head is the last word of the second if it
    has several, or the first word of the first. A sure link of it goes to the other entity if its target word stands
    beside a word that is surely linked to that one, and neither is nor stands beside one of its own entity's other
    words, which must have some.
    """
    label = labels.dictionary_encode().indices.to_numpy()
    left = np.flatnonzero(
        (np.diff(batch.row) == 0) & (batch.start[1:] == batch.end[:-1] + 1) & (label[1:] == label[:-1])
    )
    giver = np.concatenate([left + 1, left])
    taker = np.concatenate([left, left + 1])
    is_second = np.arange(len(giver)) < len(left)
    several = batch.length[giver] > 1
    giver, taker, is_second = giver[several], taker[several], is_second[several]
    if not len(giver):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    head = np.where(is_second, batch.end[giver] - 1, batch.start[giver])
    rest = batch.start[giver] + ~is_second, batch.end[giver] - is_second

    certain = np.minimum(links.forward, links.backward) * float(SCALE) >= SURE
    index = np.flatnonzero(certain)
    n_source = 1 + int(batch.n_source.max(initial=0))
    source = links.row[index].astype(np.int64) * n_source + links.source[index]  # ascending
    target = links.target[index].astype(np.int64)
    wide = 3 + int(batch.n_target.max(initial=0))

    def of(start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Return (pair * wide + target word + 1, link) of the sure links from these source words of each pair."""
        row = batch.row[giver] * n_source
        first, beyond = (np.searchsorted(source, row + at) for at in (start, end))
        link = ranges(first, beyond - first)
        return np.repeat(np.arange(len(giver)), beyond - first) * wide + target[link] + 1, link

    own, _ = of(*rest)
    other, _ = of(batch.start[taker], batch.end[taker])
    key, link = of(head, head + 1)

    def near(keys: Ints) -> NDArray[np.bool_]:
        return np.isin(key - 1, keys) | np.isin(key + 1, keys)

    moves = near(other) & ~near(own) & ~np.isin(key, own) & ~np.isin(key, other) & np.isin(key // wide, own // wide)
    return index[link[moves]], taker[key[moves] // wide]
