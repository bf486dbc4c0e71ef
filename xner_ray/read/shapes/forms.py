"""Name what a value of an object is by its form, whatever its key: text, words, tags, spans as [start, end, label]."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

TEXT, WORD, WORDS, TAGS, TOKENS, NUMBERS = "text", "a word", "words", "tags", "tokens", "numbers"
NULL, EMPTY, OBJECT, OTHER = "null", "empty", "an object", "other"
PLAIN_SPANS = frozenset({"{start, end, label}", "{start, end, labels}", "[start, end, label]"})
"""Forms that all versions read alike."""
SURE = {"tokens": WORDS, "words": WORDS, "tokenized_text": WORDS, "ner_tags": TAGS}
"""Forms of lists of text that are known by their keys."""
BY_LABEL, BY_LABEL_AND_TEXT = "{label: [[start, end]]}", "{label: {text: [[start, end]]}}"

_PAIRS = (
    *[("start", "end"), ("start_offset", "end_offset"), ("start_char", "end_char"), ("startOffset", "endOffset")],
    *[("begin", "end"), ("begin_offset", "end_offset"), ("beginOffset", "endOffset"), ("char_start", "char_end")],
    *[("start_index", "end_index"), ("start_idx", "end_idx"), ("start_pos", "end_pos"), ("start_position",) * 2],
    *[("from", "to"), ("start", "stop"), ("begin", "stop"), ("startIndex", "endIndex"), ("startChar", "endChar")],
    *[("start_token", "end_token"), ("token_start", "token_end"), ("offset", "length"), ("start", "length")],
)
_RANGES = ("offsets", "offset", "span", "range", "position", "pos", "indices", "points")  # hold both, or pairs of both
_LABELS = (
    *("label", "labels", "type", "tag", "entity_type", "entity_group", "entity_label", "label_name", "class"),
    *("category", "ner", "ner_tag", "entity", "kind", "name", "displayName", "display_name", "value"),
)
_OWN = ("text", "value", "word", "surface", "mention", "surface_form", "span_text", "entity_text", "string", "phrase")
_TAG = re.compile(r"[BIESLUMW][-_]\S.*|\S+[-_][BIESLUMW]|[Oo]")


class Fields(NamedTuple):
    """Under which keys an object that is a span holds its parts."""

    start: str  # with no `end`: both, as a pair or as a list of pairs
    end: str | None
    label: str
    own: str | None  # its text

    @property
    def form(self) -> str:
        keys = [self.start, *([self.end] if self.end else []), self.label]
        return f"{{{', '.join(keys)}}}"


@lru_cache(maxsize=4096)
def fields_of(keys: tuple[str, ...]) -> Fields | None:
    """Return the parts of a span by the keys of an object; None if it can be no span.

    >>> fields_of(("id", "start_offset", "end_offset", "label")).form
    '{start_offset, end_offset, label}'
    """
    pair = next((pair for pair in _PAIRS if pair[0] in keys and pair[1] in keys), None)
    start, end = pair or (next((key for key in _RANGES if key in keys), None), None)
    label = next((key for key in _LABELS if key in keys), None)
    if start is None or label is None:
        return None
    return Fields(start, end, label, next((key for key in _OWN if key in keys and key != label), None))


@lru_cache(maxsize=4096)
def _form_of_keys(keys: tuple[str, ...]) -> str | None:
    fields = fields_of(keys)
    return fields.form if fields else None


def form_of(value: Any) -> str:
    """Return the form of a value; of spans how they are written.

    >>> form_of([[0, 4, "PER"]]), form_of(["O", "B-PER"]), form_of(["Nora"]), form_of("Nora went.")
    ('[start, end, label]', 'tags', 'words', 'text')
    """
    kind = type(value)
    if kind is str:
        return TEXT if " " in value or not value.isascii() else WORD
    if kind is list:
        return _list_form(value) if value else EMPTY
    if kind is dict:
        return _object_form(value) if value else EMPTY
    return NULL if value is None else str(kind.__name__)


def is_spans(form: str) -> bool:
    """Return whether a form is one of spans."""
    return form[0] in "{["


def _list_form(items: list[Any]) -> str:
    first = items[0]
    kind = type(first)
    if kind is str:
        return TAGS if _TAG.fullmatch(first) or "O" in items else WORDS
    if kind is int:
        return NUMBERS
    if kind is dict:
        if form := _form_of_keys(tuple(first)):
            return form
        return TOKENS if type(first.get("text")) is str else OTHER
    if kind is list or kind is tuple:
        kinds = list(map(type, first))
        if kinds[:2] == [int, int] and kinds[2:3] in ([str], [int]):
            return "[start, end, label, text]" if kinds[3:] == [str] else "[start, end, label]"
        if kinds == [str, int, int]:
            return "[label, start, end]"
    return OTHER


def _object_form(value: dict[str, Any]) -> str:
    fields = fields_of(tuple(value))
    if fields and isinstance(value[fields.start], list) and (not fields.end or isinstance(value[fields.end], list)):
        return fields.form
    first = next((item for item in value.values() if item), None)
    if isinstance(first, dict):
        inner = next((item for item in first.values() if item), None)
        return BY_LABEL_AND_TEXT if _is_ranges(inner) else OBJECT
    return BY_LABEL if _is_ranges(first) else OBJECT


def _is_ranges(value: Any) -> bool:
    """Return whether a value is a list of pairs of whole numbers."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], list)
        and [type(one) for one in value[0]] == [int, int]
    )
