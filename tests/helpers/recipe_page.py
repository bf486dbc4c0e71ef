"""Write docs/recipe-input.md from the models of the section `input`: each key, what it allows, and what it decides.

python tests/helpers/recipe_page.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xner_ray.recipe.decides import Decides, decision, inner_section
from xner_ray.recipe.input import Input

PAGE = Path(__file__).parents[2] / "docs" / "recipe-input.md"
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_BY_CHECK = {"_language": "a language code", "_number": "a name, or a number from 1"}
_DECIDES = {Decides.ROWS: "rows", Decides.FILES: "rows, by the content of the files", Decides.RUN: "no row"}
_HEAD = """\
# The section `input` of a recipe

What is not stated is found out from the files, and said by `xner-ray plan`: [formats.md](formats.md). A key that the
files contradict is refused. `null` is the same as leaving a key out. A key that decides rows belongs to the fingerprint
of a run: with another value it is another run.

| key | allowed | default | decides | meaning |
|---|---|---|---|---|
"""
_FOOT = """
The names under `columns` are keys of objects, names of columns, or, of files with a word a line, numbers from 1.
Where the files have not the name of the default, the scan finds out which one is meant.

Made from `xner_ray/recipe/input.py` and `columns.py` by `python tests/helpers/recipe_page.py --write`; a test compares.
"""


def page() -> str:
    """Return the page."""
    return _HEAD + "".join(_rows(Input, "input.")) + _FOOT


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        key, inner = f"{prefix}{name}", inner_section(field)
        if decides := decision(field):
            assert field.description, f"{key} says nothing"
            allowed = "keys below" if inner else _allowed(field)
            cells = (f"`{key}`", allowed, _default(field), _DECIDES[decides], field.description)
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
        if inner:
            rows += _rows(inner, f"{key}.")
    return rows


def _allowed(field: FieldInfo) -> str:
    least = next((f" from {one.ge}" for one in field.metadata if isinstance(one, Ge)), "")
    checked = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return _type(checked) + least


def _type(kind: Any) -> str:
    """Return what a type allows, without null."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        checks = [one.func.__name__ for one in inner[1:] if hasattr(one, "func")]
        return next((_BY_CHECK[name] for name in checks if name in _BY_CHECK), None) or _type(inner[0])
    if origin in (Union, UnionType):
        return ", or ".join(_type(one) for one in inner if one is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin is list:
        return f"a list, each {_type(inner[0])}"
    if origin is dict:
        return f"{{{_type(inner[0])}: {_type(inner[1])}}}"
    return _NAMES[kind]


def _default(field: FieldInfo) -> str:
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "must be given"
    return f"`{yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    PAGE.write_text(page(), "utf-8")
