"""spaCy: DocBin files, as `spacy train` reads them, of our words and the white space between them.

A Doc's text is the row's. White space that is more than one blank is a token of its own, as in spaCy's own tokenizers;
`user_data["id"]` is the row's id. Words outside entities are `O`, not missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from xner_ray.extras import require
from xner_ray.write.entities import Row, entities

DOCS_A_FILE = 50_000
"""A DocBin is held in memory until it is whole."""


def write(rows: Iterable[Row], *, docs_a_file: int = DOCS_A_FILE) -> Iterator[bytes]:
    """Yield whole DocBin files of at most so many docs, at least one. MissingExtraError without spaCy."""
    require("spacy", "builtin", "the export format spacy")
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    def empty() -> tuple[Any, Any]:
        return DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True), Vocab()

    docs, vocab = empty()
    for row in rows:
        if len(docs) == docs_a_file:
            yield docs.to_bytes()
            docs, vocab = empty()
        docs.add(_doc(vocab, row))
    yield docs.to_bytes()


def _doc(vocab: Any, row: Row) -> Any:
    """Return the Doc of a row: its words, its entities, its id."""
    from spacy.tokens import Doc, Span

    words, blanks, place = _words(row)
    doc = Doc(vocab, words=words, spaces=blanks)
    doc.set_ents([Span(doc, place[e.first], place[e.last - 1] + 1, label=e.label) for e in entities(row)])
    doc.user_data["id"] = row["id"]
    return doc


def _words(row: Row) -> tuple[list[str], list[bool], list[int]]:
    """Return tokens that make up the row's text, whether a blank follows each, and the place of each word in them.

    >>> _words({"text": " a  b", "tokens": ["a", "b"], "offsets": [{"start": 1, "end": 2}, {"start": 4, "end": 5}]})
    ([' ', 'a', ' ', 'b'], [False, True, False, False], [1, 3])
    """
    text, offsets = row["text"], row["offsets"]
    ends = [0, *(offset["end"] for offset in offsets)]
    starts = [*(offset["start"] for offset in offsets), len(text)]
    gaps = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    blank = [False, *(gap.startswith(" ") for gap in gaps[1:])]  # a Doc cannot begin with one
    rest = [gap[had:] for gap, had in zip(gaps, blank, strict=True)]
    words, blanks = [], []
    for token, had, gap in zip([None, *row["tokens"]], blank, rest, strict=True):
        words += [part for part in (token, gap) if part]
        blanks += [had] * (token is not None) + [False] * bool(gap)
    before = accumulate(bool(gap) for gap in rest[:-1])
    return words, blanks, [number + extra for number, extra in enumerate(before)]
