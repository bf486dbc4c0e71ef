"""Ray, joined or started here: what it can give, tasks on it, its exceptions as ours."""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.sdk import request_resources
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xner_ray import interrupts
from xner_ray.engine.pools import Capacity, Group, bundles, needs
from xner_ray.errors import FatalError, RecipeError, RetryableError, XnerError
from xner_ray.storage.hub_settings import HubSettings, with_settings

_AUTOSCALER_ANSWERS_S = 60.0
_TOLD_S = 0.3  # between two looks for lines of progress
_HELD_S = 120.0  # longest wait for a GPU that is to be left out: a busy machine starts processes slowly
_LOST = (
    "xner-ray: ended, since Ray has lost the cluster's head or this machine's node, or by a kill (host memory?); "
    "once Ray runs again, the same command resumes"
)
_NODE_LOST = re.compile(r"node id: (\w+) and address: (\S+) .*has been marked dead")
_NODE_FULL = re.compile(r"killed due to the node running low on memory.*\(IP: ([^,]+),.*\) was (\S+ used / \S+ limit)")
_BY_RAY = "\nFailed to apply UDF transform"  # Ray Data adds lines to the message of what a call raises


@contextmanager
def cluster(address: str) -> Iterator[Capacity]:
    """Join or start Ray for as long as the block runs; yield what it can ever give. What was started here is shut down.

    RAY_ADDRESS comes first, because `ray job submit` sets it; a Ray that this process already runs comes before all.
    """
    address = os.environ.get("RAY_ADDRESS") or address
    started, handler = not ray.is_initialized(), signal.getsignal(signal.SIGTERM)
    core: Any = ray._private.worker
    said = core.print_to_stdstream
    with interrupts.last_words(_LOST) if started else nullcontext():
        try:
            if started:
                os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's own advice for its new default
                os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the rest is in Ray's session folder
                os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of Ray Data's own actors; ours are raised
                interrupts.block()
                with _quiet():
                    _init(address)
                _handle(handler)
                core.print_to_stdstream = partial(_said_by_ray, ray.get_runtime_context().get_node_id())
            yield _capacity(local=address == "local" and (started or is_kept() or _is_one_machine()))
        finally:
            if started:
                _shut_down(handler)
                core.print_to_stdstream = said


class _Kept:
    """Ray as this process keeps it open for several runs. stack: of the block that it was started by."""

    stack: ExitStack | None = None


def keep(address: str) -> None:
    """Start Ray on this machine, if none runs here, for as long as this process lives, instead of for one run.

    A cluster elsewhere is joined by each run; what was kept for runs on this machine ends then.
    """
    if (os.environ.get("RAY_ADDRESS") or address) != "local" or not ray.is_initialized():
        let_go()
    if (os.environ.get("RAY_ADDRESS") or address) == "local" and not ray.is_initialized():
        stack = ExitStack()
        stack.enter_context(cluster(address))
        _Kept.stack = stack
        atexit.register(let_go)


def is_kept() -> bool:
    """Return True if the Ray that this process runs is one that `keep` has started."""
    return _Kept.stack is not None and bool(ray.is_initialized())


def let_go() -> None:
    """Shut down the Ray that `keep` has started, if there is one."""
    stack, _Kept.stack = _Kept.stack, None
    if stack is not None:
        atexit.unregister(let_go)
        stack.close()


def _said_by_ray(own: str, message: Mapping[str, Any], ignore_prefix: bool) -> None:
    """Say of a node that it is lost, or short of memory, in a line. All else is of retries, and pages of logs.

    own: the driver's node. Without it the driver would wait for ever, so it ends with its last words.
    """
    for text in message["lines"]:
        if found := _NODE_LOST.search(text):
            if found[1] == own:
                os._exit(1)
            line = f"Ray has lost the node at {found[2]}; its work goes to others"
        elif found := _NODE_FULL.search(text):
            line = f"Ray has killed workers of the node at {found[1]}, short of memory ({found[2]}); they begin anew"
        else:
            continue
        print(line, file=sys.stderr, flush=True)


def _shut_down(handler: Any) -> None:
    """Shut Ray down. Its core takes SIGTERM's handler away, and seconds follow in which its processes end."""
    interrupts.block()
    node: Any = getattr(ray._private.worker, "_global_node", None)
    if node is not None:
        kill = node.kill_all_processes

        def handled(*arguments: Any, **options: Any) -> None:
            _handle(handler)
            kill(*arguments, **options)

        node.kill_all_processes = handled
    ray.shutdown()
    _handle(handler)


def _handle(handler: Any) -> None:
    """Put SIGTERM's handler back: Ray has set its own, its core one that prints a stack and aborts, later none."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _init(address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        _start(options)
        return
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise RecipeError(
            f"engine.address (or RAY_ADDRESS) is {address!r}: no Ray cluster answers there ({error}); allowed: local, "
            "auto, HOST:PORT. Ray asks for the cluster's token (RAY_AUTH_TOKEN_PATH) unless authentication is off, and "
            "for a machine that is a node of the cluster; any other sends the command there by `ray job submit`"
        ) from None


def _start(options: Mapping[str, Any]) -> None:
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:  # Ray raises plain ones; whatever it is, no Ray runs here
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logs = os.path.join(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "session_latest", "logs")
        raise FatalError(
            f"Ray did not start on this machine: {why} Mostly the machine is too busy, or short of memory or disk: "
            "free it, and the same command resumes; a small project needs no Ray (--set engine.executor=inline), and "
            f"engine.address names one that runs already. Ray's logs: {logs}"
        ) from error


def _capacity(*, local: bool) -> Capacity:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = [sum(node.get(key, 0) for node in nodes) for key in ("CPU", "GPU", "memory")]
    largest = [max((node.get(key, 0) for node in nodes), default=0) for key in ("CPU", "GPU", "memory")]
    autoscaled = not local and _is_autoscaled()
    return Capacity(
        cpus=float(total[0]),
        gpus=float(total[1]),
        local=local,
        memory_gb=total[2] / 1e9,
        node=(largest[0], largest[1], largest[2] / 1e9),
        autoscaled=autoscaled,
    )


def _is_one_machine() -> bool:
    """Return True if the Ray that this process has joined before is one node, and no autoscaler adds others."""
    return sum(node["Alive"] for node in ray.nodes()) == 1 and not _is_autoscaled()


def _is_autoscaled() -> bool:
    return bool(_cluster_status().autoscaling_state.autoscaler_state_version > 0)


def _cluster_status() -> GetClusterStatusReply:
    """Return what Ray and its autoscaler (v2) last told each other."""
    address = ray.get_runtime_context().gcs_address
    status = GetClusterStatusReply()
    status.ParseFromString(GcsClient(address=address).get_cluster_status(timeout_s=30))
    return status


def reserve(groups: Sequence[Group], capacity: Capacity) -> None:
    """Raise RecipeError if not even the autoscaler can give what the pools need at least.

    No configuration of an autoscaler can be read from here, but it answers: a request that its node types and their
    maxima cannot meet is called infeasible and starts nothing; one that they can starts what the pools are about to ask
    for anyway. The request is withdrawn at once, or its nodes would outlive a killed driver.
    """
    if not capacity.autoscaled or capacity.holds(groups):
        return
    try:
        request_resources(bundles=bundles(groups))
        asked = _cluster_status().cluster_resource_state.cluster_resource_state_version
        deadline = time.monotonic() + _AUTOSCALER_ANSWERS_S
        state = _cluster_status().autoscaling_state
        while state.last_seen_cluster_resource_state_version <= asked and time.monotonic() < deadline:
            time.sleep(0.2)
            state = _cluster_status().autoscaling_state
    finally:
        request_resources(bundles=[])
    if state.infeasible_cluster_resource_constraints:
        raise RecipeError(
            f"the recipe's stages need at least {needs(groups)}; the cluster has {capacity.cpus:g} CPUs and "
            f"{capacity.gpus:g} GPUs, and its autoscaler says that its node types and their maxima cannot give the "
            "rest; lower workers, gpus, cpus or memory_gb of a stage, or raise the autoscaler's maxima"
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
        except (XnerError, KeyboardInterrupt):
            raise
        except BaseException:
            if not interrupts.came():  # else it is what Ray's core says of the signal
                held.seek(0)
                os.write(terminal, held.read())
            raise
        finally:
            if not interrupts.came():  # then the file is silent to the end
                os.dup2(terminal, 2)
            os.close(terminal)


def hold(node: str, gpu: str) -> Any:
    """Keep one GPU of a node from all workers, as long as what this returns lives; None if it cannot be got.

    Ray gives whichever GPU is free, so all of the node's are taken, and all but this one given back.
    """
    found = next((one for one in ray.nodes() if one["NodeID"] == node and one["Alive"]), None)
    if found is None:
        return None
    remote: Any = ray.remote(num_cpus=0, num_gpus=1)(_Holder)
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    holders = [remote.options(scheduling_strategy=where).remote() for _ in range(int(found["Resources"].get("GPU", 0)))]
    numbers = {holder.gpus.remote(): holder for holder in holders}
    deadline, waiting = time.monotonic() + _HELD_S, list(numbers)
    kept: Any = None
    while waiting and kept is None and time.monotonic() < deadline:  # the workers that had them are still ending
        ready, waiting = ray.wait(waiting, timeout=1)
        kept = next((numbers[one] for one in ready if gpu in ray.get(one)), None)
    for holder in holders:
        if holder is not kept:
            ray.kill(holder)
    return kept


class _Holder:
    def gpus(self) -> list[str]:
        return visible_gpus()


def visible_gpus() -> list[str]:
    """Return Ray's numbers of the GPUs that it gave to this worker."""
    return [str(one) for one in ray.get_runtime_context().get_accelerator_ids().get("GPU", [])]


def map_tasks(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Map a function over Ray tasks of one CPU each; results in order.

    Called before the pools are there and after they are gone, so that all CPUs are free. One call only is a task too:
    what it needs for a large file would stay with the driver.
    """
    tasks = _begun(function, *arguments)
    with own_errors():
        result: list[Any] = ray.get(tasks)
    return result


def each_task(function: Callable[..., Any], *arguments: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Map a function over Ray tasks as `map_tasks` does; yield the number and result of each as soon as it ends."""
    numbers = {task: number for number, task in enumerate(_begun(function, *arguments))}
    while numbers:
        with own_errors():
            (task,), _ = ray.wait(list(numbers), num_returns=1)
            result = ray.get(task)
        yield numbers.pop(task), result


def _begun(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    remote: Any = ray.remote(num_cpus=1, max_retries=3)(with_settings)
    settings = HubSettings()
    return [remote.remote(settings, function, *call) for call in zip(*arguments, strict=True)]


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what Ray wraps as exceptions of ours.

    The one that was raised on purpose; else FatalError with the cause, or RetryableError where workers were lost.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        seen: list[BaseException] = []
        while cause is not None and cause not in seen:
            if isinstance(cause, XnerError) and not isinstance(cause, ray.exceptions.RayError):
                cause.args = tuple(str(part).split(_BY_RAY, 1)[0] for part in cause.args)
                raise cause from None
            seen.append(cause)
            cause = getattr(cause, "cause", None) or cause.__cause__
        kind = FatalError if isinstance(error, ray.exceptions.RayTaskError) else RetryableError
        raise kind(f"a worker failed: {type(seen[-1]).__name__}: {str(seen[-1]).strip()}") from None


class Lines:
    """Lines of progress on their way from a process elsewhere to the driver; an actor.

    It stands here, where no model code is loaded: that would take 10 s of its process.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        """Return the lines that have come since the last call."""
        found, self._lines = self._lines, []
        return found


@contextmanager
def relayed(say: Callable[[str], None]) -> Iterator[Any]:
    """Yield an actor, of `Lines`, whose lines are said in this process while the block runs."""
    actor: Any = ray.remote(num_cpus=0)(Lines)
    lines, ended = actor.remote(), threading.Event()

    def relay() -> None:
        last = False
        while not last:
            last = ended.wait(_TOLD_S)
            try:
                for line in ray.get(lines.take.remote(), timeout=60):
                    say(line)
            except ray.exceptions.RayError:  # its node is lost: the training goes on without a word
                say("the lines of progress are lost with a node; the training goes on")
                return

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join(timeout=5)
        ray.kill(lines)
