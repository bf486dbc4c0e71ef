"""The entities of a row, by words and by characters, as every format needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from xner_ray.data.spans import Span, spans_to_tags

Row = Mapping[str, Any]
"""A row of the published files: `xner_ray.data.row.ROW` has its keys, further ones are carried."""

NEEDED = ("id", "lang", "text", "source_text", "tokens", "offsets", "spans")
"""The columns of ours that the writers read."""


class Entity(NamedTuple):
    """Half-open ranges of words and of code points of the row's text, a label, and a score rounded to 1e-4."""

    first: int
    last: int
    start: int
    end: int
    label: str
    score: float


def entities(row: Row) -> list[Entity]:
    """Return the entities of a row in the row's order."""
    offsets = row["offsets"]
    return [
        Entity(
            span["start"],
            span["end"],
            offsets[span["start"]]["start"],
            offsets[span["end"] - 1]["end"],
            span["label"],
            round(span["score"], 4),
        )
        for span in row["spans"]
    ]


def tags(row: Row) -> list[str]:
    """Return the IOB2 tag of each word of a row."""
    return spans_to_tags([Span(s["start"], s["end"], s["label"]) for s in row["spans"]], len(row["tokens"]))
