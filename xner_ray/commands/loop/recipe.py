"""The file of `loop`: a recipe of a run, the students between its rounds, and when it ends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from xner_ray.errors import RecipeError
from xner_ray.recipe.data_set import Settings, overrides_of
from xner_ray.recipe.decides import Section
from xner_ray.recipe.load import checked, home, read_mapping
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import anchored, overridden, place
from xner_ray.train.recipe import Filters, Folds, Source

_OWN = {
    "data": "the students of a round learn from its projections",
    "folds": "give folds and seed of the loop itself",
    "evaluate": "give evaluate of the loop itself",
    "validation": "give validation_share, or leave it out",
}


_REMATCH: Settings = {
    "match.candidates": "window+tagger",
    "match.scores": {"soft": 1.0, "edges": 0.2, "tagger": 0.5},
}
_FILTERS: dict[str, Any] = {"incomplete": "words", "mask_below": 0.5}


class Loop(Section):
    """A loop's file. What it gives of `rematch` and `filters` is added to their defaults."""

    recipe: str  # a recipe file, relative to this one; a recipe itself is a loop with the defaults
    settings: Settings = Field(default_factory=dict)  # dotted key of the recipe: value
    rounds: int = Field(default=2, ge=1)  # after the first projection, which is round 0
    patience: int = Field(default=1, ge=1)  # rounds in a row without a gain, after which it stops
    # of documents: the first is held out, of each half of the others a student labels the other half
    folds: int = Field(default=5, ge=3)
    seed: int = 0  # of the draw of folds
    # Held-out sentences without missing entities and with no score below this are what rounds are measured on
    settled: float = Field(default=0.5, ge=0, le=1)
    # Keys of match and output, as `rematch` takes them, of all rounds but the first projection
    rematch: Settings = Field(default_factory=lambda: dict(_REMATCH))
    # What a student learns from. Unless others are given, incomplete: words and mask_below: 0.5, so not from what is
    # missing or doubtful
    filters: Filters = Field(default_factory=lambda: Filters(**_FILTERS))
    student: dict[str, Any] = Field(default_factory=dict)  # keys of a student's recipe: model, fit, labels, resources
    evaluate: list[Source] = Field(default_factory=list)  # with gold, for the report alone; it decides nothing

    @model_validator(mode="before")
    @classmethod
    def _added(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        defaults = {"rematch": _REMATCH, "filters": _FILTERS}
        more = {key: {**defaults[key], **given[key]} for key in defaults if isinstance(given.get(key), Mapping)}
        return {**given, **more}

    @model_validator(mode="after")
    def _fits(self) -> Loop:
        if wrong := sorted(_OWN.keys() & self.student.keys()):
            raise ValueError(f"student: {wrong[0]}: {_OWN[wrong[0]]}; leave it out here")
        for key in self.rematch:
            if not key.startswith(("match.", "output.")):
                raise ValueError(
                    f"rematch: {key}: allowed: match.* and output.*, as in rematch: {{match.min_score: 0.5}}"
                )
        return self

    @property
    def parts(self) -> dict[str, list[int]]:
        """The folds that each student is trained without; it labels those of `labels`."""
        held, *others = range(self.folds)
        middle = len(others) // 2
        first, second = others[:middle], others[middle:]
        return {"first": [held, *second], "second": [held, *first], "judge": [held]}

    @property
    def labels(self) -> dict[str, list[int]]:
        """The folds that each student labels, none of which it was trained on."""
        apart = self.parts
        return {"first": apart["first"][1:], "second": apart["second"][1:], "judge": apart["judge"]}

    def folds_without(self, student: str) -> Folds:
        """Return the folds of a student's training."""
        return Folds(n=self.folds, held_out=self.parts[student], seed=self.seed)


@dataclass(frozen=True)
class Planned:
    """A loop with its recipe file, the settings of that, and the folder at which other paths of its file start."""

    loop: Loop
    recipe_file: str
    overrides: list[str]
    base: Path


def load_loop(source: str | os.PathLike[str], overrides: Sequence[str] = (), *, rounds: int | None = None) -> Planned:
    """Load and check a loop's file, or a recipe, which is a loop with the defaults.

    overrides: keys of the loop, or of the recipe, told by their first name. RecipeError names the wrong key.
    """
    path = os.fspath(source)
    shape = "a loop is a mapping of recipe, rounds, student, or a recipe of a run"
    data: Mapping[str, Any] = read_mapping(path, shape)
    base = home(path)
    if not isinstance(base, Path):
        raise RecipeError(f"{path}: a loop's file lies on a local disk; its recipe and RUNS may be elsewhere")
    own, others = _split(overrides, Loop.model_fields)
    if "input" in data:
        data = {"recipe": Path(path).name}
    if rounds is not None:
        own = [*own, f"rounds={rounds}"]
    loop = checked(Loop, overridden(data, own), path, own)
    file = place(loop.recipe, base)
    settings = anchored(Recipe, overrides_of(loop.settings), home(file))
    return Planned(loop, file, [*settings, *others], base)


def _split(overrides: Sequence[str], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part overrides whose key begins with one of the names from the others.

    >>> _split(["rounds=3", "input.limit=5"], ["rounds"])
    (['rounds=3'], ['input.limit=5'])
    """
    own = [each for each in overrides if each.partition("=")[0].partition(".")[0] in names]
    return own, [each for each in overrides if each not in own]
