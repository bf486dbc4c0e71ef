"""The progress of a run as lines and as a table, and the time and money left.

A working driver tells `Progress` of each unit whose part it has published. Its rate is that of `run/pace.py`: by the
driver's own clock while it works, and by the times of the files once all units are made, as every later reader sees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from xner_ray.report.live import live
from xner_ray.report.tables import Table, in_model
from xner_ray.run.counters import add
from xner_ray.run.pace import Pace, busy_seconds

Queues = Mapping[str, tuple[int, int]]  # first stage of a pool -> its waiting units, and those with its workers


def cost(
    price_per_hour: float | None, seconds: float, rows: int, *, seconds_left: float | None = 0.0, rows_left: int = 0
) -> dict[str, Any] | None:
    """Return the cost of the cluster after `seconds` and at the end, in the price's currency; None without a price.

    rows: those done. seconds_left: None if not known; the cost of a million rows is then that of the rows so far,
    otherwise that of all rows.
    """
    if price_per_hour is None:
        return None
    so_far = price_per_hour * seconds / 3600
    end = None if seconds_left is None else price_per_hour * (seconds + seconds_left) / 3600
    spent, made = (so_far, rows) if end is None else (end, rows + rows_left)
    return {
        "price_per_hour": price_per_hour,
        "hours": round(seconds / 3600, 4),
        "so_far": round(so_far, 4),
        "at_the_end": None if end is None else round(end, 4),
        "per_million_rows": round(spent / made * 1e6, 4) if made else None,
    }


def cost_text(figures: Mapping[str, Any]) -> str:
    """Return the figures of `cost` as a phrase.

    >>> cost_text(cost(36.0, 100.0, 50_000, seconds_left=900.0, rows_left=950_000))
    'cost 1.00, 10.00 at the end, 10.00 per million rows'
    """
    parts = [f"cost {figures['so_far']:,.2f}"]
    if figures["at_the_end"] not in (None, figures["so_far"]):
        parts.append(f"{figures['at_the_end']:,.2f} at the end")
    if figures["per_million_rows"] is not None:
        parts.append(f"{figures['per_million_rows']:,.2f} per million rows")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds as h:mm:ss, days before.

    >>> duration(3723.4)
    '1:02:03'
    """
    return str(timedelta(seconds=round(seconds)))


def moment(seconds: float) -> str:
    """Format seconds since the epoch as date and time of UTC, to the minute.

    >>> moment(1_800_000_000)
    '2027-01-15 08:00 UTC'
    """
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _short(tokens: int) -> str:
    """Format a number for a column: `-`, `123,456`, `1.2M`, `3,400.0M`."""
    return "-" if not tokens else f"{tokens:,}" if tokens < 1e6 else f"{tokens / 1e6:,.1f}M"


class Progress:
    """The progress of a driver: the units published since it started, and how many units are in its queues.

    Rows, tokens and rejects are those of published units, so nothing counts twice.
    """

    def __init__(
        self,
        stages: Sequence[str],
        sizes: Mapping[str, int],
        *,
        price_per_hour: float | None = None,
        seconds_before: float = 0.0,
        rows_before: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """stages: in the order of the flow. sizes: unit to do -> rows. seconds_, rows_before: of earlier drivers."""
        self.sizes, self.total = sizes, sum(sizes.values())
        self.price_per_hour, self.seconds_before, self.rows_before = price_per_hour, seconds_before, rows_before
        self.clock, self.started = clock, clock()
        self.began = self.started  # when the first unit began
        self.stages: dict[str, Any] = {
            name: {"rows": 0, "seconds": 0.0, "tokens": 0, "model_seconds": 0.0, "rejects": {}} for name in stages
        }
        self.rows = self.units = self.rejected = 0
        self._queues: Callable[[], Queues] = dict
        self._settled: Pace | None = None
        self.told: Callable[[], None] = lambda: None

    def watch(self, queues: Callable[[], Queues]) -> None:
        """Set the function that returns the number of units in each queue."""
        self._queues = queues

    def add(self, unit: str, counters: Mapping[str, Any]) -> None:
        """Count a unit that was published."""
        if not self.units:
            self.began = max(self.started, self.clock() - busy_seconds(counters))
        self.units += 1
        self.rows += self.sizes[unit]
        self.rejected += counters["rows"]["rejected"]
        add(self.stages, counters["stages"])
        if self.rows < self.total:  # the last line has the pace that every later reader sees
            self.told()

    def settle(self, pace: Pace) -> None:
        """Say that all units are made, and what their pace is by the times of their files."""
        self._settled = pace
        self.told()

    @property
    def ended(self) -> bool:
        return self._settled is not None

    @property
    def pace(self) -> Pace:
        return self._settled or Pace(self.rows, self.clock() - self.began)

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds left; None before the first unit is finished."""
        return self.pace.seconds_for(self.total - self.rows)

    def _figures(self) -> list[str]:
        """Return phrases about time and, with a price, money."""
        left, rate = self.seconds_left, self.pace.rows_per_second
        parts = [f"{rate or 0:,.1f} rows/s" if self.units else "no unit is finished yet", f"{self.rejected:,} rejected"]
        parts += [f"{duration(left)} left"] if left else []
        spent = self.seconds_before + self.clock() - self.started
        rows, rows_left = self.rows_before + self.rows, self.total - self.rows
        price = cost(self.price_per_hour, spent, rows, seconds_left=left, rows_left=rows_left)
        return [", ".join(parts), *([cost_text(price)] if price else [])]

    def line(self) -> str:
        """Return a line for a log. `3+2 units` at a stage: three wait for its pool, its workers have two."""
        parts = [f"{self.rows:,}/{self.total:,} rows, {', '.join(self._figures())}"]
        queues = self._queues()
        for name, counters in self.stages.items():
            words = [f"{counters['tokens']:,} tokens", f"{in_model(counters)} in model"] if counters["tokens"] else []
            words += [f"{rejects:,} rejected"] if (rejects := sum(counters["rejects"].values())) else []
            waiting, working = queues.get(name, (0, 0))
            words += [f"{waiting}+{working} units"] if waiting or working else []
            parts += [f"{name} {', '.join(words)}"] if words else []
        return "; ".join(parts)

    def table(self) -> Group:
        """Return a bar, the figures and a row per stage, for a terminal of 80 characters or more.

        `wait` and `work` are units. A worker takes a unit through all stages of its pool, so both stand at the first.
        """
        bar = RichTable.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        share = self.rows / self.total if self.total else 1.0
        bar.add_row(f"{self.rows:,} of {self.total:,} rows {share:.0%}", ProgressBar(self.total or 1, self.rows))
        table = Table("", ["stage"], ("rows", "rows/s", "tokens", "in model", "rejected", "wait", "work"))
        queues = self._queues()
        for name, counters in self.stages.items():
            speed = f"{counters['rows'] / counters['seconds']:,.0f}" if counters["seconds"] else "-"
            cells = [f"{counters['rows']:,}", speed, _short(counters["tokens"]), in_model(counters)]
            cells += [f"{sum(counters['rejects'].values()):,}"]
            table.add_row(name, *cells, *queues.get(name, ("", "")))
        return Group(bar, *map(Text, self._figures()), table)

    def shown(self, console: Console) -> AbstractContextManager[None]:
        """Show the progress for as long as the block runs; see `report/live.py`."""
        return live(self, console, clock=self.clock)
