"""Prodigy: JSON lines of tasks that are answered already, as `db-in` takes them and `ner.manual` shows them.

Offsets are code points of `text`. `token_start` and `token_end` are ids of tokens, and the last one is inside.
Prodigy makes `_input_hash` and `_task_hash` itself. The id stands in `meta`, which annotators see, and as a key of the
task, which `db-out` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from xner_ray.write.entities import Row, entities


def write(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one object per row: id, text, tokens, spans, meta, answer. `ws`: white space follows the token."""
    for row in rows:
        text = row["text"]
        tokens = [
            {
                "text": token,
                "start": place["start"],
                "end": place["end"],
                "id": number,
                "ws": text[place["end"] : place["end"] + 1].isspace(),
            }
            for number, (token, place) in enumerate(zip(row["tokens"], row["offsets"], strict=True))
        ]
        spans = [
            {"start": e.start, "end": e.end, "token_start": e.first, "token_end": e.last - 1, "label": e.label}
            for e in entities(row)
        ]
        meta = {"id": row["id"], "lang": row["lang"], "source_text": row["source_text"]}
        record = {"id": row["id"], "text": text, "tokens": tokens, "spans": spans, "meta": meta, "answer": "accept"}
        yield json.dumps(record, ensure_ascii=False) + "\n"
