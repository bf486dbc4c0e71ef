"""Find under which keys objects hold what we read, by the forms of their values and then by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from xner_ray.data.kinds import Names
from xner_ray.read.shapes.forms import EMPTY, NULL, NUMBERS, TAGS, TEXT, TOKENS, WORD, WORDS, is_spans

NAMES = {
    "text": (
        *("text", "sentence", "content", "document", "sent", "body", "raw_text", "sentence_text", "full_text"),
        *("context", "input", "utterance", "query", "tweet", "paragraph", "data.text", "data.content", "data.sentence"),
    ),
    "tokens": ("tokens", "words", "tokenized_text", "token", "tokenized", "text_tokens", "word", "sentence", "text"),
    "tags": (
        *("ner_tags", "tags", "labels", "ner", "bio", "iob", "label", "ner_labels", "ner_tag", "tag", "bio_tags"),
        *("iob_tags", "entities", "entity_tags", "named_entities", "ner_tags_str", "fine_ner_tags"),
    ),
    "spans": (
        *("spans", "entities", "label", "labels", "ner", "annotations", "annotation", "entity", "ents", "tags"),
        *("entity_mentions", "named_entities", "mentions", "annotations.entities", "label.entities"),
    ),
    "doc_id": ("doc_id", "document_id", "docid"),
    "id": ("id", "guid", "uuid"),
}
_NO_GOLD = ("predict", "suggest", "relation", "negativ", "noun_chunks", "comment", "meta")
_NO_TEXT = ("lang", "split", "source", "url", "title", "id", "author", "date", "name", "file", "domain", "meta")


@dataclass
class Keys:
    """The key of each of our columns; of those that are open the candidates."""

    found: dict[str, str] = field(default_factory=dict)
    open: dict[str, list[str]] = field(default_factory=dict)


def choose(forms: Mapping[str, Iterable[str]], columns: Names) -> Keys:
    """Return which key holds what, by the forms that each of them has; stated keys, and then defaults, come first.

    >>> choose({"words": ["words"], "ner": ["tags"]}, Names()).found
    {'tokens': 'words', 'tags': 'ner'}
    """
    return _choose(tuple((key, frozenset(found)) for key, found in forms.items()), columns)


def _of_picture(key: str, columns: Names) -> bool:
    """Return whether a key, or a path of keys, is that of the rows' pictures."""
    return columns.image is not None and (key == columns.image or key.startswith(f"{columns.image}."))


@lru_cache(maxsize=4096)
def _choose(forms: tuple[tuple[str, frozenset[str]], ...], columns: Names) -> Keys:
    forms = tuple((key, found - {NULL}) for key, found in forms if not _of_picture(key, columns))
    keys, with_form = Keys(), dict(forms)
    taken: set[str] = set()

    def take(ours: str, fitting: list[str], others: bool = True) -> None:
        """Take the key of one of ours out of those whose form fits; others: whether its name may be unknown."""
        default = str(getattr(columns, ours))
        if default in taken:
            return
        fitting = [key for key in fitting if key not in taken]
        others_fit = [key for key in fitting if key != default]
        if columns.stated(ours) is not None or (default in with_form and (default in fitting or not others_fit)):
            if default in with_form or "." in default:
                keys.found[ours] = default
                taken.add(default)
            return
        if with_form.get(default) == frozenset({EMPTY}):
            keys.open[ours] = [default, *others_fit]
            return
        known = [name for name in NAMES.get(ours, ()) if name in fitting]
        left = known or (fitting if others else [])
        if len(left) == 1:
            keys.found[ours] = left[0]
            taken.add(left[0])
        elif left:
            keys.open[ours] = left

    def having(*wanted: str) -> list[str]:
        return [key for key, found in forms if found & set(wanted)]

    spans = [key for key, found in forms if any(map(is_spans, found)) and not key.startswith(_NO_GOLD)]
    tags = having(TAGS) + [key for key in having(NUMBERS) if key in NAMES["tags"] and key not in having(TAGS)]
    words = [key for key in having(WORDS) if key not in NAMES["tags"] and key not in spans]
    tokens = [key for key in having(TOKENS) if key in NAMES["tokens"]]
    take("tokens", words + tokens, others=bool(tags))
    if "tokens" in keys.found or columns.stated("tags") is not None:
        take("tags", tags)
    take("spans", spans)
    texts = [key for key in having(TEXT) if not key.lower().endswith(_NO_TEXT) or key in NAMES["text"]]
    texts += [key for key in having(WORD) if key in NAMES["text"] and key not in texts]
    take("text", texts, others="tokens" not in keys.found)
    for ours in ("id", "doc_id", "split"):
        take(ours, having(WORD, TEXT, "int") if ours in NAMES else [], others=False)
    as_ours = columns.spans in spans and keys.found.get("spans") == columns.spans
    if as_ours and keys.found.get("tags", columns.tags) != columns.tags:
        del keys.found["tags"]  # spans have the name that is ours, as in lines that `export` writes
    if "tags" in keys.found:  # they count, whatever else there is
        keys.open.pop("spans", None)
        keys.open.pop("text", None)
    return keys
