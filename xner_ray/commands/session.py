"""One driver's work on a run folder: open it, begin a run in it, seal the finished run."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from xner_ray.commands.inspect import PAGE, pace_of, page_of, read_index, read_report, run_report
from xner_ray.engine import second_pass
from xner_ray.engine.executor import Executor
from xner_ray.errors import DamageError, FatalError, RunFolderError
from xner_ray.match.prior import LEAST_ROWS
from xner_ray.read.index.index import Index
from xner_ray.read.inputs import shared_folders
from xner_ray.read.rows import ReadPlan
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.report import card
from xner_ray.report.progress import cost, moment
from xner_ray.run import publish, record, repair
from xner_ray.run.attempts import Attempt, attempts
from xner_ray.run.counters import PriorUse, Report
from xner_ray.run.folder import BACKGROUND, RunFolder
from xner_ray.run.sealed import NO_FILE, SEALED
from xner_ray.storage import files as storage
from xner_ray.storage import sums

_SHOWN = 20  # damaged files


@dataclass(frozen=True)
class Begun:
    """What a run is, as it will be written down."""

    recipe: Recipe  # definite
    keys: Mapping[str, Any]  # its fingerprint
    asked: Mapping[str, str] = field(default_factory=dict)  # `resolve.asked` of the user's recipe
    given: str = ""  # digest of the user's recipe
    files: Mapping[str, str] = field(default_factory=dict)  # paths of input files, by key
    commits: Mapping[str, str] = field(default_factory=dict)  # of data sets on the hub (`storage.hub.commits`)
    input_bytes: int = 0  # of all input files together
    gone: str = ""  # why inputs and models cannot be looked at, if the run must do without them

    stamps: Mapping[str, str] = field(default_factory=dict)  # of input files on object stores, by key, before summing

    def tags(self) -> dict[str, str]:
        """Return the sums of inputs on object stores by their stamp, so that a resume elsewhere need not read them."""
        found = {stamp: str(self.keys[key]) for key, stamp in self.stamps.items()}
        return {stamp: text.partition("sha256:")[2].partition(" ")[0] for stamp, text in found.items()}


def far_stamps(files: Mapping[str, str]) -> dict[str, str]:
    """Return the stamps (`sums.stamp`) of files on object stores, by key, of those that have one."""
    found = {key: sums.stamp(path) for key, path in files.items() if not storage.is_local(path)}
    return {key: stamp for key, stamp in found.items() if stamp}


@contextmanager
def opened(
    folder: RunFolder,
    begun: Begun,
    console: Console,
    *,
    fresh: bool,
    again: Callable[[Report], bool] = lambda report: False,
) -> Iterator[Report | None]:
    """Claim a folder for the block; yield the report if the run is complete, and say so.

    RunFolderError if it holds other files or another run, or a driver lives. `fresh` discards what it holds. `again`
    says of a report that the run is to be resumed, complete as it is.
    """
    folder.refuse_other_files()
    recipe = begun.recipe
    with folder.claim():
        if fresh:
            folder.discard()
        restored = folder.is_run() and folder.restore_record()
        folder.check(begun.keys, recipe.languages, begun.files)
        if restored:
            console.print(Text(f"{folder.path(record.RECORD)} was damaged; the last driver's copy of it is taken"))
        damaged = folder.is_run() and _mended(folder, console, begun.gone)
        report = None if damaged or restored else _finished(folder, recipe)
        report = None if report is not None and again(report) else report
        if report is not None:
            console.print(Text(f"{folder.root} is complete; nothing to do (--fresh makes it again)"))
        yield report


@contextmanager
def own_damage(folder: RunFolder) -> Iterator[None]:
    """Raise FatalError for damage of a file of this run that no command makes again."""
    try:
        yield
    except DamageError as error:
        root = folder.path("_run", "")
        name = f"_run/{error.path.removeprefix(root)}" if error.path.startswith(root) else ""
        if not name or name.startswith(repair.MADE_AGAIN) or name == SEALED:
            raise
        raise FatalError(
            f"{error.path}: {error.what}, and nothing makes it again; put it back from a backup, or give --fresh to "
            "make the whole run again"
        ) from None


def _mended(folder: RunFolder, console: Console, gone: str) -> bool:
    """Say what is damaged in a run, and make room for what takes its place; return whether anything is.

    gone: why units cannot be made; then FatalError before anything of a unit is deleted.
    """
    found = repair.find(folder)
    if not found and folder.sealed() is not None:
        names = [unit.name for unit in read_index(folder).units]
        found = repair.missing(folder, names, two_passes=folder.recipe().two_passes)
    if blocked := [name for name, what in found.items() if what == NO_FILE]:
        raise RunFolderError(f"{folder.path(blocked[0])}: is no file, and one of the run belongs there; move it away")
    if gone and (lost := repair.of_units(folder, found)):
        which = f"{folder.path(lost[0])} {found[lost[0]]}"
        raise FatalError(f"{which}; {len(lost):,} such files are to be made again, and that cannot be: {gone}")
    for name in repair.odd_files(folder) if SEALED not in found else ():
        console.print(Text(f"{folder.path(name)}: is no file of this run, but is read with it; move it away"))
    for number, (name, what) in enumerate(found.items()):
        if number == _SHOWN:
            console.print(Text(f"and {len(found) - number:,} more files"))
            break
        console.print(Text(f"{folder.path(name)} {what}; it is made again"))
    repair.clear(folder, found)
    return bool(found)


def known_index(folder: RunFolder) -> Index | None:
    """Return the units as listed; None where none are, or where what says so is damaged."""
    return None if not folder.is_run() or folder.record_damage() else read_index(folder)


def _finished(folder: RunFolder, recipe: Recipe) -> Report | None:
    """Return the report of a sealed run that has every language asked for, with today's limit on rejects."""
    if folder.sealed() is None or set(folder.recipe().languages) < set(recipe.languages):
        return None
    return replace(read_report(folder), max_reject_rate=recipe.output.max_reject_rate)


def begin(folder: RunFolder, begun: Begun, index: Index) -> None:
    """Write down what the run is, and list its units."""
    sink = io.BytesIO()
    pq.write_table(index.to_table(), sink, compression="zstd")
    folder.begin(
        begun.recipe,
        begun.keys,
        sink.getvalue(),
        index.unit_rows,
        asked=begun.asked,
        given=begun.given,
        tags=begun.tags(),
        commits=begun.commits,
    )


def begin_from(folder: RunFolder, begun: Begun, index: Index, old: RunFolder) -> None:
    """Begin a run over the units of `old`; a folder that has some of them listed gets those that `old` has had since.

    RunFolderError if it has others.
    """
    known = known_index(folder)
    there, wanted = rows_of_units(known) if known else set(), rows_of_units(index)
    if not there <= wanted:
        raise RunFolderError(
            f"{folder.root}: holds the same recipe in other units than {old.root}; name another folder, or give "
            "--fresh to discard what is there"
        )
    if there < wanted:
        begin(folder, begun, index)


def rows_of_units(index: Index) -> set[tuple[Any, ...]]:
    """Return which rows each unit has."""
    return {(unit.name, unit.split, unit.start, unit.stop, unit.picked) for unit in index.units}


@dataclass
class Session:
    """One driver at work on a run folder that it has claimed and begun. `started`: of `time.perf_counter()`."""

    folder: RunFolder
    recipe: Recipe
    index: Index
    executor: Executor
    console: Console
    started: float

    @property
    def labels(self) -> list[str]:
        return run_labels(self.recipe, self.index.labels_found)

    @property
    def sizes(self) -> dict[str, int]:
        return {unit.name: unit.n_rows for unit in self.index.units}

    def say(self, line: str) -> None:
        self.console.print(Text(line))

    def read_plan(self) -> ReadPlan:
        """Return what the reading of units needs. RecipeError where files with pictures share no folder."""
        shared = shared_folders(self.recipe) if self.recipe.with_images else {}
        return ReadPlan(self.recipe, self.index.extra, shared)

    def lacks_background(self) -> bool:
        """Return whether the background of pictures is to be made."""
        if "image" not in self.recipe.stages:
            return False
        from xner_ray.vision import background  # numpy and safetensors alone

        try:
            background.read(self.folder.background_path)
        except DamageError:
            return True
        return False

    def with_background(self, recipe: Recipe) -> Recipe:
        """Return the recipe for the workers of a run with pictures; make the background if there is none yet."""
        path = self.folder.background_path
        if self.lacks_background():
            from xner_ray.vision.draw import draw_background
            from xner_ray.vision.formula import LEAST_BACKGROUND

            n_pictures = draw_background(recipe, self.index.units, self.read_plan(), path, self.executor.map)
            few = "; that is too few to compare with, so no label changes" if n_pictures < LEAST_BACKGROUND else ""
            self.say(f"image: the mean of {n_pictures:,} pictures says nothing of a label{few}")
        return recipe.with_models({"image.background_file": path})

    def begin_parts(self) -> dict[str, str]:
        """Begin an attempt; return the path that the part of each missing unit is to have.

        A finished run that lacks one is unsealed: else, if its mend were cut short, it would pass for whole with parts
        that were never published.
        """
        done = self.folder.parts()
        missing = [unit.name for unit in self.index.units if unit.name not in done]
        if missing:
            self.folder.unseal()
        attempt = self.folder.path("_run", "parts", self.folder.next_attempt())
        return {name: storage.join(attempt, f"{name}.parquet") for name in missing}

    def finish(self) -> tuple[Report, dict[str, str]]:
        """Match a second time where the recipe says so; return the report, and the path of each unit's final part.

        FatalError if a unit has no part.
        """
        folder, recipe, index, labels = self.folder, self.recipe, self.index, self.labels
        folder.still_ours()
        parts = folder.parts()
        if lost := [unit.name for unit in index.units if unit.name not in parts]:
            raise FatalError(f"{folder.root}: {len(lost)} units have no part, the first is {lost[0]}; run again")
        priors: dict[str, PriorUse] = {}
        if recipe.two_passes:
            rows = second_pass.make_priors(folder, index.units, parts, self.executor.map)
            priors = {lang: {"rows": n, "used": n >= LEAST_ROWS} for lang, n in rows.items()}
            for lang, n in rows.items():
                if n < LEAST_ROWS:
                    self.say(
                        f"{lang}: {n} sentences are too few to learn from all how words translate (that takes "
                        f"{LEAST_ROWS}): each is matched by itself, and none is lost"
                    )
            second_pass.refine_units(folder, index.units, parts, recipe, labels, self.executor.map)
            parts = folder.refined()
        report = run_report(index, parts, labels, time.perf_counter() - self.started, recipe, folder)
        report.priors = priors
        return report, parts

    def seal(self) -> Report:
        """Finish the run, publish everything, and return the report. FatalError."""
        folder, recipe, index, labels = self.folder, self.recipe, self.index, self.labels
        report, parts = self.finish()
        rate = pace_of(folder, self.sizes).rows_per_second
        report.rows_per_second = None if rate is None else round(rate, 1)
        drivers = attempts(folder)
        report.began, report.finished = moment(drivers[0].started), moment(time.time())
        before = seconds_of(drivers[:-1])  # the last one is this driver's
        spent = before + time.perf_counter() - self.started
        report.cost = cost(recipe.engine.price_per_hour, spent, report.rows["read"])
        if (images := report.images) is not None and "warning" in images:
            self.say(images["warning"])
        files = publish.plan_files(
            index.units,
            {unit.name: parts[unit.name] for unit in index.units},
            labels,
            rows_per_file=recipe.output.rows_per_file,
            split_incomplete=recipe.output.incomplete == "split",
        )
        documents = {
            "README.md": card.dataset_card(recipe, report, [file.file for file in files]).encode(),
            "report.json": report.dump(),
        }
        documents |= _page(folder, recipe, index, parts, report, self.console)
        storage.delete(folder.ids_folder)  # what a driver left that died while it read the input
        folder.still_ours()
        publish.seal(
            folder.root,
            files,
            documents,
            self.executor.map,
            retried=folder.retried(),
            incarnation=folder.incarnation(),
            standing=[record.RECORD, *([BACKGROUND] if storage.exists(folder.background_path) else [])],
        )
        return report


def seconds_of(drivers: Sequence[Attempt]) -> float:
    return sum(driver.seconds for driver in drivers)


def _page(
    folder: RunFolder,
    recipe: Recipe,
    index: Index,
    parts: Mapping[str, str],
    report: Report,
    console: Console,
) -> dict[str, bytes]:
    """Return report.html by its name, or nothing where it cannot be made; then an old one is deleted too."""
    name = PAGE
    try:
        return {name: page_of(folder, recipe, index, parts, report, sealed=True)}
    except Exception as error:  # of whatever kind: a page to look at must not keep a data set from being finished
        storage.delete(folder.path(name))
        console.print(Text(f"{name} was not made ({type(error).__name__}: {error}); `xner-ray report` shows why"))
        return {}
