"""Which rejected rows of a run are tried again: planned first, due until their result is there, or given up.

The plan is in the run's record, so that a retry which was cut short, or whose result is lost, is made by the next
driver for the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from xner_ray.run.record import Retries

Found = Mapping[str, Retries]  # by unit


class Folder(Protocol):
    """What is asked of a run folder (`folder.RunFolder`)."""

    def retries(self) -> dict[str, Retries]: ...
    def keep_retries(self, found: Found) -> None: ...
    def made_again(self) -> dict[str, int]: ...
    def next_number(self) -> int: ...
    def next_attempt(self) -> str: ...
    def unseal(self) -> None: ...


def plan(folder: Folder, units: Iterable[str], reasons: Collection[str]) -> None:
    """Write down that the next attempt tries again what was rejected in units; the run is finished no more."""
    folder.unseal()
    folder.keep_retries(with_retry(folder.retries(), folder.next_number(), units, reasons))


def due(folder: Folder) -> dict[str, set[str]]:
    """Return the units whose rejects wait to be tried again, or whose result is gone, with the reasons."""
    return due_of(folder.retries(), folder.made_again())


def give_up(folder: Folder) -> list[str]:
    """Forget the retries that are due; return their units. Begins an attempt if there are any."""
    if dropped := list(due(folder)):
        folder.unseal()
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
    """Return the retries without those whose result is not there. made: as for `due_of`.

    >>> without_due({"a": {"2": ["too_long"], "3": ["stage_error"]}, "b": {"2": ["too_long"]}}, {"a": 2})
    {'a': {'2': ['too_long']}}
    """
    kept = {
        unit: {attempt: reasons for attempt, reasons in tried.items() if int(attempt) <= made.get(unit, 0)}
        for unit, tried in found.items()
    }
    return {unit: tried for unit, tried in kept.items() if tried}
