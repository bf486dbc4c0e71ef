"""What the sentences of a file with a word a line show of its columns; small, and the same for any cut of the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from xner_ray.data.tag_styles import OUTSIDES
from xner_ray.read.word_lines.cells import Grid, Sentence, cells, columns

MOST_VALUES = 4096  # that are told apart in a column
_MOST_WIDTHS = 64
_MOST_PAIRS = 16  # columns that are compared with one another
_NUMBERS = [str(number) for number in range(1002)]
_PREFIX = re.compile(r"[a-z]{2,12}(?:-[a-z]{1,10}){0,3}:")
NO_WORD = re.compile(r"\d+[-.]\d+$")
_OUTSIDE = frozenset(OUTSIDES)
_NEARLY = 20  # one sentence of as many may be another


@dataclass(slots=True)
class Column:
    """What one column of the sentences of one width shows."""

    values: Counter[str] = field(default_factory=Counter)
    many: bool = False  # more than MOST_VALUES: they are not kept
    numbered: int = 0  # sentences whose words it counts
    constant: int = 0  # sentences of two words and more in which it does not change
    prefixes: Counter[str] = field(default_factory=Counter)  # xx: before every word, by sentences
    opened: bool = False  # a B- stands behind what is no entity
    seen: bool = False  # an I- stands there, and no B-

    def add(self, column: Sequence[str]) -> None:
        first = column[0]
        if first in ("1", "0") and _counts(column):
            self.numbered += 1
        size = len(column)
        constant = first == column[-1] and column.count(first) == size
        if constant and size > 1:
            self.constant += 1
        if ":" in first and (found := _PREFIX.match(first)) and all(cell.startswith(found[0]) for cell in column):
            self.prefixes[found[0]] += 1
        if self.many:
            return
        if constant:
            self.values[first] += size
        else:
            self.values.update(column)
            if not self.opened and not _OUTSIDE.isdisjoint(column):
                self._open(column)
        if len(self.values) > MOST_VALUES:
            self._forget()

    def _open(self, column: Sequence[str]) -> None:
        """Note which tags open an entity behind a word without one."""
        free = True
        for cell in column:
            if cell in _OUTSIDE:
                free = True
            elif free:
                free = False
                self.opened = self.opened or _letter(cell) == "B"
                self.seen = not self.opened and (self.seen or _letter(cell) == "I")

    def _forget(self) -> None:
        self.many, self.values, self.opened, self.seen = True, Counter(), False, False

    def merge(self, later: Column) -> None:
        self.numbered += later.numbered
        self.constant += later.constant
        self.prefixes += later.prefixes
        self.many = self.many or later.many
        self.opened = self.opened or later.opened
        self.seen = not self.opened and (self.seen or later.seen)
        self.values += later.values
        if self.many or len(self.values) > MOST_VALUES:
            self._forget()


def _letter(tag: str) -> str:
    """Return the letter of a tag's prefix, on either side; an empty text if it has none."""
    if len(tag) > 2:
        if not tag[1].isalnum():
            return tag[0].upper()
        if not tag[-2].isalnum():
            return tag[-1].upper()
    return ""


def _counts(column: Sequence[str]) -> bool:
    """Return whether cells count the words: 1, 2, 3 or 0, 1, 2; ranges (3-4) and empty nodes (5.1) left out."""
    start = int(column[0])
    if len(column) < len(_NUMBERS) and column == _NUMBERS[start : start + len(column)]:
        return True
    words = [cell for cell in column if not NO_WORD.match(cell)]
    return words == [str(number) for number in range(start, start + len(words))]


@dataclass(slots=True)
class Shape:
    """The sentences of one width. longer: those of two words and more. equal: columns that are the same so far."""

    columns: list[Column]
    equal: set[tuple[int, int]]
    sentences: int = 0
    lines: int = 0
    longer: int = 0

    def add(self, grid: Grid) -> None:
        size = len(grid[0])
        self.sentences += 1
        self.lines += size
        self.longer += size > 1
        for column, found in zip(self.columns, grid, strict=True):
            column.add(found)
        if self.equal:
            self.equal = {(one, other) for one, other in self.equal if grid[one] == grid[other]}

    def merge(self, later: Shape) -> None:
        self.sentences += later.sentences
        self.lines += later.lines
        self.longer += later.longer
        self.equal &= later.equal
        for column, other in zip(self.columns, later.columns, strict=True):
            column.merge(other)

    def numbered(self, place: int) -> bool:
        return self.columns[place].numbered * _NEARLY >= self.sentences * (_NEARLY - 1)

    def constant(self, place: int) -> bool:
        return self.longer > 1 and self.columns[place].constant * _NEARLY >= self.longer * (_NEARLY - 1)


class Sentences:
    """What the sentences of a file show, by their number of columns."""

    def __init__(self) -> None:
        self.shapes: dict[int, Shape] = {}
        self.header: list[str] | None = None
        self.uneven = self.cut = self.more = 0  # sentences: of uneven lines, cut at punctuation, of further widths

    def add(self, sentence: Sentence) -> None:
        if sentence.header is not None and self.header is None:
            self.header = sentence.header
        if sentence.fault or not sentence.body:
            return
        self.cut += sentence.cut
        grid = sentence.columns()
        if sentence.header is not None and cells(sentence.lines[0]) == sentence.header:  # not known as one yet
            grid = columns("\n".join(line for line in sentence.lines[1:] if not line.startswith("# ")))
        if not grid:
            self.uneven += 1
            return
        width = len(grid)
        shape = self.shapes.get(width)
        if shape is None:
            if len(self.shapes) == _MOST_WIDTHS:
                self.more += 1
                return
            pairs = {(one, other) for other in range(min(width, _MOST_PAIRS)) for one in range(other)}
            shape = self.shapes[width] = Shape([Column() for _ in range(width)], pairs)
        shape.add(grid)

    def merge(self, later: Sentences) -> None:
        self.header = self.header or later.header
        self.uneven += later.uneven
        self.cut += later.cut
        self.more += later.more
        for width, shape in later.shapes.items():
            if width in self.shapes:
                self.shapes[width].merge(shape)
            elif len(self.shapes) == _MOST_WIDTHS:
                self.more += shape.sentences
            else:
                self.shapes[width] = shape
