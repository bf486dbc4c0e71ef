"""Files that are one JSON document, whatever they are called: an array of objects, or an object with such an array.

A document has no lines to start from, so it is read whole, once a process, and must not be large.
"""

from __future__ import annotations

import gzip
import json
import zlib
from functools import lru_cache
from typing import Any

from xner_ray.errors import InputError
from xner_ray.read.record import File
from xner_ray.read.shapes.forms import form_of, is_spans
from xner_ray.storage import files as storage

MOST_BYTES = 1 << 29  # of a document
_HEAD_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


def objects_of(file: File) -> list[Any] | None:
    """Return the objects of a file that is one document, without nulls; None if it has an object a line.

    InputError if it is no JSON, too large, or has several lists of objects.
    """
    at = (file.path, file.stamp or storage.info_of(file.path).mtime_ns, file.ends_with(".gz"))
    return _objects(*at) if _is_document(*at) else None


@lru_cache(maxsize=256)
def _is_document(path: str, stamp: str | int, zipped: bool) -> bool:
    del stamp  # for the cache
    head = _read(path, zipped, _HEAD_BYTES)
    if b"\n" not in head and len(head) >= _HEAD_BYTES:
        head = _read(path, zipped, MOST_BYTES)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        return False  # which the reader of lines refuses
    first, *more = [line.strip() for line in head.removeprefix(_BOM).split(b"\n") if line.strip()][:2] or [b""]
    second = more[0] if more else b""
    if first[:1] not in (b"[", b"{"):
        return False
    value = _parsed(first)
    if value is not None:
        return not second and (_is_array(value) or (isinstance(value, dict) and _holds_lists(value)))
    if first == b"[" or (first[:1] == b"[" and first.endswith(b",")):
        return True
    return not isinstance(_parsed(second), dict | list)


@lru_cache(maxsize=2)
def _objects(path: str, stamp: str | int, zipped: bool) -> list[Any]:
    del stamp
    content = _read(path, zipped, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(
            f"{path}: is one JSON document of more than {MOST_BYTES >> 20} MiB, which would be read whole; write an "
            "object a line, as with jq -c '.[]' IN.json > OUT.jsonl"
        )
    try:
        value = json.loads(content.removeprefix(_BOM).decode(), parse_constant=lambda name: None)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 (byte {error.start}); convert it, as with iconv -t utf-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is neither an object a line nor one JSON document: {error}; check it, as with jq . FILE"
        ) from None
    if isinstance(value, dict):
        found = _lists(value)
        if not found:
            return [value]
        if len(found) > 1:
            keys = ", ".join(found)
            raise InputError(
                f"{path}: is one object with several lists of objects: {keys}; write one of them as an object a line, "
                f"as with jq -c '.{next(iter(found))}[]' IN.json > OUT.jsonl"
            )
        value = next(iter(found.values()))
    return [item for item in value if item is not None]


def _lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the lists of records in an object; none if it is a record itself."""
    if any(key in value for key in ("tokens", "words", "passages")):
        return {}
    if any(key in value and not _is_array(value[key]) for key in ("text", "data")):
        return {}
    return {key: item for key, item in value.items() if _is_array(item)}


def _holds_lists(value: dict[str, Any]) -> bool:
    """Return whether an object that is all of a file holds one list of records; or several, and no text beside them."""
    found = _lists(value)
    return len(found) == 1 or (
        len(found) > 1 and not any(isinstance(item, str) and " " in item for item in value.values())
    )


def _is_array(value: Any) -> bool:
    """Return whether a value is a list of objects, or of pairs of a text and its annotations."""
    if not isinstance(value, list) or is_spans(form_of(value)):
        return False
    items = [item for item in value[:100] if item is not None]
    pairs = [item for item in items if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)]
    return bool(items) and (all(isinstance(item, dict) for item in items) or len(pairs) == len(items))


def _parsed(line: bytes) -> Any:
    """Return the value of a line; None if it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _read(path: str, zipped: bool, most: int) -> bytes:
    filesystem, inner = storage.locate(path)
    try:
        with filesystem.open_input_file(inner) as source:
            return bytes(gzip.GzipFile(fileobj=source).read(most) if zipped else source.read(most))
    except (OSError, EOFError, zlib.error) as error:
        raise storage.failure(path, "read", error, InputError) from None
