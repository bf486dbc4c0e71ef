"""How fast a run is: the one definition of its rate, which log, page, report.json and `status` show.

The clock starts where the first finished unit of a driver began its first stage, and stops at the driver's last unit.
So loading models is not in it, nor the second matching, which has a rate of its own. Until every worker has finished a
unit, the rate is too low, never too high. Of several drivers it is the last one that finished a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xner_ray.run.counters import REFINE


@dataclass(frozen=True)
class Pace:
    """Rows finished, and the seconds of wall time that they took."""

    rows: int = 0
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float | None:
        return self.rows / self.seconds if self.rows and self.seconds > 0 else None

    def seconds_for(self, rows: int) -> float | None:
        """Return the seconds that so many rows will take; None while that is not known."""
        rate = self.rows_per_second
        return 0.0 if rows == 0 else None if rate is None else rows / rate


def pace(finished: Mapping[str, float], sizes: Mapping[str, int], busy: Callable[[str], float], start: float) -> Pace:
    """Return the pace of finished units, up to the last of them.

    finished: unit -> time of its end, since the epoch. sizes: unit -> rows. busy: returns the seconds that a unit's
    stages took; called for the first unit alone. start: nothing began before.
    """
    if not finished:
        return Pace()
    first = min(finished, key=lambda unit: (finished[unit], unit))
    began = max(start, finished[first] - busy(first))
    return Pace(sum(sizes[unit] for unit in finished), max(finished.values()) - began)


def busy_seconds(counters: Mapping[str, Any], *, again: bool = False) -> float:
    """Return the seconds that a unit's stages took; `again`: in the second matching, otherwise before it."""
    return float(sum(stage["seconds"] for name, stage in counters["stages"].items() if (name == REFINE) == again))
