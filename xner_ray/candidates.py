"""Target spans that an entity may be projected onto, and the link counts that they are made and scored from.

Two sets (method.md 4.2). `ngrams`: every range of 1 to `max_words` target words, for every entity.
`windows`: per entity only the ranges inside [leftmost, rightmost] target word that is linked to it.
For link-count scores and at most one projection per entity the window loses nothing: a word beyond it adds
to the length of a candidate but not to its links, and clipping never makes a new overlap.
No token is forbidden: "Yahoo !" is a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xner_ray.spans import Span

MAX_WORDS = 30


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Half-open target ranges: three int32 arrays of one length, sorted by entity, start, end."""

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.entity)


def link_counts(entities: Sequence[Span], links: ArrayLike, *, n_words: int) -> NDArray[np.int64]:
    """Number of links between the words of each entity and each target word: shape (entities, n_words).

    `links` has shape (n, 2): source word, target word. A repeated link counts once.
    ValueError if an entity is empty or a link leaves the target's `n_words` words.

    >>> link_counts([Span(0, 2, "PER")], [(0, 0), (1, 0), (2, 1)], n_words=2)
    array([[2, 0]])
    """
    pairs = np.asarray(links, dtype=np.int64).reshape(-1, 2)
    bounds = np.array([(e.start, e.end) for e in entities], dtype=np.int64).reshape(-1, 2)
    if np.any(bounds[:, 0] >= bounds[:, 1]) or np.any(bounds < 0):
        raise ValueError(f"an entity covers no word: {list(entities)}")
    if np.any(pairs < 0) or np.any(pairs[:, 1] >= n_words):
        raise ValueError(f"a link leaves the {n_words} target words: {pairs.tolist()}")
    if not len(pairs) or not len(bounds):
        return np.zeros((len(bounds), n_words), dtype=np.int64)
    source, target = np.divmod(np.unique(pairs[:, 0] * n_words + pairs[:, 1]), n_words)
    entity, link = np.nonzero((bounds[:, :1] <= source) & (source < bounds[:, 1:]))
    cells = np.bincount(entity * n_words + target[link], minlength=len(bounds) * n_words)
    return cells.reshape(len(bounds), n_words)


def ngrams(n_entities: int, n_words: int, *, max_words: int = MAX_WORDS) -> Candidates:
    """All ranges of 1 to `max_words` words, for every entity: sum over i of min(max_words, n_words - i) each.

    >>> len(ngrams(1, 25, max_words=10))
    205
    """
    low = np.zeros(n_entities, dtype=np.int64)
    return _ranges(low, low + n_words, max_words)


def windows(counts: NDArray[np.int64], *, max_words: int = MAX_WORDS) -> Candidates:
    """Ranges between the first and the last target word linked to the entity; none where nothing is linked.

    `counts` comes from `link_counts`.

    >>> windows(np.array([[0, 1, 0, 1]]), max_words=2).start.tolist()
    [1, 1, 2, 2, 3]
    """
    if not counts.size:
        return ngrams(0, 0, max_words=max_words)
    linked = counts > 0
    low = linked.argmax(axis=1)
    high = counts.shape[1] - linked[:, ::-1].argmax(axis=1)
    return _ranges(low, np.where(linked.any(axis=1), high, low), max_words)


def _ranges(low: NDArray[np.int64], high: NDArray[np.int64], max_words: int) -> Candidates:
    """Ranges inside [low[e], high[e]) for every entity e, without a Python loop."""
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; allowed: 1 or more")
    per_entity = high - low
    entity = np.repeat(np.arange(len(low)), per_entity)
    first = _counting(per_entity) + low[entity]
    per_start = np.minimum(max_words, high[entity] - first)
    start = np.repeat(first, per_start)
    end = start + 1 + _counting(per_start)
    return Candidates(
        entity=np.repeat(entity, per_start).astype(np.int32),
        start=start.astype(np.int32),
        end=end.astype(np.int32),
    )


def _counting(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ..., lengths[0] - 1, then 0, 1, ..., lengths[1] - 1, and so on."""
    offsets = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(offsets, lengths)
