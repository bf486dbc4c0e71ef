"""Long sentences in overlapping windows, and windows in padded micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import offsets
from xner_ray.errors import Reason

CPU_TOKENS = 1024  # more in one pass leave a CPU's cache, and padding grows
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


def tokenized(tokenizer: Any, sentences: Sequence[Sequence[str]]) -> list[Any]:
    """The tokenizer's encodings (ids, word_ids) of sentences in words, special tokens around them, nothing cut."""
    if not sentences:
        return []
    words = [list(sentence) for sentence in sentences]
    options: dict[str, Any] = {"truncation": False, "padding": False, "split_special_tokens": True, "verbose": False}
    encodings: list[Any] = tokenizer(words, is_split_into_words=True, **options).encodings
    return encodings


@dataclass(frozen=True, slots=True)
class Window:
    """One row of a micro-batch: a sentence, or a window of one."""

    sentence: int
    ids: list[int]  # special tokens included
    words: NDArray[np.intp]  # words of the sentence whose vectors come from here
    places: NDArray[np.int64]  # positions in `ids` of these words' subwords,
    slots: NDArray[np.int64]  # and for each the index into `words`

    def of_words(self) -> Units:
        return len(self.words), self.slots, self.places

    def of_subwords(self) -> Units:
        return len(self.places), np.arange(len(self.places)), self.places


Units = tuple[int, NDArray[np.int64], NDArray[np.int64]]  # how many; of each place the unit; the places


def pieces_of(
    sentence: int,
    ids: list[int],
    word_ids: list[int | None],
    n_words: int,
    positions: int,
    spelt: Mapping[int, int],
) -> list[Window] | Reason:
    """Rows for one tokenised sentence: none without subwords, one if it fits, else its windows."""
    word_of = np.array([-1 if word is None else word for word in word_ids], dtype=np.intp)
    inner = np.flatnonzero(word_of >= 0)
    if not len(inner):
        return []
    before, after = ids[: inner[0]], ids[inner[-1] + 1 :]
    inner_ids, word_of = [spelt.get(ids[place], ids[place]) for place in inner], word_of[inner]
    counts = np.bincount(word_of, minlength=n_words)
    room = positions - len(before) - len(after)
    if counts.max() > room:
        return Reason.WORD_TOO_LONG
    edges = offsets(counts)
    pieces = []
    for start, end, first, last in windows(counts.tolist(), room):
        places = np.arange(edges[first], edges[last])
        words, slots = np.unique(word_of[places], return_inverse=True)
        if len(words):
            part = before + inner_ids[edges[start] : edges[end]] + after
            pieces.append(Window(sentence, part, words, places - edges[start] + len(before), slots))
    return pieces


def windows(counts: Sequence[int], room: int) -> list[tuple[int, int, int, int]]:
    """Word ranges that cover a sentence, (start, end, first, last), half-open; `counts` are subwords a word.

    A window is words start..end, of at most `room` subwords, each about half a window after the one before;
    its vectors are used for the words first..last only. These ranges tile the sentence, and each word is in
    the window where the nearer cut is farthest. Every count must be at most `room`.

    >>> windows([1, 1, 1], 5), windows([1] * 10, 6)
    ([(0, 3, 0, 3)], [(0, 6, 0, 5), (3, 9, 5, 7), (4, 10, 7, 10)])
    """
    n_words = len(counts)
    if not n_words:
        return []
    edges = offsets(counts)
    spans: list[tuple[int, int]] = []
    start = end = 0
    while end < n_words:
        end = int(np.searchsorted(edges, edges[start] + room, side="right")) - 1
        if end == n_words:  # the last one: as far to the left as it has room
            start = int(np.searchsorted(edges, edges[end] - room, side="left"))
        spans.append((start, end))
        half = int(np.searchsorted(edges, edges[start] + room // 2, side="left"))
        start = min(max(half, start + 1), end)
    middle = (edges[:-1] + edges[1:]) / 2
    depth = np.full((len(spans), n_words), -1.0)
    for row, (start, end) in enumerate(spans):
        left = middle[start:end] - edges[start] if start else np.inf
        right = edges[end] - middle[start:end] if end < n_words else np.inf
        depth[row, start:end] = np.minimum(left, right)
    owner = np.maximum.accumulate(depth.argmax(axis=0))
    return [
        (start, end, int(np.searchsorted(owner, row)), int(np.searchsorted(owner, row, side="right")))
        for row, (start, end) in enumerate(spans)
    ]


class Row(Protocol):
    """One row of a micro-batch."""

    @property
    def ids(self) -> list[int]: ...


_Row = TypeVar("_Row", bound=Row)


def micro_batches(pieces: Sequence[_Row], budget: int, device: torch.device) -> Iterator[list[_Row]]:
    """Longest first, so that memory runs out at the first batch or never; rows x longest row fit the budget.

    A CPU takes no more than `CPU_TOKENS`; a longer single row goes alone.
    """
    budget = min(budget, CPU_TOKENS) if device.type == "cpu" else budget
    ordered = sorted(pieces, key=lambda piece: -len(piece.ids))
    start = 0
    while start < len(ordered):
        size = max(1, budget // len(ordered[start].ids))
        yield ordered[start : start + size]
        start += size


def padded(batch: Sequence[Row], padding: int | None, device: torch.device) -> dict[str, torch.Tensor]:
    """A model's inputs, ids and mask, for rows of which the longest comes first."""
    shape = (len(batch), len(batch[0].ids))
    ids = np.full(shape, padding or 0, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, piece in enumerate(batch):
        ids[row, : len(piece.ids)] = piece.ids
        mask[row, : len(piece.ids)] = 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }
