"""The run on Ray Data. This file, `ray_cluster.py` and `train/ray.py` alone import ray.

    unit source -> read tasks -> actor pool of model stages -> actor pool that matches and writes parts -> ledger

A unit travels as one row (`envelope.py`), and the units of one range in several languages as one block (`bundles.py`),
which is one task of each pool. The last pool publishes each unit's part and returns its ledger row; a unit is done when
its part exists, so a resume reads only the missing units.
Reads and workers ask for fractions of a CPU, or on two cores the reads would never start.

Faults, from small to large. A worker whose process dies is started again by Ray, and its unit with it; a unit that
kills its worker every time ends the run (`crashes.py`). A worker whose device fails ends its process; the next one asks
the device first, with a row that is known to be good (`control.py`). If it fails on that too, the GPU is left out; so a
row that breaks a device is told from a device that breaks rows. A worker whose models do not load tries again in place,
then its node is left out. The rest of the units go through new pools. So does a loss of workers that Ray gives up on.
What does not help after `_TRIES` new pools that finish no unit ends the run, and the same command resumes it.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.util.metrics import Counter, Gauge

from xner_ray.engine import ray_cluster
from xner_ray.engine.bundles import bundled
from xner_ray.engine.control import control
from xner_ray.engine.crashes import DEATHS, DYING, CrashCounter
from xner_ray.engine.envelope import pack, unpack
from xner_ray.engine.executor import Events, Work
from xner_ray.engine.guard import check, run_stage
from xner_ray.engine.pools import READ_CPUS, Capacity, Group, readers, without_gpus
from xner_ray.engine.ray_cluster import own_errors
from xner_ray.engine.stages import build
from xner_ray.engine.worker import (
    PAUSES_S,
    Counted,
    PartWriter,
    environment,
    load_patiently,
    read_packed,
    set_threads,
)
from xner_ray.errors import DeviceError, FatalError, NodeError, RetryableError, ServiceError, XnerError
from xner_ray.models.faults import without_frames
from xner_ray.read.index.units import Unit
from xner_ray.read.rows import ReadPlan
from xner_ray.recipe.model import Recipe
from xner_ray.report.progress import Queues
from xner_ray.run import parts as part_files
from xner_ray.stage import Stage, forget
from xner_ray.storage.hub_settings import HubSettings, with_settings

_TRIES = 3  # new pools in a row, no unit finished


class UnitSource(Datasource):
    """One read task a bundle of units."""

    def __init__(self, bundles: Sequence[Sequence[Unit]], plan: ReadPlan) -> None:
        super().__init__()
        self._bundles = bundles
        self._plan, self._settings = plan, HubSettings()

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        del parallelism, per_task_row_limit, data_context  # the bundles decide
        return [
            ReadTask(
                partial(with_settings, self._settings, read_packed, bundle, self._plan),
                BlockMetadata(num_rows=len(bundle), size_bytes=None, exec_stats=None),
            )
            for bundle in self._bundles
        ]


class Metrics:
    """Live counters of one worker's stages, for Prometheus through Ray.

    Live counters may count twice a unit that Ray gives to a worker again, and may lose the last seconds before a worker
    is killed. The report never does either: it is the sum of the parts' footers.
    """

    def __init__(self) -> None:
        tags = ("stage", "lang")
        self.sums = {
            key: Counter(f"xner_ray_{name}_total", description=text, tag_keys=tags)
            for key, name, text in (
                ("rows", "rows", "rows that came to a stage without being rejected"),
                ("tokens", "tokens", "tokens that a stage's model read or wrote"),
                ("seconds", "stage_seconds", "wall time of a stage"),
                ("model_seconds", "model_seconds", "wall time of a stage inside its model"),
            )
        }
        self.rejects = Counter("xner_ray_rejects_total", description="rows rejected", tag_keys=(*tags, "reason"))

    def add(self, stage: str, lang: str, counted: Mapping[str, Any]) -> None:
        tags = {"stage": stage, "lang": lang}
        for key, counter in self.sums.items():
            if counted[key] > 0:  # a counter takes no 0
                counter.inc(counted[key], tags=tags)
        for reason, number in counted["rejects"].items():
            self.rejects.inc(number, tags={**tags, "reason": reason})


class Worker:
    """An actor: some stages with their models loaded, called with one unit at a time, those of a bundle in turn."""

    pauses_s: tuple[float, ...] = PAUSES_S
    deaths = DEATHS  # in loading, the node is left out after so many
    most_deaths = 40  # of one unit: a row is found after some 20

    def __init__(self, recipe: Recipe, group: Group, parts: str, settings: HubSettings) -> None:
        """`parts` is the folder of this driver's parts."""
        settings.take()
        os.environ.update(environment(group.threads))  # Ray would decide by num_cpus
        self.recipe, self.name = recipe, "+".join(group.stages)
        self.node = ray.get_runtime_context().get_node_id()
        self.gpu = ",".join(ray_cluster.visible_gpus())
        self.crashes = CrashCounter(_node_folder(self.node, parts))
        self.in_pieces, self.rows = False, ""
        self.stages: list[Stage] = []
        self.metrics = Metrics()
        self.failure: XnerError | None = None
        try:
            self.stages = self._load(group.stages)
            self._check_device()
        except XnerError as error:
            # Ray hands on what a call raises as it is, but of what a constructor raises only a text.
            self.failure = error
        set_threads(group.threads)
        gc.freeze()  # modules and models stay, and each search for cycles would walk through them again

    def load(self, name: str) -> Stage:
        return build(name, self.recipe)

    def _load(self, names: Sequence[str]) -> list[Stage]:
        """Load the stages. NodeError if that goes wrong in a way that another node may not share.

        ServiceError where what does not answer is asked by all nodes.
        """
        where = f"the models of {self.name} do not load on node {self.node[:12]}"
        with self.crashes.attempt(f"load {self.name}") as deaths:
            if deaths >= self.deaths:
                raise NodeError(f"{where}: {deaths} processes died of it in a row ({DYING})", self.node)
            try:
                return load_patiently(names, self.load, self.pauses_s)
            except ServiceError:
                raise
            except RetryableError as failure:
                raise NodeError(f"{where}: {failure}", self.node) from failure
            except DeviceError as error:
                raise self._left_out(error) from None

    @property
    def device(self) -> str:
        return f"{self.name} on device {self.gpu}"

    def _check_device(self) -> None:
        """Ask the device with a good row, if the last process that used it died. NodeError if it fails."""
        if not self.crashes.deaths(self.device):
            return
        try:
            for stage in self.stages:
                check(stage, control(self.recipe))
        except DeviceError as error:
            raise self._left_out(error) from None

    def _left_out(self, error: DeviceError) -> NodeError:
        where = f"GPU {self.gpu} of node {self.node[:12]}" if self.gpu else f"node {self.node[:12]}"
        return NodeError(f"{where} is left out: {error}", self.node, self.gpu or None)

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.failure is not None:
            raise self.failure
        ((unit, table, counted),) = unpack(batch)
        if (rows := unit.rpartition("-")[2]) != self.rows:
            self.rows = rows
            for stage in self.stages:
                forget(stage)  # the next bundle has another source side
        return self._survive(unit, table, counted)

    def _survive(self, unit: str, table: pa.Table, counted: Counted) -> pa.Table:
        """Do the work of one unit, as one of several tries if earlier ones killed their processes."""
        with self.crashes.attempt(self.device), self.crashes.attempt(f"{self.name} {unit}") as deaths:
            if deaths >= self.most_deaths:
                raise FatalError(
                    f"unit {unit}: {deaths} workers in a row died in the stages {self.name} ({DYING}); lower "
                    "micro_batch_tokens or threads of these stages, give them memory_gb or nodes with more memory; "
                    "Ray's logs say more of each death, and the same command resumes"
                )
            self.in_pieces = deaths >= self.deaths
            try:
                return self.work(unit, table, counted)
            except DeviceError as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)  # counts as a death, of the unit and of the device

    def work(self, unit: str, table: pa.Table, counted: Counted) -> pa.Table:
        lang = table.column("lang")[0].as_py()
        if list(counted) == ["read"]:  # which read tasks, that last for one unit, leave to the first worker
            self.metrics.add("read", lang, counted["read"])
        for stage in self.stages:
            table, stats = run_stage(stage, table, self.crashes if self.in_pieces else None, unit)
            counted[stage.name] = asdict(stats)
            self.metrics.add(stage.name, lang, counted[stage.name])
        return pack(unit, table, counted)


def _node_folder(node: str, parts: str) -> str:
    """A local folder that the workers of one driver share on one node, below Ray's own of its session."""
    context = ray.get_runtime_context()
    of_run = hashlib.sha256(parts.encode()).hexdigest()[:16]
    return os.path.join(context.get_temp_dir(), context.get_session_name(), "xner_ray", of_run, node)


class WritingWorker(Worker):
    """The last actor: publishes the part, and returns the ledger row instead of the rows."""

    def __init__(
        self,
        recipe: Recipe,
        group: Group,
        parts: str,
        settings: HubSettings,
        labels: Sequence[str],
        retry: part_files.Retry | None,
    ) -> None:
        super().__init__(recipe, group, parts, settings)
        self.writer = PartWriter(recipe, parts, labels, retry)

    def work(self, unit: str, table: pa.Table, counted: Counted) -> pa.Table:
        ((unit, table, counted),) = unpack(super().work(unit, table, counted))
        return pack(unit, table.slice(0, 0), self.writer.write(unit, table, counted))


WORKERS: tuple[type[Worker], type[Worker]] = (Worker, WritingWorker)  # of every pool but the last, and of the last


class RayExecutor:
    """An executor on Ray: tasks for what needs no model, pools of actors for units."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity

    @classmethod
    @contextmanager
    def at(cls, address: str) -> Iterator[RayExecutor]:
        """Join Ray at an address, or start it here, for as long as the block runs; see `ray_cluster.cluster`."""
        with ray_cluster.cluster(address) as capacity:
            yield cls(capacity)

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        return ray_cluster.map_tasks(function, *arguments)

    def run_units(self, units: Sequence[Unit], work: Work, events: Events) -> None:
        """See `executor.Executor`. A fault of the cluster makes the rest of the units go through new pools."""
        ray_cluster.reserve(work.groups, self.capacity)
        groups, held = list(work.groups), []
        left = {unit.name: unit for unit in units}

        def ready(name: str, counters: Mapping[str, Any]) -> None:
            if left.pop(name, None) is not None:
                events.done(name, counters)

        left_out: list[str] = []
        tries = 0
        while left:
            before, fault = len(left), None
            try:
                _run_pools(list(left.values()), replace(work, groups=groups), ready, events.watch, left_out)
            except (NodeError, RetryableError) as caught:
                fault = without_frames(caught)  # or the old workers would live on with it, and their GPUs be taken
            if fault is None:
                continue
            events.watch(dict)
            gc.collect()  # what is left of the pools refers to itself, and its actors end with it
            tries = tries + 1 if len(left) == before else 1
            if isinstance(fault, NodeError):
                holder = ray_cluster.hold(fault.node, fault.gpu) if fault.gpu else None
                fewer = without_gpus(groups, 1) if holder is not None else None
                if fewer is not None:
                    groups = fewer
                    held.append(holder)
                else:
                    left_out.append(fault.node)
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if tries == _TRIES or alive <= set(left_out):
                raise fault
            where = "on other nodes" if left_out else "on the other GPUs" if held else "with new workers"
            events.notice(f"{fault}; {len(left):,} units are made {where}")


def _run_pools(
    units: Sequence[Unit],
    work: Work,
    ready: Callable[[str, Mapping[str, Any]], None],
    watch: Callable[[Callable[[], Queues]], None],
    left_out: Sequence[str],
) -> None:
    """Stream units through one set of pools."""
    parts = work.new_parts_folder()
    _configure(DataContext.get_current())
    bundles = bundled(units, work.recipe, work.groups)
    data = ray.data.read_datasource(
        UnitSource(bundles, work.plan),
        num_cpus=READ_CPUS,
        concurrency=min(readers(work.groups), len(bundles)),  # Ray warns of a bound that cannot be reached
        override_num_blocks=len(bundles),
    )
    for group in work.groups:
        last = group is work.groups[-1]
        arguments = (work.recipe, group, parts, HubSettings(), *((work.labels, work.retry) if last else ()))
        data = data.map_batches(
            WORKERS[last],
            fn_constructor_args=arguments,
            batch_size=1,  # a unit; a block, which is a bundle, is a task of one worker
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=group.workers[0], max_size=group.workers[1], max_tasks_in_flight_per_actor=2
            ),
            num_cpus=group.cpus,
            num_gpus=group.gpus or None,
            memory=group.memory_gb * 1e9 if group.memory_gb else None,
            label_selector={"ray.io/node-id": f"!in({','.join(left_out)})"} if left_out else None,
        )
    pools = ["read", *(group.stages[0] for group in work.groups)]
    queues = partial(_queues, data, pools, len(units) / len(bundles))
    watch(queues)
    sizes = {unit.name: unit.n_rows for unit in units}
    rows_left = sum(sizes.values())
    left = Gauge("xner_ray_rows_left", description="rows of units that are not published yet")
    on_their_way = Gauge("xner_ray_units", description="units at a stage's pool", tag_keys=("stage", "state"))
    with own_errors():
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for unit, _, counters in unpack(batch):
                ready(unit, counters)
                rows_left -= sizes[unit]
                left.set(rows_left)
                for stage, numbers in queues().items():
                    for state, number in zip(("waiting", "working"), numbers, strict=True):
                        on_their_way.set(number, tags={"stage": stage, "state": state})


def _queues(data: ray.data.Dataset, pools: Sequence[str], n_units: float) -> Queues:
    """Return queued and running unit counts per pool. n_units: of a block, on average.

    Empty until the first unit is through: Ray does not tell before. The counts change while they are read, so a unit
    between two pools may be counted twice, or not at all.
    """
    topology = getattr(data._current_executor, "_topology", None)
    if not topology:
        return {}
    _, *operators = topology.values()  # the first one holds what the read tasks get
    return {
        name: (round(n_units * state.total_enqueued_input_blocks()), round(n_units * state.op.num_active_tasks()))
        for name, state in zip(pools, operators, strict=False)
    }


def _configure(context: DataContext) -> None:
    """Set the context before the source is made, which copies it."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors come as exceptions, and to its log file
    context.target_max_block_size = None  # or a large unit is cut in pieces
    context.enable_progress_bars = False  # ours count rows, not blocks
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = 24 * 3600  # spot capacity may be hours away
    context.max_consecutive_actor_init_deaths = 5  # one node that kills a loading model is not the end
    context.raise_original_map_exception = True  # ours must arrive as what they are
    context.retried_map_errors = ["RetryableError", "ServiceError"]
    context.max_map_retries = 3
