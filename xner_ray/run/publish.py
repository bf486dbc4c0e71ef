"""The published files of a run, which sealing makes of its parts.

Sealing reads parts in row order and writes each published file whole; which rows go to which file is fixed by the
units alone, so the same parts always give the same bytes, and sealing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.row import OK, REJECTED, with_features
from xner_ray.run.parts import PlannedUnit, read_part
from xner_ray.run.sealed import Sealed, sum_of
from xner_ray.run.whole import parquet
from xner_ray.storage import files as storage


@dataclass(frozen=True)
class Published:
    """One file of the data set: its place in the run, and the parts whose rows of one kind it holds."""

    file: str  # relative to the run folder
    parts: tuple[str, ...]
    kind: str  # complete | incomplete | emitted | rejected
    labels: tuple[str, ...]
    optional: bool  # not written when it would hold no row


def plan_files(
    units: Sequence[PlannedUnit],
    part_paths: Mapping[str, str],
    labels: Sequence[str],
    *,
    rows_per_file: int,
    split_incomplete: bool,
) -> list[Published]:
    """Return the files that sealing writes: equal shares of consecutive units, in row order."""
    groups: dict[tuple[str, str], list[PlannedUnit]] = {}
    for unit in units:
        groups.setdefault((unit.lang, unit.split), []).append(unit)
    files = []
    for (lang, split), members in groups.items():
        n_files = min(len(members), -(-sum(unit.n_rows for unit in members) // rows_per_file))
        for number in range(n_files):
            share = members[number * len(members) // n_files : (number + 1) * len(members) // n_files]
            parts = tuple(part_paths[unit.name] for unit in share)
            name = f"{split}-{number:05d}-of-{n_files:05d}.parquet"
            kinds = [("data", name, "complete" if split_incomplete else "emitted", False)]
            kinds += [("data", f"incomplete-{name}", "incomplete", True)] if split_incomplete else []
            kinds += [("rejects", name, "rejected", True)]
            for folder, file, kind, optional in kinds:
                files.append(Published(f"{folder}/{lang}/{file}", parts, kind, tuple(labels), optional))
    return files


def seal_file(root: str, published: Published) -> dict[str, Any] | None:
    """Write one published file whole; return its name, rows and SHA-256, or None if it is empty and optional.

    Then there is no such file: one of an earlier seal, whose rejects a retry has mended, is deleted.
    """
    rows = 0
    schema: pa.Schema | None = None

    def chosen() -> Iterable[pa.Table]:
        nonlocal rows
        for path in published.parts:
            table = select(read_part(path), published.kind)
            rows += table.num_rows
            yield table

    first = read_part(published.parts[0])
    schema = with_features(first.schema, published.labels)
    data = parquet(chosen(), schema)
    path = storage.join(root, published.file)
    if rows == 0 and published.optional:
        storage.delete(path)
        return None
    storage.publish(path, data)
    return {"file": published.file, "rows": rows, **sum_of(data)}


def seal(
    root: str,
    files: Sequence[Published],
    documents: Mapping[str, bytes],
    map_files: Callable[..., Iterable[dict[str, Any] | None]] = map,
    *,
    retried: Sequence[str] = (),
    incarnation: str | None = None,
    standing: Sequence[str] = (),
) -> Sealed:
    """Publish the data set, then README and report, and last `_run/SEALED`, which lists them; return what it says.

    retried, incarnation: see `Sealed`. standing: further files of the run that are there already, listed with the rest.
    """
    written = [entry for entry in map_files(seal_file, [root] * len(files), files) if entry is not None]
    for name, data in documents.items():
        storage.publish(storage.join(root, name), data)
    others = dict(documents) | {name: storage.read_bytes(storage.join(root, name)) for name in standing}
    listed = [{"file": name, **sum_of(data)} for name, data in others.items()]
    sealed = Sealed(written, listed, list(retried), incarnation)
    storage.publish(storage.join(root, "_run", "SEALED"), sealed.dump())
    return sealed


def select(table: pa.Table, kind: str) -> pa.Table:
    """Return the rows of a kind of `Published`."""
    status = pc.equal(table.column("status"), REJECTED if kind == "rejected" else OK)
    if kind in ("complete", "incomplete"):
        whole = table.column("complete")
        wanted = whole if kind == "complete" else pc.invert(whole)
        status = pc.and_(status, pc.fill_null(wanted, False))
    return table.filter(status)
