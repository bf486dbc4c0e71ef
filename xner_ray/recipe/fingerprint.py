"""What decides the rows of a run, as a flat mapping: two runs with equal fingerprints have equal rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import THRESHOLDS, Runtime

# Keys that an engine does not read.
_IDLE = {"apertium": ("beams", "max_new_tokens", "dtype"), "spacy": ("pooling", "temperature", "dtype")}


def fingerprint(
    recipe: Recipe,
    inputs: Mapping[str, str],
    parallel: Mapping[str, Mapping[str, str]],
    models: Mapping[str, str],
) -> dict[str, Any]:
    """What decides the rows, as a flat mapping from key to value; two runs with equal ones have equal rows.

    `inputs` maps each input file to its identity (format, size, time), `parallel` the same by language (files of links
    too), `models` each model key to its revision or tree hash. Left out: what only decides where and how fast
    (`Runtime`, budgets, `engine`), `max_reject_rate`, sections of stages that do not run, and `targets`, which may
    grow.
    """
    data = recipe.model_dump(mode="json", exclude={"engine": True, "targets": True, "output": {"max_reject_rate"}})
    if recipe.input.carry is not None:
        data["input"]["carry"] = sorted(recipe.input.carry)
    data["evidence"]["scores"] = recipe.evidence.names
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, child in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), child)
        else:
            flat[prefix] = value

    walk("", data)
    speed = (*Runtime.model_fields, "micro_batch_tokens")
    stages = ("translate", "tag", "back_translate", "target_tag", "align", "evidence", "likelihood", "match")
    hidden = {f"{section}.{key}" for section in stages for key in speed}
    # Files and models count by identity, not by name; a stage that does not run decides nothing.
    hidden |= {f"{section}.llm.gpu_memory_share" for section in stages}
    hidden |= {
        "evidence.plugin",
        "input.format",
        "input.parallel_format",
        "align.encoder",
        *(f"{section}.model" for section in stages),
    }
    prefixes = ["input.path", "input.parallel", "input.links"]
    prefixes += ["translate"] if recipe.translate_engine == "provided" else []
    prefixes += ["tag"] if recipe.entities_given else []
    prefixes += [] if recipe.aligned else ["align"]
    prefixes += [] if recipe.projector == "match" else ["match"]
    prefixes += [name for name in ("back_translate", "target_tag", "likelihood") if _unused(recipe, name)]
    prefixes += ["evidence"] if recipe.evidence.plugin is None else []
    prefixes += [f"{section}.llm" for section in stages if section not in recipe.chats]
    hidden |= {"translate.min_similarity"} if recipe.projector != "marker" else set()
    hidden |= {"likelihood.beams", "likelihood.max_new_tokens"}  # it generates nothing
    for section in ("translate", "back_translate", "tag", "target_tag"):
        engine = recipe.translate_engine if section == "translate" else getattr(recipe, section).engine
        hidden |= {f"{section}.{key}" for key in _IDLE.get(engine, ())}
    flat = {
        key: value
        for key, value in flat.items()
        if key not in hidden and not any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
    }
    for name, at_most in THRESHOLDS.items():
        if recipe.projector == "match" and name in recipe.match.scores:
            flat.setdefault(f"match.thresholds.{name}", at_most)
    if recipe.translate_engine != "provided":
        flat["translate.engine"] = recipe.translate_engine
    if "apertium" in (recipe.translate_engine, recipe.back_translate.engine):
        flat["engine.unit_rows"] = recipe.engine.unit_rows  # its tagger remembers earlier sentences of a call
    if recipe.tag.engine == "provided":
        flat["tag.engine"] = recipe.tag.engine
    if recipe.align.backend == "provided":
        flat["align.backend"] = recipe.align.backend
    flat.update({f"input file {name}": identity for name, identity in inputs.items()})
    for lang, files in parallel.items():
        flat.update({f"parallel {lang} {name}": identity for name, identity in files.items()})
    flat.update({f"{key} identity": identity for key, identity in models.items()})
    return flat


def _unused(recipe: Recipe, section: str) -> bool:
    return bool(getattr(recipe, section).engine == "none")
