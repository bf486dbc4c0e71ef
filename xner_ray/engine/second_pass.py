"""Matching the rows of parts again: as the second matching of a run, and as the first of a run that rematches another.

    parts --count--> counts of some parts --merge--> prior of a language --match--> refined parts

What the first matching says of each language becomes a prior, and every unit is matched again. Parts stay as they are,
so every step can be repeated: each file is a function of the parts alone, is written in one step, and is not made again
if it exists. A language with fewer than `prior.LEAST_ROWS` emitted rows is matched again without a prior. Rows that
lack an entity are rejected by the last matching, if the recipe says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.data.arrow import with_column
from xner_ray.data.links import FLOOR, METHODS, Links
from xner_ray.data.row import OK
from xner_ray.engine.guard import run_stage
from xner_ray.errors import Reason
from xner_ray.match.prior import SCHEMA, Prior, count, merge, prune
from xner_ray.match.rows import READS, read
from xner_ray.match.stage import MatchStage
from xner_ray.read.index.units import Unit
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.run.counters import REFINE
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

MapTasks = Callable[..., Sequence[Any]]
Jobs = Sequence[tuple[str, str]]  # (part to read, part to write) each
_FAN_IN = 64  # files that one task adds up
_TASKS = 2_000  # of one step, and one more a language; more units share a task
_MWMF = np.uint8(1 << METHODS.index("mwmf"))


def make_priors(
    folder: RunFolder, units: Sequence[Unit], parts: Mapping[str, str], map_tasks: MapTasks
) -> dict[str, int]:
    """Publish the prior of every language from its parts; return the number of rows that each was counted from.

    All languages go through each level of adding up together: most of a run's many languages have few units.
    """
    of_lang: dict[str, list[str]] = {}
    for unit in units:
        of_lang.setdefault(unit.lang, []).append(parts[unit.name])
    output = folder.priors_folder
    priors = {lang: storage.join(output, f"{lang}.parquet") for lang in of_lang}
    todo = {lang: paths for lang, paths in of_lang.items() if not storage.exists(priors[lang])}
    step, level = count_parts, 0
    while todo:
        further: dict[str, list[str]] = {}
        calls: list[tuple[Sequence[str], str, bool]] = []
        for lang, paths in todo.items():
            groups = [paths[first : first + _FAN_IN] for first in range(0, len(paths), _FAN_IN)]
            if len(groups) == 1:
                calls.append((paths, priors[lang], True))
                continue
            further[lang] = [storage.join(output, f"{lang}-{level}-{n}.parquet") for n in range(len(groups))]
            calls += [(group, name, False) for group, name in zip(groups, further[lang], strict=True)]
        map_tasks(step, *zip(*calls, strict=True))
        step, level, todo = merge_counts, level + 1, further
    return {lang: Prior(_read(path)).n_rows for lang, path in priors.items()}


def count_parts(paths: Sequence[str], output: str, last: bool) -> None:
    """Add up the counts of some parts. last: nothing will be added, so forms that are too rare are dropped."""
    tables = [SCHEMA.empty_table()]
    for path in paths:
        table = part_files.read_part(path, list(READS))
        rows = read(table.filter(pc.equal(table.column("status"), OK)))
        tables.append(count(rows.source_tokens, rows.tokens, rows.earlier))
    _publish(merge(tables), output, last)


def merge_counts(paths: Sequence[str], output: str, last: bool) -> None:
    _publish(merge([_read(path) for path in paths]), output, last)


def _publish(table: pa.Table, path: str, last: bool) -> None:
    whole.publish(path, prune(table) if last else table)


def _read(path: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(whole.read(path)))


def refine_units(
    folder: RunFolder,
    units: Sequence[Unit],
    parts: Mapping[str, str],
    recipe: Recipe,
    labels: Sequence[str],
    map_tasks: MapTasks,
) -> None:
    """Publish the refined part of every unit that has none yet."""
    done, output, priors = folder.refined(), folder.refined_folder, folder.priors_folder
    todo: dict[str, list[tuple[str, str]]] = {}
    for unit in units:
        if unit.name not in done:
            todo.setdefault(unit.lang, []).append((parts[unit.name], storage.join(output, f"{unit.name}.parquet")))
    size = _share(sum(map(len, todo.values())))
    calls: list[tuple[Jobs, str, Recipe, Sequence[str]]] = []
    for lang, jobs in todo.items():
        calls += [
            (jobs[first : first + size], storage.join(priors, f"{lang}.parquet"), recipe, labels)
            for first in range(0, len(jobs), size)
        ]
    if calls:
        map_tasks(refine_parts, *zip(*calls, strict=True))


def match_units(jobs: Jobs, recipe: Recipe, labels: Sequence[str], map_tasks: MapTasks) -> None:
    """Match another run's parts for the first time, by this recipe."""
    in_tasks(match_parts, jobs, (recipe, labels), map_tasks)


def match_labelled_units(
    jobs: Sequence[tuple[str, str, str]], recipe: Recipe, labels: Sequence[str], map_tasks: MapTasks
) -> None:
    """Match another run's parts for the first time, by this recipe and by other tags of their target words.

    jobs: (part to read, file with `target_tags` of its rows, part to write) each.
    """
    in_tasks(match_labelled_parts, jobs, (recipe, labels), map_tasks)


def in_tasks(step: Callable[..., Any], jobs: Sequence[Any], same: Sequence[Any], map_tasks: MapTasks) -> None:
    """Call `step(some jobs, *same)` in at most `_TASKS` tasks that share all jobs."""
    size = _share(len(jobs))
    calls = [(jobs[first : first + size], *same) for first in range(0, len(jobs), size)]
    if calls:
        map_tasks(step, *zip(*calls, strict=True))


def _share(n_units: int) -> int:
    """Return the number of units in one task."""
    return max(1, -(-n_units // _TASKS))


def refine_parts(jobs: Jobs, prior_path: str, recipe: Recipe, labels: Sequence[str]) -> None:
    """Match some parts of one language again."""
    stage = MatchStage(recipe, Prior.from_parquet(whole.read(prior_path)))
    for part, output in jobs:
        _match_part(part, output, stage, REFINE, recipe, labels, last=True)


def match_parts(jobs: Jobs, recipe: Recipe, labels: Sequence[str]) -> None:
    """Match some parts of another run as if nothing had been matched there."""
    stage = MatchStage(recipe)
    for part, output in jobs:
        _match_part(part, output, stage, stage.name, recipe, labels, last=not recipe.two_passes)


def match_labelled_parts(jobs: Sequence[tuple[str, str, str]], recipe: Recipe, labels: Sequence[str]) -> None:
    """Match some parts of another run as if nothing had been matched there, by other tags of their target words."""
    stage = MatchStage(recipe)
    for part, tags, output in jobs:
        _match_part(part, output, stage, stage.name, recipe, labels, last=not recipe.two_passes, tags=tags)


def _match_part(
    part: str,
    output: str,
    stage: MatchStage,
    name: str,
    recipe: Recipe,
    labels: Sequence[str],
    *,
    last: bool,
    tags: str | None = None,
) -> None:
    """Match one part into another. last: incomplete rows are rejected if the recipe says so. tags: file of others."""
    # Given links are of every method, whichever the recipe names.
    table = unmatched(
        part_files.read_part(part), mwmf=recipe.align.method == "mwmf" or recipe.align.backend == "provided"
    )
    if tags is not None:
        table = with_column(table, "target_tags", _read(tags).column("target_tags"))
        # What the tagger of before said of the source is not comparable with these
        table = with_column(table, "source_opinions", pa.nulls(len(table), table.schema.field("source_opinions").type))
    stages = whole.counters(part)["stages"]
    table, stats = run_stage(stage, table)
    rejects = last and recipe.output.incomplete == "reject"
    table = part_files.finish(table, labels, reject_incomplete=rejects, doubtful=recipe.output.doubtful)
    part_files.write_part(output, table, {**part_files.count(table), "stages": {**stages, name: asdict(stats)}})


def unmatched(table: pa.Table, *, mwmf: bool) -> pa.Table:
    """Undo the last matching of rows, but for the cells that the next one overwrites.

    Rows that were rejected for want of an entity may have it now. A row that is rejected from here on has no tags.
    mwmf: whether the rows have the links of that method.
    """
    again = pc.fill_null(pc.equal(table.column("reason"), Reason.INCOMPLETE), False)
    nothing = pa.nulls(table.num_rows, table.schema.field("ner_tags").type)
    table = with_column(table, "ner_tags", nothing)
    if pc.any(again).as_py():
        for name, value in (("status", OK), ("reason", None), ("detail", None)):
            cell = pa.scalar(value, table.schema.field(name).type)
            table = with_column(table, name, pc.if_else(again, cell, table.column(name)))
    return table if mwmf else with_column(table, "links", _without_mwmf(table.column("links")))


def _without_mwmf(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Drop links that `mwmf` alone makes, which are not stored where it was not asked for (`align.sparse`)."""
    links = Links.from_arrow(column)
    if not (links.methods & _MWMF).any():
        return column
    links = replace(links, methods=links.methods & ~_MWMF)
    links = links.take((links.forward >= FLOOR) | (links.backward >= FLOOR) | (links.methods != 0))
    return pc.if_else(column.is_valid(), links.to_arrow(len(column)), pa.scalar(None, column.type))
