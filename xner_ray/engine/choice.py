"""The choice of an executor: the one that the user asks for, else whichever is done first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from xner_ray.engine.executor import Executor
from xner_ray.engine.pools import beyond_one_process, group, local_capacity
from xner_ray.errors import RunFolderError
from xner_ray.recipe.images import TINY_CLIP, TINY_OWL
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import TINY_NLLB

Name = Literal["inline", "ray"]

RAY_STARTS_S = 45.0
"""Seconds that Ray and its actors take to start on a laptop (quick starts, 2 cores): work worth less stays here."""

_RAY_ALONE_STARTS_S = 10.0  # without actors

_SCAN_BYTES = 64 << 20  # inputs up to this size are scanned in this process while the choice is open

# Rough seconds a row on one CPU core, by engine, and of the models that are smaller than most: measured are tiny-nllb,
# the built-in encoder and spaCy.
_SECONDS = {"nllb": 1.0, "llm": 1.0, "ctranslate2": 0.3, "batched": 0.1, "simalign": 0.1, "hf": 0.05, "apertium": 0.02}
_SECONDS |= {"spacy": 0.01, "clip": 0.1, "owl": 1.0}  # the built-in tagger is a model of `_SMALL`
_SMALL = {TINY_NLLB: 0.02, "builtin": 0.02, TINY_CLIP: 0.02, TINY_OWL: 0.02}
_ROW_S = 0.001
_GPU_GAIN = 20.0


_keeps: ContextVar[bool] = ContextVar("keeps", default=False)


@dataclass(frozen=True)
class Choice:
    """An executor's name, and the reason as a clause that follows it."""

    name: Name
    why: str


def stated(recipe: Recipe) -> Choice | None:
    """Return the executor that the user asked for, in the recipe or by what runs already; None if neither says one."""
    engine = recipe.engine
    if engine.executor != "auto":
        return Choice(engine.executor, f"engine.executor is {engine.executor}")
    if os.environ.get("RAY_ADDRESS"):
        return Choice("ray", "RAY_ADDRESS is set")
    if engine.address != "local":
        return Choice("ray", f"engine.address is {engine.address}")
    return Choice("ray", "this process runs Ray already") if ray_runs() and not ray_is_kept() else None


def ray_runs() -> bool:
    """True if this process has joined or started Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def ray_is_kept() -> bool:
    """True if that Ray was started by an earlier run of this process, and is kept for those that want it."""
    cluster = sys.modules.get("xner_ray.engine.ray_cluster")
    return cluster is not None and bool(cluster.is_kept())


@contextmanager
def ray_kept() -> Iterator[None]:
    """Keep a Ray that runs in the block start on this machine, until the process ends."""
    before = _keeps.set(True)
    try:
        yield
    finally:
        _keeps.reset(before)


def before_the_scan(recipe: Recipe, n_bytes: int) -> Choice | None:
    """Return the executor that needs no look at the input of `n_bytes`, or None if its rows decide (`by_work`)."""
    if choice := stated(recipe):
        return choice
    if key := beyond_one_process(recipe):
        return Choice("ray", f"{key} is set")
    return Choice("ray", f"the input has {n_bytes / 1e6:,.0f} MB") if n_bytes > _SCAN_BYTES else None


def by_work(recipe: Recipe, rows: int, n_units: int) -> Choice:
    """Return the executor that is done first with so many rows: this process, if Ray would hardly have started."""
    groups = group(recipe, local_capacity(recipe), n_units)
    workers = max(pool.workers[1] for pool in groups)
    if workers == 1:
        return Choice("inline", "there is work for one worker only")
    seconds = rows * sum(_seconds_a_row(recipe, name) for pool in groups for name in pool.stages)
    return _by_seconds(seconds, workers, RAY_STARTS_S - _RAY_ALONE_STARTS_S * ray_is_kept())


def for_tasks(recipe: Recipe, rows: int) -> Choice:
    """Return the executor for tasks without models over so many rows."""
    return stated(recipe) or _by_seconds(rows * _ROW_S, int(local_capacity().cpus), _RAY_ALONE_STARTS_S)


def _by_seconds(seconds: float, workers: int, start_s: float) -> Choice:
    estimate = f"about {max(1.0, seconds):,.0f} s of work for one worker"
    if seconds * (1 - 1 / workers) <= start_s:
        return Choice("inline", f"{estimate}; Ray takes longer to start than it would save")
    return Choice("ray", f"{estimate}, shared by {workers}")


def _seconds_a_row(recipe: Recipe, stage: str) -> float:
    models = dict(recipe.models())
    model = models.get(f"{stage}.encoder" if stage == "align" else f"{stage}.model", "")
    engine = recipe.engine_of(stage)
    seconds = _SMALL[model] if model in _SMALL and engine != "simalign" else _SECONDS.get(engine, 0.0)
    return _ROW_S + seconds / (_GPU_GAIN if getattr(recipe, stage).gpus else 1.0)


@contextmanager
def opened(name: Name, recipe: Recipe, *, stages: bool = True) -> Iterator[Executor]:
    """Open an executor for as long as the block runs. RecipeError if it cannot serve the recipe.

    stages: it will run the recipe's stages; else tasks without models alone.
    """
    if name == "inline":
        from xner_ray.engine.inline import InlineExecutor

        yield InlineExecutor(recipe if stages else None)
        return
    if stages and not reaches_ray(recipe):  # what this machine never has is said before Ray starts here
        group(recipe, local_capacity(recipe), n_units=1)
    from xner_ray.engine import ray_cluster
    from xner_ray.engine.ray_data import RayExecutor

    if _keeps.get():
        ray_cluster.keep(recipe.engine.address)
    with RayExecutor.at(recipe.engine.address) as executor:
        yield executor


@contextmanager
def kept_open(recipe: Recipe) -> Iterator[None]:
    """Hold Ray open over several runs of recipes like this one, if they use it."""
    choice = stated(recipe)
    with opened("ray", recipe, stages=False) if choice is not None and choice.name == "ray" else nullcontext():
        yield


def refuse_passing(root: str) -> None:
    """Refuse a run in the copy of a working directory that `ray job submit` made, and Ray deletes. RunFolderError."""
    if "/runtime_resources/working_dir_files/" in root:
        raise RunFolderError(
            f"{root}: lies in the copy of the working directory that Ray deletes after the job; give the run as an "
            "absolute path that every node reaches, or as a URI (s3://, gs://)"
        )


def reaches_ray(recipe: Recipe) -> bool:
    """True if there is a Ray to join, so that none has to be started here."""
    return ray_runs() or bool(os.environ.get("RAY_ADDRESS")) or recipe.engine.address != "local"
