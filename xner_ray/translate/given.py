"""Translations that the user gives, checked as those that a translator makes (`health.py`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyarrow as pa

from xner_ray.data.row import accepted_rows, fill, with_flags
from xner_ray.errors import Reason
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Health
from xner_ray.translate.health import HealthChecker


def examined(table: pa.Table, recipe: Recipe) -> pa.Table:
    """Return the rows as read, with flags and rejects for given translations, by `translate.health`.

    MissingExtraError as of `HealthChecker`.
    """
    if not recipe.given_is_checked:
        return table
    checker = _checker(recipe.translate.health.model_dump_json())
    sides = list(zip(*(table.column(name).to_pylist() for name in sides_of(recipe)), strict=True))
    before = table.column("flags").to_pylist()
    flags: dict[int, Any] = {}
    rejects: dict[int, tuple[Reason, str]] = {}
    for index in accepted_rows(table):
        if None in sides[index]:
            continue  # to be translated
        found, reject = checker.examine(*sides[index])
        if found:
            flags[index] = with_flags(before[index], found)
        if reject is not None:
            rejects[index] = reject
    return fill(table, {"flags": flags} if flags else {}, rejects)


def sides_of(recipe: Recipe) -> tuple[str, str, str, str]:
    """Return the columns of a text, of its translation, and of the languages of both.

    In direction test the translation is the source side.
    """
    if recipe.direction == "test":
        return "text", "source_text", "lang", "source_lang"
    return "source_text", "text", "source_lang", "lang"


@cache
def _checker(settings: str) -> HealthChecker:
    """Return the checker for a section as JSON; made once a process, since it may load a model."""
    return HealthChecker(Health.model_validate_json(settings))
