"""Hard links of padded batches of similarity matrices: SimAlign's methods (Jalili Sabet et al. 2020).

A batch is a tensor (B, m, n) of similarities in [0, 1], float64, and two masks of the words that exist, (B, m) and
(B, n). Padding has no influence on any result. Ties go to the lowest index.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

ITERMAX_ALPHA = 0.9  # SimAlign's default, with two rounds
_NO_EDGE = -1e6


def mask_of(source: Tensor, target: Tensor) -> Tensor:
    """Return the cells (B, m, n) whose words exist."""
    return source[:, :, None] & target[:, None, :]


def distort(similarity: Tensor, source: Tensor, target: Tensor, ratio: float) -> Tensor:
    """Multiply similarities by 1 - ratio * (difference of the relative positions)**2, as SimAlign's `distortion`.

    A word's relative position is 0 for the first and 1 for the last word of its sentence. A pair with one word on a
    side stays as it is.
    """
    if ratio == 0:
        return similarity
    n_source, n_target = source.sum(1), target.sum(1)
    x = torch.arange(similarity.shape[2], device=similarity.device) / (n_target - 1).clamp(min=1).double()[:, None]
    y = torch.arange(similarity.shape[1], device=similarity.device) / (n_source - 1).clamp(min=1).double()[:, None]
    factor = 1.0 - (x[:, None, :] - y[:, :, None]) ** 2 * ratio
    factor[(n_source < 2) | (n_target < 2)] = 1.0
    return similarity * factor


def highest(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the highest cell of each row (SimAlign's `fwd`) and of each column (`rev`): two bool tensors (B, m, n)."""
    values = values.masked_fill(~mask, -torch.inf)
    columns = torch.arange(values.shape[2], device=values.device)
    rows = torch.arange(values.shape[1], device=values.device)
    of_row = values.argmax(dim=2)[:, :, None] == columns
    of_column = values.argmax(dim=1)[:, None, :] == rows[:, None]
    return of_row & mask, of_column & mask


def itermax(similarity: Tensor, mutual: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Add to the mutual arg-max `mutual` a second round among the words left (section 2.2): bool (B, m, n).

    In the second round a cell of two unlinked words counts in full, one with a linked word 0.9 times, one of two
    linked words not at all. There is no second round if a side has fewer than 3 words or is fully linked.
    """
    free_source, free_target = source & ~mutual.any(dim=2), target & ~mutual.any(dim=1)
    again = (source.sum(1) > 2) & (target.sum(1) > 2) & free_source.any(1) & free_target.any(1)
    if not again.any():
        return mutual
    n_free = free_source.to(torch.int64)[:, :, None] + free_target.to(torch.int64)[:, None, :]
    weight = torch.tensor([0.0, ITERMAX_ALPHA, 1.0], dtype=similarity.dtype, device=similarity.device)
    of_row, of_column = highest(similarity * weight[n_free], mask_of(source, target))
    return mutual | (of_row & of_column & (n_free > 0) & again[:, None, None])


def mwmf(similarity: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the matching of maximum weight among those with the most links (section 2.3): bool (B, m, n).

    A cell of similarity 0 is never linked: SimAlign has no edge there. Among matchings of equal weight the solver
    chooses, always the same one for the same matrix.
    """
    result = np.zeros(similarity.shape, dtype=np.bool_)
    values = similarity.cpu().numpy()
    sizes = zip(source.sum(1).tolist(), target.sum(1).tolist(), strict=True)
    for index, (m, n) in enumerate(sizes):
        block = values[index, :m, :n]
        rows, columns = linear_sum_assignment(np.where(block == 0, _NO_EDGE, block), maximize=True)
        linked = block[rows, columns] != 0
        result[index, rows[linked], columns[linked]] = True
    return torch.from_numpy(result).to(similarity.device)
