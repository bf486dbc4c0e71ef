"""What the numbers of spans count: characters (code points), UTF-16 units, bytes, graphemes, or tokens.

A span's own text, or else word edges, show under which readings it fits. Most rows are ASCII, where all but tokens
are the same.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from icu4py.breakers import CharacterBreaker, WordBreaker

from xner_ray.errors import BadRecord, Reason, short
from xner_ray.read.shapes.readings import NO_TEXT, OWN, TOKENS_EXCLUSIVE, TOKENS_INCLUSIVE, UNITS, UNSPACED, differs

if TYPE_CHECKING:
    from xner_ray.data.kinds import Ends, Offsets
    from xner_ray.read.shapes.spans import Found

_SPACELESS = (
    (0xE00, 0xEFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Counts:
    """Positions of one text in a unit -> characters."""

    def __init__(self, text: str, unit: Offsets) -> None:
        self.ends: list[int] | None = None  # after each character (or grapheme), in the unit
        self.starts: list[int] | None = None  # of graphemes: their first characters
        self.unit, self.length = unit, len(text)
        if unit == "characters" or (text.isascii() and (unit != "graphemes" or "\r" not in text)):
            return
        if unit == "graphemes":
            self.starts = [0, *accumulate(map(len, CharacterBreaker(text, "en")))]
            self.length = len(self.starts) - 1
        elif unit == "bytes" or any(character > "\uffff" for character in text):
            sizes = (len(c.encode("utf-8", "surrogatepass")) if unit == "bytes" else 1 + (c > "\uffff") for c in text)
            self.ends = [0, *accumulate(sizes)]
            self.length = self.ends[-1]

    def at(self, position: int) -> int:
        """Return the characters before a position; -1 if it lies outside the text or inside a character."""
        if not 0 <= position <= self.length:
            return -1
        if self.starts is not None:
            return self.starts[position]
        if self.ends is None:
            return position
        found = bisect_left(self.ends, position)
        return found if self.ends[found] == position else -1


def in_characters(span: Found, counts: Counts, ends: Ends) -> tuple[int, int]:
    """Return start and end of a span in characters, half open. BadRecord if it is no range inside the text."""
    start, end = span.start, span.end + (ends == "inclusive")
    if not 0 <= start < end <= counts.length:
        raise BadRecord(
            Reason.BAD_SPAN, f"span {short(span.item)} is empty or leaves the {counts.length} {counts.unit}"
        )
    first, last = counts.at(start), counts.at(end)
    if first < 0 or last < 0:
        raise BadRecord(Reason.BAD_SPAN, f"span {short(span.item)} begins or ends inside a character, by {counts.unit}")
    return first, last


def same(own: str, cut: str) -> bool:
    """Return whether a text is that of a span, whatever its white space and its case.

    >>> same("New York", "New\\nYork"), same("Oslo", "Oslo with")
    (True, False)
    """
    return own == cut or _squeezed(own) == _squeezed(cut)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def span_codes(text: str | None, tokens: Sequence[str] | None, spans: Sequence[Found]) -> list[int]:
    """Return the code of each span: under which of `READINGS` it fits."""
    starts = {span.start for span in spans}
    if text is None:
        return [_token_code(span, tokens or (), starts) | NO_TEXT | OWN * (span.own is not None) for span in spans]
    codes = []
    plain = text.isascii() and "\r" not in text
    units: list[Counts] | None = None
    edges = _Edges(text, tokens)
    for span in spans:
        code = OWN if span.own is not None else 0
        if plain:
            code |= 0b1111 * edges.fit(span, span.start, span.end)
            code |= 0b11110000 * edges.fit(span, span.start, span.end + 1)
        else:
            units = units or [Counts(text, unit) for unit in UNITS]
            at = [[(c.at(span.start), c.at(span.end + more)) for c in units] for more in (0, 1)]
            code |= sum(edges.fit(span, *place) << i for i, place in enumerate((*at[0], *at[1])))
            code |= sum(differs(unit) for unit, place in zip(UNITS, at[0], strict=True) if place != at[0][0])
            if 0 <= span.start < len(text) and _spaceless(text[span.start]):
                code |= UNSPACED
        codes.append(code | _token_code(span, tokens if tokens is not None else text.split(), starts))
    return codes


def _token_code(span: Found, tokens: Sequence[str], starts: set[int]) -> int:
    """Return the two bits of tokens: within their number, their text that of the span if it has one.

    starts: of all spans. The token behind one span that begins another is not the last of the first.
    """
    fits = 0
    for bit, end in ((1 << TOKENS_EXCLUSIVE, span.end), (1 << TOKENS_INCLUSIVE, span.end + 1)):
        inside = 0 <= span.start < end <= len(tokens)
        if inside and (span.own is None or _squeezed(span.own) == _squeezed("".join(tokens[span.start : end]))):
            fits |= bit
    return fits & ~(1 << TOKENS_INCLUSIVE) if span.end != span.start and span.end in starts else fits


class _Edges:
    """Edges of the words of one text: of its own tokens, if it has any that fit, or else as ICU has them."""

    def __init__(self, text: str, tokens: Sequence[str] | None) -> None:
        self.text = text
        self.own = _edges_of(tokens, text) if tokens else None
        self.icu: set[int] | None = None

    def fit(self, span: Found, start: int, end: int) -> bool:
        """Return whether a range holds the span's own text, or if it has none begins and ends with a word."""
        text = self.text
        if not 0 <= start < end <= len(text):
            return False
        if span.own is not None:
            return same(span.own, text[start:end]) or (span.swapped and same(span.label, text[start:end]))
        if text[start].isspace() or text[end - 1].isspace():
            return False
        return self._edge(start) and self._edge(end)

    def _edge(self, at: int) -> bool:
        text = self.text
        if self.own is not None:
            return at in self.own
        if at in (0, len(text)) or not (_inside(text[at - 1]) and _inside(text[at])):
            return True
        if text.isascii():
            return False
        if self.icu is None:
            self.icu = set(accumulate(map(len, WordBreaker(text, "en"))))
        return at in self.icu and not unicodedata.combining(text[at])


def _edges_of(tokens: Sequence[str], text: str) -> set[int] | None:
    """Return where tokens begin and end in a text; None if it does not hold all of them in their order."""
    edges, at = set(), 0
    for token in tokens:
        if (begin := text.find(token, at)) < 0:
            return None
        at = begin + len(token)
        edges |= {begin, at}
    return edges


def _inside(character: str) -> bool:
    """Return whether a character stands inside words."""
    return character.isalnum() or unicodedata.category(character)[0] == "M" or character == "\u200d"


def _spaceless(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _SPACELESS)
