"""The command `train`: a student from its recipe or from a run, into a model folder; the same command goes on."""

from __future__ import annotations

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
from xner_ray.run.folder import RunFolder
from xner_ray.storage import cache
from xner_ray.storage import files as storage
from xner_ray.storage.lease import LOCK, claim
from xner_ray.train.load import fingerprint, load_training
from xner_ray.train.recipe import Training

_REPORT, _SUMS, _OWN = "training.json", "SHA256SUMS", "_train"


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
