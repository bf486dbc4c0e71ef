"""One side of a row: text, words, offsets and spans of one record, or why it is rejected.

Given links count words, so where there are links, text without words is cut at blanks, as aligners read it.
Tokens that are no words are mended (`data/tokens.py`), with their spans and links; if they do not tile the given text
any more, the text is joined of them. Spans of characters become spans of the words that they touch (flag `snapped` if
an edge moved); a span over white space alone rejects the row.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from xner_ray.data import words
from xner_ray.data.spans import Span
from xner_ray.data.tokens import mend
from xner_ray.errors import Flag, Reason, one_line
from xner_ray.read.record import BadRecord, File, Record, short, without_surrogates
from xner_ray.recipe.input import Labels

_WHITE = re.compile(r"\s")
_NOT_BLANK = re.compile(r"[^ \t]+")


@dataclass(slots=True)
class ReadSide:
    """One side of a row."""

    text: str | None = None
    tokens: list[str] | None = None
    offsets: list[tuple[int, int]] | None = None
    spans: list[Span] | None = None  # sorted, those that share words included; None: unlabelled
    flags: list[Flag] = field(default_factory=list)  # of the words
    snapped: int = 0  # spans
    places: Sequence[range] | None = None  # the words of each token that was counted; None: they are the words
    reason: Reason | None = None
    detail: str = ""

    def reject(self, reason: Reason, detail: str) -> None:
        """Note why the row is rejected; the first reason stays."""
        if self.reason is None:
            self.reason, self.detail = reason, one_line(detail, 600)


def side(record: Record, file: File, labels: Labels, max_words: int, *, at_blanks: bool = False) -> ReadSide:
    """Return text, words, offsets and mapped spans of one record, or why it is rejected.

    at_blanks: text without words is cut at blanks and tabs, else by the rules of the language.
    """
    where = f"{file.name}:{record.line}: "
    made = ReadSide(record.text, record.tokens)
    if record.reason is not None:
        made.reject(record.reason, where + record.detail)
        # A table cannot hold half a surrogate pair, whatever the row was rejected for.
        made.text = without_surrogates(made.text) if made.text is not None else None
        made.tokens = [without_surrogates(token) for token in made.tokens] if made.tokens is not None else None
        return made
    if record.joined:
        made.flags.append(Flag.SENTENCES_JOINED)
    if made.tokens is None:
        text = made.text or ""
        made.offsets = [m.span() for m in _NOT_BLANK.finditer(text)] if at_blanks else words.split(text, file.lang)
        made.tokens = [text[start:end] for start, end in made.offsets]
        if at_blanks and _WHITE.search("".join(made.tokens)):
            bad = next(token for token in made.tokens if _WHITE.search(token))
            made.reject(Reason.BAD_TOKEN, f"{where}a word holds white space where some aligners cut: {short(bad)}")
            return made
    given, at = made.tokens, made.offsets
    mended = mend(given)
    if mended is not None:
        made.tokens, made.places, made.offsets = mended.tokens, mended.places, None
    if not made.tokens:
        made.reject(Reason.EMPTY, f"{where}no word")
        return made
    if made.offsets is None and made.text is not None:
        made.offsets = words.locate(made.tokens, made.text)
    tiles = made.offsets is not None
    if made.offsets is None:
        made.text, made.offsets = words.join(made.tokens, file.lang)
        if record.chars is not None:  # they can still be told if the tokens as given tile the text
            at = at or words.locate(given, record.text or "")
            if at is None:
                made.reject(Reason.MALFORMED, f"{where}the tokens do not match the text that the spans refer to")
    if mended is not None and (record.tokens is not None or not tiles):  # else the words are ours, and so are the cuts
        made.flags.append(Flag.TOKENS_MENDED)
    if len(made.tokens) > max_words:
        made.reject(Reason.TOO_LONG, f"{where}{len(made.tokens)} words; input.max_words is {max_words}")
    if record.labelled and made.reason in (None, Reason.TOO_LONG):
        offsets = made.offsets if tiles else at or []  # in the text that spans of characters refer to
        try:
            spans = (
                record.spans if record.chars is None else _snap(record.chars, record.text or "", offsets, made, labels)
            )
            spans = labels.map(spans or [])
            if mended is not None and (record.chars is None or not tiles):
                spans = mended.spans(spans)
            made.spans = spans if len(spans) < 2 else sorted(set(spans))
        except BadRecord as bad:
            made.reject(bad.reason, where + bad.detail)
        except ValueError as lost:
            made.reject(Reason.BAD_SPAN, f"{where}{lost}")
    return made


def _snap(
    chars: Sequence[tuple[int, int, str]], text: str, offsets: Sequence[tuple[int, int]], made: ReadSide, labels: Labels
) -> list[Span]:
    """Return the spans of the words that spans of characters touch, of those whose label is kept.

    offsets: of the words in the text. BadRecord for a span that touches no word.
    """
    spans = []
    begins, ends = [begin for begin, _ in offsets], [end for _, end in offsets]
    for start, end, label in chars:
        if not labels.keeps(label):
            continue
        first, last = bisect_right(ends, start), bisect_left(begins, end)
        if first >= last:
            raise BadRecord(Reason.BAD_SPAN, f"span {short([start, end, label])} covers white space and no word")
        if (start, end) != (begins[first], ends[last - 1]):
            inside = text[start:end]
            trimmed = (start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()))
            made.snapped += trimmed != (begins[first], ends[last - 1])
        spans.append(Span(first, last, label))
    return spans
