"""The estimate that `plan` shows: how long a run takes, which pool it waits for, and what its GPUs cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from xner_ray.errors import RecipeError
from xner_ray.recipe.model import Recipe
from xner_ray.sizing import rates, roofline
from xner_ray.sizing.rates import Rate

AROUND = "read and write"


class Pool(Protocol):
    """What `engine.pools.Group` says of a pool."""

    @property
    def stages(self) -> tuple[str, ...]: ...
    @property
    def workers(self) -> tuple[int, int]: ...
    @property
    def gpus(self) -> float: ...
    @property
    def threads(self) -> int: ...


@dataclass(frozen=True)
class Assumed:
    """What `--assume` says beside the nodes: the GPU by its figures, the price of its hour, rows of each language."""

    gpu: roofline.Device | None = None
    gpu_hour: float | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Line:
    """One stage of a pool. wide: threads or GPUs of all workers together. hours: that these take for its rows."""

    stage: str
    rate: Rate | str
    wide: float
    on_gpu: bool
    rows: int

    @property
    def rows_per_s(self) -> float | None:
        """Rows a second of the whole pool, if it did nothing else."""
        return self.rate.rows_per_s * self.wide if isinstance(self.rate, Rate) else None

    @property
    def hours(self) -> float | None:
        return None if self.rows_per_s is None else self.rows / self.rows_per_s / 3600


@dataclass(frozen=True)
class Estimate:
    """pools: the lines of each, by name. hours: None where a rate is missing, which `missing` says."""

    rows: int
    pools: dict[str, list[Line]]
    hours: float | None
    bound: str = ""
    gpu_hours: float = 0.0
    cost: float | None = None
    priced: str = ""
    missing: list[str] = field(default_factory=list)

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.hours / 3600 if self.hours else 0.0

    @property
    def lines(self) -> list[Line]:
        return [line for own in self.pools.values() for line in own]

    @property
    def kinds(self) -> list[str]:
        return sorted({line.rate.kind for line in self.lines if isinstance(line.rate, Rate)})


def split(assume: str) -> tuple[str, Assumed]:
    """Return the part of `--assume` that names nodes, and the rest. RecipeError for a rest that says nothing."""
    nodes, own = [], {}
    for part in assume.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key in ("gpu", "gpu_hour", "rows"):
            own[key] = value
        else:
            nodes.append(part)
    device = rates.gpu(own["gpu"]) if "gpu" in own else None
    if "gpu" in own and device is None:
        raise RecipeError(f"--assume gpu={own['gpu']}: no figures of it; allowed: {', '.join(roofline.DEVICES)}")
    numbers: dict[str, float] = {}
    for key in own.keys() - {"gpu"}:
        try:
            numbers[key] = float(own[key])
        except ValueError:
            numbers[key] = 0.0
        if not 0 < numbers[key] < float("inf"):
            raise RecipeError(
                f"--assume {key}={own[key]}: allowed is a number above 0, as in gpu_hour=2.5,rows=3000000"
            )
    rows = int(numbers["rows"]) if "rows" in numbers else None
    return ",".join(nodes), Assumed(device, numbers.get("gpu_hour"), rows)


def estimate(
    recipe: Recipe,
    pools: Sequence[Pool],
    rows: Mapping[str, int],
    words: Mapping[str, int],
    *,
    cpus: float,
    in_process: bool = False,
    given: Assumed = Assumed(),
) -> Estimate:
    """Estimate a run over so many rows and words by language.

    pools: as `engine.pools.group` sizes them, of which all workers are counted. cpus: of all nodes. in_process: the
    stages take turns in one process. The pools work at the same time, so the slowest of them decides.
    """
    total = sum(rows.values())
    mean = max(1.0, sum(words.values()) / max(1, total))
    found: dict[str, list[Line]] = {}
    for pool in pools:
        workers = 1 if in_process else pool.workers[1]
        wide = workers * (min(1.0, pool.gpus) if pool.gpus else pool.threads)
        found[" + ".join(pool.stages)] = [
            Line(
                stage, rates.rate_of(recipe, stage, mean, given.gpu), wide, bool(pool.gpus), _rows(recipe, stage, rows)
            )
            for stage in pool.stages
        ]
    found[AROUND] = [Line(AROUND, rates.read_and_write(mean), 1.0 if in_process else cpus, False, total)]
    missing = [line.rate for own in found.values() for line in own if isinstance(line.rate, str)]
    if missing:
        return Estimate(total, found, None, missing=missing)
    taken = {name: sum(line.hours or 0.0 for line in own) for name, own in found.items()}
    hours = sum(taken.values()) if in_process else max(taken.values())
    bound = max(taken, key=lambda name: taken[name])
    gpus = sum((1 if in_process else pool.workers[1]) * pool.gpus for pool in pools)
    cost, priced = None, ""
    if recipe.engine.price_per_hour is not None:
        cost, priced = hours * recipe.engine.price_per_hour, "engine.price_per_hour, of the whole cluster"
    elif given.gpu_hour is not None and gpus:
        cost, priced = hours * gpus * given.gpu_hour, f"gpu_hour={given.gpu_hour:g}, GPUs alone"
    return Estimate(total, found, hours, bound, hours * gpus, cost, priced)


def _rows(recipe: Recipe, stage: str, rows: Mapping[str, int]) -> int:
    """Return the rows of a stage: text that is given is not translated."""
    given = recipe.input.parallel if stage == "translate" and recipe.direction == "train" else {}
    return sum(n for lang, n in rows.items() if lang not in given)
