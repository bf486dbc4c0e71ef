"""Scores of (entity, candidate) cells of many sentence pairs, and their weighted sum (method.md 4.3).

A score is one float per candidate. Three have functions here: `alignment` (recipe key "align"), `soft` (soft Dice) and
`tagger`; `bounds.py` has `edges` (boundaries). `fuse` adds any number of scores, of whatever origin, rounds to 1e-4
and drops what is not positive. From there on scores are whole ten-thousandths: they compare exactly, so ties are ties
everywhere.

Sums over the words of a candidate are differences of prefix sums of whole numbers, hence exact: a candidate's score
does not depend on its batch. Probabilities come in as ten-thousandths or are rounded to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, offsets, ranges
from xner_ray.data.row import SCALE
from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates

_LARGEST = 2**32  # of one stored score: sums over a sentence stay exact even as doubles


@dataclass(frozen=True, eq=False, slots=True)
class Scored(Candidates):
    """Candidates with a positive score, in any order where nothing else is said.

    score: int64 in ten-thousandths. ValueError if the lengths differ or a score is not in 1 to 2**32.
    """

    score: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.entity) == len(self.start) == len(self.end) == len(self.score):
            raise ValueError("entity, start, end and score differ in length")
        if len(self.score) and not 0 < self.score.min() <= self.score.max() <= _LARGEST:
            raise ValueError(f"scores go from {self.score.min()} to {self.score.max()}; allowed: 1 to 2**32")


def mass_inside(batch: EntityBatch, candidates: Candidates, mass: Ints) -> Ints:
    """Return the sum of `mass` (whole numbers by cell) over each candidate's words. ValueError if its shape differs."""
    n_cells = int(batch.cell_base[-1])
    if mass.shape != (n_cells,):
        raise ValueError(f"mass has the shape {mass.shape}; allowed: one value by cell, ({n_cells},)")
    before = offsets(mass)  # of all cells to the left, those of earlier entities too
    base = batch.cell_base[candidates.entity]
    inside: Ints = before[base + candidates.end]
    inside -= before[base + candidates.start]
    return inside


def alignment(batch: EntityBatch, candidates: Candidates, counts: Ints) -> Floats:
    """Return 2 A / (|s| + |t|) per candidate, A the number of links between the words of s and of t: float64, >= 0.

    Both reference implementations have the factor 2 (method.md 4.3), the thesis text has none. It is no Dice
    coefficient: a dense block of m x n links scores 2mn / (m + n), which exceeds 1.
    counts: links by cell, `batch.spread(links.hard(method), ones)`.

    >>> from xner_ray.match.candidates import ngrams
    >>> batch = EntityBatch(n_source=[2], n_target=[2], row=[0], start=[0], end=[2])
    >>> alignment(batch, ngrams(batch), np.array([1, 1])).round(3).tolist()
    [0.667, 1.0, 0.667]
    """
    words = batch.length[candidates.entity] + candidates.end - candidates.start
    return 2.0 * (mass_inside(batch, candidates, counts) / words)


def soft(
    batch: EntityBatch,
    candidates: Candidates,
    mass: Ints,
    weights: tuple[Ints, Ints] | None = None,
    shift: Ints | int = 0,
) -> Floats:
    """Return the soft Dice coefficient, (forward + backward mass inside the block) / (|s| + |t|): float64 in [0, 1].

    mass: by cell in ten-thousandths, `batch.spread(links, rint(SCALE * (links.forward + links.backward)))`. A source
    word has at most 1 of forward mass and a target word at most 1 of backward mass, so 1 is the most (excess by
    rounding is cut). One-to-one links of probability 1 score as in `alignment`; a dense block scores 1, not more.

    weights: of all source words and of all target words, in ten-thousandths. Then |s| and |t| are sums of weights, and
    the mass must be forward times the source word's weight plus backward times the target word's.
    shift: by entity, what |s| gains or loses with the links that change hands (`bounds.shared_heads`), in
    ten-thousandths of a word.
    """
    shift = np.broadcast_to(shift, len(batch))
    if weights is None:
        words = SCALE * (batch.length[candidates.entity] + candidates.end - candidates.start)
        share = mass_inside(batch, candidates, mass) / (words + shift[candidates.entity])
    else:
        of_source, of_target = map(offsets, weights)
        first = batch.source_base[batch.row]
        words = (of_source[first + batch.end] - of_source[first + batch.start] + shift)[candidates.entity]
        first = batch.target_base[batch.row][candidates.entity]
        words += of_target[first + candidates.end] - of_target[first + candidates.start]
        share = mass_inside(batch, candidates, mass) / (np.maximum(words, 1) * SCALE)
    return np.minimum(share, 1.0, out=share)


def tagger(
    batch: EntityBatch,
    candidates: Candidates,
    probabilities: NDArray[np.floating],
    classes: NDArray[np.integer] | None,
    *,
    alpha: float = 1.15,
    reward: Literal["exact", "always"] = "exact",
) -> Floats:
    """Return how well a tagger's classes of the target words fit a candidate: float64, >= 0.

        alpha^(|t| - 1) (p(first word, B-l) + sum over its other words p(w, I-l)) / |t|

    probabilities: (all target words of all pairs, 2 L + 1), columns O, B-1, I-1, B-2, ... classes: per entity l in
    0 to L - 1, or -1 if the tagger does not know its class (score 0). None for the class-free score ("tagger_spans"):
    the best class of each candidate, so any entity fits any name.

    alpha offsets that the mean falls with every word less certain than the first. The thesis's formula applies it to
    every candidate (`reward="always"`), its code only where the words' most probable tags read B-l I-l ... I-l
    (`reward="exact"`, the default). "always" needs a small `max_words`: 1.15^(n-1) / n grows from n = 7 on, and with
    p = (0.9 B, 0.8 I) every candidate of 18 or more words beats the name itself. Above (2 L + 1) / (L + 1) a candidate
    whose words' most probable tags all have its class beats its parts: that is 1 + (1 - M) / (1 + M) with the least
    probability of a most probable tag, M = 1 / (2 L + 1). The usual 1.15 is far below and guarantees nothing.

    Probabilities are rounded to 1e-4 first; equally probable tags count as the first of them.
    ValueError if a shape does not fit, a probability is not in 0 to 1, a class not in -1 to L - 1, or alpha below 1.
    """
    n_words, n_columns = int(batch.target_base[-1]), probabilities.shape[-1]
    if probabilities.shape != (n_words, n_columns) or n_columns < 3 or n_columns % 2 == 0:
        raise ValueError(f"probabilities have the shape {probabilities.shape}; allowed: ({n_words}, 2 L + 1), L >= 1")
    rounded = np.rint(probabilities.astype(np.float64) * SCALE)
    if not ((rounded >= 0) & (rounded <= SCALE)).all():
        raise ValueError("a probability is not a number from 0 to 1")
    if not 1 <= alpha < np.inf:
        raise ValueError(f"alpha is {alpha}; allowed: 1 or more")
    if reward not in ("exact", "always"):
        raise ValueError(f"reward is {reward!r}; allowed: 'exact', 'always'")
    parts, best = rounded.astype(np.int64), rounded.argmax(axis=1)
    if classes is None:
        each = (np.full(len(batch), label) for label in range(n_columns // 2))
        return reduce(np.maximum, (_tagger(batch, candidates, parts, best, same, alpha, reward) for same in each))
    if classes.shape != (len(batch),):
        raise ValueError(f"classes have the shape {classes.shape}; allowed: one per entity, ({len(batch)},)")
    if len(classes) and not -1 <= classes.min() <= classes.max() < n_columns // 2:
        raise ValueError(f"classes go from {classes.min()} to {classes.max()}; allowed: -1 to {n_columns // 2 - 1}")
    return _tagger(batch, candidates, parts, best, classes, alpha, reward)


def _tagger(
    batch: EntityBatch,
    candidates: Candidates,
    parts: Ints,
    best: NDArray[np.intp],
    classes: NDArray[np.integer],
    alpha: float,
    reward: str,
) -> Floats:
    """Return the score for one class per entity. parts: in ten-thousandths; best: most probable tag of each word."""
    word = ranges(batch.target_base[batch.row], batch.words)  # of each cell, among all target words
    known = np.repeat(classes >= 0, batch.words)
    begin = np.repeat(2 * classes + 1, batch.words)  # the column of B-l; that of I-l follows
    begins = np.where(known, parts[word, begin], 0)
    insides = np.where(known, parts[word, begin + 1], 0)
    first = batch.cell_base[candidates.entity] + candidates.start
    words = candidates.end - candidates.start
    # The sum of I-l over all words, with the first one's B-l in place of its I-l
    total = mass_inside(batch, candidates, insides) + (begins - insides)[first]
    powers = alpha ** np.arange(int(words.max(initial=0)) + 1)
    factor = powers[words - 1]
    if reward == "exact":
        is_inside = (best[word] == begin + 1).astype(np.int64)
        is_begin = (best[word] == begin).astype(np.int64)
        n_fitting = mass_inside(batch, candidates, is_inside) + (is_begin - is_inside)[first]
        factor = np.where(n_fitting == words, factor, 1.0)
    result: Floats = total / (words * float(SCALE)) * factor
    return result


def threshold(values: Floats, at_most: float) -> Floats:
    """Return the values, 0 where they do not exceed `at_most` (method.md 4.3: tagger 0.05, translation 0.1)."""
    return np.where(values <= at_most, 0.0, values)  # NaN stays: `fuse` refuses it


def fuse(
    candidates: Candidates,
    scores: Mapping[str, Floats],
    weights: Mapping[str, float],
    thresholds: Mapping[str, float] | None = None,
    *,
    min_score: float = 0.0,
) -> Scored:
    """Return the sum of weight x score, rounded to 1e-4, without cells whose sum does not exceed 0 and `min_score`.

    scores: one float per candidate under each name, which may be negative; those without a weight are ignored.
    thresholds: of single scores, before they are weighted (`threshold`).
    RecipeError if a weight, threshold or `min_score` is negative or names no score; ValueError if a score has
    another length or a sum is not finite or too large.
    """
    thresholds = thresholds or {}
    for section, numbers in (("scores", weights), ("thresholds", thresholds)):
        for name, number in numbers.items():
            if name not in scores:
                raise RecipeError(f"match.{section}.{name}: no such score{did_you_mean(name, scores)}")
            if not number >= 0:
                raise RecipeError(f"match.{section}.{name} is {number}; allowed: 0 or more")
    total = np.zeros(len(candidates))
    with np.errstate(over="ignore", invalid="ignore"):  # found below
        for name in sorted(weights):  # floating-point sums depend on the order; the recipe's must not matter
            values = scores[name]
            if values.shape != total.shape:
                raise ValueError(
                    f"score {name} has the shape {values.shape}; allowed: {total.shape}, one per candidate"
                )
            if name in thresholds:
                values = threshold(values, thresholds[name])
            total += weights[name] * values
        total *= SCALE
    if len(total) and not -_LARGEST < total.min() <= total.max() < _LARGEST:
        raise ValueError(f"a fused score is not finite or above {_LARGEST // SCALE}")
    rounded = np.rint(total, out=total).astype(np.int64)
    spans = candidates.take(rounded > 0)
    return above(Scored(spans.entity, spans.start, spans.end, rounded[rounded > 0]), min_score)


def above(scored: Scored, min_score: float) -> Scored:
    """Return the cells that score more than `min_score`, in units of 1. RecipeError if it is negative or infinite."""
    if not 0 <= min_score < np.inf:
        raise RecipeError(f"match.min_score is {min_score}; allowed: 0 or more")
    return scored.take(scored.score > round(min_score * SCALE)) if min_score else scored
