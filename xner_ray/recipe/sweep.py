"""The file of `sweep`: data sets and methods, every one on every other; and which of its runs are made from which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, model_validator

from xner_ray.errors import did_you_mean
from xner_ray.recipe.data_set import DataSet, Settings, check_controls, refuse_names
from xner_ray.recipe.decides import Section
from xner_ray.recipe.model import Recipe


class Sweep(Section):
    """A grid. methods: name -> settings. settings: for all runs."""

    data: Annotated[dict[str, DataSet], Field(min_length=1)]  # name: recipe file, or {recipe, settings}
    methods: Annotated[dict[str, Settings | None], Field(min_length=2)]  # name: {recipe key: value}
    settings: Settings = Field(default_factory=dict)  # for every run
    against: str | None = None  # the method that the others are tested against, by default the first
    controls: dict[str, str] = Field(default_factory=dict)  # method -> the same with exchanged pictures or texts

    @model_validator(mode="after")
    def _names(self) -> Sweep:
        refuse_names((*self.data, *self.methods))
        if self.against is not None and self.against not in self.methods:
            raise ValueError(f"against: {self.against!r} is no method{did_you_mean(self.against, self.methods)}")
        check_controls(self.controls, list(self.methods), self.against or next(iter(self.methods)), "method")
        given = [self.settings, *(each.settings for each in self.data.values()), *self.methods.values()]
        for key in (key for settings in given for key in settings or ()):
            field = Recipe.model_fields.get(key)
            if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                raise ValueError(f"{key}: a whole section would replace the recipe's; write {key}.<key>: value")
        return self


@dataclass(frozen=True)
class Planned:
    """A run to make. source: the method of the same data set that it is rematched from; None if it is projected."""

    data: str
    method: str
    recipe_file: str
    overrides: list[str]
    recipe: Recipe
    source: str | None


def shared(runs: Sequence[Planned]) -> list[Planned]:
    """Return the runs of one data set with their sources, each after its source."""
    groups: dict[str, list[Planned]] = {}
    for run in runs:
        groups.setdefault(_before_matching(run.recipe) or run.method, []).append(run)
    found: dict[str, Planned] = {}
    for group in groups.values():
        # Only a run that asks for these links has them, and it has all others too.
        first = next((run for run in group if run.recipe.align.method == "mwmf"), group[0])
        found[first.method] = first
        for run in group:
            if run is not first:
                found[run.method] = replace(run, source=first.method)
    return list(found.values())


def _before_matching(recipe: Recipe) -> str | None:
    """Return what decides a run's rows before matching, as text; None if the run must be made by itself."""
    if recipe.projector != "match" or "likelihood" in recipe.match.scores:  # it is computed for one matching's cells
        return None
    data = recipe.model_dump(mode="json", exclude={"match": True, "output": True, "align": {"method"}})
    if recipe.evidence.plugin is not None:  # it scores the candidates of these settings
        section = recipe.match
        data["cells"] = [section.candidates, section.sub_ranges, section.max_words, recipe.align.method]
    return json.dumps(data, sort_keys=True)
