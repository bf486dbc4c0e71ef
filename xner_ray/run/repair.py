"""What is damaged in a run folder, and making room for what will be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xner_ray.errors import DamageError
from xner_ray.run import whole
from xner_ray.run.folder import BACKGROUND, RunFolder
from xner_ray.run.sealed import Sealed, damage
from xner_ray.storage import files as storage

_SEALED = "_run/SEALED"
_MADE_AGAIN = (*(f"_run/{kind}/" for kind in ("parts", "retried", "priors", "refined")), BACKGROUND)


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
        found[_SEALED] = error.what
    if sealed is not None:
        found |= damage(folder.root, [*sealed.files, *sealed.others])
    names = dict(folder.files_made())
    return found | {
        names[path]: what for path, what in whole.damaged(list(names), summed=folder.record().summed).items()
    }


def missing(folder: RunFolder, units: Sequence[str], *, two_passes: bool) -> dict[str, str]:
    """Return the parts that a sealed run lacks, as `find` does. units: their names."""
    parts, refined, lost = folder.parts(), folder.refined(), folder.lost_retries()
    found = {f"_run/retried/*/{unit}.parquet": "is missing" for unit in lost}
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
    for path, what in whole.damaged(list(parts.values()), summed=folder.record().summed).items():
        raise DamageError(path, what)
    return parts


def require_whole(folder: RunFolder, units: Sequence[str], *, two_passes: bool) -> None:
    """Raise DamageError unless every published file and document of a sealed run is as it was sealed."""
    sealed = folder.require_sealed()
    found = damage(folder.root, [*sealed.files, *sealed.others]) or missing(folder, units, two_passes=two_passes)
    for name, what in found.items():
        raise DamageError(folder.path(name), what)


def require_whole_files(paths: Iterable[str]) -> None:
    """Raise RunFolderError or DamageError unless Parquet files of runs are those of finished ones, and none is missing.

    paths: of files below `RUN/data/<language>` or `RUN/rejects/<language>`. One that was copied out of its run, so that
    there is no `_run` beside it, is taken as it is.
    """
    runs: dict[str, set[str]] = {}
    for path in paths:
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
    for name in found:
        if name.startswith(_MADE_AGAIN) and "*" not in name:
            storage.delete(folder.path(name))
    if _SEALED in found:
        folder.unseal()
