"""The command `schema`: JSON schemas of the YAML files that commands take, with what is said of each key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from xner_ray.adapt.recipe import Adaptation
from xner_ray.commands.loop.recipe import Loop
from xner_ray.commands.validation.recipe import Experiment
from xner_ray.recipe.comments import comments
from xner_ray.recipe.decides import inner_section
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sweep import Sweep
from xner_ray.train.recipe import Training

Kind = Literal["recipe", "train", "adapt", "sweep", "cross-validate", "loop"]
MODELS: dict[Kind, type[BaseModel]] = {
    "recipe": Recipe,
    "train": Training,
    "adapt": Adaptation,
    "sweep": Sweep,
    "cross-validate": Experiment,
    "loop": Loop,
}


def schema(kind: Kind = "recipe") -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a kind of YAML file; descriptions are the comments of the models."""
    model = MODELS[kind]
    found = model.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for one in _models(model):
        own = found if one is model else found.get("$defs", {}).get(one.__name__, {})
        for key, text in comments(one).items():
            if key in own.get("properties", {}):
                own["properties"][key].setdefault("description", text.replace("None", "null"))
    return found


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    found = [model]
    for field in model.model_fields.values():
        if (inner := inner_section(field)) is not None and inner not in found:
            found += _models(inner)
    return list(dict.fromkeys(found))
