"""The estimate of a run as a table, with where each rate comes from and what it is worth."""

from __future__ import annotations

from xner_ray.report.tables import Table
from xner_ray.sizing.estimate import Estimate
from xner_ray.sizing.rates import Rate


def estimate_table(found: Estimate) -> Table:
    """Return the rates by stage; below them what follows, or which rate is missing.

    `of one` is rows a second of one CPU thread or GPU, `by` their number; `hours` is what these take for the stage.
    """
    table = Table("Estimate", ["stage", "rate"], ["of one", "by", "rows/s", "hours"], notes=said(found))
    for line in found.lines:
        one = "GPU" if line.on_gpu else "CPU thread"
        if isinstance(line.rate, Rate):
            numbers = (line.rate.rows_per_s, line.wide, line.rows_per_s or 0.0, line.hours or 0.0)
            table.add_row(line.stage, f"{line.rate.kind}, {one}", *map(number, numbers))
        else:
            table.add_row(line.stage, "not known", "", number(line.wide), "", "")
    return table


def said(found: Estimate) -> list[str]:
    """Return the sentences below the table."""
    if found.hours is None:
        return [f"no estimate: {'; '.join(found.missing)}"]
    gpus = f", {number(found.gpu_hours)} GPU hours" if found.gpu_hours else ""
    cost = f", cost {found.cost:,.2f} ({found.priced})" if found.cost is not None else ""
    lines = [
        f"{found.rows:,} rows at {number(found.rows_per_s)} rows/s: {spell(found.hours)}{gpus}{cost}; it waits for "
        f"{found.bound}; loading models is not counted"
    ]
    rates = [(line.stage, line.rate) for line in found.lines if isinstance(line.rate, Rate)]
    lines += [f"rate of {stage}: {rate.kind}, {rate.said}" for stage, rate in rates]
    if "simulated" in found.kinds:
        lines.append("a simulated rate says what a device could do, and was never seen on one")
    return lines


def spell(hours: float) -> str:
    """Return a time in the unit that suits it.

    >>> spell(0.005), spell(0.5), spell(30)
    ('18 s', '30 minutes', '30 hours')
    """
    if hours < 1 / 30:
        return f"{number(hours * 3600)} s"
    return f"{number(hours * 60)} minutes" if hours < 2 else f"{number(hours)} hours"


def number(value: float) -> str:
    """Return a number with three digits, or all digits before the point.

    >>> number(15234.4), number(0.01234), number(8.0)
    ('15,234', '0.0123', '8')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
