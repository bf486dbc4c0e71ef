"""A row that is no stage's fault to fail on: where it fails, the device does."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from xner_ray.data import words
from xner_ray.data.row import OK, row_schema
from xner_ray.recipe.model import Recipe

_TEXT = "Anna lives in Rome."


def control(recipe: Recipe) -> pa.Table:
    """Return a row as every stage may get it: both sides have the same words, and nothing is labelled."""
    lang = recipe.languages[0]
    places = words.split(_TEXT, recipe.source_side)
    tokens = [_TEXT[start:end] for start, end in places]
    side: dict[str, Any] = {"text": _TEXT, "tokens": tokens, "offsets": places}
    row = {"row": 0, "id": "control", "lang": lang, "source_lang": recipe.source_side, "status": OK, "split": "train"}
    row |= side | {f"source_{name}": value for name, value in side.items()} | {"source_spans": [], "unprojected": []}
    beside = [pa.field(name, pa.string()) for name in dict.fromkeys(recipe.contexts.values())]
    row |= {field.name: _TEXT for field in beside}
    schema = row_schema(beside, images=recipe.with_images)
    return pa.table([pa.array([row.get(field.name)], field.type) for field in schema], schema=schema)
