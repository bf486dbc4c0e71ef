"""Sentences in overlapping windows, and windows in padded micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.data.arrow import offsets
from xner_ray.models.device import Timed

CPU_TOKENS = 1024  # more in one pass leave a CPU's cache, and padding grows
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Ints = NDArray[np.int64]
Units = tuple[int, Ints, Ints]  # their number; the unit of each place; the places


@dataclass(frozen=True, slots=True)
class Window:
    """A sentence, or a part of one, as a model reads it.

    ids: special tokens included. words: the words of the sentence that are read in this window, ascending. places:
    the positions in `ids` of their subwords; slots: for each place the index into `words`.
    """

    ids: list[int]
    words: Ints
    places: Ints
    slots: Ints

    def of_words(self) -> Units:
        return len(self.words), self.slots, self.places

    def of_subwords(self) -> Units:
        return len(self.places), np.arange(len(self.places)), self.places


def windowed(tokenizer: Any, sentences: Sequence[Sequence[str]], positions: int) -> list[list[Window]]:
    """Return the windows of each sentence in words, from left to right; none for a sentence without subwords.

    positions: tokens that the model reads at once. A word longer than that is taken apart: it is read at the end of
    one window and at the beginning of the next. Nothing is cut off, and text that spells a special token stays text.
    """
    if not sentences:
        return []
    encodings = tokenizer(
        [list(sentence) for sentence in sentences],
        is_split_into_words=True,
        truncation=False,
        padding=False,
        split_special_tokens=True,
        verbose=False,
    ).encodings
    # Unigram tokenizers have "</s>" among their pieces, which split_special_tokens leaves: it becomes the unknown word.
    unknown = tokenizer.unk_token_id
    spelt = {} if unknown is None else dict.fromkeys(tokenizer.all_special_ids, unknown)
    return [_split(encoding.ids, encoding.word_ids, positions, spelt) for encoding in encodings]


def _split(ids: list[int], word_ids: list[int | None], positions: int, spelt: dict[int, int]) -> list[Window]:
    word_of = np.array([-1 if word is None else word for word in word_ids], dtype=np.int64)
    inner = np.flatnonzero(word_of >= 0)
    if not len(inner):
        return []
    before, after = ids[: inner[0]], ids[inner[-1] + 1 :]
    inner_ids, word_of = [spelt.get(ids[place], ids[place]) for place in inner], word_of[inner]
    room = positions - len(before) - len(after)
    counts = [part for count in np.bincount(word_of).tolist() for part in ([count] if count <= room else [1] * count)]
    edges = offsets(counts)
    found = []
    for window in windows(counts, room):
        start, end, first, last = edges[list(window)].tolist()
        if first < last:
            words, slots = np.unique(word_of[first:last], return_inverse=True)
            places = np.arange(first, last) - start + len(before)
            found.append(Window(before + inner_ids[start:end] + after, words, places, slots))
    return found


def windows(counts: Sequence[int], room: int) -> list[tuple[int, int, int, int]]:
    """Return half-open word ranges that cover a sentence, (start, end, first, last).

    counts: subwords of each word, each at most `room`. A window has the words start..end, of at most `room` subwords,
    and begins about half a window after the one before; it is read for the words first..last alone. These ranges tile
    the sentence, and each word is read in the window whose nearer cut is farthest from it.

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
        if end == n_words:  # the last window extends to the left as far as it has room
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


def micro_batches(sizes: Sequence[int] | Ints, budget: int) -> Iterator[Ints]:
    """Yield the indices of items in batches, longest first; items x longest fit the budget, or it is one item.

    So memory runs out at the first batch or never.

    >>> [batch.tolist() for batch in micro_batches([2, 9, 3, 2], 6)]
    [[1], [2, 0], [3]]
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    while len(order):
        n = max(1, budget // int(sizes[order[0]]))
        yield order[:n]
        order = order[n:]


def padded(rows: Sequence[Sequence[int]], padding: int | None, device: torch.device) -> dict[str, torch.Tensor]:
    """Return a model's inputs for rows of ids: `input_ids` and `attention_mask`, each (rows, longest)."""
    ids = np.full((len(rows), max(map(len, rows))), padding or 0, dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}


class WindowReader(Timed):
    """A network that reads sentences in windows: what an encoder and a token classifier have in common.

    tokens, padding: tokens read since the start, special ones and overlaps of windows included, and the padded places
    beside them. micro_batch_tokens: bound of rows x longest row of one forward pass; a longer single window goes alone,
    a CPU takes no more than `CPU_TOKENS`. It may change between calls; torch.OutOfMemoryError passes through.
    """

    def __init__(self, tokenizer: Any, positions: int, device: torch.device, micro_batch_tokens: int) -> None:
        self.tokenizer, self.positions, self.device = tokenizer, positions, device
        self.micro_batch_tokens = micro_batch_tokens
        self.tokens = self.padding = 0

    @torch.inference_mode()
    def read(
        self, sentences: Sequence[Sequence[Window]], forward: Callable[[list[Window]], Sequence[NDArray[np.float32]]]
    ) -> list[list[tuple[Window, NDArray[np.float32]]]]:
        """Return the windows of each sentence, in order, each with what `forward` gives for it.

        forward: called with a micro-batch of windows; one result a window.
        """
        flat = [window for own in sentences for window in own]
        sizes = [len(window.ids) for window in flat]
        results: dict[int, NDArray[np.float32]] = {}
        padding = -sum(sizes)
        budget = min(self.micro_batch_tokens, CPU_TOKENS) if self.device.type == "cpu" else self.micro_batch_tokens
        for batch in micro_batches(sizes, budget):
            with self.in_model():
                found = forward([flat[index] for index in batch])
            results.update(zip(batch.tolist(), found, strict=True))
            padding += len(batch) * sizes[batch[0]]
        self.tokens += sum(sizes)  # only now: a call that ran out of memory is made again
        self.padding += padding
        numbers = iter(range(len(flat)))
        return [[(window, results[next(numbers)]) for window in own] for own in sentences]

    def inputs(self, batch: Sequence[Window]) -> dict[str, torch.Tensor]:
        """Return the network's inputs for a micro-batch."""
        return padded([window.ids for window in batch], self.tokenizer.pad_token_id, self.device)
