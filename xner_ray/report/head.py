"""The head of report.html: what a run is, from what its folder records. What is not recorded is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from xner_ray.data.languages import LANGUAGES
from xner_ray.read.index.index import Index
from xner_ray.read.record import File
from xner_ray.recipe.images import TINY_CLIP, TINY_OWL
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import TINY_NLLB
from xner_ray.report import card
from xner_ray.run.counters import Report

_MOST = 8  # files, and languages
_DIGEST = re.compile("[0-9a-f]{20,}")
_DIGITS = 12  # of a digest or commit, enough to tell one from another
_STEPS = {
    "translate": "translator",
    "tag": "tagger of the source side",
    "image": "pictures",
    "back_translate": "translator back",
    "target_tag": "tagger of the target side",
    "align": "encoder of the aligner",
    "likelihood": "likelihood of translations",
    "constrained": "places of entities",
}


class Model(NamedTuple):
    """A model that the run loaded. revision: a commit of the hub, or a sum of its files, shortened."""

    step: str
    name: str
    revision: str


def head(
    recipe: Recipe, index: Index, report: Report, keys: Mapping[str, Any], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of `page.About` that the records of a run give. keys: its fingerprint."""
    models = [_model(key, name, keys) for key, name in recipe.models()] if recipe.combined is None else []
    tests = (TINY_NLLB, TINY_CLIP, TINY_OWL)
    return {
        "facts": [(name, lines) for name, lines in _facts(recipe, index, report, models, versions) if lines],
        "made": card.made(recipe),
        "licences": card.licences_of(recipe),
        "test_models": sorted({model.name for model in models} & {*tests}),
    }


def _facts(
    recipe: Recipe, index: Index, report: Report, models: Sequence[Model], versions: Mapping[str, str]
) -> Iterator[tuple[str, Sequence[str]]]:
    yield "input", [*_files(index), *_rows(index)]
    yield "labelled for" if recipe.direction == "train" else "labelled", _some(map(_language, recipe.languages))
    yield "labels", [", ".join(report.labels["kept"][:40])] if report.labels["kept"] else []
    yield "models", [f"{model.step}: {model.name}" + f" ({model.revision})" * bool(model.revision) for model in models]
    yield "begun", [report.began] if report.began else []
    yield "finished", [report.finished] if report.finished else []
    engine = "" if recipe.engine.executor == "auto" else f", executor {recipe.engine.executor}"
    yield "work", [f"{len(index.units):,} units of up to {index.unit_rows:,} rows{engine}"] if index.unit_rows else []
    version = [f"xner_ray {versions['xner_ray']}"] if "xner_ray" in versions else []
    yield (
        "made by",
        [", ".join([*version, *(f"{name} {versions[name]}" for name in ("torch", "ray") if name in versions)])],
    )
    yield "recipe", ["_run/recipe.yaml, in the run's folder"]


def _files(index: Index) -> list[str]:
    """Return a line per input file, each once: its name, its format, its language, and what it is beside the input."""
    found: dict[tuple[str, str], tuple[File, str]] = {}
    for unit in index.units:
        for parts, role in ((unit.segments, ""), (unit.parallel, ", parallel text"), (unit.links, ", word links")):
            for part in parts:
                found.setdefault((part.file.name, role), (part.file, role))
    return _some(
        f"{file.name} ({file.format}{role}{'' if role == ', word links' else f', {_language(file.lang)}'})"
        for file, role in found.values()
    )


def _rows(index: Index) -> list[str]:
    counts = sorted(set(index.n_rows.values()))
    if not counts:
        return []
    ends = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return [f"{ends} sentences" + (f" for each of {len(index.n_rows)} languages" if len(index.n_rows) > 1 else "")]


def _some(lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return found if len(found) <= _MOST else [*found[:_MOST], f"and {len(found) - _MOST} more"]


def _language(code: str) -> str:
    return f"{code} {LANGUAGES[code].name}" if code in LANGUAGES else code


def _model(key: str, name: str, keys: Mapping[str, Any]) -> Model:
    """Return a model by its key in the recipe; a pinned name has its revision behind `@` or `#`."""
    found = str(keys.get(f"{key} identity", ""))
    for sign in "@#":
        plain, parted, revision = name.rpartition(sign)
        if parted and _DIGEST.fullmatch(revision):
            name, found = plain, revision
    stage = key.partition(".")[0]
    return Model(_STEPS.get(stage, stage), card.shown(name), _DIGEST.sub(lambda digest: digest[0][:_DIGITS], found))
