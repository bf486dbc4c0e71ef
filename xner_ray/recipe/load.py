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
from xner_ray.recipe.decides import Decides, Section, decision, inner_section
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Evidence
from xner_ray.storage import addresses, hub
from xner_ray.storage import files as storage

Base = Path | str
"""A folder of this machine, or the address of one."""
STANDARD_INPUT = "-"
Checked = TypeVar("Checked", bound=BaseModel)
Placed = TypeVar("Placed", bound=Section)

# Names that pydantic gives to members of a union.
_KINDS = frozenset({"int", "str", "float", "bool", "dict", "list", "tuple"})


class _TrapError(Exception):
    """A value that YAML reads as another than it looks like. line: of the file, from 1."""

    def __init__(self, text: str, value: int, line: int) -> None:
        super().__init__(f'YAML reads {text} as the number {value}: quote it, as in "{text}", or write {value}')
        self.line = line


class _Loader(yaml.SafeLoader):
    """Refuses whole numbers that are octal (010) or in base 60 (1:30), as nobody means them in a recipe."""


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if ":" in node.value or (node.value.lstrip("+-").startswith("0") and node.value.lstrip("+-0_")[:1].isdigit()):
        raise _TrapError(node.value, value, node.start_mark.line + 1)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def load_recipe(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Load and check a recipe from a YAML file, an address (s3://, gs://), `-` for standard input, or a mapping.

    `overrides` are `section.key=value` with a YAML value. Relative paths start at the recipe file's folder, which may
    be one of an object store; those of a mapping and of standard input at the working folder. RecipeError names the
    wrong key, its value and the file.
    """
    return placed(*load_checked(Recipe, source, overrides))


def load_checked(
    model: type[Checked], source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[Checked, Base]:
    """Load a recipe of any kind, and return it with the folder at which its relative paths start; see `load_recipe`."""
    hub.begin()  # each command asks anew what a revision of a data set is
    data, base = load_base(source, model)
    where = "recipe" if isinstance(source, Mapping) else os.fspath(source)
    return checked(model, overridden(data, overrides), where), base


def load_base(
    source: str | os.PathLike[str] | Mapping[str, Any], model: type[BaseModel] = Recipe
) -> tuple[dict[str, Any], Base]:
    """Return what a recipe says, unchecked, and the folder at which its relative paths start."""
    if isinstance(source, Mapping):
        return dict(source), Path.cwd()
    sections = ", ".join(list(model.model_fields)[:3])
    data = read_mapping(source, f"a recipe is a mapping of sections ({sections}, ...)")
    return data, _home(os.fspath(source))


def overridden(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `data` with `section.key=value` settings, values in YAML. RecipeError for one that cannot be read."""
    result = dict(data)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {override}: write it as section.key=value, for example align.method=argmax")
        node = result
        *sections, last = key.strip().split(".")
        for section in sections:
            child = node.get(section)
            node[section] = dict(child) if isinstance(child, Mapping) else {}
            node = node[section]
        try:
            node[last] = yaml.load(text, _Loader)
        except _TrapError as trap:
            raise RecipeError(f"--set {override}: {trap}") from None
        except yaml.YAMLError:
            raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from None
    return result


def _home(source: str) -> Base:
    """Return the folder at which the relative paths of a recipe start."""
    if source == STANDARD_INPUT:
        return Path.cwd()
    return addresses.parent(source) if "://" in source else Path(source).resolve().parent


def place(path: str, base: Base) -> str:
    """Return a path of a recipe whose folder is `base` as seen from here.

    >>> place("../data/{lang}.conll", "s3://b/recipes?region=eu")
    's3://b/data/{lang}.conll?region=eu'
    """
    if "://" in path or os.path.isabs(path):
        return path
    return addresses.beside(base, path) if isinstance(base, str) else os.path.normpath(base / path)


def model_place(name: str, base: Base) -> str:
    """Do the same for a model; a folder beside the recipe comes before a hub id of the same name."""
    here = isinstance(base, Path) and not os.path.isabs(name) and (base / name).is_dir()
    local = name.startswith(("./", "../")) or here
    return place(name, base) if local else name


def placed(section: Placed, base: Base) -> Placed:
    """Return a section with its paths and models, at any depth, as seen from here; `base` is the recipe's folder."""
    if isinstance(section, Evidence) and not section.is_file:  # a module that Python finds
        return section
    update: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, decides = getattr(section, name), decision(field)
        move = {Decides.FILES: place, Decides.MODEL: model_place}.get(decides) if decides else None
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
        data = yaml.load(_text(source), _Loader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except _TrapError as trap:
        raise RecipeError(f"{path}:{trap.line}: {trap}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable YAML file: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: {shape}")
    return data


def _text(source: str) -> str:
    if source == STANDARD_INPUT:
        return sys.stdin.read()
    if "://" not in source:
        return Path(source).read_text(encoding="utf-8")
    if (data := storage.read_if_there(source)) is None:
        raise FileNotFoundError(source)
    return data.decode()


def checked(model: type[Checked], data: Mapping[str, Any], where: str) -> Checked:
    """Return `data` as a `model`. RecipeError with a line for each wrong key; each line begins with `where`."""
    _refuse_secrets("", data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{where}: {line}" for line in _messages(error, model))) from None


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


def _messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line a key; pydantic reports each member of a union by itself, at a location of its own."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors():
        # Names of union members (int, literal[...], list[...]) are no part of the key.
        location = [
            part for part in detail["loc"] if isinstance(part, int) or (part.isidentifier() and part not in _KINDS)
        ]
        key, value = ".".join(map(str, location)), detail.get("input")
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(str(detail["loc"][-1]), _known_keys(model, location[:-1]))
            lines.setdefault(f"unknown key {key!r} (value {value!r}){hint}", [])
        elif detail["type"] == "missing":
            lines.setdefault(f"{key} is missing", [])
        elif detail["type"] == "value_error" and (isinstance(value, (dict, BaseModel)) or not key):
            lines.setdefault(f"{key + ': ' if key else ''}{detail['ctx']['error']}", [])
        else:
            message = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"].lower()
            if detail["type"] in ("string_type", "literal_error") and (
                value is None or isinstance(value, (bool, int, float, date))
            ):
                message += f"; {_unquoted(value)}"
            lines.setdefault(f"{key} is {value!r}: ", []).append(message)
    return [start + ", or ".join(dict.fromkeys(messages)) for start, messages in lines.items()]


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
