"""The lines of one sentence as columns, and the line that names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xner_ray.read.record import File

WORDS = ("token", "tokens", "word", "words", "form")
_TAGS = {"tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "ner-tag", "ner-tags", "nertag", "ne", "iob"}
_TAGS |= {"bio", "entity", "entities", "ne-coarse-lit"}
Grid = list[list[str]]


@dataclass(slots=True)
class Sentence:
    """The lines of one sentence, and what comments before it say."""

    body: str  # its lines, with LF between
    id: str | None = None
    text: str | None = None
    announced: bool = False  # by an id or a text: it is there, even without words
    fault: str = ""
    header: list[str] | None = None  # the cells of the line before it that names the columns
    cut: bool = False  # at punctuation, no blank line follows
    numbers: Sequence[int] | None = None  # of its lines in the file, where comments stand between them
    _grid: Grid | None = None

    @property
    def lines(self) -> list[str]:
        return self.body.split("\n") if self.body else []

    def columns(self) -> Grid:
        """Return its columns; none if its lines differ in their number of cells."""
        if self._grid is None:
            self._grid = columns(self.body)
        return self._grid


def columns(body: str) -> Grid:
    """Return the columns of lines, cut at tabs, or else at blanks; none if lines differ in their number of cells.

    >>> columns("Nora NNP B-PER\\nslept VBD O")
    [['Nora', 'slept'], ['NNP', 'VBD'], ['B-PER', 'O']]
    """
    if not body:
        return []
    mark, other = ("\t", " ") if "\t" in body else (" ", "\t")
    if other not in body:  # cut in one go; between two lines there is then a cell of its own
        flat = body.replace("\n", f"{mark}\n{mark}").split(mark)
        width = flat.index("\n") if "\n" in flat else len(flat)
        ends = flat[width :: width + 1]
        even = (len(flat) + 1) % (width + 1) == 0 and ends.count("\n") == len(ends) == body.count("\n")
        if even and (flat[width - 1] if mark == "\t" else "" not in flat):
            return [flat[place :: width + 1] for place in range(width)]
    rows = rows_of(body.split("\n"))
    width = len(rows[0])
    return [list(column) for column in zip(*rows, strict=True)] if all(len(row) == width for row in rows) else []


def rows_of(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of each line; blanks part cells only where there is no tab.

    Empty cells at the end of a line are none, but where lines with as many tabs have something there.
    """
    rows = [line.split("\t") for line in lines]
    width = len(rows[0])
    if width < 2 or not rows[0][-1] or any(len(row) != width for row in rows) or any(" " in line for line in lines):
        found = [cells(line) for line in lines]
        tabs = lines[0].count("\t")
        if tabs > 1 and len({len(row) for row in found}) > 1 and all(line.count("\t") == tabs for line in lines):
            return [[cell.strip(" ") for cell in line.split("\t")] for line in lines]
        return found
    return rows


def cells(line: str) -> list[str]:
    """Cut a line into columns at tabs, or else at blanks; blanks at the ends of a column are cut off."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.rstrip(" \t").split("\t")]
    return [cell for cell in line.split(" ") if cell]


def usual_width(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of cells that most rows have; of those as frequent, that of the first row."""
    return Counter(len(row) for row in rows).most_common(1)[0][0]


def header_of(line: str, file: File) -> list[str] | None:
    """Return the cells of a first line that names the columns: as the recipe calls them, or by a usual name."""
    found = cells(line)
    names = {cell.lower() for cell in found}
    stated = (file.columns.stated("tokens"), file.columns.stated("tags"))
    if any(name in found for name in stated if name is not None and not name.isdecimal()):
        return found
    titles = (
        len(names) == len(found) > 1 and all(name.isidentifier() for name in names) and names.isdisjoint(("o", "_"))
    )
    return found if not names.isdisjoint(WORDS) and (titles or names & _TAGS) else None
