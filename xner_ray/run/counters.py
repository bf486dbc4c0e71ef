"""The counters of a run: added up over its parts, and as the report that report.json holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NotRequired, TypedDict

from xner_ray.errors import FatalError, Reason

REFINE = "refine"  # the second matching, which is no stage of a recipe
STAGES = (  # in the order of the flow
    *("read", "translate", "tag", "image", "back_translate", "target_tag"),
    *("align", "evidence", "likelihood", "constrained", "match", REFINE),
)


_LEAST_CHANGED = 10  # labels, fewer of which say nothing of pictures


class Rows(TypedDict):
    read: int
    emitted: int
    rejected: int


class Entities(TypedDict):
    """Entities of emitted rows; `unprojected` by reason. `in_rejected_rows`: source entities of the other rows."""

    source: int
    projected: int
    unprojected: dict[str, int]
    in_rejected_rows: int


class Language(TypedDict):
    rows: Rows
    rejects: dict[str, int]
    entities: Entities
    projected_by_label: dict[str, int]
    incomplete_rows: int


class Labels(TypedDict):
    """`dropped`: label of the input that was not kept -> its entities."""

    kept: list[str]
    dropped: dict[str, int]


class Stage(TypedDict):
    """Seconds are summed over workers; `model_seconds` is the part of them spent inside the stage's model."""

    rows: int
    seconds: float
    tokens: int
    model_seconds: float
    rejects: dict[str, int]
    rows_per_second: NotRequired[float | None]


class PriorUse(TypedDict):
    rows: int
    used: bool


@dataclass(kw_only=True)
class Report:
    """What a run has done, in the order of report.json. Also readable by key: `report["rows"]["read"]`.

    Counters that are missing from the report of an earlier version are empty. `rejects`, `flags` and `solvers` count
    rows; `cost` is as `report.progress.cost` returns it, and left out of report.json without a price, as `priors` is
    of a run that is not sealed.
    """

    rows: Rows
    rejects: dict[str, int]
    entities: Entities
    flags: dict[str, int] = field(default_factory=dict)
    incomplete_rows: int = 0
    projected_by_label: dict[str, int] = field(default_factory=dict)
    solvers: dict[str, int] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    languages: dict[str, Language]
    labels: Labels
    repaired_tags: int
    units: int
    seconds: float
    reject_rate: float
    max_reject_rate: float
    rows_per_second: float | None = None  # as `run/pace.py` defines it; of a sealed run
    images: dict[str, Any] | None = None  # of runs with pictures: `run.parts`, and a warning where they say nothing
    priors: dict[str, PriorUse] | None = None
    cost: dict[str, Any] | None = None
    began: str | None = None  # UTC, as 2026-01-31 09:05 UTC: the first driver's first unit
    finished: str | None = None  # of a sealed run

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, with the keys of report.json."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read plain data; keys of later versions are ignored."""
        return cls(**{each.name: data[each.name] for each in fields(cls) if each.name in data})

    def dump(self) -> bytes:
        """Return the bytes of report.json."""
        return (json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n").encode()


def add(total: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Add nested counters into `total`, key by key, and return it.

    >>> add({"a": {"x": 1}}, {"a": {"x": 2, "y": 3}})
    {'a': {'x': 3, 'y': 3}}
    """
    for key, value in part.items():
        if isinstance(value, Mapping):
            add(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value
    return total


def reject_rate(rows: Rows, rejects: Mapping[str, int]) -> float:
    """Return the share of rejected rows, without those that the input itself says are no gold."""
    left_out = rejects.get(Reason.LEFT_OUT, 0)
    read = rows["read"] - left_out
    return (rows["rejected"] - left_out) / read if read else 0.0


def summarize(
    parts: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    labels: Sequence[str],
    dropped: dict[str, int],
    repaired_tags: int,
    seconds: float,
    max_reject_rate: float,
) -> Report:
    """Sum the footers of a run's parts, given with their languages, into a report.

    labels, dropped: kept labels, and the others with their entities in the input. FatalError unless every row that was
    read is emitted or rejected.
    """
    rows: Rows = {"read": 0, "emitted": 0, "rejected": 0}
    total: dict[str, Any] = {
        "rows": rows,
        "rejects": {},
        "entities": {"source": 0, "projected": 0, "unprojected": {}, "in_rejected_rows": 0},
    }
    by_language: dict[str, Any] = {}
    n_units = 0
    for lang, counters in parts:
        add(total, counters)
        add(by_language.setdefault(lang, {}), {key: counters[key] for key in Language.__annotations__})
        n_units += 1
    if rows["read"] != rows["emitted"] + rows["rejected"]:
        raise FatalError(
            f"rows do not add up: {rows['read']} read, {rows['emitted']} emitted, {rows['rejected']} rejected"
        )
    stages = total.get("stages", {})
    for stage in stages.values():
        stage["rows_per_second"] = round(stage["rows"] / stage["seconds"], 1) if stage["seconds"] else None
        stage["seconds"] = round(stage["seconds"], 3)
        stage["model_seconds"] = round(stage.get("model_seconds", 0.0), 3)  # parts of earlier versions have none
    found = {
        **total,
        "stages": {name: stages[name] for name in STAGES if name in stages},
        "languages": by_language,
        "labels": {"kept": list(labels), "dropped": dropped},
        "repaired_tags": repaired_tags,
        "units": n_units,
        "seconds": round(seconds, 1),
        "reject_rate": reject_rate(rows, total["rejects"]),
        "max_reject_rate": max_reject_rate,
    }
    if "images" in total and (said := picture_warning(total["images"])):
        found["images"] = total["images"] | {"warning": said}
    return Report.from_dict(found)


def picture_warning(images: Mapping[str, int]) -> str:
    """Return a line if pictures change hardly more labels than pictures of other rows do; "" else."""
    true, exchanged = images["relabelled_of_compared"], images["relabelled_by_exchanged"]
    if exchanged < _LEAST_CHANGED or 10 * exchanged < 9 * true:
        return ""
    return (
        f"the pictures may say nothing: of {images['compared']:,} entities, each row's own picture gives {true:,} "
        f"another label, and another row's picture {exchanged:,}; compare with input.images.ablation: shuffled"
    )
