"""Word links that the user has: a line a sentence, `i-j i-j ...`; an empty line has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints
from xner_ray.errors import Reason
from xner_ray.read.format import Format
from xner_ray.read.formats.lines import byte_lines, decode, line_pieces
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, short

_LINK = re.compile(r"[0-9]{1,9}-[0-9]{1,9}")
_LINKS = re.compile(rf"[ \t]*(?:{_LINK.pattern}(?:[ \t]+|\Z))*")
_LINK_LINES = re.compile(rf"(?:[ \t]*+(?:{_LINK.pattern}(?:[ \t]++|(?=\n)))*+\n)*+".encode())
_NUMBER = re.compile(r"[0-9]+")
_NOT_BLANK = re.compile(r"[^ \t]+")


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the lines of a file."""
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        yield Raw(Place(offset, number - 1), number, raw)


def link_record(number: int, raw: bytes) -> Record:
    """Return the record of one line of links."""
    text, _ = decode(raw)
    record = Record(number, text=text)
    if not _LINKS.fullmatch(text):
        wrong = next(part for part in _NOT_BLANK.findall(text) if not _LINK.fullmatch(part))
        record.reason = Reason.MALFORMED
        record.detail = f"{short(wrong)} is not a link; allowed: i-j between blanks, word numbers from 0"
    return record


def link_pairs(record: Record, n_source: int, n_target: int) -> list[tuple[int, int]]:
    """Return (source word, target word) of every link of a record; BadRecord if a link leaves the words."""
    if record.reason is not None:
        raise BadRecord(record.reason, record.detail)
    numbers = [int(number) for number in _NUMBER.findall(record.text or "")]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if pairs and (max(numbers[::2]) >= n_source or max(numbers[1::2]) >= n_target):
        source, target = next((source, target) for source, target in pairs if source >= n_source or target >= n_target)
        problem = f"link {source}-{target} leaves the {n_source} words of the source side"
        allowed = f"0 to {n_source - 1} (source) and 0 to {n_target - 1} (target)"
        raise BadRecord(Reason.MALFORMED, f"{problem} or the {n_target} of the target side; allowed: {allowed}")
    return pairs


def link_columns(lines: Sequence[bytes]) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Return row, source word, target word of every link, and the rows that are no line of links; those have none."""
    bad = np.zeros(len(lines), bool)
    if not _LINK_LINES.fullmatch(b"\n".join([*lines, b""])):
        bad = np.array([not _LINK_LINES.fullmatch(line + b"\n") for line in lines])
        lines = [b"" if wrong else line for line, wrong in zip(lines, bad, strict=True)]
    numbers = np.fromstring(b" ".join(lines).decode().replace("-", " "), dtype=np.int64, sep=" ")
    return np.repeat(np.arange(len(lines)), [line.count(b"-") for line in lines]), numbers[::2], numbers[1::2], bad


LINKS = Format(raws, lambda raw, file: link_record(raw.line, raw.data), pieces=line_pieces)
