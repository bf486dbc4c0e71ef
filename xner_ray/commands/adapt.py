"""The command `adapt`: the aligner's encoder, trained on a user's pairs. It resumes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xner_ray.adapt import loop
from xner_ray.adapt.card import model_card
from xner_ray.adapt.pairs import Pair, Tally, load
from xner_ray.adapt.recipe import Adaptation
from xner_ray.errors import InputError, RecipeError, RetryableError
from xner_ray.models import cpu_dtype, hub
from xner_ray.models.e5 import BUILTIN
from xner_ray.models.trainer import Progress, State, read_state
from xner_ray.models.windows import Windows
from xner_ray.recipe.load import load_checked, placed
from xner_ray.run.model_folder import ModelFolder, flat
from xner_ray.storage import files as storage
from xner_ray.version import __version__

Say = Callable[[str], None]


def load_adaptation(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Adaptation:
    """Load and check a recipe; paths as in `load_recipe`. RecipeError names the wrong key."""
    return placed(*load_checked(Adaptation, source, overrides))


def adapt(
    recipe: str | os.PathLike[str] | Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Adapt an encoder into `folder`, a Hugging Face folder; returns its report (adaptation.json).

    The same call resumes from the last checkpoint; it leaves a finished encoder as it is. fresh: discard the encoder
    in the folder, once the new one is known to be trainable. say: called with a line for each part. RunFolderError if
    the folder holds another encoder, or other files; also RecipeError, InputError, StorageError, and RetryableError if
    memory does not suffice.
    """
    adaptation = load_adaptation(recipe, overrides)
    encoder = identity = adaptation.model.encoder
    asked = {"model.encoder": encoder, "fit.dtype": adaptation.fit.dtype}
    target = ModelFolder(os.fspath(folder), "adapted encoder", "adaptation.json", asked)
    target.refuse_sources([adaptation.model.encoder, *(origin.run for origin in adaptation.data)])
    resources = adaptation.resources
    if resources.gpus and not torch.cuda.is_available():
        raise RecipeError("resources.gpus is 1, but torch sees no CUDA device here; set it to 0 for the CPU")
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)
    pairs, origins, tallies = load(adaptation)
    if encoder != BUILTIN:
        known = {} if fresh else hub.recorded({"model.encoder": encoder}, *target.recorded())
        encoder, identity = hub.pin(known.get("model.encoder", encoder), say)
        model = adaptation.model.model_copy(update={"encoder": encoder})
        adaptation = adaptation.model_copy(update={"model": model})
    dtype = cpu_dtype.for_training(
        adaptation.fit.dtype,
        gpus=resources.gpus,
        threads=torch.get_num_threads(),
        kept=None if fresh else target.format_kept(),
        say=say,
    )
    adaptation = adaptation.model_copy(update={"fit": adaptation.fit.model_copy(update={"dtype": dtype})})
    keys = _fingerprint(adaptation, pairs, identity)
    target.refuse_other_files()
    if not fresh and (report := target.finished(keys)) is not None:
        return report
    learner = loop.Learner(adaptation.model, torch.device("cuda" if resources.gpus else "cpu"))
    sides, whole = learner.pieces(pairs)
    for origin in (origin for origin, is_whole in zip(origins, whole, strict=True) if not is_whole):
        tallies[origin].kept -= 1
        tallies[origin].dropped["longer than the encoder reads, or without a subword"] += 1
    if not len(sides):
        raise InputError(f"data: none of {len(pairs)} pairs fits into {learner.positions} subwords a side")
    with target.claim():
        target.begin(keys, adaptation, fresh=fresh)
        try:
            progress = _fitted(learner, sides, adaptation, storage.join(target.work, "state.pt"), say)
        except torch.OutOfMemoryError as error:
            raise RetryableError(
                f"memory does not suffice ({error}); halve fit.micro_batch_tokens, and the same command resumes"
            ) from None
        report = _report(adaptation, learner, tallies, progress)
        with tempfile.TemporaryDirectory() as own:
            learner.save(own)
            (Path(own) / "README.md").write_text(model_card(adaptation, report), encoding="utf-8")
            target.publish(Path(own), report, keys)
        storage.delete(target.work)
    return report


def _fitted(learner: loop.Learner, sides: Windows, adaptation: Adaptation, path: str, say: Say) -> Progress:
    """Train from the checkpoint at `path`, if there is one, and write the next ones there."""
    resume: State | None = None
    if (data := storage.read_if_there(path)) is not None:
        resume = read_state(data, path)
        say(f"resumes after part {resume['progress']['checkpoint']}")

    def write(progress: Progress, state: Callable[[], State]) -> None:
        entry = progress.history[-1]
        say(
            f"epoch {entry['epoch']:g}: {entry['pairs']} pairs, loss {entry['loss']:.4f}, "
            f"{entry['words_linked']:.1%} of the words were linked"
        )
        buffer = io.BytesIO()
        torch.save(state(), buffer)
        storage.publish(path, buffer.getvalue())

    return loop.fit(learner, sides, adaptation, resume=resume, checkpoint=write)


def _fingerprint(adaptation: Adaptation, pairs: Sequence[Pair], encoder: str) -> dict[str, str]:
    """Return what decides the weights, by key: recipe keys but for speed and places, every word, and the encoder.

    encoder: its identity.
    """
    settings = flat(
        adaptation.model_dump(mode="json", exclude={"data": True, "resources": True, "fit": {"micro_batch_tokens"}})
    )
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(pair).encode())
    return {**settings, "model.encoder": encoder, "pairs": digest.hexdigest()}


def _report(
    adaptation: Adaptation, learner: loop.Learner, tallies: Sequence[Tally], progress: Progress
) -> dict[str, Any]:
    """Return plain data without times and machines, so that equal adaptations give equal reports."""
    return {
        "xner_ray": __version__,
        "layers": learner.layers,
        "data": [tally.to_dict() for tally in tallies],
        "history": progress.history,
        "recipe": adaptation.model_dump(mode="json"),
    }
