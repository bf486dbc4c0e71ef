"""Tokens that are no words, as corpora and tokenizers leave them, made words.

- A blank (white space, or characters of no width alone) is dropped: nobody sees a word there.
- White space cuts a token into words, and so does U+200B, which says where words end in scripts without spaces.
- U+FEFF inside a token is removed: files that were put together leave it there, and it parts nothing.
- Combining marks alone join the word before, whose damage they are (`lọ ́ jọ ́`); at the beginning they stay.

Other characters of no width inside a word are spelling (U+200C in Persian, U+200D in Sinhala) and stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter

from xner_ray.data.spans import Span


def _characters(*ranges: tuple[int, int]) -> Iterable[str]:
    """Return the characters of closed ranges of code points."""
    return (chr(code) for first, last in ranges for code in range(first, last + 1))


UNSEEN = frozenset("\u00ad\u061c\u115f\u1160\u180e\u2800\u3164\ufeff\uffa0").union(
    _characters((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F))
)
"""Characters of no width, and those that look like white space but are none."""
_CUT = re.compile(r"[\s\u200b]+")
_first = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Mended:
    """The words that given tokens have become."""

    tokens: list[str]
    places: list[range]  # of each given token: its words, and the word that it joined; empty if it was dropped
    joined: frozenset[int]  # the given tokens that begin with marks of the word before

    def spans(self, spans: Sequence[Span]) -> list[Span]:
        """Return spans of the given tokens as spans of the words. ValueError for one of which nothing is left.

        Marks are where the word that they joined is; a span over such marks alone is none if that word has one.
        """
        found: list[Span] = []
        lost: list[Span] = []
        for span in spans:
            own = [place for index in range(span.start, span.end) if (place := self._own(index))]
            if own:
                found.append(replace(span, start=own[0].start, end=own[-1].stop))
            else:
                lost.append(span)
        for span in lost:
            bases = [place.start for place in self.places[span.start : span.end] if place]
            if not any(one.start <= base < one.end for one in found for base in bases):
                raise ValueError(f"span {[span.start, span.end, span.label]} covers no word")
        return found

    def _own(self, index: int) -> range:
        """Return the place of a given token without the word before."""
        return self.places[index][1:] if index in self.joined else self.places[index]


def sound(tokens: Collection[str]) -> bool:
    """Return whether all tokens are words: fast, and False too for a few that `mend` leaves as they are."""
    text = "".join(tokens)
    if "" in tokens or text.split() != [text]:
        return False
    return text.isascii() or not ("\u200b" in text or "\ufeff" in text or not leaning().isdisjoint(map(_first, tokens)))


def mend(tokens: Sequence[str]) -> Mended | None:
    """Return the words that the tokens become; None if they are words.

    >>> mend(["lọ", "\u0301", " ", "5 000"]).places
    [range(0, 1), range(0, 1), range(1, 1), range(1, 3)]
    """
    if sound(tokens):
        return None
    made: list[str] = []
    places: list[range] = []
    joined: set[int] = set()
    for index, token in enumerate(tokens):
        begin = len(made)
        for part in _CUT.split(token.replace("\ufeff", "")):
            if UNSEEN.issuperset(part):
                continue
            if made and leaning().issuperset(part):
                if len(made) == begin:
                    joined.add(index)
                    begin -= 1
                made[-1] += part
            else:
                made.append(part)
        places.append(range(begin, len(made)))
    return None if made == list(tokens) else Mended(made, places, frozenset(joined))


@cache
def leaning() -> frozenset[str]:
    """Return all combining marks, which are in these blocks, and the unseen."""
    blocks = ((0x300, 0x30FF), (0xA66F, 0xABFF), (0xFB1E, 0xFE2F), (0x101FD, 0x11FFF), (0x13430, 0x1345F))
    more = ((0x16100, 0x16FFF), (0x1BC00, 0x1EFFF), (0xE0100, 0xE01EF))
    return UNSEEN.union(one for one in _characters(*blocks, *more) if unicodedata.category(one)[0] == "M")


def locate(tokens: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Return the range of each token in the text, or None unless the tokens tile it with only blanks between.

    Blanks are white space and the characters that `tokens.mend` drops.

    >>> locate(["It", "'s", "."], "It's ."), locate(["de", "a"], "da")
    ([(0, 2), (2, 4), (5, 6)], None)
    """
    offsets = []
    position = 0
    for token in tokens:
        while not text.startswith(token, position) and (
            (one := text[position : position + 1]).isspace() or one in UNSEEN
        ):
            position += 1
        if not token or not text.startswith(token, position):
            return None
        offsets.append((position, position + len(token)))
        position += len(token)
    return offsets if UNSEEN.issuperset("".join(text[position:].split())) else None
