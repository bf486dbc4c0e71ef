"""What is to be projected in many sentence pairs at once: flat arrays, so that no sentence costs a Python loop.

An entity's index counts through all pairs. Its candidates and scores are ranges of target words of its own pair.
Arrays "by cell" have one value for every (entity, target word of its pair): entity e, word w is cell
`cell_base[e] + w`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.links import Links

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EntityBatch:
    """Entities of many sentence pairs.

    n_source, n_target: words of each pair's sides. row: pair of each entity, ascending. start, end: its half-open
    range of source words. ValueError if an entity is empty, leaves its sentence or overlaps another of its pair,
    or if the lengths do not fit.
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
        """Number of entities."""
        return len(self.row)

    @property
    def n_rows(self) -> int:
        return len(self.n_source)

    @property
    def length(self) -> Ints:
        """Source words of each entity."""
        return self.end - self.start

    @cached_property
    def source_base(self) -> Ints:
        """Where each pair's source words begin when all are numbered through; one more at the end."""
        return _base(self.n_source)

    @cached_property
    def target_base(self) -> Ints:
        """Where each pair's target words begin when all are numbered through; one more at the end."""
        return _base(self.n_target)

    @cached_property
    def words(self) -> Ints:
        """Target words of each entity's pair."""
        words: Ints = self.n_target[self.row]
        return words

    @cached_property
    def cell_base(self) -> Ints:
        """Where each entity's target words begin in an array by cell; one more at the end."""
        return _base(self.words)

    @cached_property
    def owner(self) -> Ints:
        """The entity of every source word, numbered through; -1 for none."""
        owner = np.full(int(self.source_base[-1]), -1, dtype=np.int64)
        owner[ranges(self.source_base[self.row] + self.start, self.length)] = np.repeat(
            np.arange(len(self)), self.length
        )
        return owner

    def spread(self, links: Links, values: Ints) -> Ints:
        """Sum of `values`, one per link, over the links from each entity to each target word: by cell.

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
        entity = self.owner[self.source_base[links.row] + links.source]
        inside = entity >= 0
        cells = self.cell_base[entity[inside]] + links.target[inside]
        # Sums of whole numbers below 2**53 are exact in the doubles that bincount adds.
        sums = np.bincount(cells, weights=values[inside], minlength=int(self.cell_base[-1]))
        return sums.astype(np.int64)


def _base(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ranges(first: Ints, length: Ints) -> Ints:
    """first[0], first[0] + 1, ... (length[0] of them), then those of first[1], and so on."""
    offsets = np.cumsum(length) - length
    return np.repeat(first - offsets, length) + np.arange(int(length.sum()))
