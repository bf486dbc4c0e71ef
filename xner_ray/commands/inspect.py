"""The commands `status`, `evaluate`, `explain` and `report`: a run seen from its folder."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray import defaults
from xner_ray.data.row import row_schema
from xner_ray.errors import InputError, RunFolderError, XnerError
from xner_ray.evaluate import counting
from xner_ray.evaluate import scores as evaluation
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit
from xner_ray.recipe import model
from xner_ray.recipe.model import Recipe
from xner_ray.report.progress import cost, moment
from xner_ray.report.shown import Shown
from xner_ray.report.status import Status
from xner_ray.run import parts as part_files
from xner_ray.run import repair, whole
from xner_ray.run.attempts import Attempt, attempts, last_driver
from xner_ray.run.counters import Report, summarize
from xner_ray.run.folder import RunFolder
from xner_ray.run.pace import Pace, busy_seconds, pace
from xner_ray.storage import files as storage

PAGE = "report.html"


def read_index(folder: RunFolder) -> Index:
    """Return the units as listed when the run began."""
    # ParquetFile, not read_table: that one imports pyarrow.dataset, and with it pandas.
    data = folder.read_record("units.parquet")
    with whole.reading(folder.units_path):
        return Index.from_table(pq.ParquetFile(pa.BufferReader(data)).read())


def read_report(folder: RunFolder) -> Report:
    """Return the report of a sealed run."""
    with whole.reading(folder.path("report.json")):
        return Report.from_dict(json.loads(folder.read_document("report.json")))


def run_report(
    index: Index, parts: Mapping[str, str], labels: Sequence[str], seconds: float, recipe: Recipe, folder: RunFolder
) -> Report:
    """Return the report of the units that have a part, from their footers."""
    done = [unit for unit in index.units if unit.name in parts]
    counters = part_files.counters_of([parts[unit.name] for unit in done], folder.record().identity)
    return summarize(
        ((unit.lang, counted) for unit, counted in zip(done, counters, strict=True)),
        labels=labels,
        dropped=index.labels_dropped,
        repaired_tags=index.repaired,
        seconds=seconds,
        max_reject_rate=recipe.output.max_reject_rate,
    )


def pace_of(folder: RunFolder, sizes: Mapping[str, int]) -> Pace:
    """Return the pace of a run before its second matching, by the times of its files. sizes: unit -> rows."""
    driver, parts = last_driver(attempts(folder)), folder.parts()
    if driver is None:
        return Pace()
    finished = {unit: time for unit, time in driver.parts.items() if unit in parts and unit in sizes}
    return pace(finished, sizes, lambda unit: busy_seconds(whole.counters(parts[unit])), driver.started)


def run_progress(run: str | os.PathLike[str], *, now: float | None = None) -> dict[str, Any]:
    """Return the progress of a run, dead or alive, from its folder: plain data, as `status --json` prints it.

    Rates are those of the last driver that finished a unit, up to its last unit; `seconds_left` follows from them,
    whether a driver is alive or not. `seconds` and `cost` cover all drivers, each from the start of its first unit to
    its last file. `second_matching` has the same figures for that pass; None if the recipe has no such pass.
    `driver_lives` is None where it cannot be known. now: seconds since the epoch, by default the clock's time.
    RunFolderError if there is no run.
    """
    now = time.time() if now is None else now
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    index, refined, drivers = read_index(folder), folder.refined(), attempts(folder)
    sizes = {unit.name: unit.n_rows for unit in index.units}
    made = {name: path for name, path in {**folder.parts(), **refined}.items() if name in sizes}
    lives, total = folder.is_claimed(), sum(sizes.values())
    nobody = Attempt(now, now, {}, {})
    first, second = last_driver(drivers) or nobody, last_driver(drivers, again=True) or nobody
    last = max((attempt.last for attempt in drivers), default=now)

    def busy(unit: str, *, again: bool = False) -> float:
        return busy_seconds(whole.counters(made[unit]), again=again)

    passes = {"first": _figures(sizes, made, first.parts, busy, first.started)}
    if recipe.two_passes:
        began = max([second.started, *second.parts.values()])
        passes["second"] = _figures(sizes, refined, second.refined, partial(busy, again=True), began)
    labels = model.run_labels(recipe, index.labels_found)
    sealed = folder.is_sealed() and {unit.lang for unit in index.units} >= set(recipe.languages)
    if sealed:
        repair.require_whole(folder, list(sizes), two_passes=recipe.two_passes)
    rows_done = passes["first"]["rows"]["done"]
    seconds = sum(attempt.seconds for attempt in drivers)
    left = [figures["seconds_left"] for figures in passes.values()]
    price = cost(
        recipe.engine.price_per_hour,
        seconds,
        rows_done,
        seconds_left=None if left[0] is None else sum(each or 0.0 for each in left),
        rows_left=total - rows_done,
    )
    if sealed:  # the driver counted from its start, not from its first file; and a copy's files have other times
        report = read_report(folder)
        price = report.cost or price
        passes["first"]["rows_per_second"] = report.rows_per_second or passes["first"]["rows_per_second"]
    return {
        "run": folder.root,
        "sealed": sealed,
        "driver_lives": lives,
        "drivers": len(drivers),
        **passes["first"],
        "second_matching": passes.get("second"),
        "seconds": round(seconds, 1),
        "seconds_since_last_file": round(now - last, 1) if drivers else None,
        "cost": price,
        "report": run_report(index, made, labels, seconds, recipe, folder).to_dict(),
    }


def _figures(
    sizes: Mapping[str, int],
    done: Mapping[str, str],
    times: Mapping[str, float],
    busy: Callable[[str], float],
    start: float,
) -> dict[str, Any]:
    """Return what is done and left of one pass over the units, and the rate by the `times` of finished units."""
    rows, total = sum(n for unit, n in sizes.items() if unit in done), sum(sizes.values())
    speed = pace({unit: time for unit, time in times.items() if unit in done}, sizes, busy, start)
    rate, left = speed.rows_per_second, speed.seconds_for(total - rows)
    n_done = sum(unit in done for unit in sizes)
    return {
        "units": {"total": len(sizes), "done": n_done, "left": len(sizes) - n_done},
        "rows": {"total": total, "done": rows, "left": total - rows},
        "rows_per_second": None if rate is None else round(rate, 1),
        "seconds_left": None if left is None else round(left, 1),
    }


def status(run: str | os.PathLike[str]) -> Status:
    """Return how far a run is, dead or alive, from its folder alone; errors as of `run_progress`."""
    return Status.of(run_progress(run))


def tables(folder: RunFolder, units: Sequence[Unit], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the final parts of some units of a finished run. RunFolderError if it is not finished, DamageError."""
    folder.require_sealed()
    parts = whole_parts(folder, units)
    for unit in units:
        yield part_files.read_part(parts[unit.name], columns, checked=True)


def whole_parts(folder: RunFolder, units: Sequence[Unit], *, first: bool = False) -> dict[str, str]:
    """Return the path of each unit's part; see `repair.whole_parts`."""
    names = [unit.name for unit in units]
    return repair.whole_parts(folder, names, two_passes=folder.recipe().two_passes, first=first)


def evaluate(
    run: str | os.PathLike[str],
    *,
    samples: int = defaults.SAMPLES,
    seed: int = 0,
    by: evaluation.By | None = None,
) -> evaluation.Evaluations:
    """Score a finished run against the gold labels of its target side, per language; no languages if it has no gold.

    samples: bootstrap resamples behind the intervals, 0 for none. by: what they draw; None takes documents where there
    are enough of them. See `evaluate.scores.score`. RunFolderError for a run that is not finished, DamageError.
    """
    folder = RunFolder(os.fspath(run))
    rows = tables(folder, read_index(folder).units, counting.COLUMNS)
    return evaluation.evaluate(rows, samples=samples, seed=seed, by=by)


def page_of(
    folder: RunFolder,
    recipe: Recipe,
    index: Index,
    parts: Mapping[str, str],
    report: Report,
    *,
    rows: int = defaults.PAGE_ROWS,
    sealed: bool,
) -> bytes:
    """Return report.html for the units that have a part.

    Counts are those of `report`. Scores, distributions and sentences come from whole units: drawn by a hash of their
    names, one language after the other, until there are `rows` rows and a unit of each language. So the cost of a page
    does not grow with the run.
    """
    from xner_ray.report import page
    from xner_ray.report.head import head
    from xner_ray.report.page import charts, sampling  # Jinja: a tenth of a second for those who draw no page

    done = [unit for unit in index.units if unit.name in parts]
    drawn = {unit.name for unit in sampling.draw(done, rows)}
    sample = sampling.Sample(list(report.languages))
    columns = [*sampling.COLUMNS, *(sampling.PICTURES if recipe.with_images else ())]

    def drawn_tables() -> Iterator[pa.Table]:
        for unit in done:
            if unit.name in drawn:
                table = part_files.read_part(parts[unit.name], columns)
                sample.add(table)
                yield table

    evaluations = evaluation.evaluate(drawn_tables())
    about = page.About(
        name=os.path.basename(storage.bare(folder.root).rstrip("/")) or "run",
        **head(recipe, index, report, folder.keys(), json.loads(folder.read_record("versions.json"))),
        sealed=sealed,
        units_done=len(done),
        units=len(index.units),
        rows_looked_at=sample.rows,
        units_looked_at=len(drawn),
    )
    sizes = {unit.name: unit.n_rows for unit in index.units}
    drivers = charts.drivers([(attempt.started, attempt.parts) for attempt in attempts(folder)], sizes)
    return page.render(about, report, evaluations, sample, drivers, _thumbnails(recipe))


def _thumbnails(recipe: Recipe) -> Callable[[Mapping[str, Any]], str | None]:
    """Return what makes small copies of rows' pictures; none where pictures or what reads them are gone."""
    if not recipe.looks_at_pictures or importlib.util.find_spec("PIL") is None:
        return lambda row: None
    from xner_ray.vision.thumbnails import Thumbnails

    try:
        thumbnails = Thumbnails(recipe)
    except XnerError:  # of an input that is not there any more: the page is of the run alone
        return lambda row: None

    def made(row: Mapping[str, Any]) -> str | None:
        try:
            return thumbnails.of(row["lang"], row["image"], row["image_id"])
        except XnerError:
            return None

    return made


def write_page(run: str | os.PathLike[str], *, rows: int = defaults.PAGE_ROWS) -> str:
    """Write a run's report.html again, from the units done so far, and return its path.

    rows: see `page_of`. RunFolderError if there is no run.
    """
    folder = RunFolder(os.fspath(run))
    recipe, index = folder.recipe(), read_index(folder)
    parts, sealed = whole_parts(folder, index.units), folder.sealed()
    if sealed is not None:
        report = read_report(folder)
    else:
        report = run_report(index, parts, model.run_labels(recipe, index.labels_found), 0.0, recipe, folder)
        rate = pace_of(folder, {unit.name: unit.n_rows for unit in index.units}).rows_per_second
        report.rows_per_second = None if rate is None else round(rate, 1)
        report.began = next((moment(driver.started) for driver in attempts(folder)), None)
    page = page_of(folder, recipe, index, parts, report, rows=rows, sealed=sealed is not None)
    if sealed is None:
        storage.publish(folder.path(PAGE), page)
        return folder.path(PAGE)
    with folder.claim():  # a driver may have begun to change the run meanwhile
        if folder.sealed() != sealed:
            raise RunFolderError(f"{folder.root}: was changed while its page was made; ask again")
        storage.publish(folder.path(PAGE), page)
        storage.publish(folder.sealed_path, sealed.with_other(PAGE, page).dump())
    return folder.path(PAGE)


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def spare_pandas() -> None:
    """Keep Arrow from importing pandas, which takes half a second, in a process that never needs it.

    Arrow tries to import pandas for the first value that it makes, and not again: afterwards `to_pandas` fails.
    """
    sys.meta_path.insert(0, _NoPandas())
    pa.scalar(0)
    del sys.meta_path[0]


def explain(run: str | os.PathLike[str], row_id: str, lang: str | None = None) -> Shown:
    """Return one sentence of a run at every stage, as terminal output. InputError if there is no such id."""
    from xner_ray.match.prior import Prior
    from xner_ray.report import explain as explanation  # the matcher: a tenth of a second, not needed for a status

    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    index = read_index(folder)
    labels = model.run_labels(recipe, index.labels_found)
    first, final_parts = whole_parts(folder, index.units, first=True), whole_parts(folder, index.units)
    names = row_schema(images=recipe.with_images).names
    shown, known = [], None
    for unit in index.units:
        if unit.name not in first or (lang is not None and unit.lang != lang):
            continue
        table = part_files.read_part(first[unit.name], names, checked=True)
        known = known or (table.column("id")[0].as_py() if table.num_rows else None)
        at = pc.index(table.column("id"), row_id).as_py()
        if at >= 0:
            final, prior = table, None
            if final_parts[unit.name] != first[unit.name]:
                final = part_files.read_part(final_parts[unit.name], names, checked=True)
                counts = storage.join(folder.priors_folder, f"{unit.lang}.parquet")
                folder.require_files([counts])
                prior = Prior.from_parquet(storage.read_bytes(counts))
            row = final.slice(at, 1).to_pylist()[0]
            shown.append(explanation.explain(row, table.slice(at, 1), recipe, prior, labels))
    if not shown:
        raise InputError(
            f"{folder.root}: no sentence has the id {row_id!r}"
            + (f" in {lang}" if lang else "")
            + (f"; ids look like {known!r}" if known else "")
        )
    return Shown(*shown)


def sample(run: str | os.PathLike[str], lang: str, n_rows: int) -> list[dict[str, Any]]:
    """Return the first `n_rows` emitted rows of a language that have a projected entity."""
    rows: list[dict[str, Any]] = []
    folder = RunFolder(os.fspath(run))
    for table in tables(folder, read_index(folder).units):
        wanted = pc.and_(pc.equal(table.column("lang"), lang), pc.equal(table.column("status"), "ok"))
        wanted = pc.and_(wanted, pc.greater(pc.fill_null(pc.list_value_length(table.column("spans")), 0), 0))
        rows += table.filter(wanted).slice(0, n_rows - len(rows)).to_pylist()
        if len(rows) >= n_rows:
            break
    return rows
