"""Plain text: every line is a sentence, blank lines too, so that line i stays parallel to line i of another file."""

from __future__ import annotations

from collections.abc import Iterator

from xner_ray.errors import Reason
from xner_ray.read.format import Format
from xner_ray.read.formats.lines import LONE_CR, byte_lines, decode, line_pieces
from xner_ray.read.record import File, Place, Raw, Record


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the lines of a file."""
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        text, valid = decode(raw)
        if file.sentences and not text.strip():
            continue  # a blank line between paragraphs is no sentence
        yield Raw(Place(offset, number - 1), number, text, valid)


def record(raw: Raw, file: File) -> Record:
    """Return the record of one line."""
    made = Record(raw.line, text=raw.data)
    if "\r" in raw.data:
        made.reason, made.detail = Reason.MALFORMED, LONE_CR
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


TEXT = Format(raws, record, pieces=line_pieces)
