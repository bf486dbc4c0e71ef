"""Tagging: the contract of an engine that finds entities on the source side. One file an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xner_ray.spans import Span


class Tagger(Protocol):
    """Tags given words; `labels` are the labels that it can give, after its own mapping.

    `tokens` counts what it has read; `micro_batch_tokens` is what to halve when memory runs out, 0 for nothing.
    """

    labels: tuple[str, ...]
    tokens: int
    micro_batch_tokens: int

    def tag(self, sentences: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> list[list[Span]]:
        """Spans of each sentence; a sentence is its words, and for each whether a space follows it."""
        ...

    def probabilities(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """For each sentence (n_words, 2 L + 1): O, B-1, I-1, B-2, ... by `labels`; a row sums to 1."""
        ...
