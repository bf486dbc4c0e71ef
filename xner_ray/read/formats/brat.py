"""brat standoff: a text, and beside it a file .ann with one annotation a line; a document is a row.

Of the annotations the entities count (`T1<TAB>PER 0 9<TAB>Nora Falk`); relations, events, attributes,
normalisations and notes are left out. Each entity repeats its text, which shows what its offsets count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from xner_ray.data.kinds import Offsets
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import chunks, decode
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, short
from xner_ray.read.sniff.names import pair

_ENTITY = re.compile(r"T[^\t ]*\t(\S+) ([0-9]{1,12} [0-9]{1,12}(?:;[0-9]{1,12} [0-9]{1,12})*)\t?(.*)")
_OTHER = re.compile(r"[A-SU-Z*#][^\t]*(?:\t|$)")
_MOST_BYTES = 1 << 26
_LONG_WORDS = 200

Placed = tuple[int, int, str, str]  # start, end, label; and what is wrong if no row can hold it


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the document that a file annotates, with its annotations."""
    (lines, first), (text, second) = (decode(_whole(replace(file, path=path))) for path in pair(file.path))
    yield Raw(None, 1, (text, lines), first and second)


def _whole(file: File) -> bytes:
    data = bytearray()
    for _, chunk in chunks(file, 0):
        data += chunk
        if len(data) > _MOST_BYTES:
            raise InputError(f"{file.path}: is larger than {_MOST_BYTES >> 20} MiB; cut the document into several")
    return bytes(data)


def record(raw: Raw, file: File) -> Record:
    """Return the record of one document."""
    text, lines = raw.data
    made = Record(raw.line, file.stem, text=text)
    try:
        _, made.text, placed = _fitting(text, lines, file.stated.offsets)
        made.chars = [one[:3] for one in placed if not one[3]]
        made.faults = [(start, end, fault) for start, end, _, fault in placed if fault]
        if made.faults and not file.documents:
            made.chars = None
            raise BadRecord(Reason.BAD_SPAN, made.faults[0][2])
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def _fitting(text: str, lines: str, stated: Offsets | None) -> tuple[str, str, list[Placed]]:
    """Return what the offsets count, the text and its entities: the first reading by which the entities' texts fit."""
    entities = list(_entities(lines))
    plain = text.replace("\r\n", "\n")
    units: list[Offsets] = [stated] if stated else ["characters", "utf16", "bytes"]
    fault: BadRecord | None = None
    for unit in units:
        for one, name in ((text, unit), (plain, f"{unit} without carriage returns")):
            try:
                return name, one, [_placed(entity, one, unit) for entity in entities]
            except BadRecord as bad:
                fault = fault or bad
    assert fault is not None
    raise fault


def _entities(lines: str) -> Iterator[tuple[int, str, list[list[int]], str]]:
    """Yield line, label, ranges and own text of each entity."""
    for number, line in enumerate(lines.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip() or _OTHER.match(line):
            continue
        found = _ENTITY.fullmatch(line)
        if found is None:
            raise BadRecord(Reason.MALFORMED, f"line {number} is no annotation of brat: {short(line)}")
        label, ranges, own = found.groups()
        yield number, label, [[int(place) for place in part.split(" ")] for part in ranges.split(";")], own


def _placed(entity: tuple[int, str, list[list[int]], str], text: str, unit: Offsets) -> Placed:
    """Return where an entity stands in code points; BadRecord if its own text does not stand there."""
    number, label, ranges, own = entity
    parts = [[_code_points(text, place, unit) for place in part] for part in ranges]
    start, end = parts[0][0], parts[-1][1]
    if not all(0 <= first < last <= len(text) for first, last in [*parts, (start, end)]):
        shown = f"{label} {ranges[0][0]} {ranges[-1][1]}"
        raise BadRecord(Reason.BAD_SPAN, f"line {number}: {shown} is empty or leaves the {len(text)} characters")
    # A line end inside an entity cuts its range, and nothing but white space is left out
    gap = any(text[before[1] : after[0]].strip() for before, after in pairwise(parts))
    covered = " ".join(text[first:last] for first, last in parts) if gap else text[start:end]
    if own and own.split() != covered.split():
        problem = f"line {number}: the text at {start} {end} is {short(covered)}, not {short(own)}"
        raise BadRecord(Reason.BAD_SPAN, f"{problem}; is this the text that was annotated?")
    shown = ";".join(f"{first} {last}" for first, last in ranges)
    fault = f"line {number}: {label} {shown} ({short(covered)}) is discontinuous, as no row can hold it" if gap else ""
    return start, end, label, fault


def _code_points(text: str, place: int, unit: Offsets) -> int:
    """Return the number of code points before a place that counts other units; -1 if it is not between two of them."""
    if unit not in ("utf16", "bytes"):
        return place
    encoding, size = ("utf-16-le", 2) if unit == "utf16" else ("utf-8", 1)
    try:
        return len(text.encode(encoding)[: place * size].decode(encoding)) if text or not place else -1
    except UnicodeDecodeError:
        return -1


class _Evidence:
    """What the offsets of a document count, and its length."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def add(self, raw: Raw) -> None:
        text, lines = raw.data
        try:
            unit, text, _ = _fitting(text, lines, None)
        except BadRecord:
            return
        if unit != "characters":
            self.said.append(f"offsets in {unit}")
        if (words := len(text.split())) > _LONG_WORDS:
            self.said.append(f"{words} words")

    def merge(self, later: _Evidence) -> None:
        self.said += later.said

    def settle(self, file: File) -> Settled:
        cure = "" if file.sentences else "; input.split: sentences cuts them"
        said = [f"{one}, and a document is a row{cure}" if one.endswith(" words") else one for one in self.said]
        return Settled(file.reading, [one for one in said if not (file.sentences and " words, " in one)])


BRAT = Format(raws, record, evidence=lambda file: _Evidence())
