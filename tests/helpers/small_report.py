"""The report of a run of four rows, for tests of what is written about runs."""

from typing import Any

from xner_ray.run.counters import summarize

COUNTS: dict[str, Any] = {
    "rows": {"read": 4, "emitted": 3, "rejected": 1},
    "rejects": {"too_long": 1},
    "entities": {"source": 5, "projected": 4, "unprojected": {"overlap": 1}},
    "projected_by_label": {"PER": 4},
    "incomplete_rows": 1,
}
OPTIONS: dict[str, Any] = {"dropped": {}, "repaired_tags": 0, "seconds": 1.0, "max_reject_rate": 1.0}
REPORT = summarize([("swh_Latn", COUNTS)], labels=["LOC", "PER"], **OPTIONS)
