"""The run folder: which run it holds, which units are done, and who works in it.

RUN/_run/recipe.yaml       the resolved recipe, models pinned
RUN/_run/fingerprint.json  what decides the rows, and the sums of recipe.yaml, versions.json and units.parquet
RUN/_run/versions.json     packages of the machine that made it
RUN/_run/LOCK              who works in it (object stores; locally .lock, see `claim`)
RUN/_run/ids/<...>         hashes of ids, only while the input is indexed
RUN/_run/units.parquet     every unit, listed once
RUN/_run/attempts/<attempt>  a copy of fingerprint.json; its time is when that driver began with its units
RUN/_run/parts/<attempt>/<unit>.parquet
RUN/_run/retried/<attempt>/<unit>.parquet   parts whose rejects were tried again
RUN/_run/priors/<incarnation>/<language>.parquet   counts of the first matching
RUN/_run/refined/<incarnation>/<unit>.parquet      parts after the second
RUN/_run/image_background.safetensors   vectors of pictures of the run, whose mean says nothing
RUN/_run/SEALED            published files with rows and SHA-256, written last
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import yaml
from pyarrow import fs

from xner_ray.errors import DamageError, RunFolderError
from xner_ray.recipe.model import Recipe
from xner_ray.run import record, whole
from xner_ray.run.record import RECORD, Record, Retries, versions
from xner_ray.run.sealed import Sealed, damage, is_part, split_of, unit_of
from xner_ray.storage import files as storage
from xner_ray.storage.lease import Lease, claim, is_claimed

BACKGROUND = "_run/image_background.safetensors"


class RunFolder:
    """Paths and small files of one run; nothing is created before `claim`."""

    def __init__(self, root: str) -> None:
        storage.refuse_secrets(root)
        storage.refuse_read_only(root)
        # Workers have working folders of their own, so a local path must not depend on ours.
        self.root = storage.join(root) if "://" in root else os.path.abspath(root)
        self.lease: Lease | None = None  # of an object store
        self._ours = False  # while this driver has claimed it
        self._finished: Sealed | None = None
        self._record: Record | None = None

    def path(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    @property
    def place(self) -> str:
        """The run's one true address, without symbolic links and file://."""
        inner = storage.locate(self.root)[1]
        local = storage.is_local(self.root)
        return os.path.realpath(inner) if local else storage.bare(storage.within(self.root, inner))

    @property
    def units_path(self) -> str:
        return self.path("_run", "units.parquet")

    @property
    def background_path(self) -> str:
        """The background of the stage `image`."""
        return self.path(BACKGROUND)

    @property
    def ids_folder(self) -> str:
        """Where jobs that index the input exchange hashes of ids."""
        return self.path("_run", "ids")

    def is_run(self) -> bool:
        """Return True once units are listed, the last step before the first unit; also if that list was lost since."""
        if storage.exists(self.units_path) or self.is_sealed():
            return True
        return storage.exists(self.path(RECORD)) and self._last_attempt() >= self.first_attempt()

    @property
    def sealed_path(self) -> str:
        return self.path("_run", "SEALED")

    def unseal(self) -> None:
        """Say that the run is not finished; what it knows of retries stays."""
        if self.is_sealed():
            self.still_ours()
            self.keep_retries(self.retries())
            storage.delete(self.sealed_path)

    def retries(self) -> dict[str, Retries]:
        """Return which units with rejected rows are tried again, whether that is done or not."""
        own = self.record()
        if (found := record.retries(self.root, own)) or own.identity:
            return found
        sealed = Sealed.load_if_whole(self.sealed_path) or Sealed.load_if_whole(self.path("_run", "UNSEALED"))
        mine = [entry for entry in (sealed.others if sealed else ()) if entry["file"] == RECORD]
        return record.earlier_retries(sealed.retried if sealed and mine and not damage(self.root, mine) else ())

    def keep_retries(self, found: Mapping[str, Retries]) -> None:
        """Write the retries of the run into its record, if it has others."""
        if found != (own := self.record()).retries:
            self.still_ours()
            self._record = replace(own, retries=dict(found))
            storage.publish(self.path(RECORD), self._record.dump())

    def is_sealed(self) -> bool:
        return storage.exists(self.sealed_path)

    def sealed(self) -> Sealed | None:
        """Return what the finished run is, or None while it is not sealed. DamageError if SEALED is damaged."""
        return Sealed.load(self.sealed_path) if self.is_sealed() else None

    def require_sealed(self) -> Sealed:
        """Return what the finished run is. RunFolderError if there is no run, or if it is not finished.

        DamageError unless every file of it has its size; for sums see `published` and `repair.whole_parts`.
        """
        if self._finished is None:
            self.recipe()
            if (sealed := self.sealed()) is None:
                raise RunFolderError(f"{self.root}: not sealed yet; finish the run first")
            mine = [entry for entry in sealed.others if entry["file"] == RECORD]
            self._refuse(damage(self.root, sealed.files, sizes_alone=True) | damage(self.root, mine))
            self._finished = sealed
        return self._finished

    def _refuse(self, found: Mapping[str, str]) -> None:
        for file, what in found.items():
            raise DamageError(self.path(file), what)

    def published(self, lang: str, splits: Collection[str] | None = None, *, incomplete: bool = True) -> list[str]:
        """Return the paths of a language's data files; incomplete: with those of incomplete sentences, if set apart.

        DamageError if one is not what was sealed.
        """
        found = [entry for entry in self.require_sealed().files if entry["file"].startswith(f"data/{lang}/")]
        wanted = []
        for entry in found:
            split, aside = split_of(entry["file"])
            if (splits is None or split in splits) and (incomplete or not aside):
                wanted.append(entry)
        self._refuse(damage(self.root, wanted))
        return [self.path(entry["file"]) for entry in wanted]

    def read_document(self, name: str) -> bytes:
        """Return the bytes of a document of a sealed run, such as report.json. DamageError."""
        sealed = self.sealed()
        self._refuse(damage(self.root, [entry for entry in (sealed.others if sealed else ()) if entry["file"] == name]))
        return whole.read_any(self.path(name))

    def final_parts(self) -> dict[str, str]:
        """Return the path of each finished unit's part, after the second matching where that is done."""
        return {**self.parts(), **self.refined()}

    def parts(self) -> dict[str, str]:
        """Return the path of each unit's part: the latest retry of its rejects, else the earliest attempt.

        Parts of several attempts hold equal rows; those from before a `--fresh` do not count: the last writer of a
        killed driver may outlive it. A file too short for Parquet is no part; others are checked when they are read.
        """
        found: dict[str, str] = {}
        for _, unit, path in self._parts_of("parts"):
            found.setdefault(unit, path)
        return {**found, **{unit: path for _, unit, path in self._parts_of("retried")}}

    def damaged_files(self, paths: Sequence[str]) -> dict[str, str]:
        """Return what is wrong with parts, refined parts and priors of the run, by path (`whole.damaged`)."""
        record = self.record()
        return whole.damaged(paths, summed=record.summed, run=record.identity)

    def require_files(self, paths: Sequence[str]) -> None:
        """Raise DamageError unless parts, refined parts or priors are whole and of the run."""
        for path, what in self.damaged_files(paths).items():
            raise DamageError(path, what)

    def files_made(self) -> Iterator[tuple[str, str]]:
        """Yield path and name of each part, refined part and prior since the last `--fresh` or retry."""
        for kind in ("parts", "retried"):
            for attempt, unit, path in self._parts_of(kind):
                yield path, f"_run/{kind}/{attempt:04d}/{unit}.parquet"
        incarnation = self.incarnation()
        for kind in ("priors", "refined"):
            for info in storage.files_below(self.path("_run", kind, incarnation)):
                name = f"_run/{kind}/{incarnation}/{info.base_name}"
                yield self.path(name), name

    def made_again(self) -> dict[str, int]:
        """Return the last attempt that made a unit again, by unit."""
        return {unit: attempt for attempt, unit, _ in self._parts_of("retried")}

    def retried(self) -> list[str]:
        """Return the parts below `_run/retried` that count, as SEALED lists them."""
        latest = {unit: f"{attempt:04d}/{unit}.parquet" for attempt, unit, _ in self._parts_of("retried")}
        return sorted(latest.values())

    def _parts_of(self, kind: str) -> Iterator[tuple[int, str, str]]:
        """Yield (attempt, unit, path) of every part below `_run/<kind>` since the last `--fresh`, in order."""
        inner = storage.locate(self.path("_run", kind))[1]
        first = self.first_attempt()
        for info in storage.files_below(self.path("_run", kind)):
            attempt = info.path.split("/")[-2]
            if is_part(info) and attempt.isdigit() and int(attempt) >= first:
                relative = info.path[len(inner.rstrip("/")) + 1 :]
                yield int(attempt), unit_of(info.path), self.path("_run", kind, relative)

    def incarnation(self) -> str:
        """Return the name of the folder for what follows from the parts; it changes with each `--fresh` and retry.

        What a dead driver's last tasks still write then goes where nobody looks, and a prior counts the rows that a
        retry gained.
        """
        last = max((attempt for attempt, _, _ in self._parts_of("retried")), default=0)
        return f"{self.first_attempt():04d}" + (f"-{last:04d}" if last else "")

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
        found = [info.base_name for info in storage.files_below(folder) if is_part(info)]
        return {unit_of(name): storage.join(folder, name) for name in found}

    def record(self) -> Record:
        """Return what the run is; read once. DamageError if neither that nor a driver's copy is what was written."""
        if self._record is None:
            self._record = record.read(self.root)
        return self._record

    def restore_record(self) -> bool:
        """Write fingerprint.json again where it is damaged, or another than was sealed; return whether it was."""
        sealed = Sealed.load_if_whole(self.sealed_path)
        restored, self._record = record.restore(self.root, sealed.sum_of_other(RECORD) if sealed else None), None
        return restored

    def first_attempt(self) -> int:
        """Return the first attempt since the last `--fresh`."""
        try:
            return self.record().first_attempt
        except DamageError:
            return 1

    def keys(self) -> dict[str, Any]:
        """Return the fingerprint that the run was made with."""
        return self.record().keys

    def record_damage(self) -> dict[str, str]:
        """Return what is wrong with the files that say what the run is, by their name below the run folder."""
        wanted = self.record().sums or {"units.parquet": ""}
        found = {}
        for name in wanted:
            try:
                self.read_record(name)
            except DamageError as error:
                found[f"_run/{name}"] = error.what
        return found

    def read_record(self, name: str) -> bytes:
        """Return recipe.yaml or units.parquet as recorded. DamageError.

        RunFolderError if there is no run, or if another driver is writing it at this moment.
        """
        if not self.is_run():
            raise RunFolderError(f"{self.root}: no run here (it has no _run/units.parquet)")
        path = self.path("_run", name)
        data = whole.read_any(path)
        if (wanted := self.record().sums.get(name)) and hashlib.sha256(data).hexdigest() != wanted:
            if not self._ours and self.is_claimed():
                raise RunFolderError(f"{self.root}: another driver is beginning its work; ask again in some seconds")
            raise DamageError(path, "is not the one that fingerprint.json names")
        return data

    def models(self) -> dict[str, str]:
        """Return by key the names of the run's models, pinned if a stage uses them."""
        if self.record().sums:
            return self.record().models
        return record.models_of(self.read_record("recipe.yaml"))

    def _last_attempt(self) -> int:
        kinds = "attempts", "parts", "retried"
        found = [info.path for kind in kinds for info in storage.files_below(self.path("_run", kind))]
        names = [path.split("/")[-1 if "/attempts/" in path else -2] for path in found]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def next_number(self) -> int:
        """Return the number of the next attempt, which no other driver has had or planned."""
        planned = (int(attempt) for tried in self.retries().values() for attempt in tried)
        return max(self._last_attempt() + 1, self.first_attempt(), *planned)

    def next_attempt(self) -> str:
        """Begin an attempt: return a folder name that no other driver has, dead ones included."""
        attempt = f"{self.next_number():04d}"
        storage.publish(self.path("_run", "attempts", attempt), storage.read_bytes(self.path(RECORD)))
        return attempt

    def recipe(self) -> Recipe:
        """Return the resolved recipe that the run was made with. RunFolderError if this version does not know it."""
        return record.recipe_of(self.path("_run", "recipe.yaml"), self.read_record("recipe.yaml"))

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

    def check(self, keys: Mapping[str, Any], targets: Sequence[str], files: Mapping[str, str] | None = None) -> None:
        """Raise RunFolderError if the folder holds the run of another recipe. files: paths of input files, by key."""
        if self.is_run():
            self.record().check(self.root, keys, targets, self.models(), files or {})

    def begin(self, recipe: Recipe, keys: Mapping[str, Any], units: bytes, unit_rows: int, **further: Any) -> None:
        """Write what the run is and its units, before the first of them is made. further: fields of `Record`."""
        self.unseal()
        begun = storage.exists(self.path(RECORD))
        first = self.first_attempt() if begun else self._last_attempt() + 1
        summed = not begun or self.record().summed
        identity = self.record().identity if begun else Record.identity_of(keys, first, self.place)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        files = {
            "recipe.yaml": text.encode(),
            "versions.json": json.dumps(versions(), indent=1, sort_keys=True).encode(),
            "units.parquet": units,
        }
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        own = Record(dict(keys), recipe.languages, first, unit_rows, sums, summed=summed, identity=identity)
        new = replace(own, retries=self.retries() if begun else {}, models=dict(recipe.models()), **further)
        # Units last: what was recorded before they were listed binds nobody.
        for name in ("recipe.yaml", "versions.json"):
            storage.publish(self.path("_run", name), files[name])
        self._record = None
        storage.publish(self.path(RECORD), new.dump())
        storage.publish(self.units_path, units)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other drivers out while this one lives; RunFolderError if one does. See `lease.claim`.

        Rows do not depend on it: a second writer of a unit writes the same ones.
        """
        with claim(self.root, self.path("_run")) as self.lease:
            self._ours = True
            self._record = self._finished = None  # another driver may have worked here since they were read
            try:
                yield
            finally:
                self.lease, self._ours = None, False

    def still_ours(self) -> None:
        """Raise RunFolderError if another driver has taken over; call it now and then."""
        if self.lease is not None:
            self.lease.check()

    def is_claimed(self) -> bool | None:
        """Return True if a driver lives in this folder; None where that cannot be known. Writes nothing."""
        return is_claimed(self.path("_run"))

    def discard(self) -> None:
        """Delete what a run made, and nothing else."""
        if self.is_run():
            self._record = None
            storage.delete(self.sealed_path)
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
                BACKGROUND,
                "_run/UNSEALED",
                "_run/units.parquet",
                RECORD,  # last: while it stands, the folder is a run that --fresh may discard
            ):
                storage.delete(self.path(name))
