"""A tagger by an instruction-tuned language model: the entities that it names are looked up in the words.

The model answers in JSON; a schema allows the recipe's labels alone. It copies each entity, since models copy text well
and count words badly. An entity must be whole words of the sentence. An answer that names anything else, is not JSON of
the schema, or is cut off, rejects the sentence: dropping the one wrong entity would teach a wrong O.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import accumulate
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xner_ray.data.spans import Span
from xner_ray.errors import Reason
from xner_ray.models import vllm
from xner_ray.models.vllm import Chat, ChatModel, Conversation
from xner_ray.recipe.sections import Resolved, Tag
from xner_ray.tag.base import Rejected, Sentence, Shown, SpanTagger

SYSTEM = (
    "You find the named entities of a sentence. The labels:\n"
    "{labels}\n"
    'Answer in JSON, in their order: {{"entities": [{{"text": "...", "label": "...", "occurrence": 1}}]}}.\n'
    "text: the words of the entity, copied exactly as they stand in the sentence.\n"
    "label: one of the labels above.\n"
    "occurrence: 1 where the text stands in the sentence for the first time, 2 for the second time, and so on.\n"
    'Entities do not overlap. A sentence without entities is {{"entities": []}}.'
)
USER = "The sentence:\n{text}"
PROMPT = f"{SYSTEM}\n{USER}"  # its hash is in the fingerprint, and so are labels and meanings
SEEN = "The picture that stands with the sentence may show some of them, or none."
"""What the instructions end with where a picture is shown."""


def conversation(text: str, labels: Mapping[str, str | None], *, picture: bool = False) -> Conversation:
    """Return the messages that ask for the entities of `text`; `labels` maps each label to its meaning, or None.

    picture: one is shown with it.
    """
    lines = [f"- {label}: {meaning}" if meaning else f"- {label}" for label, meaning in sorted(labels.items())]
    return [
        {"role": "system", "content": SYSTEM.format(labels="\n".join(lines)) + (f"\n{SEEN}" if picture else "")},
        {"role": "user", "content": USER.format(text=text)},
    ]


def schema(labels: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of an answer."""
    entity = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "label": {"type": "string", "enum": list(labels)},
            "occurrence": {"type": "integer", "minimum": 1},
        },
        "required": ["text", "label", "occurrence"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"entities": {"type": "array", "items": entity}},
        "required": ["entities"],
        "additionalProperties": False,
    }


class _Entity(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    label: str
    occurrence: int = Field(ge=1)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    entities: list[_Entity]


def read(answer: str, words: Sequence[str], labels: Sequence[str]) -> list[Span] | Rejected:
    """Return the spans of an answer, sorted and each once; or why the sentence must be rejected.

    Texts are compared in NFC and without white space, and must be whole words. The occurrence of a text that is in the
    sentence once is ignored, since models miscount; of one that is there more often, it must exist. Spans may overlap.
    """
    try:
        entities = _Answer.model_validate_json(answer).entities
    except ValidationError as error:
        return Reason.TAGGING_FAILED, f"not JSON of the schema ({error.errors()[0]['msg']}): {answer[:200]!r}"
    found = set()
    for entity in entities:
        if entity.label not in labels:
            return Reason.TAGGING_FAILED, f"label {entity.label!r} is not one of {', '.join(labels)}"
        places = _places(entity.text, words)
        if not places:
            return Reason.TAGGING_FAILED, f"{entity.text[:200]!r} is not in the sentence as whole words"
        if entity.occurrence > len(places) > 1:
            return (
                Reason.TAGGING_FAILED,
                f"{entity.text[:200]!r} is {len(places)} times in the sentence, not {entity.occurrence}",
            )
        start, end = places[min(entity.occurrence, len(places)) - 1]
        found.add(Span(start, end, entity.label))
    return sorted(found)


def _key(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return the half-open ranges of words that are `text`, from left to right."""
    wanted, keys = _key(text), [_key(word) for word in words]
    edges = {edge: word for word, edge in enumerate(accumulate(map(len, keys), initial=0))}
    sentence, places, at = "".join(keys), [], -1
    while wanted and (at := sentence.find(wanted, at + 1)) >= 0:
        if at in edges and at + len(wanted) in edges:
            places.append((edges[at], edges[at + len(wanted)]))
    return places


def resolve(section: Tag, key: str) -> Resolved:
    """Resolve the section as `vllm.resolve` does; what shows pictures is identified by Pillow's version too."""
    if not section.images:
        return vllm.resolve(section, key, PROMPT)
    resolved = vllm.resolve(section, key, f"{PROMPT}\n{SEEN}")
    return Resolved(resolved.section, {**resolved.identities, "pillow": metadata.version("pillow")})


class LlmTagger(SpanTagger):
    """A `Tagger` by a `Chat`. vLLM forms its own batches, so there is no budget to halve."""

    def __init__(self, section: Tag, key: str = "tag", model: Chat | None = None) -> None:
        """Load the model unless one is given; errors as in `ChatModel`."""
        self.model: Chat = model or ChatModel(section, key)
        self.key = key
        self.meanings = section.labels
        self.labels: tuple[str, ...] = tuple(sorted(section.labels))
        self.tokens = self.micro_batch_tokens = 0

    @property
    def model_seconds(self) -> float:
        return self.model.model_seconds

    def tag(
        self, sentences: Sequence[Sentence], pictures: Sequence[Shown | None] | None = None
    ) -> list[list[Span] | Rejected]:
        """Return the spans of each sentence, which may overlap, or its reject. pictures: one of each, or None."""
        texts = [
            "".join(word + " " * space for word, space in zip(words, spaces, strict=True)).strip()
            for words, spaces in sentences
        ]
        limits = [
            64 + 2 * len(text.encode()) + 32 * len(words) for text, (words, _) in zip(texts, sentences, strict=True)
        ]
        shown = [None] * len(texts) if pictures is None else pictures
        asked = [
            conversation(text, self.meanings, picture=one is not None) for text, one in zip(texts, shown, strict=True)
        ]
        beside = {} if pictures is None else {"pictures": pictures}
        replies = self.model.chat(asked, limits, schema(self.labels), **beside)
        self.tokens = self.model.tokens
        results: list[list[Span] | Rejected] = []
        for reply, (words, _) in zip(replies, sentences, strict=True):
            if reply.finished == "prompt":
                advice = f"split the sentence, or raise {self.key}.llm.context_tokens"
                results.append((Reason.TAGGING_FAILED, f"{reply.text}; {advice}"))
            elif reply.finished == "control":
                results.append((Reason.CONTROL_CHARACTER, reply.text))
            elif reply.finished == "length":
                results.append((Reason.TAGGING_FAILED, f"the answer does not end: {reply.text[:200]!r}"))
            else:
                results.append(read(reply.text, words, self.labels))
        return results
