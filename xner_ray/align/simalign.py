"""The package simalign as a slow reference: one pair a call, every layer, with its own methods (extra `simalign`).

Its methods give their bits of `Links.methods`. Probabilities and the method `softmax`, which it lacks, are computed
from its similarities as in `linking.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray import extras
from xner_ray.align import linking
from xner_ray.align.encoder import Encoder, Layer
from xner_ray.align.linking import AlignOptions
from xner_ray.data.links import METHODS, Links
from xner_ray.errors import Reason, RecipeError
from xner_ray.models import network
from xner_ray.models.device import Timed
from xner_ray.models.e5 import BUILTIN, builtin_folder
from xner_ray.models.hub import folder_of, quiet

if TYPE_CHECKING:
    from xner_ray.align.aligner import Ints, Rejects, Sentences

_NAMES = {"argmax": "inter", "itermax": "itermax", "mwmf": "mwmf", "forward": "fwd", "reverse": "rev"}


class SimAligner(Timed):
    """An `aligner.Aligner` by simalign's SentenceAligner."""

    micro_batch_tokens = 0  # one pair a call

    def __init__(
        self,
        model: str,
        *,
        layer: Layer = "auto",
        options: AlignOptions | None = None,
        methods: Collection[str] = (),
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load the model in float32.

        model: `builtin`, a folder, or a hub id (`name@revision`). methods: `mwmf` is computed if it is among them.
        RecipeError for several layers, dot products or centring, which simalign lacks; MissingExtraError without it.
        """
        try:
            import simalign  # type: ignore[import-untyped]
        except ImportError as error:
            raise extras.missing("simalign", "simalign", "align.backend: simalign") from error
        self.options, self.tokens = options or AlignOptions(), 0
        layers = Encoder.check(model, layer)
        folder = builtin_folder() if model == BUILTIN else folder_of(model, weights=True)
        for key, value, refused, why in (
            ("layer", layer, len(layers) > 1, "reads one layer"),
            ("similarity", self.options.similarity, self.options.similarity == "dot", "has cosine alone"),
            ("center", self.options.center, self.options.center != "none", "takes vectors as they are; set none"),
        ):
            if refused:
                raise RecipeError(f"align.{key} is {value}, but align.backend: simalign {why}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.methods = [name for name in _NAMES if name != "mwmf" or name in methods]
        logging.getLogger("simalign.simalign").setLevel(logging.WARNING)
        with quiet():
            self.aligner = simalign.SentenceAligner(
                model=str(folder),
                token_type="word" if self.options.level == "word" else "bpe",
                distortion=self.options.distortion,
                matching_methods="".join(name[0] for name in self.methods),
                device=device,
                layer=layers[0],
            )
        self.aligner.get_similarity = self._similarity
        loader = self.aligner.embed_loader
        self.tokenize = loader.tokenizer.tokenize
        self.room = network.positions_of(loader.emb_model, loader.tokenizer) - 2

    def _similarity(self, source: NDArray[Any], target: NDArray[Any]) -> Any:
        self.similarity = type(self.aligner).get_similarity(source, target)
        return self.similarity

    def align(self, source: Sentences, target: Sentences, pairs: Ints | None = None) -> tuple[Links, Rejects]:
        """See `aligner.Aligner`. A sentence with more subwords than the model reads is rejected: simalign cuts it.

        Words without subwords are left out first, because simalign counts wrongly after them.
        """
        own = source if pairs is None else [source[pair] for pair in pairs]
        parts: list[Links] = []
        rejects: Rejects = {}
        for row, sides in enumerate(zip(own, target, strict=True)):
            counts = [np.array([len(self.tokenize(word)) for word in words], dtype=np.int64) for words in sides]
            sizes = [int(each.sum()) for each in counts]
            self.tokens += sum(sizes) + 4
            if max(sizes) > self.room:
                side = "source" if sizes[0] > self.room else "target"
                rejects[row] = (Reason.WORD_TOO_LONG, f"the {side} sentence has more subwords than simalign reads")
            elif all(sizes):
                parts.append(self._pair(row, sides, counts))
        return linking.merge(parts), rejects

    def _pair(self, row: int, sides: Sequence[Sequence[str]], counts: Sequence[NDArray[np.int64]]) -> Links:
        kept = [np.flatnonzero(each) for each in counts]
        with self.in_model():  # simalign makes vectors and links in one call
            links = self.aligner.get_word_aligns(
                *([words[i] for i in indices.tolist()] for words, indices in zip(sides, kept, strict=True))
            )
        units = []
        for indices, each in zip(kept, counts, strict=True):
            word = np.repeat(np.arange(len(indices)), 1 if self.options.level == "word" else each[indices])
            units.append((torch.from_numpy(word)[None], torch.ones(1, len(word), dtype=torch.bool)))
        cosine = torch.from_numpy(self.similarity * 2.0 - 1.0)[None]
        dense = linking.cells(cosine, None, units[0], units[1], self.options, mwmf=False)
        dense.methods.bitwise_and_(1 << METHODS.index("softmax"))
        for name in self.methods:
            for i, j in links[_NAMES[name]]:
                dense.methods[0, i, j] |= 1 << METHODS.index(name)
        found = linking.sparse(dense, np.array([row]), self.options.floor)
        first, second = (each.astype(np.int32) for each in kept)
        return replace(found, source=first[found.source], target=second[found.target])
