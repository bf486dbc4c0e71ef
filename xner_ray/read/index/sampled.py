"""A look at a part of a file: its head, and some pieces spread over it, read as a scan of all of it would read them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow.parquet as pq

from xner_ray.data.kinds import SPLITS
from xner_ray.errors import InputError
from xner_ray.read.formats import json as json_file
from xner_ray.read.formats.lines import chunks
from xner_ray.read.index.scan import ScanJob, scan_file
from xner_ray.read.index.units import Scan
from xner_ray.read.record import START, TABLES, File, Kind, Place, Record
from xner_ray.read.records import FORMATS, read_records
from xner_ray.read.sniff.content import HEAD_BYTES, looks
from xner_ray.read.sniff.names import SUFFIXES, suffix
from xner_ray.read.stamps import changed
from xner_ray.read.table.cells import MOST_BYTES
from xner_ray.storage import files as storage

_ROWS = 2000  # of the head; a piece has a quarter
_BYTES = 1 << 20
_PIECES = 6
_WHOLE_BYTES = 1 << 23  # of formats that are read whole: of larger files, the head is cut off
_HEAD_BYTES = 1 << 17  # of these
_LINES = 12
_DOCUMENT = re.compile(r'\s*(?:\{\s*"[^"]*"\s*:\s*)?\[\s*(?=[{\[]\s*["\[{])')


@dataclass
class Sample:
    """What a part of a file shows. file: with its reading. rows: of all of it, as estimated; None: unknown."""

    file: File
    said: list[str]
    unlabelled: str  # what it holds for labels, see `Settled`
    obeyed: frozenset[str] | None  # keys of a recipe that can decide how it is read, see `Settled`
    scans: list[Scan]
    places: list[Place]  # where each scan began; lines count from there
    rows: float | None
    exact: bool
    file_bytes: int

    @property
    def seen(self) -> int:
        return sum(scan.rows for scan in self.scans)

    @property
    def labels(self) -> Counter[str]:
        return sum((scan.labels for scan in self.scans), Counter[str]())

    @property
    def splits(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for scan in self.scans:
            begin = 0
            for code, end in zip(scan.splits, scan.split_ends, strict=True):
                found[SPLITS[code]] += end - begin
                begin = end
        return found

    def record(self, number: int, row: int) -> Record:
        """Return the record of one row of a scan, with its line in the file."""
        scan, marks = self.scans[number], self.scans[number].marks
        mark = marks.last_before(row)
        place = marks.place(mark)
        before = self.places[number].line or _lines_before(self.file, self.places[number])
        found = read_records(self.file, place._replace(line=place.line + before), skip=row - scan.marks.rows[mark])
        for _, record in found:
            return record
        raise changed(self.file)

    def note(self, number: int) -> str:
        """Return where the lines of a scan count from, if not from the beginning of the file."""
        far = self.places[number].offset and self.file.format not in TABLES and not storage.is_local(self.file.path)
        return f" (lines count from byte {self.places[number].offset:,})" if far else ""


def sampled(file: File, max_words: int, share: int, folder: str) -> Sample:
    """Look at a part of a file, one of `share` files. folder: for the head of a file that would be read whole.

    InputError for a file that cannot be read in one way.
    """
    whole = file
    if (head := _head(file)) is not None:
        path = os.path.join(folder, f"{len(os.listdir(folder))}-{os.path.basename(storage.bare(file.path))}")
        with open(path, "wb") as sink:
            sink.write(head)
        file = replace(file, path=path, stamp=f"{len(head)}-{os.stat(path).st_mtime_ns}")
    try:
        found = _sampled(file, max_words, share, whole)
    except InputError as error:
        raise InputError(str(error).replace(file.path, whole.path)) from None
    return found


def _sampled(file: File, max_words: int, share: int, whole: File) -> Sample:
    limit = max(50, _ROWS // share) if file is whole else _BYTES
    seekable = FORMATS[file.format].pieces is not None and file.format not in TABLES and not file.ends_with(".gz")

    def scan(number: int, place: Place, rows: int, using: File, *, settled: bool) -> Scan:
        stop = place.offset + max(1 << 16, _BYTES * rows // _ROWS) if seekable and file.size > 2 * _BYTES else None
        if file.format in ("json", "jsonl") and stop is not None and not cuts:
            stop = None  # of a document the places are numbers of objects
        return scan_file(ScanJob(number, using, False, rows, max_words, None, place.offset, stop, settled))

    cuts = _cuts(file, share)
    places = [START]
    scans = [scan(0, START, limit, file, settled=False)]
    first = scans[0]
    exact = first.rows < limit and first.end == START and file is whole
    used = replace(file, reading=first.reading)
    if not exact and file is whole:
        places += [place for place in cuts if place.offset > (first.end.offset or 0)]
        each = max(20, limit // 4)
        scans += [scan(n, place, each, used, settled=True) for n, place in enumerate(places[1:], start=1)]
        kept = [(one, place) for one, place in zip(scans, places, strict=True) if one.rows]
        scans, places = [one for one, _ in kept] or [first], [place for _, place in kept] or [START]
    evidence = FORMATS[file.format].evidence(file)
    for one in scans:
        evidence.merge(one.evidence)
    settled = evidence.settle(file)
    if settled.reading != used.reading:
        used = replace(file, reading=settled.reading)
        sizes = [limit, *[max(20, limit // 4)] * (len(places) - 1)]
        scans = [
            scan(n, place, size, used, settled=True) for n, (place, size) in enumerate(zip(places, sizes, strict=True))
        ]
    rows = float(sum(one.rows for one in scans)) if exact else _estimate(file, whole, scans, places)
    said = list(settled.said)
    if whole.size > (most := MOST_BYTES if file.format == "table" else json_file.MOST_BYTES) and file is not whole:
        said.append(f"too large for its format, which is read whole up to {most >> 20} MiB: write JSONL or Parquet")
    return Sample(used, said, settled.unlabelled, settled.obeyed, scans, places, rows, exact, whole.size)


def _cuts(file: File, share: int) -> list[Place]:
    """Return places spread over a large file at which reading can start."""
    n_pieces = _PIECES if share == 1 else 1
    if file.format in TABLES and file.ends_with(".parquet"):
        sizes = _group_rows(file)
        wanted = sorted({len(sizes) * k // (n_pieces + 1) for k in range(1, n_pieces + 1)} - {0})
        return [Place(group, sum(sizes[:group])) for group in wanted]
    pieces = FORMATS[file.format].pieces
    if pieces is None or file.format in TABLES or file.ends_with(".gz") or file.size <= 2 * _BYTES:
        return []
    wanted = [file.size * k // (n_pieces + 1) for k in range(1, n_pieces + 1)]
    return [Place(offset) for offset in pieces(file, wanted)]


def _group_rows(file: File) -> list[int]:
    """Return the rows of each row group; none if that cannot be read, which the scan will say."""
    filesystem, inner = storage.locate(file.path)
    try:
        with filesystem.open_input_file(inner) as stream:
            meta = pq.ParquetFile(stream).metadata
            return [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
    except (OSError, ValueError):
        return []


def _estimate(file: File, whole: File, scans: Sequence[Scan], places: Sequence[Place]) -> float | None:
    """Return how many rows a file has, by the bytes that the rows looked at take."""
    if file is not whole:
        return scans[0].rows * whole.size / file.size
    if file.format in TABLES:
        return float(sum(_group_rows(file))) if file.ends_with(".parquet") else None
    if FORMATS[file.format].pieces is None or file.ends_with(".gz"):
        return None
    rows = size = 0
    for scan, place in zip(scans, places, strict=True):
        if scan.end.offset:
            rows, size = rows + scan.rows, size + scan.end.offset - place.offset
        elif len(scan.marks.rows) > 1:
            rows, size = rows + scan.marks.rows[-1], size + scan.marks.offsets[-1] - place.offset
    return rows * file.size / size if size else None


def _lines_before(file: File, place: Place) -> int:
    """Return how many lines of a local file stand before a place; 0 of others, which are not read for that."""
    if not place.offset or file.format in TABLES or not storage.is_local(file.path):
        return 0
    lines = 0
    for offset, chunk in chunks(file, 0):
        part = chunk[: max(0, place.offset - offset)]
        lines += int(np.count_nonzero(np.frombuffer(part, np.uint8) == 10))
        if len(part) < len(chunk):
            break
    return lines


def _head(file: File) -> bytes | None:
    """Return the head of a large file that would be read whole, or as one sentence; None of any other."""
    if file.size <= _WHOLE_BYTES or file.ends_with(".gz") or file.format in TABLES:
        return None
    if file.format not in ("json", "jsonl", "table", "conll", "uner", "conllu", "conll2012"):
        return None
    data = b"".join(islice((chunk for _, chunk in chunks(file, 0)), 1))
    if file.format in ("json", "jsonl"):
        return _first_objects(data[:_HEAD_BYTES]) or _first_objects(data)
    if file.format == "table":
        data = data[:_HEAD_BYTES]
        ends = (at for at in range(len(data) - 1, 0, -1) if data[at] == 10 and data.count(b'"', 0, at) % 2 == 0)
        return data[: next(ends, len(data) - 1) + 1]
    return None if re.search(rb"\n[ \t\r]*\n", data) else data[: data.rfind(b"\n") + 1] or data


def _first_objects(data: bytes) -> bytes | None:
    """Return an array of those objects of a JSON document that its first bytes hold whole; None of lines."""
    text = data.decode(errors="ignore").removeprefix("\ufeff")
    if (begin := _DOCUMENT.match(text)) is None:
        return None
    decoder, at, end = json.JSONDecoder(), begin.end(), 0
    while at < len(text) and text[at] != "]":
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        at = end
        while at < len(text) and text[at] in ", \t\r\n":
            at += 1
    return f"[{text[begin.end() : end]}]".encode() if end else None


def maybe(path: str) -> list[Kind]:
    """Return the formats that a single file may have, by its ending and by its content."""
    head = b"".join(islice(_bytes(path), 1))[:HEAD_BYTES]
    if b"\0" in head or not head:
        return []
    named = [kind for kind, suffixes in SUFFIXES.items() if suffix(path) in suffixes]
    found = looks(head, whole=len(head) < HEAD_BYTES)
    return list(dict.fromkeys([*([found.kind] if found else []), *named, "text"]))


def first_lines(file: File) -> list[str]:
    """Return the first lines of a file of text, each as far as it is shown; none of another."""
    data = b"".join(islice(_bytes(file.path), 1))[:HEAD_BYTES]
    if b"\0" in data:
        return []
    lines = data.decode(errors="replace").removeprefix("\ufeff").splitlines()
    return [line if len(line) <= 200 else line[:199] + "…" for line in lines[:_LINES]]


def _bytes(path: str) -> Iterator[bytes]:
    if not storage.info_of(path).is_file:
        return
    filesystem, inner = storage.locate(path)
    with filesystem.open_input_stream(inner) as stream:  # by its ending, decompressed
        yield bytes(stream.read(HEAD_BYTES))
