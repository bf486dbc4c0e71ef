"""The keys of a recipe as commented YAML: defaults, allowed values, and the comments that stand beside their fields."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Collection, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from xner_ray.recipe.decides import inner_section

_COLUMN = 34  # of the comments


@cache
def comments(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field that has one, or its comment in the source of a model or of its bases.

    >>> from xner_ray.recipe.sections import Align
    >>> comments(Align)["threshold"]
    'for method softmax'
    """
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one.__module__.startswith("xner_ray."):
            found |= _of_source(textwrap.dedent(inspect.getsource(one)))
    found |= {name: field.description for name, field in model.model_fields.items() if field.description}
    return {name: text for name, text in found.items() if name in model.model_fields}


def _of_source(source: str) -> dict[str, str]:
    beside: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            into = alone if token.line.lstrip().startswith("#") else beside
            said = token.string.removeprefix("#").strip()
            if not said.startswith("type:"):  # what a type checker is told
                into[token.start[0]] = said
    found = {}
    body = ast.parse(source).body[0]
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = node.lineno
            while above - 1 in alone:
                above -= 1
            lines = [alone[number] for number in range(above, node.lineno)]
            lines += [beside[n] for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in beside]
            if text := " ".join(lines):
                found[node.target.id] = text
    return found


def commented(key: str, model: type[BaseModel], *, without: Collection[str] = ()) -> str:
    """Return a section with its defaults as YAML, every line a comment, each key with what there is to say of it.

    without: keys to leave out.
    """
    return "".join(f"# {line}\n" for line in _lines(key, model, without, 0))


def _lines(key: str, model: type[BaseModel], without: Collection[str], depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{key}:"
    said = comments(model)
    for name, field in model.model_fields.items():
        if name in without or field.is_required():
            continue
        if (inner := inner_section(field)) is not None:
            yield from _lines(name, inner, (), depth + 1)
            continue
        value = field.get_default(call_default_factory=True)
        text = yaml.safe_dump({name: value}, default_flow_style=True, allow_unicode=True, width=10_000).strip()[1:-1]
        line = f"{'  ' * (depth + 1)}{text}"
        notes = [" | ".join(_choices(field.annotation)), said.get(name, "")]
        note = re.sub(r"\bNone\b", "null", "; ".join(filter(None, notes)))
        yield f"{line:<{_COLUMN}}  # {note}" if note else line


def _choices(annotation: Any) -> list[str]:
    """Return the allowed values of a field, if they are words."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for one in get_args(annotation) for choice in _choices(one)]
    return _choices(get_args(annotation)[0]) if get_origin(annotation) is Annotated else []
