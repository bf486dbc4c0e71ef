"""Kinds of wrong boundaries: what a projection that overlaps gold of its label has too much or too little.

Looked at are pairs of a gold entity and a prediction with the same label and other words (`counting.pair`, BOUNDARY).
Each has one kind, the first that fits:

- coordination: its source entity and another of the same label stand one word apart, and one has several words
  ("Structural and Cohesion Funds");
- bracket: it splits a pair of brackets or quotation marks that gold does not split, or differs by such marks alone;
- function word: it differs by words alone that are in more than every twentieth sentence, or are no words ("the", ",");
- beginning cut, end cut: content words of gold are missing there ("Committee on Fisheries" -> "Fisheries");
- taken before, taken after: content words are too many there ("rapporteur von Wogau");
- other: several of the last four.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xner_ray.evaluate.counting import BOUNDARY, Entity, counted, pair

COLUMNS = (
    "row",
    "doc_id",
    "lang",
    "tokens",
    "source_tokens",
    "source_spans",
    "spans",
    "gold_spans",
    "status",
    "reason",
)
KINDS = (
    *("coordination", "bracket", "function word", "beginning cut", "end cut", "taken before", "taken after"),
    "other",
)
OFTEN = 20
"""A word in more than one of so many sentences is a function word."""

_BRACKETS = {"(": ")", "[": "]", "{": "}", "\u00ab": "\u00bb", "\u300c": "\u300d", "\uff08": "\uff09"}
_QUOTES = '"\u201c\u201d\u201e\u201f\u00ab\u00bb'


@dataclass(frozen=True)
class Wrong:
    """A prediction with wrong boundaries. before, after: the words that differ; missing: whether gold has them."""

    lang: str
    row: int
    source: str
    projected: str
    gold: str
    before: tuple[str, ...]
    before_missing: bool
    after: tuple[str, ...]
    after_missing: bool
    coordinated: bool

    def kind(self, often: Mapping[str, int], n_rows: int) -> str:
        """Return its kind, one of `KINDS`. often: the number of sentences that hold a word, of `n_rows`."""
        if self.coordinated:
            return "coordination"
        differing = [*self.before, *self.after]
        if (_split(self.projected) and not _split(self.gold)) or all(map(_is_mark, differing)):
            return "bracket"

        def content(words: Sequence[str]) -> bool:
            return any(
                any(map(str.isalnum, word)) and often.get(word, 0) * OFTEN <= max(n_rows, OFTEN) for word in words
            )

        found = []
        if content(self.before):
            found.append("beginning cut" if self.before_missing else "taken before")
        if content(self.after):
            found.append("end cut" if self.after_missing else "taken after")
        return "function word" if not found else found[0] if len(found) == 1 else "other"


def wrong(tables: Iterable[pa.Table]) -> Iterator[tuple[Wrong, str]]:
    """Yield all predictions with wrong boundaries of each language with gold, with their kinds."""
    often: dict[str, Counter[str]] = {}
    rows: Counter[str] = Counter()
    found: list[Wrong] = []
    for table in tables:
        part = table.filter(counted(table))
        for row in part.select(COLUMNS).to_pylist():
            rows[row["lang"]] += 1
            often.setdefault(row["lang"], Counter()).update(set(row["tokens"]))
            found += _of_row(row)
    for each in found:
        yield each, each.kind(often[each.lang], rows[each.lang])


def _of_row(row: Mapping[str, Any]) -> Iterator[Wrong]:
    gold, spans = _entities(row["gold_spans"]), row["spans"] or ()
    predicted = _entities(spans)
    tokens, source_tokens, sources = row["tokens"], row["source_tokens"] or (), row["source_spans"] or ()

    def text(start: int, end: int) -> str:
        return " ".join(tokens[start:end])

    for g, p, outcome in pair(gold, predicted):
        if outcome != BOUNDARY:
            continue
        (start, end, _), (begin, stop, _) = gold[g], predicted[p]
        own = spans[p].get("source")
        source = sources[own] if own is not None and own < len(sources) else None
        yield Wrong(
            lang=row["lang"],
            row=row["row"],
            source=" ".join(source_tokens[source["start"] : source["end"]]) if source else "",
            projected=text(begin, stop),
            gold=text(start, end),
            before=tuple(tokens[min(start, begin) : max(start, begin)]),
            before_missing=start < begin,
            after=tuple(tokens[min(end, stop) : max(end, stop)]),
            after_missing=stop < end,
            coordinated=source is not None and any(_coordinated(source, other) for other in sources),
        )


def _entities(spans: Sequence[Mapping[str, Any]] | None) -> list[Entity]:
    return [(span["start"], span["end"], span["label"]) for span in spans or ()]


def _coordinated(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    apart = max(one["start"], other["start"]) - min(one["end"], other["end"])
    several = max(span["end"] - span["start"] for span in (one, other)) > 1
    return bool(apart == 1 and several and one["label"] == other["label"])


def _is_mark(word: str) -> bool:
    return all(c in _QUOTES or c in _BRACKETS or c in _BRACKETS.values() for c in word)


def _split(text: str) -> bool:
    """Return whether a text has a bracket or double quotation mark without its other half."""
    uneven = sum(map(text.count, _QUOTES)) % 2 == 1
    return uneven or any(text.count(a) != text.count(b) for a, b in _BRACKETS.items() if a not in _QUOTES)
