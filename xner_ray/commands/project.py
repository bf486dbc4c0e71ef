"""Making a data set: check the recipe, claim the folder, index the input once, run the missing units, seal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from xner_ray.commands.inspect import read_index
from xner_ray.commands.session import begin, opened, seal, seconds_of
from xner_ray.engine import pools as planning
from xner_ray.engine import ray_cluster, ray_data, resolve
from xner_ray.errors import Reason, RecipeError, did_you_mean
from xner_ray.read.index import Index, build_index
from xner_ray.read.inputs import identities
from xner_ray.read.rows import ReadPlan
from xner_ray.read.units import Unit
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.report.progress import Progress
from xner_ray.report.tables import Table
from xner_ray.run import parts as part_files
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

RecipeSource = str | os.PathLike[str] | Mapping[str, Any]


def project(
    recipe: RecipeSource,
    run: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    retry_rejects: Collection[str] = (),
    console: Console | None = None,
) -> Report:
    """Make the data set of `recipe` in the folder `run`, or go on with it; returns the report.

    The same call again does only what is missing. `fresh` discards what the folder holds. `retry_rejects`: units with
    rows that were rejected for one of these reasons (`errors.Reason`) are made again, for these rows alone: all other
    rows stay as they are. RecipeError, InputError and RunFolderError come before any work is done.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    _check_reasons(retry_rejects)
    folder = RunFolder(os.fspath(run))
    ray_cluster.refuse_passing(folder.root)
    checked, models = resolve.resolve(load_recipe(recipe, overrides))
    inputs, parallel = identities(checked)
    keys = fingerprint(checked, inputs, parallel, models)
    with opened(folder, checked, keys, console, fresh=fresh, again=_has_rejects(retry_rejects)) as report:
        if report is not None:
            return report
        with ray_cluster.cluster(checked.engine.address) as capacity:
            index = _index(folder, checked, keys)
            groups = planning.group(checked, capacity, len(index.units))
            ray_cluster.reserve(groups, capacity)
            labels = run_labels(checked, index.labels_found)
            done = folder.parts()
            missing = [unit for unit in index.units if unit.name not in done]
            _describe(console, checked, index, groups, missing)
            if not capacity.local and storage.is_local(folder.root):
                console.print(Text(f"{folder.root} is a local path: every node of the cluster must reach it there"))
            alone = capacity.local or not (missing or retry_rejects)
            workers = checked if alone else mirrored(checked, folder)
            if missing:
                pools = planning.shrink(groups, len(missing))
                _run(folder, workers, index, missing, pools, labels, started, console)
            else:
                folder.next_attempt()  # as every driver, so that the times of its files are known as its own
            if retry_rejects:
                retry = _to_retry(folder, index, retry_rejects)
                units = [unit for unit in index.units if unit.name in retry.parts]
                console.print(f"{len(units):,} units have rows that were rejected for {', '.join(retry_rejects)}")
                if units:
                    folder.unseal()
                    pools = planning.shrink(groups, len(units))
                    _run(folder, workers, index, units, pools, labels, started, console, retry)
            return seal(folder, checked, index, labels, started, console)


def mirrored(recipe: Recipe, folder: RunFolder) -> Recipe:
    """The recipe for workers on other machines: models of the hub are copied to the run's storage once."""
    from xner_ray.models import hub

    sections = {}
    for name in ("translate", "tag", "back_translate", "target_tag", "align", "likelihood"):
        section, key = getattr(recipe, name), "encoder" if name == "align" else "model"
        if (model := getattr(section, key)) is not None:
            place = hub.mirror(model, folder.path("_run", "models"))
            sections[name] = section.model_copy(update={key: place})
    return recipe.model_copy(update=sections)


def _check_reasons(names: Collection[str]) -> None:
    """RecipeError for a name that is no reason to reject a row."""
    for name in names:
        if name not in set(Reason):
            raise RecipeError(
                f"retry_rejects: {name!r} is no reason to reject a row{did_you_mean(name, map(str, Reason))}"
            )


def _has_rejects(reasons: Collection[str]) -> Callable[[Report | Mapping[str, Any]], bool]:
    """Whether a report counts rows that were rejected for one of `reasons`."""
    return lambda report: any(report["rejects"].get(reason) for reason in reasons)


def _to_retry(folder: RunFolder, index: Index, reasons: Collection[str]) -> part_files.Retry:
    parts = folder.parts()
    wanted = _has_rejects(reasons)
    found = {unit.name: parts[unit.name] for unit in index.units if wanted(part_files.part_counters(parts[unit.name]))}
    return part_files.Retry(found, frozenset(reasons))


def _index(folder: RunFolder, recipe: Recipe, keys: Mapping[str, Any]) -> Index:
    """The units as listed before, or a new scan; a scan for further targets keeps the units' size.

    What the run is comes to the folder with its units, not before: until the input could be read, nothing is fixed.
    """
    unit_rows = None
    if folder.is_run():
        old = read_index(folder)
        if {unit.lang for unit in old.units} >= set(recipe.languages):
            return old
        unit_rows = old.unit_rows
    index = build_index(recipe, map_files=ray_cluster.map_tasks, unit_rows=unit_rows, folder=folder.ids_folder)
    resolve.check_tags(recipe, run_labels(recipe, index.labels_found))
    begin(folder, recipe, keys, index)
    return index


def _describe(
    console: Console, recipe: Recipe, index: Index, groups: Sequence[planning.Group], missing: Sequence[Unit]
) -> None:
    rows = sum(unit.n_rows for unit in index.units)
    pools = ", ".join(f"{'+'.join(g.stages)} x {'-'.join(map(str, sorted(set(g.workers))))}" for g in groups)
    console.print(
        f"{rows:,} rows in {len(index.units):,} units for {', '.join(recipe.languages)}; "
        f"{len(missing):,} units to do; workers: {pools}"
    )
    for line in resolve.unweighted(recipe):
        console.print(Text(line))


def _run(
    folder: RunFolder,
    recipe: Recipe,
    index: Index,
    missing: Sequence[Unit],
    groups: Sequence[planning.Group],
    labels: Sequence[str],
    started: float,
    console: Console,
    retry: part_files.Retry | None = None,
) -> None:
    sizes = {unit.name: unit.n_rows for unit in missing}
    progress = Progress(
        ["read", *(name for pool in groups for name in pool.stages)],
        sizes,
        price_per_hour=recipe.engine.price_per_hour,
        seconds_before=seconds_of(folder.attempts()) + time.perf_counter() - started,
        rows_before=sum(unit.n_rows for unit in index.units) - sum(sizes.values()),
    )
    plan = ReadPlan(recipe, index.extra)

    def ready(unit: str, counters: Mapping[str, Any]) -> None:
        folder.still_ours()
        progress.add(unit, counters)

    with progress.shown(console):
        ray_data.run_units(
            missing,
            recipe=recipe,
            plan=plan,
            groups=groups,
            folder=folder,
            labels=labels,
            done=ready,
            watch=progress.watch,
            notice=lambda text: console.print(Text(text)),
            retry=retry,
        )


def plan(recipe: RecipeSource, *, overrides: Sequence[str] = ()) -> Group:
    """What `project` would do, as terminal output. The same errors as `project`; loads no model, writes nothing."""
    checked, models = resolve.resolve(load_recipe(recipe, overrides))
    with ray_cluster.cluster(checked.engine.address) as capacity:
        index = build_index(checked, map_files=ray_cluster.map_tasks, compare=False)
        groups = planning.group(checked, capacity, len(index.units))
    resolve.check_tags(checked, run_labels(checked, index.labels_found))
    more = ", and an autoscaler, which is asked for the rest when the run starts" if capacity.autoscaled else ""
    title = f"Pools (Ray has {capacity.cpus:g} CPUs, {capacity.gpus:g} GPUs{more})"
    pools = Table(title, ["stages", "workers"], ["CPUs", "GPUs", "threads"])
    for pool in groups:
        low, high = pool.workers
        workers = str(high) if low == high else f"{low} to {high}"
        pools.add_row(" + ".join(pool.stages), workers, f"{pool.cpus:g}", f"{pool.gpus:g}", str(pool.threads))
    rows = Table("Input", ["language"], ["rows", "words", "units"])
    for lang in checked.languages:
        units = sum(unit.lang == lang for unit in index.units)
        rows.add_row(lang, f"{index.n_rows[lang]:,}", f"{index.n_words[lang]:,}", f"{units:,}")
    columns = planning.columns(index.extra)
    lines = [
        f"direction {checked.direction}; source side {checked.source_side}; text "
        + ("given" if checked.translate_engine == "provided" else f"by {checked.translate_engine}"),
        f"labels: {', '.join(run_labels(checked, index.labels_found)) or 'none'}"
        + (f"; dropped: {', '.join(index.labels_dropped)}" if index.labels_dropped else ""),
        *[f"{key}: {name} ({identity[:12]})" for key, name, identity in resolve.model_lines(checked, models)],
        f"columns: {', '.join(columns)}",
        *resolve.notices(checked),
    ]
    return Group(pools, rows, *map(Text, lines))
