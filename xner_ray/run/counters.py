"""The counters of a run: added up over its parts, summarised, written as report.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xner_ray.errors import FatalError

REFINE = "refine"  # the second matching, which is no stage of a recipe
STAGES = (  # in the order of the flow
    *("read", "translate", "tag", "back_translate", "target_tag"),
    *("align", "evidence", "likelihood", "match", REFINE),
)


def add(total: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Add nested counters into `total`, key by key; returns it.

    >>> add({"a": {"x": 1}}, {"a": {"x": 2, "y": 3}})
    {'a': {'x': 3, 'y': 3}}
    """
    for key, value in part.items():
        if isinstance(value, Mapping):
            add(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value
    return total


def summarize(
    parts: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    index: Mapping[str, Any],
    labels: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """The report of a whole run. FatalError unless every row that was read is emitted or rejected.

    `parts` are (language, footer); `index` is what the scan counted.
    """
    total: dict[str, Any] = {
        "rows": {"read": 0, "emitted": 0, "rejected": 0},
        "rejects": {},
        "entities": {"source": 0, "projected": 0, "unprojected": {}, "in_rejected_rows": 0},
    }
    by_language: dict[str, Any] = {}
    n_units = 0
    for lang, counters in parts:
        add(total, counters)
        kept = {key: counters[key] for key in ("rows", "rejects", "entities", "projected_by_label", "incomplete_rows")}
        add(by_language.setdefault(lang, {}), kept)
        n_units += 1
    rows = total["rows"]
    if rows["read"] != rows["emitted"] + rows["rejected"]:
        raise FatalError(
            f"row accounting: read {rows['read']} is not emitted {rows['emitted']} + rejected {rows['rejected']}"
        )
    stages = total.get("stages", {})
    total["stages"] = {name: stages[name] for name in STAGES if name in stages}
    for stage in stages.values():
        stage["rows_per_second"] = round(stage["rows"] / stage["seconds"], 1) if stage["seconds"] else None
        stage["seconds"] = round(stage["seconds"], 3)
        stage["model_seconds"] = round(stage.get("model_seconds", 0.0), 3)  # parts of earlier versions have none
    return {
        **total,
        "languages": by_language,
        "labels": {"kept": list(labels), "dropped": index["labels_dropped"]},
        "repaired_tags": index["repaired"],
        "units": n_units,
        "seconds": round(seconds, 1),
    }


def dump(report: Mapping[str, Any]) -> bytes:
    """report.json."""
    return (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()
