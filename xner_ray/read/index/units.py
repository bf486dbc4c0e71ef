"""Units: one language times one fixed range of input rows, and the places of these rows in the files.

A unit has `unit_rows` rows, the last one of a split fewer, but at least one. With a sample, or with splits mixed in
one file, the rows of a unit need not be consecutive: then the unit lists them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xner_ray.read.format import Evidence, NoEvidence
from xner_ray.read.record import START, File, Place, Reading

MOST_UNITS = 60_000

Floats = npt.NDArray[np.float64]
Rows = range | npt.NDArray[np.int64]  # ascending input rows


def _integers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Marks:
    """Places in a file, ascending, each with the number of records before it, and of their words.

    They are columns: there is a place every few hundred rows, and objects would take eight times the memory.
    """

    rows: array[int] = field(default_factory=_integers)
    words: array[int] = field(default_factory=_integers)
    offsets: array[int] = field(default_factory=_integers)  # of Place, as are the following
    lines: array[int] = field(default_factory=_integers)
    docs: array[int] = field(default_factory=_integers)
    doc_ids: dict[int, str] = field(default_factory=dict)  # by number of the mark

    def add(self, row: int, place: Place, words: int) -> None:
        if place.doc_id is not None:
            self.doc_ids[len(self.rows)] = place.doc_id
        self.rows.append(row)
        self.words.append(words)
        self.offsets.append(place.offset)
        self.lines.append(place.line)
        self.docs.append(place.docs)

    def last_before(self, row: int) -> int:
        """Return the number of the last mark at this record of the file, or before it."""
        return bisect_right(self.rows, row) - 1

    def place(self, number: int) -> Place:
        return Place(self.offsets[number], self.lines[number], self.doc_ids.get(number), self.docs[number])


@dataclass(slots=True)
class Scan:
    """What one pass over a file, or over a piece of it, finds out."""

    number: int
    rows: int = 0
    words: int = 0
    labelled: int = 0  # rows
    repaired: int = 0  # tags
    mended: int = 0  # rows whose tokens are no words as they are
    joined: int = 0  # rows that are several sentences of a document, which a span holds together
    marks: Marks = field(default_factory=Marks)
    labels: Counter[str] = field(default_factory=Counter)  # of proper records, as the file spells them
    extra: list[pa.Field] = field(default_factory=list)
    carried: set[str] = field(default_factory=set)  # of jsonl: the columns of input.carry that any row has
    splits: bytearray = field(default_factory=bytearray)  # an index of SPLITS for each run of rows with the same one,
    split_ends: array[int] = field(default_factory=_integers)  # and the row after that run
    pieces: tuple[str, ...] = ()  # files of hashes, where rows have ids of their own
    rejects: dict[str, tuple[int, int]] = field(default_factory=dict)  # by reason: how many rows, and the first of them
    reading: Reading = Reading()  # noqa: RUF009  frozen; with which it was read
    evidence: Evidence = field(default_factory=NoEvidence)
    # The first record, and the first one behind the piece, with lines and documents as counted from its beginning
    first: Place = START
    end: Place = START
    firsts: list[tuple[int, int]] = field(default_factory=list)  # number and first row of each piece

    def merge(self, later: Scan, file: File) -> None:
        """Take in the scan of the piece of the file behind this one."""
        if not later.rows:
            return
        # Behind this one stands the later one's first record
        lines, docs = self.end.line - later.first.line, self.end.docs - later.first.docs
        before = Place(0, lines, self.end.doc_id, docs)
        self.firsts.append((later.number, self.rows))
        for number, row in enumerate(later.marks.rows):
            if self.rows + row:  # the first row is read from the start of the file
                place = _behind(before, later.marks.place(number), file)
                self.marks.add(self.rows + row, place, self.words + later.marks.words[number])
        self.labels.update(later.labels)
        self.carried |= later.carried
        for split, end in zip(later.splits, later.split_ends, strict=True):
            if self.splits and self.splits[-1] == split:
                self.split_ends.pop()
            else:
                self.splits.append(split)
            self.split_ends.append(self.rows + end)
        for reason, (count, row) in later.rejects.items():
            known, first = self.rejects.get(reason, (0, self.rows + row))
            self.rejects[reason] = (known + count, first)
        self.end = _behind(before, later.end, file)
        self.rows += later.rows
        self.words += later.words
        self.labelled += later.labelled
        self.repaired += later.repaired
        self.mended += later.mended
        self.joined += later.joined
        self.pieces += later.pieces
        self.evidence.merge(later.evidence)


def _behind(before: Place, place: Place, file: File) -> Place:
    """Return a place of a piece, as lines and documents count from the beginning of the file; before: the piece."""
    docs, doc_id = before.docs + place.docs, place.doc_id
    if doc_id is None:
        doc_id = before.doc_id
    elif doc_id == file.numbered(place.docs):
        doc_id = file.numbered(docs)
    return Place(place.offset, before.line + place.line, doc_id, docs)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one file: `take` records, from the one `skip` after `place`, which is the input row `row`."""

    file: File
    place: Place
    row: int
    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows `start` to `stop` (half open) of the input, or those of them that `picked` lists."""

    name: str
    lang: str
    split: str
    start: int
    stop: int
    picked: tuple[int, ...] | None
    duplicates: tuple[tuple[int, int], ...]  # (row, the earlier row with its id)
    segments: tuple[Segment, ...]
    parallel: tuple[Segment, ...]
    n_words: int  # of the input; text without words counts by its blanks
    links: tuple[Segment, ...] = ()

    @property
    def n_rows(self) -> int:
        return len(self.picked) if self.picked is not None else self.stop - self.start


@dataclass(frozen=True, slots=True)
class Stretch:
    """A scanned file and the input rows that it holds."""

    file: File
    start: int
    stop: int
    marks: Marks
    n_words: int


def unit_name(lang: str, row: int) -> str:
    """Return the name of the unit of a language that begins at a row."""
    return f"{lang}-{row:012d}"


def grown_unit_rows(sizes: Sequence[int], unit_rows: int) -> int:
    """Multiply `unit_rows` so that there are at most MOST_UNITS units, by the smallest factor. sizes: rows per split.

    >>> grown_unit_rows([10], 3), grown_unit_rows([120_001], 1)
    (3, 3)
    """
    factor = max(1, -(-sum(sizes) // (unit_rows * MOST_UNITS)))
    while sum(-(-size // (unit_rows * factor)) for size in sizes) > MOST_UNITS and unit_rows * factor < max(sizes):
        factor += 1
    return unit_rows * factor


def chunks(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut rows into chunks of a size, the last one smaller."""
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def segments(rows: Rows, stretches: Sequence[Stretch]) -> tuple[Segment, ...]:
    """Return the segments of the files that hold `rows`, each from the last mark before its first row.

    Between rows that are far apart a new segment starts where a mark allows it, so that the gap is not read.
    """
    found: list[Segment] = []
    at = 0
    while at < len(rows):
        stretch = stretches[bisect_right(stretches, int(rows[at]), key=lambda stretch: stretch.stop)]
        last = bisect_left(rows, stretch.stop)
        while at < last:
            first = int(rows[at])
            mark = stretch.marks.last_before(first - stretch.start)
            if isinstance(rows, range):
                stop, at = int(rows[last - 1]) + 1, last
            else:
                stop, at = first + 1, at + 1
                while at < last:
                    following = stretch.marks.last_before(int(rows[at]) - stretch.start)
                    if stretch.marks.rows[following] + stretch.start > stop:
                        break
                    stop, at = int(rows[at]) + 1, at + 1
            skip = first - stretch.start - stretch.marks.rows[mark]
            found.append(Segment(stretch.file, stretch.marks.place(mark), first, skip, stop - first))
    return tuple(found)


def words_before(stretches: Sequence[Stretch]) -> tuple[Floats, Floats]:
    """Return points (row, words before it), between which words count as spread evenly."""
    rows, words, total = [np.empty(0)], [np.empty(0)], 0
    for stretch in stretches:
        rows += [stretch.start + np.asarray(stretch.marks.rows, np.float64), np.array([stretch.stop], np.float64)]
        words += [total + np.asarray(stretch.marks.words, np.float64)]
        total += stretch.n_words
        words.append(np.array([total], np.float64))
    return np.concatenate(rows), np.concatenate(words)
