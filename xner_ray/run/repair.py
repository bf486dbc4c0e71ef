"""What is damaged in a run folder, and making room for what will be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from xner_ray.errors import DamageError
from xner_ray.run import retries
from xner_ray.run.folder import BACKGROUND, RunFolder
from xner_ray.run.sealed import SEALED, Sealed, damage, unit_of
from xner_ray.storage import files as storage
from xner_ray.storage import hub

MADE_AGAIN = (*(f"_run/{kind}/" for kind in ("parts", "retried", "priors", "refined")), BACKGROUND)


def find(folder: RunFolder) -> dict[str, str]:
    """Return what is wrong with the files of a run, by their name below its folder; each is read, see `storage.sums`.

    A unit without a part is damage only where the run is sealed, see `missing`. DamageError if fingerprint.json is
    damaged.
    """
    found = folder.record_damage()
    sealed: Sealed | None = None
    try:
        sealed = folder.sealed()
    except DamageError as error:
        found[SEALED] = error.what
    if sealed is not None:
        found |= damage(folder.root, [*sealed.files, *sealed.others])
    names = dict(folder.files_made())
    return found | {names[path]: what for path, what in folder.damaged_files(list(names)).items()}


def missing(folder: RunFolder, units: Sequence[str], *, two_passes: bool) -> dict[str, str]:
    """Return the parts that a sealed run lacks, or has beyond those that it was made of, as `find` does.

    units: their names.
    """
    parts, refined = folder.parts(), folder.refined()
    due = retries.due(folder).keys() & set(units)
    found = {f"_run/retried/*/{unit}.parquet": "is missing" for unit in sorted(due)}
    sealed = folder.sealed()
    if sealed is not None and sealed.incarnation is not None:
        new = {unit_of(file) for file in set(folder.retried()) - set(sealed.retried)}
        found |= {f"_run/retried/*/{unit}.parquet": "is newer than what was published" for unit in sorted(new)}
    for unit in units:
        if unit not in parts:
            found[f"_run/parts/*/{unit}.parquet"] = "is missing"
        elif two_passes and unit not in refined:
            found[f"_run/refined/*/{unit}.parquet"] = "is missing"
    if two_passes:
        langs = {unit.rpartition("-")[0] for unit in units}
        priors = {info.base_name for info in storage.files_below(folder.priors_folder)}
        lacking = sorted(lang for lang in langs if f"{lang}.parquet" not in priors)
        found |= {f"_run/priors/*/{lang}.parquet": "is missing" for lang in lacking}
    return found


def whole_parts(folder: RunFolder, units: Sequence[str], *, two_passes: bool, first: bool = False) -> dict[str, str]:
    """Return the path of the final part of each unit that has one; of a sealed run every unit has. DamageError.

    units: their names. first: the parts before the second matching.
    """
    if folder.sealed() is not None:
        for name, what in missing(folder, units, two_passes=two_passes).items():
            raise DamageError(folder.path(name), what)
    listed, found = set(units), folder.parts() if first else folder.final_parts()
    parts = {unit: path for unit, path in found.items() if unit in listed}
    folder.require_files(list(parts.values()))
    return parts


def require_whole(folder: RunFolder, units: Sequence[str], *, two_passes: bool) -> None:
    """Raise DamageError unless every published file and document of a sealed run is as it was sealed."""
    sealed = folder.require_sealed()
    found = damage(folder.root, [*sealed.files, *sealed.others]) or missing(folder, units, two_passes=two_passes)
    for name, what in found.items():
        raise DamageError(folder.path(name), what)


class InputFile(Protocol):
    """What is asked of a file of an input."""

    @property
    def path(self) -> str: ...
    @property
    def format(self) -> str: ...


def require_whole_files(files: Iterable[InputFile]) -> None:
    """Raise RunFolderError or DamageError unless the files of runs are those of finished ones, and none is missing.

    files: of an input; those of other formats are as they are. One below `RUN/data/<language>` or
    `RUN/rejects/<language>` that was copied out of its run, so that there is no `_run` beside it, is taken as it is.
    """
    runs: dict[str, set[str]] = {}
    for path in (file.path for file in files if file.format == "run"):
        if path.startswith(hub.SCHEME):  # what is pushed there has no `_run`
            continue
        parts = storage.locate(path)[1].split("/")
        runs.setdefault(storage.within(path, "/".join(parts[:-3])), set()).add("/".join(parts[-3:]))
    for root, wanted in runs.items():
        if not (folder := RunFolder(root)).is_run():
            continue
        folders = {name.rpartition("/")[0] for name in wanted}
        entries = [entry for entry in folder.require_sealed().files if entry["file"].rpartition("/")[0] in folders]
        odd = dict.fromkeys(sorted(wanted - {entry["file"] for entry in entries}), "is no file of the finished run")
        for name, what in {**damage(root, entries), **odd}.items():
            raise DamageError(folder.path(name), what)


def clear(folder: RunFolder, found: Mapping[str, str]) -> None:
    """Delete what is damaged and will be made again because it is missing; the rest will be written over."""
    if SEALED in found:
        folder.unseal()
    for name in found:
        if name.startswith(MADE_AGAIN) and "*" not in name:
            storage.delete(folder.path(name))


def of_units(folder: RunFolder, found: Mapping[str, str]) -> list[str]:
    """Return the damaged files, by their name, that are there and that only input and models can make again.

    A part that a retry has replaced is not missed.
    """
    needed = {*folder.parts().values(), folder.background_path}
    return [name for name in found if "*" not in name and folder.path(name) in needed]


def odd_files(folder: RunFolder) -> list[str]:
    """Return the files beside those that a finished run has published: what loads the folder would read them too."""
    if (sealed := folder.sealed()) is None:
        return []
    known, found = {entry["file"] for entry in sealed.files}, []
    for kind in ("data", "rejects"):
        inner = storage.locate(folder.path(kind))[1].rstrip("/")
        below = [info for info in storage.files_below(folder.path(kind)) if info.extension == "parquet"]
        found += [f"{kind}{info.path[len(inner) :]}" for info in below]
    return sorted(set(found) - known)
