"""The fingerprint of a run: all that decides its rows, as a flat mapping; equal fingerprints mean equal rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from xner_ray.recipe.decides import Decides
from xner_ray.recipe.model import DECISIONS, Recipe
from xner_ray.recipe.sections import THRESHOLDS, Runtime

_ELSEWHERE = (Decides.RUN, Decides.FILES, Decides.MODEL)
VERSION = "match version"
MATCHING = 3
"""What the scores of matching mean: raised when the same recipe gives other spans."""
TAGS, TAGGER_CANDIDATES, READING = "tag version", "tagger candidates version", 3
"""How a token classifier's probabilities become entities, and candidates: 3, by the likeliest sequence of tags; 1, word
by word."""
GIVEN, CHECKED = "given text version", 2
"""What becomes of given translations: 2, they are checked by `translate.health`; 1, they are not."""

# Keys of `match` that projector constrained reads.
_OF_SOLVER = {f"match.{key}" for key in ("solver", "max_words", "per_entity", "time_limit_s")}
# Keys that an engine does not read.
_UNREAD = {"apertium": ("beams", "max_new_tokens", "dtype"), "spacy": ("pooling", "temperature", "dtype")}


def fingerprint(
    recipe: Recipe,
    inputs: Mapping[str, str],
    parallel: Mapping[str, Mapping[str, str]],
    models: Mapping[str, str],
) -> dict[str, Any]:
    """Return all that decides the rows, by dotted key of the recipe, then by what is read.

    inputs: format and SHA-256 of each input file; parallel: the same by language, with files of links;
    models: the revision or tree hash of each model, by its key. A key is there if its field decides rows
    (`recipe/decides.py`) and its stage runs and reads it; so are the `versions`.

    >>> recipe = Recipe.model_validate({"input": {"path": "a.conll"}, "targets": ["swh_Latn"], "align": {"gpus": 1}})
    >>> keys = fingerprint(recipe, {"train/a.conll": "conll sha256:5e1f"}, {}, {"align.encoder": "1571fc98"})
    >>> [key for key in keys if key.startswith("align.t")]  # neither align.gpus nor align.threads
    ['align.temperature', 'align.threshold']
    >>> [key for key in keys if key.startswith("tag.")]  # no tagger runs
    []
    >>> {key: value for key, value in keys.items() if " " in key and "version" not in key}  # no paths and no names
    {'input file train/a.conll': 'conll sha256:5e1f', 'align.encoder identity': '1571fc98'}
    """
    stages = {*recipe.stages} - ({"match"} if recipe.projector not in ("match", "constrained") else set())
    data = recipe.model_dump(mode="json")
    if recipe.input.carry is not None:
        data["input"]["carry"] = sorted(recipe.input.carry)
    data["evidence"]["scores"] = recipe.evidence.names
    data["translate"]["engine"] = recipe.translate_engine
    unread = _unread(recipe)
    found = {}
    for key, value in _flat(data):
        section = key.partition(".")[0]
        runs = section in stages or not isinstance(getattr(recipe, section), Runtime)
        given = key in ("tag.engine", "align.backend") and value == "provided"  # by files, where no stage runs
        given |= key.startswith("translate.health.") and recipe.given_is_checked
        if (runs or given) and not unread & {*_within(key)} and _decides(key) not in _ELSEWHERE:
            found[key] = value
    found |= versions(recipe)
    for name, at_most in THRESHOLDS.items():
        if recipe.projector == "match" and name in recipe.match.scores:
            found.setdefault(f"match.thresholds.{name}", at_most)
    if recipe.units_decide:  # Apertium's tagger remembers earlier sentences of a call
        found["engine.unit_rows"] = recipe.unit_rows
    return found | of_files(inputs, parallel) | {f"{key} identity": identity for key, identity in models.items()}


def versions(recipe: Recipe) -> dict[str, int]:
    """Return the versions of what the code makes of a recipe's stages, by key; a run without such a key is of 1."""
    matched = recipe.projector == "match" and "match" in recipe.stages and recipe.match.solver != "heuristic"
    tagging = [*({"tag"} & {*recipe.stages}), *(["target_tag"] if recipe.projector == "transfer" else [])]
    read = any(recipe.engine_of(stage) in ("builtin", "hf") for stage in tagging)
    # Whatever the solver, which `rematch` may exchange
    candidates = recipe.projector == "match" and "tagger" in recipe.match.candidates.split("+")
    applying = [(VERSION, MATCHING, matched), (TAGS, READING, read), (TAGGER_CANDIDATES, READING, candidates)]
    applying.append((GIVEN, CHECKED, recipe.given_is_checked))
    return {key: version for key, version, applies in applying if applies}


def digest(recipe: Recipe) -> str:
    """Return the SHA-256 of what decides the rows in a recipe as the user gives it, models and files left aside."""
    decides = [fingerprint(recipe, {}, {}, {}), sorted(recipe.languages)]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def of_files(inputs: Mapping[str, str], parallel: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what is stated of the files (`read.inputs.Texts.identities`) by key."""
    found = {f"input file {name}": stated for name, stated in inputs.items()}
    for lang, files in parallel.items():
        found |= {f"parallel {lang} {name}": stated for name, stated in files.items()}
    return found


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of all that stands in nested mappings; an empty mapping is a value."""
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _flat(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _within(key: str) -> Iterator[str]:
    """Yield a dotted key and all that it stands in: tag.labels.PER, tag.labels, tag."""
    while key:
        yield key
        key = key.rpartition(".")[0]


def _decides(key: str) -> Decides:
    """Return what a dotted key decides; below a mapping, as `tag.labels.PER`, it is what the mapping decides."""
    stated = next((name for name in _within(key) if name in DECISIONS), None)
    assert stated, "a field says nothing of what it decides"
    return DECISIONS[stated]


def _unread(recipe: Recipe) -> set[str]:
    """Return the keys of running stages that nobody reads."""
    found = {"likelihood.beams", "likelihood.max_new_tokens", "constrained.max_new_tokens"}  # they generate nothing
    if not recipe.with_images:
        found.add("input.columns.image")
    if not recipe.looks_at_pictures:
        found.add("input.images")  # references alone go along
    if recipe.projector != "marker":
        found.add("translate.min_similarity")
    if recipe.projector == "constrained":
        found |= {key for key in DECISIONS if key.startswith("match.")} - _OF_SOLVER
    for stage in recipe.stages:
        engine = recipe.engine_of(stage)
        found |= {f"{stage}.{key}" for key in _UNREAD.get(engine, ())}
        if engine != "llm":
            found.add(f"{stage}.llm.context_tokens")
        if stage != "tag" or not recipe.tag.images:
            found |= {f"{stage}.images", f"{stage}.llm.image_side"}
    return found | ({"tag.context", "target_tag.context"} - recipe.contexts.keys())
