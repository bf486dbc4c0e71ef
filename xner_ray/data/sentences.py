"""Text to sentences, by ICU's rules of the language, common abbreviations excepted."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import NamedTuple

from icu4py.breakers import SentenceBreaker

from xner_ray.data.languages import LANGUAGES

_SURROGATES = re.compile("[\ud800-\udfff]")
_INSIDE = re.compile(r"[!?.][a-z0-9=&/#%_-]")  # as in addresses: x.org/a?b=1
Range = tuple[int, int]  # half-open, of code points


class Sentence(NamedTuple):
    start: int
    end: int
    joined: bool  # it is several of ICU's, which a span holds together


def sentences(text: str, lang: str, tokens: Iterable[Range] = (), spans: Iterable[Range] = ()) -> list[Sentence]:
    """Return the sentences of a text, which tile it, with no border inside a span or a token.

    >>> sentences("Al ran. Bo sat.", "eng_Latn", spans=[(3, 10)])
    [Sentence(start=0, end=15, joined=True)]
    >>> len(sentences("See x.org/a?b=1 now. Bye.", "eng_Latn"))
    2
    """
    language = LANGUAGES[lang]
    locale = f"{language.iso639_1 or language.iso639_3}@ss=standard"
    borders = list(accumulate(map(len, SentenceBreaker(_SURROGATES.sub("\ufffd", text), locale))))[:-1]
    borders = [at for at in borders if not _INSIDE.match(text, at - 1)]
    borders = _outside(borders, tokens)
    kept = _outside(borders, spans)
    found = pairwise([0, *kept, len(text)])
    return [Sentence(start, end, bisect_right(borders, start) < bisect_left(borders, end)) for start, end in found]


def _outside(borders: list[int], ranges: Iterable[Range]) -> list[int]:
    """Return the borders that are inside none of the ranges."""
    inside: set[int] = set()
    for start, end in ranges:
        inside.update(borders[bisect_right(borders, start) : bisect_left(borders, end)])
    return [border for border in borders if border not in inside]
