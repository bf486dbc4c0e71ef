"""The run in this process: one unit after the other through all stages. No Ray is imported.

Faults, from small to large. The guard halves micro-batches on out-of-memory and finds rows that make a stage raise. A
fault that may pass is tried again `_RETRIES` times. What kills the process ends the run, and the same command resumes
it. A unit that has killed `DEATHS` processes in a row is refused here: Ray's workers can die of a row without the run.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from xner_ray.engine.crashes import DYING, CrashCounter
from xner_ray.engine.executor import Events, Work
from xner_ray.engine.guard import run_stage
from xner_ray.engine.pools import Capacity, local_capacity
from xner_ray.engine.stages import build
from xner_ray.engine.worker import (
    PAUSES_S,
    Counted,
    PartWriter,
    load_patiently,
    quiet_libraries,
    read_counted,
    set_threads,
)
from xner_ray.errors import FatalError, RetryableError
from xner_ray.read.units import Unit
from xner_ray.recipe.model import Recipe
from xner_ray.report.progress import Queues
from xner_ray.run.folder import RunFolder

DEATHS = 2
_RETRIES = 3


class InlineExecutor:
    """An executor of one worker, this process."""

    def __init__(self, recipe: Recipe, *, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self.capacity: Capacity = local_capacity(recipe, in_process=True)
        self.pauses_s = pauses_s

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        return [function(*call) for call in zip(*arguments, strict=True)]

    def run_units(self, units: Sequence[Unit], work: Work, events: Events) -> None:
        """See `executor.Executor`."""
        run = _Run(units, work, self.pauses_s)
        events.watch(run.queues)
        for unit in units:
            events.done(unit.name, run.make(unit, events.notice))


class _Run:
    """The units of one call, and where the one at work is."""

    def __init__(self, units: Sequence[Unit], work: Work, pauses_s: Sequence[float]) -> None:
        self.plan, self.left, self.at = work.plan, len(units), "read"
        self.crashes = crash_counter(work.folder)
        threads = {name: getattr(work.recipe, name).threads for name in work.recipe.stages}
        quiet_libraries(min(threads.values()))
        self.stages = load_patiently(list(threads), lambda name: build(name, work.recipe), pauses_s)
        self.threads = threads
        self.writer = PartWriter(work.recipe, work.new_parts_folder(), work.labels, work.retry)

    def queues(self) -> Queues:
        return {"read": (self.left, 0)} | {self.at: (self.left if self.at == "read" else 0, 1)}

    def make(self, unit: Unit, notice: Callable[[str], None]) -> Counted:
        """Make the part of one unit; return its counters."""
        self.left -= 1
        with self.crashes.attempt(unit.name) as deaths:
            if deaths >= DEATHS:
                raise FatalError(
                    f"unit {unit.name}: {deaths} processes in a row died in it ({DYING}); set engine.executor: ray, "
                    "whose workers find the row that they die of, or lower micro_batch_tokens of the stages"
                )
            for left in range(_RETRIES, -1, -1):
                try:
                    return self._once(unit)
                except RetryableError as fault:
                    if not left:
                        raise
                    notice(f"{fault}; unit {unit.name} is tried again")
        raise AssertionError("the last try returns or raises")

    def _once(self, unit: Unit) -> Counted:
        self.at = "read"
        table, counted = read_counted(unit, self.plan)
        for stage in self.stages:
            self.at = stage.name
            set_threads(self.threads[stage.name])
            table, stats = run_stage(stage, table)
            counted[stage.name] = asdict(stats)
        return self.writer.write(unit.name, table, counted)


def crash_counter(folder: RunFolder) -> CrashCounter:
    """Return the counter of deaths that all in-process drivers of a run share on this machine."""
    name = hashlib.sha256(folder.place.encode()).hexdigest()[:16]
    return CrashCounter(os.path.join(tempfile.gettempdir(), f"xner_ray-{os.getuid()}", name))


def deadly(folder: RunFolder, units: Iterable[Unit]) -> str | None:
    """Return the name of the first unit that has killed too many processes for another to try it, if there is one."""
    counter = crash_counter(folder)
    return next((unit.name for unit in units if counter.deaths(unit.name) >= DEATHS), None)
