"""The command `loop`: project, teach students, let each label what the others learnt from, and project again.

    RUNS/round-0/run                     the recipe's run
    RUNS/round-K/first, second, judge    students of a round's run, each of other folds of its documents
    RUNS/round-K/labels/STUDENTS         labels of each document by a student that was not trained on it
    RUNS/round-K+1/run                   round 0's links, matched again with these labels

Each step resumes itself, so that the same command goes on wherever it was cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from xner_ray import defaults
from xner_ray.commands.inspect import read_index, tables, whole_parts
from xner_ray.commands.loop import expected
from xner_ray.commands.loop.decision import Standing, after
from xner_ray.commands.loop.labels import (
    against_gold,
    agreement,
    held_out_rows,
    label_units,
    labels_of,
    read_labels,
    scored,
)
from xner_ray.commands.loop.recipe import Loop, Planned, load_loop
from xner_ray.commands.loop.report import Looped, Round, dump, markdown
from xner_ray.commands.project import project
from xner_ray.commands.rematch import changed_keys, changed_recipe
from xner_ray.commands.session import Begun, Session, begin_from, opened
from xner_ray.engine import choice as executors
from xner_ray.engine import ray_cluster, resolve, second_pass
from xner_ray.errors import InputError, RecipeError, RunFolderError, XnerError
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.counting import Counts, count
from xner_ray.recipe.data_set import overrides_of
from xner_ray.recipe.fingerprint import READING
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import run_labels
from xner_ray.recipe.sections import TargetTag
from xner_ray.run import whole
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.load import fingerprint, load_training
from xner_ray.train.recipe import Folds, Training
from xner_ray.train.sources import load

DATA, TEXT = "loop.json", "loop.md"
_SETTINGS = "loop-settings.json"
_FREE = {"rounds", "patience", "evaluate", "recipe"}  # keys that another call on the same folder may change


class Train(Protocol):
    """The command `train`, given from above: this module stands beside it, not on it."""

    def __call__(self, source: Mapping[str, Any], model_dir: str, *, console: Console | None) -> Any: ...


@dataclass
class _Driver:
    """One call's work. root: of RUNS. reports: of the rounds' runs."""

    planned: Planned
    root: str
    console: Console
    train: Train
    reports: list[Report] = field(default_factory=list)

    @property
    def loop(self) -> Loop:
        return self.planned.loop

    def say(self, line: str, style: str = "") -> None:
        self.console.print(Text(line, style))

    def place(self, number: int, *parts: str) -> str:
        """Return a place in the folder of a round."""
        return storage.join(self.root, f"round-{number}", *parts)

    def run(self, number: int) -> RunFolder:
        return RunFolder(self.place(number, "run"))

    def parts(self, number: int, *, first: bool = False) -> dict[str, str]:
        folder = self.run(number)
        return whole_parts(folder, read_index(folder).units, first=first)

    def training(self, number: int, student: str) -> Training:
        """Return the recipe of a student of a round. RecipeError names the wrong key."""
        folds = self.loop.folds_without(student).model_dump()
        source = {"run": self.run(number).root, "filters": self.loop.filters.model_dump(exclude_unset=True)}
        try:
            return load_training({**self.loop.student, "data": [source], "folds": folds}, base=self.planned.base)
        except RecipeError as error:
            raise RecipeError(f"student: {error}") from None

    def teach(self, number: int) -> None:
        """Train the students of a round, in one Ray where any is left to train."""
        trainings = {name: self.training(number, name) for name in self.loop.parts}
        done = [storage.exists(self.place(number, name, "SHA256SUMS")) for name in trainings]
        address = trainings["judge"].resources.address
        with nullcontext() if all(done) else ray_cluster.cluster(address):
            for name, training in trainings.items():
                try:
                    self.train(training.model_dump(mode="json"), self.place(number, name), console=self.console)
                except XnerError as error:
                    error.args = (f"round {number}, student {name}: {error}",)
                    raise

    def label(self, number: int) -> None:
        """Let the students of a round label all rows, each those of the folds that it may read."""
        students = {self.place(number, name): folds for name, folds in self.loop.labels.items()}
        parts = self.parts(0)
        recipe = self.run(0).recipe()
        identity = self.identity(number)
        names = labels_of(self.place(number), parts, identity)
        choice = executors.for_tasks(recipe, 20 * self.reports[0].rows["read"])  # a model reads them
        with executors.opened(choice.name, recipe, stages=False) as executor:
            jobs = [(parts[name], names[name]) for name in parts]
            folds = self.loop.folds_without("judge")
            label_units(jobs, students, folds, self.threads, executor.map, identity=identity)

    @property
    def threads(self) -> int:
        given: int | None = (self.loop.student.get("resources") or {}).get("threads")
        return given or 1

    def match(self, number: int) -> Report:
        """Make the run of a round: that of round 0 matched again, with the labels of the round before."""
        started = time.perf_counter()
        old, folder = self.run(0), self.run(number)
        labels = _model_labels(self.place(number - 1, "judge"))
        section = TargetTag(engine="hf", model=self.place(number - 1), labels={one: one for one in labels})
        before = old.recipe()
        recipe = changed_recipe(before.model_copy(update={"target_tag": section}), overrides_of(self.loop.rematch))
        identity = self.identity(number - 1)
        keys = changed_keys(old.keys(), before, recipe) | {"target_tag.model identity": identity}
        index = read_index(old)
        parts = self.parts(0, first=True)
        resolve.check_tags(recipe, run_labels(recipe, index.labels_found))
        begun = Begun(recipe, keys, old.record().asked)
        with opened(folder, begun, self.console, fresh=False) as report:
            if report is not None:
                return report
            begin_from(folder, begun, index, old)
            choice = executors.for_tasks(recipe, sum(unit.n_rows for unit in index.units))
            with executors.opened(choice.name, recipe, stages=False) as executor:
                session = Session(folder, recipe, index, executor, self.console, started)
                labels_at = labels_of(self.place(number - 1), parts, identity)
                jobs = [(parts[name], labels_at[name], path) for name, path in session.begin_parts().items()]
                self.say(f"{len(jobs):,} of {len(index.units):,} units to match again; no model is loaded")
                second_pass.match_labelled_units(jobs, recipe, session.labels, executor.map)
                return session.seal()

    def identity(self, number: int) -> str:
        """Return what stands for the students of a round: their files, and which folds each labels."""
        sums = {name: storage.read_bytes(self.place(number, name, "SHA256SUMS")).decode() for name in self.loop.parts}
        said = [sums, self.loop.labels, self.loop.folds, self.loop.seed, READING]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def rows(self, run: int, labels: int) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield the final rows of a round's run with the labels of a round's students, unit by unit."""
        folder = self.run(run)
        units = read_index(folder).units
        names = labels_of(self.place(labels), (unit.name for unit in units), self.identity(labels))
        for unit, rows in zip(units, tables(folder, units), strict=True):
            yield rows, read_labels(names[unit.name])

    @property
    def held_out(self) -> tuple[Folds, int, float]:
        """What tells the rows that rounds are measured on."""
        return self.loop.folds_without("judge"), self.loop.labels["judge"][0], self.loop.settled

    def refuse_nothing(self) -> None:
        """Raise InputError if the first projection has nothing that rounds could be measured on."""
        folder = self.run(0)
        for rows in tables(folder, read_index(folder).units):
            chosen = rows.column("spans").filter(pa.array(held_out_rows(rows, *self.held_out)))
            if pc.sum(pc.list_value_length(chosen)).as_py():
                return
        raise InputError(
            f"{folder.root}: no held-out sentence has a settled entity to measure rounds on; allowed: more sentences, "
            f"fewer folds than {self.loop.folds}, or settled below {self.loop.settled:g}"
        )

    def agreed(self, number: int) -> list[Counts]:
        """Return how the judge of a round agrees with the first projection of held-out sentences."""
        return agreement(self.rows(0, number), *self.held_out)

    def scored_files(self, number: int) -> list[Counts]:
        """Return how the judge of a round labels the sentences of `evaluate`, against their gold."""
        if not self.loop.evaluate:
            return []
        training, keys = self.tests()
        identity = self.identity(number)
        key = hashlib.sha256(json.dumps([keys, identity], sort_keys=True).encode()).hexdigest()[:16]
        path = self.place(number, "labels", f"tests-{key}.parquet")
        if whole.damaged([path]):
            sentences, _ = load(training, "evaluate")
            judge, learns = self.place(number, "judge"), training.labels.learns
            whole.publish(path, scored(sentences, judge, self.threads, identity, learns))
        return count([pq.read_table(pa.BufferReader(whole.read(path)))])

    def tests(self) -> tuple[Training, dict[str, str]]:
        """Return a recipe whose `evaluate` is the loop's, and what stands for its files. RecipeError, InputError."""
        plain = [source.model_dump(mode="json", exclude_unset=True) for source in self.loop.evaluate]
        given = {"labels": self.loop.student.get("labels") or {}, "data": plain, "evaluate": plain}
        training = load_training(given, base=self.planned.base)
        keys = {key: value for key, value in fingerprint(training).items() if key.startswith(("evaluate", "labels"))}
        return training, keys

    def likely(self, number: int) -> dict[str, expected.Expected]:
        """Return what is expected of a round's projections, by language."""
        old, folder = self.run(0), self.run(number)
        recipe, units = old.recipe(), read_index(old).units
        first, final = self.parts(0, first=True), self.parts(number)
        priors = [
            storage.join(old.priors_folder, f"{unit.lang}.parquet") if recipe.two_passes else None for unit in units
        ]
        choice = executors.for_tasks(recipe, sum(unit.n_rows for unit in units))
        with executors.opened(choice.name, folder.recipe(), stages=False) as executor:
            n = len(units)
            same = ([value] * n for value in (self.loop.settled, recipe.labelled, recipe.align.method))
            names = [unit.name for unit in units]
            places = ([parts[name] for name in names] for parts in (first, final))
            return expected.by_language(executor.map(expected.expect_part, *places, priors, *same))

    def seen(self, number: int, found: Mapping[str, expected.Expected], agreed: Sequence[Counts]) -> Round:
        """Return the figures of a round."""
        folder = self.run(number)
        gold = against_gold(self.rows(number, number))
        return Round(
            number=number,
            run=f"round-{number}/run",
            languages=self.reports[number].languages,
            doubtful={lang: one.doubtful for lang, one in found.items()},
            expected={lang: expected.scored(one, samples=defaults.SAMPLES) for lang, one in found.items()},
            agreement=evaluation.score(agreed),
            projected=evaluation.evaluate(tables(folder, read_index(folder).units), samples=0),
            student=evaluation.score(gold, samples=0),
            files=evaluation.score(self.scored_files(number)),
        )


def loop(
    source: str | os.PathLike[str],
    runs: str | os.PathLike[str],
    *,
    train: Train,
    rounds: int | None = None,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    console: Console | None = None,
) -> Looped:
    """Project, train students on it, project again with their labels, round by round, until nothing is gained.

    source: a loop's file, or a recipe. Writes `runs`/loop.md and loop.json, which name the round to keep. The same call
    resumes, and may have more rounds. train: the command of that name. overrides: keys of the loop, or of its recipe.
    fresh: discard the loop that is there. samples, seed: of the paired bootstrap. RecipeError, before any work, for a
    wrong key; RunFolderError if the folder holds a loop of other settings, or other files.
    """
    console = console or Console(quiet=True)
    if samples < 1:
        raise InputError(f"--samples is {samples}; a loop decides by intervals; allowed: 1 or more")
    planned = load_loop(source, overrides, rounds=rounds)
    driver = _Driver(planned, RunFolder(os.fspath(runs)).root, console, train)
    _refuse_wrong(driver)
    _begin(driver, fresh=fresh)
    given, standing = planned.loop, Standing()
    agreed: list[list[Counts]] = []
    likely: list[dict[str, expected.Expected]] = []
    found: list[Round] = []
    for number in range(given.rounds + 1):
        driver.say(f"round {number} of at most {given.rounds}", "bold")
        if number:
            driver.reports.append(driver.match(number))
        else:
            driver.reports.append(
                project(planned.recipe_file, driver.place(0, "run"), overrides=planned.overrides, console=console)
            )
            driver.refuse_nothing()
        driver.teach(number)
        driver.label(number)
        agreed.append(driver.agreed(number))
        likely.append(driver.likely(number))
        one = driver.seen(number, likely[-1], agreed[-1])
        if number:
            one.against = standing.best
            one.change = expected.compared(likely[standing.best], likely[number], samples=samples, seed=seed)
            one.held_out = evaluation.compare(agreed[standing.best], agreed[number], samples=samples, seed=seed)
            standing = after(standing, number, one.change, one.held_out, patience=given.patience)
            one.kept = standing.best == number
            driver.say(one.verdict())
        found.append(one)
        if standing.stopped:
            break
    looped = Looped(found, standing.best, standing.stopped, given.settled, storage.join(driver.root, ""))
    return _published(looped, driver)


def _published(looped: Looped, driver: _Driver) -> Looped:
    old = storage.read_if_there(storage.join(driver.root, DATA))
    data = dump(looped)
    if old == data:
        driver.say(f"{driver.root} is complete; nothing was left to do (--fresh makes it again)")
    storage.publish(storage.join(driver.root, TEXT), markdown(looped).encode())
    storage.publish(storage.join(driver.root, DATA), data)
    return looped


def _refuse_wrong(driver: _Driver) -> None:
    """Raise RecipeError for what would end a later round, before any work."""
    recipe = load_recipe(driver.planned.recipe_file, driver.planned.overrides)
    if recipe.projector != "match":
        raise RecipeError(
            f"{driver.planned.recipe_file}: projector is {recipe.projector}; a loop matches again, so it takes "
            "projector: match"
        )
    section = TargetTag(engine="hf", model=driver.place(0), labels={"PER": "PER"})
    changed = changed_recipe(recipe.model_copy(update={"target_tag": section}), overrides_of(driver.loop.rematch))
    if changed.match.needs_tags is None:
        raise RecipeError(
            "rematch: neither match.candidates nor match.scores has tagger, so what students say would change nothing; "
            "leave both out, or name it in one of them, as in match.candidates: window+tagger"
        )
    for name in driver.loop.parts:
        if (context := driver.training(0, name).model.context) is not None:
            raise RecipeError(f"student: model.context: students of a loop read words alone; leave out {context!r}")
    if driver.loop.evaluate:
        driver.tests()


def _begin(driver: _Driver, *, fresh: bool) -> None:
    """Write down which loop the folder holds. RunFolderError if it holds another one, or other files."""
    path = storage.join(driver.root, _SETTINGS)
    plain = driver.loop.model_dump(mode="json", exclude=_FREE)
    old = storage.read_if_there(path)
    if old is None:
        inner = storage.locate(driver.root)[1].rstrip("/") + "/"
        if others := sorted(str(info.path)[len(inner) :] for info in storage.files_below(driver.root)):
            raise RunFolderError(
                f"{driver.root}: holds files that are no loop ({others[0]}); name an empty or a new folder"
            )
    elif fresh:
        _discard(driver)
    elif differing := _differing(json.loads(old), plain):
        raise RunFolderError(
            f"{driver.root}: holds a loop with another {', '.join(differing)}; name another folder, or give --fresh to "
            "discard what is there"
        )
    storage.publish(path, (json.dumps(plain, indent=1, sort_keys=True) + "\n").encode())


def _discard(driver: _Driver) -> None:
    """Delete what a loop made, and nothing else. RunFolderError if another driver works in it."""
    inner = storage.locate(driver.root)[1].rstrip("/") + "/"
    files = [str(info.path)[len(inner) :] for info in storage.files_below(driver.root)]
    rounds = sorted({first for file in files if (first := file.partition("/")[0]).startswith("round-")})
    for name in rounds:
        if RunFolder(storage.join(driver.root, name, "run")).is_claimed():
            raise RunFolderError(
                f"{driver.root}: another xner-ray works in {name}; wait for it, or name another folder"
            )
    for name in (DATA, TEXT, *rounds):
        storage.delete(storage.join(driver.root, name))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


def _model_labels(folder: str) -> list[str]:
    """Return the labels of a trained student."""
    config = json.loads(storage.read_bytes(storage.join(folder, "config.json")))
    return sorted({tag[2:] for tag in config["id2label"].values() if tag != "O"})
