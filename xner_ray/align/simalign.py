"""The package simalign as a slow reference: one pair a call, every layer, its own tokenising and its own methods.

Needs the extra `simalign`. Its bits of `Links.methods` are what the package returns; probabilities, and the method
`softmax`, which it does not have, come from its similarities by the functions of `linking.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.align import linking
from xner_ray.align.aligner import Rejects, Sentences
from xner_ray.align.encoder import BUILTIN, Encoder, Layer
from xner_ray.align.linking import AlignOptions
from xner_ray.data.links import METHODS, Links
from xner_ray.errors import MissingExtraError, Reason, RecipeError
from xner_ray.models import network as encoder_network
from xner_ray.models.device import Timed
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.hub import local_folder

NAMES = {"argmax": "inter", "itermax": "itermax", "mwmf": "mwmf", "forward": "fwd", "reverse": "rev"}
_LETTERS = {"argmax": "a", "itermax": "i", "mwmf": "m", "forward": "f", "reverse": "r"}


class SimAligner(Timed):
    """simalign's SentenceAligner in the place of `aligner.BatchAligner`."""

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
        """`model` is `builtin`, a folder or a hub id without revision; float32 always.

        `mwmf` is computed if it is among `methods`. RecipeError for several layers, dot products or centring, which
        simalign does not have; MissingExtraError if it is not installed.
        """
        try:
            import simalign  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("simalign", "simalign", "align.backend: simalign") from error
        self.options = options or AlignOptions()
        layers = Encoder.check(model, layer)
        if len(layers) > 1:
            raise RecipeError(f"align.layer is {layer}, but align.backend: simalign reads one layer")
        if self.options.similarity == "dot":
            raise RecipeError("align.similarity is dot, but align.backend: simalign has cosine alone")
        if self.options.center != "none":
            raise RecipeError("align.center is pair, but align.backend: simalign takes vectors as they are; set none")
        if "@" in model and local_folder(model) is None:
            raise RecipeError(f"align.encoder is {model}, but align.backend: simalign takes no revision")
        if threads is not None:
            torch.set_num_threads(threads)
        folder = builtin_folder() if model == BUILTIN else local_folder(model)
        self.methods = [name for name in NAMES if name != "mwmf" or name in methods]
        self.tokens = 0

        class Recorder(simalign.SentenceAligner):  # type: ignore[misc]
            similarities: NDArray[Any]

            def get_similarity(self, source: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
                self.similarities = simalign.SentenceAligner.get_similarity(source, target)
                return self.similarities

        logging.getLogger("simalign.simalign").setLevel(logging.WARNING)
        with encoder_network.quiet():
            self.aligner = Recorder(
                model=str(folder) if folder else model,
                token_type="word" if self.options.level == "word" else "bpe",
                distortion=self.options.distortion,
                matching_methods="".join(_LETTERS[name] for name in self.methods),
                device=device,
                layer=layers[0],
            )
        tokenizer = self.aligner.embed_loader.tokenizer
        network = self.aligner.embed_loader.emb_model
        self.room = encoder_network.positions_of(network, tokenizer) - 2

    def align(self, source: Sentences, target: Sentences) -> tuple[Links, Rejects]:
        """See `aligner.Aligner`. A sentence of more subwords than the model reads is rejected: simalign cuts it.

        Words without subwords are left out before, because simalign counts wrongly after them.
        """
        parts: list[Links] = []
        rejects: Rejects = {}
        for row, sides in enumerate(zip(source, target, strict=True)):
            counts = [self._subwords(words) for words in sides]
            self.tokens += int(sum(c.sum() + 2 for c in counts))
            if max(c.sum() for c in counts) > self.room:
                side = "source" if counts[0].sum() > self.room else "target"
                rejects[row] = (Reason.WORD_TOO_LONG, f"the {side} sentence has more subwords than simalign reads")
            elif all(c.any() for c in counts):
                parts.append(self._pair(row, sides, counts))
        return linking.merge(parts), rejects

    def _subwords(self, words: Any) -> NDArray[np.int64]:
        tokenize = self.aligner.embed_loader.tokenizer.tokenize
        return np.array([len(tokenize(word)) for word in words], dtype=np.int64)

    def _pair(self, row: int, sides: tuple[Any, Any], counts: list[NDArray[np.int64]]) -> Links:
        kept = [np.flatnonzero(c) for c in counts]
        words = [[side[i] for i in indices] for side, indices in zip(sides, kept, strict=True)]
        with self.in_model():  # the package makes vectors and links in one call
            links = self.aligner.get_word_aligns(*words)
        cosine = torch.from_numpy(self.aligner.similarities * 2.0 - 1.0)[None]
        units = []
        for indices, c in zip(kept, counts, strict=True):
            n = (
                np.arange(len(indices))
                if self.options.level == "word"
                else np.repeat(np.arange(len(indices)), c[indices])
            )
            units.append((torch.from_numpy(n)[None], torch.ones(1, len(n), dtype=torch.bool)))
        dense = linking.cells(cosine, None, units[0], units[1], self.options, mwmf=False)
        dense.methods.bitwise_and_(1 << METHODS.index("softmax"))
        for name in self.methods:
            for i, j in links[NAMES[name]]:
                dense.methods[0, i, j] |= 1 << METHODS.index(name)
        found = linking.sparse(dense, np.array([row]), self.options.floor)
        return Links(
            found.row,
            kept[0][found.source].astype(np.int32),
            kept[1][found.target].astype(np.int32),
            found.forward,
            found.backward,
            found.cosine,
            found.methods,
        )
