"""Finished runs made by hand: their parts are given, no stage runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from entities import table

from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit, unit_name
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.run import parts as part_files
from xner_ray.run import publish
from xner_ray.run.folder import RunFolder

Row = dict[str, Any]


def finished(
    path: Path,
    rows: Mapping[str, Sequence[Row]],
    overrides: Sequence[str] = (),
    *,
    unit_rows: int = 10,
    encoder: str = "0123456789abcdef",
) -> Path:
    """A sealed run with these rows of each language, in units of `unit_rows`."""
    parallel = {lang: f"/nowhere/{lang}" for lang in rows}
    given = {"path": "/nowhere/a.conll", "parallel": parallel}
    recipe = load_recipe({"input": given, "targets": list(rows)}, ["match.prior=none", *overrides])
    folder = RunFolder(str(path))
    inputs = {lang: {f"/nowhere/{lang}": "size 1"} for lang in rows}
    keys = fingerprint(recipe, {"/nowhere/a.conll": "size 1"}, inputs, {"align.encoder": encoder})
    units, parts = [], []
    for lang, all_rows in rows.items():
        for start in range(0, len(all_rows), unit_rows):
            some = all_rows[start : start + unit_rows]
            unit = Unit(
                *(unit_name(lang, start), lang, "train", start, start + len(some), None, (), (), ()), n_words=len(some)
            )
            part = table([{"id": f"s{start + n}", "split": "train", **row} for n, row in enumerate(some)], lang, start)
            parts.append(part)
            units.append(unit)
    sink = io.BytesIO()
    counts = {lang: len(all_rows) for lang, all_rows in rows.items()}
    pq.write_table(Index(units, ["PER"], {}, {}, counts, counts, 0, [], unit_rows).to_table(), sink)
    folder.begin(recipe, keys, sink.getvalue(), unit_rows)
    for unit, part in zip(units, parts, strict=True):
        part_files.write_part(folder.path("_run", "parts", "0001", f"{unit.name}.parquet"), part, {})
    publish.seal(folder.root, [], {})
    return path
