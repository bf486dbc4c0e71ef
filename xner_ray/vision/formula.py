"""What pictures say of labels, from vectors alone (`docs/images.md`).

Per entity with mention m, picture v and label l, t_l the label's text vector with m in it, over a background of n
pictures with the mean vbar:

    u_l = ((v - vbar) . t_l - mean over l) / sigma_l        sigma_l: the deviation of the same over the background
    R_l = log(1 - d_l + d_l exp(clip(a u_l, -8, 8)))        d_l: that an entity of l is in its picture
    label = argmax of log max(p_l, 1e-4) + weight R_l       p_l: the text's probability; the text's label wins ties

A picture that is the mean says nothing, exactly: R = 0. What speaks against a label is bounded by log(1 - d_l), so that
an absent picture of a place is no evidence against a place; what speaks for it by a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCALE = 10_000
"""Probabilities and log ratios are multiples of 1 / SCALE before anything is compared."""
LEAST = 1e-4
LEAST_BACKGROUND = 8
"""Pictures; the deviations of fewer are those of chance, and no label changes."""
_CLIP = 8.0
_SAME = 1e-6  # a deviation below it is that of equal pictures, but for rounding
_AT_ONCE = 1 << 22  # numbers that are held


@dataclass(frozen=True)
class Background:
    """Pictures of a run, whose mean says nothing. vectors: (n, dim), of length 1."""

    vectors: Floats

    @property
    def mean(self) -> Floats:
        found: Floats = self.vectors.mean(axis=0)
        return found

    def deviations(self, texts: Floats) -> Floats:
        """Return sigma (mentions, labels) for text vectors (mentions, labels, dim)."""
        centred, found = self.vectors - self.mean, np.zeros(texts.shape[:2])
        step = max(1, _AT_ONCE // (len(centred) * texts.shape[1]))
        for first in range(0, len(texts), step):
            found[first : first + step] = beside(np.einsum("nd,mld->nml", centred, texts[first : first + step])).std(0)
        return found


def beside(products: Floats) -> Floats:
    """Return products of labels, last axis, without their mean."""
    found: Floats = products - products.mean(axis=-1, keepdims=True)
    return found


def unit_length(vectors: NDArray[np.floating]) -> Floats:
    """Return vectors of length 1; a vector of zeros stays one."""
    found = vectors.astype(np.float64)
    sizes = np.linalg.norm(found, axis=-1, keepdims=True)
    result: Floats = found / np.where(sizes > 0, sizes, 1)
    return result


def log_ratios(
    pictures: Floats, texts: Floats, mention: NDArray[np.int64], background: Background, slope: float, depicted: Floats
) -> Floats:
    """Return R (entities, labels), rounded to 1 / SCALE.

    pictures: (entities, dim). texts: (mentions, labels, dim); mention: of each entity. depicted: of each label.
    """
    if not len(pictures) or len(background.vectors) < LEAST_BACKGROUND:
        return np.zeros((len(pictures), texts.shape[1] if texts.ndim == 3 else len(depicted)))
    sigma = background.deviations(texts)[mention]
    step = max(1, _AT_ONCE // max(1, texts.shape[1] * texts.shape[2]))
    parts = [
        np.einsum("ed,eld->el", pictures[first : first + step] - background.mean, texts[mention[first : first + step]])
        for first in range(0, len(pictures), step)
    ]
    return ratios(np.concatenate(parts), sigma, slope, depicted)


def ratios(products: Floats, sigma: Floats, slope: float, depicted: Floats) -> Floats:
    """Return R from what a picture and each label have in common, less that of the background (entities, labels)."""
    products = beside(products)
    u = np.divide(products, sigma, out=np.zeros_like(products), where=sigma > _SAME)
    return _rounded(np.log(1 - depicted + depicted * np.exp(np.clip(slope * u, -_CLIP, _CLIP))))


def by_doubt(own: NDArray[np.int64], n_labels: int, doubt: float) -> Floats:
    """Return the text's probabilities (entities, labels) where it gives labels alone; own: their numbers."""
    found = np.full((len(own), n_labels), doubt / (n_labels - 1))
    found[np.arange(len(own)), own] = 1 - doubt
    return _rounded(found)


def by_tags(logs: Floats, own: NDArray[np.int64]) -> Floats:
    """Return the text's probabilities from the sums of its tags' log probabilities over an entity's words.

    The label that the tagger chose has at least the largest of them: the text has decided, whatever the product says.
    """
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    rows = np.arange(len(own))
    found[rows, own] = found.max(axis=1, initial=0) if len(own) else found[rows, own]
    return _rounded(found)


def decide(probabilities: Floats, ratios: Floats, own: NDArray[np.int64], weight: float) -> NDArray[np.int64]:
    """Return the number of each entity's label; own: those of the text, which win ties, then the first label does.

    >>> even, ratios = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> decide(even, ratios, np.array([0, 0]), 1.0).tolist()
    [0, 1]
    """
    scores = _rounded(np.log(np.maximum(probabilities, LEAST)) + weight * ratios)
    rows = np.arange(len(own))
    keeps = scores[rows, own] >= scores.max(axis=1, initial=-np.inf)
    return np.where(keeps, own, scores.argmax(axis=1) if scores.size else own)


def _rounded(values: Floats) -> Floats:
    found: Floats = np.rint(values * SCALE) / SCALE
    return found + 0.0  # no minus zero
