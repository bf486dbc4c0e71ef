"""Runs made of finished runs, without any model: matched again by other settings, or several joined into one."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.console import Console

from xner_ray import card, combining, engine, planning, refining, storage
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.fingerprint import fingerprint
from xner_ray.folder import RunFolder
from xner_ray.inspecting import read_index
from xner_ray.making import begin, opened, seal
from xner_ray.read.index import Index
from xner_ray.recipe import Combined, Recipe
from xner_ray.recipe_file import load_recipe
from xner_ray.sections import Runtime

# Keys that decide which cells a plug-in scores (`projection.every_candidate`).
_CELL = ("match.candidates", "match.sub_ranges", "match.max_words", "align.method")
# Keys that do not decide which cells the likelihood is computed of (`stages.LikelihoodStage`).
_NO_CELL = tuple(f"match.{key}" for key in ("solver", "prior", "time_limit_s", "heuristic.", *Runtime.model_fields))


def rematch(
    run: str | os.PathLike[str],
    new_run: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Match the rows of a finished run by other settings, in a folder of its own; returns the report.

    Loads no model, runs no plug-in and reads no input: texts, source spans, links and evidence come from the run's
    parts. `overrides` may set keys of `match` and `output`, `align.method` and `engine.address`; with the score
    likelihood or a plug-in only those keys that do not decide which cells these are computed of. The same call again
    resumes, and goes on with languages that the run has had since. RecipeError for any other key.
    """
    started = time.perf_counter()
    console = console or Console(quiet=True)
    old, folder = RunFolder(os.fspath(run)), RunFolder(os.fspath(new_run))
    if old.place == folder.place:
        raise RunFolderError(f"{old.root}: rematch fills another folder; name a new one")
    recipe = old.recipe()
    if recipe.projector != "match":
        raise RunFolderError(
            f"{old.root}: was not matched (projector {recipe.projector}), so there is nothing to rematch"
        )
    changed = _changed(recipe, overrides)
    keys = _changed_keys(old.keys(), recipe, changed)
    index, parts = read_index(old), old.parts()
    planning.check_tags(changed, planning.run_labels(changed, index.labels_found))
    if unlisted := sorted(set(recipe.languages) - {unit.lang for unit in index.units}):
        raise RunFolderError(f"{old.root}: the units of {unlisted[0]} are not listed yet; finish the run first")
    if missing := [unit.name for unit in index.units if unit.name not in parts]:
        raise RunFolderError(f"{old.root}: {len(missing)} units are not done; finish the run first")
    with opened(folder, changed, keys, console, fresh=fresh) as report:
        if report is not None:
            return report
        _begin_or_go_on(folder, changed, keys, index, old)
        labels = planning.run_labels(changed, index.labels_found)
        with engine.cluster(changed.engine.address):
            done, attempt = folder.parts(), folder.path("_run", "parts", folder.next_attempt())
            jobs = [
                (parts[unit.name], storage.join(attempt, f"{unit.name}.parquet"))
                for unit in index.units
                if unit.name not in done
            ]
            console.print(f"{len(jobs):,} of {len(index.units):,} units to match again; no model is loaded")
            refining.match_units(jobs, changed, labels, engine.map_tasks)
            return seal(folder, changed, index, labels, started, console)


def combine(
    runs: Sequence[str | os.PathLike[str]],
    new_run: str | os.PathLike[str],
    *,
    method: combining.Method = "union",
    weights: Sequence[float] | None = None,
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Join finished runs over the same target text, in a folder of its own; returns the report.

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
        if old.sealed() is None:
            raise RunFolderError(f"{old.root}: not sealed yet; finish the run first")
        indices.append(read_index(old))
        parts.append({**old.parts(), **old.refined()})
        if _listed(indices[-1]) != _listed(indices[0]):
            raise RunFolderError(
                f"{old.root}: has other units than {olds[0].root}; make both with the same input, languages and "
                "engine.unit_rows"
            )
        if indices[-1].extra != indices[0].extra:
            raise RunFolderError(
                f"{old.root}: carries other columns of the input than {olds[0].root}; make both from the same files"
            )
    found = (planning.run_labels(recipe, index.labels_found) for recipe, index in zip(recipes, indices, strict=True))
    labels = list(dict.fromkeys(label for each in found for label in each))
    combined = Combined(
        runs=[os.path.basename(storage.bare(old.root).rstrip("/")) for old in olds],
        weights=weights,
        method=method,
        models=list(dict.fromkeys(model for recipe in recipes for model in card.models(recipe))),
    )
    kept = recipes[0].input.labels.model_copy(update={"keep": labels})
    given = recipes[0].input.model_copy(update={"labels": kept})
    recipe = recipes[0].model_copy(update={"projector": "combine", "combined": combined, "input": given})
    keys: dict[str, Any] = {"method": method, "weights": weights}
    for number, old in enumerate(olds, start=1):  # what a key begins with says which further languages may bring it
        keys |= {f"{key} of run {number}": value for key, value in old.keys().items()}
    with opened(folder, recipe, keys, console, fresh=fresh) as report:
        if report is not None:
            return report
        index = indices[0]
        _begin_or_go_on(folder, recipe, keys, index, olds[0])
        with engine.cluster(recipe.engine.address):
            done, attempt = folder.parts(), folder.path("_run", "parts", folder.next_attempt())
            names = [unit.name for unit in index.units if unit.name not in done]
            jobs = [
                ([run_parts[name] for run_parts in parts], storage.join(attempt, f"{name}.parquet")) for name in names
            ]
            console.print(f"{len(names):,} of {len(index.units):,} units to combine")
            options = (weights, method, labels, recipe.output.incomplete == "reject")
            refining.in_tasks(combining.combine_parts, jobs, options, engine.map_tasks)
            return seal(folder, recipe, index, labels, started, console)


def _begin_or_go_on(folder: RunFolder, recipe: Recipe, keys: Mapping[str, Any], index: Index, old: RunFolder) -> None:
    """List the units of `old`; of a folder that has some listed, those that `old` has had since."""
    listed, wanted = _listed(read_index(folder)) if folder.is_run() else set(), _listed(index)
    if not listed <= wanted:
        raise RunFolderError(
            f"{folder.root}: holds the same recipe in other units than {old.root}; name another folder, or give "
            "--fresh to discard what is there"
        )
    if listed < wanted:
        begin(folder, recipe, keys, index)


def _listed(index: Index) -> set[tuple[Any, ...]]:
    """Which rows each unit has."""
    return {(unit.name, unit.split, unit.start, unit.stop, unit.picked) for unit in index.units}


def _changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with overrides that rematching can follow; every other key stays exactly as the run has it."""
    # Both are loaded alike: names that load_recipe reads another way in this working folder are no override.
    old, new = (load_recipe(recipe.model_dump(mode="json"), given) for given in ((), overrides))
    for key in _differing(old.model_dump(mode="json"), new.model_dump(mode="json")):
        if not key.startswith(("match.", "output.")) and key not in ("align.method", "engine.address"):
            raise RecipeError(f"rematch cannot set {key}; allowed: match.*, output.*, align.method, engine.address")
        # Else the run would be another than one that was made by these settings.
        if recipe.evidence.plugin is not None and key in _CELL:
            raise RecipeError(
                f"rematch cannot set {key}: evidence.plugin was called only for the candidates of this run's settings; "
                "project anew"
            )
        if "likelihood" in new.match.scores and key.startswith(("match.", "align.")) and not key.startswith(_NO_CELL):
            raise RecipeError(
                f"rematch cannot set {key}: the score likelihood was computed only for the candidates that could win "
                "by this run's settings; project anew, or rematch without likelihood in match.scores"
            )
    if new.align.method == "mwmf" != recipe.align.method and recipe.align.backend != "provided":
        raise RecipeError("align.method is mwmf, which the links of this run do not have: project with it instead")
    align = recipe.align.model_copy(update={"method": new.align.method})
    where = recipe.engine.model_copy(update={"address": new.engine.address})
    return recipe.model_copy(update={"match": new.match, "output": new.output, "align": align, "engine": where})


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        here, there = old.get(key), new.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += [f"{key}.{below}" for below in _differing(here, there)]
        elif here != there:
            found.append(key)
    return found


def _changed_keys(keys: Mapping[str, Any], old: Recipe, new: Recipe) -> dict[str, Any]:
    """The fingerprint that a run of the new recipe has: the old one with what rematching may change."""
    before, after = (fingerprint(recipe, {}, {}, {}) for recipe in (old, new))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return {**{k: v for k, v in keys.items() if k not in changed}, **{k: after[k] for k in changed & after.keys()}}
