"""What a tagger of words thinks of spans that something else has found: entities of a source, or their projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, ranges


@dataclass(frozen=True, eq=False)
class Opinions:
    """Probabilities of spans, float64 (spans,), as a tagger of their words gives them.

    label: the mean over the words of B-l + I-l, l the span's label. entity: the mean of all but O. span: of B-l I-l ...
    I-l and then no I-l, the words as if independent. after: I-l of the word behind, 0 at the end of the sentence.
    """

    label: Floats
    entity: Floats
    span: Floats
    after: Floats


def opinions(probabilities: NDArray[np.floating], first: Ints, last: Ints, end: Ints, classes: Ints) -> Opinions:
    """Return what the tags of all words say of spans.

    probabilities: (words of all sentences, 2 L + 1), columns O, B-1, I-1, B-2, ... first, last: the words of each span,
    half open, at least one. end: the end of its sentence. classes: its label's number in 0 to L - 1, or -1 for a label
    that the tagger never gives: only `entity` is not 0 then.

    >>> tags = np.array([[0.0, 0.9, 0.1], [0.2, 0.0, 0.8], [0.9, 0.0, 0.1]])
    >>> found = opinions(tags, *(np.array([n]) for n in (0, 2, 3, 0)))
    >>> [round(float(value[0]), 3) for value in (found.label, found.entity, found.span, found.after)]
    [0.9, 0.9, 0.648, 0.1]
    """
    sizes = last - first
    if not len(sizes):
        return Opinions(*(np.zeros(0) for _ in range(4)))
    word = ranges(first, sizes)
    starts = np.cumsum(sizes) - sizes
    known = classes >= 0
    column = np.where(known, 2 * classes + 1, 0)
    begin, inside = (
        np.where(np.repeat(known, sizes), probabilities[word, np.repeat(column + n, sizes)], 0.0) for n in (0, 1)
    )
    behind = np.minimum(last, len(probabilities) - 1)
    after = np.where(known & (last < end), probabilities[behind, column + 1], 0.0)
    likely = inside.copy()
    likely[starts] = begin[starts]
    return Opinions(
        label=np.add.reduceat(begin + inside, starts) / sizes,
        entity=np.add.reduceat(1.0 - probabilities[word, 0], starts) / sizes,
        span=np.multiply.reduceat(likely, starts) * (1.0 - after),
        after=after,
    )
