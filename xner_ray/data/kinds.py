"""Kinds of files and of what stands in them, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

# fmt: off
Format = Literal[
    "conll", "conllu", "conll2012", "uner", "webanno", "brat", "table",
    "jsonl", "json", "spacy", "parquet", "dataset", "run", "text", "inline",
]
# fmt: on
Scheme = Literal["iob1", "iob2", "bioes", "bmes", "io"]
Offsets = Literal["characters", "utf16", "bytes", "graphemes", "tokens"]
Ends = Literal["exclusive", "inclusive"]
SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {name: split for split, names in _SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Names:
    """The user's names of columns; of files with a word a line numbers from 1, as digits."""

    id: str = "id"
    text: str = "text"
    tokens: str = "tokens"
    tags: str = "ner_tags"
    spans: str = "spans"
    doc_id: str = "doc_id"
    split: str = "split"
    image: str | None = None
    given: frozenset[str] = frozenset()  # those that the recipe states

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield our name of each column that may be there, and the user's."""
        for one in fields(self)[:-1]:
            if (name := getattr(self, one.name)) is not None:
                yield one.name, name

    def stated(self, name: str) -> str | None:
        """Return the user's own name of a column; None if the recipe leaves it out."""
        value = getattr(self, name) if name in self.given else None
        return None if value is None else str(value)


def split_name(word: str) -> str | None:
    """Return the split that a word means, or None.

    >>> split_name("dev"), split_name("news")
    ('validation', None)
    """
    return _SPLITS.get(word.lower())
