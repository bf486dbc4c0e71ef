"""The most probable tags of sentences as sequences: an I-l goes on with an l, and seldom begins one.

A token classifier judges each word alone, and its most probable tags may contradict one another: `B-PER I-ORG` is one
name that falls apart into two wrong entities. Of all sequences of a sentence's tags the one with the largest product of
probabilities is taken, by Viterbi's algorithm, where an I-l (or E-l, L-l) that follows neither a B-l nor an I-l counts
`BEGINS` times. It is not ruled out: classifiers of IOB1 data list every B- and yet begin their entities with I-. The
factor is a compromise of both kinds, chosen on Universal NER's dev files (`docs/tagging.md`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints
from xner_ray.data.row import SCALE

BEGINS = 0.3
# Logarithms as integers, whose sums do not depend on their order, nor on the machine; by probabilities of 1 / SCALE
_UNIT = 2.0**32
_LOG = np.rint(np.log(np.maximum(np.arange(SCALE + 1), 0.5)) * _UNIT).astype(np.int64)


def best_tags(parts: Ints, first: Ints, names: Sequence[str], *, begins: float = BEGINS) -> Ints:
    """Return the number of each word's tag.

    parts: (words, tags), probabilities in units of 1 / SCALE, 0 to SCALE; a 0 counts as half a unit. first: (sentences
    + 1), where each sentence begins and the last one ends. names: of the tags, as in O, B-PER, I-PER. A label without a
    B- among them begins with its I- freely. begins: the factor, above 0 and at most 1. Of equal sums of rounded
    logarithms the one that ends in the first tag wins.

    >>> names = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]  # of two words, a name: ORG by 0.4 * 0.55, PER by 0.5 * 0.4
    >>> parts = np.array([[0, 4000, 1000, 5000, 0], [0, 500, 5500, 0, 4000], [9000, 1000, 0, 0, 0]])
    >>> [names[tag] for tag in best_tags(parts, np.array([0, 3]), names)]
    ['B-ORG', 'I-ORG', 'O']
    """
    n_words, n_tags = parts.shape
    goes_on, price = _before(names), int(np.rint(np.log(begins) * _UNIT))
    sizes = np.diff(first)
    order = np.argsort(-sizes, kind="stable")
    sizes, start = sizes[order], first[:-1][order]
    longest = int(sizes.max(initial=0))
    counts = [int(np.count_nonzero(sizes > place)) for place in range(longest)]  # of sentences with a word there
    came = np.zeros((n_words, n_tags), dtype=np.int16)  # by which tag of the word before each tag is reached best
    total = np.zeros((len(sizes), n_tags), dtype=np.int64)  # by the tag of the word at hand, the largest sum up to it
    for place, count in enumerate(counts):
        before, words = total[:count].copy(), start[:count] + place
        best = before.argmax(axis=1)
        reached = np.repeat(before.max(axis=1)[:, None], n_tags, axis=1)
        came[words] = best[:, None]
        for tag, allowed in goes_on.items():
            reached[:, tag] += price
            if place:
                which = allowed[before[:, allowed].argmax(axis=1)]
                value = before[np.arange(count), which]
                came[words, tag] = np.where(value >= reached[:, tag], which, best)
                reached[:, tag] = np.maximum(value, reached[:, tag])
        total[:count] = reached + _LOG[parts[words]]
    tags: Ints = np.zeros(n_words, dtype=np.int64)
    tag = total.argmax(axis=1)
    for place, count in zip(reversed(range(longest)), reversed(counts), strict=True):
        words = start[:count] + place
        tags[words] = tag[:count]
        tag[:count] = came[words, tag[:count]]
    return tags


def _before(names: Sequence[str]) -> dict[int, NDArray[np.intp]]:
    """Return by tag that goes on with an entity the tags that it goes on from."""
    split = [name.partition("-") for name in names]
    begun = {label for prefix, _, label in split if prefix == "B"}

    def goes_on(label: str) -> NDArray[np.intp]:
        return np.array([n for n, (prefix, _, own) in enumerate(split) if own == label and prefix in ("B", "I")])

    inside = ((n, label) for n, (prefix, _, label) in enumerate(split) if prefix in ("I", "E", "L"))
    return {n: goes_on(label) for n, label in inside if label in begun}
