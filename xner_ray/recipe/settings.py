"""Settings over a recipe, `section.key=value` as `--set` has them: read, with paths as seen from here, and put in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from xner_ray.errors import RecipeError
from xner_ray.recipe.decides import Decides, decisions
from xner_ray.storage import addresses

Base = Path | str
"""A folder of this machine, or the address of one."""


class TrapError(Exception):
    """A value that YAML reads as another than it looks like. line: of the file, from 1."""

    def __init__(self, text: str, value: int, line: int) -> None:
        super().__init__(f'YAML reads {text} as the number {value}: quote it, as in "{text}", or write {value}')
        self.line = line


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses whole numbers that are octal (010) or in base 60 (1:30), as nobody means them in a recipe."""


def _whole(loader: Loader, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if ":" in node.value or (node.value.lstrip("+-").startswith("0") and node.value.lstrip("+-0_")[:1].isdigit()):
        raise TrapError(node.value, value, node.start_mark.line + 1)
    return value


Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def overridden(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `data` with `section.key=value` settings, values in YAML. RecipeError for one that cannot be read."""
    result = dict(data)
    for override in overrides:
        key, value = _read(override)
        node = result
        *sections, last = key.split(".")
        for section in sections:
            child = node.get(section)
            node[section] = dict(child) if isinstance(child, Mapping) else {}
            node = node[section]
        node[last] = value
    return result


def anchored(model: type[BaseModel], overrides: Sequence[str], base: Base) -> list[str]:
    """Return settings with the relative paths among their values as seen from `base`: a user's from the working folder.

    Names of models are paths if they begin with `./` or `../`, or if there is such a folder.
    """
    moves = {key: move for key, kind in decisions(model).items() if (move := MOVES.get(kind))}
    found = []
    for override in overrides:
        key, value = _read(override)
        moved = _moved(key, value, moves, base)
        found.append(override if moved == value else f"{key}={json.dumps(moved, ensure_ascii=False)}")
    return found


def setting_of(key: str, overrides: Sequence[str]) -> tuple[str | None, bool]:
    """Return the last setting at a key, below it or above it, and whether it decides the whole value there.

    >>> setting_of("align.layer", ["align.method=argmax", "align.layer=x"])
    ('align.layer=x', True)
    >>> setting_of("align", ["align.layer=x"])
    ('align.layer=x', False)
    """
    for override in reversed(overrides):
        own = override.partition("=")[0].strip()
        if own == key or key.startswith(f"{own}."):
            return override, True
        if own.startswith(f"{key}.") or not key:
            return override, False
    return None, False


def _read(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write it as section.key=value, for example align.method=argmax")
    try:
        return key.strip(), yaml.load(text, Loader)
    except TrapError as trap:
        raise RecipeError(f"--set {override}: {trap}") from None
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from None


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


Move = Callable[[str, Base], str]
MOVES: dict[Decides, Move] = {Decides.FILES: place, Decides.MODEL: model_place}
"""What makes the value of a key a path as seen from here."""


def _moved(key: str, value: Any, moves: Mapping[str, Move], base: Base) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(f"{key}.{name}", child, moves, base) for name, child in value.items()}
    if isinstance(value, list):
        return [_moved(key, child, moves, base) for child in value]
    move = next((moves[one] for one in _above(key) if one in moves), None)
    module = key.endswith(".plugin") and not str(value).endswith(".py")  # that Python finds
    return move(value, base) if move and isinstance(value, str) and not module else value


def _above(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key.rpartition(".")[0]
