"""All files of an input, scanned by many jobs: what they hold, and how each of them is read.

A large file is scanned in pieces. Where the whole of a file shows that it is to be read otherwise than its first rows
suggest, it is scanned a second time. What comes back is small: marks, counts, evidence, and the addresses of hashed
ids. Further jobs compare these, and return the rows that repeat an id within their split. A file whose rows have no ids
of their own takes no part in that, since each `<file>:<line>` occurs once. (A user's id that is spelt like one of these
is not found.)
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xner_ray.errors import InputError, Reason
from xner_ray.read.idle import refuse_idle
from xner_ray.read.index.duplicates import CompareJob, Integers, compare_ids, compare_jobs, places
from xner_ray.read.index.scan import ScanJob, cut_points, record_at, scan_file
from xner_ray.read.index.units import Scan
from xner_ray.read.inputs import Text
from xner_ray.read.record import TABLES, File
from xner_ray.storage import files as storage

MapFiles = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]
_SURE_ROWS = 10  # as many rows, all malformed: the file is of another format


@dataclass
class Survey:
    """Texts to scan, and how."""

    texts: Sequence[Text]
    labelled: Sequence[Text]  # those whose rows must have labels
    with_ids: Sequence[Text]  # those whose ids are compared
    limit: int | None
    max_words: int
    map_files: MapFiles
    folder: str  # holds 24 bytes a row meanwhile; every job must reach it
    numbers: int = field(default=0, init=False)

    def scan(self) -> None:
        """Fill in the scans of all texts, and how their files are read. InputError for files that cannot be used."""
        files = [(text, place) for text in self.texts for place in range(len(text.files))]
        scans = self._scanned(files, settled=False)
        again = []
        obeyed = []
        for (text, place), scan in zip(files, scans, strict=True):
            file = text.files[place]
            settled = scan.evidence.settle(file)
            text.said += [f"{file.name}: {line}" for line in (*file.said, *settled.said)]
            text.unlabelled = text.unlabelled or settled.unlabelled
            text.files[place] = replace(file, reading=settled.reading)
            if text in self.with_ids:
                obeyed.append((file, settled.obeyed))
            if settled.reading != scan.reading:
                again.append((text, place))
        refuse_idle(obeyed)
        found = dict(zip(files, scans, strict=True))
        found |= dict(zip(again, self._scanned(again, settled=True), strict=True))
        for (text, place), scan in found.items():
            text.scans.append(scan)
            _refuse_useless(text.files[place], scan)

    def _scanned(self, files: Sequence[tuple[Text, int]], *, settled: bool) -> list[Scan]:
        """Return the scan of each file, which is a text and a number in it."""
        jobs: list[ScanJob] = []
        pieces: list[range] = []
        for text, place in files:
            file = text.files[place]
            points = [0] if self.limit else cut_points(file, file.size)
            ids = self.folder if text in self.with_ids and file.format not in ("text", "links") else None
            first = len(jobs)
            for start, stop in zip(points, [*points[1:], None], strict=True):
                number = self.numbers + len(jobs)
                need = text in self.labelled
                jobs.append(ScanJob(number, file, need, self.limit, self.max_words, ids, start, stop, settled))
            pieces.append(range(first, len(jobs)))
        done: dict[int, Scan] = {scan.number: scan for scan in self.map_files(scan_file, jobs)} if jobs else {}
        found = []
        for own in pieces:
            scan, *later = (done[self.numbers + number] for number in own)
            for piece in later:
                scan.merge(piece, jobs[own[0]].file)
            found.append(scan)
        self.numbers += len(jobs)
        return found

    def duplicates(self) -> dict[str, Integers]:
        """Return (row, first row with its id) of the rows that repeat an id, by language; (n, 2), sorted."""
        starts = np.zeros(self.numbers, np.int64)
        for text in self.with_ids:
            for start, scan in zip(text.starts(), text.scans, strict=False):
                for number, row in ((scan.number, 0), *scan.firsts):
                    starts[number] = start + row
        jobs: list[CompareJob] = []
        for text in self.with_ids:
            with_ids = [scan for scan in text.scans if scan.pieces]
            pieces = tuple(piece for scan in with_ids for piece in scan.pieces)
            jobs += compare_jobs(text.lang, pieces, sum(scan.rows for scan in with_ids))
        found: dict[str, list[Integers]] = {text.lang: [np.empty((0, 2), np.int64)] for text in self.with_ids}
        for equal in self.map_files(compare_ids, jobs) if jobs else ():
            scans, rows = places(np.stack([equal.rows, equal.firsts], axis=1))
            found[equal.lang].append(starts[scans] + rows)
        pairs = {lang: np.concatenate(parts) for lang, parts in found.items()}
        return {lang: both[np.argsort(both[:, 0])] for lang, both in pairs.items()}


def settled(files: Sequence[File], *, limit: int | None, max_words: int) -> list[File]:
    """Return files with how each is read, found out by a scan of the first `limit` rows. InputError as of `Survey`."""
    text = Text("", "", list(files))
    Survey([text], [], [], limit, max_words, map, "").scan()
    return text.files


def _refuse_useless(file: File, scan: Scan) -> None:
    if not scan.rows and file.format not in (*TABLES, "links"):
        raise InputError(f"{file.path}: holds no sentence")
    bad = [scan.rejects[reason] for reason in (Reason.MALFORMED, Reason.ILLEGAL_TAG) if reason in scan.rejects]
    if scan.rows >= _SURE_ROWS and sum(count for count, _ in bad) == scan.rows and not scan.labelled:
        record = record_at(file, scan, min(first for _, first in bad))
        if record.reason is None:
            return  # they are valid, but have no labels
        problem = f"{file.name}:{record.line}: {record.detail}"
        raise InputError(f"{file.path}: none of {scan.rows} rows is valid {file.format}; the first: {problem}")


@contextmanager
def ids_folder(given: str | None) -> Iterator[str]:
    """Make a new folder and delete it afterwards.

    Others may be in `given`: that of a dead driver, whose last jobs still write, or of a second driver.
    """
    if given is None:
        with tempfile.TemporaryDirectory(prefix="xner_ray-index-") as folder:
            yield folder
        return
    own = storage.join(given, uuid.uuid4().hex)
    try:
        yield own
    finally:
        storage.delete(own)
        if not storage.files_below(given):
            storage.delete(given)
