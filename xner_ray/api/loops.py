"""The function `xner_ray.loop`: the command `loop`, given the command `train`, on which it does not stand itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console

from xner_ray import defaults
from xner_ray.commands.loop import command
from xner_ray.commands.loop.report import Looped
from xner_ray.commands.train import train


def loop(
    source: str | os.PathLike[str],
    runs: str | os.PathLike[str],
    *,
    rounds: int | None = None,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    samples: int = defaults.PAIRED_SAMPLES,
    seed: int = 0,
    console: Console | None = None,
) -> Looped:
    """Project, train students on it, project again with their labels, round by round, until nothing is gained.

    See `commands.loop.command.loop`. The result's `best_run` is the folder of the run to keep, `rounds` the figures.
    """
    return command.loop(
        source,
        runs,
        train=train,
        rounds=rounds,
        overrides=overrides,
        fresh=fresh,
        samples=samples,
        seed=seed,
        console=console,
    )
