"""One pass over one file: how many rows it has, where reading can start, which labels and ids it holds.

`scan_file` runs anywhere, takes one job and returns one small answer (16 bytes a row for the ids, where the user
gives ids at all). Equal ids are found afterwards, in buckets of their hashes that fit in memory one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xner_ray.errors import InputError, Reason
from xner_ray.read.formats import TABLES, read_records
from xner_ray.read.records import START, File, record_id
from xner_ray.read.tables import table_schema
from xner_ray.read.units import Mark
from xner_ray.recipe import SPLITS

STRIDE_ROWS = 512  # a unit reads at most this many rows for nothing
_SURE_ROWS = 10  # as many rows, all malformed: the file is of another format
_BUCKET_BYTES = 64 << 20
_FILE_SHIFT = 40  # file number above, row of the file below
_HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScanJob:
    number: int
    file: File
    need_labels: bool
    limit: int | None  # rows after which the scan may stop
    stride: int = STRIDE_ROWS


@dataclass(slots=True)
class Scan:
    number: int
    rows: int = 0
    words: int = 0
    labelled: int = 0  # rows
    repaired: int = 0  # tags
    marks: list[Mark] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)  # of proper records, as the file spells them
    extra: list[pa.Field] = field(default_factory=list)
    splits: bytes = b""  # a byte a row, an index of SPLITS, where rows name their split
    hashes: bytes = b""  # 16 bytes a row, where rows have ids of their own


def scan_file(job: ScanJob) -> Scan:
    """The scan of one file. InputError if the file cannot be used at all: no row, of another format, no labels."""
    file, scan = job.file, Scan(job.number, marks=[Mark(0, START, 0)])
    if file.format in TABLES:
        _, scan.extra = table_schema(file, need_labels=job.need_labels)
    elif file.format == "jsonl":
        scan.extra = [pa.field("extra", pa.string())]
    hashes, splits = bytearray(), bytearray()
    own_ids = own_splits = False
    default_split = SPLITS.index(file.split)
    malformed, problem = 0, ""
    for place, record in read_records(file, extra=False):
        if place is not None and scan.rows - scan.marks[-1].row >= job.stride:
            scan.marks.append(Mark(scan.rows, place, scan.words))
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
        if file.format not in ("text", "links"):
            own_ids = own_ids or record.id is not None
            hashes += blake2b(record_id(record, file).encode(errors="surrogatepass"), digest_size=16).digest()
            own_splits = own_splits or record.split is not None
            splits.append(SPLITS.index(record.split) if record.split else default_split)
        if record.reason in (Reason.MALFORMED, Reason.ILLEGAL_TAG):
            malformed += 1
            problem = problem or f"{file.name}:{record.line}: {record.detail}"
        scan.rows += 1
        if scan.rows == job.limit:
            break
    if not scan.rows and file.format not in (*TABLES, "links"):
        raise InputError(f"{file.path}: holds no sentence")
    if scan.rows >= _SURE_ROWS and malformed == scan.rows:
        raise InputError(f"{file.path}: not one of {scan.rows} rows is proper {file.format}; the first: {problem}")
    scan.hashes, scan.splits = bytes(hashes) if own_ids else b"", bytes(splits) if own_splits else b""
    return scan


class Ids:
    """Finds rows with an id that an earlier row has, for any number of rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bytes, self.small = folder, 0, list[npt.NDArray[np.void]]()

    def add(self, file_number: int, hashes: bytes) -> None:
        """The ids of one file; files may come in any order."""
        if not hashes:
            return
        found = np.frombuffer(hashes, _HASH)
        entries = np.empty(len(found), _ENTRY)
        entries["high"], entries["low"] = found["high"], found["low"]
        entries["row"] = (file_number << _FILE_SHIFT) + np.arange(len(found))
        self.small.append(entries)
        self.bytes += entries.nbytes
        if self.bytes > _BUCKET_BYTES:
            self._spill()

    def _spill(self) -> None:
        entries = np.concatenate(self.small)
        buckets = entries["high"] >> np.uint64(56)
        for bucket in np.unique(buckets):
            with open(self.folder / f"{bucket:03d}", "ab") as stream:
                stream.write(entries[buckets == bucket].tobytes())
        self.small, self.bytes = [], 0

    def duplicates(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """((file, row of it), (file, row) of the first with that id), in no order."""
        spilled = sorted(self.folder.iterdir())
        if spilled and self.small:
            self._spill()
            spilled = sorted(self.folder.iterdir())
        groups = (
            (np.fromfile(path, _ENTRY) for path in spilled)
            if spilled
            else iter([np.concatenate(self.small)] if self.small else [])
        )
        mask = (1 << _FILE_SHIFT) - 1
        for entries in groups:
            entries = entries[np.lexsort((entries["row"], entries["low"], entries["high"]))]
            same = np.zeros(len(entries), bool)
            same[1:] = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
            first = np.maximum.accumulate(np.where(same, 0, np.arange(len(entries))))
            for row, owner in zip(entries["row"][same].tolist(), entries["row"][first[same]].tolist(), strict=True):
                yield (row >> _FILE_SHIFT, row & mask), (owner >> _FILE_SHIFT, owner & mask)
