"""The index: the units of an input, fixed once, for this run and every later resume.

What was found out of how the files are written stands in it too, and the rows that will be rejected, by reason.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from xner_ray.data.kinds import Names
from xner_ray.errors import InputError, Reason
from xner_ray.read.index.units import Segment, Unit
from xner_ray.read.inputs import Text, find_texts, input_of
from xner_ray.read.record import File, Place, Reading
from xner_ray.recipe.model import Recipe

_PLACE = [("offset", pa.int64()), ("line", pa.int64()), ("doc_id", pa.string()), ("docs", pa.int64())]
_SEGMENT = pa.list_(
    pa.struct([("file", pa.int32()), *_PLACE, ("row", pa.int64()), ("skip", pa.int64()), ("take", pa.int64())])
)
_HERE = ("path", "stamp", "stated")  # of a file: where it is on this machine, and what its reading has settled
_PARTS = ("segments", "parallel", "links")
_UNITS = pa.schema(
    [
        ("name", pa.string()),
        ("lang", pa.string()),
        ("split", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("picked", pa.list_(pa.int64())),
        ("duplicates", pa.list_(pa.struct([("row", pa.int64()), ("first", pa.int64())]))),
        ("segments", _SEGMENT),
        ("parallel", _SEGMENT),
        ("n_words", pa.int64()),
        ("links", _SEGMENT),
    ]
)


@dataclass(frozen=True)
class Rejected:
    """Rows of one text that will be rejected for one reason."""

    text: str
    reason: str
    rows: int
    of: int  # rows of the text
    example: str  # the first of them: file, line, and what is wrong
    number: int = 0  # of the text; two may have one name


@dataclass(frozen=True)
class Index:
    """All that a run must know of its input. Each file counts once."""

    units: list[Unit]
    labels_found: list[str]  # of the input and of what gives the entities, after the label map, sorted
    labels_dropped: dict[str, int]  # after rename, with the number of their spans
    gold_labels: dict[str, list[str]]  # of the parallel files, by language
    n_rows: dict[str, int]  # by `lang`, after limit and sample
    n_words: dict[str, int]
    repaired: int  # tags of the same files that were read as another
    extra: list[pa.Field] = field(default_factory=list)  # the user's own columns
    unit_rows: int = 0  # of a full unit
    said: list[str] = field(default_factory=list)  # how files are read, where that is not plain
    rejects: list[Rejected] = field(default_factory=list)

    @property
    def reject_rate(self) -> float:
        """The share of rows that will be rejected, of the text with most of them; what is left out does not count."""
        shares: dict[int, float] = {}
        for one in self.rejects:
            share = 0.0 if one.reason == Reason.LEFT_OUT else one.rows / one.of
            shares[one.number] = shares.get(one.number, 0.0) + share
        return max(shares.values(), default=0.0)

    def problems(self) -> list[str]:
        """Return a line for each reason to reject rows."""
        lines = [
            f"{one.text}: {one.rows:,} of {one.of:,} rows will be rejected: {one.reason}; the first: {one.example}"
            for one in self.rejects
        ]
        return list(dict.fromkeys(lines))

    def to_table(self) -> pa.Table:
        """Return one row a unit, with the rest as JSON in the schema's metadata; not where files are: see `bound`."""
        files: dict[File, int] = {}
        rows = [_unit_cells(unit, files) for unit in self.units]
        rest = {name: value for name, value in vars(self).items() if name not in ("units", "extra")}
        rest["rejects"] = [vars(reject) for reject in self.rejects]
        rest["extra"] = base64.b64encode(pa.schema(self.extra).serialize().to_pybytes()).decode()
        names = [name for name in File.__slots__ if name not in _HERE]
        rest["files"] = [
            {name: getattr(file, name) for name in names}
            | {"columns": dict(file.columns), "reading": file.reading.to_json()}
            for file in files
        ]
        metadata = {b"xner_ray.index": json.dumps(rest, sort_keys=True).encode()}
        return pa.Table.from_pylist(rows, _UNITS.with_metadata(metadata))

    @classmethod
    def from_table(cls, table: pa.Table) -> Index:
        """Return the index that `to_table` wrote."""
        rest: dict[str, Any] = json.loads(table.schema.metadata[b"xner_ray.index"])
        for gone in ("inputs", "parallel_inputs"):  # of earlier versions
            rest.pop(gone, None)
        files = [_file(data) for data in rest.pop("files")]
        rest["extra"] = list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(rest["extra"]))))
        rest["rejects"] = [Rejected(**reject) for reject in rest.get("rejects", ())]
        return cls(units=[_unit(cells, files) for cells in table.to_pylist()], **rest)

    def bound(self, recipe: Recipe) -> Index:
        """Return the index with the files where the recipe has them now. InputError if one is missing."""
        inputs, parallel, links = find_texts(recipe)
        known: dict[int, dict[tuple[str, str], File]] = {}  # by text: a run's languages may share one

        def found(part: Segment, text: Text | None) -> Segment:
            assert text is not None, "it was listed with the units"
            files = known.setdefault(id(text), {(file.split, file.name): file for file in text.files})
            key = (part.file.split, part.file.name)
            if (file := files.get(key)) is None:
                raise InputError(f"{part.file.split}/{part.file.name}: the input does not have this file any more")
            if file.reading != part.file.reading:
                file = files[key] = replace(file, reading=part.file.reading)
            return replace(part, file=file)

        units = []
        for unit in self.units:
            texts = (input_of(inputs, unit.lang), parallel.get(unit.lang), links.get(unit.lang))
            parts: dict[str, Any] = {
                name: tuple(found(part, text) for part in getattr(unit, name))
                for name, text in zip(_PARTS, texts, strict=True)
            }
            units.append(replace(unit, **parts))
        return replace(self, units=units)


def _file(data: dict[str, Any]) -> File:
    carry = data.get("carry")  # JSON has no tuples
    data = {name: value for name, value in data.items() if name != "identity"} | {"path": "", "stamp": ""}
    reading = Reading.from_json(data["reading"]) if "reading" in data else Reading()  # earlier versions had none
    parts = {"columns": Names(**data["columns"]), "carry": None if carry is None else tuple(carry)}
    return File(**data | parts | {"reading": reading})


def _unit_cells(unit: Unit, files: dict[File, int]) -> dict[str, Any]:
    def cells(part: Segment) -> dict[str, Any]:
        place = {"file": files.setdefault(part.file, len(files)), **part.place._asdict()}
        return place | {"row": part.row, "skip": part.skip, "take": part.take}

    own = {name: getattr(unit, name) for name in ("name", "lang", "split", "start", "stop", "picked", "n_words")}
    parts = {name: [cells(part) for part in getattr(unit, name)] for name in _PARTS}
    return own | parts | {"duplicates": [{"row": row, "first": first} for row, first in unit.duplicates]}


def _unit(cells: dict[str, Any], files: Sequence[File]) -> Unit:
    def part(found: dict[str, Any]) -> Segment:
        place = Place(*(found[name] for name in Place._fields))
        return Segment(files[found["file"]], place, found["row"], found["skip"], found["take"])

    picked = tuple(cells["picked"]) if cells["picked"] is not None else None
    duplicates = tuple((pair["row"], pair["first"]) for pair in cells["duplicates"])
    parts = {name: tuple(map(part, cells.get(name) or ())) for name in _PARTS}
    return Unit(**cells | parts | {"picked": picked, "duplicates": duplicates})
