"""Sentences of a Python caller as the input files of a recipe, so that they are read as any run's are.

Texts and records become JSON lines, tables become Parquet. Nothing is checked here that the reader checks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xner_ray.errors import InputError

ALLOWED = (
    "a list of texts, of records (tokens with tags or spans, text with spans), an Arrow table, a pandas frame or a "
    "datasets.Dataset"
)
NAME = "sentences"  # of the input: ids of sentences that have none are sentences:1, sentences:2


@dataclass(frozen=True)
class Given:
    """The section `input` that the sentences of one call make. texts: they are plain, without labels."""

    input: dict[str, Any] = field(default_factory=dict)
    texts: bool = False


def write(
    folder: str,
    sentences: Any,
    parallel: Mapping[str, Any],
    links: Mapping[str, Iterable[str]],
    *,
    text_key: str,
) -> Given:
    """Write the files of one call into `folder`. text_key: the key of records and the column of tables for the text.

    InputError for what cannot be sentences.
    """
    path, format, texts = _write(os.path.join(folder, NAME), sentences, NAME, text_key)
    made: dict[str, Any] = {"path": path, "format": format, "parallel": {}, "links": None}
    for lang, beside in parallel.items():
        what = f"parallel[{lang!r}]"
        bare, kind, _ = _write(os.path.join(folder, f"parallel-{lang}"), beside, what, text_key)
        named = f"{bare}.{kind}"  # the ending says what it is: one language may come as a list, another as a table
        os.rename(bare, named)
        made["parallel"][lang] = named
    if links:
        made["links"] = os.path.join(folder, "links-{lang}")
        for lang, lines in links.items():
            _write_links(os.path.join(folder, f"links-{lang}"), lines, lang)
    return Given(made, texts)


def _write(path: str, value: Any, what: str, text_key: str) -> tuple[str, str, bool]:
    """Write one list or table; return its path, its format, and whether it holds plain texts alone."""
    if (table := _table(value, what)) is not None:
        if not table.num_rows:
            raise InputError(f"{what}: is empty; give {ALLOWED}")
        pq.write_table(table, path)
        return path, "parquet", False
    if isinstance(value, (str, bytes, os.PathLike)):
        kind = "a path: a file is projected by xner_ray.project" if isinstance(value, os.PathLike) else "one text"
        raise InputError(f"{what}: is {kind}; give {ALLOWED}, as in [{str(value)[:40]!r}]")
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{what}: is a {type(value).__name__}; give {ALLOWED}")
    texts = True
    with open(path, "w", encoding="utf-8") as file:
        number = -1
        for number, one in enumerate(value):
            if isinstance(one, str):
                one = {text_key: one}
            elif isinstance(one, Mapping):
                texts = False
            else:
                raise InputError(f"{what}[{number}]: is a {type(one).__name__}; allowed: a text, or a record (a dict)")
            file.write(_line(one, f"{what}[{number}]") + "\n")
    if number < 0:
        raise InputError(f"{what}: is empty; give {ALLOWED}")
    return path, "jsonl", texts


def _line(record: Mapping[str, Any], where: str) -> str:
    try:
        return json.dumps(record, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: cannot be written as JSON ({error}); allowed: texts, numbers, true and false, lists and "
            "mappings of them; an Arrow table holds other values"
        ) from None


def _plain(value: Any) -> Any:
    """Return values of NumPy and tuples of fields as plain ones."""
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _table(value: Any, what: str) -> pa.Table | None:
    """Return what is a table of any library as one of Arrow; None for anything else."""
    if isinstance(value, pa.Table):
        return value
    library = type(value).__module__.partition(".")[0]
    try:
        if library == "datasets":
            return _of_dataset(value, what)
        if library == "pandas" and hasattr(value, "columns"):
            return pa.Table.from_pandas(value, preserve_index=False)
        return pa.table(value) if hasattr(value, "__arrow_c_stream__") else None
    except pa.ArrowException as error:
        raise InputError(f"{what}: is no Arrow table ({error}); give each column values of one type") from None


def _of_dataset(value: Any, what: str) -> pa.Table:
    """Return the rows of a `datasets.Dataset` with its features, which name its tags."""
    kind = type(value).__name__
    if kind != "Dataset":
        cure = (
            "one of its splits, as in data['train']" if "Dict" in kind else "Dataset.from_list(list(data.take(1000)))"
        )
        raise InputError(f"{what}: is a {kind}; give {cure}")
    table: pa.Table = value.with_format("arrow")[:]
    return table.replace_schema_metadata(value.features.arrow_schema.metadata)


def _write_links(path: str, lines: Iterable[str], lang: str) -> None:
    if isinstance(lines, str):
        raise InputError(f"links[{lang!r}]: is one text; give a list, one `i-j i-j` for each sentence")
    with open(path, "w", encoding="utf-8") as file:
        for number, line in enumerate(lines):
            if not isinstance(line, str) or "\n" in line:
                raise InputError(f"links[{lang!r}][{number}]: is {line!r}; allowed: a text, as in '0-0 1-2'")
            file.write(line + "\n")
