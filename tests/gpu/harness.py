"""Checks on a device, one after the other, in one report that a killed run leaves behind too.

A check yields figures. Each stands beside what it should be, and where that comes from; what the check raises becomes a
line of the report, and the next one runs. A check that no longer fits into the time of the whole is skipped.

Verdicts of a figure: `passed`; `off`, less than half of what was estimated or simulated, or more than twice the most;
`alarm`, a tenth or less, or ten times the most; `failed`, not what is required; `measured`, nothing to hold it against.
A check has the worst verdict of its figures, `failed` if it raised or overran, `skipped` if it did not begin.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

WORST_FIRST = ("failed", "alarm", "off", "running", "skipped", "passed", "measured")
BAD = ("failed", "alarm")
Kind = Literal["required", "estimated", "simulated"]


class NotHereError(Exception):
    """A check cannot run on this machine, and why."""


class OverrunError(BaseException):
    """A check is over its limit. No `Exception`, so that nothing takes it for the fault of a row."""


@dataclass(frozen=True)
class Expected:
    """A bound, and its source in words. at_least, or else at_most. said: of a range, or of what no number says."""

    bound: float
    kind: Kind
    source: str
    at_most: bool = False
    said: str = ""

    def verdict(self, value: float) -> str:
        if self.kind == "required":
            return "failed" if (value > self.bound if self.at_most else value < self.bound) else "passed"
        more, less = (self.bound, value) if self.at_most else (value, self.bound)
        return "passed" if 2 * more >= less else "alarm" if 10 * more <= less else "off"

    def __str__(self) -> str:
        text = self.said or f"at {'most' if self.at_most else 'least'} {number(self.bound)}"
        return f"{text} ({self.kind}: {self.source})"


@dataclass(frozen=True)
class Figure:
    """name: what was measured, with its unit. note: how, where the name does not say it."""

    name: str
    value: float | None
    expected: Expected | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "skipped"
        return self.expected.verdict(self.value) if self.expected else "measured"


@dataclass(frozen=True)
class Check:
    """A function that yields figures. limit_s: that it may take. needs: modules without which it cannot run."""

    name: str
    function: Callable[[Any], Iterator[Figure]]
    limit_s: float
    needs: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What became of a check. why: it was skipped, or failed; one line."""

    check: Check
    state: str = "running"
    why: str = ""
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.state != "done":
            return self.state
        found = {figure.verdict for figure in self.figures} - {"skipped"} or {"skipped"}
        return next(verdict for verdict in WORST_FIRST if verdict in found)


class Report:
    """report.md and report.json in a folder, written anew whenever something is known."""

    def __init__(self, folder: Path, title: str, machine: Mapping[str, str], limit_s: float) -> None:
        self.folder, self.title, self.machine, self.limit_s = folder, title, dict(machine), limit_s
        self.date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.outcomes: list[Outcome] = []
        folder.mkdir(parents=True, exist_ok=True)

    def write(self) -> None:
        for name, text in (("report.json", self.json()), ("report.md", self.markdown())):
            new = self.folder / f".{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(self.folder / name)

    def json(self) -> str:
        checks = [
            {
                "name": outcome.check.name,
                "verdict": outcome.verdict,
                "why": outcome.why,
                "seconds": round(outcome.seconds, 1),
                "limit_s": outcome.check.limit_s,
                "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in outcome.figures],
            }
            for outcome in self.outcomes
        ]
        head = {"title": self.title, "date": self.date, "machine": self.machine, "limit_s": self.limit_s}
        return json.dumps({**head, "checks": checks}, indent=1, ensure_ascii=False) + "\n"

    def markdown(self) -> str:
        seconds = sum(outcome.seconds for outcome in self.outcomes)
        verdicts = [outcome.verdict for outcome in self.outcomes]
        counts = ", ".join(f"{verdicts.count(name)} {name}" for name in WORST_FIRST if name in verdicts)
        lines = [
            f"# {self.title}",
            "",
            f"{self.date}. {seconds:.0f} of {self.limit_s:.0f} seconds. Checks: {counts or 'none yet'}.",
            "",
            *(f"- {_cell(key)}: {_cell(value)}" for key, value in self.machine.items()),
            "",
            "| check | verdict | seconds | why |",
            "|---|---|---|---|",
            *(f"| {o.check.name} | {o.verdict} | {o.seconds:.1f} | {_cell(o.why)} |" for o in self.outcomes),
            "",
            "| check | figure | value | expected | verdict |",
            "|---|---|---|---|---|",
        ]
        for outcome in self.outcomes:
            for figure in outcome.figures:
                name = f"{figure.name} ({figure.note})" if figure.note else figure.name
                expected = "" if figure.expected is None else str(figure.expected)
                cells = (outcome.check.name, name, number(figure.value), expected, figure.verdict)
                lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        return "\n".join(lines) + "\n"

    @property
    def bad(self) -> bool:
        return any(outcome.verdict in BAD for outcome in self.outcomes)


def _say(line: str) -> None:
    print(line, flush=True)


def run(
    checks: Sequence[Check],
    rig: Any,
    report: Report,
    *,
    spent_s: float = 0.0,
    say: Callable[[str], None] = _say,
    clean: Callable[[], None] = lambda: None,
) -> None:
    """Run checks until all are done or the time of the report is up. spent_s: of it. clean: called after each."""
    began = time.monotonic() - spent_s
    for check in checks:
        outcome = Outcome(check)
        report.outcomes.append(outcome)
        left = report.limit_s - (time.monotonic() - began)
        missing = [name for name in check.needs if importlib.util.find_spec(name) is None]
        if missing:
            outcome.state, outcome.why = "skipped", f"no module {', '.join(missing)} on this machine; install it"
        elif check.limit_s > left:
            outcome.state = "skipped"
            outcome.why = f"no time left: it may take {check.limit_s:.0f} s, and {max(0.0, left):.0f} s are left"
        else:
            report.write()  # a run that is killed here says where
            _one(check, rig, outcome)
            clean()
        report.write()
        say(f"{outcome.verdict:<9} {outcome.seconds:6.1f} s  {check.name}{': ' if outcome.why else ''}{outcome.why}")
        for figure in outcome.figures:
            say(
                f"  {figure.verdict:<9} {number(figure.value):>9}  {figure.name}; {figure.expected or 'no expectation'}"
            )


def _one(check: Check, rig: Any, outcome: Outcome) -> None:
    started = time.monotonic()
    try:
        with limited(check.limit_s):
            for figure in check.function(rig):
                outcome.figures.append(figure)
        outcome.state = "done"
    except NotHereError as error:
        outcome.state, outcome.why = ("done" if outcome.figures else "skipped"), one_line(str(error))
    except OverrunError:
        outcome.state, outcome.why = "failed", f"over its limit of {check.limit_s:g} s"
    except Exception as error:  # whatever a model, a library or a device raises
        outcome.state, outcome.why = "failed", one_line(f"{type(error).__name__}: {error}")
    outcome.seconds = time.monotonic() - started


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OverrunError in the block, of the main thread, after some seconds; a call in native code ends first."""

    def overrun(_number: int, _frame: FrameType | None) -> None:
        raise OverrunError

    before = signal.signal(signal.SIGALRM, overrun)
    started, (left, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # the timer of who called us, as pytest's
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - started)))


def number(value: float | None) -> str:
    """Return a figure with as many digits as are worth reading.

    >>> [number(value) for value in (None, 0.0, 1234.5, 12.345, 0.12345)]
    ['-', '0', '1,234', '12.3', '0.123']
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def one_line(text: str, most: int = 300) -> str:
    return " ".join(text.split())[:most]


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
