"""Actor pools for a recipe's stages: which stages share an actor, how many workers each pool has, what they ask for.

Neighbouring stages with equal runtime settings share one actor: each loads its models, a unit passes through all of
them without leaving the process, and three stages that want the only GPU do not wait for one another. Different
settings make another pool.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xner_ray.errors import RecipeError
from xner_ray.models import vllm
from xner_ray.models.device import FAKE_GPU
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Runtime

# Logical CPUs of a read task. Reads and workers ask for a little less than the machine has, or reads would starve.
READ_CPUS = 0.05
_ONE_CPU = 0.95
_MOST_READERS = 64  # half a million rows a second
_MOST_WORKERS = 1000  # of a pool that grows with an autoscaled cluster
# Rows a second: what a worker on a GPU hands on at most, and what a worker matches at least. Both are generous: a GPU
# was estimated at 60 to 900, and one worker matched 39,000.
_FED_ROWS, _MATCHED_ROWS = 2_000, 5_000
_MOST_SHARE = 0.9  # of a device's memory, for language models; CUDA and other stages need the rest
_RESOURCES = ("CPU", "GPU", "memory")


@dataclass(frozen=True)
class Group:
    """Stages that share an actor, and the pool of those actors. `cpus`, `gpus`, `memory_gb` are one worker's."""

    stages: tuple[str, ...]
    workers: tuple[int, int]
    cpus: float
    gpus: float
    threads: int
    memory_gb: float | None


@dataclass(frozen=True)
class Capacity:
    """What an executor has, and its largest node. `in_process`: one worker, this process.

    `autoscaled`: an autoscaler may start more nodes. Nothing tells how many and of what size, so what such a cluster
    can never give is not refused here, but by the autoscaler's own answer when the run starts (`engine.reserve`).
    """

    cpus: float
    gpus: float
    local: bool
    memory_gb: float = float("inf")
    node: tuple[float, float, float] | None = None  # cpus, gpus, memory_gb
    autoscaled: bool = False
    in_process: bool = False
    assumed: bool = False  # nobody has looked

    @property
    def who(self) -> str:
        if self.assumed:
            return "what is assumed"
        return "this machine" if self.local else "the cluster"

    def holds(self, groups: Sequence[Group]) -> bool:
        """Return True if today's nodes have room for the pools' minima, in sum and one by one."""
        wanted = bundles(groups)
        most = dict(zip(_RESOURCES, (self.cpus, self.gpus, self.memory_gb * 1e9), strict=True))
        one = (
            dict(zip(_RESOURCES, (self.node[0], self.node[1], self.node[2] * 1e9), strict=True)) if self.node else most
        )
        return all(
            sum(bundle.get(key, 0) for bundle in wanted) <= most[key] + 1e-6
            and all(bundle.get(key, 0) <= one[key] + 1e-6 for bundle in wanted)
            for key in _RESOURCES
        )


def assumed(text: str) -> Capacity:
    """Return the capacity of nodes that are not there, as `gpus=8,cpus=64,memory_gb=512,nodes=2`, each for one node.

    RecipeError for anything else.
    """
    given: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        try:
            given[key] = float(value)
        except ValueError:
            given[key] = -1.0
    known = {"gpus": 0.0, "cpus": 0.0, "memory_gb": float("inf"), "nodes": 1.0}
    if (
        not given.keys() <= known.keys()
        or min(given.values()) < 0
        or not given.get("cpus")
        or not given.get("nodes", 1)
    ):
        raise RecipeError(
            f"--assume {text}: write it as cpus=64,gpus=8,memory_gb=512,nodes=2, each number that of a node"
        )
    gpus, cpus, memory_gb, nodes = (given.get(key, usual) for key, usual in known.items())
    return Capacity(
        cpus * nodes, gpus * nodes, local=False, memory_gb=memory_gb * nodes, node=(cpus, gpus, memory_gb), assumed=True
    )


def group(recipe: Recipe, capacity: Capacity, n_units: int) -> list[Group]:
    """Return actor pools for the recipe's stages, or one group of all stages for this process.

    RecipeError if their minima exceed the capacity, where no autoscaler may give more.
    """
    groups = _grouped(recipe)
    if capacity.in_process:
        if key := beyond_one_process(recipe):
            raise RecipeError(f"{key} is set, but engine.executor: inline is one worker, this process; use ray or auto")
        _refuse_gpus(groups[:1], capacity)
        here = [
            Group(tuple(names), (1, 1), runtime.threads, runtime.gpus, runtime.threads, None)
            for names, runtime in groups
        ]
        _refuse_shares(recipe, [replace(here[0], stages=tuple(recipe.stages))], capacity)
        return here
    if not capacity.autoscaled:
        _refuse_gpus(groups, capacity)
        _refuse_memory(groups, capacity)
    share, on_gpus = _cpu_share(groups, capacity), _gpu_workers(groups, capacity, n_units)
    sized = _fed(
        [
            _size(tuple(names), runtime, capacity, share, workers, n_units)
            for (names, runtime), workers in zip(groups, on_gpus, strict=True)
        ],
        groups,
    )
    _refuse_shares(recipe, sized, capacity)
    needed = sum(g.workers[0] * g.cpus for g in sized) + READ_CPUS
    if needed > capacity.cpus + 1e-6 and not capacity.autoscaled:
        raise RecipeError(
            f"the recipe's stages need at least {needed:.2f} CPUs ({_list(sized, 'cpus')}, reading {READ_CPUS}), but "
            f"{capacity.who} has {capacity.cpus:g}; lower workers or cpus of a stage, or use a larger cluster "
            "(engine.address)"
        )
    return sized


def _grouped(recipe: Recipe) -> list[tuple[list[str], Runtime]]:
    """Return the stages in order, neighbours with equal runtime settings together."""
    groups: list[tuple[list[str], Runtime]] = []
    for name in recipe.stages:
        section = getattr(recipe, name)
        runtime = Runtime(**{key: getattr(section, key) for key in Runtime.model_fields})
        if groups and groups[-1][1] == runtime:
            groups[-1][0].append(name)
        else:
            groups.append(([name], runtime))
    return groups


def beyond_one_process(recipe: Recipe) -> str | None:
    """Return the first key that one process cannot obey: several workers or devices, or resources set aside."""
    gpus = 0.0
    for names, runtime in _grouped(recipe):
        gpus += runtime.gpus
        several = max(runtime.workers) if isinstance(runtime.workers, tuple) else runtime.workers or 1
        asked = {
            "workers": several > 1,
            "cpus": runtime.cpus is not None,
            "memory_gb": runtime.memory_gb is not None,
            "gpus": runtime.gpus and gpus > 1,
        }
        if key := next((key for key, wanted in asked.items() if wanted), None):
            return f"{_named(names)}.{key}"
    return None


def local_capacity(recipe: Recipe | None = None, *, in_process: bool = False) -> Capacity:
    """Return what this machine has, without starting Ray. Devices are counted only for a recipe that asks for them."""
    gpus = 0.0
    if recipe is not None and any(getattr(recipe, name).gpus for name in recipe.stages):
        import torch  # takes seconds

        gpus = float("inf") if os.environ.get(FAKE_GPU) == "1" else float(torch.cuda.device_count())
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cpus = float(len(os.sched_getaffinity(0)))
    return Capacity(cpus, gpus, local=True, memory_gb=memory_gb, in_process=in_process)


def _refuse_gpus(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> None:
    needed = sum(_minimum(runtime) * runtime.gpus for _, runtime in groups)
    if needed > capacity.gpus + 1e-6:
        wanting = [f"{'+'.join(n)}: {_minimum(r)} x {r.gpus:g}" for n, r in groups if r.gpus]
        raise RecipeError(
            f"the recipe's stages need at least {needed:g} GPUs ({', '.join(wanting)}), but {capacity.who} has "
            f"{capacity.gpus:g}; set gpus: 0, a fraction, or fewer workers; neighbouring stages with equal settings "
            "share an actor, so give the stages between them the same"
        )


def _refuse_memory(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> None:
    needed = sum(_minimum(runtime) * (runtime.memory_gb or 0) for _, runtime in groups)
    if needed > capacity.memory_gb:
        raise RecipeError(
            f"memory_gb: the recipe's stages need at least {needed:g} GB, but {capacity.who} has "
            f"{capacity.memory_gb:.1f}; lower memory_gb or workers of a stage"
        )
    for names, runtime in groups:
        asked = (runtime.cpus or 0, runtime.gpus, runtime.memory_gb or 0)
        for what, one, most in zip(("cpus", "gpus", "memory_gb"), asked, capacity.node or asked, strict=True):
            if one > most + 1e-6:
                raise RecipeError(
                    f"{_named(names)}.{what} is {one:g} for one worker, but the largest node of the cluster has "
                    f"{most:g}"
                )


def _refuse_shares(recipe: Recipe, groups: Sequence[Group], capacity: Capacity) -> None:
    """Raise RecipeError if the language models of a pool's workers on one device would take too much of its memory."""
    for pool in groups:
        shares = {
            name: vllm.memory_share(getattr(recipe, name)) for name in pool.stages if recipe.engine_of(name) == "llm"
        }
        beside = pool.workers[1] if pool.gpus or capacity.local else 1
        if pool.gpus:
            beside = min(beside, max(1, int(1 / pool.gpus + 1e-6)))
        if (taken := beside * sum(shares.values())) > _MOST_SHARE + 1e-6:
            each = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            raise RecipeError(
                f"{next(iter(shares))}.llm.gpu_memory_share: vLLM would take {taken:g} of the memory of one device "
                f"({each}; {beside} worker{'s' * (beside > 1)} on it), but at most {_MOST_SHARE:g} may be taken; lower "
                "it for each of these stages, or the workers that share a device"
            )


def _cpu_share(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> float:
    """Return the CPUs left for each pool without a stated size."""
    stated = sum(_minimum(r) * (r.cpus or _ONE_CPU * r.threads) for _, r in groups if r.workers is not None)
    open_pools = sum(r.workers is None for _, r in groups)
    return max(0.0, capacity.cpus - READ_CPUS - stated) / max(1, open_pools)


def _gpu_workers(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity, n_units: int) -> list[int]:
    """Return the most workers of each pool on GPUs; 0 for others.

    On this machine all workers of all pools start at once, so the pools without a stated size share its GPUs: one more
    worker goes to the pool that has taken least, as long as there is room. Pools of a cluster grow when they need to,
    each up to all GPUs.
    """
    workers = [_minimum(runtime) if runtime.gpus else 0 for _, runtime in groups]
    growing = [i for i, (_, runtime) in enumerate(groups) if runtime.gpus and runtime.workers is None]

    def taken(at: int, more: int = 0) -> float:
        own, number = groups[at][1].gpus, workers[at] + more
        if own >= 1:
            return number * own
        on_one = int(1 / own + 1e-6)  # workers that one GPU holds: of 0.6 each it is one
        return number // on_one + number % on_one * own

    while growing:
        at = min(growing, key=taken)
        others = [i for i in range(len(groups)) if workers[i] and i != at] if capacity.local else []
        if workers[at] < n_units and taken(at, 1) + sum(map(taken, others)) <= capacity.gpus + 1e-6:
            workers[at] += 1
        else:
            growing.remove(at)
    return workers


def _size(
    names: tuple[str, ...], runtime: Runtime, capacity: Capacity, share: float, on_gpus: int, n_units: int
) -> Group:
    shares = runtime.workers is None and not capacity.autoscaled and share > 0.1
    cpus = runtime.cpus or min(_ONE_CPU * runtime.threads, share if shares else 1e9)
    if runtime.workers is not None:
        low = _minimum(runtime)
        high = runtime.workers[1] if isinstance(runtime.workers, tuple) else runtime.workers
    elif capacity.autoscaled:
        low, high = 1, max(1, min(_MOST_WORKERS, n_units))  # the autoscaler's maxima are the bound
    else:
        high = on_gpus or int(share / cpus + 1e-6)
        high = max(1, min(high, n_units))
        low = high if capacity.local else 1
    return Group(names, (low, high), round(cpus, 3), runtime.gpus, runtime.threads, runtime.memory_gb)


def _fed(sized: Sequence[Group], groups: Sequence[tuple[list[str], Runtime]]) -> list[Group]:
    """Return the pools; one that only matches, and whose size is open, with no more workers than GPUs can feed."""
    found: list[Group] = []
    on_gpus: int | None = None  # workers of the last pool on GPUs
    for pool, (names, runtime) in zip(sized, groups, strict=True):
        if names == ["match"] and runtime.workers is None and on_gpus is not None:
            most = -(-on_gpus * _FED_ROWS // _MATCHED_ROWS)
            pool = replace(pool, workers=(min(pool.workers[0], most), min(pool.workers[1], most)))
        if pool.gpus:
            on_gpus = min(on_gpus or pool.workers[1], pool.workers[1])
        found.append(pool)
    return found


def _named(names: Sequence[str]) -> str:
    """Return the stage of an actor that a message names: not target_tag, which mostly has its place from align."""
    return next((name for name in names if name != "target_tag"), names[0])


def _minimum(runtime: Runtime) -> int:
    return runtime.workers[0] if isinstance(runtime.workers, tuple) else runtime.workers or 1


def _list(groups: Sequence[Group], key: str) -> str:
    return ", ".join(f"{'+'.join(g.stages)} {g.workers[0]} x {getattr(g, key):g}" for g in groups)


def readers(groups: Sequence[Group]) -> int:
    """Return how many read tasks may run at a time.

    Reading a row takes less than half the time of the cheapest first stage (matching of given links). Without a bound,
    READ_CPUS would let twenty processes start for every CPU that no stage asks for.
    """
    return min(_MOST_READERS, max(2, (groups[0].workers[1] + 1) // 2))


def bundles(groups: Sequence[Group]) -> list[dict[str, float]]:
    """Return Ray's resources for the least number of workers, one dict a worker, and one for reading."""
    wanted = [
        {"CPU": g.cpus, "GPU": g.gpus, "memory": (g.memory_gb or 0) * 1e9} for g in groups for _ in range(g.workers[0])
    ]
    return [{key: value for key, value in bundle.items() if value} for bundle in [*wanted, {"CPU": READ_CPUS}]]


def needs(groups: Sequence[Group]) -> str:
    """Return what the least number of workers needs, in words."""
    kinds = (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory_gb", "GB of memory"))
    asked = [(field, unit) for field, unit in kinds if any(getattr(g, field) for g in groups)]
    return (
        ", ".join(f"{sum(g.workers[0] * (getattr(g, field) or 0) for g in groups):g} {unit}" for field, unit in asked)
        + " ("
        + ", ".join(f"{'+'.join(g.stages)}: {g.workers[0]} workers" for g in groups)
        + ")"
    )


def without_gpus(groups: Sequence[Group], n_gpus: int) -> list[Group] | None:
    """Return the pools with fewer workers, for GPUs that are left out; None if no worker is left of a pool.

    Of several pools on GPUs the one with the most workers gives way.
    """
    left = list(groups)
    for _ in range(n_gpus):
        at = max((i for i, one in enumerate(left) if one.gpus), key=lambda i: left[i].workers[1] * left[i].gpus)
        low, high = left[at].workers
        fewer = max(1, round(1 / left[at].gpus))
        if high - fewer < 1:
            return None
        left[at] = replace(left[at], workers=(max(1, min(low, high - fewer)), high - fewer))
    return left


def shrink(groups: Sequence[Group], n_units: int) -> list[Group]:
    """Return the pools with no more workers than units."""
    return [
        replace(g, workers=(max(1, min(g.workers[0], n_units)), max(1, min(g.workers[1], n_units)))) for g in groups
    ]
