"""The contract of an aligner, and ours: the words of many sentence pairs become links in one call."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from xner_ray.align.linking import AlignOptions, align_sides
from xner_ray.data.links import Links
from xner_ray.errors import Reason
from xner_ray.stage import LastResult

if TYPE_CHECKING:
    from xner_ray.align.encoder import Encoded, Encoder

Sentences = Sequence[Sequence[str]]
Ints = NDArray[np.int64]
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

    def align(self, source: Sentences, target: Sentences, pairs: Ints | None = None) -> tuple[Links, Rejects]:
        """Return the links of pairs, and why a pair has none; `row`, and the rejects' key, is the index into `target`.

        pairs: for each target sentence the index of its source sentence; None is one to one. The source sentences of a
        range of rows are the same in all languages, and who knows them from the call before need not read them again.
        """
        ...


class BatchAligner:
    """`Encoder`, then `align` on the encoder's device. `mwmf` is computed if it is among `methods`."""

    def __init__(self, encoder: Encoder, options: AlignOptions | None = None, methods: Collection[str] = ()) -> None:
        self.encoder, self.options, self.methods = encoder, options or AlignOptions(), methods
        self.budget = encoder.micro_batch_tokens  # before any halving
        self.remembered: LastResult[Sentences, Encoded] = LastResult()

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

    def align(self, source: Sentences, target: Sentences, pairs: Ints | None = None) -> tuple[Links, Rejects]:
        """See `Aligner`. ValueError if a vector is not finite; torch.OutOfMemoryError passes through."""
        pairs = np.arange(len(target)) if pairs is None else pairs
        try:
            read = self.remembered.of(source, lambda sentences: self.encoder.encode(sentences, self.options.level))
            found = self.encoder.encode(target, self.options.level)
        except BaseException:
            self.forget()  # a second try may need the memory
            raise
        rejects: Rejects = {}
        for name, bad in (("target", found.too_long), ("source", read.too_long[pairs])):
            said = f"a word of the {name} side has more subwords than the encoder reads"
            rejects |= dict.fromkeys(np.flatnonzero(bad).tolist(), (Reason.WORD_TOO_LONG, said))
        share = self.micro_batch_tokens / self.budget
        links = align_sides(read.side.take(pairs), found.side, self.options, methods=self.methods, share=share)
        return links, rejects

    def forget(self) -> None:
        """Let go of the source sentences of the call before, and of states that the tagger has left."""
        self.remembered.forget()
        self.encoder.kept.forget()
