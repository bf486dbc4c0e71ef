"""What regions of pictures say of labels, from numbers alone (`docs/images.md`), and where an entity is.

A detector's picture is a list of at most `REGIONS` regions, each a row of numbers: a vector c that queries are compared
with, a shift, a scale, and the corners of its box in 0..1 of the upright picture. For a query t:

    z = max over regions of (c . t + shift) scale           sigmoid of it: the score of the region's box
    u_l = (z_l - mean of z_l over the background - mean over l) / sigma_l

with the rest as in `vision.formula`, sigma_l again the deviation over the background. So a picture that is as likely
as the mean one to show each label says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xner_ray.vision import formula
from xner_ray.vision.formula import SCALE, Background, Floats

REGIONS = 16
"""Of one picture that are kept."""
NUMBERS = 6  # of a region, besides its vector
_SAME_BOX = 0.7  # IoU above which two regions are one
_AT_ONCE = 1 << 22  # numbers that are held


def pack(vectors: Floats, logits: Floats, shifts: Floats, scales: Floats, boxes: Floats) -> Floats:
    """Return the regions of one picture as numbers: (REGIONS * (dim + NUMBERS),); those that are not there are 0.

    vectors: (patches, dim), of length 1. logits: (patches,), which rank them. boxes: (patches, 4). Of patches whose
    boxes are much the same the first one is kept.
    """
    order = np.argsort(-logits, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < REGIONS:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best], boxes[order]) <= _SAME_BOX]
    found = np.zeros((REGIONS, vectors.shape[1] + NUMBERS))
    found[: len(kept)] = np.concatenate([vectors, shifts[:, None], scales[:, None], boxes], axis=1)[kept]
    flat: Floats = found.reshape(-1)
    return flat


def overlaps(box: Floats, others: Floats) -> Floats:
    """Return the share of both areas that a box has in common with each of others (n, 4): IoU.

    >>> overlaps(np.array([0, 0, 1, 1.0]), np.array([[0, 0, 1, 0.5], [0, 0, 1, 1]])).tolist()
    [0.5, 1.0]
    """
    inner = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - inner
    found: Floats = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return found


def _logits(pictures: NDArray[np.floating], queries: Floats) -> Floats:
    """Return the logits of regions (pictures, queries, REGIONS). queries: (queries, dim), or of each picture its own
    (pictures, queries, dim)."""
    regions = pictures.astype(np.float64).reshape(len(pictures), REGIONS, -1)
    vectors, shifts, scales = regions[..., :-NUMBERS], regions[..., -NUMBERS, None], regions[..., 1 - NUMBERS, None]
    there = (regions[..., -4:] != 0).any(axis=-1, keepdims=True)
    found = (vectors @ np.swapaxes(queries, -1, -2) + shifts) * scales
    result: Floats = np.swapaxes(np.where(there, found, -np.inf), 1, 2)
    return result


def _best(pictures: NDArray[np.floating], queries: Floats) -> Floats:
    found: Floats = _logits(pictures, queries).max(axis=2)
    return found


def log_ratios(
    pictures: Sequence[NDArray[np.floating]],
    texts: Floats,
    mention: NDArray[np.int64],
    background: Background,
    slope: float,
    depicted: Floats,
) -> Floats:
    """Return R (entities, labels), rounded. pictures: the numbers of each entity's; the others as in `formula`."""
    if not len(pictures) or len(background.vectors) < formula.LEAST_BACKGROUND:
        return np.zeros((len(pictures), len(depicted)))
    mean, sigma = _of_background(background, texts)
    found = np.zeros((len(pictures), texts.shape[1]))
    step = max(1, _AT_ONCE // max(pictures[0].size, 1))
    for first in range(0, len(pictures), step):
        own = mention[first : first + step]
        found[first : first + step] = _best(np.array(pictures[first : first + step]), texts[own]) - mean[own]
    return formula.ratios(found, sigma[mention], slope, depicted)


def _of_background(background: Background, texts: Floats) -> tuple[Floats, Floats]:
    """Return mean and deviation over the background, for each mention and label."""
    means, sigmas = np.zeros(texts.shape[:2]), np.zeros(texts.shape[:2])
    labels, dim = texts.shape[1:]
    step = max(1, _AT_ONCE // (len(background.vectors) * REGIONS * labels))
    for first in range(0, len(texts), step):
        some = texts[first : first + step]
        found = _best(background.vectors, some.reshape(-1, dim)).reshape(-1, len(some), labels)
        means[first : first + step] = found.mean(axis=0)
        sigmas[first : first + step] = formula.beside(found - found.mean(axis=0)).std(axis=0)
    return means, sigmas


def boxes(pictures: Sequence[NDArray[np.floating]], queries: Floats) -> Floats:
    """Return the best box of each picture for its query: (n, 5), its corners and its score, rounded to 1 / SCALE."""
    found = np.zeros((len(pictures), 5))
    for number, (picture, query) in enumerate(zip(pictures, queries, strict=True)):
        logits = _logits(picture[None], query[None])[0, 0]
        best = int(logits.argmax())
        found[number, :4] = picture.reshape(REGIONS, -1)[best, -4:]
        found[number, 4] = 1 / (1 + np.exp(-np.clip(logits[best], -50, 50)))
    result: Floats = np.rint(found * SCALE) / SCALE
    return result
