"""A finished run in other formats: CoNLL for trainers and annotators, JSON lines for everything else."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xner_ray.errors import InputError
from xner_ray.schema import ROW
from xner_ray.spans import Span, spans_to_tags


def conll(rows: Iterable[Mapping[str, Any]], *, ids: bool = False) -> Iterator[str]:
    """`token<TAB>tag` lines with a blank line behind each sentence; `# id = ...` before it if asked.

    InputError for what no CoNLL reader could take back: white space in a token, a line break in an id.
    """
    for row in rows:
        tags = spans_to_tags([Span(s["start"], s["end"], s["label"]) for s in row["spans"]], len(row["tokens"]))
        if ids and len(row["id"].splitlines()) != 1:
            raise InputError(f"row {row['id']!r}: its id holds a line break; export without --ids, or as jsonl")
        lines = [f"# id = {row['id']}"] if ids else []
        for token, tag in zip(row["tokens"], tags, strict=True):
            if not token or any(character.isspace() for character in token):
                raise InputError(f"row {row['id']}: token {token!r} holds white space; export it as jsonl")
            lines.append(f"{token}\t{tag}")
        yield "\n".join(lines) + "\n\n"


def jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One object a row: id, lang, text, tokens, tags, spans in words and in characters of the text, carried columns.

    What JSON has no value for is text: times and decimals as Python writes them, bytes in base64; NaN is null.
    InputError if a carried column has the name of one of the other keys.
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
        tags = spans_to_tags([Span(s["start"], s["end"], s["label"]) for s in row["spans"]], len(row["tokens"]))
        record = {
            "id": row["id"],
            "lang": row["lang"],
            "text": row["text"],
            "tokens": row["tokens"],
            "tags": tags,
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


def _plain(value: Any) -> Any:
    """A value of any Arrow type as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
