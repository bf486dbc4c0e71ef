"""The most probable tags of sentences that are tags: no I-l where no l goes on.

A token classifier judges each word alone, and its most probable tags may contradict one another: `B-PER I-ORG` is one
name that falls apart into two wrong entities. Of all sequences of a sentence's tags in which an I-l follows a B-l or an
I-l, the one with the largest product of probabilities is taken, by Viterbi's algorithm. Where the most probable tags
are such a sequence, they are the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints
from xner_ray.data.row import SCALE

# By a probability in units of 1 / SCALE; a table, since a library's logarithm may depend on where in an array it is
_LOG = np.log(np.maximum(np.arange(SCALE + 1), 0.5))


def best_tags(parts: Ints, first: Ints, names: Sequence[str]) -> Ints:
    """Return the number of each word's tag.

    parts: (words, tags), probabilities in units of 1 / SCALE, 0 to SCALE; a 0 counts as half a unit. first: (sentences
    + 1), where each sentence begins and the last one ends. names: of the tags, as in O, B-PER, I-PER; E- and L- are as
    I-. A label without a B- among them may begin with its I-. The first wins ties.

    >>> names = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]  # of two words, a name: PER by 0.5 * 0.4, ORG by 0.4 * 0.5
    >>> parts = np.array([[0, 4000, 1000, 5000, 0], [0, 500, 5500, 0, 4000], [9000, 1000, 0, 0, 0]])
    >>> [names[tag] for tag in best_tags(parts, np.array([0, 3]), names)]
    ['B-ORG', 'I-ORG', 'O']
    """
    n_words, n_tags = parts.shape
    before = _before(names)
    sizes = np.diff(first)
    order = np.argsort(-sizes, kind="stable")
    sizes, start = sizes[order], first[:-1][order]
    longest = int(sizes.max(initial=0))
    counts = [int(np.count_nonzero(sizes > place)) for place in range(longest)]  # of sentences with a word there
    came = np.zeros((n_words, n_tags), dtype=np.int16)  # by which tag of the word before each tag is reached best
    total = np.zeros((len(sizes), n_tags))  # by the tag of the word at hand, the largest sum of logarithms up to it
    for place, count in enumerate(counts):
        own, words = total[:count].copy(), start[:count] + place
        if place == 0:
            own[:, list(before)] = -np.inf
        else:
            best = own.argmax(axis=1)
            came[words] = best[:, None]
            reached = np.repeat(own.max(axis=1)[:, None], n_tags, axis=1)
            for tag, allowed in before.items():
                which = own[:, allowed].argmax(axis=1)
                came[words, tag] = allowed[which]
                reached[:, tag] = own[np.arange(count), allowed[which]]
            own = reached
        total[:count] = own + _LOG[parts[words]]
    tags: Ints = np.zeros(n_words, dtype=np.int64)
    tag = total.argmax(axis=1)
    for place, count in zip(reversed(range(longest)), reversed(counts), strict=True):
        words = start[:count] + place
        tags[words] = tag[:count]
        tag[:count] = came[words, tag[:count]]
    return tags


def _before(names: Sequence[str]) -> dict[int, NDArray[np.intp]]:
    """Return the tags that may stand before each tag that cannot begin an entity."""
    split = [name.partition("-") for name in names]
    begun = {label for prefix, _, label in split if prefix == "B"}

    def goes_on(label: str) -> NDArray[np.intp]:
        return np.array([n for n, (prefix, _, own) in enumerate(split) if own == label and prefix in ("B", "I")])

    return {
        n: goes_on(label) for n, (prefix, _, label) in enumerate(split) if prefix in ("I", "E", "L") and label in begun
    }
