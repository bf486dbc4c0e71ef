"""The command `compare`: finished runs over the same sentences, seen from their folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from xner_ray import defaults
from xner_ray.commands.inspect import read_index, tables
from xner_ray.errors import InputError, RunFolderError
from xner_ray.evaluate import comparison
from xner_ray.evaluate.comparison import Comparison, Run
from xner_ray.evaluate.scores import By
from xner_ray.recipe.fingerprint import versions
from xner_ray.recipe.model import UNIT_ROWS, Recipe
from xner_ray.recipe.sections import THRESHOLDS
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

_IDENTITY = " identity"
_PILLOW = ".pillow"
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
    """Compare finished runs over the same sentences: scores and tests of differences, or agreement without gold.

    against: the run that the others are tested against, by default the first. differ: the number of differing sentences
    to show per run and language. samples: bootstrap resamples, 0 for no intervals and tests. seed, by: see
    `evaluate.comparison.compare`. RunFolderError for a run that is not finished or listed twice, InputError for runs
    over different languages, sentences, words or gold.
    """
    folders = [RunFolder(os.fspath(run)) for run in runs]
    if len(folders) < 2:
        raise InputError(f"compare: {len(folders)} run; allowed: two or more run folders")
    places = [folder.place for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise RunFolderError(f"{os.fspath(runs[number])} is listed twice; name each run once")
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
    parts = [_tables(folder, columns) for folder in folders]
    options: dict[str, Any] = {"differ": differ, "samples": samples, "seed": seed, "by": by}
    return comparison.compare(parts, named, reference=reference, **options)


def _listed(values: Sequence[str | os.PathLike[str]]) -> str:
    return ", ".join(os.fspath(value) for value in values)


def _tables(folder: RunFolder, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the parts in order of (language, split, row)."""
    units = sorted(read_index(folder).units, key=lambda unit: (unit.lang, unit.split, unit.start))
    return tables(folder, units, columns)


def short_names(runs: Sequence[str]) -> list[str]:
    """Return the last part of each path; all whole paths if two of these are equal."""
    names = [os.path.basename(storage.bare(run).rstrip("/")) for run in runs]
    return names if len(set(names)) == len(names) and all(names) else list(runs)


def settings(recipe: Recipe, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe keys that differ from their defaults, with their values. keys: the run's fingerprint.

    The value of a model is (name, identity). Input files are left out: compared runs hold the same sentences.
    """
    if (combined := recipe.combined) is not None:
        weights = {"weights": combined.weights} if len(set(combined.weights)) > 1 else {}
        return {"combine": f"{combined.method} of {' + '.join(combined.runs)}", **weights}
    found: dict[str, Any] = {}
    judges = recipe.opines and recipe.match.needs_tags is None  # target_tag decides scores, and no entity
    for key, value in keys.items():
        if judges and key.startswith("target_tag."):
            continue
        if key.endswith(_IDENTITY):
            name = key.removesuffix(_IDENTITY).split(" ")[0]  # Apertium has one per language
            name = _CHOSEN_BY.get(name, name)
            if name.endswith(_PILLOW):
                found[name] = value
                continue
            others = found.get(name)
            identity = f"{others[1]}; {value}" if isinstance(others, tuple) else value
            found[name] = (attrgetter(name)(recipe), identity)
        elif key.startswith("parallel "):
            found["input.parallel." + key.split(" ")[1]] = (os.path.basename(key.split(" ", 2)[2]), str(value))
        elif not key.startswith("input file ") and not key.endswith(" version"):
            path, _ = _field(key)
            if path == key:
                found.setdefault(path, value)  # a model's name is there already, with its identity
            else:
                found.setdefault(path, {})[key.removeprefix(f"{path}.")] = value
    found |= {key: keys.get(key, 1) for key, now in versions(recipe).items() if keys.get(key, 1) != now}
    if "match.thresholds" in found:
        given = found["match.thresholds"] or {}
        found["match.thresholds"] = {name: most for name, most in given.items() if THRESHOLDS.get(name) != most}
    return {key: value for key, value in found.items() if isinstance(value, tuple) or value != _default(key)}


def _field(key: str) -> tuple[str, FieldInfo | None]:
    """Return the recipe's key that a flat key begins with, and its field; the rest is a name in a mapping."""
    model: type[BaseModel] = Recipe
    path = []
    for part in key.split("."):
        path.append(part)
        field = model.model_fields.get(part)
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            break
        model = kind
    return ".".join(path), field


def _default(key: str) -> Any:
    """Return a key's default as a fingerprint holds it; None if it has none."""
    if key == "engine.unit_rows":
        return UNIT_ROWS
    field = _field(key)[1]
    return None if field is None or field.is_required() else field.get_default(call_default_factory=True)


def differing(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each run the settings that differ between runs, ready to be shown."""
    keys = sorted({key for each in found for key in each})
    nothing = object()
    unequal = [key for key in keys if any(each.get(key, nothing) != found[0].get(key, nothing) for each in found)]
    # A version counts among runs with pictures; that others have none, their engines say
    unequal = [
        key for key in unequal if not key.endswith(_PILLOW) or len({each.get(key) for each in found} - {None}) > 1
    ]
    result: list[dict[str, Any]] = [{} for _ in found]
    for key in unequal:
        models = {each[key] for each in found if isinstance(each.get(key), tuple)}
        one_name = len({name for name, _ in models}) < len(models)
        for each, shown in zip(found, result, strict=True):
            value = each.get(key, nothing)
            if isinstance(value, tuple):
                name, identity = value  # no name: the engine chooses the model
                if name is not None or one_name:
                    short = identity if " " in identity else identity[:12]  # versions in words, or a hash
                    shown[key] = f"{name or 'built-in'}@{short}" if one_name else name
            elif value is not nothing:
                shown[key] = value
    return result


def method_text(keys: Mapping[str, Any]) -> str:
    """Return keys as `--set` takes them, in one line; `defaults` without any.

    >>> method_text({"match.solver": "greedy", "match.scores": {"align": 1.0}})
    'match.solver=greedy match.scores={align: 1.0}'
    """
    return " ".join(f"{key}={_text(value)}" for key, value in keys.items()) or "defaults"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()
