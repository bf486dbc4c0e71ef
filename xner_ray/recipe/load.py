"""Load a recipe from YAML: `--set`, paths, and one clear message for each wrong key."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from xner_ray.errors import InputError, RecipeError, did_you_mean
from xner_ray.recipe.decides import Section, decision, inner_section
from xner_ray.recipe.kinds import refuse_other
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Evidence
from xner_ray.recipe.settings import MOVES, Base, Loader, TrapError, anchored, overridden, setting_of
from xner_ray.storage import addresses, hub
from xner_ray.storage import files as storage

STANDARD_INPUT = "-"
Checked = TypeVar("Checked", bound=BaseModel)
Placed = TypeVar("Placed", bound=Section)

# Names that pydantic gives to members of a union.
_KINDS = frozenset({"int", "str", "float", "bool", "dict", "list", "tuple"})


def load_recipe(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Load and check a recipe from a YAML file, an address (s3://, gs://), `-` for standard input, or a mapping.

    `overrides` are `section.key=value` with a YAML value. Relative paths start at the recipe file's folder, which may
    be one of an object store; those of overrides, of a mapping and of standard input at the working folder.
    RecipeError names the wrong key, its value, and the file or the setting.
    """
    return placed(*load_checked(Recipe, source, overrides))


def load_checked(
    model: type[Checked], source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[Checked, Base]:
    """Load a recipe of any kind, and return it with the folder at which its relative paths start; see `load_recipe`."""
    hub.begin()  # each command asks anew what a revision of a data set is
    data, base = load_base(source, model)
    where = "recipe" if isinstance(source, Mapping) else os.fspath(source)
    settings = anchored(model, overrides, Path.cwd())
    return checked(model, overridden(data, settings), where, overrides), base


def load_base(
    source: str | os.PathLike[str] | Mapping[str, Any], model: type[BaseModel] = Recipe
) -> tuple[dict[str, Any], Base]:
    """Return what a recipe says, unchecked, and the folder at which its relative paths start."""
    if isinstance(source, Mapping):
        return dict(source), Path.cwd()
    sections = ", ".join(list(model.model_fields)[:3])
    data = read_mapping(source, f"a recipe is a mapping of sections ({sections}, ...)")
    return data, home(os.fspath(source))


def home(source: str) -> Base:
    """Return the folder at which the relative paths of a recipe start."""
    if source == STANDARD_INPUT:
        return Path.cwd()
    return addresses.parent(source) if "://" in source else Path(source).resolve().parent


def placed(section: Placed, base: Base) -> Placed:
    """Return a section with its paths and models, at any depth, as seen from here; `base` is the recipe's folder."""
    if isinstance(section, Evidence) and not section.is_file:  # a module that Python finds
        return section
    update: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, decides = getattr(section, name), decision(field)
        move = MOVES.get(decides) if decides else None
        if isinstance(value, Section):
            update[name] = placed(value, base)
        elif isinstance(value, list):
            update[name] = [
                placed(item, base) if isinstance(item, Section) else move(item, base) if move else item
                for item in value
            ]
        elif move and value is not None:
            update[name] = (
                {k: move(v, base) for k, v in value.items()} if isinstance(value, dict) else move(value, base)
            )
    # What does not move stays unset where the user left it out: checks tell a stated key from a default.
    moved = {name: value for name, value in update.items() if value != getattr(section, name)}
    return section.model_copy(update=moved)


def read_mapping(path: str | os.PathLike[str], shape: str) -> dict[str, Any]:
    """Read a mapping of YAML from a file, an address or standard input.

    RecipeError with `shape` if it holds something else; StorageError of a store.
    """
    source = os.fspath(path)
    try:
        data = yaml.load(_text(source), Loader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except TrapError as trap:
        raise RecipeError(f"{path}:{trap.line}: {trap}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(data, dict | None):
        raise RecipeError(f"{path}: {shape}")
    return data or {}


def _text(source: str) -> str:
    if source == STANDARD_INPUT:
        return sys.stdin.read()
    if "://" not in source:
        return Path(source).read_text(encoding="utf-8")
    if (data := storage.read_if_there(source)) is None:
        raise FileNotFoundError(source)
    return data.decode()


def checked(model: type[Checked], data: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> Checked:
    """Return `data` as a `model`. overrides: that are in `data` already.

    RecipeError with a line for each wrong key; each begins with `where`, or with the override that the key is from.
    """
    _refuse_secrets("", data)
    refuse_other(model.__name__, data, where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = _messages(error, model)
        raise RecipeError("\n".join(f"{_from(where, key, overrides)}: {line}" for key, line in found)) from None


def _from(where: str, key: str, overrides: Sequence[str]) -> str:
    """Return what a wrong key comes from: a file, a setting, or one with the other."""
    setting, whole = setting_of(key, overrides)
    if setting is None:
        return where
    return f"--set {setting}" if whole else f"{where} with --set {setting}"


def _refuse_secrets(key: str, value: Any) -> None:
    """Raise RecipeError for an address that holds a secret, before anything shows it; unused sections count too."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            _refuse_secrets(f"{key}.{name}" if key else str(name), child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            _refuse_secrets(key, child)
    elif isinstance(value, str):
        try:
            storage.refuse_secrets(value)
        except InputError as error:
            raise RecipeError(f"{key}: {error}") from None


def _messages(error: ValidationError, model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return each wrong key with a line; pydantic reports each member of a union by itself, at its own location."""
    lines: dict[tuple[str, str], list[str]] = {}
    for detail in error.errors():
        # Names of union members (int, literal[...], list[...]) are no part of the key.
        location = [
            part for part in detail["loc"] if isinstance(part, int) or (part.isidentifier() and part not in _KINDS)
        ]
        key, value = ".".join(map(str, location)), detail.get("input")
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(str(detail["loc"][-1]), _known_keys(model, location[:-1]))
            lines.setdefault((key, f"unknown key {key!r} (value {value!r}){hint}"), [])
        elif detail["type"] == "missing":
            lines.setdefault((key, f"{key} is missing"), [])
        elif detail["type"] == "value_error" and (isinstance(value, (dict, BaseModel)) or not key):
            lines.setdefault((key, f"{key + ': ' if key else ''}{detail['ctx']['error']}"), [])
        else:
            message = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"].lower()
            if detail["type"] in ("string_type", "literal_error") and (
                value is None or isinstance(value, (bool, int, float, date))
            ):
                message += f"; {_unquoted(value)}"
            if detail["type"] == "list_type" and isinstance(value, str):
                message += f", as in [{', '.join(part.strip() for part in value.split(','))}]"
            lines.setdefault((key, f"{key} is {value!r}: "), []).append(message)
    return [(key, start + ", or ".join(dict.fromkeys(messages))) for (key, start), messages in lines.items()]


def _unquoted(value: Any) -> str:
    """Return the cure for a text that YAML takes for another value where it is not quoted.

    >>> _unquoted(False)
    "YAML reads no, off and false so; quote the text, as in 'no'"
    """
    if value is not None and not isinstance(value, bool):
        return f"YAML reads bare numbers and dates so; quote the text, as in '{value}'"
    *others, last = {True: ["yes", "on", "true"], False: ["no", "off", "false"], None: ["null", "~"]}[value]
    return f"YAML reads {', '.join(others)} and {last} so; quote the text, as in '{others[0]}'"


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys that the section at `location` knows; below a plain value, those of the section around it."""
    for part in location:
        inner = inner_section(model.model_fields[str(part)]) if str(part) in model.model_fields else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)
