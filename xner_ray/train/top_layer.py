"""The top layer at words alone.

A word is read at its first subword, so what the top layer makes of the other places, four in ten, reaches no loss. In
BERT and its relatives (RoBERTa, XLM-R, ELECTRA) what follows attention is three modules of a layer, which are told
where to compute. All other layers are needed whole, for attention. Dropout is drawn for all places, so that training
draws as without this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def can_compute_at_words(layer: nn.Module) -> bool:
    """Return whether a layer is built as BERT's."""
    parts: Any = layer
    try:
        outputs = parts.attention.output, parts.output
        inner = parts.intermediate
    except AttributeError:
        return False
    return (
        all({name for name, _ in each.named_children()} == {"dense", "dropout", "LayerNorm"} for each in outputs)
        and all(isinstance(each.dropout, nn.Dropout) for each in outputs)
        and isinstance(inner, nn.Module)
        and getattr(layer, "chunk_size_feed_forward", 0) == 0
    )


@contextmanager
def at_words(layer: nn.Module, row: Tensor, place: Tensor) -> Iterator[None]:
    """Compute what follows a layer's attention at some places of a batch alone; its output is 0 elsewhere."""
    parts: Any = layer
    after, first, second = parts.attention.output, parts.intermediate, parts.output
    at = row, place
    parts.attention.output, parts.intermediate, parts.output = (
        _Output(after, at),
        _First(first, at),
        _Output(second, at),
    )
    try:
        yield
    finally:
        parts.attention.output, parts.intermediate, parts.output = after, first, second


class _First(nn.Module):
    def __init__(self, inner: Any, at: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.inner, self.at = inner, at

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.inner(states[self.at])
        return found


class _Output(nn.Module):
    def __init__(self, inner: Any, at: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.inner, self.at = inner, at

    def forward(self, inside: Tensor, states: Tensor) -> Tensor:
        """Return (B, T, dim). inside: (B, T, wide), or (places, wide); states: those before, (B, T, dim)."""
        made = self.inner.dense(inside[self.at] if inside.ndim == states.ndim else inside)
        dropout = self.inner.dropout
        if dropout.training and dropout.p > 0:
            made = made * dropout(torch.ones(states.shape, dtype=made.dtype, device=made.device))[self.at]
        made = self.inner.LayerNorm(made + states[self.at])
        whole: Tensor = made.new_zeros(states.shape).index_put(self.at, made)
        return whole
