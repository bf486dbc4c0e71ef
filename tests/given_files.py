"""Small files of sentences with given links or entities, recipes of either direction, and their rows."""

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa

from xner_ray.read.index import Index, build_index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe import Recipe
from xner_ray.recipe_file import load_recipe
from xner_ray.schema import row_schema


def write(path: Path, content: str | list[dict[str, Any]]) -> str:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def to_train(path: str, parallel: str, links: str, *, unit_rows: int = 2048, **given: Any) -> Recipe:
    return load_recipe(
        {
            "input": {"path": path, "parallel": {"spa_Latn": parallel}, "links": links, **given},
            "targets": ["spa_Latn"],
            "align": {"backend": "provided"},
            "engine": {"unit_rows": unit_rows},
        }
    )


def to_test(path: str, parallel: str, links: str | None = None, **given: Any) -> Recipe:
    return load_recipe(
        {
            "direction": "test",
            "input": {"path": path, "lang": "spa_Latn", "parallel": {"eng_Latn": parallel}, "links": links, **given},
            "tag": {"engine": "provided"},
            "align": {"backend": "provided" if links else "batched"},
        }
    )


def read_all(recipe: Recipe, index: Index | None = None) -> pa.Table:
    index = index or build_index(recipe)
    plan = ReadPlan(recipe, index.extra)
    tables = [read_unit(pickle.loads(pickle.dumps(unit)), plan) for unit in index.units]
    assert all(table.schema == row_schema(index.extra) for table in tables)
    return pa.concat_tables(tables)
