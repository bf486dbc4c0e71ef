"""The contract of an aligner, and ours: the words of many sentence pairs become links in one call."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xner_ray.align.linking import AlignOptions, Subwords, Vectors, align
from xner_ray.data.links import Links
from xner_ray.errors import Reason

if TYPE_CHECKING:
    from xner_ray.align.encoder import Encoder

Sentences = Sequence[Sequence[str]]
Rejects = dict[int, tuple[Reason, str]]


class Aligner(Protocol):
    """Aligns the words of sentence pairs.

    tokens: read by the model. model_seconds: wall time in it, links not included. micro_batch_tokens: what to halve
    when memory runs out; 0 if there is nothing to halve.
    """

    micro_batch_tokens: int

    @property
    def tokens(self) -> int: ...

    @property
    def model_seconds(self) -> float: ...

    def align(self, source: Sentences, target: Sentences) -> tuple[Links, Rejects]:
        """Return the links of the pairs (`row` is the index into the lists), and by index why a pair has none."""
        ...


class BatchAligner:
    """`Encoder`, then `align` on the encoder's device. `mwmf` is computed if it is among `methods`."""

    def __init__(self, encoder: Encoder, options: AlignOptions | None = None, methods: Collection[str] = ()) -> None:
        self.encoder, self.options, self.methods = encoder, options or AlignOptions(), methods
        self.budget = encoder.micro_batch_tokens  # before any halving

    @property
    def tokens(self) -> int:
        return self.encoder.tokens

    @property
    def model_seconds(self) -> float:
        return self.encoder.model_seconds

    @property
    def micro_batch_tokens(self) -> int:
        return self.encoder.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self.encoder.micro_batch_tokens = value

    def align(self, source: Sentences, target: Sentences) -> tuple[Links, Rejects]:
        """See `Aligner`. ValueError if a vector is not finite; torch.OutOfMemoryError passes through."""
        encode = self.encoder.encode_subwords if self.options.level == "subword" else self.encoder.encode
        found: Sequence[Vectors | Subwords | Reason] = encode([*source, *target])
        pairs: list[tuple[Vectors | Subwords, Vectors | Subwords]] = []
        rows: list[int] = []
        rejects: Rejects = {}
        for row, (a, b) in enumerate(zip(found[: len(source)], found[len(source) :], strict=True)):
            if isinstance(a, Reason):
                rejects[row] = a, "a word of the source side has more subwords than the encoder reads"
            elif isinstance(b, Reason):
                rejects[row] = b, "a word of the target side has more subwords than the encoder reads"
            else:
                pairs.append((a, b))
                rows.append(row)
        links = align(
            [a for a, _ in pairs],
            [b for _, b in pairs],
            self.options,
            methods=self.methods,
            device=self.encoder.device,
            share=self.micro_batch_tokens / self.budget,
        )
        return replace(links, row=np.array(rows, dtype=np.int32)[links.row]), rejects
