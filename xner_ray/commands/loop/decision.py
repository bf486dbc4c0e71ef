"""What a loop decides after each round: which round is kept, and whether another one follows."""

from __future__ import annotations

from dataclasses import dataclass

from xner_ray.evaluate.bootstrap import Difference


@dataclass(frozen=True)
class Standing:
    """best: the round that is kept. without: rounds since then that gained nothing. stopped: no further one is made."""

    best: int = 0
    without: int = 0
    stopped: bool = False


def gained(change: Difference | None, held_out: Difference | None = None) -> bool:
    """Return whether a round gained on the one that is kept.

    change: of the expected F1, whose whole interval has to be above 0; None, or no interval, is no gain. held_out: of
    the agreement on held-out sentences, whose whole interval must not be below 0.
    """
    lost = held_out is not None and held_out.interval is not None and held_out.interval.high < 0
    return change is not None and change.interval is not None and change.interval.low > 0 and not lost


def after(
    standing: Standing, number: int, change: Difference | None, held_out: Difference | None = None, *, patience: int
) -> Standing:
    """Return the standing after a round. change, held_out: as of `gained`, against the round kept so far.

    A round that gained is kept, and never one that did not, so that no round loses by more than the interval misses.
    After `patience` rounds in a row without a gain no further one is made.

    >>> after(Standing(), 1, None, patience=1)
    Standing(best=0, without=1, stopped=True)
    """
    if gained(change, held_out):
        return Standing(best=number)
    return Standing(standing.best, standing.without + 1, standing.without + 1 >= patience)
