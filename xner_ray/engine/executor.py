"""The contract of an executor: what runs the units of a run, and what it gets for that.

`inline.py` works in this process, one unit after the other; `ray_data.py` streams units through pools of actors. Both
give the same bytes, and a run that one of them began can be resumed by the other. `choice.py` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xner_ray.engine.pools import Capacity, Group
from xner_ray.read.index.units import Unit
from xner_ray.read.rows import ReadPlan
from xner_ray.recipe.model import Recipe
from xner_ray.report.progress import Queues
from xner_ray.run.folder import RunFolder
from xner_ray.run.parts import Retry


@dataclass(frozen=True)
class Events:
    """What a driver wants to hear while units are made.

    done(unit name, counters): once for each unit, as it is published. watch(queues): gets a function that tells at any
    time, from any thread, how many units are on their way. notice(line): a fault was survived.
    """

    done: Callable[[str, Mapping[str, Any]], None]
    watch: Callable[[Callable[[], Queues]], None]
    notice: Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What workers need to know to make the parts of units.

    With `retry` the units have parts already, and new parts take the place of the rows that it names.
    """

    recipe: Recipe
    plan: ReadPlan
    groups: Sequence[Group]
    folder: RunFolder
    labels: Sequence[str]
    retry: Retry | None = None

    def new_parts_folder(self) -> str:
        """Begin an attempt of its own, so that a dead driver's last writer meets nobody."""
        return self.folder.path("_run", "parts" if self.retry is None else "retried", self.folder.next_attempt())


def loading(recipe: Recipe) -> str:
    """Return the models that a recipe's stages load, as text; empty if they load none."""
    return ", ".join(f"{key} {name}" for key, name in recipe.models())


class Executor(Protocol):
    """What runs tasks and units."""

    @property
    def capacity(self) -> Capacity: ...

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Call `function` as `map` does, on workers without models; results in order."""
        ...

    def run_units(self, units: Sequence[Unit], work: Work, events: Events) -> None:
        """Make the parts of `units`. RetryableError, NodeError, FatalError."""
        ...
