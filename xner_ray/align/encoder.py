"""Words -> vectors: any Hugging Face encoder, cut after the last hidden state in use.

A word's vector is the mean of its subwords' states; the subwords' own are there too. Sentences longer than the
model reads are windowed over words, never cut. Micro-batches are formed from the list alone, so the same list
gives the same bytes on one kind of device; the same sentence in another list may differ by 2e-6 (fp32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import torch

from xner_ray.align.linking import Subwords, Vectors
from xner_ray.errors import Reason, RecipeError
from xner_ray.models import e5, fast_linear, network
from xner_ray.models.device import Timed, pick_dtype
from xner_ray.models.hub import pin
from xner_ray.models.windows import Dtype, Units, Window, micro_batches, padded, pieces_of, tokenized
from xner_ray.recipe.sections import Align, Resolved

BUILTIN = "builtin"
Layer = int | list[int] | Literal["auto"]


def resolve(section: Align, key: str = "align") -> Resolved:
    """Pin the encoder and its layers; reads no weights. Errors as of `pin` and `Encoder.check`."""
    encoder, identity = (BUILTIN, e5.SHA256) if section.encoder == BUILTIN else pin(section.encoder)
    layers = Encoder.check(encoder, section.layer)
    layer = layers[0] if len(layers) == 1 else layers
    return Resolved(section.model_copy(update={"encoder": encoder, "layer": layer}), {"encoder": identity})


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
        name = str(e5.builtin_folder()) if model == BUILTIN else model
        fast: fast_linear.Precision | None = None
        if on_cpu and dtype != "float16":
            fast = "float32" if dtype == "auto" else dtype
        self.tokenizer, module = network.load(
            name, torch.float32 if fast or dtype == "int8" else pick_dtype(dtype, self.device.type)
        )
        self.spelt = network.spelt_specials(self.tokenizer)
        self.positions = network.positions_of(module, self.tokenizer)
        self.network = network.Network(module, self.layers, self.tokenizer)
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
        """Word vectors (n_words, dim) of each sentence, float32, in order.

        A word that the tokenizer gives no subword has a zero row. If one word has more subwords than the
        model reads, the sentence has `Reason.WORD_TOO_LONG` instead.
        """
        found = self._encode(sentences, Window.of_words)
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

    def encode_subwords(self, sentences: Sequence[Sequence[str]]) -> list[Subwords | Reason]:
        """Subword vectors of each sentence, in order; else as `encode`. A word without subwords has none."""
        results: list[Subwords | Reason] = []
        for sentence, parts in zip(sentences, self._encode(sentences, Window.of_subwords), strict=True):
            if isinstance(parts, Reason):
                results.append(parts)
                continue
            vectors = [values for _, values in parts] or [np.zeros((0, self.dim), dtype=np.float32)]
            words = [piece.words[piece.slots] for piece, _ in parts] or [np.zeros(0, dtype=np.intp)]
            results.append(Subwords(np.concatenate(vectors), np.concatenate(words).astype(np.int32), len(sentence)))
        return results

    @torch.inference_mode()
    def _encode(
        self, sentences: Sequence[Sequence[str]], units: Callable[[Window], Units]
    ) -> list[list[tuple[Window, Vectors]] | Reason]:
        """For each sentence its windows, from left to right, with the vectors of their units."""
        results: list[list[tuple[Window, Vectors]] | Reason] = []
        pieces: list[Window] = []
        for index, encoding in enumerate(tokenized(self.tokenizer, sentences)):
            found = pieces_of(index, encoding.ids, encoding.word_ids, len(sentences[index]), self.positions, self.spelt)
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

    def _forward(self, batch: list[Window], units: Callable[[Window], Units]) -> list[Vectors]:
        """Vectors of each piece's units. The longest piece comes first."""
        inputs = padded(batch, self.tokenizer.pad_token_id, self.device)
        states = self.network(inputs)
        n_units, means, exists = unit_means(states, [units(piece) for piece in batch])
        flat = means[exists].cpu().numpy()
        return np.split(flat, list(accumulate(n_units))[:-1])


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
