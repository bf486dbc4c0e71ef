"""Word vectors by any Hugging Face encoder, cut after the last hidden state in use.

A word's vector is the mean of its subwords' states; subword vectors are available too. Sentences longer than the model
reads are windowed over words, never cut. The same list of sentences gives the same bytes on one kind of device; the
same sentence in another list may differ by 2e-6 (fp32), because its micro-batch does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
import torch

from xner_ray.align.linking import Subwords, Vectors
from xner_ray.errors import Reason, RecipeError
from xner_ray.models import e5, fast_linear, network
from xner_ray.models.device import pick_dtype
from xner_ray.models.hub import pin
from xner_ray.models.windows import Dtype, Units, Window, WindowReader, windowed
from xner_ray.recipe.sections import Align, Resolved

BUILTIN = "builtin"
Layer = int | list[int] | Literal["auto"]
T = TypeVar("T")


def resolve(section: Align, key: str = "align") -> Resolved:
    """Pin the encoder and its layers; reads no weights. Errors as of `pin` and `Encoder.check`."""
    encoder, identity = (BUILTIN, e5.SHA256) if section.encoder == BUILTIN else pin(section.encoder)
    layers = Encoder.check(encoder, section.layer)
    layer = layers[0] if len(layers) == 1 else layers
    return Resolved(section.model_copy(update={"encoder": encoder, "layer": layer}), {"encoder": identity})


class Encoder(WindowReader):
    """A model, its tokenizer and a device. precision: number format of the matrix products."""

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
        """Load the model.

        model: `builtin`, a folder, or a hub id (`name@revision`). layer: see `check`. dtype: `auto` is float32 on a
        CPU and float16 on a GPU; on a CPU, `bfloat16` and `int8` concern the products with weights alone (see
        fast_linear.py). threads: torch's, for the whole process. RecipeError if the model or the layer does not exist,
        or for int8 on a GPU; MissingExtraError if `builtin` is not installed.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        self.layers = self.check(model, layer)
        place = torch.device(device)
        on_cpu = place.type == "cpu"
        if dtype == "int8" and not on_cpu:
            raise RecipeError(
                f"align.dtype is int8, which is for CPUs, but the device is {device}; use bfloat16 or auto"
            )
        fast: fast_linear.Precision | None = None
        if on_cpu and dtype != "float16":
            fast = "float32" if dtype == "auto" else dtype
        tokenizer, module = network.load(
            str(e5.builtin_folder()) if model == BUILTIN else model,
            torch.float32 if fast or dtype == "int8" else pick_dtype(dtype, place.type),
        )
        super().__init__(tokenizer, network.positions_of(module, tokenizer), place, micro_batch_tokens)
        self.network = network.Network(module, self.layers, tokenizer)
        self.dim = self.network.dim
        module.to(place)
        self.precision = str(module.dtype).removeprefix("torch.")
        if fast and self.network.speed_up(fast):
            self.precision = fast

    @staticmethod
    def check(model: str, layer: Layer = "auto") -> list[int]:
        """Return the layers that will be used, from the model's configuration alone; no weights are read.

        The states of several layers are averaged. `auto` is 7 for `builtin`, the layers noted in the folder of an
        encoder that `adapt` made, else two thirds of the layers: 8 of mBERT's and XLM-R's 12, the best in SimAlign and
        awesome-align. RecipeError for a model or a layer that does not exist.
        """
        if model == BUILTIN:
            e5.weights_file()
            n_layers, default = e5.LAYERS, [e5.LAYER]
        else:
            n_layers, noted = network.layers_of(model)
            default = noted or [round(n_layers * 2 / 3)]
        layers = default if layer == "auto" else [layer] if isinstance(layer, int) else sorted(set(layer))
        if not layers or not 0 <= layers[0] <= layers[-1] <= n_layers:
            raise RecipeError(f"align.layer is {layer}, but {model} has layers 0..{n_layers}; or use auto")
        return layers

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[Vectors | Reason]:
        """Return the word vectors (n_words, dim) of each sentence, float32, in order.

        A word that the tokenizer gives no subword has a zero row. If one word has more subwords than the
        model reads, the sentence has `Reason.WORD_TOO_LONG` instead.
        """

        def joined(n_words: int, parts: list[tuple[Window, Vectors]]) -> Vectors:
            vectors = np.zeros((n_words, self.dim), dtype=np.float32)
            for window, values in parts:
                vectors[window.words] = values
            return vectors

        return self._encode(sentences, Window.of_words, joined)

    def encode_subwords(self, sentences: Sequence[Sequence[str]]) -> list[Subwords | Reason]:
        """Return the subword vectors of each sentence, in order; else as `encode`. A word without subwords has none."""

        def joined(n_words: int, parts: list[tuple[Window, Vectors]]) -> Subwords:
            vectors = [np.zeros((0, self.dim), dtype=np.float32), *(values for _, values in parts)]
            words = [np.zeros(0, dtype=np.int64), *(window.words[window.slots] for window, _ in parts)]
            return Subwords(np.concatenate(vectors), np.concatenate(words).astype(np.int32), n_words)

        return self._encode(sentences, Window.of_subwords, joined)

    def _encode(
        self,
        sentences: Sequence[Sequence[str]],
        units: Callable[[Window], Units],
        joined: Callable[[int, list[tuple[Window, Vectors]]], T],
    ) -> list[T | Reason]:
        found = windowed(self.tokenizer, sentences, self.positions)
        too_long = [any(a.words[-1] == b.words[0] for a, b in pairwise(windows)) for windows in found]
        kept = [[] if bad else windows for bad, windows in zip(too_long, found, strict=True)]
        parts = self.read(kept, lambda batch: self._forward(batch, units))
        return [
            Reason.WORD_TOO_LONG if bad else joined(len(sentence), own)
            for sentence, bad, own in zip(sentences, too_long, parts, strict=True)
        ]

    def _forward(self, batch: list[Window], units: Callable[[Window], Units]) -> list[Vectors]:
        """Return the vectors of each window's units."""
        n_units, means, exists = unit_means(self.network(self.inputs(batch)), [units(window) for window in batch])
        return np.split(means[exists].cpu().numpy(), np.cumsum(n_units)[:-1])


def unit_means(states: torch.Tensor, found: Sequence[Units]) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Average the states (B, T, dim) of each row's units.

    Returns the number of units per row, their means (B, units, dim), and which exist (B, units). Means are products
    with a 0/1 matrix, because index_add adds in no fixed order on a GPU.
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
