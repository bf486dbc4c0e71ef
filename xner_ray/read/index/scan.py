"""One pass over one file, or a piece of it: rows, places where reading can start, labels, ids, rejects, evidence.

`scan_file` runs anywhere, takes one job and returns one small answer. If the user gives ids, their hashes go into
files on the way (`duplicates.py`). Lines and documents count from the beginning of the piece; `Scan.merge` puts the
pieces of a file together. Marks stand at the first record behind each multiple of GRID_BYTES, so that they, and with
them the units, do not depend on how a file was cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data import words
from xner_ray.data.arrow import lengths
from xner_ray.data.kinds import SPLITS
from xner_ray.data.tokens import UNSEEN, Mended, leaning, mend
from xner_ray.errors import InputError, Reason
from xner_ray.read.formats import table
from xner_ray.read.formats.tables import batches, table_raws, table_schema
from xner_ray.read.index.duplicates import IdWriter
from xner_ray.read.index.units import Scan
from xner_ray.read.record import START, TABLES, File, Place, Raw, Reading, Record
from xner_ray.read.records import FORMATS, collector_paused, iterate, read_raws, records_of, with_document_start
from xner_ray.read.shapes.evidence import ObjectEvidence
from xner_ray.read.shapes.schema import class_names
from xner_ray.read.side import side
from xner_ray.read.sources import is_plain_table, table_source, tagged_rows
from xner_ray.read.tagged import Source, looked_at
from xner_ray.recipe.input import Labels

GRID_BYTES = 1 << 14  # a unit reads at most so much in vain, of tables a row group
PIECE_BYTES = 1 << 24  # a multiple of GRID_BYTES
_BATCH_ROWS = 1024
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
    with collector_paused():
        return _scan_file(job)


def _scan_file(job: ScanJob) -> Scan:
    file = job.file
    carries = file.format in (*TABLES, "jsonl", "json") or (file.format == "table" and table.carries(file))
    if file.carried and file.carry and not carries:
        raise InputError(f"{file.path}: input.carry: format {file.format} has no columns to carry; leave carry out")
    scan = Scan(job.number)
    if not job.settled:
        file = replace(file, reading=_suggested(file))
    if file.format in TABLES:
        _, scan.extra = table_schema(file, need_labels=job.need_labels)
    elif carries:
        scan.extra = [pa.field(name, pa.string()) for name in (("extra",) if file.carry is None else file.carry)]
    scan.extra = with_document_start(scan.extra, file)
    scan.reading, scan.evidence = file.reading, FORMATS[file.format].evidence(file)
    scanner = _Scanner(scan, file, job)
    if is_plain_table(file):
        scanner.add_table()
        return scanner.close()
    raws = _raws(scan, file, job)
    while not scanner.full and (batch := list(islice(raws, min(job.limit or _BATCH_ROWS, _BATCH_ROWS)))):
        scanner.add(batch)
    return scanner.close()


def _raws(scan: Scan, file: File, job: ScanJob) -> Iterator[Raw]:
    """Yield the raw records of the piece; evidence and the end of the piece go into the scan."""
    for number, raw in enumerate(read_raws(file, Place(job.start), extra=False)):
        if job.stop is not None and raw.place is not None and raw.place.offset >= job.stop:
            scan.end = raw.place
            return
        if number == 0:
            scan.first = raw.place or START
        scan.evidence.add(raw)
        yield raw


class _Scanner:
    """What a scan takes from raw records: of words with tags by whole columns, of others one by one."""

    def __init__(self, scan: Scan, file: File, job: ScanJob) -> None:
        self.scan, self.file, self.job = scan, file, job
        self.ids = IdWriter(job.ids, job.number) if job.ids is not None else None
        self.own_ids = self.full = False
        self.by_group = file.format in TABLES and not file.ends_with(".arrow")
        self.marked = -1 if job.start else 0
        if not job.start:
            scan.marks.add(0, START, 0)

    def add(self, raws: Sequence[Raw]) -> None:
        """Take raw records, until there are as many rows as wanted."""
        file = self.file
        found = tagged_rows(raws, file)
        if found is None:
            for raw in raws:
                self._add_records(raw.place, records_of(raw, file))
            return
        rows, source = found
        odd = self._counted(source)
        for raw, row, is_odd in zip(raws, rows, odd.tolist(), strict=True):
            if is_odd:
                self._add_records(raw.place, records_of(raw, file))
            else:
                self._add_plain(raw.place, len(row.tokens), row.id, row.tags is not None, row.extra)

    def add_table(self) -> None:
        """Take the rows of a table of words with tags, batch by batch, to the end of the piece."""
        scan, file, job = self.scan, self.file, self.job
        labels = class_names(file, table_schema(file, need_labels=False)[0])
        for place, first, batch in batches(file, Place(job.start)):
            if job.stop is not None and place is not None and place.offset >= job.stop:
                scan.end = place
                return
            table = pa.Table.from_batches([batch.slice(0, None if job.limit is None else job.limit - scan.rows)])
            lines = first + np.arange(table.num_rows)
            try:
                table.validate(full=True)
            except pa.ArrowInvalid:  # text that is not UTF-8
                raws = list(table_raws(batch, lines.tolist(), labels))
                for raw in raws[:1]:
                    raw.place = place
                for raw in raws:
                    scan.evidence.add(raw)
                    self._add_records(raw.place, records_of(raw, file))
                continue
            cast(ObjectEvidence, scan.evidence).add_batch(batch, labels)
            source = table_source(table, lines, file, labels)
            odd = self._counted(source)
            tagged = np.zeros(len(lines), bool) if source.tags is None else source.tags.is_valid().to_numpy(False)
            records = source.records(np.flatnonzero(odd))
            rows = zip(lengths(source.tokens).tolist(), source.ids, tagged.tolist(), odd.tolist(), strict=True)
            for n_words, own_id, is_tagged, is_odd in rows:
                if is_odd:
                    self._add_records(place, [next(records)])
                else:
                    self._add_plain(place, n_words, own_id, is_tagged, None)
                place = None
            if self.full:
                return

    def _counted(self, source: Source) -> NDArray[np.bool_]:
        """Count labels and repaired tags of rows, and return those that are odd and not counted yet."""
        odd, spans = looked_at(source, self.file.reading.style, self.job.max_words)
        if spans is not None:
            good = ~odd
            counts = np.bincount(spans.label[good[spans.row]], minlength=len(spans.labels)).tolist()
            self.scan.labels.update({label: n for label, n in zip(spans.labels, counts, strict=True) if n})
            self.scan.repaired += int(spans.repaired[good].sum())
        return odd

    def _add_plain(self, place: Place | None, n_words: int, own_id: str | None, labelled: bool, extra: object) -> None:
        reason = None if labelled or not self.job.need_labels else Reason.MALFORMED
        self._add_row(place, n_words, own_id, self.file.split, reason, labelled, extra)

    def _add_records(self, place: Place | None, records: Sequence[Record]) -> None:
        scan = self.scan
        for record in () if self.full else records:
            if record.labelled:
                scan.repaired += record.repaired
            if record.reason is None:  # what rejected rows hold may be no label at all
                for span in record.spans or ():
                    scan.labels[span.label] += 1
                for _, _, label in record.chars or ():
                    scan.labels[label] += 1
            n_words = len(record.tokens if record.tokens is not None else (record.text or "").split())
            mended = mend(record.tokens) if record.tokens is not None and record.reason is None else None
            reason = _reason(record, n_words, self.file, self.job, mended)
            scan.mended += mended is not None and reason is None
            scan.joined += record.joined and reason is None
            split = record.split or self.file.split
            self._add_row(place, n_words, record.id, split, reason, record.labelled, record.extra)
            place = None

    def _add_row(
        self,
        place: Place | None,
        n_words: int,
        own_id: str | None,
        split: str,
        reason: Reason | None,
        labelled: bool,
        extra: object,
    ) -> None:
        scan = self.scan
        if self.full:
            return
        if place is not None and (self.by_group or place.offset // GRID_BYTES > self.marked // GRID_BYTES):
            self.marked = place.offset
            if scan.rows or self.job.start:
                scan.marks.add(scan.rows, place, scan.words)
        scan.words += n_words
        scan.labelled += labelled
        if reason is not None:
            count, first = scan.rejects.get(reason, (0, scan.rows))
            scan.rejects[reason] = (count + 1, first)
        if self.ids is not None:
            self.own_ids = self.own_ids or own_id is not None
            self.ids.add(split, own_id)
        if isinstance(extra, dict):
            scan.carried.update(extra)
        code = SPLITS.index(split)
        if not scan.splits or scan.splits[-1] != code:
            scan.splits.append(code)
            scan.split_ends.append(scan.rows)
        scan.split_ends[-1] += 1
        scan.rows += 1
        self.full = scan.rows == self.job.limit

    def close(self) -> Scan:
        """Return the scan."""
        if self.ids is not None and self.own_ids:
            self.scan.pieces = self.ids.close()
        return self.scan


def _suggested(file: File) -> Reading:
    """Return how the first rows of a file would be read; as earlier versions did where they do not say."""
    evidence = FORMATS[file.format].evidence(file)
    for raw in islice(read_raws(file, START, extra=False), _HEAD_ROWS):
        evidence.add(raw)
    try:
        return evidence.settle(file).reading
    except InputError:
        return file.reading  # the rest of the file may decide it; if not, this is raised again


def _reason(record: Record, n_words: int, file: File, job: ScanJob, mended: Mended | None) -> Reason | None:
    """Return why the row of a record will be rejected. n_words: by its tokens, or its blanks. mended: its tokens."""
    if record.reason is not None:
        return record.reason
    if mended is not None:
        n_words = len(mended.tokens)
        if not n_words:
            return Reason.EMPTY
    if not record.tokens if record.tokens is not None else _blank(record.text or ""):
        return Reason.EMPTY
    if record.tokens is not None and record.chars is not None:
        cuts = [record.tokens, *([mended.tokens] if mended is not None else [])]
        if not any(words.locate(tokens, record.text or "") for tokens in cuts):
            return Reason.MALFORMED
    if record.tokens is None and len(record.text or "") > job.max_words:  # a word has a character
        n_words = len(words.split(record.text or "", file.lang))
    if n_words > job.max_words:
        return Reason.TOO_LONG
    if record.text is not None and any(_unseen(record.text[start:end]) for start, end, _ in record.chars or ()):
        return side(record, file, Labels(), job.max_words).reason  # rare, and only the words tell
    if mended is not None and record.spans:
        try:
            mended.spans(record.spans)
        except ValueError:
            return Reason.BAD_SPAN
    return Reason.MALFORMED if job.need_labels and not record.labelled else None


def _blank(text: str) -> bool:
    """Return whether a text has no word."""
    return not text[:1].isalnum() and UNSEEN.issuperset("".join(text.split()))


def _unseen(text: str) -> bool:
    """Return whether a text has nothing that makes a word by itself."""
    return not text[:1].isalnum() and leaning().issuperset("".join(text.split()))


def record_at(file: File, scan: Scan, row: int) -> Record:
    """Return the record of one row of a file. scan: of the whole file, with which `file.reading` agrees."""
    mark = scan.marks.last_before(row)
    return next(iterate(file, scan.marks.place(mark), row - scan.marks.rows[mark], 1))
