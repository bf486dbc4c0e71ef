"""The command `train`: a student from its recipe or from a run, into a model folder; the same command goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.models import hub
from xner_ray.read.find import find_files
from xner_ray.recipe.load import load_checked, model_place, place, placed_input
from xner_ray.run.folder import RunFolder
from xner_ray.storage import cache
from xner_ray.storage import files as storage
from xner_ray.storage.lease import LOCK, claim
from xner_ray.train.recipe import Source, Training

_REPORT, _SUMS, _OWN = "training.json", "SHA256SUMS", "_train"
# They change how fast it is, or how much memory it takes
_NOT_ROWS = ("resources", "fit.micro_batch_tokens", "fit.cache_gb")


def load_training(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), *, base: Path | None = None
) -> Training:
    """A checked student's recipe: a YAML file, a mapping, or a finished run's folder, which then is all its data.

    Relative paths are taken from `base`, by default the recipe file's folder, else the working folder. RecipeError
    says which key is wrong.
    """
    if not isinstance(source, Mapping) and _is_run(os.fspath(source)):
        source = {"data": [{"run": os.fspath(source)}]}
    training, home = load_checked(Training, source, overrides)
    return _absolute(training, base or home)


def _is_run(place: str) -> bool:
    return not place.endswith((".yaml", ".yml")) and RunFolder(place).is_run()


def _absolute(training: Training, base: Path) -> Training:
    def placed(one: Source) -> Source:
        changes: dict[str, Any] = {}
        if one.run is not None:
            changes["run"] = place(one.run, base)
            teachers = [each.model_copy(update={"run": place(each.run, base)}) for each in one.teachers]
            changes |= {"teachers": teachers} if teachers else {}
        if one.input is not None:
            changes["input"] = placed_input(one.input, base)
        return one.model_copy(update=changes)

    roles = {role: [placed(one) for one in getattr(training, role)] for role in ("data", "validation", "evaluate")}
    return training.model_copy(update=roles).with_encoder(model_place(training.model.encoder, base))


def fingerprint(training: Training, *, encoder: str | None = None) -> dict[str, str]:
    """What decides the student, by key: the recipe but for resources, and what its runs, files and encoder are.

    encoder: its identity, where that is known.
    """
    found: dict[str, str] = {}

    def walk(key: str, value: Any) -> None:
        if key.startswith(_NOT_ROWS):
            return
        if isinstance(value, Mapping) and value:
            for name, child in value.items():
                walk(f"{key}.{name}" if key else name, child)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, child in enumerate(value):
                walk(f"{key}.{number}", child)
        else:
            found[key] = json.dumps(value, ensure_ascii=False)

    walk("", training.model_dump(mode="json"))
    for role in ("data", "validation", "evaluate"):
        for number, source in enumerate(getattr(training, role)):
            for index, run in enumerate([source.run, *(each.run for each in source.teachers)]):
                if run is not None:
                    name = "run" if not index else f"teachers.{index - 1}.run"
                    found[f"{role}.{number}.{name}"] = _run_identity(run)
            if source.input is not None:
                found[f"{role}.{number}.input.path"] = json.dumps(_files(source), sort_keys=True)
    if training.model.encoder != "builtin":
        found["model.encoder"] = encoder or hub.pin(training.model.encoder)[1]
    return found


def _run_identity(run: str) -> str:
    folder = RunFolder(run)
    folder.recipe()
    if folder.sealed() is None:
        raise RunFolderError(f"{folder.root}: not sealed yet; finish the run first")
    return hashlib.sha256(storage.read_bytes(folder.sealed_path)).hexdigest()


def _files(source: Source) -> dict[str, str]:
    given = source.input
    assert given is not None and isinstance(given.lang, str)
    path: str | dict[str, str] = given.path if isinstance(given.path, str) else dict(given.path.items())
    return find_files(path, format=given.format, lang=given.lang, side="target", columns=given.columns)[1]


def train(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model_dir: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train a student into `model_dir`, a Hugging Face folder; returns its report (training.json).

    source: see `load_training`. The same call goes on from the last checkpoint; of a finished student it does nothing.
    fresh discards what the folder holds. RunFolderError if that is another student, or no student at all.
    """
    console = console or Console(quiet=True)
    training = load_training(source, overrides)
    root = RunFolder(os.fspath(model_dir)).root
    encoder = training.model.encoder
    if root in (encoder, *(source.run for source in training.data)):
        raise RecipeError(f"{root}: is what the student is made from; name another folder for it")
    identity = None
    if encoder != "builtin":
        pinned, identity = hub.pin(encoder)
        training = training.with_encoder(pinned)
    keys = fingerprint(training, encoder=identity)
    own = storage.join(root, _OWN)
    _refuse_other_files(root)
    with _claimed(root):
        return _train(training, keys, root, own, console, fresh=fresh)


def _train(
    training: Training, keys: Mapping[str, str], root: str, own: str, console: Console, *, fresh: bool
) -> dict[str, Any]:
    _check(root, keys, fresh=fresh)
    if storage.exists(storage.join(root, _SUMS)):
        console.print(f"{root}: is trained already")
        report: dict[str, Any] = json.loads(storage.read_bytes(storage.join(root, _REPORT)))
        return report
    encoder = hub.mirror(training.model.encoder, storage.join(own, "models"))
    storage.publish(storage.join(own, "fingerprint.json"), json.dumps(keys, indent=1, sort_keys=True).encode())
    text = yaml.safe_dump(training.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    storage.publish(storage.join(own, "recipe.yaml"), text.encode())
    from xner_ray.train import ray  # torch and Ray take seconds, and most errors come before them

    report = ray.run(training, encoder, own, partial(_publish, root, keys))
    storage.delete(own)
    return report


@contextmanager
def _claimed(root: str) -> Iterator[None]:
    """The folder as ours; the lock lies beside what --fresh discards, and goes with us."""
    with claim(root, root):
        try:
            yield
        finally:
            if storage.is_local(root):
                storage.delete(storage.join(root, LOCK))


def _names(root: str) -> list[str]:
    inner = storage.locate(root)[1].rstrip("/") + "/"
    names = [str(info.path)[len(inner) :] for info in storage.files_below(root)]
    return [name for name in names if not name.startswith((LOCK, "LOCK"))]


def _is_ours(names: Sequence[str]) -> bool:
    return f"{_OWN}/fingerprint.json" in names or {_REPORT, _SUMS} <= set(names)


def _refuse_other_files(root: str) -> None:
    names = _names(root)
    if not _is_ours(names) and any(not name.startswith(f"{_OWN}/") for name in names):
        raise RunFolderError(f"{root}: holds files that are no student ({names[0]}); name an empty or a new folder")


def _check(root: str, keys: Mapping[str, str], *, fresh: bool) -> None:
    names = _names(root)
    if fresh:
        sums = storage.read_bytes(storage.join(root, _SUMS)).decode() if _SUMS in names else ""
        for name in (*(line.split("  ", 1)[1] for line in sums.splitlines()), _SUMS, _OWN):
            storage.delete(storage.join(root, name))
        return
    if not _is_ours(names):
        return
    if _SUMS in names:
        old = json.loads(storage.read_bytes(storage.join(root, _REPORT)))["fingerprint"]
    else:
        old = json.loads(storage.read_bytes(storage.join(root, _OWN, "fingerprint.json")))
    differing = [
        f"  {key}: {old.get(key)} there, {keys.get(key)} now"
        for key in sorted({*old, *keys})
        if old.get(key) != keys.get(key)
    ]
    if differing:
        raise RunFolderError(
            f"{root}: holds a student of another recipe. What differs:\n"
            + "\n".join(differing)
            + "\nName another folder, or give --fresh to discard what is there."
        )


def _publish(root: str, keys: Mapping[str, str], folder: Path, report: dict[str, Any]) -> None:
    """Copy a student's files, and last the list of their SHA-256, which says that it is whole."""
    report["fingerprint"] = dict(keys)
    (folder / _REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sums = cache.sums(folder)
    storage.copy({path.name: str(path) for path in folder.iterdir()}, root)
    storage.publish(storage.join(root, _SUMS), sums.encode())
