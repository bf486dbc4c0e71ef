"""The run in this process: one unit after the other through all stages. No Ray is imported.

Faults, from small to large. The guard halves micro-batches on out-of-memory and finds rows that make a stage raise. A
fault that may pass is tried again `_RETRIES` times. What kills the process ends the run, and the same command resumes
it; a unit that has killed `crashes.DEATHS` processes in a row gets through in pieces, and the row that kills is found.
`auto` does not wait for that: after `_LEFT_TO_RAY` deaths it takes Ray, whose workers can die without the run.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from xner_ray import interrupts
from xner_ray.engine.bundles import bundled
from xner_ray.engine.crashes import DEATHS, CrashCounter
from xner_ray.engine.executor import Events, Work, loading
from xner_ray.engine.guard import run_stage
from xner_ray.engine.pools import Capacity, local_capacity
from xner_ray.engine.stages import Models, build
from xner_ray.engine.worker import (
    PAUSES_S,
    Counted,
    PartWriter,
    environment,
    load_patiently,
    read_counted,
    set_threads,
)
from xner_ray.errors import FatalError, RetryableError, XnerError
from xner_ray.models import faults
from xner_ray.read.index.units import Unit
from xner_ray.recipe.model import Recipe
from xner_ray.report.progress import Queues
from xner_ray.run.folder import RunFolder
from xner_ray.stage import forget

_LEFT_TO_RAY = 2
_RETRIES = 3


class InlineExecutor:
    """An executor of one worker, this process. recipe: whose stages it will run; None for tasks alone.

    models: what to take models from, and to leave them in; without it each call of `run_units` loads its own.
    """

    def __init__(
        self, recipe: Recipe | None, *, pauses_s: Sequence[float] = PAUSES_S, models: Models | None = None
    ) -> None:
        self.capacity: Capacity = local_capacity(recipe, in_process=True)
        self.pauses_s, self.models = pauses_s, models

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        with _own_errors(function.__name__):
            return [function(*call) for call in zip(*arguments, strict=True)]

    def run_units(self, units: Sequence[Unit], work: Work, events: Events) -> None:
        """See `executor.Executor`."""
        with _settings(work.recipe):
            if (names := loading(work.recipe)) and not self.models:
                events.notice(f"loading {names}")
            run = _Run(units, work, self.pauses_s, self.models)
            events.watch(run.queues)
            try:
                for bundle in bundled(units, work.recipe):
                    for unit in bundle:
                        events.done(unit.name, run.make(unit, events.notice))
                    run.forget()
            finally:
                run.release()


class _Run:
    """The units of one call, and where the one at work is."""

    def __init__(self, units: Sequence[Unit], work: Work, pauses_s: Sequence[float], models: Models | None) -> None:
        self.plan, self.left, self.at = work.plan, len(units), ""
        self.crashes = crash_counter(work.folder)
        self.threads = {name: getattr(work.recipe, name).threads for name in work.recipe.stages}
        self.writer = PartWriter(work.recipe, work.new_parts_folder(), work.labels, work.retry)
        load = build if models is None else partial(build, models=models)
        self.stages = load_patiently(list(self.threads), lambda name: load(name, work.recipe), pauses_s)

    def queues(self) -> Queues:
        found = {"read": (self.left, 0)} if self.left else {}
        return found | ({self.at: (self.left if self.at == "read" else 0, 1)} if self.at else {})

    def make(self, unit: Unit, notice: Callable[[str], None]) -> Counted:
        """Make the part of one unit; return its counters."""
        self.left -= 1
        try:
            with self.crashes.attempt(unit.name) as deaths:
                for left in range(_RETRIES, 0, -1):
                    try:
                        return self._once(unit, in_pieces=deaths >= DEATHS)
                    except RetryableError as fault:
                        notice(f"{fault}; unit {unit.name} is tried again, at most {left} times")
                return self._once(unit, in_pieces=deaths >= DEATHS)
        finally:
            self.at = ""

    def _once(self, unit: Unit, *, in_pieces: bool) -> Counted:
        self.at = "read"
        with _own_errors(f"unit {unit.name}"):
            table, counted = read_counted(unit, self.plan)
            for stage in self.stages:
                self.at = stage.name
                set_threads(self.threads[stage.name])
                table, stats = run_stage(stage, table, self.crashes if in_pieces else None, unit.name)
                counted[stage.name] = asdict(stats)
            interrupts.check()  # a library may have made a fault of one row out of it
            return self.writer.write(unit.name, table, counted)

    def forget(self) -> None:
        """Let go of what stages read for a range of rows."""
        for stage in self.stages:
            forget(stage)

    def release(self) -> None:
        """Let go of the models, also where a traceback that somebody keeps holds on to this run."""
        self.stages.clear()
        faults.free()


@contextmanager
def _own_errors(where: str) -> Iterator[None]:
    """Raise what is no error of ours as FatalError with its place, as `ray_cluster.own_errors` does for a worker."""
    try:
        yield
    except XnerError:
        raise
    except Exception as error:  # whatever a library raises: one message, and the cause stays attached
        raise FatalError(f"{where}: {type(error).__name__}: {error}") from error


@contextmanager
def _settings(recipe: Recipe) -> Iterator[None]:
    """Give libraries the threads that a worker of Ray has, and the process its own again afterwards."""
    told = environment(min(getattr(recipe, name).threads for name in recipe.stages))
    before = {key: os.environ.get(key) for key in told}
    torch = sys.modules.get("torch")
    held = (torch.get_num_threads(), torch.get_float32_matmul_precision()) if torch is not None else None
    os.environ.update(told)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        if torch is not None and held is not None:
            torch.set_num_threads(held[0])
            torch.set_float32_matmul_precision(held[1])


def crash_counter(folder: RunFolder) -> CrashCounter:
    """Return the counter of deaths that all in-process drivers of a run share on this machine, until `--fresh`."""
    name = hashlib.sha256(f"{folder.place} {folder.incarnation()}".encode()).hexdigest()[:16]
    return CrashCounter(os.path.join(tempfile.gettempdir(), f"xner_ray-{os.getuid()}", name))


def deadly(folder: RunFolder, units: Iterable[Unit]) -> str | None:
    """Return the name of the first unit that has killed so many processes in a row that `auto` leaves it to Ray."""
    counter = crash_counter(folder)
    return next((unit.name for unit in units if counter.deaths(unit.name) >= _LEFT_TO_RAY), None)
