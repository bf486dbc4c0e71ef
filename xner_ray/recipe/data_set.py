"""A recipe file with settings, under a name, as sweeps and experiments list their data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.recipe.decides import Section
from xner_ray.recipe.settings import place

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
Settings = dict[str, Any]  # dotted recipe key -> value


class DataSet(Section):
    """A recipe with settings; in YAML, the file's name alone is a data set without settings."""

    recipe: str  # a recipe file, relative to the file that names it
    settings: Settings = Field(default_factory=dict)  # dotted recipe key: value

    @model_validator(mode="before")
    @classmethod
    def _without_settings(cls, given: Any) -> Any:
        return {"recipe": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}

    def file(self, folder: Path) -> str:
        """Return the recipe file's path; `folder` is that of the file that names it."""
        return place(self.recipe, folder)


def refuse_names(names: Iterable[str]) -> None:
    """Raise ValueError for a name that no folder can have."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a folder's name; allowed: letters, digits and _ . + -")


def check_controls(controls: Mapping[str, str], names: Sequence[str], reference: str, what: str) -> None:
    """Raise ValueError unless controls map some of the compared names, other than the reference, to others."""
    for name, control in controls.items():
        for each in (name, control):
            if each not in names:
                raise ValueError(f"controls: {each!r} is no {what}{did_you_mean(each, names)}")
        if name == control or reference in (name, control):
            raise ValueError(
                f"controls: {name}: {control}: a {what} and its control are two, and neither is the reference "
                f"({reference})"
            )


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as `--set` takes them. RecipeError for a value that YAML does not have."""
    try:
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]  # JSON is YAML
    except TypeError as error:
        raise RecipeError(f"a recipe cannot hold a value of {', '.join(settings)}: {error}") from None
