"""JSON lines of our own: an object a sentence, with tags, spans by character and by word, and all that is carried.

Each span has its text, which shows a reader what its numbers count, and a corrector what it covers.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xner_ray.data.row import carried_names
from xner_ray.errors import InputError
from xner_ray.write.entities import Row, entities, tags


def write(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one object per row: id, lang, text, tokens, tags, spans by character and by word, carried columns.

    Values that JSON does not have become text: times and decimals as Python writes them, bytes in base64; NaN becomes
    null. InputError if a carried column has the name of another key.
    """
    for row in rows:
        text = row["text"]
        spans = [
            {
                "start": e.start,
                "end": e.end,
                "label": e.label,
                "text": text[e.start : e.end],
                "score": e.score,
                "words": [e.first, e.last],
            }
            for e in entities(row)
        ]
        record = {
            "id": row["id"],
            "lang": row["lang"],
            "text": text,
            "tokens": row["tokens"],
            "tags": tags(row),
            "spans": spans,
            "source_text": row["source_text"],
        }
        own = {*carried_names(row)}
        carried = {name: plain(value) for name, value in row.items() if name in own}
        if clash := sorted(carried.keys() & record.keys()):
            raise InputError(
                f"row {row['id']}: the carried column {clash[0]!r} has the name of a key of this export; rename it in "
                "the input, leave it out of input.carry, or read the Parquet files"
            )
        yield json.dumps({**record, **carried}, ensure_ascii=False) + "\n"


def plain(value: Any) -> Any:
    """Return a value of any Arrow type as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(child) for child in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
