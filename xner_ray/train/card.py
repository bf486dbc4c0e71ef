"""The model card: README.md of a student's folder. It holds no time and no path of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xner_ray.recipe.model import Recipe
from xner_ray.report.card import cell, front_matter, licences_of, shown
from xner_ray.run.folder import RunFolder
from xner_ray.train.recipe import Source, Training

_LABELS = {None: "projected labels", "projected": "projected labels", "gold": "gold labels", "soft": "a tagger's tags"}


def model_card(training: Training, report: Mapping[str, Any]) -> str:
    """README.md. `report` is that of `student.Trained.report`."""
    runs = [
        run
        for source in training.data
        for run in (source.run, *(each.run for each in source.teachers))
        if run is not None
    ]
    recipes = [RunFolder(run).recipe() for run in dict.fromkeys(runs)]
    codes = dict.fromkeys(code for source in training.data for code in _languages(source))
    model, fit = training.model, training.fit
    layers = "all layers" if model.n_layers is None else f"the lowest {model.n_layers} layers"
    frozen = f", the lowest {model.n_frozen} of them frozen" if model.n_frozen else ""
    lines = [
        *front_matter(
            codes,
            pipeline_tag="token-classification",
            library_name="transformers",
            tags=["named-entity-recognition", "xner_ray"],
        ),
        "# A named-entity tagger trained with xner_ray",
        "",
        f"Labels: {', '.join(map(cell, report['labels']))}.",
        "",
        "```python",
        "from transformers import pipeline",
        'tagger = pipeline("token-classification", "PATH OF THIS FOLDER", aggregation_strategy="first")',
        "```",
        "",
        "## What it learnt from",
        "",
        "| sentences of | read | kept | left out |",
        "|---|---|---|---|",
        *[_row(source, tally) for source, tally in zip(training.data, report["sentences"]["data"], strict=True)],
        "",
        *_masked(report),
        "## How it was trained",
        "",
        f"- encoder: {shown(model.encoder)}, {layers}{frozen}; the head was {report['head']}",
        f"- {fit.epochs} epochs at most, {fit.batch_sentences} sentences a step, seed {fit.seed}",
        f"- weights of checkpoint {report['best_checkpoint']} of {len(report['history'])}"
        + (", where it stopped for want of a better F1" if report["stopped_early"] else ""),
        "",
        *_scores(report),
        "The recipe, the losses and all figures are in `training.json`.",
        "",
        "## Licences",
        "",
        "The sentences keep their own licence. Models behind labels and student:",
        *_licences(training, recipes),
        "",
    ]
    return "\n".join(lines)


def _languages(source: Source) -> list[str]:
    if source.input is not None:
        return [str(source.input.lang)]
    recipe = RunFolder(str(source.run)).recipe()
    return [recipe.source_side] if source.side == "source" else source.langs or recipe.languages


def _row(source: Source, tally: Mapping[str, Any]) -> str:
    kind = "gold labels" if source.input is not None else _LABELS[source.labels]
    kind = "labels of the source side" if source.side == "source" else kind
    left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "none"
    weight = f", weight {source.weight:g}" if source.weight != 1 else ""
    weight += ", weighted by score" if source.weight_by == "score" else ""
    return f"| {', '.join(_languages(source))}, {kind}{weight} | {tally['read']} | {tally['kept']} | {cell(left)} |"


def _masked(report: Mapping[str, Any]) -> list[str]:
    masked, doubtful = (sum(tally[name] for tally in report["sentences"]["data"]) for name in ("masked", "doubtful"))
    lines = [f"Of {masked} sentences that lost an entity only the entity words were learnt."] if masked else []
    lines += [f"From the words of {doubtful} entities with a low score nothing was learnt."] if doubtful else []
    return [*lines, ""] if lines else []


def _scores(report: Mapping[str, Any]) -> list[str]:
    found = report["evaluation"]
    if found is None or not found["languages"]:
        return ["It was not scored against gold.", ""]
    lines = ["Exact entities against gold, in percent (seqeval strict, IOB2; 95 % bootstrap intervals):", ""]
    lines += ["| language | sentences | precision | recall | F1 | interval |", "|---|---|---|---|---|---|"]
    for one in found["languages"]:
        overall = one["overall"]
        found_interval = overall["f1_interval"]
        interval = f"{100 * found_interval['low']:.1f}-{100 * found_interval['high']:.1f}" if found_interval else "-"
        figures = " | ".join(f"{100 * overall[name]:.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"| {one['lang']} | {one['rows']} | {figures} | {interval} |")
    return [*lines, ""]


def _licences(training: Training, recipes: list[Recipe]) -> list[str]:
    own = "multilingual-e5-small (encoder): MIT." if training.model.encoder == "builtin" else None
    own = own or f"{shown(training.model.encoder)} (encoder): see its own card."
    return [f"- {licence}" for licence in dict.fromkeys([own, *(each for one in recipes for each in licences_of(one))])]
