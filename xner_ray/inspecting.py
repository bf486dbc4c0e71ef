"""Looking at a run, from its folder alone: no Ray, no model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Group
from rich.text import Text

from xner_ray import evaluation, explanation, exporting, planning, storage, write
from xner_ray import report as reporting
from xner_ray.errors import InputError, RunFolderError, StorageError
from xner_ray.folder import RunFolder
from xner_ray.prior import Prior
from xner_ray.read.index import Index
from xner_ray.recipe import Recipe


def read_index(folder: RunFolder) -> Index:
    """The units as listed when the run began."""
    return Index.from_table(pq.read_table(pa.BufferReader(storage.read_bytes(folder.units_path))))


def run_report(
    index: Index, parts: Mapping[str, str], labels: Sequence[str], seconds: float, recipe: Recipe
) -> dict[str, Any]:
    """The report of the units that have a part, from their footers."""
    done = [unit for unit in index.units if unit.name in parts]
    counters = write.counters_of([parts[unit.name] for unit in done])
    counted = ((unit.lang, counted) for unit, counted in zip(done, counters, strict=True))
    scanned = {"labels_dropped": index.labels_dropped, "repaired": index.repaired}
    report = reporting.summarize(counted, index=scanned, labels=labels, seconds=seconds)
    rows = report["rows"]
    report["reject_rate"] = rows["rejected"] / rows["read"] if rows["read"] else 0.0
    report["max_reject_rate"] = recipe.output.max_reject_rate
    return report


def status(run: str | os.PathLike[str]) -> Group:
    """How far a run is, from its folder alone, also of a dead one, as terminal output."""
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    index, refined = read_index(folder), folder.refined()
    parts = {**folder.parts(), **refined}
    report = run_report(index, parts, planning.run_labels(recipe, index.labels_found), 0.0, recipe)
    left = [unit for unit in index.units if unit.name not in parts]
    rows_left = sum(unit.n_rows for unit in left)
    sealed = folder.sealed()
    state = "sealed: the data set is complete" if sealed is not None and not left else "not sealed"
    lines = [
        f"{folder.root}: {state}",
        f"units: {len(index.units) - len(left):,} done, {len(left):,} left ({rows_left:,} rows)",
        *([f"second matching: {len(refined):,} of {len(index.units):,} units"] if recipe.two_passes else []),
    ]
    return Group(*map(Text, lines), reporting.tables(report))


def _tables(folder: RunFolder, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts of a run in row order; of an unfinished one those that are there."""
    folder.recipe()  # or there is no run
    parts = {**folder.parts(), **folder.refined()}
    for unit in read_index(folder).units:
        if unit.name in parts:
            yield write.read_part(parts[unit.name], columns)


def evaluate(run: str | os.PathLike[str]) -> list[evaluation.Evaluation]:
    """Scores of a run against the gold labels of its target side, per language; empty without gold."""
    return evaluation.evaluate(_tables(RunFolder(os.fspath(run)), evaluation.COLUMNS))


def explain(run: str | os.PathLike[str], row_id: str, lang: str | None = None) -> Group:
    """One sentence of a run through every stage, as terminal output. InputError if there is no such id."""
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    index = read_index(folder)
    labels = planning.run_labels(recipe, index.labels_found)
    first, refined = folder.parts(), folder.refined()
    shown, known = [], None
    for unit in index.units:
        if unit.name not in first or (lang is not None and unit.lang != lang):
            continue
        table = write.read_part(first[unit.name])
        known = known or (table.column("id")[0].as_py() if table.num_rows else None)
        at = pc.index(table.column("id"), row_id).as_py()
        if at >= 0:
            final, prior = table, None
            if unit.name in refined:
                final = write.read_part(refined[unit.name])
                prior = Prior.from_parquet(storage.read_bytes(f"{folder.priors_folder}/{unit.lang}.parquet"))
            row = final.slice(at, 1).to_pylist()[0]
            shown.append(explanation.explain(row, table.slice(at, 1), recipe, prior, labels))
    if not shown:
        raise InputError(
            f"{folder.root}: no sentence has the id {row_id!r}"
            + (f" in {lang}" if lang else "")
            + (f"; ids look like {known!r}" if known else "")
        )
    return Group(*shown)


def sample(run: str | os.PathLike[str], lang: str, n_rows: int) -> list[dict[str, Any]]:
    """The first `n_rows` emitted rows of a language that have a projected entity."""
    rows: list[dict[str, Any]] = []
    for table in _tables(RunFolder(os.fspath(run))):
        wanted = pc.and_(pc.equal(table.column("lang"), lang), pc.equal(table.column("status"), "ok"))
        wanted = pc.and_(wanted, pc.greater(pc.fill_null(pc.list_value_length(table.column("spans")), 0), 0))
        rows += table.filter(wanted).slice(0, n_rows - len(rows)).to_pylist()
        if len(rows) >= n_rows:
            break
    return rows


def export(
    run: str | os.PathLike[str],
    *,
    to: Literal["conll", "jsonl"] = "conll",
    output: str | os.PathLike[str] | None = None,
    ids: bool = False,
) -> list[str]:
    """Write the emitted rows of a sealed run, one file per language and split; returns the files' paths."""
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    sealed = folder.sealed()
    if sealed is None:
        raise RunFolderError(f"{folder.root}: not sealed yet; finish the run first")
    target = folder.path("export") if output is None else os.fspath(output)
    written = []
    for lang in recipe.languages:
        data = [entry["file"] for entry in sealed if entry["file"].startswith(f"data/{lang}/")]
        splits = sorted({file.split("/")[-1].removeprefix("incomplete-").split("-")[0] for file in data})
        for split in splits:
            files = [f for f in data if f.split("/")[-1].removeprefix("incomplete-").startswith(f"{split}-")]
            rows = (row for file in files for row in write.read_part(folder.path(file)).to_pylist())
            lines = exporting.conll(rows, ids=ids) if to == "conll" else exporting.jsonl(rows)
            path = storage.join(target, f"{lang}.{split}.{to}")
            try:
                storage.publish(path, "".join(lines).encode())
            except StorageError as error:
                raise RunFolderError(f"{error}; name another folder") from None
            written.append(path)
    return written
