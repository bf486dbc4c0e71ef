"""Which column of a table in a text file holds what, by names and cells together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xner_ray.errors import InputError
from xner_ray.read.record import File, short
from xner_ray.read.sniff.tags import SENTENCE_NAMES, TAG_NAMES, WORD_NAMES, are_tags
from xner_ray.read.table.cells import Rows, parsed, parts_of, value

_SHOWN_ROWS = 5000  # by which columns are told
_DOCUMENT = re.compile(r"(?:document|doc|file|article)[ _#-]*(?:#|id|idx|no|name|number)?", re.IGNORECASE)
_TEXTS = ("text", "sentence", "sentences", "utterance", "content", "data")
_WORDS = ("tokens", "words", "token", "word", "form")
_TAGS = ("ner_tags", "ner_tag", "ner", "tags", "tag", "labels", "label", "bio", "iob", "spans", "entities")


@dataclass(slots=True)
class Table:
    """The cells of a file, and which column holds what."""

    file: File
    mark: str
    header: list[str]  # empty if the file has none
    rows: Rows
    width: int
    columns: dict[str, int] = field(default_factory=dict)  # by our names; a sentence's number is `sentence`
    by_word: bool = False

    def cells(self, number: int) -> list[str]:
        shown = (row for _, row in self.rows[:_SHOWN_ROWS])
        return [row[number].strip() for row in shown if number < len(row) and row[number].strip()]

    @property
    def titles(self) -> list[str]:
        """Return a name for each column, no two alike: its own, or its number."""
        made: list[str] = []
        for number in range(self.width):
            name = self.header[number] if self.header else ""
            made.append(name if name and name not in made else str(number + 1))
        return made

    def shown(self) -> str:
        """Return the columns as messages name them."""
        first = self.header or (self.rows[0][1] if self.rows else [])
        return ", ".join(f"{number} ({short(cell)[1:-1]})" for number, cell in enumerate(first, start=1))

    def name(self, number: int) -> str:
        return repr(self.header[number]) if self.header else str(number + 1)

    def refuse(self, what: str, key: str, example: int = 0) -> InputError:
        value = self.header[example] if self.header else example + 1
        problem = f"{self.file.path}: {what}; its columns: {self.shown()}"
        return InputError(f"{problem}; set input.columns.{key} to a number or name, as in input.columns.{key}: {value}")


def told(file: File, text: str) -> Table:
    """Return the table that a text is, with its columns told. InputError where they cannot be."""
    mark, rows = parsed(text, file.path)
    widths = Counter(len(row) for _, row in rows if any(row)).most_common(1)
    table = Table(file, mark, [], rows, widths[0][0] if widths else 0)
    filled = [row for _, row in table.rows if any(cell.strip() for cell in row)]
    if not filled:
        raise InputError(f"{file.path}: holds no sentence")
    if _is_header(filled, [file.columns.stated(name) for name, _ in file.columns]):
        at = next(index for index, (_, row) in enumerate(table.rows) if row is filled[0])
        table.header = [cell.strip() for cell in filled[0]]
        while table.header and not table.header[-1]:
            table.header.pop()
        table.rows = table.rows[at + 1 :]
        table.width = len(table.header)
    for name, _ in file.columns:
        if (number := _given(table, name)) is not None:
            table.columns[name] = number
    names = file.stated.names or ()
    kinds = {number: _kind(table.cells(number), len(names)) for number in range(table.width)}
    if names and not {"tag", "tags"} & set(kinds.values()):
        _tell_numbers(table, kinds, len(names))
    _tell_labels(table, kinds)
    labelled = table.columns.get("tags")
    table.by_word = labelled is not None and kinds[labelled] == "tag"
    if table.by_word:
        _tell_words(table, kinds)
    else:
        _tell_texts(table, kinds)
    return table


def _is_header(filled: Sequence[Sequence[str]], stated: Sequence[str | None]) -> bool:
    first = [cell.strip() for cell in filled[0]]
    if any(are_tags([cell], bare=False) or _kind([cell]) in ("tags", "spans", "list") for cell in first if cell):
        return False
    names = {cell.lower() for cell in first}
    if set(stated) & set(first) or names & (WORD_NAMES | TAG_NAMES) or any(map(SENTENCE_NAMES.fullmatch, names)):
        return True
    below = [[row[number].strip() for row in filled[1:] if number < len(row)] for number in range(len(first))]
    kinds = [_kind([cell for cell in cells if cell]) for cells in below]
    if any(kind == "tag" and first[number] in below[number] for number, kind in enumerate(kinds)):
        return False  # a label without a prefix
    return any(kind in ("tag", "tags", "spans") for kind in kinds)


def _given(table: Table, name: str) -> int | None:
    """Return the column that the recipe states, or that has our own name for it; None if there is none."""
    stated = table.file.columns.stated(name)
    wanted = stated or str(getattr(table.file.columns, name))
    if wanted in table.header:
        return table.header.index(wanted)
    if stated is None:
        return None
    if stated.isdecimal() and 0 < int(stated) <= table.width:
        return int(stated) - 1
    raise InputError(f"{table.file.path}: has no column {stated!r} (input.columns.{name}); columns: {table.shown()}")


def _kind(cells: Sequence[str], named: int = 0) -> str:
    """Return what cells hold: tag, tags (several in a cell), spans, list, number, text; empty if they hold nothing.

    named: how many numbers are the names of tags.
    """
    if not cells:
        return ""
    parts = [parts_of(cell) for cell in cells[:200]]
    items = [item for found in parts for item in found]
    if 2 * sum(len(found) > 1 for found in parts) > len(parts):
        if are_tags(items, bare=True) or (named and all(item.isdecimal() and int(item[:9]) < named for item in items)):
            return "tags"
    elif are_tags(cells, bare=True):
        return "tag"
    if all(cell.isdecimal() for cell in cells):
        return "number"
    values = [value(cell) for cell in cells[:200]]
    lists = [value for value in values if isinstance(value, list) and value]
    if sum(isinstance(value, list | dict) for value in values) >= 0.9 * len(values):
        flat = [item for value in lists for item in value]
        if (flat and are_tags([str(item) for item in flat], bare=True)) or _are(flat, int):
            return "tags"
        return "list" if _are(flat, str) else "spans"
    several = any(len(found) > 1 for found in parts)
    return "tags" if several and are_tags(items, bare=True) else "text"


def _tell_numbers(table: Table, kinds: dict[int, str], named: int) -> None:
    """Take a column of numbers that the recipe names for one of tags: by its name, or the last that fits."""
    stated = table.columns.get("tags")
    fitting = [
        number
        for number, kind in kinds.items()
        if kind == "number" and max(int(cell[:9]) for cell in table.cells(number)) < named
    ]
    known = [number for number in fitting if table.header and table.header[number].lower() in _TAGS]
    for number in [stated] if stated in fitting else (known or fitting)[-1:]:
        kinds[number] = "tag"


def _are(items: Sequence[Any], kind: type) -> bool:
    return bool(items) and all(isinstance(item, kind) for item in items)


def _tell_labels(table: Table, kinds: dict[int, str]) -> None:
    """Tell the column of tags or of spans."""
    if {"tags", "spans"} & table.columns.keys():
        return
    found = [number for number, kind in kinds.items() if kind in ("tag", "tags", "spans")]
    found = [number for number in found if number not in table.columns.values()]
    found = [number for number in found if len(set(table.cells(number))) > 1] or found  # some hold O alone
    named = [number for name in _TAGS for number in found if table.header and table.header[number].lower() == name]
    if len(found) > 1 and len(named) != 1 and _differ(table, found):
        which = ", ".join(table.name(number) for number in found)
        raise table.refuse(f"columns {which} all hold tags, and they differ", "tags", found[0])
    if found:
        number = (named or found)[0]
        table.columns["spans" if kinds[number] == "spans" else "tags"] = number


def _differ(table: Table, numbers: Sequence[int]) -> bool:
    return any(len({row[number] for number in numbers if number < len(row)}) > 1 for _, row in table.rows)


def _tell_words(table: Table, kinds: dict[int, str]) -> None:
    """Tell the columns of words and of what numbers their sentences."""
    columns, taken = table.columns, set(table.columns.values())
    if "tokens" not in columns:
        free = [number for number in range(table.width) if number not in taken and kinds[number] == "text"]
        columns["tokens"] = _one_of(table, free, (*_WORDS, *_TEXTS), "tokens", "the words")
    stated = table.file.columns.stated("id")
    if stated is not None:
        columns["sentence"] = columns.pop("id")
        return
    columns.pop("id", None)  # of a row
    rows = [row for _, row in table.rows if any(row)]
    free = [number for number in range(table.width) if number not in columns.values()]
    runs = {number: _runs([row[number].strip() for row in rows if number < len(row)]) for number in free}
    named = [number for number in free if table.header and SENTENCE_NAMES.fullmatch(table.header[number])]
    gaps = any(not any(row) for _, row in table.rows[1:-1])
    found = named or ([] if gaps else [number for number in free if runs[number] > 1 and kinds[number] != "tag"])
    if found:
        columns["sentence"] = max(found, key=lambda number: runs[number])
    elif not gaps and len(rows) > 1:
        raise table.refuse("no column numbers the sentences of its words, and no blank rows part them", "id")
    documents = [n for n in free if table.header and _DOCUMENT.fullmatch(table.header[n]) and n not in columns.values()]
    if documents and "doc_id" not in columns:
        columns["doc_id"] = documents[0]


def _runs(cells: Sequence[str]) -> int:
    """Return how many sentences a column numbers, the number in each row of one or in its first; 0 if it does not."""
    changes = [cell for index, cell in enumerate(cells) if cell and (not index or cell != cells[index - 1])]
    sparse = all(not cell or cell != before for cell, before in zip(cells[1:], cells, strict=False)) and "" in cells
    if not cells or not cells[0] or len(changes) > 0.67 * len(cells) or (not sparse and "" in cells):
        return 0
    return len(changes) if len(set(changes)) == len(changes) else 0


def _one_of(table: Table, free: Sequence[int], names: Sequence[str], key: str, what: str) -> int:
    named = [number for name in names for number in range(table.width) if _is(table, number, name)]
    named = [number for number in named if number not in table.columns.values()]
    if named:
        return named[0]
    if len(free) == 1:
        return free[0]
    distinct = sorted(((len(set(table.cells(number))), -number) for number in free), reverse=True)
    if table.by_word and len(distinct) > 1 and distinct[0][0] >= 2 * distinct[1][0]:
        return -distinct[0][1]  # there are fewer parts of speech than words
    spaced = [number for number in free if sum(" " in cell for cell in table.cells(number)) > len(table.rows) // 2]
    if not table.by_word and len(spaced) == 1:
        return spaced[0]
    raise table.refuse(f"which column holds {what} cannot be told", key, free[0] if free else 0)


def _is(table: Table, number: int, name: str) -> bool:
    return bool(table.header) and table.header[number].lower() == name


def _tell_texts(table: Table, kinds: dict[int, str]) -> None:
    """Tell the columns of texts or words, a sentence a row."""
    columns = table.columns
    taken = set(columns.values())
    if "tags" in columns and not {"tokens", "text"} & columns.keys():
        free = [number for number, kind in kinds.items() if kind in ("list", "text") and number not in taken]
        columns["tokens"] = _one_of(table, free, (*_WORDS, *_TEXTS), "tokens", "the words")
    elif not {"tokens", "text"} & columns.keys():
        free = [number for number, kind in kinds.items() if kind == "text" and number not in taken]
        columns["text"] = _one_of(table, free, _TEXTS, "text", "the sentences")
    elif "tags" in columns and "tokens" not in columns:
        columns["tokens"] = columns.pop("text")
