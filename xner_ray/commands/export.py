"""The command `export`: the rows of a sealed run as CoNLL or JSONL files."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from xner_ray.data.row import ROW
from xner_ray.data.spans import Span, spans_to_tags
from xner_ray.errors import InputError, RunFolderError, StorageError
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import split_of
from xner_ray.storage import files as storage


def export(
    run: str | os.PathLike[str],
    *,
    to: Literal["conll", "jsonl"] = "conll",
    output: str | os.PathLike[str] | None = None,
    ids: bool = False,
) -> list[str]:
    """Write the emitted rows of a sealed run, one file per language and split, and return the files' paths.

    output: a folder, by default RUN/export. ids: a line `# id = ...` before each sentence, in CoNLL.
    """
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    folder.require_sealed()
    target = folder.path("export") if output is None else os.fspath(output)
    written = []
    for lang in recipe.languages:
        for split in sorted({split_of(file)[0] for file in folder.published(lang)}):
            rows = (row for file in folder.published(lang, [split]) for row in part_files.read_part(file).to_pylist())
            lines = conll(rows, ids=ids) if to == "conll" else jsonl(rows)
            path = storage.join(target, f"{lang}.{split}.{to}")
            try:
                storage.publish(path, "".join(lines).encode())
            except StorageError as error:
                raise RunFolderError(f"{error}; name another folder") from None
            written.append(path)
    return written


def conll(rows: Iterable[Mapping[str, Any]], *, ids: bool = False) -> Iterator[str]:
    """Yield a sentence's `token<TAB>tag` lines and the blank line behind them; with `ids`, `# id = ...` before.

    InputError for what no CoNLL reader could read back: white space in a token, a line break in an id.
    """
    for row in rows:
        if ids and len(row["id"].splitlines()) != 1:
            raise InputError(f"row {row['id']!r}: its id holds a line break; export without --ids, or as jsonl")
        lines = [f"# id = {row['id']}"] if ids else []
        for token, tag in zip(row["tokens"], _tags(row), strict=True):
            if not token or any(character.isspace() for character in token):
                raise InputError(f"row {row['id']}: token {token!r} holds white space; export it as jsonl")
            lines.append(f"{token}\t{tag}")
        yield "\n".join(lines) + "\n\n"


def jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one object per row: id, lang, text, tokens, tags, spans by character and by word, carried columns.

    Values that JSON does not have become text: times and decimals as Python writes them, bytes in base64; NaN becomes
    null. InputError if a carried column has the name of another key.
    """
    for row in rows:
        spans = [
            {
                "start": row["offsets"][s["start"]]["start"],
                "end": row["offsets"][s["end"] - 1]["end"],
                "label": s["label"],
                "score": round(s["score"], 4),
                "words": [s["start"], s["end"]],
            }
            for s in row["spans"]
        ]
        record = {
            "id": row["id"],
            "lang": row["lang"],
            "text": row["text"],
            "tokens": row["tokens"],
            "tags": _tags(row),
            "spans": spans,
            "source_text": row["source_text"],
        }
        carried = {name: _plain(value) for name, value in row.items() if name not in ROW.names}
        if clash := sorted(carried.keys() & record.keys()):
            raise InputError(
                f"row {row['id']}: the carried column {clash[0]!r} has the name of a key of this export; rename it in "
                "the input, leave it out of input.carry, or read the Parquet files"
            )
        yield json.dumps({**record, **carried}, ensure_ascii=False) + "\n"


def _tags(row: Mapping[str, Any]) -> list[str]:
    return spans_to_tags([Span(s["start"], s["end"], s["label"]) for s in row["spans"]], len(row["tokens"]))


def _plain(value: Any) -> Any:
    """Return a value of any Arrow type as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
