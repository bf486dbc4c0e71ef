"""The commands `project` and `plan`: check the recipe, claim the folder, index the input, run missing units, seal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from xner_ray.commands.inspect import pace_of
from xner_ray.commands.session import Begun, Session, begin, far_stamps, known_index, opened, own_damage, seconds_of
from xner_ray.data.row import row_schema
from xner_ray.engine import choice as executors
from xner_ray.engine import resolve
from xner_ray.engine.choice import Choice, before_the_scan, by_work, reaches_ray, refuse_passing
from xner_ray.engine.executor import Events, Executor, Work, loading
from xner_ray.engine.inline import InlineExecutor, deadly
from xner_ray.engine.pools import Capacity, assumed, group, local_capacity, shrink
from xner_ray.engine.pools import Group as Pool
from xner_ray.errors import (
    FatalError,
    InputError,
    MissingExtraError,
    RecipeError,
    RetryableError,
    StorageError,
)
from xner_ray.read.find import contents, paths, stamps
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit
from xner_ray.recipe.fingerprint import digest, fingerprint, of_files
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.report.progress import Progress
from xner_ray.report.shown import Shown
from xner_ray.report.sizing import estimate_table
from xner_ray.report.tables import Table
from xner_ray.run import parts as part_files
from xner_ray.run import retries
from xner_ray.run.attempts import attempts
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.run.record import as_recorded
from xner_ray.sizing.estimate import estimate, split
from xner_ray.storage import files as storage
from xner_ray.storage import hub

_EARLY_BYTES = 1 << 26  # an input of this size is read within a minute
RecipeSource = str | os.PathLike[str] | Mapping[str, Any]


def project(
    recipe: RecipeSource,
    run: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    retry_rejects: Collection[str] = (),
    allow_rejects: bool = False,
    console: Console | None = None,
) -> Report:
    """Make the data set of `recipe` in the folder `run`, or resume it; return the report.

    The same call again does only what is missing. `fresh` discards what the folder holds. `retry_rejects`: units with
    rows that were rejected for one of these reasons (`errors.Reason`) are made again, for these rows alone: all other
    rows stay as they are; with `["none"]` the run is finished without a retry that was begun. `allow_rejects` begins
    even where the input has more bad rows than the recipe allows.
    RecipeError, InputError and RunFolderError come before any work is done.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    retry_rejects, gives_up = retries.asked(retry_rejects)
    folder = RunFolder(os.fspath(run))
    refuse_passing(folder.root)
    given = load_recipe(recipe, overrides)
    hub.begin(None)
    early = None if folder.is_run() and not fresh else _read_early(given)
    if early is not None:
        _judge(early, given, allow_rejects)
    with own_damage(folder):
        begun = _begun(given, folder, fresh, lambda line: console.print(Text(line)))
    checked = begun.recipe
    with (
        own_damage(folder),
        opened(folder, begun, console, fresh=fresh, again=retries.has_rejects(retry_rejects)) as report,
        ExitStack() as stack,
    ):
        if report is not None:
            return report
        choice = None if begun.gone else before_the_scan(checked, begun.input_bytes)
        executor = stack.enter_context(executors.opened(choice.name if choice else "inline", checked))
        index = _index(folder, begun, executor, early, allow_rejects)
        done = folder.parts()
        missing = [unit for unit in index.units if unit.name not in done]
        if choice is None:
            choice = _by_rows(checked, folder, missing or index.units)
            if choice.name == "ray":
                executor = stack.enter_context(executors.opened("ray", checked))
        session = Session(folder, checked, index, executor, console, started)
        groups = group(checked, executor.capacity, len(index.units))
        _describe(session, groups, missing, choice)
        # What a sealed run lacks was there: it is made again.
        begun_retry = not folder.is_sealed()
        if gives_up and begun_retry and (dropped := retries.give_up(folder)):
            session.say(f"{len(dropped):,} units keep the rows that were rejected: their retry is given up")
        due = {unit.name for unit in missing} | (retries.due(folder).keys() & session.sizes.keys())
        works, lacks = due or retry_rejects, session.lacks_background()
        if (works or lacks) and begun.gone:
            raise _nothing_to_make_of(
                begun, folder, due, retry_rejects, can_end=begun_retry and not missing and not lacks
            )
        workers = _placed(checked, folder, session) if works or lacks else checked
        workers = session.with_background(workers) if "image" in checked.stages else workers
        if missing:
            make_units(session, missing, groups, workers)
        else:
            folder.next_attempt()  # as every driver, so that the times of its files are known as its own
        if retry_rejects:
            units = retries.units_with(folder.parts(), index.units, retry_rejects)
            session.say(f"{len(units):,} units have rows that were rejected for {', '.join(retry_rejects)}")
            if units:
                retries.plan(folder, units, retry_rejects)
        if reasons := retries.due(folder):
            parts = folder.parts()
            if again := [unit for unit in index.units if unit.name in reasons]:
                retry = part_files.Retry({unit.name: parts[unit.name] for unit in again}, reasons)
                make_units(session, again, groups, workers, retry)
        return session.seal()


def _begun(given: Recipe, folder: RunFolder, fresh: bool, say: Callable[[str], None]) -> Begun:
    """Make a recipe definite; where that cannot be done any more, take what the run of the same recipe recorded.

    RecipeError, InputError or RetryableError if neither can be.
    """
    wanted = digest(given)
    record = folder.record() if folder.is_run() and not fresh else None
    if record:
        hub.begin(record.commits)
    try:
        texts = resolve.check_cheap(given)
        known = resolve.recorded(given, folder) if record else {}
        if names := loading(given):
            say(f"looking at models: {names}")
        checked, models = resolve.resolve(given, recorded=known, say=say)
        files = of_files(*texts.identities(paths))
        before = far_stamps(files)
        inputs, parallel = texts.identities(partial(contents, known=record.tags if record else None))
        same = {key: stamp for key, stamp in far_stamps(files).items() if before.get(key) == stamp}
        keys = fingerprint(checked, inputs, parallel, models)
        keys = as_recorded(keys, record, lambda: of_files(*texts.identities(stamps)))
        return Begun(checked, keys, resolve.asked(given), wanted, files, hub.commits(), texts.n_bytes, stamps=same)
    except (RecipeError, InputError, RetryableError, StorageError, MissingExtraError) as error:
        if record is None or record.given != wanted or not dict(given.models()).items() <= record.asked.items():
            raise
        now = {"engine": given.engine, "output": given.output}
        return Begun(folder.recipe().model_copy(update=now), record.keys, record.asked, wanted, gone=str(error))


def _placed(recipe: Recipe, folder: RunFolder, session: Session) -> Recipe:
    """Return the recipe for the workers, whose models are where they find them: so the hub is asked by the driver."""
    if not session.executor.capacity.local:
        return mirrored(recipe, folder, session.say)
    resolve.ready(recipe, session.say)
    return recipe


def mirrored(recipe: Recipe, folder: RunFolder, say: Callable[[str], None] = lambda line: None) -> Recipe:
    """Return the recipe for workers on other machines; models of the hub are copied to the run's storage once."""
    from xner_ray.models.hub import mirror

    places = {key: mirror(model, folder.path("_run", "models"), say) for key, model in recipe.models()}
    return recipe.with_models(places)


def _nothing_to_make_of(
    begun: Begun, folder: RunFolder, units: Collection[str], reasons: Collection[str], *, can_end: bool
) -> FatalError:
    """Return the error of a run whose input or models are gone. can_end: only retries that were begun are left."""
    what = "rejected rows are to be tried again" if reasons else "pictures are to be read again"
    if units:
        what = f"{len(units):,} units are to be made, the first is {min(units)}"
    way_out = f" (--retry-rejects {retries.NONE} finishes the run without a retry)" if can_end and units else ""
    return FatalError(f"{folder.root}: {what}, and that cannot be: {begun.gone}{way_out}")


def _by_rows(recipe: Recipe, folder: RunFolder, units: Sequence[Unit]) -> Choice:
    """Choose the executor once the rows to do are counted."""
    choice = by_work(recipe, sum(unit.n_rows for unit in units), len(units))
    if choice.name == "inline" and (unit := deadly(folder, units)):
        return Choice("ray", f"processes died in unit {unit}; if a row kills them, Ray's workers find it")
    return choice


def _read_early(given: Recipe) -> Index | None:
    """Scan a small input before any model is asked for; None: a large one is scanned by the workers of the run."""
    texts = resolve.check_cheap(given)
    return build_index(given) if texts.n_bytes <= _EARLY_BYTES else None


def _judge(index: Index, recipe: Recipe, allow: bool) -> None:
    """Raise InputError if more rows will be rejected than the recipe allows."""
    if (worst := index.reject_rate) > recipe.output.max_reject_rate and not allow:
        found = "".join(f"\n  {line}" for line in index.problems())
        raise InputError(
            f"{worst:.2%} of the rows will be rejected, output.max_reject_rate is {recipe.output.max_reject_rate:.2%}:"
            f"{found}\nMend the input, or give --allow-rejects to go on without these rows."
        )


def _index(folder: RunFolder, begun: Begun, executor: Executor, early: Index | None, allow_rejects: bool) -> Index:
    """Return the units as listed before, or scan the input; a scan for further targets keeps the units' size.

    What the run is comes to the folder with its units, not before: until the input could be read, nothing is fixed.
    early: what a scan has found already.
    """
    recipe, unit_rows = begun.recipe, None
    if folder.is_run():
        unit_rows = folder.record().unit_rows
        if (old := known_index(folder)) is not None:
            if {unit.lang for unit in old.units} >= set(recipe.languages):
                return old if begun.gone else old.bound(recipe)
            unit_rows = old.unit_rows
    if begun.gone:
        raise FatalError(f"{folder.units_path} is to be made again, and that cannot be: {begun.gone}")
    index = early
    if index is None or unit_rows is not None:
        index = build_index(recipe, map_files=executor.map, unit_rows=unit_rows, folder=folder.ids_folder)
    if not folder.is_run():
        _judge(index, recipe, allow_rejects)
    resolve.check_contexts(recipe, index.extra)
    resolve.check_labels(recipe, run_labels(recipe, index.labels_found))
    begin(folder, begun, index)
    return index


def _describe(session: Session, groups: Sequence[Pool], missing: Sequence[Unit], choice: Choice) -> None:
    recipe, units, capacity = session.recipe, session.index.units, session.executor.capacity
    size = session.index.unit_rows
    session.say(
        f"{sum(unit.n_rows for unit in units):,} rows in {len(units):,} units of up to {size:,} rows for "
        f"{', '.join(recipe.languages)}; {len(missing):,} units to do"
    )
    if recipe.engine.unit_rows is not None and size % recipe.unit_rows:  # it may have grown
        session.say(f"engine.unit_rows is {recipe.unit_rows:,}, but a run keeps the units that it began with")
    session.say(_where(groups, choice))
    shown = [*session.index.said, *session.index.problems()] if missing else []
    for line in [*shown, *_commits(), *resolve.unweighted(recipe), *resolve.untrained(recipe)]:
        session.say(line)
    for line in resolve.test_models(recipe):
        session.console.print(Text(line, "bold red"))
    root = session.folder.root
    if not capacity.local and storage.is_local(root):
        session.say(f"{root} is a local path: every node of the cluster must reach it there")
    if not capacity.local and (on_cpus := resolve.formats_on_cpus(recipe)):
        session.say(
            f"{', '.join(on_cpus)}: timed where the run began; nodes with another CPU compute so too, maybe slowly"
        )


def _commits() -> list[str]:
    """Return a line for each revision of a data set on the hub that this command reads."""
    return [f"{hub.SCHEME}datasets/{name}: commit {commit}" for name, commit in hub.commits().items()]


def make_units(
    session: Session,
    units: Sequence[Unit],
    groups: Sequence[Pool],
    recipe: Recipe,
    retry: part_files.Retry | None = None,
) -> None:
    """Make the parts of units. recipe: as workers get it, with models where their machines find them."""
    folder, sizes = session.folder, {unit.name: unit.n_rows for unit in units}
    folder.unseal()  # else, if this is cut short, the run would pass for whole with parts that were never published
    progress = Progress(
        ["read", *(name for pool in groups for name in pool.stages)],
        sizes,
        price_per_hour=recipe.engine.price_per_hour,
        seconds_before=seconds_of(attempts(folder)) + time.perf_counter() - session.started,
        rows_before=sum(unit.n_rows for unit in session.index.units) - sum(sizes.values()),
    )
    work = Work(recipe, session.read_plan(), shrink(groups, len(units)), folder, session.labels, retry)

    def done(unit: str, counters: Mapping[str, Any]) -> None:
        folder.still_ours()
        progress.add(unit, counters)

    with progress.shown(session.console):
        session.executor.run_units(units, work, Events(done, progress.watch, session.say))
        progress.settle(pace_of(folder, session.sizes))


def _where(groups: Sequence[Pool], choice: Choice) -> str:
    """Say who does the work, and why."""
    if choice.name == "inline":
        return f"in this process: {'+'.join(name for pool in groups for name in pool.stages)} ({choice.why})"
    pools = ", ".join(f"{'+'.join(pool.stages)} x {_workers(pool)}" for pool in groups)
    return f"on Ray: {pools} workers ({choice.why})"


def _workers(pool: Pool) -> str:
    low, high = pool.workers
    return str(high) if low == high else f"{low} to {high}"


def plan(
    recipe: RecipeSource, *, overrides: Sequence[str] = (), assume: str | None = None, offline: bool = False
) -> Shown:
    """Return what `project` would do. The same errors as `project`; loads no model, writes nothing.

    A cluster is asked what it has; a Ray of this machine's own is not started. assume: nodes to plan for instead, see
    `pools.assumed`, and what `sizing.estimate.split` takes. offline: whether models are not looked at, so that no hub
    is asked, and packages of other machines not missed.
    """
    given = load_recipe(recipe, overrides)
    said: list[str] = []
    texts = resolve.check_cheap(given, said.append if offline else None)
    nodes, beside = split(assume or "")
    instead = assumed(nodes) if nodes else None
    choice = before_the_scan(given, texts.n_bytes) if instead is None else Choice("ray", f"--assume {assume}")
    joins = instead is None and choice is not None and choice.name == "ray" and reaches_ray(given)
    with executors.opened("ray", given) if joins else nullcontext(InlineExecutor(given)) as executor:
        index = build_index(given, map_files=executor.map)
        resolve.check_contexts(given, index.extra)
        checked, models = (
            (resolve.with_engine(given, offline=True), {}) if offline else resolve.resolve(given, say=said.append)
        )
        n_rows, n_words, n_units = index.n_rows, index.n_words, len(index.units)
        if beside.rows is not None:
            n_words = {lang: n * beside.rows // max(1, n_rows[lang]) for lang, n in n_words.items()}
            n_rows = dict.fromkeys(n_rows, beside.rows)
            n_units = len(n_rows) * -(-beside.rows // index.unit_rows)
        choice = choice or by_work(checked, sum(n_rows.values()), n_units)
        starts = choice.name == "ray" and not joins
        capacity = instead or (local_capacity(checked) if starts else executor.capacity)
        groups = group(checked, capacity, n_units)
    found = estimate(checked, groups, n_rows, n_words, cpus=capacity.cpus, in_process=capacity.in_process, given=beside)
    if offline:
        named = ", ".join(f"{key} {name}" for key, name in checked.models())
        said.append(f"models were not looked at (--offline): {named or 'there are none'}")
        if on_cpus := resolve.formats_on_cpus(checked):
            said.append(f"{', '.join(on_cpus)}: not timed (--offline); float32 where that is faster as the run begins")
    else:
        resolve.check_labels(checked, run_labels(checked, index.labels_found))
    rows = Table("Input", ["language"], ["rows", "words", "units"])
    for lang in checked.languages:
        units = sum(unit.lang == lang for unit in index.units)
        rows.add_row(lang, f"{index.n_rows[lang]:,}", f"{index.n_words[lang]:,}", f"{units:,}")
    lines = [
        _where(groups, choice),
        f"direction {checked.direction}; source side {checked.source_side}; text "
        + ("given" if checked.translate_engine == "provided" else f"by {checked.translate_engine}"),
        f"labels: {', '.join(run_labels(checked, index.labels_found)) or 'none'}"
        + (f"; dropped: {', '.join(index.labels_dropped)}" if index.labels_dropped else ""),
        *[f"{key}: {name} ({identity[:12]})" for key, name, identity in resolve.model_lines(checked, models)],
        f"columns: {', '.join(row_schema(index.extra, images=checked.with_images).names)}",
        *index.said,
        *index.problems(),
        *said,
        *_commits(),
        *resolve.notices(checked),
    ]
    if index.reject_rate > checked.output.max_reject_rate:
        lines.append(f"project stops: {index.reject_rate:.2%} of the rows, more than output.max_reject_rate")
    return Shown(_pools_table(groups, capacity), rows, estimate_table(found), *map(Text, lines))


def _pools_table(groups: Sequence[Pool], capacity: Capacity) -> Table:
    if capacity.in_process:
        title = "Stages, one after the other in this process"
    else:
        more = ", and an autoscaler, which is asked for the rest when the run starts" if capacity.autoscaled else ""
        title = f"Pools ({capacity.who} has {capacity.cpus:g} CPUs, {capacity.gpus:g} GPUs{more})"
    table = Table(title, ["stages", "workers"], ["CPUs", "GPUs", "threads"])
    for pool in groups:
        table.add_row(" + ".join(pool.stages), _workers(pool), f"{pool.cpus:g}", f"{pool.gpus:g}", str(pool.threads))
    return table
