"""The second matching: what the first one says of each language becomes a prior, and every unit is matched again.

    parts --count--> counts of some parts --merge--> prior of a language --match--> refined parts

Parts stay as they are, so every step can be repeated: each file is a function of the parts alone, is written in one
step, and is not made again if it exists. A language with fewer than `prior.LEAST_ROWS` emitted rows is matched again
without a prior. Rows that lack an entity are rejected here, if the recipe says so, and not in the first matching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray import projection, storage, write
from xner_ray.errors import Reason
from xner_ray.folder import RunFolder
from xner_ray.guard import run_stage
from xner_ray.prior import SCHEMA, Prior, count, merge, prune
from xner_ray.read.units import Unit
from xner_ray.recipe import Recipe
from xner_ray.schema import OK
from xner_ray.stages import MatchStage

MapTasks = Callable[..., Sequence[Any]]
STAGE = "refine"
_FAN_IN = 64  # files that one task adds up
_TASKS = 2_000  # of one step; more units share a task


def make_priors(
    folder: RunFolder, units: Sequence[Unit], parts: Mapping[str, str], map_tasks: MapTasks
) -> dict[str, int]:
    """Publish the prior of every language from its parts; the emitted rows that each was counted from."""
    rows = {}
    for lang in dict.fromkeys(unit.lang for unit in units):
        path = folder.prior_path(lang)
        if not storage.exists(path):
            step, paths = count_parts, [parts[unit.name] for unit in units if unit.lang == lang]
            level = 0
            while True:
                groups = [tuple(paths[first : first + _FAN_IN]) for first in range(0, len(paths), _FAN_IN)]
                last = len(groups) == 1
                names = [path if last else folder.prior_path(f"{lang}-{level}-{n}") for n in range(len(groups))]
                map_tasks(step, groups, names, [last] * len(groups))
                if last:
                    break
                step, paths, level = merge_counts, names, level + 1
        rows[lang] = Prior(_read(path)).n_rows
    return rows


def count_parts(paths: Sequence[str], output: str, last: bool) -> None:
    """Add up the counts of some parts. `last`: nothing is added to it any more, so useless forms go."""
    tables = [SCHEMA.empty_table()]
    for path in paths:
        table = write.read_part(path, list(projection.READS))
        rows = projection.read(table.filter(pc.equal(table.column("status"), OK)))
        tables.append(count(rows.source_tokens, rows.tokens, *rows.earlier))
    _publish(merge(tables), output, last)


def merge_counts(paths: Sequence[str], output: str, last: bool) -> None:
    _publish(merge([_read(path) for path in paths]), output, last)


def _publish(table: pa.Table, path: str, last: bool) -> None:
    sink = BytesIO()
    pq.write_table(prune(table) if last else table, sink, compression="zstd")
    storage.publish(path, sink.getvalue())


def _read(path: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(storage.read_bytes(path)))


def refine_units(
    folder: RunFolder,
    units: Sequence[Unit],
    parts: Mapping[str, str],
    recipe: Recipe,
    labels: Sequence[str],
    map_tasks: MapTasks,
) -> None:
    """Publish the refined part of every unit that has none yet."""
    done = folder.refined()
    for lang in dict.fromkeys(unit.lang for unit in units):
        todo = [unit.name for unit in units if unit.lang == lang and unit.name not in done]
        size = -(-len(todo) // _TASKS) if todo else 1
        shares = [todo[first : first + size] for first in range(0, len(todo), size)]
        jobs = [[(parts[name], folder.refined_path(name)) for name in share] for share in shares]
        same = [[value] * len(jobs) for value in (folder.prior_path(lang), recipe, labels)]
        if jobs:
            map_tasks(refine_parts, jobs, *same)


def refine_parts(jobs: Sequence[tuple[str, str]], prior_path: str, recipe: Recipe, labels: Sequence[str]) -> None:
    """Match some parts again: (part, refined part) each."""
    stage = MatchStage(recipe, Prior.from_parquet(storage.read_bytes(prior_path)))
    for part, output in jobs:
        rematch_part(part, output, stage, STAGE, recipe, labels, last=True)


def match_parts(jobs: Sequence[tuple[str, str]], recipe: Recipe, labels: Sequence[str]) -> None:
    """The first matching of another run's parts, by this recipe: (its part, ours) each."""
    stage = MatchStage(recipe)
    for part, output in jobs:
        rematch_part(part, output, stage, stage.name, recipe, labels, last=not recipe.match.two_passes)


def rematch_part(
    part: str, output: str, stage: MatchStage, name: str, recipe: Recipe, labels: Sequence[str], *, last: bool
) -> None:
    """One part through the matcher, into another. `last`: incomplete rows are rejected if the recipe says so."""
    table = _unreject(write.read_part(part))
    stages = write.part_counters(part)["stages"]
    table, stats = run_stage(stage, table)
    table = write.finish(table, labels, reject_incomplete=last and recipe.output.incomplete == "reject")
    write.write_part(output, table, {**write.count(table), "stages": {**stages, name: asdict(stats)}})


def _unreject(table: pa.Table) -> pa.Table:
    """Rows that were rejected for want of an entity may have it now."""
    again = pc.fill_null(pc.equal(table.column("reason"), Reason.INCOMPLETE), False)
    if not pc.any(again).as_py():
        return table
    for name, value in (("status", OK), ("reason", None), ("detail", None)):
        field = table.schema.field(name)
        column = pc.if_else(again, pa.scalar(value, field.type), table.column(name))
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
