"""Which rejected rows of a run are tried again: planned first, due until their result is there, or given up.

The plan is in the run's record, so that a retry which was cut short, or whose result is lost, is made by the next
driver for the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from xner_ray.errors import Reason, RecipeError, did_you_mean
from xner_ray.run import whole
from xner_ray.run.counters import Report
from xner_ray.run.parts import PlannedUnit
from xner_ray.run.record import Retries

NONE = "none"  # in the place of reasons
Found = Mapping[str, Retries]  # by unit


class Folder(Protocol):
    """What is asked of a run folder (`folder.RunFolder`)."""

    def retries(self) -> dict[str, Retries]: ...
    def keep_retries(self, found: Found) -> None: ...
    def made_again(self) -> dict[str, int]: ...
    def next_number(self) -> int: ...
    def next_attempt(self) -> str: ...
    def unseal(self) -> None: ...


def asked(given: Collection[str] | str) -> tuple[list[str], bool]:
    """Return the reasons whose rows are to be tried again, and whether a retry that was begun is to be given up.

    RecipeError for a name that is no reason to reject a row, and for NONE beside reasons.
    """
    names = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    if NONE in names and len(names) > 1:
        raise RecipeError(f"retry_rejects: {NONE} gives up a retry, so it stands alone; leave out the reasons, or it")
    for name in names:
        if name != NONE and name not in set(Reason):
            raise RecipeError(
                f"retry_rejects: {name!r} is no reason to reject a row{did_you_mean(name, map(str, Reason))}"
            )
    return [name for name in names if name != NONE], NONE in names


def has_rejects(reasons: Collection[str]) -> Callable[[Report | Mapping[str, Any]], bool]:
    """Return a test of reports, and of counters: rows were rejected for one of `reasons`."""
    return lambda report: any(report["rejects"].get(reason) for reason in reasons)


def units_with(parts: Mapping[str, str], units: Iterable[PlannedUnit], reasons: Collection[str]) -> list[str]:
    """Return the names of the units with rows that were rejected for one of `reasons`. parts: their paths, by unit."""
    wanted = has_rejects(reasons)
    return [unit.name for unit in units if wanted(whole.counters(parts[unit.name]))]


def plan(folder: Folder, units: Iterable[str], reasons: Collection[str]) -> None:
    """Write down that the next attempt tries again what was rejected in units; the run is finished no more."""
    folder.unseal()
    folder.keep_retries(with_retry(folder.retries(), folder.next_number(), units, reasons))


def due(folder: Folder) -> dict[str, set[str]]:
    """Return the units whose rejects wait to be tried again, or whose result is gone, with the reasons."""
    return due_of(folder.retries(), folder.made_again())


def give_up(folder: Folder) -> list[str]:
    """Give up the retries that are due; return their units. Begins an attempt if there are any."""
    if dropped := list(due(folder)):
        folder.keep_retries(without_due(folder.retries(), folder.made_again()))
        folder.next_attempt()  # else the last driver's copy of the record would bring them back
    return dropped


def with_retry(found: Found, attempt: int, units: Iterable[str], reasons: Collection[str]) -> dict[str, Retries]:
    """Return the retries with another one of some units.

    >>> with_retry({"a": {"2": ["too_long"]}}, 3, ["a"], ["stage_error"])
    {'a': {'2': ['too_long'], '3': ['stage_error']}}
    """
    new = dict(found)
    for unit in units:
        tried = new.get(unit, {})
        new[unit] = {**tried, str(attempt): sorted({*tried.get(str(attempt), ()), *reasons})}
    return new


def due_of(found: Found, made: Mapping[str, int]) -> dict[str, set[str]]:
    """Return the units with a retry whose result is not there, and the reasons of these retries.

    made: the last attempt that made a unit again.

    >>> due_of({"a": {"2": ["too_long"], "3": ["stage_error"]}, "b": {"2": ["too_long"]}}, {"a": 2, "b": 5})
    {'a': {'stage_error'}}
    """
    lost = {
        unit: {reason for attempt, reasons in tried.items() if int(attempt) > made.get(unit, 0) for reason in reasons}
        for unit, tried in sorted(found.items())
    }
    return {unit: reasons for unit, reasons in lost.items() if reasons}


def without_due(found: Found, made: Mapping[str, int]) -> dict[str, Retries]:
    """Return the retries without a reason for those whose result is not there. made: as for `due_of`.

    >>> without_due({"a": {"2": ["too_long"], "3": ["stage_error"]}}, {"a": 2})
    {'a': {'2': ['too_long'], '3': []}}
    """
    return {
        unit: {attempt: reasons if int(attempt) <= made.get(unit, 0) else [] for attempt, reasons in tried.items()}
        for unit, tried in found.items()
    }
