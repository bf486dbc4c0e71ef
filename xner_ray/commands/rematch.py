"""The command `rematch`: the rows of a finished run matched again by other settings, without any model."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from xner_ray.commands.inspect import read_index, whole_parts
from xner_ray.commands.session import Begun, Session, begin_from, opened
from xner_ray.engine import choice as executors
from xner_ray.engine import resolve, second_pass
from xner_ray.engine.choice import for_tasks
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.recipe import model
from xner_ray.recipe.decides import Decides
from xner_ray.recipe.fingerprint import TAGGER_CANDIDATES, VERSION, fingerprint, versions
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.run import retries
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder

_ELSEWHERE = ("align.method", "engine.address", "engine.executor")
# Keys that decide which cells a plug-in scores (`projection.every_candidate`).
_CELL = model.keys_that(Decides.CELLS)
# Keys that do not decide which cells the likelihood is computed of (`stages.LikelihoodStage`).
_NO_CELL = model.keys_that(Decides.CHOICE, Decides.RUN)


def rematch(
    run: str | os.PathLike[str],
    new_run: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    console: Console | None = None,
) -> Report:
    """Match the rows of a finished run by other settings, in a folder of its own; return the report.

    Loads no model, runs no plug-in and reads no input: texts, source spans, links and evidence come from the run's
    parts. `overrides` may set keys of `match` and `output`, `align.method`, `engine.address` and `engine.executor`;
    with the score likelihood or a plug-in, only those keys that do not decide which cells these are computed of.
    The same call again resumes, and takes up languages that the run has had since. RecipeError for any other key.
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
    changed = changed_recipe(recipe, overrides)
    refuse_other_candidates(old.keys(), changed)
    keys = changed_keys(old.keys(), recipe, changed) | retried_key(old, "the run")
    index = read_index(old)
    parts = whole_parts(old, index.units, first=True)
    resolve.check_tags(changed, model.run_labels(changed, index.labels_found))
    if unlisted := sorted(set(recipe.languages) - {unit.lang for unit in index.units}):
        raise RunFolderError(f"{old.root}: the units of {unlisted[0]} are not listed yet; finish the run first")
    due = retries.due(old)
    if missing := [unit.name for unit in index.units if unit.name not in parts or unit.name in due]:
        raise RunFolderError(f"{old.root}: {len(missing)} units are not done; finish the run first")
    begun = Begun(changed, keys, old.record().asked)
    with opened(folder, begun, console, fresh=fresh) as report:
        if report is not None:
            return report
        begin_from(folder, begun, index, old)
        choice = for_tasks(changed, sum(unit.n_rows for unit in index.units))
        with executors.opened(choice.name, changed, stages=False) as executor:
            session = Session(folder, changed, index, executor, console, started)
            jobs = [(parts[name], path) for name, path in session.begin_parts().items()]
            console.print(f"{len(jobs):,} of {len(index.units):,} units to match again; no model is loaded")
            second_pass.match_units(jobs, changed, session.labels, executor.map)
            return session.seal()


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with overrides that rematching can follow; other keys stay as the run has them."""
    # Both are loaded alike: names that load_recipe reads another way in this working folder are no override.
    old, new = (load_recipe(recipe.model_dump(mode="json"), given) for given in ((), overrides))
    for key in _differing(old.model_dump(mode="json"), new.model_dump(mode="json")):
        if not key.startswith(("match.", "output.")) and key not in _ELSEWHERE:
            allowed = ", ".join(("match.*", "output.*", *_ELSEWHERE))
            raise RecipeError(f"rematch cannot set {key}; allowed: {allowed}")
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
    where = recipe.engine.model_copy(update={"address": new.engine.address, "executor": new.engine.executor})
    return recipe.model_copy(update={"match": new.match, "output": new.output, "align": align, "engine": where})


def refuse_other_candidates(keys: Mapping[str, Any], new: Recipe) -> None:
    """Raise RecipeError where scores were computed for candidates that the tagger's words no longer give.

    keys: the run's fingerprint.
    """
    wanted = versions(new).get(TAGGER_CANDIDATES)
    used = {*new.match.scores, *new.match.filters}
    computed = [name for name in ("likelihood", *new.evidence.names) if name in used]
    if wanted is not None and keys.get(TAGGER_CANDIDATES, 1) != wanted and computed:
        raise RecipeError(
            f"match.candidates: tagger gives other candidates than when this run was made, and {computed[0]} was "
            "computed for the old ones; project anew"
        )


def retried_key(old: RunFolder, which: str) -> dict[str, str]:
    """Return the key of a fingerprint for the rows of another run that were tried again; none without such."""
    found = {unit: sorted(tried) for unit, tried in old.retries().items()}
    text = json.dumps(found, sort_keys=True)
    return {f"retried parts of {which}": hashlib.sha256(text.encode()).hexdigest()} if found else {}


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys at which two nested mappings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        here, there = old.get(key), new.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += [f"{key}.{below}" for below in _differing(here, there)]
        elif here != there:
            found.append(key)
    return found


def changed_keys(keys: Mapping[str, Any], old: Recipe, new: Recipe) -> dict[str, Any]:
    """Return the new recipe's fingerprint: the old one with what rematching may change."""
    before, after = (fingerprint(recipe, {}, {}, {}) for recipe in (old, new))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    changed |= {VERSION, TAGGER_CANDIDATES}  # a run of an earlier version is matched by this one
    return {**{k: v for k, v in keys.items() if k not in changed}, **{k: after[k] for k in changed & after.keys()}}
