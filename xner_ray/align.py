"""Vectors -> links: pure functions over arrays; no model, no Arrow, no I/O.

    word vectors --similarity--> cosine (m, n) --make_links--> Links --extract--> hard links

`Links` is what a row stores: every cell whose probability matters, and besides the few cells that the hard
methods look at, so that `extract(make_links(cosine), ...)` is the method applied to the whole matrix. A run
can therefore be matched again with another method and no model.

Every value is rounded to 1e-4 before it is compared, ties go to the lowest index: the noise of floating
point (about 2e-6 when a batch has another shape) then changes links only next to a rounding edge.

A word that the encoder gives no subword has a zero vector and cosine -1 with every word. It is never linked
and weighs nothing: all methods treat the matrix as if its row or column were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

DECIMALS = 4
FLOOR = 0.05
# Tuned on the built-in encoder, whose cosines lie close together; 0.01 to 0.05 differ by less than 0.02 AER. At 0.02,
# forward * backward >= 0.15 has AER .065 on French-English and .174 over ten languages of XL-WA (argmax .066 and
# .186, itermax .102 and .181).
TEMPERATURE = 0.02
ITERMAX_ALPHA = 0.9


def similarity(source: NDArray[Any], target: NDArray[Any]) -> Floats:
    """Cosine of each source vector (m, d) with each target vector (n, d): (m, n), rounded to 1e-4.

    The row or column of a zero vector is -1. ValueError if a vector is not finite.

    >>> similarity(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [1.0, 1.0]])).tolist()
    [[1.0, 0.707099974155426], [-1.0, -1.0]]
    """
    a, b = np.asarray(source, dtype=np.float32), np.asarray(target, dtype=np.float32)
    a_norm, b_norm = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    if not (np.isfinite(a_norm).all() and np.isfinite(b_norm).all()):
        raise ValueError("a word vector is not finite (a model in half precision may overflow: try fp32)")
    cosine = (a / np.maximum(a_norm, 1e-30)[:, None]) @ (b / np.maximum(b_norm, 1e-30)[:, None]).T
    cosine = _rounded(np.clip(cosine, -1.0, 1.0))
    cosine[a_norm == 0, :] = -1.0
    cosine[:, b_norm == 0] = -1.0
    return cosine


def probabilities(cosine: Floats, temperature: float = TEMPERATURE) -> tuple[Floats, Floats]:
    """Forward and backward alignment probabilities of a cosine matrix (m, n), each (m, n), rounded to 1e-4.

    Forward is a softmax of cosine / temperature over the target words of each source word (rows sum to 1),
    backward one over the source words of each target word (Dou and Neubig 2021, section 2.2, on cosines).
    Words without subwords have probability 0. ValueError if `temperature` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    rows, columns = _linkable(cosine)
    forward, backward = np.zeros_like(cosine, dtype=np.float32), np.zeros_like(cosine, dtype=np.float32)
    if len(rows):
        block = np.ix_(rows, columns)
        logits = cosine[block].astype(np.float64) / temperature
        for result, axis in ((forward, 1), (backward, 0)):
            weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
            result[block] = _rounded(weights / weights.sum(axis=axis, keepdims=True))
    return forward, backward


def argmax(cosine: Floats) -> Bools:
    """Mutual arg-max: cells (m, n) that are the highest both of their row and of their column."""
    return _on_linkable(_mutual, cosine)


def itermax(cosine: Floats) -> Bools:
    """Mutual arg-max, then once more among what that left: cells (m, n).

    SimAlign's IterMax (Jalili Sabet et al. 2020, section 2.2) with its defaults, two rounds and alpha 0.9. In
    the second round a cell of two unlinked words counts in full, one with a linked word 0.9 times, one of two
    linked words nothing. No second round if a side has fewer than 3 words or is wholly linked.
    """
    return _on_linkable(_itermax, cosine)


_DENSE: dict[str, Callable[[Floats], Bools]] = {"argmax": argmax, "itermax": itermax}
METHODS: tuple[str, ...] = tuple(_DENSE)


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Cells of one sentence pair, sorted by (source, target): five arrays of one length."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    forward: Floats
    backward: Floats
    cosine: Floats

    def __len__(self) -> int:
        return len(self.source)

    def to_rows(self) -> list[dict[str, int | float]]:
        """One dict a cell, as in the column `links`."""
        columns = [getattr(self, name).tolist() for name in _FIELDS]
        return [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Links:
        columns: dict[str, Any] = {
            name: np.array([row[name] for row in rows], dtype=dtype) for name, dtype in _FIELDS.items()
        }
        return cls(**columns)


_FIELDS: dict[str, type[np.generic]] = {
    "source": np.int32,
    "target": np.int32,
    "forward": np.float32,
    "backward": np.float32,
    "cosine": np.float32,
}


def make_links(cosine: Floats, temperature: float = TEMPERATURE, floor: float = FLOOR) -> Links:
    """What to store of a cosine matrix (m, n): cells that reach `floor` or that a hard method needs.

    `floor` is for either probability. The methods need the highest cell of every row and column, as it is and
    in the second round of itermax: at most 2 (m + n) cells more.
    """
    cosine = np.asarray(cosine, dtype=np.float32)
    forward, backward = probabilities(cosine, temperature)
    keep = (forward >= floor) | (backward >= floor) | _on_linkable(_looked_at, cosine)
    source, target = np.nonzero(keep)  # in row-major order, that is sorted
    return Links(source.astype(np.int32), target.astype(np.int32), forward[keep], backward[keep], cosine[keep])


def extract(links: Links, n_source: int, n_target: int, method: str) -> list[tuple[int, int]]:
    """Hard links (source word, target word) of one of `METHODS`, sorted. ValueError for another method."""
    if method not in _DENSE:
        raise ValueError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
    cosine = np.full((n_source, n_target), -1.0, dtype=np.float32)
    cosine[links.source, links.target] = links.cosine
    source, target = np.nonzero(_DENSE[method](cosine))
    return list(zip(source.tolist(), target.tolist(), strict=True))


def _rounded(values: NDArray[Any]) -> Floats:
    return np.round(values.astype(np.float64), DECIMALS).astype(np.float32)


def _linkable(cosine: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns with a cosine above -1; one is empty if and only if the other is."""
    possible = cosine > -1.0
    return np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))


def _on_linkable(method: Callable[[Floats], Bools], cosine: Floats) -> Bools:
    result = np.zeros(cosine.shape, dtype=np.bool_)
    rows, columns = _linkable(cosine)
    if len(rows):
        block = np.ix_(rows, columns)
        result[block] = method(cosine[block])
    return result


def _highest(values: NDArray[Any]) -> tuple[Bools, Bools]:
    """The highest cell of each row, and of each column; the lowest index where several are."""
    m, n = values.shape
    of_row, of_column = np.zeros((m, n), dtype=np.bool_), np.zeros((m, n), dtype=np.bool_)
    of_row[np.arange(m), values.argmax(axis=1)] = True
    of_column[values.argmax(axis=0), np.arange(n)] = True
    return of_row, of_column


def _mutual(cosine: Floats) -> Bools:
    of_row, of_column = _highest(cosine)
    return of_row & of_column


def _second_round(cosine: Floats, linked: Bools) -> NDArray[np.float64] | None:
    """Weighted similarities in [0, 1] of itermax's second round; None if there is none."""
    row_linked: Bools = np.any(linked, axis=1)
    column_linked: Bools = np.any(linked, axis=0)
    if min(cosine.shape) <= 2 or row_linked.all() or column_linked.all():
        return None
    n_linked = row_linked[:, None].astype(np.intp) + column_linked[None, :]
    weight = np.array([1.0, ITERMAX_ALPHA, 0.0])[n_linked]
    weighted: NDArray[np.float64] = (cosine.astype(np.float64) + 1.0) / 2.0 * weight
    return weighted


def _itermax(cosine: Floats) -> Bools:
    linked = _mutual(cosine)
    weighted = _second_round(cosine, linked)
    if weighted is None:
        return linked
    of_row, of_column = _highest(weighted)
    return linked | (of_row & of_column & (weighted > 0))


def _looked_at(cosine: Floats) -> Bools:
    """Every cell that decides what a hard method returns."""
    of_row, of_column = _highest(cosine)
    cells = of_row | of_column
    weighted = _second_round(cosine, of_row & of_column)
    if weighted is not None:
        of_row, of_column = _highest(weighted)
        cells |= of_row | of_column
    return cells
