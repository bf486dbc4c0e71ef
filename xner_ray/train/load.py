"""A student's recipe, loaded from a file, a mapping or a run; and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xner_ray.models import e5, hub
from xner_ray.models.commits import Say
from xner_ray.read.find import contents, find_files
from xner_ray.recipe.fingerprint import READING
from xner_ray.recipe.load import load_checked, placed
from xner_ray.recipe.sections import BUILTIN_TAGGER
from xner_ray.run.folder import RunFolder
from xner_ray.run.model_folder import flat
from xner_ray.train.recipe import Source, Training
from xner_ray.train.runs import leaves_out_flagged
from xner_ray.train.stream import is_large

_ROLES = ("data", "validation", "evaluate")
_SPEED = ("resources", "fit.micro_batch_tokens", "fit.cache_")  # keys that change speed and memory alone


def load_training(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), *, base: Path | None = None
) -> Training:
    """Load and check a student's recipe: a YAML file, a mapping, or a finished run's folder, then its only data.

    base: the folder of relative paths; by default the recipe file's folder, else the working folder.
    RecipeError names the wrong key.
    """
    if not isinstance(source, Mapping) and not os.fspath(source).endswith((".yaml", ".yml")):
        run = os.fspath(source)
        source = {"data": [{"run": run}]} if RunFolder(run).is_run() else source
    training, home = load_checked(Training, source, overrides)
    return placed(training, base or home)


def fingerprint(training: Training, *, encoder: str | None = None) -> dict[str, str]:
    """Return what decides the student, by key: recipe keys but for speed, and the content of runs, files and encoder.

    encoder: its identity, if it is known already.
    """
    settings = flat(training.model_dump(mode="json"))
    found = {key: value for key, value in settings.items() if not key.startswith(_SPEED)}
    if training.resources.workers > 1 and is_large(training):
        found["resources.workers"] = str(training.resources.workers)  # who reads which blocks, in which steps
    if training.model.context is None:
        found.pop("model.context")  # as of trainings before there was this key
    if training.validation or training.validation_share:
        found["tag version"] = str(READING)  # of predictions, by which the best checkpoint is chosen
    for role in _ROLES:
        for number, source in enumerate(getattr(training, role)):
            place = f"{role}.{number}"
            if source.filters.bad_translations is None and not (role == "data" and leaves_out_flagged(source)):
                found[f"{place}.filters.bad_translations"] = '"keep"'  # as of trainings before there was a third value
            if source.filters.mask_tagged is None:
                found.pop(f"{place}.filters.mask_tagged")  # as of trainings before there was this key
            if source.input is not None:
                found[f"{place}.input.path"] = json.dumps(_files(source), sort_keys=True)
                continue
            found[f"{place}.run"] = _run_identity(source.run)
            for index, teacher in enumerate(source.teachers):
                found[f"{place}.teachers.{index}.run"] = _run_identity(teacher.run)
    if training.model.encoder != e5.BUILTIN:
        found["model.encoder"] = encoder or pinned(training.model.encoder)[1]
    return found


def pinned(encoder: str, say: Say = lambda line: None) -> tuple[str, str]:
    """Return the name of an encoder with its revision fixed, and its identity; say and errors as of `hub.pin`."""
    if encoder == e5.BUILTIN:
        return encoder, encoder
    if encoder == BUILTIN_TAGGER:
        return encoder, e5.tagger_identity()
    return hub.pin(encoder, say)


def _run_identity(run: str) -> str:
    folder = RunFolder(run)
    files = {"files": folder.require_sealed().files}
    return hashlib.sha256(json.dumps(files, indent=1, sort_keys=True).encode()).hexdigest()


def _files(source: Source) -> dict[str, str]:
    given = source.input
    assert given is not None and isinstance(given.lang, str)
    path: Any = given.path
    return contents(find_files(path, format=given.format, lang=given.lang, side="target", columns=given.columns))
