"""The kinds of YAML files that commands take, told by their keys: each is refused by another's command by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from xner_ray.errors import RecipeError


class Kind(NamedTuple):
    """name: with its article. told: whether a mapping is of this kind. command: that takes it."""

    name: str
    told: Callable[[Mapping[str, Any]], bool]
    command: str


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda data: all(key in data for key in keys)


def _of_pairs(data: Mapping[str, Any]) -> bool:
    """Tell what an encoder learns from; a list of runs alone may be a student's too, and is told as nothing."""
    items = data.get("data")
    inputs = [item.get("input") for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return "objective" in data or any(isinstance(one, Mapping) and "parallel" in one for one in inputs)


def _of_sentences(data: Mapping[str, Any]) -> bool:
    """Tell what a student learns from."""
    own = ("labels", "evaluate", "validation", "validation_share")
    return "data" in data and any(key in data for key in own) and not _of_pairs(data)


KINDS = {
    "Recipe": Kind("a recipe of a run", _has("input"), "project {} RUN"),
    "Sweep": Kind("a sweep", _has("data", "methods"), "sweep {} OUT"),
    "Loop": Kind("a loop", _has("recipe"), "loop {} RUNS"),
    "Experiment": Kind("an experiment with students", _has("runs", "students"), "cross-validate {} OUT"),
    "Adaptation": Kind("a recipe of an encoder", _of_pairs, "adapt {} MODEL_DIR"),
    "Training": Kind("a recipe of a student", _of_sentences, "train {} MODEL_DIR"),
}
"""By the name of the model that checks it; of several that a mapping could be, the first."""


def refuse_other(wanted: str, data: Mapping[str, Any], where: str) -> None:
    """Raise RecipeError if a mapping is empty, or of another kind than the model of the name `wanted` checks."""
    if not data:
        raise RecipeError(f"{where}: it is empty; `xner-ray init FILE` writes a recipe for a file of yours")
    told = next((name for name, kind in KINDS.items() if kind.told(data)), None)
    if wanted in KINDS and told is not None and told != wanted and not KINDS[wanted].told(data):
        kind = KINDS[told]
        raise RecipeError(
            f"{where}: this is {kind.name}, and {KINDS[wanted].name} is wanted here; what takes it: "
            f"xner-ray {kind.command.format(where)}"
        )
