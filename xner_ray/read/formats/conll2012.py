"""CoNLL-2012 (OntoNotes): `#begin document (id); part 000`, and entities as brackets: `(PERSON*`, `*)`, `(GPE)`.

Words are in column 4 and entities in column 11 of at least 12, between blanks or tabs; a recipe may name others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import block_pieces, blocks, decode
from xner_ray.read.record import BadRecord, File, Place, Raw, Reading, Record, document_name, short

_WORDS, _ENTITIES, _LEAST = 3, 10, 12
_BEGIN = re.compile(r"#begin document \(?(.*?)\)?(?:;\s*part\s+(\S+))?\s*$")
_CELL = re.compile(r"((?:\([^()*]+)*)\*?(\)*)")
_BLANKS = re.compile(r"[ \t]+")
_LEFT_OUT = "[WORD]"  # for words in files without the texts of OntoNotes


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the sentences of a file."""
    doc_id = start.doc_id
    for offset, line, block in blocks(file, start, stop):
        place: Place | None = Place(offset, line, doc_id)
        text, valid = decode(block)
        words: list[str] = []
        first = line + 1
        for number, one in enumerate([*text.split("\n"), "#end"], start=line + 1):
            if not one.startswith("#"):
                first = first if words else number
                words.append(one)
                continue
            if words:
                yield Raw(place, first, words, valid, doc_id)
                place, words = None, []
            if (found := _BEGIN.match(one)) is not None:
                doc_id = document_name(f"{found[1]}#{found[2]}" if found[2] else found[1])


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    made = Record(raw.line, doc_id=raw.doc_id)
    try:
        made.tokens, cells = _columns(raw.data, raw.line, file)
        made.spans = _spans(cells, raw.line)
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
    if made.tokens is None:
        made.text = "\n".join(raw.data)
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def _columns(lines: Sequence[str], first: int, file: File) -> tuple[list[str], list[str]]:
    """Return the words and their cells of entities."""
    words, entities = _places(file)
    rows = [_BLANKS.split(line.strip(" \t")) for line in lines]
    for number, row in enumerate(rows, start=first):
        if len(row) <= max(words, entities) or len(row) != len(rows[0]):
            least = max(words, entities) + 1
            problem = f"line {number} has {len(row)} columns, the first line of its sentence has {len(rows[0])}"
            raise BadRecord(Reason.MALFORMED, f"{problem}; at least {least}: {short(lines[number - first])}")
    return [row[words] for row in rows], [row[entities] for row in rows]


def _places(file: File) -> tuple[int, int]:
    """Return the columns of words and of entities; `settle` has checked what the recipe says."""
    tokens, tags = file.columns.stated("tokens"), file.columns.stated("tags")
    return int(tokens) - 1 if tokens else _WORDS, int(tags) - 1 if tags else _ENTITIES


def _spans(cells: Sequence[str], first: int) -> list[Span]:
    """Return the entities that brackets enclose; BadRecord if a bracket has no partner."""
    spans: list[Span] = []
    opened: list[tuple[int, str]] = []
    for place, cell in enumerate(cells):
        found = _CELL.fullmatch(cell)
        if found is None:
            if cell == "-":
                continue
            raise BadRecord(Reason.ILLEGAL_TAG, f"line {first + place}: {cell!r}; allowed: *, (X*, *) and (X)")
        opened += [(place, label) for label in found[1].split("(")[1:]]
        for _ in found[2]:
            if not opened:
                raise BadRecord(Reason.ILLEGAL_TAG, f"line {first + place}: {cell!r} closes a bracket that none opens")
            begin, label = opened.pop()
            spans.append(Span(begin, place + 1, label))
    if opened:
        raise BadRecord(Reason.ILLEGAL_TAG, f"line {first + opened[-1][0]}: ({opened[-1][1]} is not closed")
    return sorted(spans)


class _Evidence:
    """Whether there are words, and brackets."""

    def __init__(self) -> None:
        self.sentences = self.wordless = self.short = 0

    def add(self, raw: Raw) -> None:
        row = _BLANKS.split(raw.data[0].strip(" \t"))
        self.sentences += 1
        self.short += len(row) < _LEAST
        self.wordless += _LEFT_OUT in row

    def merge(self, later: _Evidence) -> None:
        self.sentences += later.sentences
        self.wordless += later.wordless
        self.short += later.short

    def settle(self, file: File) -> Settled:
        stated = {key: file.columns.stated(key) for key in ("tokens", "tags")}
        for key, value in stated.items():
            if value is not None and not (value.isdecimal() and int(value) > 0):
                raise InputError(f"{file.path}: input.columns.{key} is {value!r}; in conll2012 a number from 1")
        if file.stated.scheme is not None:
            raise InputError(f"{file.path}: input.scheme: conll2012 has brackets, no tags; leave it out")
        if self.wordless * 2 > self.sentences:
            raise InputError(f"{file.path}: the words are left out ({_LEFT_OUT}); fill them in from OntoNotes first")
        if self.short * 2 > self.sentences and not all(stated.values()):
            raise InputError(
                f"{file.path}: most lines have fewer than {_LEAST} columns, so it is not conll2012; if words and tags "
                "are in other columns, set input.format: conll"
            )
        words, entities = _places(file)
        said = [] if (words, entities) == (_WORDS, _ENTITIES) else [f"words in column {words + 1}"]
        said += [f"entities in column {entities + 1}"] if said else []
        return Settled(Reading(), said)


CONLL2012 = Format(raws, record, lambda file: _Evidence(), block_pieces)
