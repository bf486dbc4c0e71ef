"""Throughput of a run over its working time, from the times at which its units were published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xner_ray.page.charts import Chart, columns, number
from xner_ray.progress import duration

_MOST_COLUMNS, _UNITS_A_COLUMN = 40, 3


@dataclass(frozen=True)
class Driver:
    """One driver's units: seconds from its beginning to each one's publication, and rows."""

    finished: Sequence[tuple[float, int]]

    @property
    def seconds(self) -> float:
        return max((second for second, _ in self.finished), default=0.0)


def drivers(attempts: Sequence[tuple[float, Mapping[str, float]]], sizes: Mapping[str, int]) -> list[Driver]:
    """attempts: when each driver began, and unit -> when it was published (seconds since the epoch)."""
    return [
        Driver(sorted((max(0.0, time - began), sizes[unit]) for unit, time in parts.items() if unit in sizes))
        for began, parts in attempts
    ]


def throughput(found: Sequence[Driver]) -> Chart | None:
    """Rows a second over working time: the drivers one after the other, without the time between them.

    A unit counts where it was published, so a column is wide enough for some of them. None where no time passed.
    """
    found = [driver for driver in found if driver.seconds > 0]
    total = sum(driver.seconds for driver in found)
    n_units = sum(len(driver.finished) for driver in found)
    if not total:
        return None
    n_columns = min(_MOST_COLUMNS, max(1, n_units // _UNITS_A_COLUMN))
    scale, name = next(((s, n) for s, n in ((3600.0, "hours"), (60.0, "minutes")) if total > 2 * s), (1.0, "seconds"))
    rows, before, marks = [0.0] * n_columns, 0.0, []
    for number_of, driver in enumerate(found, start=1):
        if number_of > 1 and len(found) <= 20:
            marks.append((before / scale, f"driver {number_of}"))
        for second, size in driver.finished:
            rows[min(n_columns - 1, int((before + second) / total * n_columns))] += size
        before += driver.seconds
    width = total / n_columns
    edges = [n * width / scale for n in range(n_columns + 1)]
    texts = [
        f"{duration(n * width)} to {duration((n + 1) * width)}: {size / width:,.1f} rows/s"
        for n, size in enumerate(rows)
    ]
    made = sum(rows)
    summary = f"{made:,.0f} rows in {duration(total)}, {made / total:,.1f} rows/s, loading of models included"
    summary += f"; {len(found)} drivers, one after the other" if len(found) > 1 else ""
    if n_columns == 1:
        summary += f"; {number(n_units)} units are too few to say more"
    heights = [size / width for size in rows]
    title, x_title = "Throughput", f"working time, {name}"
    return columns(
        edges, heights, title=title, summary=summary, x_title=x_title, y_title="rows/s", texts=texts, marks=marks
    )
