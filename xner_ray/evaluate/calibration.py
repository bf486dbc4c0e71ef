"""Whether entities' scores are the probabilities that they are right: calibration error, AUROC, a reliability diagram.

A score is a multiple of 1e-4, so counts of right and of all entities by score say everything, and add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xner_ray.data.arrow import Ints
from xner_ray.data.row import SCALE

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Entities of neighbouring scores. entities: their number, not whole where a score is shared by two bins."""

    entities: float
    score: float  # mean
    right: float  # share


@dataclass(frozen=True)
class Calibration:
    """How the scores of one language's entities fit what gold says of them.

    entities: those with a score. score: their mean. right: the share that is in gold. error: expected calibration error
    (Naeini et al. 2015) over `BINS` bins of equal mass: the mean distance of share right and mean score. auroc: the
    probability that a right entity scores higher than a wrong one, ties counting half (Mann and Whitney 1947); None
    without entities of both kinds. bins: the reliability diagram, by rising score.
    """

    entities: int
    score: float
    right: float
    error: float
    auroc: float | None
    bins: list[Bin]


def calibration(counts: Ints) -> Calibration | None:
    """Return the figures of a histogram (`counting.by_score`); None without entities.

    Bins have the same number of entities. Those of a score on the border of two bins are shared out between them, each
    part with the same share of right ones, so that no order of equal scores matters.
    """
    total = counts.sum(axis=0).astype(np.float64)
    n = total.sum()
    if not n:
        return None
    score = np.arange(SCALE + 1) / SCALE
    wrong, right = counts.astype(np.float64)
    ends = np.cumsum(total)
    edges = np.linspace(0, n, min(BINS, int(n)) + 1)
    # How many entities of each score are in each bin
    inside = np.clip(np.minimum.outer(edges[1:], ends) - np.maximum.outer(edges[:-1], ends - total), 0, None)
    share = np.divide(right, total, out=np.zeros_like(total), where=total > 0)
    mass = inside.sum(axis=1)
    mean, hit = inside @ score / mass, inside @ share / mass
    below = np.cumsum(wrong) - wrong / 2
    pairs = right.sum() * wrong.sum()
    return Calibration(
        entities=int(n),
        score=float(total @ score / n),
        right=float(right.sum() / n),
        error=float(mass @ np.abs(mean - hit) / n),
        auroc=float(right @ below / pairs) if pairs else None,
        bins=[Bin(*each) for each in zip(mass.tolist(), mean.tolist(), hit.tolist(), strict=True)],
    )
