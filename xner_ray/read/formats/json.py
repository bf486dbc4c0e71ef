"""Files that are one JSON document, whatever they are called: an array of records, or an object with such an array.

A document has no lines to start from, so it is read whole, once a process, and must not be large.
"""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from functools import lru_cache
from typing import Any

from xner_ray.errors import InputError
from xner_ray.read.record import File
from xner_ray.read.shapes.documents import SeveralError, holds_lists, records_in
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
        return not second and holds_lists(value)
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
            f"{path}: is neither an object a line nor one JSON document: {_cure(content, error)}"
        ) from None
    try:
        return records_in(value)
    except SeveralError as error:
        raise InputError(
            f"{path}: is one object with several lists of objects: {error}; write one of them as an object a line, "
            f"as with jq -c '.{error.keys[0]}[]' IN.json > OUT.jsonl"
        ) from None


def _cure(content: bytes, error: Exception) -> str:
    """Return what is wrong with a file that is no JSON, and what to do."""
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return "it holds several values; write each on a line, as with jq -c . IN > OUT.jsonl"
    try:
        head = content.strip()[:_HEAD_BYTES].split(b"\n")[0].decode()
        ast.literal_eval(head)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return f"{error}; check it, as with jq . FILE"
    program = "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in sys.stdin]"
    return f"it holds Python's literals; write them as JSON, as with python -c '{program}' < IN > OUT.jsonl"


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
