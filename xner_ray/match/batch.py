"""Entities of many sentence pairs as flat arrays, so that no sentence costs a Python loop.

An entity's index counts through all pairs of the batch; its candidates and scores are ranges of target words of its own
pair. An array "by cell" has one value for every entity and target word of its pair. Two pairs with three and two
target words, the first with two entities:

    pair            0              1
    target word     0   1   2      0   1      target_base  0, 3, 5
    entity 0        0   1   2                 cell_base    0, 3, 6, 8: word w of entity e is cell cell_base[e] + w
    entity 1        3   4   5
    entity 2                       6   7
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints, offsets, ranges
from xner_ray.data.links import Links


@dataclass(frozen=True, eq=False)
class EntityBatch:
    """Entities of many sentence pairs.

    n_source, n_target: number of words of each pair's sides. row: pair of each entity, ascending. start, end: its
    half-open range of source words. ValueError if an entity is empty, leaves its sentence or overlaps another of its
    pair, or if the lengths do not fit.
    """

    n_source: Ints
    n_target: Ints
    row: Ints
    start: Ints
    end: Ints

    def __post_init__(self) -> None:
        for name in ("n_source", "n_target", "row", "start", "end"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        if len(self.n_source) != len(self.n_target):
            raise ValueError(f"{len(self.n_source)} pairs on the source side, {len(self.n_target)} on the target side")
        lengths = len(self.row), len(self.start), len(self.end)
        if len(set(lengths)) > 1:
            raise ValueError(f"row, start and end of the entities differ in length: {lengths}")
        if len(self.row) and not 0 <= self.row.min() <= self.row.max() < self.n_rows:
            raise ValueError(f"entities of pairs {self.row.min()} to {self.row.max()}; allowed: 0 to {self.n_rows - 1}")
        if (np.diff(self.row) < 0).any():
            raise ValueError("entities must be sorted by pair")
        wrong = (self.start < 0) | (self.start >= self.end) | (self.end > self.n_source[self.row])
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"entity [{self.start[at]}, {self.end[at]}) of pair {self.row[at]} is empty or leaves "
                f"its {self.n_source[self.row[at]]} source words"
            )
        edges = np.zeros(int(self.source_base[-1]) + 1, dtype=np.int64)
        np.add.at(edges, self.source_base[self.row] + self.start, 1)
        np.add.at(edges, self.source_base[self.row] + self.end, -1)
        if len(edges) and edges.cumsum().max() > 1:
            raise ValueError("two entities of one pair overlap")

    def __len__(self) -> int:
        """Return the number of entities."""
        return len(self.row)

    @property
    def n_rows(self) -> int:
        return len(self.n_source)

    @property
    def length(self) -> Ints:
        """Return the number of source words of each entity."""
        return self.end - self.start

    @cached_property
    def source_base(self) -> Ints:
        """Return the offset of each pair's words among all source words, and the end of the last one."""
        return offsets(self.n_source)

    @cached_property
    def target_base(self) -> Ints:
        """Return the offset of each pair's words among all target words, and the end of the last one."""
        return offsets(self.n_target)

    @cached_property
    def words(self) -> Ints:
        """Return the number of target words of each entity's pair."""
        return self.n_target[self.row]

    @cached_property
    def cell_base(self) -> Ints:
        """Return the first cell of each entity, and the end of the last one."""
        return offsets(self.words)

    @cached_property
    def owner(self) -> Ints:
        """Return the entity of each of all source words; -1 for none."""
        owner = np.full(int(self.source_base[-1]), -1, dtype=np.int64)
        owner[ranges(self.source_base[self.row] + self.start, self.length)] = np.repeat(
            np.arange(len(self)), self.length
        )
        return owner

    def spread(self, links: Links, values: Ints, owner: Ints | None = None) -> Ints:
        """Return the sum by cell of the values of the links that lead from the entity to the target word.

        owner: the entity of each link, -1 for none, where it is not that of its source word (`bounds.shared_heads`).
        ValueError if a link leaves the words of its pair.
        """
        if len(links) and not 0 <= links.row.min() <= links.row.max() < self.n_rows:
            raise ValueError(f"links of pairs {links.row.min()} to {links.row.max()}; allowed: 0 to {self.n_rows - 1}")
        n_source, n_target = self.n_source[links.row], self.n_target[links.row]
        # A negative index would silently mean a word of another pair.
        wrong = (links.source < 0) | (links.source >= n_source) | (links.target < 0) | (links.target >= n_target)
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"link {links.source[at]}-{links.target[at]} of pair {links.row[at]} leaves its "
                f"{n_source[at]} source or {n_target[at]} target words"
            )
        entity = self.owner[self.source_base[links.row] + links.source] if owner is None else owner
        inside = entity >= 0
        cells = self.cell_base[entity[inside]] + links.target[inside]
        # Sums of whole numbers below 2**53 are exact in the doubles that bincount adds.
        sums = np.bincount(cells, weights=values[inside], minlength=int(self.cell_base[-1]))
        return sums.astype(np.int64)


def stretches(values: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Return the first index and the length of each stretch of equal neighbours. values: 0 or more.

    >>> first, length = stretches(np.array([4, 4, 7]))
    >>> first.tolist(), length.tolist()
    ([0, 2], [2, 1])
    """
    first = np.flatnonzero(np.diff(values, prepend=-1))
    return first, np.diff(first, append=len(values))


def look_up(keys: Ints, values: NDArray[Any], asked: Ints) -> NDArray[Any]:
    """Return the value of each asked key, 0 if it is missing. keys: ascending, 0 or more; the first of equal ones wins.

    >>> look_up(np.array([2, 5]), np.array([0.3, 0.4]), np.array([5, 3])).tolist()
    [0.4, 0.0]
    """
    place = np.searchsorted(keys, asked)
    return np.where(np.append(keys, -1)[place] == asked, np.append(values, 0)[place], 0)
