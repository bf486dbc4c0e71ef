"""The run on Ray Data. The only file that imports ray.

    unit source -> read tasks -> actor pool of model stages -> actor pool that matches and writes parts -> ledger

A unit travels as one row (`envelope.py`), so `batch_size=1` is one call of each pool. The last pool publishes the
unit's part and returns a ledger row; a unit is done when its part exists, so a resume reads only the missing units.
Reads and workers ask for fractions of a CPU, or on two cores the reads would never start.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from xner_ray import write
from xner_ray.envelope import pack, read_packed, unpack
from xner_ray.errors import FatalError, RecipeError, XnerError
from xner_ray.folder import RunFolder
from xner_ray.guard import run_stage
from xner_ray.planning import READ_CPUS, Capacity, Group
from xner_ray.read.rows import ReadPlan
from xner_ray.read.units import Unit
from xner_ray.recipe import Recipe
from xner_ray.stage import Stage
from xner_ray.stages import build


@contextmanager
def cluster(address: str) -> Iterator[Capacity]:
    """Ray, joined or started, and what it can ever give. What was started here is shut down here.

    RAY_ADDRESS comes first, because `ray job submit` sets it; a Ray that this process already runs comes before all.
    """
    address = os.environ.get("RAY_ADDRESS") or address
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's own advice for its new default
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the rest is in Ray's session folder
        with _quiet():
            _init(address)
    try:
        yield _capacity(local=address == "local")
    finally:
        if started:
            ray.shutdown()


def _init(address: str) -> None:
    local = address == "local"
    options: dict[str, Any] = {"include_dashboard": False} if local else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise RecipeError(
            f"engine.address (or RAY_ADDRESS) is {address!r}: no Ray cluster answers there ({error}); allowed: local, "
            "auto, HOST:PORT. Ray asks for the cluster's token (RAY_AUTH_TOKEN_PATH) unless authentication is off"
        ) from None


def _capacity(*, local: bool) -> Capacity:
    now = ray.cluster_resources()
    config = ray._private.state.state.get_max_resources_from_cluster_config()
    most = {key: max(now.get(key, 0), (config or {}).get(key, 0)) for key in ("CPU", "GPU", "memory")}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = [max((node.get(key, 0) for node in nodes), default=0) for key in ("CPU", "GPU", "memory")]
    return Capacity(
        cpus=float(most["CPU"]),
        gpus=float(most["GPU"]),
        local=local,
        memory_gb=most["memory"] / 1e9,
        node=None if config else (largest[0], largest[1], largest[2] / 1e9),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Ray's C++ core writes to the terminal while it starts; show it if it fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except XnerError:
            raise
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def map_tasks(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """`map` over Ray tasks of one CPU each; results in order. One call only is made here, without a task.

    Called before the pools are there and after they are gone, so that all CPUs are free.
    """
    calls = list(zip(*arguments, strict=True))
    if len(calls) == 1:
        return [function(*calls[0])]
    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    with _own_errors():
        result: list[Any] = ray.get([remote.remote(*call) for call in calls])
    return result


class UnitSource(Datasource):
    """One read task a unit."""

    def __init__(self, units: Sequence[Unit], plan: ReadPlan) -> None:
        super().__init__()
        self._units = units
        self._plan = plan

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        del parallelism, per_task_row_limit, data_context  # the units decide
        return [
            ReadTask(
                partial(read_packed, unit, self._plan),
                BlockMetadata(num_rows=1, size_bytes=None, exec_stats=None),
            )
            for unit in self._units
        ]


class Worker:
    """An actor: some stages with their models loaded, called with one unit at a time."""

    def __init__(self, recipe: Recipe, group: Group) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.set_num_threads(group.threads)  # Ray would decide by num_cpus; bytes must not depend on that
        self.stages: list[Stage] = []
        self.failure: XnerError | None = None
        # Ray would restart an actor whose constructor raises without end; the first call says it instead.
        for name in group.stages:
            try:
                self.stages.append(build(name, recipe))
            except XnerError as error:
                self.failure = error
            except Exception as error:
                self.failure = FatalError(f"stage {name} cannot be started: {type(error).__name__}: {error}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.failure is not None:
            raise self.failure
        unit, table, counted = unpack(batch)
        for stage in self.stages:
            table, stats = run_stage(stage, table)
            counted[stage.name] = asdict(stats)
        return pack(unit, table, counted)


class WritingWorker(Worker):
    """The last actor: publishes the part, and returns the ledger row instead of the rows."""

    def __init__(self, recipe: Recipe, group: Group, parts: str, labels: Sequence[str]) -> None:
        super().__init__(recipe, group)
        self.parts = parts
        self.labels = labels
        # A second matching may still find what the first did not.
        self.reject_incomplete = recipe.output.incomplete == "reject" and not recipe.two_passes

    def __call__(self, batch: pa.Table) -> pa.Table:
        unit, table, counted = unpack(super().__call__(batch))
        table = write.finish(table, self.labels, reject_incomplete=self.reject_incomplete)
        counters = {**write.count(table), "stages": counted}
        write.write_part(f"{self.parts}/{unit}.parquet", table, counters)
        return pack(unit, table.slice(0, 0), counters)


def run_units(
    units: Sequence[Unit],
    *,
    recipe: Recipe,
    plan: ReadPlan,
    groups: Sequence[Group],
    folder: RunFolder,
    labels: Sequence[str],
    done: Callable[[str, Mapping[str, Any]], None],
) -> None:
    """Make the parts of `units`; `done(unit name, counters)` is called as each is published."""
    parts = folder.path("_run", "parts", folder.next_attempt())
    _configure(DataContext.get_current())
    data = ray.data.read_datasource(UnitSource(units, plan), num_cpus=READ_CPUS, override_num_blocks=len(units))
    for group in groups:
        last = group is groups[-1]
        arguments = (recipe, group, parts, labels) if last else (recipe, group)
        data = data.map_batches(
            WritingWorker if last else Worker,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=group.workers[0], max_size=group.workers[1], max_tasks_in_flight_per_actor=2
            ),
            num_cpus=group.cpus,
            num_gpus=group.gpus or None,
            memory=group.memory_gb * 1e9 if group.memory_gb else None,
        )
    with _own_errors():
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in range(batch.num_rows):
                unit, _, counters = unpack(batch.slice(row, 1))
                done(unit, counters)


def _configure(context: DataContext) -> None:
    """Before the source is made: Ray copies the context then."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors come as exceptions, and to its log file
    context.target_max_block_size = None  # or a large unit is cut in pieces
    context.enable_progress_bars = False  # ours count rows, not blocks
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = 24 * 3600  # spot capacity may be hours away
    context.max_consecutive_actor_init_deaths = 5  # one node that kills a loading model is not the end
    context.raise_original_map_exception = True  # ours must arrive as what they are
    context.retried_map_errors = ["RetryableError"]
    context.max_map_retries = 3


@contextmanager
def _own_errors() -> Iterator[None]:
    """Ray's wrapped exceptions as ours: the one that was raised on purpose, else a FatalError with the cause."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        seen: list[BaseException] = []
        while cause is not None and cause not in seen:
            if isinstance(cause, XnerError) and not isinstance(cause, ray.exceptions.RayError):
                raise cause from None
            seen.append(cause)
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise FatalError(f"a worker failed: {type(seen[-1]).__name__}: {str(seen[-1]).strip()}") from None
