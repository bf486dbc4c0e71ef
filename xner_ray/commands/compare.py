"""Finished runs compared, from their folders alone: no Ray, no model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel

from xner_ray import defaults
from xner_ray.commands.inspect import read_index
from xner_ray.errors import InputError, RunFolderError
from xner_ray.evaluate import comparison
from xner_ray.evaluate.comparison import Comparison, Run
from xner_ray.evaluate.scores import By
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import THRESHOLDS
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

_IDENTITY = " identity"
_CHOSEN_BY = {"translate.health": "translate.health.language"}  # the section's model has no name in the recipe


def compare(
    runs: Sequence[str | os.PathLike[str]],
    *,
    against: str | os.PathLike[str] | None = None,
    differ: int = 0,
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    by: By | None = None,
) -> Comparison:
    """Two or more finished runs over the same sentences: scores, differences with tests, or agreement without gold.

    against: the run that the others are tested against, by default the first. differ: sentences of each run and
    language, where it differs from that run. samples: bootstrap resamples, 0 for no intervals and tests. See
    `comparison.compare`. RunFolderError for a run that is not finished or stands there twice, InputError for runs over
    other languages, sentences, words or gold.
    """
    folders = [RunFolder(os.fspath(run)) for run in runs]
    if len(folders) < 2:
        raise InputError(f"compare: {len(folders)} run; allowed: two or more run folders")
    places = [folder.place for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise RunFolderError(f"{os.fspath(runs[number])}: stands there twice; name each run once")
    reference = 0
    if against is not None:
        place = RunFolder(os.fspath(against)).place
        if place not in places:
            raise InputError(f"--against {os.fspath(against)} is none of the runs; allowed: {_listed(runs)}")
        reference = places.index(place)
    recipes = [folder.recipe() for folder in folders]
    for folder, recipe in zip(folders, recipes, strict=True):
        folder.require_sealed()
        if set(recipe.languages) != set(recipes[0].languages):
            raise InputError(
                f"{folder.root} has the languages {_listed(recipe.languages)}, and {folders[0].root} has "
                f"{_listed(recipes[0].languages)}; compare runs over the same languages"
            )
    methods = differing([settings(recipe, folder.keys()) for recipe, folder in zip(recipes, folders, strict=True)])
    named = [
        Run(os.fspath(run), name, method_text(keys), keys)
        for run, name, keys in zip(runs, short_names([os.fspath(run) for run in runs]), methods, strict=True)
    ]
    columns = comparison.SHOWN if differ else comparison.COLUMNS
    tables = [_tables(folder, columns) for folder in folders]
    options: dict[str, Any] = {"differ": differ, "samples": samples, "seed": seed, "by": by}
    return comparison.compare(tables, named, reference=reference, **options)


def _listed(values: Sequence[str | os.PathLike[str]]) -> str:
    return ", ".join(os.fspath(value) for value in values)


def _tables(folder: RunFolder, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The parts in order of (language, split, row)."""
    parts = folder.final_parts()
    for unit in sorted(read_index(folder).units, key=lambda unit: (unit.lang, unit.split, unit.start)):
        yield part_files.read_part(parts[unit.name], columns)


def short_names(runs: Sequence[str]) -> list[str]:
    """The last part of each path, or the whole of all where two are the same."""
    names = [os.path.basename(storage.bare(run).rstrip("/")) for run in runs]
    return names if len(set(names)) == len(names) and all(names) else list(runs)


def settings(recipe: Recipe, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's fingerprint is not at its default, by recipe key. keys: the fingerprint.

    A model is (its name, its identity). Input files are left out: compared runs hold the same sentences.
    """
    if recipe.combined is not None:
        return {"combine": f"{recipe.combined.method} of {' + '.join(recipe.combined.runs)}", **_weights(recipe)}
    found: dict[str, Any] = {}
    for key, value in keys.items():
        if key.endswith(_IDENTITY):
            name = key.removesuffix(_IDENTITY).split(" ")[0]  # Apertium has one of each language
            name = _CHOSEN_BY.get(name, name)
            others = found.get(name)
            identity = f"{others[1]}; {value}" if isinstance(others, tuple) else value
            found[name] = (_at(recipe, name), identity)
        elif key.startswith("parallel "):
            found["input.parallel." + key.split(" ")[1]] = (os.path.basename(key.split(" ", 2)[2]), str(value))
        elif not key.startswith("input file "):
            path, rest = _path(key)
            if rest is None:
                found.setdefault(path, value)  # a model's name is there already, with its identity
            else:
                found.setdefault(path, {})[rest] = value
    if "match.thresholds" in found:
        given = found["match.thresholds"] or {}
        found["match.thresholds"] = {name: most for name, most in given.items() if THRESHOLDS.get(name) != most}
    return {key: value for key, value in found.items() if isinstance(value, tuple) or value != _default(key)}


def _weights(recipe: Recipe) -> dict[str, Any]:
    weights = recipe.combined.weights if recipe.combined else []
    return {"weights": weights} if len(set(weights)) > 1 else {}


def _at(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _path(key: str) -> tuple[str, str | None]:
    """A flat key as the recipe's key and, where that is a mapping, the name in it."""
    model: Any = Recipe
    parts = key.split(".")
    for number, part in enumerate(parts):
        kind = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            rest = parts[number + 1 :]
            return ".".join(parts[: number + 1]), ".".join(rest) if rest else None
        model = kind
    return key, None


def _default(key: str) -> Any:
    """As it stands in a fingerprint: plain data."""
    model: Any = Recipe
    *sections, last = key.split(".")
    for part in sections:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    field = model.model_fields.get(last)
    return None if field is None or field.is_required() else field.get_default(call_default_factory=True)


def differing(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run, what not all runs have alike, ready to be shown."""
    keys = sorted({key for each in found for key in each})
    nothing = object()
    unequal = [key for key in keys if any(each.get(key, nothing) != found[0].get(key, nothing) for each in found)]
    result: list[dict[str, Any]] = [{} for _ in found]
    for key in unequal:
        models = {each[key] for each in found if isinstance(each.get(key), tuple)}
        one_name = len({name for name, _ in models}) < len(models)
        for each, shown in zip(found, result, strict=True):
            value = each.get(key, nothing)
            if isinstance(value, tuple):
                name, identity = value  # a model that the recipe leaves to its engine has no name
                if name is not None or one_name:
                    short = identity if " " in identity else identity[:12]  # versions in words, or a hash
                    shown[key] = f"{name or 'built-in'}@{short}" if one_name else name
            elif value is not nothing:
                shown[key] = value
    return result


def method_text(keys: Mapping[str, Any]) -> str:
    """As `--set` takes it, in one line; `defaults` without any.

    >>> method_text({"match.solver": "greedy", "match.scores": {"align": 1.0}})
    'match.solver=greedy match.scores={align: 1.0}'
    """
    return " ".join(f"{key}={_text(value)}" for key, value in keys.items()) or "defaults"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()
