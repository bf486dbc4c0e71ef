"""Files of objects, read as a scan reads them: evidence of the whole file first, then records by what it settles."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from format_files import file_of

from xner_ray.read.record import File, Raw, Record, Settled, Stated
from xner_ray.read.records import FORMATS, read_raws, records_of


def lines_of(folder: Path, *rows: object, name: str = "a.jsonl", **options: Any) -> File:
    """Return a JSONL file of these rows."""
    text = "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    return file_of(folder, text, "jsonl", name, **_stated(options))


def document_of(folder: Path, value: object, *, name: str = "a.json", **options: Any) -> File:
    """Return a file that is one JSON document."""
    return file_of(folder, json.dumps(value, ensure_ascii=False, indent=1), "json", name, **_stated(options))


def _stated(options: dict[str, Any]) -> dict[str, Any]:
    names = ("scheme", "offsets", "ends", "names", "answers")
    given = {name: options.pop(name) for name in names if name in options}
    return options | {"stated": Stated(**given)}


def settled(file: File, raws: list[Raw] | None = None) -> Settled:
    evidence = FORMATS[file.format].evidence(file)
    for raw in raws if raws is not None else read_raws(file):
        evidence.add(raw)
    return evidence.settle(file)


def read(file: File) -> tuple[list[Record], list[str]]:
    """Return the records of a file, and what is said of it."""
    found = settled(file)
    file = replace(file, reading=found.reading)
    return [record for raw in read_raws(file) for record in records_of(raw, file)], found.said


def entities(record: Record) -> list[tuple[str, str]]:
    """Return text and label of the entities of a record; a fault as (reason, detail)."""
    if record.reason is not None:
        return [(str(record.reason), record.detail)]
    words = record.tokens or []
    of_words = [(" ".join(words[one.start : one.end]), one.label) for one in record.spans or ()]
    return [*of_words, *(((record.text or "")[start:end], label) for start, end, label in record.chars or ())]
