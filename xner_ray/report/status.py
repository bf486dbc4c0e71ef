"""How far a run is, as plain data, as a typed value, and for a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from xner_ray.report.progress import cost_text, duration
from xner_ray.report.shown import Displayed
from xner_ray.report.tables import run_tables
from xner_ray.run.counters import Report


@dataclass(frozen=True)
class Count:
    total: int
    done: int
    left: int


@dataclass(frozen=True)
class Pass:
    """One matching of a run. rows_per_second: as `run/pace.py` defines it; None while that is not known."""

    units: Count
    rows: Count
    rows_per_second: float | None
    seconds_left: float | None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Pass:
        counts = {name: Count(**found[name]) for name in ("units", "rows")}
        return cls(**counts, rows_per_second=found["rows_per_second"], seconds_left=found["seconds_left"])

    def line(self, title: str) -> str:
        line = f"{title}: {self.units.done:,} done, {self.units.left:,} left ({self.rows.left:,} rows)"
        line += f"; {self.rows_per_second:,.1f} rows/s" if self.rows_per_second is not None else ""
        return line + (f", {duration(self.seconds_left)} left" if self.seconds_left else "")


@dataclass(frozen=True, repr=False)
class Status(Displayed):
    """How far a run is, dead or alive.

    first: all up to the first matching. second: the second one; None if the recipe has none. driver_lives: None where
    it cannot be known. seconds, cost: of all drivers, each from the start of its first unit to its last file. cost:
    None without `engine.price_per_hour`. report: of the units that are done.
    """

    run: str
    sealed: bool
    driver_lives: bool | None
    drivers: int
    first: Pass
    second: Pass | None
    seconds: float
    seconds_since_last_file: float | None
    cost: dict[str, Any] | None
    report: Report

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Status:
        """Return the status of figures, as `status --json` prints them."""
        second = found["second_matching"]
        same = ("run", "sealed", "driver_lives", "drivers", "seconds", "seconds_since_last_file", "cost")
        return cls(
            **{name: found[name] for name in same},
            first=Pass.of(found),
            second=None if second is None else Pass.of(second),
            report=Report.from_dict(found["report"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as `status --json` prints them."""
        found = {name: getattr(self, name) for name in ("run", "sealed", "driver_lives", "drivers")}
        found |= asdict(self.first) | {"second_matching": self.second and asdict(self.second)}
        found |= {name: getattr(self, name) for name in ("seconds", "seconds_since_last_file", "cost")}
        return found | {"report": self.report.to_dict()}

    def __rich__(self) -> Group:
        lines = [f"{self.run}: {'sealed: the data set is complete' if self.sealed else 'not sealed'}"]
        if not self.sealed:
            alive = {True: "a driver is working on it", False: "no driver is alive; the same command resumes it"}
            since = self.seconds_since_last_file
            ago = "no unit was started" if since is None else f"last file {duration(since)} ago"
            who = "" if self.driver_lives is None else alive[self.driver_lives]
            lines.append(", ".join(filter(None, (who, ago))))
        lines += [self.first.line("units")]
        lines += [self.second.line("second matching")] if self.second is not None else []
        lines += [cost_text(self.cost)] if self.cost is not None else []
        return Group(*map(Text, lines), run_tables(self.report))
