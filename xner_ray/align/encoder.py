"""Word vectors by any Hugging Face encoder, cut after the last hidden state in use.

A word's vector is the mean of its subwords' states; subword vectors are available too. Sentences longer than the model
reads are windowed over words, never cut. The same list of sentences gives the same bytes on one kind of device; the
same sentence in another list may differ by 2e-6 (fp32), because its micro-batch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.align.linking import Side, Subwords, Vectors, require_finite
from xner_ray.data.arrow import offsets, ranges
from xner_ray.errors import RecipeError
from xner_ray.models import e5, network
from xner_ray.models.e5 import BUILTIN
from xner_ray.models.hub import pin
from xner_ray.models.windows import Dtype, Ints, WindowReader
from xner_ray.recipe.sections import Align, Resolved

Layer = int | list[int] | Literal["auto"]
Level = Literal["word", "subword"]


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
        if dtype == "int8" and place.type != "cpu":
            raise RecipeError(
                f"align.dtype is int8, which is for CPUs, but the device is {device}; use bfloat16 or auto"
            )
        read = network.shared(model, self.layers, place, dtype)
        super().__init__(read.tokenizer, read.positions, place, micro_batch_tokens)
        self.shared = read  # or nobody else would find it
        self.network, self.dim, self.precision, self.kept = read.network, read.network.dim, read.precision, read.kept
        self.kept.wanted = True

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

    def encode(self, sentences: Sequence[Sequence[str]], level: Level = "word") -> Encoded:
        """Return the vectors of the sentences, by word or by subword; those of words are means of their subwords.

        A word that the tokenizer gives no subword has none. ValueError if a vector is not finite.
        """
        windows = self.split(sentences)
        too_long = windows.split_inside
        chosen = np.flatnonzero(~np.repeat(too_long, np.diff(windows.windows_of)))
        row, _, word = windows.read_in(chosen)
        first = unit_starts(row, word) if level == "word" else np.ones(len(word), dtype=np.bool_)
        units = offsets(np.bincount(row[first], minlength=len(chosen)))
        # Where the units of each window begin: windows are read longest first, and units come out sentence by sentence
        begin = np.zeros(len(windows.lengths), dtype=np.int64)
        begin[chosen] = units[:-1]
        vectors = torch.zeros((int(units[-1]), self.dim), device=self.device)

        def forward(inputs: dict[str, torch.Tensor], batch: Ints) -> None:
            row, place, word = windows.read_in(batch)
            states = self.kept.take(windows, batch)
            states = self.network(inputs) if states is None else states
            n_units, means, exists = unit_means(states, row, place, word if level == "word" else None)
            vectors[torch.from_numpy(ranges(begin[batch], n_units)).to(self.device)] = means[exists]

        self.read(windows, chosen, forward)
        if len(vectors):  # or a stage that reads nothing has been in its model
            with self.in_model():
                require_finite(vectors)
        number = word[first]
        sentence = np.searchsorted(windows.first, number, side="right") - 1
        lengths = np.bincount(sentence, minlength=len(windows))
        own = number - windows.first[sentence]
        return Encoded(
            Side(vectors, own, np.cumsum(lengths) - lengths, lengths), np.diff(windows.first), too_long, level
        )


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Encoded sentences, by word or by subword.

    n_words: of each sentence. too_long: those with a word of more subwords than the model reads.
    """

    side: Side
    n_words: Ints
    too_long: NDArray[np.bool_]
    level: Level = "word"

    def arrays(self) -> list[Vectors | Subwords | None]:
        """Return each sentence by itself, None if it is too long: as `align` takes them.

        At level `word` the vectors (n_words, dim), 0 for a word without one.
        """
        found: list[Vectors | Subwords | None] = []
        for number, n_words in enumerate(self.n_words.tolist()):
            start = self.side.starts[number]
            own = slice(start, start + self.side.lengths[number])
            values, word = self.side.vectors[own].cpu().numpy(), self.side.word[own]
            if self.too_long[number]:
                found.append(None)
            elif self.level == "subword":
                found.append(Subwords(values, word.astype(np.int32), n_words))
            else:
                vectors = np.zeros((n_words, values.shape[1]), dtype=np.float32)
                vectors[word] = values
                found.append(vectors)
        return found


def unit_starts(row: Ints, word: Ints) -> NDArray[np.bool_]:
    """Return which subwords are the first of their word in their row."""
    starts: NDArray[np.bool_] = (np.diff(row, prepend=-1) != 0) | (np.diff(word, prepend=-1) != 0)
    return starts


def unit_means(
    states: torch.Tensor, row: Ints, place: Ints, word: Ints | None
) -> tuple[Ints, torch.Tensor, torch.Tensor]:
    """Average the states (B, T, dim) of each row's units.

    row, place: of the subwords, by row and place; word: of each, None if each is a unit of its own. Returns the number
    of units per row, their means (B, units, dim), and which exist (B, units). Means are products with a 0/1 matrix,
    because index_add adds in no fixed order on a GPU.
    """
    first = np.ones(len(row), dtype=np.bool_) if word is None else unit_starts(row, word)
    n_units = np.bincount(row[first], minlength=len(states))
    slot = np.cumsum(first) - 1 - offsets(n_units)[row]
    member = torch.zeros(len(states), int(n_units.max()), states.shape[1], device=states.device)
    at_row, at_slot, at_place = torch.from_numpy(np.stack([row, slot, place])).to(states.device)
    member[at_row, at_slot, at_place] = 1.0
    means = torch.bmm(member, states.float()) / member.sum(dim=2, keepdim=True).clamp(min=1.0)
    exists = torch.arange(member.shape[1])[None, :] < torch.from_numpy(n_units)[:, None]
    return n_units, means, exists.to(states.device)
