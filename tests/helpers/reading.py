"""Recipes of either direction, small files, and all the rows that a run reads of them."""

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa

from xner_ray.data.row import row_schema
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe


def to_train(
    path: object, *, unit_rows: int = 2048, targets: tuple[str, ...] = ("spa_Latn",), **options: Any
) -> Recipe:
    given = {"path": path if isinstance(path, dict) else str(path), **options.pop("input", {})}
    return Recipe.model_validate(
        {"input": given, "targets": list(targets), "engine": {"unit_rows": unit_rows}, **options}
    )


def to_test(path: object, *, unit_rows: int = 2048, **options: Any) -> Recipe:
    given = {"path": str(path), "lang": "spa_Latn", **options.pop("input", {})}
    engine = {"unit_rows": unit_rows}
    return Recipe.model_validate(
        {"direction": "test", "input": given, "tag": {"engine": "spacy"}, "engine": engine, **options}
    )


def read_all(recipe: Recipe, index: Index | None = None) -> pa.Table:
    index = index or build_index(recipe)
    plan = pickle.loads(pickle.dumps(ReadPlan(recipe, index.extra)))
    tables = [read_unit(pickle.loads(pickle.dumps(unit)), plan) for unit in index.units]
    for unit, table in zip(index.units, tables, strict=True):
        assert table.schema == row_schema(index.extra)
        assert table.num_rows == unit.n_rows > 0
        expected = list(unit.picked) if unit.picked is not None else list(range(unit.start, unit.stop))
        assert table.column("row").to_pylist() == expected
    return pa.concat_tables(tables)


def write(path: Path, *rows: object) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    else:
        path.write_text("".join(map(str, rows)))
    return path


def write_conll(path: Path, count: int, *, word: str = "w", tag: str = "B-PER") -> Path:
    return write(path, "\n".join(f"{word}{i} {tag}\nx O\n" for i in range(count)))


def reasons(table: pa.Table) -> list[str | None]:
    return list(table.column("reason").to_pylist())
