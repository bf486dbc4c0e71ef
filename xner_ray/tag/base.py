"""Tagging: the contract of an engine that finds entities in words. One file an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.spans import Span, label_list, outermost, spans_to_tags
from xner_ray.errors import Reason

Rejected = tuple[Reason, str]  # why a sentence has no tags: reason and detail


def certain(spans: Sequence[Span], n_words: int, labels: Sequence[str]) -> NDArray[np.float32]:
    """`Tagger.probabilities` of a tagger that only gives spans: 1 for its tags, of overlapping spans the longest.

    >>> certain([Span(1, 3, "PER")], 3, ["PER"]).argmax(axis=1).tolist()
    [0, 1, 2]
    """
    columns = {tag: column for column, tag in enumerate(label_list(labels))}
    rows = np.zeros((n_words, len(columns)), dtype=np.float32)
    tags = spans_to_tags(outermost(spans)[0], n_words)
    rows[np.arange(n_words), [columns[tag] for tag in tags]] = 1
    return rows


class Tagger(Protocol):
    """Tags given words; `labels` are the labels that it can give, after its own mapping.

    `tokens` counts what it has read, `model_seconds` the wall time in its model; `micro_batch_tokens` is what to halve
    when memory runs out, 0 for nothing.
    """

    labels: tuple[str, ...]
    tokens: int
    micro_batch_tokens: int

    @property
    def model_seconds(self) -> float: ...

    def tag(self, sentences: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> Sequence[list[Span] | Rejected]:
        """Spans of each sentence; a sentence is its words, and for each whether a space follows it.

        Of spans that overlap the longest stays, and the others are counted as losses.
        """
        ...

    def probabilities(self, words: Sequence[Sequence[str]]) -> Sequence[NDArray[np.float32] | Rejected]:
        """For each sentence (n_words, 2 L + 1): O, B-1, I-1, B-2, ... by `labels`; a row sums to 1."""
        ...
