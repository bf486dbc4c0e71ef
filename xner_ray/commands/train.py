"""The command `train`: a student from a recipe or a finished run. It resumes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from xner_ray.models import cpu_dtype, hub
from xner_ray.run.model_folder import ModelFolder
from xner_ray.storage import files as storage
from xner_ray.train.load import fingerprint, load_training, pinned


def train(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model_dir: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train a student into `model_dir`, a Hugging Face folder; returns its report (training.json).

    source: see `load_training`. The same call resumes from the last checkpoint; it leaves a finished student as it is.
    fresh: discard the student in the folder. RunFolderError if the folder holds another student, or other files.
    """
    console = console or Console(quiet=True)

    def say(line: str) -> None:
        console.print(Text(line))

    training = load_training(source, overrides)
    encoder = training.model.encoder
    resources = training.resources
    names = ", ".join(each.name for each in training.data)
    say(
        f"a student of {names}: encoder {encoder}, {training.fit.epochs} epochs, {resources.workers} "
        f"worker{'s' * (resources.workers > 1)}{f' with {resources.gpus:g} GPU each' if resources.gpus else ''}"
    )
    asked = {"model.encoder": encoder, "fit.dtype": training.fit.dtype}
    folder = ModelFolder(os.fspath(model_dir), "student", "training.json", asked)
    folder.refuse_sources([encoder, *(source.run for source in training.data)])
    known = {} if fresh else hub.recorded({"model.encoder": encoder}, *folder.recorded())
    encoder, identity = pinned(known.get("model.encoder", encoder), say)
    training = training.with_encoder(encoder)
    dtype = cpu_dtype.for_training(
        training.fit.dtype,
        gpus=resources.gpus,
        threads=resources.threads or max(1, int(resources.cpus)),
        kept=None if fresh else folder.format_kept(),
        say=say,
    )
    training = training.with_dtype(dtype)
    keys = fingerprint(training, encoder=identity)
    folder.refuse_other_files()
    with folder.claim():
        if not fresh and (report := folder.finished(keys)) is not None:
            console.print(f"{folder.root}: is trained already")
            return report
        folder.begin(keys, training, fresh=fresh)
        encoder = hub.mirror(training.model.encoder, storage.join(folder.work, "models"), say)
        say("starts Ray and the workers" if resources.address == "local" else f"joins Ray at {resources.address}")
        from xner_ray.train import ray  # torch and Ray take seconds, and most errors come before them

        report = ray.run(training, encoder, folder.work, partial(folder.publish, keys=keys), say)
        storage.delete(folder.work)
        return report
