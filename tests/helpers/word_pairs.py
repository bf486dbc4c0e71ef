"""Small batches of sentence pairs with links, drawn by hypothesis or given."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from xner_ray.data.links import METHODS, Links
from xner_ray.match.batch import EntityBatch

ALL_METHODS = (1 << len(METHODS)) - 1


class Pair(NamedTuple):
    """A sentence pair: words of both sides, half-open entities, links (source word, target word)."""

    n_source: int
    n_target: int
    entities: list[tuple[int, int]]
    links: list[tuple[int, int]]


def batch_of(pairs: list[Pair]) -> EntityBatch:
    entities = [(row, *entity) for row, pair in enumerate(pairs) for entity in pair.entities]
    row, start, end = np.array(entities, dtype=np.int64).reshape(-1, 3).T
    return EntityBatch(
        n_source=np.array([p.n_source for p in pairs]),
        n_target=np.array([p.n_target for p in pairs]),
        row=row,
        start=start,
        end=end,
    )


def links_of(pairs: list[Pair], forward: float = 1.0, backward: float = 1.0) -> Links:
    """The pairs' links, linked by every method."""
    cells = [(row, *link) for row, pair in enumerate(pairs) for link in sorted(set(pair.links))]
    row, source, target = np.array(cells, dtype=np.int32).reshape(-1, 3).T
    ones = np.ones(len(row), dtype=np.float32)
    return Links(row, source, target, ones * forward, ones * backward, ones, np.full(len(row), ALL_METHODS, np.uint8))


def counts_of(pairs: list[Pair]) -> np.ndarray:
    links = links_of(pairs)
    return batch_of(pairs).spread(links, np.ones(len(links), dtype=np.int64))


@st.composite
def pair(draw: st.DrawFn, max_source: int = 6, max_target: int = 7, max_entities: int = 3) -> Pair:
    n_source, n_target = draw(st.integers(0, max_source)), draw(st.integers(0, max_target))
    edges = draw(st.lists(st.integers(0, n_source), unique=True, max_size=2 * max_entities).map(sorted))
    entities = list(zip(edges[::2], edges[1::2], strict=False))
    if draw(st.booleans()):  # neighbours without a word between
        entities = list(pairwise(edges))[:max_entities]
    cells = [(k, w) for k in range(n_source) for w in range(n_target)]
    links = draw(st.lists(st.sampled_from(cells), max_size=14)) if cells else []
    return Pair(n_source, n_target, entities, links)


BATCH = st.lists(pair(), max_size=4)
