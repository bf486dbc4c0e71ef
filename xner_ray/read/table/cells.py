"""The cells of a table in a text file: what parts them, whether they are quoted, and the values that they hold."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import Counter
from typing import Any

from xner_ray.errors import InputError
from xner_ray.read.sniff.tags import TAG_NAMES, WORD_NAMES

Rows = list[tuple[int, list[str]]]  # with their first lines
MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_BYTES = 1 << 28  # of a file
_STRING = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*,?""", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NUMBERS = re.compile(r"\[\s*[0-9]{1,18}(?:\s+[0-9]{1,18})*\s*\]")
_MARKS_OF_TAGS = re.compile(r"\s*[,;|\s]\s*")
_ARRAY = re.compile(r"array\((\[.*\])(?:, dtype=[^()]*)?\)", re.DOTALL)


def parsed(text: str, where: str) -> tuple[str, Rows]:
    """Return what parts the cells of a table, and its rows. where: the file, for an InputError."""
    head = text[: 1 << 16]

    def fit(mark: str) -> tuple[bool, float, bool, int]:
        rows = _rows(head, where, mark, True)
        return _fit(rows[:-1] or rows)

    mark = max(MARKS, key=fit)
    rows = _rows(text, where, mark, True)
    if '"' in text:
        bare = _rows(text, where, mark, False)
        # Lines in one cell, though each of them is a row; or quotes at the beginning of cells that are not quoted
        alike = _widths(bare).keys() == {_widths(rows).most_common(1)[0][0]} if _widths(rows) else False
        plain = alike and (len(bare) > len(rows) or not all(map(_is_quoted, bare)))
        if plain or _fit(bare)[:2] > _fit(rows)[:2]:
            rows = bare  # its quotes are words
    return mark, rows


def _is_quoted(row: tuple[int, list[str]]) -> bool:
    """Return whether the cells of a row that begin with a quote are quoted. row: read as if none was."""
    return all(_QUOTED.fullmatch(cell.strip()) for cell in row[1] if cell.startswith('"'))


def _widths(rows: Rows) -> Counter[int]:
    return Counter(len(row) for _, row in rows if any(row))


def _rows(text: str, where: str, mark: str, quoted: bool) -> Rows:
    csv.field_size_limit(MOST_BYTES)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=mark, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    rows: Rows = []
    line = 1
    try:
        for row in reader:
            rows.append((line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where}: line {line} is no row of a table ({error})") from None
    return rows


def _fit(rows: Rows) -> tuple[bool, float, bool, int]:
    """Return how well rows make a table: more than one column, the share of rows of one width, names of columns."""
    widths = _widths(rows)
    if not widths:
        return False, 0.0, False, 0
    width, count = widths.most_common(1)[0]
    names = {cell.strip().lower() for cell in rows[0][1]}
    return width > 1, round(count / widths.total(), 2), bool(names & (WORD_NAMES | TAG_NAMES)), width


def parts_of(cell: str) -> list[str]:
    """Return the tags in a cell, between blanks, commas or the like.

    >>> parts_of("B-PER O"), parts_of("B-PER,O")
    (['B-PER', 'O'], ['B-PER', 'O'])
    """
    return [part for part in _MARKS_OF_TAGS.split(cell.strip()) if part]


def value(cell: str) -> Any:
    """Return the value of a cell that holds JSON or a Python literal, NumPy's arrays of text included; else its text.

    >>> value("['B-PER' 'O']"), value('[[0, 4, "PER"]]'), value("[sic]")
    (['B-PER', 'O'], [[0, 4, 'PER']], '[sic]')
    >>> value("[0 1\\n 2]")
    [0, 1, 2]
    """
    text = cell.strip()
    if _NUMBERS.fullmatch(text):
        return [int(number) for number in text[1:-1].split()]
    if found := _ARRAY.fullmatch(text):
        text = found[1]
    if text[:1] not in ("[", "{") or text[-1:] not in ("]", "}"):
        return cell
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    at, strings = 1, []
    while found := _STRING.match(text, at):  # Python joins strings that no comma parts, NumPy parts them so
        strings.append(found[1])
        at = found.end()
    try:
        if strings and text[at:].strip() == "]":
            return [ast.literal_eval(string) for string in strings]
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return cell
