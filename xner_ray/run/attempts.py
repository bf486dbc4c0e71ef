"""The drivers that worked on a run, dead or alive, by the times of its files."""

from __future__ import annotations

from dataclasses import dataclass

from pyarrow import fs

from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage


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


def last_driver(drivers: list[Attempt], *, again: bool = False) -> Attempt | None:
    """Return the last driver that finished a unit; `again`: in the second matching. None if none did."""
    return next((each for each in reversed(drivers) if (each.refined if again else each.parts)), None)


def attempts(folder: RunFolder) -> list[Attempt]:
    """Return all drivers since the last `--fresh`, in order; a file belongs to the driver of its time.

    A writer that outlived its driver counts for the next one.
    """
    first, incarnation = folder.first_attempt(), folder.incarnation()
    found = [
        Attempt(started=info.mtime_ns / 1e9, last=info.mtime_ns / 1e9, parts={}, refined={})
        for info in storage.files_below(folder.path("_run", "attempts"))
        if info.base_name.isdigit() and int(info.base_name) >= first
    ]

    def owner(info: fs.FileInfo) -> Attempt | None:
        time = info.mtime_ns / 1e9
        own = next((attempt for attempt in reversed(found) if attempt.started <= time), None)
        if own is not None:
            own.last = max(own.last, time)
        return own

    for info in [i for kind in ("parts", "retried") for i in storage.files_below(folder.path("_run", kind))]:
        attempt = info.path.split("/")[-2]
        if attempt.isdigit() and int(attempt) >= first and (own := owner(info)):
            own.parts[info.base_name.removesuffix(".parquet")] = info.mtime_ns / 1e9
    for info in storage.files_below(folder.refined_folder):
        if own := owner(info):
            own.refined[info.base_name.removesuffix(".parquet")] = info.mtime_ns / 1e9
    for info in storage.files_below(folder.path("_run", "priors", incarnation)):
        owner(info)
    if folder.is_sealed():
        owner(storage.info_of(folder.sealed_path))
    return found
