"""One pass over one file, or a piece of it: rows, places where reading can start, labels, ids, rejects, evidence.

`scan_file` runs anywhere, takes one job and returns one small answer. If the user gives ids, their hashes go into
files on the way (`duplicates.py`). Lines and documents count from the beginning of the piece; `Scan.merge` puts the
pieces of a file together. Marks stand at the first record behind each multiple of GRID_BYTES, so that they, and with
them the units, do not depend on how a file was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa

from xner_ray.data import words
from xner_ray.errors import InputError, Reason
from xner_ray.read.duplicates import IdWriter
from xner_ray.read.formats.tables import table_schema
from xner_ray.read.record import START, TABLES, File, Place, Reading, Record
from xner_ray.read.records import FORMATS, iterate, read_raws, records_of
from xner_ray.read.units import Scan
from xner_ray.recipe.columns import SPLITS

GRID_BYTES = 1 << 14  # a unit reads at most so much in vain, of tables a row group
PIECE_BYTES = 1 << 24  # a multiple of GRID_BYTES
_HEAD_ROWS = 500  # that suggest how a file is read, until all of it is known


@dataclass(frozen=True, slots=True)
class ScanJob:
    """A file to scan, or a piece of it."""

    number: int
    file: File
    need_labels: bool
    limit: int | None  # rows after which the scan may stop
    max_words: int
    ids: str | None = None  # folder for the hashes of ids, if they are to be compared
    start: int = 0
    stop: int | None = None  # where the next piece begins
    settled: bool = False  # file.reading is right; else what its first rows suggest is tried


def cut_points(file: File, size: int) -> list[int]:
    """Return the places at which the pieces of a file begin, for scans by several workers. size: of the file, bytes."""
    pieces = FORMATS[file.format].pieces
    if pieces is None or file.ends_with(".gz") or size <= PIECE_BYTES:
        return [0]
    return [0, *pieces(file, range(PIECE_BYTES, size, PIECE_BYTES))]


def scan_file(job: ScanJob) -> Scan:
    """Scan one file, or a piece. InputError if it cannot be read at all."""
    file = job.file
    if file.carried and file.carry and file.format not in (*TABLES, "jsonl", "json"):
        raise InputError(f"{file.path}: input.carry: format {file.format} has no columns to carry; leave carry out")
    scan = Scan(job.number)
    if not job.settled:
        file = replace(file, reading=_suggested(file))
    if file.format in TABLES:
        _, scan.extra = table_schema(file, need_labels=job.need_labels)
    elif file.format in ("jsonl", "json"):
        scan.extra = [pa.field(name, pa.string()) for name in (("extra",) if file.carry is None else file.carry)]
    scan.reading, scan.evidence = file.reading, FORMATS[file.format].evidence(file)
    ids = IdWriter(job.ids, job.number) if job.ids is not None else None
    own_ids = False
    if not job.start:
        scan.marks.add(0, START, 0)
    at, by_group = 0 if not job.start else -1, file.format in TABLES and not file.ends_with(".arrow")
    for place, record in _rows(scan, file, job):
        if place is not None and (by_group or place.offset // GRID_BYTES > at // GRID_BYTES):
            at = place.offset
            if scan.rows or job.start:
                scan.marks.add(scan.rows, place, scan.words)
        n_words = len(record.tokens if record.tokens is not None else (record.text or "").split())
        scan.words += n_words
        if (reason := _reason(record, n_words, file, job)) is not None:
            count, first = scan.rejects.get(reason, (0, scan.rows))
            scan.rejects[reason] = (count + 1, first)
        if record.labelled:
            scan.labelled += 1
            scan.repaired += record.repaired
        if record.reason is None:  # what rejected rows hold may be no label at all
            scan.labels.update(span.label for span in record.spans or ())
            scan.labels.update(label for _, _, label in record.chars or ())
        split = record.split or file.split
        if ids is not None:
            own_ids = own_ids or record.id is not None
            ids.add(split, record.id)
        if isinstance(record.extra, dict):
            scan.carried.update(record.extra)
        if not scan.splits or scan.splits[-1] != SPLITS.index(split):
            scan.splits.append(SPLITS.index(split))
            scan.split_ends.append(scan.rows)
        scan.split_ends[-1] += 1
        scan.rows += 1
        if scan.rows == job.limit:
            break
    if ids is not None and own_ids:
        scan.pieces = ids.close()
    return scan


def _rows(scan: Scan, file: File, job: ScanJob) -> Iterator[tuple[Place | None, Record]]:
    """Yield places and records of the piece; evidence and the end of the piece go into the scan."""
    for number, raw in enumerate(read_raws(file, Place(job.start), extra=False)):
        if job.stop is not None and raw.place is not None and raw.place.offset >= job.stop:
            scan.end = raw.place
            return
        if number == 0:
            scan.first = raw.place or START
        scan.evidence.add(raw)
        place = raw.place
        for record in records_of(raw, file):
            yield place, record
            place = None


def _suggested(file: File) -> Reading:
    """Return how the first rows of a file would be read; as earlier versions did where they do not say."""
    evidence = FORMATS[file.format].evidence(file)
    for raw in islice(read_raws(file, START, extra=False), _HEAD_ROWS):
        evidence.add(raw)
    try:
        return evidence.settle(file).reading
    except InputError:
        return file.reading  # the rest of the file may decide it; if not, this is raised again


def _reason(record: Record, n_words: int, file: File, job: ScanJob) -> Reason | None:
    """Return why the row of a record will be rejected. n_words: by its tokens, or its blanks."""
    if record.reason is not None:
        return record.reason
    if n_words == 0 and not (record.tokens or (record.text or "").strip()):
        return Reason.EMPTY
    if record.tokens is None and len(record.text or "") > job.max_words:  # a word has a character
        n_words = len(words.split(record.text or "", file.lang))
    if n_words > job.max_words:
        return Reason.TOO_LONG
    if record.text is not None and any(not record.text[start:end].strip() for start, end, _ in record.chars or ()):
        return Reason.BAD_SPAN
    return Reason.MALFORMED if job.need_labels and not record.labelled else None


def record_at(file: File, scan: Scan, row: int) -> Record:
    """Return the record of one row of a file. scan: of the whole file, with which `file.reading` agrees."""
    mark = scan.marks.last_before(row)
    return next(iterate(file, scan.marks.place(mark), row - scan.marks.rows[mark], 1))
