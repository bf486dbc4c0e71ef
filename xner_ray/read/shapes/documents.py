"""The records in one JSON value: a list of them, or an object that holds such a list in one of the ways that tools do.

These are lists under a key or one level deeper, lists of each split, objects by their ids, columns, and documents
whose sentences have a token an object (spaCy's training format, CoreNLP). Records stay as they are but for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xner_ray.data.kinds import split_name
from xner_ray.read.shapes.forms import form_of, is_spans

_TEXTS = ("text", "sentence", "content", "data", "raw")
_WORDS = ("tokens", "words", "tokenized_text", "token", "sentence", "text")
_OWN = ("orth", "word", "text", "form", "token")  # of an object that is a token
_TAG = ("ner", "ner_tag", "ner_tags", "tag", "entity", "label", "iob", "bio")


class SeveralError(ValueError):
    """Several lists of records, of which none is the one; `keys` are theirs."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


def records_in(value: Any) -> list[Any]:
    """Return the records of a value that is all of a file, without nulls. SeveralError."""
    if isinstance(value, dict):
        value = _of_object(value)
    found = [item for item in value if item is not None] if isinstance(value, list) else [value]
    return [one for item in found for one in _sentences(item)]


def holds_lists(value: Any) -> bool:
    """Return whether a value that stands on the one line of a file holds records, and is none itself."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return True
    if not isinstance(value, dict):
        return is_array(value)
    if _by_id(value) or _columns(value) or _paragraphs(value) is not None:
        return True
    found = _lists(value) or _deeper(value)
    return len(found) == 1 or (
        len(found) > 1 and not any(isinstance(item, str) and " " in item for item in value.values())
    )


def is_array(value: Any) -> bool:
    """Return whether a value is a list of objects, of pairs of a text and its annotations, or of lists of words."""
    if not isinstance(value, list) or is_spans(form_of(value)):
        return False
    items = [item for item in value[:100] if item is not None]
    return bool(items) and (all(isinstance(item, dict) for item in items) or all(map(_is_pair, items)))


def _is_pair(item: Any) -> bool:
    """Return whether a list is [text, annotations], [words, tags], or words with their tags: [[word, tag], ...]."""
    if not isinstance(item, list) or not item:
        return False
    if len(item) == 2 and isinstance(item[0], str):
        return not isinstance(item[1], str)
    return all(isinstance(one, list) and one and all(isinstance(cell, str) for cell in one) for one in item)


def _of_object(value: dict[str, Any]) -> Any:
    """Return the list of records in an object, or the object if it is a record itself."""
    if _paragraphs(value) is not None:
        return [value]
    if rows := _by_id(value) or _columns(value):
        return rows
    found = _lists(value) or _deeper(value)
    if len(found) > 1 and all(map(split_name, found)):
        return [_with(item, "split", name) for name, items in found.items() for item in items]
    if len(found) > 1:
        raise SeveralError(list(found))
    return next(iter(found.values())) if found else value


def _lists(value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the lists of records in an object; none if it is a record itself."""
    if any(key in value for key in ("tokens", "words", "passages")):
        return {}
    if any(key in value and not is_array(value[key]) for key in ("text", "data")):
        return {}
    return {key: item for key, item in value.items() if is_array(item)}


def _deeper(value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the lists of records one level deeper, as in {"rasa_nlu_data": {"common_examples": [...]}}."""
    if any(isinstance(item, str) and " " in item for item in value.values()):
        return {}
    inner = [item for item in value.values() if isinstance(item, dict)]
    return _lists(inner[0]) if len(inner) == 1 and not _is_record(inner[0]) else {}


def _is_record(value: Any) -> bool:
    """Return whether an object has a text or words."""
    return isinstance(value, dict) and (
        any(isinstance(value.get(key), str) for key in _TEXTS)
        or any(isinstance(value.get(key), list) and value[key][:1] and _is_text(value[key]) for key in _WORDS)
    )


def _is_text(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _with(item: Any, key: str, name: str) -> Any:
    return {key: name, **item} if isinstance(item, dict) else item


def _by_id(value: Mapping[str, Any]) -> list[Any]:
    """Return the records of {id: record, ...}; none if it is something else."""
    if len(value) < 2 or not all(map(_is_record, value.values())):
        return []
    return [_with(item, "id", key) for key, item in value.items()]


def _columns(value: Mapping[str, Any]) -> list[Any]:
    """Return the records of {column: [cell, ...]} or {column: {row: cell}}; none if it is something else."""
    cells = [list(item.values()) if isinstance(item, dict) else item for item in value.values()]
    if len(cells) < 2 or not all(isinstance(column, list) and len(column) == len(cells[0]) > 0 for column in cells):
        return []
    if len({type(item) for item in value.values()}) > 1:
        return []
    rows = [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    filled = [row for row in rows if any(isinstance(cell, list) and cell for cell in row.values())]
    return rows if filled and all(map(_is_record, rows)) else []


def _paragraphs(value: Any) -> list[Any] | None:
    """Return the sentences of a document whose tokens are objects with a word and a tag; None if it is none."""
    if not isinstance(value, dict):
        return None
    groups = value["paragraphs"] if isinstance(value.get("paragraphs"), list) else [value]
    if not groups or not all(isinstance(group, dict) and isinstance(group.get("sentences"), list) for group in groups):
        return None
    found = [sentence for group in groups for sentence in group["sentences"]]
    return found if found and all(isinstance(one, dict) and _word_key(one.get("tokens")) for one in found) else None


def _word_key(tokens: Any) -> str | None:
    """Return under which key the objects of a list hold their words."""
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, dict) for token in tokens):
        return None
    return next((key for key in _OWN if all(isinstance(token.get(key), str) for token in tokens)), None)


def _tagged(tokens: list[Any]) -> dict[str, Any] | None:
    """Return words and tags of a list of tokens that are objects; None unless each has both."""
    word = _word_key(tokens)
    tag = (
        next((key for key in _TAG if all(isinstance(token.get(key), str) for token in tokens)), None) if word else None
    )
    if word is None or tag is None or word == tag:
        return None
    return {"tokens": [token[word] for token in tokens], "ner_tags": [token[tag] for token in tokens]}


def _sentences(item: Any) -> Iterator[Any]:
    """Yield a record, or those of the sentences of a document; tokens with their tags as words and tags."""
    found = _paragraphs(item)
    if found is None:
        made = _tagged(item["tokens"]) if isinstance(item, dict) and isinstance(item.get("tokens"), list) else None
        yield item if made is None else item | made
        return
    name = next((str(item[key]) for key in ("id", "docId", "doc_id", "doc_key") if key in item), None)
    for number, sentence in enumerate(found):
        made = _tagged(sentence["tokens"]) or {"tokens": [token[_word_key([token])] for token in sentence["tokens"]]}
        named = {} if name is None else {"id": f"{name}#{number}", "doc_id": name}
        yield {**named, **made}
