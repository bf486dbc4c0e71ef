"""The file of `sweep`: data sets and methods, every one on every other."""

from __future__ import annotations

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
