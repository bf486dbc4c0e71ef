"""Where sentences end that no blank line parts: at punctuation, or at a mark that the last column has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from xner_ray.errors import InputError
from xner_ray.read.word_lines.cells import cells

if TYPE_CHECKING:
    from xner_ray.read.record import File

MARK = "EndOfSentence"  # of HIPE, among the flags of the last column
_FINAL = ".!?\u037e\u0589\u061f\u06d4\u0700\u0701\u0702\u0964\u0965\u0f0d\u104b\u1362\u1367\u17d4\u17d5\u1803\u1809"
_FINAL += "\u2047\u2048\u2049\u203c\u3002\uff01\uff0e\uff1f\uff61\u2e2e\ua6f3\u0df4"
_CLOSING = frozenset(
    ["''", "\u2019\u2019", *"'\u2019\u201d)]}\u00bb\u203a\u300d\u300f\u3011\u3009\u300b\uff09\uff3d\uff5d\uff02"]
)
_EITHER = ('"', "\uff02")  # opens or closes
_LONGEST_LINES = 1 << 16


def ends(word: str) -> bool:
    """Return whether a word ends a sentence: punctuation alone, no ellipsis.

    >>> [ends(word) for word in (".", "?!", "...", "Inc.")]
    [True, True, False, False]
    """
    return bool(word) and not word.strip(_FINAL) and (len(word) == 1 or word.strip(".") != "")


def cut_blocks(
    file: File, lines: Iterable[tuple[int, bytes]], before: int, stop: int | None
) -> Iterator[tuple[int, int, bytes, bool]]:
    """Yield (byte offset, lines before it, lines, whether punctuation ends it) of each sentence.

    lines: with their byte offsets; before: how many lines the file has before them. stop: sentences that begin there.
    A sentence ends at a blank line, and behind final punctuation that is outside of entities and the quotes and
    brackets that close behind it. Before the columns are known, entities are not.
    """
    reading = file.reading
    held: list[bytes] = []
    at, first, number = 0, before, before
    ended, quotes = False, 0
    for offset, raw in lines:
        row = cells(raw.decode(errors="replace"))
        word = row[reading.tokens] if len(row) > reading.tokens else ""
        closes = word in _CLOSING or (word in _EITHER and quotes % 2 == 1)
        if held and (not row or (ended and not closes)):
            yield at, first, b"\n".join(held), bool(row)
            held, ended, quotes = [], False, 0
        if row:
            if not held:
                at, first = offset, number
                if stop is not None and at >= stop:
                    return
            held.append(raw)
            quotes += word in _EITHER
            ended = (ended and closes) or (ends(word) and _outside(row, file))
        number += 1
        if len(held) > _LONGEST_LINES:
            raise InputError(f"{file.path}: no sentence ends in {_LONGEST_LINES} lines before line {number}")
    if held:
        yield at, first, b"\n".join(held), False


def _outside(row: Sequence[str], file: File) -> bool:
    tags = file.reading.tags
    if not file.reading.cut or tags is None or not -len(row) <= tags < len(row):
        return True
    return row[tags] == file.reading.style.outside


def at_marks(lines: Sequence[str], mark: str) -> list[int]:
    """Return the places behind lines whose last cell holds the mark, and behind the last line."""
    found = [place for place, line in enumerate(lines, start=1) if mark in line.rpartition("\t")[2].split("|")]
    return found if found and found[-1] == len(lines) else [*found, len(lines)]
