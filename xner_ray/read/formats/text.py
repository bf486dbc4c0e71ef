"""Plain text: every line is a sentence, blank lines too, so that line i stays parallel to line i of another file.

A blank line has no sentence: where nothing is parallel to the text, it is left out, which counts as no fault.
Where every line has its number and a tab before it, as in `0<TAB>Nora went`, the numbers are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import LONE_CR, byte_lines, decode, line_pieces
from xner_ray.read.record import File, Place, Raw, Record
from xner_ray.read.sniff.content import NUMBERED
from xner_ray.read.sniff.encoding import cure

_SURE_LINES = 3


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the lines of a file."""
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        text, valid = decode(raw)
        if file.sentences and not text.strip():
            continue  # a blank line between paragraphs is no sentence
        yield Raw(Place(offset, number - 1), number, text, valid)


def record(raw: Raw, file: File) -> Record:
    """Return the record of one line."""
    text: str = raw.data
    if file.reading.number is not None and (found := NUMBERED.match(text)):
        text = text[found.end() :]
    made = Record(raw.line, text=text)
    if not file.stated.beside and not text.strip():
        made.reason, made.detail = Reason.LEFT_OUT, "a blank line"
    if "\r" in text:
        made.reason, made.detail = Reason.MALFORMED, LONE_CR
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, f"not UTF-8; where a whole file is not, {cure('latin1')}"
    return made


class _Evidence:
    """Whether numbers before the lines count them, and how many lines are not UTF-8."""

    def __init__(self) -> None:
        self.lines = self.bad = self.ascii = 0
        self.first: int | None = None  # number before the first line; None: it has none, or the lines are not counted

    def add(self, raw: Raw) -> None:
        text: str = raw.data
        self.ascii += text.isascii()
        self.bad += not raw.valid
        if not self.lines or self.first is not None:
            found = NUMBERED.match(text)
            number = int(found[1]) if found and len(found[1]) < 16 else None
            if not self.lines:
                self.first = number
            elif number != (self.first or 0) + self.lines:
                self.first = None
        self.lines += 1

    def merge(self, later: _Evidence) -> None:
        if not self.lines:
            self.first = later.first
        elif later.lines and (self.first is None or later.first != self.first + self.lines):
            self.first = None
        for name in ("lines", "bad", "ascii"):
            setattr(self, name, getattr(self, name) + getattr(later, name))

    def settle(self, file: File) -> Settled:
        beyond = self.lines - self.ascii
        if self.bad >= _SURE_LINES and 2 * self.bad > beyond:
            problem = f"{self.bad} of the {beyond} lines that go beyond ASCII are not UTF-8"
            raise InputError(f"{file.path}: {problem}; {cure('latin1')}")
        if self.first is None or self.lines < _SURE_LINES:
            return Settled(file.reading)
        said = f"a number from {self.first} on before every line, which is left out"
        return Settled(replace(file.reading, number=0), [said])


TEXT = Format(raws, record, evidence=lambda file: _Evidence(), pieces=line_pieces)
