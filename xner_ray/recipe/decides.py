"""What each key of a recipe decides: its field says it once, and fingerprint, rematch and paths derive from it."""

from __future__ import annotations

from enum import Enum, auto

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Decides(Enum):
    """What a field decides, as in `beams: Annotated[int, Decides.ROWS]`; every field of a recipe has one of these.

    All but RUN, FILES and MODEL are in the fingerprint. A rematch may change CELLS, WINNERS and CHOICE.
    """

    ROWS = auto()
    CELLS = auto()  # which candidates of an entity are scored; those that a stage has scored cannot become more
    WINNERS = auto()  # which of these can win; the score likelihood is computed for them alone
    CHOICE = auto()  # what is taken of these, and how it is published
    FILES = auto()  # paths, relative to the recipe; the fingerprint has the identities of the files
    MODEL = auto()  # a folder, relative to the recipe, or a name elsewhere; the fingerprint has the model's identity
    RUN = auto()  # no row: where and how fast the run goes, and for which languages


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def decisions(model: type[BaseModel], prefix: str = "") -> dict[str, Decides]:
    """Return what every key of a model decides, by dotted key; keys of inner sections follow their section.

    >>> from xner_ray.recipe.sections import Translating
    >>> decisions(Translating)["beams"]
    <Decides.ROWS: 1>
    """
    found: dict[str, Decides] = {}
    for name, field in model.model_fields.items():
        if decides := decision(field):
            found[f"{prefix}{name}"] = decides
        if inner := inner_section(field):
            found |= decisions(inner, f"{prefix}{name}.")
    return found


def decision(field: FieldInfo) -> Decides | None:
    """Return what a field decides; None if it does not say."""
    return next((mark for mark in field.metadata if isinstance(mark, Decides)), None)


def inner_section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, alone or in a union; None for a plain value."""
    kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
