"""The command adapt: an aligner's encoder goes on learning on a user's pairs, in this process, without Ray.

The model's folder appears whole or not at all. Until then a checkpoint lies beside it, from which the same command goes
on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xner_ray.adapt import loop
from xner_ray.adapt.pairs import Tally, load
from xner_ray.adapt.recipe import Adaptation
from xner_ray.align.encoder import BUILTIN
from xner_ray.errors import InputError, RecipeError, RetryableError, RunFolderError
from xner_ray.models.hub import pin
from xner_ray.models.trainer import Progress, State
from xner_ray.recipe.load import load_checked, model_place, place, placed
from xner_ray.report.card import cell, front_matter, shown
from xner_ray.storage import cache
from xner_ray.storage import files as storage
from xner_ray.version import __version__

REPORT, SUMS = "adaptation.json", "SHA256SUMS"
_NOT_WEIGHTS = {"micro_batch_tokens"}  # but for rounding: how much memory it takes
Say = Callable[[str], None]


def load_adaptation(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> Adaptation:  # fmt: skip
    """A checked recipe; paths as in `load_recipe`. RecipeError says which key is wrong."""
    adaptation, base = load_checked(Adaptation, source, overrides)
    data = [
        origin.model_copy(
            update={
                "run": place(origin.run, base) if origin.run is not None else None,
                "input": placed(origin.input, base) if origin.input is not None else None,
            }
        )
        for origin in adaptation.data
    ]
    encoder = model_place(adaptation.model.encoder, base)
    return adaptation.model_copy(
        update={"data": data, "model": adaptation.model.model_copy(update={"encoder": encoder})}
    )


def adapt(
    recipe: str | os.PathLike[str] | Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Adapt an encoder and write it to `folder`, a local one; returns the report, which is `adaptation.json` there.

    A checkpoint of the same recipe and pairs is gone on with; a folder that was finished by them is left as it is.
    RunFolderError if there is anything else; `fresh` discards a checkpoint or an adapted encoder, once it is known that
    the recipe can be followed. say: takes a line for each part. Also RecipeError, InputError, StorageError, and
    RetryableError where memory does not suffice.
    """
    if "://" in os.fspath(folder):
        raise RecipeError(f"{folder}: an adapted encoder is written to a local folder; copy it from there")
    target = Path(folder).resolve()
    adaptation = load_adaptation(recipe, overrides)
    _refuse_itself(adaptation, target)
    resources = adaptation.resources
    if resources.gpus and not torch.cuda.is_available():
        raise RecipeError("resources.gpus is 1, but torch sees no CUDA device here; set it to 0 for the CPU")
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)
    checkpoint = target.with_name(f"{target.name}.checkpoint")
    pairs, origins, tallies = load(adaptation)
    identity = _identity(adaptation, pairs)
    if fresh:
        _own_files(target)
    elif target.exists() and not (target.is_dir() and not any(target.iterdir())):
        report = _finished(target, identity)
        checkpoint.unlink(missing_ok=True)
        return report
    learner = loop.Learner(adaptation.model, torch.device("cuda" if resources.gpus else "cpu"))
    pieces = []
    for origin, both in zip(origins, learner.pieces(pairs), strict=True):
        if both is None:
            tallies[origin].kept -= 1
            tallies[origin].dropped["longer than the encoder reads, or without a subword"] += 1
        else:
            pieces.append(both)
    if not pieces:
        raise InputError(f"data: none of {len(pairs)} pairs fits into {learner.positions} subwords a side")

    def write(progress: Progress, state: Callable[[], State]) -> None:
        entry = progress.history[-1]
        say(
            f"epoch {entry['epoch']:g}: {entry['pairs']} pairs, loss {entry['loss']:.4f}, "
            f"{entry['words_linked']:.1%} of the words were linked"
        )
        buffer = io.BytesIO()
        torch.save({"identity": identity, **state()}, buffer)
        storage.publish(str(checkpoint), buffer.getvalue())

    if fresh:
        for path in _own_files(target):
            path.unlink()
        checkpoint.unlink(missing_ok=True)
    _make_room(target)
    resume = _resumed(checkpoint, identity, say)
    try:
        progress = loop.fit(learner, pieces, adaptation, resume=resume, checkpoint=write)
    except torch.OutOfMemoryError as error:
        raise RetryableError(
            f"memory does not suffice ({error}); halve fit.micro_batch_tokens, and the same command goes on"
        ) from None
    report = _report(adaptation, learner, tallies, progress, identity)

    def fill(own: Path) -> None:
        learner.save(str(own))
        (own / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (own / "README.md").write_text(_card(adaptation, report), encoding="utf-8")
        (own / SUMS).write_text(cache.sums(own), encoding="utf-8")

    cache.publish_folder(target, fill)
    checkpoint.unlink(missing_ok=True)
    return report


def _identity(adaptation: Adaptation, pairs: Sequence[Any]) -> str:
    """Of all that decides the weights: the recipe without paths of data and resources, the encoder, every word."""
    settings = adaptation.model_dump(mode="json", exclude={"data": True, "resources": True, "fit": _NOT_WEIGHTS})
    encoder = adaptation.model.encoder
    settings["encoder"] = BUILTIN if encoder == BUILTIN else pin(encoder)[1]
    del settings["model"]["encoder"]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for pair in pairs:
        digest.update(json.dumps(pair).encode())
    return digest.hexdigest()


def _refuse_itself(adaptation: Adaptation, target: Path) -> None:
    """RecipeError if the encoder would be written over what it is made from."""
    for key, given in [
        ("model.encoder", adaptation.model.encoder),
        *(("data.run", each.run) for each in adaptation.data),
    ]:
        if given not in (None, BUILTIN) and Path(given).resolve() == target:
            raise RecipeError(f"{key} is {target}, where the adapted encoder is to be written; name another folder")


def _own_files(target: Path) -> list[Path]:
    """What adapt wrote there. RunFolderError if there is anything else, which --fresh must not discard."""
    there = sorted(target.rglob("*")) if target.is_dir() else [target] if target.exists() else []
    try:
        lines = (target / SUMS).read_text(encoding="utf-8").splitlines() if (target / REPORT).is_file() else []
    except OSError:
        lines = []
    own = [target / SUMS, *(target / line.split("  ", 1)[1] for line in lines)] if lines else []
    if others := [path for path in there if path not in own]:
        raise RunFolderError(f"{others[0]} is there, and adapt did not make it; give a new folder, or move it away")
    return [path for path in own if path in there]


def _make_room(target: Path) -> None:
    """The folder's place, empty: it appears whole or not at all. An empty folder, as a user makes it, goes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rmdir()
    except OSError as error:
        raise RunFolderError(
            f"{target} cannot be replaced by the adapted encoder: {error.strerror}; name a folder inside it"
        ) from None


def _finished(target: Path, identity: str) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((target / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFolderError(f"{target} is there, and adapt did not make it; give a new folder") from None
    if report.get("identity") != identity:
        raise RunFolderError(
            f"{target} holds an encoder of another recipe or other pairs; give a new folder, or --fresh to discard it"
        )
    return report


def _resumed(checkpoint: Path, identity: str, say: Say) -> State | None:
    if not checkpoint.exists():
        return None
    if not zipfile.is_zipfile(checkpoint):  # torch's format; weights_only keeps any other from running code
        raise RunFolderError(f"{checkpoint}: no whole checkpoint; --fresh discards it")
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    if state.get("identity") != identity:
        raise RunFolderError(
            f"{checkpoint} is of another recipe or other pairs; give a new folder, or --fresh to discard it"
        )
    say(f"goes on after part {state['progress']['checkpoint']} of {checkpoint}")
    return state


def _report(
    adaptation: Adaptation, learner: loop.Learner, tallies: Sequence[Tally], progress: Progress, identity: str
) -> dict[str, Any]:
    """Plain data; no time and no machine, so that equal adaptations give equal reports."""
    return {
        "xner_ray": __version__,
        "layers": learner.layers,
        "data": [tally.to_dict() for tally in tallies],
        "history": progress.history,
        "recipe": adaptation.model_dump(mode="json"),
        "identity": identity,
    }


def _card(adaptation: Adaptation, report: Mapping[str, Any]) -> str:
    """README.md. It holds no time and no path of the machine."""
    codes = dict.fromkeys(code for tally in report["data"] for code in tally["languages"])
    layers, fit = report["layers"], adaptation.fit
    name = shown(adaptation.model.encoder)
    licence = (
        "multilingual-e5-small (encoder): MIT." if name == BUILTIN else f"{name} (encoder): see its own card."
    )  # fmt: skip
    layer = layers[0] if len(layers) == 1 else layers
    lines = [
        *front_matter(codes, library_name="transformers", tags=["word-alignment", "xner_ray"]),
        "# An encoder for word alignment, adapted with xner_ray",
        "",
        "```yaml",
        f"align: {{encoder: PATH OF THIS FOLDER, layer: {layer}}}",
        "```",
        "",
        f"Layers {adaptation.model.frozen + 1} to {layers[-1]} went on learning on the pairs below, by the "
        "self-training objective of awesome-align (Dou and Neubig 2021); embeddings and the layers above "
        "are those of the encoder that it began as.",
        "",
        "## What it learnt from",
        "",
        "| pairs | read | kept | left out |",
        "|---|---|---|---|",
    ]
    for tally in report["data"]:
        left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "none"
        lines.append(f"| {' with '.join(tally['languages'])} | {tally['read']} | {tally['kept']} | {cell(left)} |")
    last = report["history"][-1]
    lines += [
        "",
        "## How it was trained",
        "",
        f"- encoder: {name}; {fit.epochs} epochs, {fit.batch_pairs} pairs a step, rate {fit.learning_rate:g}, "
        f"seed {fit.seed}",
        f"- in the last part {last['words_linked']:.1%} of the words were linked; loss {last['loss']:.4f}",
        "- it was not compared with gold links; docs/adaptation.md says what such a training did where it was",
        "",
        "The recipe and all losses are in `adaptation.json`.",
        "",
        "## Licences",
        "",
        f"The pairs keep their own licence. {licence}",
        "",
    ]
    return "\n".join(lines)
