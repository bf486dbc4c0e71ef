"""Words -> vectors: any Hugging Face encoder, cut after the last hidden state in use.

A word's vector is the mean of its subwords' states; the subwords' own are there too. Sentences longer than the
model reads are windowed over words, never cut. Micro-batches are formed from the list alone, so the same list
gives the same bytes on one kind of device; the same sentence in another list may differ by 2e-6 (fp32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray import builtin_encoder, encoder_network, fast_linear
from xner_ray.align import Subwords, Vectors
from xner_ray.errors import Reason, RecipeError
from xner_ray.hub import pick_dtype
from xner_ray.recall import filled
from xner_ray.timing import Timed

BUILTIN = "builtin"
CPU_TOKENS = 1024  # more in one pass leave a CPU's cache, and padding grows
Layer = int | list[int] | Literal["auto"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


class Encoder(Timed):
    """A model, its tokenizer and a device.

    `tokens` and `padding` count the tokens encoded since the start, special ones included, and the padded
    places beside them. `micro_batch_tokens` bounds rows x longest row of one forward pass (a longer single
    sentence goes alone; a CPU takes no more than `CPU_TOKENS`) and may be changed between calls;
    torch.OutOfMemoryError passes through. `precision` says what the products are computed in.
    """

    def __init__(
        self,
        model: str,
        *,
        layer: Layer = "auto",
        device: str = "cpu",
        dtype: Dtype = "auto",
        threads: int | None = None,
        micro_batch_tokens: int = 4096,
    ) -> None:
        """`model` is `builtin`, a folder, or a hub id (`name@revision`); for `layer` see `check`.

        `dtype`: `auto` is float32 on a CPU and bfloat16 on a GPU. On a CPU `bfloat16` and `int8` are for the products
        with weights alone (see fast_linear.py); `int8` is for CPUs. RecipeError if the model or the layer does not
        exist or int8 is asked of a GPU, MissingExtraError if `builtin` is not installed. `threads` sets torch's
        threads for the whole process.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        self.layers = self.check(model, layer)
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        if dtype == "int8" and not on_cpu:
            raise RecipeError(
                f"align.dtype is int8, which is for CPUs, but the device is {device}; use bfloat16 or auto"
            )
        self.micro_batch_tokens = micro_batch_tokens
        self.tokens = 0
        self.padding = 0
        name = str(builtin_encoder.builtin_folder()) if model == BUILTIN else model
        fast: fast_linear.Precision | None = None
        if on_cpu and dtype != "float16":
            fast = "float32" if dtype == "auto" else dtype
        self.tokenizer, module = encoder_network.load(
            name, torch.float32 if fast or dtype == "int8" else pick_dtype(dtype, self.device.type)
        )
        self.spelt = encoder_network.spelt_specials(self.tokenizer)
        self.positions = encoder_network.positions_of(module, self.tokenizer)
        self.network = encoder_network.Network(module, self.layers, self.tokenizer)
        self.dim = self.network.dim
        module.to(self.device)
        self.precision = str(module.dtype).removeprefix("torch.")
        if fast and self.network.speed_up(fast):
            self.precision = fast

    @staticmethod
    def check(model: str, layer: Layer = "auto") -> list[int]:
        """The layers that will be used, from the model's configuration alone; no weights are read.

        Of several the states are averaged. `auto` is 7 for `builtin`, for an encoder that `adapt` made what its folder
        notes, else two thirds of the layers: 8 of mBERT's and XLM-R's 12, the best in SimAlign and awesome-align.
        RecipeError for a model or a layer that does not exist.
        """
        if model == BUILTIN:
            builtin_encoder.weights_file()
            n_layers, default = builtin_encoder.LAYERS, [builtin_encoder.LAYER]
        else:
            n_layers, noted = encoder_network.layers_of(model)
            default = noted or [round(n_layers * 2 / 3)]
        layers = default if layer == "auto" else [layer] if isinstance(layer, int) else sorted(set(layer))
        if not layers or not 0 <= layers[0] <= layers[-1] <= n_layers:
            raise RecipeError(f"align.layer is {layer}, but {model} has layers 0..{n_layers}; or use auto")
        return layers

    def encode(
        self, sentences: Sequence[Sequence[str]], present: Sequence[bool] | None = None
    ) -> list[Vectors | Reason]:
        """Word vectors (n_words, dim) of each sentence, float32, in order.

        A word that the tokenizer gives no subword has a zero row. If one word has more subwords than the
        model reads, the sentence has `Reason.WORD_TOO_LONG` instead. Of a sentence that is not `present` only the
        shape counts (`recall.filled`).
        """
        found = self._encode(sentences, Piece.of_words, present)
        results: list[Vectors | Reason] = []
        for sentence, parts in zip(sentences, found, strict=True):
            if isinstance(parts, Reason):
                results.append(parts)
                continue
            vectors = np.zeros((len(sentence), self.dim), dtype=np.float32)
            for piece, values in parts:
                vectors[piece.words] = values
            results.append(vectors)
        return results

    def encode_subwords(
        self, sentences: Sequence[Sequence[str]], present: Sequence[bool] | None = None
    ) -> list[Subwords | Reason]:
        """Subword vectors of each sentence, in order; else as `encode`. A word without subwords has none."""
        results: list[Subwords | Reason] = []
        for sentence, parts in zip(sentences, self._encode(sentences, Piece.of_subwords, present), strict=True):
            if isinstance(parts, Reason):
                results.append(parts)
                continue
            vectors = [values for _, values in parts] or [np.zeros((0, self.dim), dtype=np.float32)]
            words = [piece.words[piece.slots] for piece, _ in parts] or [np.zeros(0, dtype=np.intp)]
            results.append(Subwords(np.concatenate(vectors), np.concatenate(words).astype(np.int32), len(sentence)))
        return results

    @torch.inference_mode()
    def _encode(
        self,
        sentences: Sequence[Sequence[str]],
        units: Callable[[Piece], Units],
        present: Sequence[bool] | None,
    ) -> list[list[tuple[Piece, Vectors]] | Reason]:
        """For each sentence its windows, from left to right, with the vectors of their units."""
        results: list[list[tuple[Piece, Vectors]] | Reason] = []
        pieces: list[Piece] = []
        for index, encoding in enumerate(tokenized(self.tokenizer, sentences)):
            ids = filled(encoding.ids, present is None or present[index])
            found = pieces_of(index, ids, encoding.word_ids, len(sentences[index]), self.positions, self.spelt)
            results.append(found if isinstance(found, Reason) else [])
            pieces += [] if isinstance(found, Reason) else found
        tokens = padding = 0
        for batch in micro_batches(pieces, self.micro_batch_tokens, self.device):
            real = sum(len(piece.ids) for piece in batch)
            tokens += real
            padding += len(batch) * len(batch[0].ids) - real
            with self.in_model():
                states = self._forward(batch, units)
            for piece, vectors in zip(batch, states, strict=True):
                result = results[piece.sentence]
                assert not isinstance(result, Reason)
                result.append((piece, vectors))
        for result in results:
            if not isinstance(result, Reason):
                result.sort(key=lambda part: part[0].words[0])
        self.tokens += tokens  # only now: a call that ran out of memory is made again
        self.padding += padding
        return results

    def _forward(self, batch: list[Piece], units: Callable[[Piece], Units]) -> list[Vectors]:
        """Vectors of each piece's units. The longest piece comes first."""
        inputs = padded(batch, self.tokenizer.pad_token_id, self.device)
        states = self.network(inputs)
        n_units, means, exists = unit_means(states, [units(piece) for piece in batch])
        flat = means[exists].cpu().numpy()
        return np.split(flat, list(accumulate(n_units))[:-1])


def tokenized(tokenizer: Any, sentences: Sequence[Sequence[str]]) -> list[Any]:
    """The tokenizer's encodings (ids, word_ids) of sentences in words, special tokens around them, nothing cut."""
    if not sentences:
        return []
    words = [list(sentence) for sentence in sentences]
    options: dict[str, Any] = {"truncation": False, "padding": False, "split_special_tokens": True, "verbose": False}
    encodings: list[Any] = tokenizer(words, is_split_into_words=True, **options).encodings
    return encodings


def unit_means(states: torch.Tensor, found: Sequence[Units]) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Means of the states (B, T, dim) of each row's units: how many, the means (B, units, dim), which exist (B, units).

    As products with a 0/1 matrix: index_add would add in any order on a GPU.
    """
    n_units = [number for number, _, _ in found]
    cells = np.concatenate(
        [np.stack([np.full_like(slots, row), slots, places]) for row, (_, slots, places) in enumerate(found)],
        axis=1,
    )
    member = torch.zeros(len(found), max(n_units), states.shape[1], device=states.device)
    row, slot, place = torch.from_numpy(cells).to(states.device)
    member[row, slot, place] = 1.0
    means = torch.bmm(member, states.float()) / member.sum(dim=2, keepdim=True).clamp(min=1.0)
    exists = torch.arange(max(n_units))[None, :] < torch.tensor(n_units)[:, None]
    return n_units, means, exists.to(states.device)


@dataclass(frozen=True, slots=True)
class Piece:
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
) -> list[Piece] | Reason:
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
    edges = np.concatenate([[0], np.cumsum(counts)])
    pieces = []
    for start, end, first, last in windows(counts.tolist(), room):
        places = np.arange(edges[first], edges[last])
        words, slots = np.unique(word_of[places], return_inverse=True)
        if len(words):
            part = before + inner_ids[edges[start] : edges[end]] + after
            pieces.append(Piece(sentence, part, words, places - edges[start] + len(before), slots))
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
    edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
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
