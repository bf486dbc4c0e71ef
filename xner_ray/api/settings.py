"""The recipe of a projector: from a file, a mapping or keywords, and bound to the sentences of one call."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xner_ray.api.given import NAME, Given
from xner_ray.data.languages import resolve
from xner_ray.engine.pools import beyond_one_process
from xner_ray.errors import RecipeError
from xner_ray.recipe.load import checked, load_base, placed
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import Base

_ANYWHERE = ("spa_Latn", "deu_Latn")  # a target, where the languages come with each call
# Keys that mean nothing in memory, or would lose sentences there, and what to do instead.
_REFUSED = {
    "engine.executor": (("ray",), "a projector works in this process; for Ray, use xner_ray.project"),
    "input.limit": ((), "a projector takes all sentences that it is given; give fewer"),
    "input.sample": ((), "a projector takes all sentences that it is given; draw them yourself"),
    "output.incomplete": (
        ("split",),
        "there are no files to split; each row says it in `complete`; allowed: keep, reject",
    ),
    "input.columns.image": ((), "pictures are looked for beside input files; use xner_ray.project"),
    "engine.address": ((), "a projector works in this process; for a cluster, use xner_ray.project"),
}
_RUNS = {
    "fresh": "a projector keeps nothing from one call to the next, so there is nothing to discard",
    "retry_rejects": "call project again with the rows of `rejects`",
    "allow_rejects": "rejected sentences never stop a projector; they are in `rejects`",
    "overrides": "give settings as keywords, as in align={'method': 'argmax'}",
    "run": "a projector has no run folder; xner_ray.project fills one",
}


class Settings:
    """What a projector was made with. RecipeError for what is wrong in it, whatever the sentences will be."""

    def __init__(self, recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None, settings: dict[str, Any]):
        self.where = "recipe"
        self.base: Base = Path.cwd()
        data: Mapping[str, Any] = {}
        if isinstance(recipe, Recipe):
            data = recipe.model_dump(mode="json", exclude_unset=True)
        elif recipe is not None:
            data, self.base = load_base(recipe)
            self.where = "recipe" if isinstance(recipe, Mapping) else os.fspath(recipe)
        self.data = _merged(data, settings, self.where)
        self.text_key = str((self._input.get("columns") or {}).get("text") or "text")
        self._refuse(self._trial())

    @property
    def described(self) -> str:
        """The recipe and its languages, for people."""
        targets = ", ".join(self.data.get("targets") or ()) or "languages of each call"
        return f"{'defaults' if self.where == 'recipe' else self.where}, {targets}"

    @property
    def _input(self) -> dict[str, Any]:
        given = self.data.get("input")
        return given if isinstance(given, dict) else {}

    def codes(self, by_lang: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Return values by language with whole codes. RecipeError for what is none."""
        if not isinstance(by_lang, Mapping):
            raise RecipeError(
                f"{what}: is a {type(by_lang).__name__}; give a mapping of languages, as in {{'spa_Latn': [...]}}"
            )
        found = {}
        for code, value in by_lang.items():
            try:
                found[resolve(code)] = value
            except RecipeError as error:
                raise RecipeError(f"{what}: {error}") from None
        return found

    def of(self, given: Given, targets: Sequence[str] | None) -> Recipe:
        """Return the recipe over the files of one call. RecipeError where they do not fit each other."""
        data = copy.deepcopy(self.data)
        train = data.get("direction", "train") == "train"
        if targets is not None:
            data["targets"] = list(targets)
        elif train and not data.get("targets"):
            data["targets"] = list(given.input["parallel"])
        data["input"] = {**self._input, **given.input}
        return self._checked(_tagged(data, given.texts))

    def _trial(self) -> Recipe:
        """Return the recipe over files that any call may give, to find what is wrong before the first call."""
        data = _tagged(copy.deepcopy(self.data), texts=False)
        if data.get("direction", "train") == "train":
            data["targets"] = data.get("targets") or [self._another_language()]
            parallel: list[str] = [] if data.get("projector") == "marker" else data["targets"]
        else:
            parallel = [] if data.get("projector") == "transfer" else [data.get("source_lang", "eng_Latn")]
        links = "links-{lang}" if (data.get("align") or {}).get("backend") == "provided" else None
        named = {"path": NAME, "links": links, "parallel": dict.fromkeys(parallel, NAME)}
        data["input"] = {**self._input, **named}
        return self._checked(data)

    def _another_language(self) -> str:
        try:
            own = resolve(str(self._input.get("lang", "eng_Latn")))
        except RecipeError:
            own = ""  # which the check of the recipe says
        return next(code for code in _ANYWHERE if code != own)

    def _checked(self, data: Mapping[str, Any]) -> Recipe:
        return placed(checked(Recipe, data, self.where), self.base)

    def _refuse(self, recipe: Recipe) -> None:
        """Raise RecipeError for keys that cannot be obeyed in memory."""
        for key, (values, why) in _REFUSED.items():
            value: Any = recipe
            default: Any = Recipe.model_construct(input=type(recipe.input).model_construct())
            for part in key.split("."):
                value, default = getattr(value, part), getattr(default, part)
            if value in values if values else value != default:
                raise RecipeError(f"{self.where}: {key} is {value!r}: {why}")
        if isinstance(recipe.input.lang, list):
            raise RecipeError(f"{self.where}: input.lang is a list: a projector takes one language; make one for each")
        if beyond := beyond_one_process(recipe):
            raise RecipeError(
                f"{self.where}: {beyond} is set: a projector is one worker; for Ray, use xner_ray.project"
            )


def _tagged(data: dict[str, Any], texts: bool) -> dict[str, Any]:
    """Return a recipe with the built-in tagger where one is needed and none is named.

    Plain texts have no labels; of direction test the labels of the source side are a tagger's.
    """
    section = data.get("tag") or {}
    test = data.get("direction") == "test" and data.get("projector") not in ("transfer", "combine")
    return {**data, "tag": {**section, "engine": "builtin"}} if (texts or test) and "engine" not in section else data


def _merged(data: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a recipe with the keys of keywords in place of its own, section by section, at any depth."""
    merged = copy.deepcopy(dict(data))
    for name, value in settings.items():
        if name in _RUNS:
            raise RecipeError(f"{name}: is for runs: {_RUNS[name]}")
        merged = _put(merged, ["input", "lang"] if name == "lang" else name.split("."), value)
    if not isinstance(merged.get("input", {}), Mapping):
        raise RecipeError(f"{where}: input is {merged['input']!r}; give a mapping, as in input={{'lang': 'eng_Latn'}}")
    return merged


def _put(data: Mapping[str, Any], key: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a mapping with the value of a key at some depth; a mapping joins the one that is there."""
    first, *rest = key
    old = data.get(first)
    inner = old if isinstance(old, Mapping) else {}
    if rest:
        return {**data, first: _put(inner, rest, value)}
    if isinstance(value, Mapping):
        for name, each in value.items():
            inner = _put(inner, [str(name)], each)
        return {**data, first: dict(inner)}
    return {**data, first: list(value) if isinstance(value, tuple) else value}
