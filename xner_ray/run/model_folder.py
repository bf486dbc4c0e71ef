"""The folder of a trained model: its recipe, its checkpoints, and its files, published as a whole.

MODEL/_train/fingerprint.json  what decides the model, while it is trained
MODEL/_train/recipe.yaml       the recipe, while it is trained, its encoder pinned
MODEL/_train/asked.json        encoder and number format by their names in the user's recipe
MODEL/_train/...               checkpoints, until the model is complete
MODEL/...                      the model's files; config.json, which every loader needs, is written after the others
MODEL/SHA256SUMS               written last: all listed files are complete
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.recipe.decides import Section
from xner_ray.storage import cache, sums
from xner_ray.storage import files as storage
from xner_ray.storage.lease import LOCK, claim

_CARD = "README.md"
_SUMS, _WORK, _FINGERPRINT, _RECIPE, _ASKED = "SHA256SUMS", "_train", "fingerprint.json", "recipe.yaml", "asked.json"


@dataclass
class ModelFolder:
    """A folder at a path or an address; nothing is created before `claim`.

    kind: what messages call the model. report: the name of its report, which holds the fingerprint. asked: encoder and
    number format by their names in the user's recipe, by key: `model.encoder`, `fit.dtype`.
    """

    root: str
    kind: str
    report: str
    asked: Mapping[str, str]

    def __post_init__(self) -> None:
        self.root = storage.join(self.root) if "://" in self.root else os.path.abspath(self.root)

    def path(self, *parts: str) -> str:
        """Return the place of a file in the folder."""
        return storage.join(self.root, *parts)

    @property
    def work(self) -> str:
        """The folder of checkpoints, which is deleted when the model is complete."""
        return self.path(_WORK)

    def refuse_sources(self, places: Iterable[str | None]) -> None:
        """Raise RecipeError if the model would be written into one of the places that it is made from."""
        given = [place for place in places if place is not None and ("://" in place or os.path.isabs(place))]
        if os.path.realpath(self.root) in map(os.path.realpath, given):
            raise RecipeError(f"{self.root}: is what the {self.kind} is made from; name another folder for it")

    def refuse_other_files(self) -> None:
        """Raise RunFolderError if the folder holds files but no such model, finished or not."""
        names = self._names()
        others = [name for name in names if not name.startswith(f"{_WORK}/")]
        if others and not self._is_ours(names):
            raise RunFolderError(
                f"{self.root}: holds files that are no {self.kind} ({others[0]}); name an empty or a new folder"
            )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes out. RunFolderError if one works here, or if the folder cannot be written."""
        with claim(self.root, self.root):
            try:
                yield
            finally:
                if storage.is_local(self.root):
                    storage.delete(self.path(LOCK))

    def finished(self, keys: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the report of a complete model; None if training is to begin or to resume.

        RunFolderError if the folder holds the model of another recipe.
        """
        names = self._names()
        if not self._is_ours(names):
            return None
        report = self._read(self.path(self.report)) if {_SUMS, self.report} <= set(names) else None
        old = (report or {}).get("fingerprint", {})  # adaptation.json had none at first
        if f"{_WORK}/{_FINGERPRINT}" in names:
            training = self._read(self._fingerprint)
            if training != old or not set(self._listed()) <= set(names):
                old, report = training, None  # not complete yet, or being discarded when a process was killed
        differing = [
            f"  {key}: {old.get(key)} there, {keys.get(key)} now"
            for key in sorted({*old, *keys})
            if old.get(key) != keys.get(key)
        ]
        if differing:
            raise RunFolderError(
                f"{self.root}: holds the {self.kind} of another recipe. What differs:\n"
                + "\n".join(differing)
                + "\nName another folder, or give --fresh to discard what is there."
            )
        if report is not None:
            self._refuse_altered()
            storage.delete(self.work)  # there if a process was killed after it wrote SHA256SUMS
        return report

    def recorded(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the encoder that the model is made from, pinned, and its number format; and the names that asked.

        Each by its key.
        Empty where the folder holds no model, and where an older one did not record it.
        """
        names = self._names()
        recipe: Any
        if f"{_WORK}/{_RECIPE}" in names:
            recipe = self._read(storage.join(self.work, _RECIPE), yaml.safe_load)
            asked = self._read(self._asked) if f"{_WORK}/{_ASKED}" in names else {}
        elif self.report in self._listed():
            report = self._read(self.path(self.report))
            recipe, asked = report.get("recipe"), report.get("asked", {})
        else:
            return {}, {}
        try:
            found = {"model.encoder": recipe["model"]["encoder"], "fit.dtype": recipe["fit"]["dtype"]} if recipe else {}
        except (KeyError, TypeError):  # a recipe.yaml that is cut off is YAML all the same
            raise self._damaged(storage.join(self.work, _RECIPE)) from None
        return found, asked

    def format_kept(self) -> str | None:
        """Return the number format in which the model's training began, where `fit.dtype` asks for the same again."""
        recorded, asked = self.recorded()
        kept = recorded.get("fit.dtype")
        return kept if asked.get("fit.dtype", kept) == self.asked.get("fit.dtype") else None

    def begin(self, keys: Mapping[str, str], recipe: Section, *, fresh: bool) -> None:
        """Record what is trained here. fresh: discard the model and its checkpoints first, but no other files.

        The fingerprint comes after old checkpoints are gone and before files go: killed anywhere, the folder stays
        one of ours, and never resumes from another recipe's checkpoint.
        """
        there = set(self._names())  # a list of sums that somebody else wrote may name files elsewhere
        old = sorted({name.split("/")[1] for name in there if name.startswith(f"{_WORK}/")} - {_FINGERPRINT})
        for name in old if fresh else ():
            storage.delete(storage.join(self.work, name))
        storage.publish(self._fingerprint, json.dumps(dict(keys), indent=1, sort_keys=True).encode())
        for name in sorted(there.intersection(self._listed())) if fresh else ():
            storage.delete(self.path(name))
        storage.delete(self.path(_SUMS))
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        storage.publish(self._asked, json.dumps(dict(self.asked)).encode())
        storage.publish(storage.join(self.work, _RECIPE), text.encode())

    def publish(self, folder: Path, report: dict[str, Any], keys: Mapping[str, str]) -> None:
        """Copy a model from a local folder, with its report, to which fingerprint and asked name are added."""
        report |= {"fingerprint": dict(keys), "asked": dict(self.asked)}
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        (folder / self.report).write_text(text, encoding="utf-8")
        listed = cache.sums(folder)
        files = sorted(folder.iterdir(), key=lambda path: path.name == "config.json")
        for path in files:
            storage.copy({path.name: str(path)}, self.root)
        storage.publish(self.path(_SUMS), listed.encode())

    @property
    def _fingerprint(self) -> str:
        return storage.join(self.work, _FINGERPRINT)

    @property
    def _asked(self) -> str:
        return storage.join(self.work, _ASKED)

    def _read(self, path: str, parse: Callable[[bytes], Any] = json.loads) -> dict[str, Any]:
        """Return a document of the folder. RunFolderError if it is not whole."""
        with suppress(ValueError, yaml.YAMLError):
            if isinstance(found := parse(storage.read_bytes(path)), dict):
                return found
        raise self._damaged(path)

    @staticmethod
    def _damaged(path: str) -> RunFolderError:
        return RunFolderError(f"{path}: is damaged; put the file back, or give --fresh to train again")

    def _names(self) -> list[str]:
        inner = storage.locate(self.root)[1].rstrip("/") + "/"
        names = [str(info.path)[len(inner) :] for info in storage.files_below(self.root)]
        return [name for name in names if not name.startswith((LOCK, "LOCK"))]

    def _refuse_altered(self) -> None:
        """Raise RunFolderError if a file of the complete model is not what was trained, other than its card."""
        there = set(self._names())
        wanted = {name: digest for name, digest in self._wanted().items() if name != _CARD and ".." not in name}
        paths = [self.path(name) for name in wanted if name in there]
        own = dict(zip(paths, sums.sums(paths), strict=True))
        for name, digest in wanted.items():
            if (found := own.get(self.path(name))) != digest:
                what = "is missing" if found is None else f"was altered, its SHA-256 is not that of {_SUMS}"
                raise RunFolderError(f"{self.path(name)}: {what}; put the file back, or give --fresh to train again")

    def _listed(self) -> list[str]:
        """Return the files that SHA256SUMS lists; none while the model is not complete."""
        return list(self._wanted())

    def _wanted(self) -> dict[str, str]:
        data = storage.read_if_there(self.path(_SUMS)) or b""
        lines = [line.partition("  ") for line in data.decode(errors="replace").splitlines()]
        return {name: digest for digest, _, name in lines}

    def _is_ours(self, names: Iterable[str]) -> bool:
        return f"{_WORK}/{_FINGERPRINT}" in names or self.report in self._listed()


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return a recipe's values as JSON by dotted key; the items of a list of sections have numbers for keys.

    >>> flat({"data": [{"run": "a", "langs": []}], "seed": 0})
    {'data.0.run': '"a"', 'data.0.langs': '[]', 'seed': '0'}
    """
    found: dict[str, str] = {}

    def walk(key: str, value: Any) -> None:
        children: Any = ()
        if isinstance(value, Mapping):
            children = value.items()
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            children = enumerate(value)
        if not children:
            found[key] = json.dumps(value, ensure_ascii=False)
        for name, child in children:
            walk(f"{key}.{name}" if key else name, child)

    walk("", settings)
    return found
