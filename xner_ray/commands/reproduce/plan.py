"""What `reproduce` is about to do: the sets that are there, their recipes, and the runs of each method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xner_ray.commands.reproduce import methods as methods_of
from xner_ray.commands.reproduce import published
from xner_ray.commands.reproduce.layouts import Found, find
from xner_ray.commands.reproduce.methods import Models, Settings
from xner_ray.data.languages import resolve
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.data_set import overrides_of
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sweep import Planned, shared
from xner_ray.storage import files as storage

SETS = ("europarl", "masakhaner", "wikiann")
SOURCE = "eng_Latn"


@dataclass(frozen=True)
class Asked:
    """What the user asks for.

    folders: by set. langs: codes, published or ours; none: all of the paper that are there. english: a pattern with
    {lang}, of given English sentences. limit: of sentences a language.
    """

    runs: str
    folders: Mapping[str, str]
    langs: Sequence[str] = ()
    methods: Sequence[str] = ()
    models: Models = "paper"
    english: str | None = None
    limit: int | None = None
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class SetPlan:
    """A set: what was found, which languages are used, and its runs, each after its source.

    english: by code, the file of given English sentences. hands_on: the method whose English and entities the runs in
    `readers` take, so that nothing is translated or tagged twice.
    """

    name: str
    found: Found
    codes: list[str]
    english: Mapping[str, str]
    recipe: Settings
    runs: list[Planned]
    hands_on: str | None
    readers: frozenset[str]

    @property
    def langs(self) -> dict[str, str]:
        """The published code of each language, by ours."""
        return {self.found.files[code].lang: code for code in self.codes}

    @property
    def methods(self) -> list[str]:
        return [method for method in methods_of.methods(self.name) if method in {run.method for run in self.runs}]

    @property
    def unused(self) -> list[str]:
        """Languages of the folder that are not used: not of the paper, and not asked for."""
        return [code for code in self.found.files if code not in self.codes and code != "en"]


def planned(asked: Asked) -> list[SetPlan]:
    """Return the plan of each set that a folder was named for. RecipeError or InputError in one line."""
    given = [name for name in SETS if asked.folders.get(name)]
    if not given:
        raise RecipeError(
            "reproduce paper: name at least one folder of data, as in --europarl FOLDER; --masakhaner, --wikiann and "
            "--europarl take them as they are published"
        )
    methods_of.check_overrides(asked.overrides)
    methods_of.check_methods(asked.methods, given)
    if asked.english is not None and len([name for name in given if name != "europarl"]) != 1:
        raise RecipeError("--english: belongs to one set that is translated; name one of --masakhaner and --wikiann")
    if asked.english is not None and "{lang}" not in asked.english:
        raise RecipeError(f"--english {asked.english}: needs {{lang}} in it, as in english/{{lang}}.txt")
    wanted = [resolve(code, key="--langs") for code in asked.langs]
    found = {name: find(name, asked.folders[name], published.languages(name)) for name in given}
    there = {file.lang for one in found.values() for file in one.files.values()}
    if absent := [code for code, lang in zip(asked.langs, wanted, strict=True) if lang not in there]:
        folders = ", ".join(asked.folders[name] for name in given)
        shown = ", ".join(dict.fromkeys(code for one in found.values() for code in one.files))
        raise InputError(f"--langs {absent[0]}: no test file of it in {folders}; there: {shown}")
    plans = [one for name in given if (one := _set(name, found[name], wanted, asked)) is not None]
    if not plans:
        raise RecipeError("reproduce paper: no set has these languages by these methods; see --langs and --methods")
    return plans


def left_out(asked: Asked, plans: Sequence[SetPlan]) -> list[str]:
    """Return a line for each set that a folder was named for, and that has nothing to be run."""
    idle = [name for name in SETS if asked.folders.get(name) and name not in [one.name for one in plans]]
    return [f"{methods_of.TITLES[name]}: left out, as it has none of these languages or methods" for name in idle]


def _set(name: str, found: Found, wanted: Sequence[str], asked: Asked) -> SetPlan | None:
    """Return the plan of one set; None if none of the wanted languages or methods is its."""
    paper = published.languages(name)
    codes = [code for code, file in found.files.items() if (file.lang in wanted if wanted else code in paper)]
    if name == "europarl":
        codes = [code for code in codes if code != "en"]
        if "en" not in found.files:
            raise InputError(f"{found.folder}: has no en-europarl.test.conll02, whose entities are projected")
    chosen = methods_of.methods(name, asked.methods, asked.models)
    if not codes and not wanted:
        raise InputError(f"{found.folder}: holds none of the paper's languages; --langs names others")
    if not codes or not chosen:
        return None
    english = {} if asked.english is None or name == "europarl" else _english(asked.english, found, codes)
    _check_models(asked, name, chosen, bool(english))
    root = storage.join(asked.runs) if "://" in asked.runs else os.path.abspath(asked.runs)
    data = storage.join(root, "data", name)
    langs = [found.files[code].lang for code in codes]
    recipe = methods_of.recipe(name, asked.models, data, langs, found.format, ending(english))
    if asked.limit is not None:
        recipe["input"]["limit"] = asked.limit

    def run(method: str, forced: Settings | None = None) -> Planned:
        own = overrides_of(methods_of.settings(method, name, asked.models))
        last = overrides_of({**methods_of.forced(method, name), **(forced or {})})
        overrides = [*own, *asked.overrides, *last]
        file = storage.join(root, f"{name}.yaml")
        return Planned(name, method, file, overrides, load_recipe(recipe, overrides), None)

    runs = shared([run(method) for method in chosen])
    first = next((one for one in runs if one.recipe.projector == "match" and one.source is None), None)
    if first is None or not first.recipe.without_text:
        return SetPlan(name, found, codes, english, recipe, runs, None, frozenset())
    # The others read what the first one has translated and tagged.
    mine = {first.method} | {one.method for one in runs if one.source == first.method}
    readers = frozenset(one.method for one in runs if one.recipe.projector == "match" and one.method not in mine)
    taken = {
        "input.path": storage.join(data, "translated", "{lang}.jsonl"),
        "input.format": "jsonl",
        "input.scheme": "iob2",
        "input.limit": None,
        "input.parallel": {SOURCE: storage.join(data, "translated", "{lang}." + SOURCE + ".jsonl")},
        "input.parallel_format": "jsonl",
        "tag": {"engine": "provided"},
        "translate": {},
        "output.max_reject_rate": 1.0,  # the first run has been judged
    }
    order = [one.method for one in runs]
    again = shared([run(method, taken) for method in order if method in readers])
    kept = [one for one in runs if one.method not in readers]
    return SetPlan(name, found, codes, english, recipe, [*kept, *again], first.method, readers)


def _english(pattern: str, found: Found, codes: Sequence[str]) -> dict[str, str]:
    """Return the file of English sentences of each language, by its published code or by ours."""
    files = {}
    for code in codes:
        tried = [pattern.replace("{lang}", name) for name in (code, found.files[code].lang)]
        path = next((path for path in tried if storage.exists(path)), None)
        if path is None:
            raise InputError(f"--english: no file {' or '.join(dict.fromkeys(tried))}; leave {code} out with --langs")
        files[code] = path
    return files


def ending(english: Mapping[str, str]) -> str:
    """Return the ending of given English files, with its dot; empty where there are none."""
    return Path(next(iter(english.values()))).suffix if english else ""


def _check_models(asked: Asked, name: str, chosen: Sequence[str], english: bool) -> None:
    """Raise RecipeError for methods that need a translator which is not built in."""
    given = {override.partition("=")[0] for override in asked.overrides}
    own = bool(given & {"translate", "translate.engine", "translate.model"})
    translated = [method for method in chosen if method != methods_of.TRANSFER]
    if name != "europarl" and asked.models == "builtin" and translated and not english and not own:
        raise RecipeError(
            f"--models builtin: no translator is built in, and {translated[0]} on {name} needs English; give it by "
            "--english 'FOLDER/{lang}.txt', or take --methods MT, or --set translate.engine=..."
        )
