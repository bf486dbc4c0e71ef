"""Tables of rows from dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from xner_ray.data import words
from xner_ray.data.row import OK, ROW, offset_cells, span_cells
from xner_ray.data.spans import Span


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of `schema`; keys that a row lacks are null, but `status` is then "ok"."""
    return pa.Table.from_pylist([{**row, "status": row.get("status") or OK} for row in rows], schema)


def unit_tables(
    source: Sequence[str], target: Sequence[str] | None, unit_rows: int, langs: tuple[str, str]
) -> list[pa.Table]:
    """Return units of sentences, each with an entity at its first word. target: None where it is to be translated."""
    found = []
    for start in range(0, len(source), unit_rows):
        rows = []
        for number in range(start, min(len(source), start + unit_rows)):
            row: dict[str, Any] = {
                "row": number,
                "id": str(number),
                "source_lang": langs[0],
                "lang": langs[1],
                "split": "train",
            }
            for prefix, texts, lang in (("source_", source, langs[0]), ("", target, langs[1])):
                if texts is not None:
                    offsets = words.split(texts[number], lang)
                    row |= {f"{prefix}text": texts[number], f"{prefix}offsets": offset_cells(offsets)}
                    row[f"{prefix}tokens"] = [texts[number][a:b] for a, b in offsets]
            rows.append({**row, "source_spans": span_cells([Span(0, 1, "PER")])})
        found.append(table_from_rows(rows, ROW))
    return found
