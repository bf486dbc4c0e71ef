"""Columns of a table that hold what we read, by its schema: which they are, and whether their types allow it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from xner_ray.errors import InputError, did_you_mean
from xner_ray.read.record import File
from xner_ray.read.shapes.keys import NAMES


def consumed(file: File) -> list[str]:
    """Return the names of the columns that records are made of."""
    if file.format != "run":
        keys = [file.key(ours) for ours, _ in file.columns]
        return [
            *keys,
            *(key.partition(".")[0] for key in keys if "." in key),
            *(("answer", "passages") if file.reading.shape else ()),
        ]
    source = ["source_text", "source_tokens", "source_spans"]
    picture = ["image"] if file.columns.image is not None else []
    return ["id", "doc_id", "split", "source_lang", "lang", *picture] + (
        source if file.side == "source" else ["text", "tokens", "gold_spans"]
    )


def candidates(file: File, schema: pa.Schema) -> list[str]:
    """Return further columns that may hold text or labels, of a file whose columns do not have the default names."""
    if file.format == "run" or file.reading.shape:
        return []
    have = {ours for ours, name in file.columns if name in schema.names}
    if {"tokens", "tags"} <= have or {"text", "spans"} <= have:
        return []
    kinds = [(field.name, field.type) for field in schema if field.name not in consumed(file)]
    lacks_text = not {"text", "tokens"} & have
    named = {"answer", *NAMES["doc_id"], *(NAMES["text"] if lacks_text else ())}
    return [name for name, kind in kinds if is_nested(kind) or name in named]


def is_nested(kind: pa.DataType) -> bool:
    """Return whether a column may hold tags or spans: lists of text, numbers, lists or structs, or structs."""
    if pa.types.is_struct(kind):
        return any(is_nested(field.type) for field in kind)
    item = kind.value_type if hasattr(kind, "value_field") else None
    if item is None:
        return False
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_struct, pa.types.is_list)
    return any(is_type(item) for is_type in known)


def holds_text(name: str, kind: pa.DataType) -> bool:
    """Return whether a column may hold text or tokens: it has a known name, or lists of text or structs."""
    if not hasattr(kind, "value_field"):
        return name in NAMES["text"]
    item = kind.value_type if hasattr(kind, "value_field") else kind
    return bool(pa.types.is_string(item) or pa.types.is_large_string(item) or pa.types.is_struct(item))


def need(file: File, schema: pa.Schema, missing: list[str]) -> None:
    if missing:
        hint = did_you_mean(missing[0].split()[0], schema.names) if file.format != "run" else ""
        raise InputError(
            f"{file.path}: column {missing[0]} is missing{hint if 'mean' in hint else ''}; "
            f"columns: {', '.join(schema.names)}; name them under input.columns"
        )


def check_types(file: File, schema: pa.Schema) -> None:
    """Raise InputError for a column of a wrong type, or for numbers as tags that no ClassLabel names."""
    types = pa.types
    columns = {ours: file.key(ours) for ours, _ in file.columns}

    def text(kind: pa.DataType) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return any(
            is_type(kind) for is_type in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
        )

    def name(kind: pa.DataType) -> bool:
        return text(kind) or types.is_integer(kind)

    def items(kind: pa.DataType) -> pa.DataType | None:
        return kind.value_type if hasattr(kind, "value_field") else None  # of a list of any kind

    def tags(kind: pa.DataType) -> bool:
        return types.is_null(kind) or ((item := items(kind)) is not None and name(item))

    def tokens(kind: pa.DataType) -> bool:
        return types.is_null(kind) or ((item := items(kind)) is not None and (text(item) or types.is_struct(item)))

    def spans(kind: pa.DataType) -> bool:
        return types.is_null(kind) or types.is_struct(kind) or items(kind) is not None

    def picture(kind: pa.DataType) -> bool:
        return text(kind) or embedded(kind) or (types.is_struct(kind) and "path" in {field.name for field in kind})

    allowed = {
        **({columns["image"]: (picture, "text or {bytes, path}")} if "image" in columns else {}),
        columns["tokens"]: (tokens, "a list of text"),
        columns["tags"]: (tags, "a list of text or of ClassLabel numbers"),
        columns["spans"]: (spans, "a list of {start, end, label}"),
        **{columns[ours]: (name, "text") for ours in ("id", "doc_id", "split")},
        columns["text"]: (text, "text"),
    }
    found = {field.name: field.type for field in schema}
    if columns["tokens"] not in found and tokens(found.get(columns["text"], pa.null())):
        allowed[columns["text"]] = allowed[columns["tokens"]]  # the scan finds out that these are the tokens
    for column, (rule, wanted) in allowed.items():
        if column in found and not rule(found[column]):
            raise InputError(f"{file.path}: column {column!r} has the type {found[column]}; allowed: {wanted}")
    item = items(found.get(columns["tags"]))
    unnamed = columns["tags"] not in class_names(file, schema) and file.stated.names is None
    if item is not None and types.is_integer(item) and unnamed:
        raise InputError(
            f"{file.path}: column {columns['tags']!r} holds numbers, and no ClassLabel of its features names them; "
            "set input.labels.names to their names in order, as in [O, B-PER, I-PER]"
        )


def embedded(kind: pa.DataType) -> bool:
    """Return whether a column holds pictures themselves, as the hub writes them: {bytes, path}."""
    if not pa.types.is_struct(kind):
        return False
    parts = {field.name: field.type for field in kind}
    return parts.keys() == {"bytes", "path"} and parts["bytes"] in (pa.binary(), pa.large_binary())


def class_names(file: File, schema: pa.Schema) -> dict[str, list[str]]:
    """Return ClassLabel names by column, from the Hugging Face features of the schema or of dataset_info.json."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(stored)["info"]["features"] if stored else json.loads(file.features or "{}")
        columns = dict(features or {})
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file.path}: its Hugging Face features are not readable JSON") from None
    return {column: names for column, feature in columns.items() if (names := _names(feature))}


def _names(feature: Any) -> list[str] | None:
    """Return the names of the first ClassLabel at any depth of a feature."""
    if isinstance(feature, dict):
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
            return [str(name) for name in feature["names"]]
        feature = list(feature.values())
    if isinstance(feature, list):
        return next((names for item in feature if (names := _names(item))), None)
    return None
