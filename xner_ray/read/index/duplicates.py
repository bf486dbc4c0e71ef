"""Rows with the id of an earlier row, found for any number of rows in little memory.

    scan of a file --hashes of its ids--> pieces, sorted by bucket --one range of buckets of all pieces--> pairs of rows

The pieces are files of a folder that every process reaches, so hashes never travel to the driver. Scans and
comparisons may each run anywhere and more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xner_ray.storage import files as storage

PIECE_ROWS = 1 << 20  # at most; a scan needs 110 MB while it sorts as many
RANGE_ROWS = 1 << 21  # of one comparison, 160 MB; more when there are more than 256 times as many
_BUCKETS = 256
_FILE_SHIFT = 40  # number of the scan above, row of what it scanned below
_AT_ONCE = 16  # pieces that are read; an object store answers slowly
_HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])
_ENDS = np.dtype("<i8")  # a piece begins with the number of its entries up to the end of each bucket

Integers = npt.NDArray[np.int64]


class IdWriter:
    """A writer of the hashes of one scan's ids as pieces in `folder`. Ids are equal if all 128 bits are."""

    def __init__(self, folder: str, file_number: int) -> None:
        self.folder, self.file_number = folder, file_number
        self.pieces: list[str] = []
        self._hashes, self._rows = bytearray(), 0

    def add(self, split: str, row_id: str | None) -> None:
        """Take the id of the next row, which no other row of its split may have; None: it has none of its own."""
        if row_id is None:
            named = f"\0{self.file_number}:{self._rows + len(self._hashes) // _HASH.itemsize}"
        else:
            named = f"{split}\0{row_id}"
        self._hashes += blake2b(named.encode(errors="surrogatepass"), digest_size=_HASH.itemsize).digest()
        if len(self._hashes) == PIECE_ROWS * _HASH.itemsize:
            self._publish()

    def close(self) -> tuple[str, ...]:
        """Write what is left, and return the addresses of all pieces."""
        if self._hashes:
            self._publish()
        return tuple(self.pieces)

    def _publish(self) -> None:
        found = np.frombuffer(self._hashes, _HASH)
        order = np.argsort(_bucket(found), kind="stable")
        entries = np.empty(len(found), _ENTRY)
        entries["high"], entries["low"] = found["high"][order], found["low"][order]
        entries["row"] = order + ((self.file_number << _FILE_SHIFT) + self._rows)
        ends = np.bincount(_bucket(found), minlength=_BUCKETS).cumsum().astype(_ENDS)
        path = storage.join(self.folder, f"{self.file_number:06d}-{len(self.pieces):04d}")
        storage.publish(path, ends.tobytes() + entries.tobytes())
        self.pieces.append(path)
        self._rows += len(found)
        self._hashes = bytearray()


def _bucket(entries: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    bucket: npt.NDArray[np.uint8] = (entries["high"] >> np.uint64(56)).astype(np.uint8)
    return bucket


@dataclass(frozen=True, slots=True)
class CompareJob:
    """A range of buckets to compare, of all pieces of one input."""

    lang: str
    pieces: tuple[str, ...]
    first: int  # bucket
    stop: int


@dataclass(frozen=True, slots=True)
class Equal:
    """Keys of rows with the id of an earlier row, and keys of the first row with it; `places` decodes keys."""

    lang: str
    rows: Integers = field(repr=False)
    firsts: Integers = field(repr=False)


def compare_jobs(lang: str, pieces: tuple[str, ...], n_rows: int) -> Iterator[CompareJob]:
    """Yield jobs that together compare all ids of one input of `n_rows` rows."""
    n_ranges = max(1, min(_BUCKETS, -(-n_rows // RANGE_ROWS))) if pieces else 0
    edges = [number * _BUCKETS // n_ranges for number in range(n_ranges + 1)] if pieces else []
    for first, stop in pairwise(edges):
        yield CompareJob(lang, pieces, first, stop)


def compare_ids(job: CompareJob) -> Equal:
    """Return the rows whose ids an earlier row has."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        entries = np.concatenate(list(pool.map(lambda path: _entries(path, job.first, job.stop), job.pieces)))
    entries = entries[np.lexsort((entries["row"], entries["low"], entries["high"]))]
    same = np.zeros(len(entries), bool)
    same[1:] = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(entries))))
    return Equal(job.lang, entries["row"][same], entries["row"][first[same]])


def _entries(path: str, first: int, stop: int) -> npt.NDArray[np.void]:
    """Read the entries of the buckets `first` to `stop` (exclusive) of one piece."""
    header = _BUCKETS * _ENDS.itemsize
    ends = [0, *np.frombuffer(storage.read_range(path, 0, header), _ENDS).tolist()]
    begin, end = ends[first], ends[stop]
    data = storage.read_range(path, header + begin * _ENTRY.itemsize, (end - begin) * _ENTRY.itemsize)
    return np.frombuffer(data, _ENTRY)


def places(keys: Integers) -> tuple[Integers, Integers]:
    """Decode keys into the numbers of scans, and rows of what they scanned."""
    return keys >> _FILE_SHIFT, keys & ((1 << _FILE_SHIFT) - 1)
