"""Matching scores of (entity, candidate) cells, and their fusion by weights.

A score is one float per candidate. `fuse` adds any number of them, rounds to 1e-4 and drops what is not
positive. From there on scores are whole ten-thousandths: they compare exactly, so ties are ties everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xner_ray.candidates import Candidates
from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.spans import Span

SCALE = 10_000
"""Scores are stored as integer multiples of 1 / SCALE."""

_LARGEST = 2**32  # of one stored score: sums over a sentence stay exact even as doubles


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """Cells with a positive score, one array per column.

    entity, start, end: int32, half-open target ranges. score: int64 in ten-thousandths.

    ValueError if the lengths differ or a score is not in 1 to 2**32.
    """

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    score: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.entity) == len(self.start) == len(self.end) == len(self.score):
            raise ValueError("entity, start, end and score differ in length")
        if len(self.score) and not 0 < self.score.min() <= self.score.max() <= _LARGEST:
            raise ValueError(f"scores go from {self.score.min()} to {self.score.max()}; allowed: 1 to 2**32")

    def __len__(self) -> int:
        return len(self.entity)


def alignment(candidates: Candidates, counts: NDArray[np.int64], entities: Sequence[Span]) -> NDArray[np.float64]:
    """2 A / (|s| + |t|) per candidate, A the number of links between the words of s and of t: float64, >= 0.

    The factor 2 is that of both reference implementations (method.md 4.3; the thesis text has none).
    It is no Dice coefficient: a dense block of m x n links scores 2mn / (m + n), which exceeds 1.
    `counts` comes from `link_counts` for the same entities.
    """
    before = np.zeros((len(entities), counts.shape[1] + 1), dtype=np.int64)  # links left of each word
    np.cumsum(counts, axis=1, out=before[:, 1:])
    links = before[candidates.entity, candidates.end] - before[candidates.entity, candidates.start]
    lengths = np.array([len(e) for e in entities], dtype=np.int64)[candidates.entity]
    result: NDArray[np.float64] = 2.0 * links / (lengths + candidates.end - candidates.start)
    return result


def fuse(candidates: Candidates, scores: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float]) -> Scored:
    """Sum of weight x score, rounded to 1e-4; cells without a positive sum are dropped (method.md 4.3).

    `scores` gives one float per candidate under each name; scores without a weight are ignored.
    RecipeError if a weight is negative or names no score; ValueError if a sum is not finite or too large.
    """
    total = np.zeros(len(candidates))
    for name in sorted(weights):  # floating-point sums depend on the order; the recipe's must not matter
        if name not in scores:
            raise RecipeError(f"match.scores.{name}: no such score{did_you_mean(name, scores)}")
        if not weights[name] >= 0:
            raise RecipeError(f"match.scores.{name} is {weights[name]}; allowed: 0 or more")
        total += weights[name] * scores[name]
    if not np.all(np.abs(total) < _LARGEST / SCALE):
        raise ValueError(f"a fused score is not finite or above {_LARGEST // SCALE}")
    rounded = np.rint(total * SCALE).astype(np.int64)
    kept = rounded > 0
    return Scored(candidates.entity[kept], candidates.start[kept], candidates.end[kept], rounded[kept])
