"""Draw the background of a run: some of its rows, and the vectors of their pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from xner_ray.read.index.units import Unit
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import ModelRuntime
from xner_ray.storage import files as storage
from xner_ray.vision import background
from xner_ray.vision.load import load_reader

MapTasks = Callable[..., Sequence[Any]]
_RANGES = 16


def draw_background(recipe: Recipe, units: Sequence[Unit], plan: ReadPlan, path: str, map_tasks: MapTasks) -> int:
    """Draw rows of the run's units and publish the background; return how many pictures it has.

    Rows come from at most `_RANGES` ranges of rows, drawn by hash, in that many tasks; all of a small run.
    """
    train = recipe.direction == "train"  # one language's units have the pictures of all
    ranges = {("" if train else unit.lang, unit.split, unit.start): unit for unit in units}
    by_hash = sorted(ranges.items(), key=lambda item: hashlib.sha256(repr(item[0]).encode()).digest())
    chosen = [unit for _, unit in by_hash[:_RANGES]]
    most = 2 * recipe.image.background
    found = map_tasks(_draw_rows, chosen, [plan] * len(chosen), [most] * len(chosen))
    by_lang: dict[str, set[background.Drawn]] = {}
    for unit, rows in zip(chosen, found, strict=True):
        by_lang.setdefault(recipe.source_side if train else unit.lang, set()).update(rows)
    drawn = [(lang, sorted(rows)[:most]) for lang, rows in sorted(by_lang.items())]
    (n_pictures,) = map_tasks(_make_background, [recipe], [drawn], [path])
    return int(n_pictures)


def _draw_rows(unit: Unit, plan: ReadPlan, most: int) -> list[background.Drawn]:
    table = read_unit(unit, plan)
    return background.drawn(table.column("id").to_pylist(), table.column("image").to_pylist(), most)


def _make_background(recipe: Recipe, rows: Sequence[tuple[str, Sequence[background.Drawn]]], path: str) -> int:
    """Publish the background, made on a CPU wherever the run's stages are, from drawn rows by language."""
    on_cpu = recipe.image.model_copy(update={name: field.default for name, field in ModelRuntime.model_fields.items()})
    reader = load_reader(recipe.model_copy(update={"image": on_cpu}))
    found = reader.background(rows, recipe.image.background)
    storage.publish(path, background.dump(found))
    return len(found.vectors)
