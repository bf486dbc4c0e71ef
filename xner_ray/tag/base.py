"""The contract of a tagger, and what those that give spans alone share. One file an engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.opinions import opinions
from xner_ray.data.row import SCALE
from xner_ray.data.spans import Span, label_list, outermost, spans_to_tags
from xner_ray.errors import Flag, Reason

Sentence = tuple[Sequence[str], Sequence[bool]]  # words, and for each whether a space follows it
Contexts = Sequence[str | None] | None  # a text for each sentence, None where it has none; None: no sentence has one
Rejected = tuple[Reason, str]  # reason and detail of a sentence without tags
Shown = tuple[str, Any]  # a picture: the SHA-256 of its bytes, and Pillow's image


@dataclass(frozen=True)
class Seen:
    """What came of a picture's reference: a picture, or why there is none."""

    picture: Shown | None = None
    flag: Flag | None = None
    detail: str = ""


class Pictures(Protocol):
    """Pictures by their references in the input of a language."""

    def load(self, references: Collection[str], lang: str) -> dict[str, Seen]:
        """Return what came of each reference. RetryableError for a store that may answer later."""
        ...


def certain(spans: Sequence[Span], n_words: int, labels: Sequence[str]) -> NDArray[np.float32]:
    """Return tag probabilities (n_words, 2 L + 1) of 1 for the tags of spans; of overlapping spans the longest counts.

    >>> certain([Span(1, 3, "PER")], 3, ["PER"]).argmax(axis=1).tolist()
    [0, 1, 2]
    """
    columns = {tag: column for column, tag in enumerate(label_list(labels))}
    rows = np.zeros((n_words, len(columns)), dtype=np.float32)
    tags = spans_to_tags(outermost(spans)[0], n_words)
    rows[np.arange(n_words), [columns[tag] for tag in tags]] = 1
    return rows


class SpanTagger:
    """A tagger that gives spans alone; its tags have probability 1."""

    labels: tuple[str, ...]

    def tag(self, sentences: Sequence[Sentence]) -> Sequence[list[Span] | Rejected]:
        raise NotImplementedError

    def probabilities(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.float32] | Rejected]:
        """See `Tagger`; of overlapping spans the longest counts. A space after every word is assumed."""
        tagged = self.tag([(sentence, [True] * len(sentence)) for sentence in words])
        return [
            found if isinstance(found, tuple) else certain(found, len(sentence), self.labels)
            for sentence, found in zip(words, tagged, strict=True)
        ]


def judge(
    probabilities: NDArray[np.floating], spans: Sequence[Span], labels: Sequence[str]
) -> list[dict[str, float] | None]:
    """Return cells of `source_opinions`: what the tags of a sentence say of spans; None for other labels than these."""
    first, last = (np.array([getattr(s, name) for s in spans], dtype=np.int64) for name in ("start", "end"))
    number = {label: index for index, label in enumerate(labels)}
    classes = np.array([number.get(s.label, -1) for s in spans], dtype=np.int64)
    found = opinions(probabilities, first, last, np.full(len(spans), len(probabilities)), classes)
    values = (np.rint(each * SCALE) / SCALE for each in (found.label, found.entity, found.span))
    rows = zip((classes >= 0).tolist(), *(each.tolist() for each in values), strict=True)
    return [{"label": label, "entity": entity, "span": span} if has else None for has, label, entity, span in rows]


class Tagger(Protocol):
    """Tags given words.

    labels: those that it can give, after its own mapping. tokens: read since the start. model_seconds: wall time in the
    model. micro_batch_tokens: what to halve when memory runs out; 0 if there is nothing to halve.
    """

    labels: tuple[str, ...]
    tokens: int
    micro_batch_tokens: int

    @property
    def model_seconds(self) -> float: ...

    def tag(self, sentences: Sequence[Sentence]) -> Sequence[list[Span] | Rejected]:
        """Return the spans of each sentence.

        Of overlapping spans the caller keeps the longest, and counts the others as losses.
        """
        ...

    def probabilities(self, words: Sequence[Sequence[str]]) -> Sequence[NDArray[np.float32] | Rejected]:
        """Return (n_words, 2 L + 1) for each sentence: O, B-1, I-1, B-2, ... by `labels`; a row sums to 1."""
        ...


class PictureTagger(Tagger, Protocol):
    """Tags given words by a picture too; the contract of `images` in a recipe."""

    def tag(
        self, sentences: Sequence[Sentence], pictures: Sequence[Shown | None] | None = None
    ) -> Sequence[list[Span] | Rejected]: ...


class ContextTagger(Tagger, Protocol):
    """Tags given words by what a context beside them says too; the contract of `context` in a recipe."""

    def tagged(
        self, sentences: Sequence[Sentence], contexts: Contexts = None
    ) -> Sequence[tuple[list[Span], NDArray[np.float32]]]:
        """Return spans as `tag` does, and what `probabilities` gives."""
        ...

    def probabilities(self, words: Sequence[Sequence[str]], contexts: Contexts = None) -> list[NDArray[np.float32]]: ...

    def cuts(self, words: Sequence[Sequence[str]], contexts: Contexts) -> list[bool]:
        """Return for each sentence whether the end of its context is not read."""
        ...
