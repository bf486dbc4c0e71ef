"""One pass over one file: its number of rows, the places where reading can start, its labels and ids.

`scan_file` runs anywhere, takes one job and returns one small answer. If the user gives ids, their hashes go into
files on the way (`duplicates.py`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import pyarrow as pa

from xner_ray.errors import InputError, Reason
from xner_ray.read.duplicates import IdWriter
from xner_ray.read.formats.tables import table_schema
from xner_ray.read.record import START, TABLES, File, record_id
from xner_ray.read.records import read_records
from xner_ray.read.units import Scan
from xner_ray.recipe.columns import SPLITS

STRIDE_ROWS = 512  # a unit reads at most this many rows in vain
_SURE_ROWS = 10  # as many rows, all malformed: the file is of another format


@dataclass(frozen=True, slots=True)
class ScanJob:
    """A file to scan."""

    number: int
    file: File
    need_labels: bool
    limit: int | None  # rows after which the scan may stop
    ids: str | None = None  # folder for the hashes of ids, if they are to be compared
    stride: int = STRIDE_ROWS


def scan_file(job: ScanJob) -> Scan:
    """Scan one file. InputError if it is useless: no rows, another format, or no labels where they are needed."""
    file, scan = job.file, Scan(job.number)
    scan.marks.add(0, START, 0)
    if file.format in TABLES:
        _, scan.extra = table_schema(file, need_labels=job.need_labels)
    elif file.format == "jsonl":
        scan.extra = [pa.field(name, pa.string()) for name in (("extra",) if file.carry is None else file.carry)]
    elif file.carried and file.carry:
        raise InputError(f"{file.path}: input.carry: format {file.format} has no columns to carry; leave carry out")
    # Text has no ids of its own.
    ids = IdWriter(job.ids, job.number) if job.ids is not None and file.format not in ("text", "links") else None
    splits = bytearray()
    own_ids = own_splits = False
    default_split = SPLITS.index(file.split)
    malformed, problem = 0, ""
    for place, record in read_records(file, extra=False):
        if place is not None and scan.rows - scan.marks.rows[-1] >= job.stride:
            scan.marks.add(scan.rows, place, scan.words)
        if record.tokens is not None:
            scan.words += len(record.tokens)
        elif record.text is not None:
            scan.words += len(record.text.split())
        if record.labelled:
            scan.labelled += 1
            scan.repaired += record.repaired
        if record.reason is None:  # what rejected rows hold may be no label at all
            scan.labels.update(span.label for span in record.spans or ())
            scan.labels.update(label for _, _, label in record.chars or ())
        if ids is not None:
            own_ids = own_ids or record.id is not None
            ids.add(record_id(record, file))
        if isinstance(record.extra, dict):
            scan.carried.update(record.extra)
        own_splits = own_splits or record.split is not None
        split = SPLITS.index(record.split) if record.split else default_split
        if not splits or splits[-1] != split:
            splits.append(split)
            scan.split_ends.append(scan.rows)
        scan.split_ends[-1] += 1
        if record.reason in (Reason.MALFORMED, Reason.ILLEGAL_TAG):
            malformed += 1
            problem = problem or f"{file.name}:{record.line}: {record.detail}"
        scan.rows += 1
        if scan.rows == job.limit:
            break
    if not scan.rows and file.format not in (*TABLES, "links"):
        raise InputError(f"{file.path}: holds no sentence")
    if scan.rows >= _SURE_ROWS and malformed == scan.rows:
        raise InputError(f"{file.path}: none of {scan.rows} rows is valid {file.format}; the first: {problem}")
    if ids is not None and own_ids:
        scan.pieces = ids.close()
    if own_splits:
        scan.splits = bytes(splits)
    else:
        scan.split_ends = array("q")
    return scan
