"""The geometry of charts, from numbers; the template draws it as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xner_ray.evaluate.calibration import Calibration
from xner_ray.report.progress import duration

WIDTH, HEIGHT = 360, 170  # of a chart, in units of its view box
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 352, 10, 140  # of its plot
_MOST_COLUMNS = 32
_MOST_DRIVERS, _UNITS_A_COLUMN = 40, 3


@dataclass(frozen=True)
class Column:
    """A rectangle of the plot; `text` gives its range and its height."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point of the plot; `text` says where it is."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Columns or dots over a numeric axis. Ticks and marks are (position, text).

    line: a path to compare the dots with. only: the number that stands in the place of a single column or dot.
    """

    title: str
    summary: str  # for readers who cannot see the columns
    x_title: str
    y_title: str
    columns: Sequence[Column]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    dots: Sequence[Dot] = field(default_factory=tuple)
    line: str = ""
    only: str = ""
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def number(value: float) -> str:
    """Format a number for an axis.

    >>> [number(x) for x in (0, 0.25, 3, 1500, 25_000, 2_500_000)]
    ['0', '0.25', '3', '1,500', '25k', '2.5M']
    """
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(1e4, unit):
            return f"{value / unit:,.5g}{name}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def nice_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `most` steps.

    >>> nice_step(7, 4), nice_step(0.3, 4)
    (2.0, 0.1)
    """
    if span <= 0:
        return 1.0
    exponent = math.floor(math.log10(span / most))
    for power in (exponent, exponent + 1):
        for factor in (1, 2, 5):
            step = round(factor * 10.0**power, 12)
            if span / step <= most + 1e-9:
                return step
    return 10.0 ** (exponent + 2)


def reliability(lang: str, found: Calibration) -> Chart:
    """Draw the share of right entities against their mean score, a dot for each bin, beside the line of equality."""

    def across(share: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * share, 2)

    def up(share: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * share, 2)

    told = (
        ""
        if found.auroc is None
        else f"; right ones score higher than wrong ones in {100 * found.auroc:.0f} % of pairs"
    )
    return Chart(
        title=f"Reliability of scores, {lang}",
        summary=f"{found.entities:,} entities: mean score {found.score:.3f}, share in gold {found.right:.3f}, expected "
        f"calibration error {found.error:.3f}{told}",
        x_title="mean score",
        y_title="share in gold",
        columns=(),
        x_ticks=[(across(n / 5), f"{n / 5:g}") for n in range(6)],
        y_ticks=[(up(n / 4), f"{n / 4:g}") for n in range(5)],
        dots=[
            Dot(across(b.score), up(b.right), f"{b.entities:,.0f} entities: score {b.score:.3f}, in gold {b.right:.3f}")
            for b in found.bins
        ],
        line=f"M{across(0)} {up(0)}L{across(1)} {up(1)}",
        only=f"{found.right:.3f}" if len(found.bins) < 2 else "",
    )


def columns(
    edges: Sequence[float],
    heights: Sequence[float],
    *,
    title: str,
    summary: str,
    x_title: str,
    y_title: str,
    texts: Sequence[str],
    only: str,
    marks: Sequence[tuple[float, str]] = (),
) -> Chart:
    """Draw `heights` (0 or more) between neighbouring `edges` (ascending), each described by its text.

    only: the number that a single column is.
    """
    low, high = edges[0], edges[-1]
    step = nice_step(max(heights), 4)
    top = max(step, step * math.ceil(max(heights) / step - 1e-9))

    def across(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 2)

    def up(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * value / top, 2)

    drawn = [
        Column(
            across(left), up(height), round(max(0.5, across(right) - across(left) - 1), 2), _BOTTOM - up(height), text
        )
        for left, right, height, text in zip(edges, edges[1:], heights, texts, strict=False)
        if height > 0
    ]
    along = nice_step(high - low, 6)
    first = math.ceil(low / along - 1e-9)
    x_ticks = [n * along for n in range(first, first + 8) if n * along <= high + 1e-9 * along]
    return Chart(
        title=title,
        summary=summary,
        x_title=x_title,
        y_title=y_title,
        columns=drawn,
        x_ticks=[(across(value), number(round(value, 9))) for value in x_ticks],
        y_ticks=[(up(step * n), number(round(step * n, 9))) for n in range(round(top / step) + 1)],
        marks=[(across(value), text) for value, text in marks],
        only=only if len(drawn) < 2 else "",
    )


def median(counts: Mapping[int, int]) -> float:
    """Return the median of values by their counts, the lower one of two. ValueError without any value."""
    left = sum(counts.values()) / 2
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return float(value)
    raise ValueError("the median of nothing")


def histogram(
    counts: Mapping[int, int], *, title: str, x_title: str, what: str, unit: float = 1.0, tail: float = 0.005
) -> Chart | None:
    """Draw how often each value, a multiple of `unit`, occurs; None without any value. Many values share columns.

    The largest values, up to a share of `tail`, are together in the last column, so that one long sentence does not
    squeeze all others into one column.
    """
    total, beyond = sum(counts.values()), 0
    if not total:
        return None
    low, high, highest = min(counts), max(counts), max(counts)
    while high > low and beyond + counts.get(high, 0) <= tail * total:
        beyond += counts.get(high, 0)
        high -= 1
    width = max(1, round(nice_step((high - low + 1) * unit, _MOST_COLUMNS) / unit))
    first = low // width
    heights = [0.0] * (high // width - first + 1)
    for value, times in counts.items():
        heights[min(value, high) // width - first] += times
    edges = [round(((first + n) * width - 0.5) * unit, 9) for n in range(len(heights) + 1)]
    texts = []
    for n, height in enumerate(heights):
        least = (first + n) * width
        most = highest if beyond and n == len(heights) - 1 else least + width - 1
        ends = [number(round(value * unit, 9)) for value in sorted({least, most})]
        texts.append(f"{' to '.join(ends)}: {height:,.0f} {what}")
    summary = (
        f"{total:,} {what}; least {number(round(low * unit, 9))}, median {number(round(median(counts) * unit, 9))}, "
        f"most {number(round(highest * unit, 9))}"
    )
    if beyond:
        summary += f"; the last column holds all from {number(round((high // width) * width * unit, 9))} on"
    only = f"{x_title} {texts[0].partition(':')[0]}"
    return columns(edges, heights, title=title, summary=summary, x_title=x_title, y_title=what, texts=texts, only=only)


@dataclass(frozen=True)
class Driver:
    """One driver's units: the seconds from its start to each one's publication, and their rows."""

    finished: Sequence[tuple[float, int]]

    @property
    def seconds(self) -> float:
        return max((second for second, _ in self.finished), default=0.0)


def drivers(attempts: Sequence[tuple[float, Mapping[str, float]]], sizes: Mapping[str, int]) -> list[Driver]:
    """Return each driver's units. attempts: the times of each driver's start and of its units' publication."""
    return [
        Driver(sorted((max(0.0, time - began), sizes[unit]) for unit, time in parts.items() if unit in sizes))
        for began, parts in attempts
    ]


def throughput(found: Sequence[Driver], rate: float | None) -> Chart | None:
    """Draw rows per second over working time, driver after driver without the time between; None without any time.

    rate: rows a second as `run/pace.py` defines it; the columns have the time in which models were loaded besides.
    A unit counts at the time of its publication, so each column is wide enough for several units.
    """
    found = [driver for driver in found if driver.seconds > 0]
    total = sum(driver.seconds for driver in found)
    n_units = sum(len(driver.finished) for driver in found)
    if not total:
        return None
    n_columns = min(_MOST_DRIVERS, max(1, n_units // _UNITS_A_COLUMN))
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
    summary = f"{made:,.0f} rows in {duration(total)}, model loading included"
    summary += f"; {rate:,.1f} rows/s without it" if rate else ""
    summary += f"; {len(found)} drivers, one after the other" if len(found) > 1 else ""
    if n_columns == 1:
        summary += f"; {number(n_units)} {'unit is' if n_units == 1 else 'units are'} too few for a chart over time"
    heights = [size / width for size in rows]
    return columns(
        edges,
        heights,
        title="Throughput",
        summary=summary,
        x_title=f"working time, {name}",
        y_title="rows/s",
        texts=texts,
        only=f"{made / total:,.1f}",
        marks=marks,
    )
