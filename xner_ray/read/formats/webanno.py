"""WebAnno TSV 3, as INCEpTION writes it: a block a sentence, a line a word, and a column for each feature of a layer.

A cell is `_` where nothing is annotated, else a value, with a number where the annotation has several words or others
share its words: `PER[1]|ORG[2]`. Lines `1-2.1` are parts of words. Offsets count UTF-16 of the whole document; they are
used inside a word alone, as differences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from xner_ray.data import words
from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import LONE_CR, block_pieces, blocks, byte_lines, decode
from xner_ray.read.record import START, BadRecord, File, Place, Raw, Record, short
from xner_ray.read.sniff.encoding import cure

_FIRST = 3  # columns before those of the layers: number, offsets, word
_WORD = re.compile(r"[0-9]+-[0-9]+(?:\.[0-9]+)?\t[0-9]{1,12}-[0-9]{1,12}\t")
_ENTITIES = ".NamedEntity"
_OTHERS = re.compile(r"\.(?:POS|Lemma|MorphologicalFeatures|Stem|SurfaceForm|SofaChangeAnnotation|Dependency|Chunk)$")
_BAR = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"(?<!\\)\[([0-9]+)\]$")
_NO_VALUE = re.compile(r"_?|\*(?:\[[0-9]+\])?")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NAMES = {"t": "\t", "n": "\n", "r": "\r"}


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the sentences of a file."""
    for offset, line, block in blocks(file, start, stop):
        text, valid = decode(block)
        lines = text.split("\n")
        first = next((number for number, one in enumerate(lines) if _WORD.match(one)), None)
        if first is not None:
            yield Raw(Place(offset, line), line + first + 1, lines, valid)
        elif any(one.startswith("#Text=") or not one.startswith("#") for one in lines):
            yield Raw(Place(offset, line), line + 1, lines, valid)


@dataclass(frozen=True, slots=True)
class _Feature:
    """A column: its layer and its name there."""

    layer: str
    name: str
    column: int

    @property
    def shown(self) -> str:
        return f"{self.layer.rpartition('.')[2]}.{self.name}" if self.name else self.layer.rpartition(".")[2]

    def named(self, name: str) -> bool:
        layer, feature = self.layer, self.name
        names = (feature, self.shown, layer, f"{layer}.{feature}", f"{layer}|{feature}", str(self.column + 1))
        return name in (*names, layer.rpartition(".")[2])


def _features(file: File) -> list[_Feature]:
    """Return the columns of span layers, as the head of the file lists them. InputError if it is no WebAnno TSV 3."""
    found: list[_Feature] = []
    column, version = _FIRST, ""
    for _, raw in byte_lines(file, START.offset):
        line, _ = decode(raw)
        if line.startswith("#FORMAT="):
            version = line.removeprefix("#FORMAT=").strip()
        elif line[:6] in ("#T_SP=", "#T_CH=", "#T_RL="):
            layer, *names = line[6:].rstrip().split("|")
            if line.startswith("#T_SP="):
                found += [_Feature(layer, name, column + number) for number, name in enumerate(names or [""])]
            column += len(names or [""])
        elif line.strip():
            break
    if not version.startswith("WebAnno TSV 3"):
        wanted = "the first line must be #FORMAT=WebAnno TSV 3.x; export it as WebAnno TSV v3.x"
        raise InputError(f"{file.path}: is {version or 'no WebAnno TSV'}: {wanted}")
    return found


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    made = Record(raw.line)
    lines: list[str] = raw.data
    texts = [line.removeprefix("#Text=") for line in lines if line.startswith("#Text=")]
    made.text = _plain("\n".join(texts)) if texts else None
    column = file.reading.tags
    try:
        if any("\r" in line for line in lines):
            raise BadRecord(Reason.MALFORMED, LONE_CR)
        units = _units([line for line in lines if not line.startswith("#")], raw.line)
        made.tokens = [unit.text for unit in units if not unit.part]
        if column is not None and column >= _FIRST:
            _annotate(made, units, column)
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
        made.text = made.text if made.text is not None else "\n".join(lines)
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, f"not UTF-8; where a whole file is not, {cure('latin1')}"
    return made


@dataclass(slots=True)
class _Unit:
    """A word, or a part of the word before it."""

    word: int
    start: int  # UTF-16 of the document
    end: int
    text: str
    cells: list[str]
    line: int
    part: bool


def _units(lines: Sequence[str], first: int) -> list[_Unit]:
    units: list[_Unit] = []
    word = -1
    for number, line in enumerate(lines, start=first):
        if not _WORD.match(line):
            raise BadRecord(Reason.MALFORMED, f"line {number} is not number, offsets, word between tabs: {short(line)}")
        cells = line.split("\t")
        start, end = (int(place) for place in cells[1].split("-"))
        part = "." in cells[0]
        word += not part
        if part and word < 0:
            raise BadRecord(Reason.MALFORMED, f"line {number} is a part of no word: {short(line)}")
        units.append(_Unit(word, start, end, _plain(cells[2]), cells, number, part))
    return units


@dataclass(slots=True)
class _Annotation:
    label: str
    units: list[_Unit] = field(default_factory=list)


def _annotate(made: Record, units: Sequence[_Unit], column: int) -> None:
    """Give a record its entities: of words, or of characters where a part of a word is one."""
    found: dict[str, _Annotation] = {}
    for unit in units:
        cell = unit.cells[column] if column < len(unit.cells) else ""
        if not cell:
            raise BadRecord(Reason.MALFORMED, f"line {unit.line} has no column {column + 1}: {short(unit.cells[2])}")
        for value in _BAR.split(cell) if cell != "_" else ():
            number = _NUMBER.search(value)
            label = _plain(value[: number.start()] if number else value)
            if value[: number.start() if number else None] in ("*", "_"):
                where = f"line {unit.line}: an annotation of {short(unit.text)}"
                raise BadRecord(Reason.BAD_SPAN, f"{where} has no label; give it one, or delete it")
            key = number[1] if number else f"{unit.line} alone"
            one = found.setdefault(key, _Annotation(label))
            if one.label != label:
                problem = f"line {unit.line}: annotation {key} is {short(one.label)} and {short(label)}"
                raise BadRecord(Reason.MALFORMED, problem)
            one.units.append(unit)
    for one in found.values():
        at = [unit.word for unit in one.units]
        if any(after - before > 1 for before, after in pairwise(at)):
            raise BadRecord(Reason.BAD_SPAN, f"line {one.units[0].line}: {one.label} is discontinuous")
    if not any(unit.part for one in found.values() for unit in one.units):
        made.spans = [Span(one.units[0].word, one.units[-1].word + 1, one.label) for one in found.values()]
        return
    tokens = made.tokens or []
    places = words.locate(tokens, made.text) if made.text is not None else None
    if places is None:
        raise BadRecord(Reason.MALFORMED, "its words are not those of its #Text=")
    whole = [unit for unit in units if not unit.part]

    def place(unit: _Unit, at: int) -> int:
        begin, own = places[unit.word][0], whole[unit.word]
        return begin + len(own.text.encode("utf-16-le")[: 2 * (at - own.start)].decode("utf-16-le", "replace"))

    made.chars = [
        (place(one.units[0], one.units[0].start), place(one.units[-1], one.units[-1].end), one.label)
        for one in found.values()
    ]


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: _NAMES.get(found[1], found[1]), text) if "\\" in text else text


class _Evidence:
    """Which columns hold annotations at all."""

    def __init__(self, file: File) -> None:
        self.left = {feature.column for feature in _features(file)}
        self.filled: set[int] = set()

    def add(self, raw: Raw) -> None:
        if not self.left:
            return
        for line in raw.data:
            cells = line.split("\t")
            self.filled |= {
                column for column in self.left if column < len(cells) and not _NO_VALUE.fullmatch(cells[column])
            }
        self.left -= self.filled

    def merge(self, later: _Evidence) -> None:
        self.filled |= later.filled
        self.left -= later.filled

    def settle(self, file: File) -> Settled:
        features = _features(file)
        listed = ", ".join(feature.shown for feature in features) or "none"
        stated = file.columns.stated("tags")
        if stated is not None:
            found = [feature for feature in features if feature.named(stated)]
            filled = [feature for feature in found if feature.column in self.filled]
            found = filled if len(found) > 1 and filled else found
            if len(found) != 1:
                count = "several features" if found else "no feature"
                raise InputError(
                    f"{file.path}: input.columns.tags: {stated} names {count} of a span layer; features: {listed}"
                )
            return self._settled(file, found[0])
        filled = [
            one
            for one in features
            if one.column in self.filled and one.name != "identifier" and not _OTHERS.search(one.layer)
        ]
        entities = [one for one in filled if one.layer.endswith(_ENTITIES) and one.name == "value"]
        if not filled:  # nobody has annotated anything
            entities = [one for one in features if one.layer.endswith(_ENTITIES) and one.name == "value"]
        found = entities or filled
        if len(found) == 1:
            return self._settled(file, found[0])
        if not found:
            return Settled(replace(file.reading, tags=None), [f"no layer of entities; features: {listed}"])
        names = ", ".join(feature.shown for feature in found)
        raise InputError(
            f"{file.path}: several features of spans are annotated ({names}); choose one, as with "
            f"input.columns.tags: {found[0].shown}"
        )

    def _settled(self, file: File, feature: _Feature) -> Settled:
        return Settled(replace(file.reading, tags=feature.column), [f"entities in the layer's feature {feature.shown}"])


WEBANNO = Format(raws, record, evidence=_Evidence, pieces=block_pieces)
