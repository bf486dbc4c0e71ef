"""Objects of JSON: every line that is not blank is one, or `[text, {...}]`; or the file is one document of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from xner_ray.errors import Reason
from xner_ray.read.carried import carried
from xner_ray.read.format import Format, Tagged
from xner_ray.read.formats.json import objects_of
from xner_ray.read.formats.lines import byte_lines, decode, line_pieces
from xner_ray.read.mapping import flat, from_mapping, keys_of
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, by_file
from xner_ray.read.shapes import tools
from xner_ray.read.shapes.evidence import ObjectEvidence


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the objects of a file; of a line that is none, the fault. The places of a document are its objects."""
    if (objects := objects_of(file)) is not None:
        for at in range(start.offset, len(objects)):
            yield Raw(Place(at, at), at + 1, objects[at])
        return
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        if not raw.strip():
            continue
        text, valid = decode(raw)
        data: Any
        try:
            data = _DECODER.decode(text)
            if not isinstance(data, (dict, list)):
                raise TypeError(f"a line of JSONL is an object, this is {type(data).__name__}")
        except TypeError as error:
            data = Fault(text, str(error))
        except (ValueError, RecursionError) as error:
            data = Fault(text, f"not JSON: {error}")
        yield Raw(Place(offset, number - 1), number, data, valid)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is no object."""

    text: str
    what: str


def record(raw: Raw, file: File) -> Record:
    """Return the record of one object.

    Keys that are no columns of ours are carried: all as one JSON text, or each that `file.carry` names, text as it
    is, any other value as JSON, null if missing.
    """
    data = raw.data
    if isinstance(data, Fault):
        made = Record(raw.line, text=data.text, reason=Reason.MALFORMED, detail=data.what)
    else:
        made = from_mapping(raw, file)
        if not isinstance(data, dict) or file.reading.shape:
            try:
                data = flat(raw, file).data
            except BadRecord:
                return made
        made.extra = carried(data, file)
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def tagged(raw: Raw, file: File) -> Tagged | None:
    """Return words and tags of an object that has these alone; see `Format.tagged`."""
    data, names = raw.data, _tagged_keys(file)
    if names is None or type(data) is not dict or not raw.valid or not _others(file).isdisjoint(data):
        return None
    found: list[Any] = [data.get(name) for name in names]
    tokens, tags, own, doc_id = found
    if not _texts(tokens) or not (tags is None or _texts(tags)) or not {type(own), type(doc_id)} <= _NAMES:
        return None
    return Tagged(tokens, tags, own or None, doc_id or None, carried(data, file))


_NAMES = {str, type(None)}


def _texts(value: Any) -> TypeGuard[list[str]]:
    """Return whether a value looks like a list of text: by its first, as Arrow will look at all of them."""
    return type(value) is list and (not value or type(value[0]) is str)


@by_file
def _tagged_keys(file: File) -> tuple[str, ...] | None:
    """Return the keys of tokens, tags, id and doc_id; None for objects of tools, and for keys along a path."""
    keys = tuple(map(file.key, ("tokens", "tags", "id", "doc_id")))
    return None if file.reading.shape not in ("", tools.OBJECTS) or any("." in key for key in keys) else keys


@by_file
def _others(file: File) -> frozenset[str]:
    """Return the keys that make an object another shape than words with tags."""
    others = {key for ours, key in keys_of(file).items() if ours in ("text", "spans", "split", "image")}
    return frozenset(others - set(_tagged_keys(file) or ()) | ({"data", "passages"} if file.reading.shape else set()))


def _null(name: str) -> None:
    """Read NaN and Infinity, which Python writes and JSON does not know, as null."""
    del name


_DECODER = json.JSONDecoder(parse_constant=_null)


def pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return bytes at which a line begins; none of a document."""
    return line_pieces(file, wanted) if objects_of(file) is None else []


OBJECTS = Format(raws, record, evidence=ObjectEvidence, pieces=pieces, tagged=tagged)
