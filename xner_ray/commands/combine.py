"""The command `combine`: several finished runs over the same target text joined into one, without any model."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any, get_args

from rich.console import Console

from xner_ray.commands.inspect import read_index, whole_parts
from xner_ray.commands.rematch import retried_key
from xner_ray.commands.session import Begun, Session, begin_from, opened, rows_of_units
from xner_ray.engine import choice as executors
from xner_ray.engine import second_pass
from xner_ray.engine.choice import for_tasks
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.match import combine as combining
from xner_ray.recipe.model import Combined, run_labels
from xner_ray.report import card
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage


def combine(
    runs: Sequence[str | os.PathLike[str]],
    new_run: str | os.PathLike[str],
    *,
    method: combining.Method = "union",
    weights: Sequence[float] | None = None,
    fresh: bool = False,
    console: Console | None = None,
) -> Report:
    """Join finished runs over the same target text, in a folder of its own; return the report.

    See `combining` for what the methods do. weights: one a run, above 0; equal ones if left out. The runs need equal
    units, that is the same input, selection, languages and engine.unit_rows. RunFolderError if they differ.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    olds, folder = [RunFolder(os.fspath(run)) for run in runs], RunFolder(os.fspath(new_run))
    weights = [1.0] * len(olds) if weights is None else list(weights)
    if len(olds) < 2 or len(weights) != len(olds) or not all(0 < weight < math.inf for weight in weights):
        raise RecipeError(
            f"combine: {len(olds)} runs and the weights {weights}; allowed: two or more, one above 0 each"
        )
    if method not in (allowed := get_args(combining.Method)):
        raise RecipeError(f"combine: method is {method!r}; allowed: {', '.join(allowed)}")
    if folder.place in {old.place for old in olds}:
        raise RunFolderError(f"{folder.root}: combine fills another folder; name a new one")
    recipes, indices, parts = [], [], []
    for old in olds:
        recipes.append(old.recipe())
        old.require_sealed()
        indices.append(read_index(old))
        parts.append(whole_parts(old, indices[-1].units))
        if rows_of_units(indices[-1]) != rows_of_units(indices[0]):
            raise RunFolderError(
                f"{old.root}: has other units than {olds[0].root}; make both with the same input, languages and "
                "engine.unit_rows"
            )
        if indices[-1].extra != indices[0].extra:
            raise RunFolderError(
                f"{old.root}: carries other columns of the input than {olds[0].root}; make both from the same files"
            )
    found = (run_labels(recipe, index.labels_found) for recipe, index in zip(recipes, indices, strict=True))
    labels = list(dict.fromkeys(label for each in found for label in each))
    combined = Combined(
        runs=[os.path.basename(storage.bare(old.root).rstrip("/")) for old in olds],
        weights=weights,
        method=method,
        models=list(dict.fromkeys(model for recipe in recipes for model in card.models(recipe))),
    )
    kept = recipes[0].input.labels.model_copy(update={"keep": labels})
    given = recipes[0].input.model_copy(update={"labels": kept})
    output = recipes[0].output.model_copy(update={"doubtful": 0.0})  # a combined score is a share of weights
    changes = {"projector": "combine", "combined": combined, "input": given, "output": output}
    recipe = recipes[0].model_copy(update=changes)
    keys: dict[str, Any] = {"method": method, "weights": weights}
    for number, old in enumerate(olds, start=1):  # what a key begins with says which further languages may bring it
        keys |= {f"{key} of run {number}": value for key, value in old.keys().items()}
        keys |= retried_key(old, f"run {number}")
    begun = Begun(recipe, keys, olds[0].record().asked)
    with opened(folder, begun, console, fresh=fresh) as report:
        if report is not None:
            return report
        index = indices[0]
        begin_from(folder, begun, index, olds[0])
        choice = for_tasks(recipe, len(olds) * sum(unit.n_rows for unit in index.units))
        with executors.opened(choice.name, recipe, stages=False) as executor:
            session = Session(folder, recipe, index, executor, console, started)
            jobs = [([of_run[name] for of_run in parts], path) for name, path in session.begin_parts().items()]
            console.print(f"{len(jobs):,} of {len(index.units):,} units to combine")
            options = (weights, method, labels, recipe.output.incomplete == "reject")
            second_pass.in_tasks(combining.combine_parts, jobs, options, executor.map)
            return session.seal()
