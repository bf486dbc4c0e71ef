"""Write docs/recipe.md from the models of all YAML files: each key, what it allows, its default, and what it decides.

python tests/helpers/recipe_page.py --write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xner_ray.commands.start.schema import MODELS
from xner_ray.recipe.comments import comments
from xner_ray.recipe.decides import Decides, decision, inner_section
from xner_ray.recipe.input import Input
from xner_ray.recipe.model import Combined, Recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Any: "anything"}
_BY_CHECK = {"_language": "a language code", "_number": "a name, or a number from 1"}
_DECIDES = {
    Decides.RUN: "no row",
    Decides.FILES: "rows, by the content of the files",
    Decides.MODEL: "rows, by the content of the model",
}
_REMATCH = "rows; `rematch` may change it"
_HEAD = """\
# Recipe reference

Every key of every YAML file that a command takes. Only `input` and, in direction train, `targets` are needed; all else
has a default. `null` is the same as leaving a key out. Unknown keys are errors, with the nearest names.

Paths, of models too, are relative to the recipe's folder; in `--set key=value` they are relative to the shell's. A
recipe may stand at `s3://` or `gs://`, or come on standard input (`-`). `xner-ray schema > recipe.schema.json` writes a
JSON schema: with `# yaml-language-server: $schema=recipe.schema.json` on a recipe's first line, editors complete and
check keys.

What a key decides: *rows* belong to the fingerprint of a run, and another value makes it another run; *no row* may
change between two commands on the same run, such as where it works and how fast.
"""
_TITLES = {
    "recipe": ("A run: `xner-ray project`", ""),
    "train": ("A student: `xner-ray train`", "`data` is a list; each item has either `run` or `input`."),
    "adapt": ("An encoder: `xner-ray adapt`", "`data` is a list; each item has either `run` or `input`."),
    "sweep": ("A sweep: `xner-ray sweep`", ""),
    "cross-validate": ("An experiment: `xner-ray cross-validate`", "`evaluate` is a list, as `data` of a student."),
    "loop": (
        "A loop: `xner-ray loop`",
        "[The loop](loop.md); a recipe of a run is one with these defaults. `evaluate` is a list, as a student's. Here "
        "`filters.incomplete` is `words` and `filters.mask_below` is 0.5 unless a file says otherwise. What a file "
        "gives of `rematch` and `filters` is added to their defaults.",
    ),
}
_SECTIONS = {
    "input": "What is not stated is found out from the files, and said by `xner-ray plan`: [formats](formats.md). A "
    "key that the files contradict is refused. The names under `columns` are keys of objects, names of columns, or, of "
    "files with a word a line, numbers from 1; where the files have not the name of the default, the scan finds out "
    "which one is meant.",
    "translate": "[Translation](translation.md).",
    "tag": "Labels for raw text. [Taggers](tagging.md).",
    "image": "[Pictures](images.md).",
    "back_translate": "Entities over a back-translation, aligned in place of the source side.",
    "target_tag": "Tags of target words: candidates, scores, and opinions of what is projected. [Taggers](tagging.md).",
    "align": "[Quality](quality.md) compares encoders and methods.",
    "evidence": "[Scores of your own](evidence.md).",
    "constrained": "For `projector: constrained`. [Translation](translation.md).",
    "match": "Which target words an entity gets.",
}
_KNOWN = (
    "The keys of `input` are those of a run's recipe: path, format, lang, columns, labels and how files are written."
)
_FOOT = """
Made from the models by `python tests/helpers/recipe_page.py --write`; a test compares.
"""


def page() -> str:
    """Return the page."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield _HEAD
    for kind, model in MODELS.items():
        title, note = _TITLES[kind]
        yield f"\n## {title}\n"
        yield f"\n{note}\n" if note else ""
        plain, sections = [], []
        for name, field in model.model_fields.items():
            inner = inner_section(field)
            if inner is Combined:  # written by the command `combine`
                continue
            listed = get_origin(field.annotation) is list
            (plain if inner is None or listed or kind in ("sweep", "cross-validate") else sections).append(name)
        yield _table(_rows(model, "", plain, kind), kind)
        for name in sections:
            inner = inner_section(model.model_fields[name])
            assert inner is not None
            yield f"\n### `{name}`\n"
            yield f"\n{_SECTIONS[name]}\n" if kind == "recipe" and name in _SECTIONS else ""
            yield _table(_rows(inner, f"{name}.", list(inner.model_fields), kind), kind)
    yield _FOOT


def _table(rows: list[str], kind: str) -> str:
    columns = ["key", "allowed", "default", *(["decides"] if kind == "recipe" else []), "meaning"]
    head = f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(rows) if rows else ""


def _rows(model: type[BaseModel], prefix: str, names: list[str], kind: str) -> list[str]:
    rows, said = [], comments(model)
    for name in names:
        field, key = model.model_fields[name], f"{prefix}{name}"
        inner = inner_section(field)
        listed = kind == "cross-validate" and get_origin(field.annotation) is list
        below = inner if not listed and (inner is not Input or kind == "recipe") else None
        own = name in said or inner is None
        if own:
            assert name in said, f"{model.__name__}.{name} says nothing"
            above = "as `data` of a student" if listed else "see `input` above"
            allowed = "keys below" if below else above if inner else _allowed(field)
            cells = [f"`{key}`", allowed, _default(field), *_what(field, kind), _plain(said[name])]
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
        if below:
            mark = "[]" if get_origin(field.annotation) is list else ""
            rows += _rows(below, f"{key}{mark}.", list(below.model_fields), kind)
        elif inner and not own:
            rows.append(f"| `{key}` | see `input` above | | {_KNOWN} |\n")
    return rows


def _what(field: FieldInfo, kind: str) -> list[str]:
    """Return the cell of what a key of a run's recipe decides; other files have no such column."""
    if kind != "recipe":
        return []
    decides = decision(field)
    if decides is None:
        return [""]
    return [_of(decides)]


def _of(decides: Decides) -> str:
    return _DECIDES.get(decides, "rows" if decides is Decides.ROWS else _REMATCH)


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text)


def _allowed(field: FieldInfo) -> str:
    bounds = {Ge: "from {}", Gt: "above {}", Le: "to {}", Lt: "below {}"}
    words = [bounds[type(one)].format(next(iter(vars_of(one)))) for one in field.metadata if type(one) in bounds]
    checked = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return " ".join([_type(checked), *words])


def vars_of(bound: Any) -> list[Any]:
    """Return the number of a bound, whatever its attribute is called."""
    return [getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)]


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
    if origin is tuple:
        return "[least, most]"
    if origin is list:
        return f"a list, each {_type(inner[0])}"
    if origin is dict:
        return f"{{{_type(inner[0])}: {_type(inner[1])}}}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a recipe file, or {recipe, settings}" if kind.__name__ == "DataSet" else "keys as above"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f"a name of a {kind.__name__.lower()}"
    return _NAMES[kind]


def _default(field: FieldInfo) -> str:
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, BaseModel):
        return ""
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    assert MODELS["recipe"] is Recipe
    PAGE.write_text(page(), "utf-8")
