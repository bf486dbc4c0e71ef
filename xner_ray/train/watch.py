"""The progress of a training as lines, for a terminal and a log alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from xner_ray.report.progress import LOG_SECONDS, duration

Say = Callable[[str], None]
FIRST_SECONDS = 1.0  # of training, until the first line with a rate


class Watch:
    """Counts steps, and says now and then how fast they are; the rate is that since the last line."""

    def __init__(
        self,
        say: Say,
        *,
        n_steps: int,
        epochs: int,
        sentences: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """n_steps, sentences: of an epoch. done: steps of an earlier process."""
        self._say, self._clock, self._n_steps, self._epochs = say, clock, n_steps, epochs
        self._per_step = sentences / n_steps
        self._step = self._told_step = done
        self._told, self._wait = clock(), FIRST_SECONDS
        self._losses: list[float] = []

    def stepped(self, loss: float) -> None:
        """Count a step."""
        self._step += 1
        self._losses.append(loss)
        passed = self._clock() - self._told
        if passed < self._wait:
            return
        rate = self._per_step * (self._step - self._told_step) / passed
        left = self._per_step * (self._n_steps * self._epochs - self._step) / rate
        epoch, step = divmod(self._step - 1, self._n_steps)
        loss = sum(self._losses) / len(self._losses)
        self._say(
            f"epoch {epoch + 1} of {self._epochs}, step {step + 1:,} of {self._n_steps:,}: loss {loss:.4f}, "
            f"{rate:,.0f} sentences/s, {duration(left)} left"
        )
        self._told, self._told_step, self._losses, self._wait = self._clock(), self._step, [], LOG_SECONDS

    def checkpoint(self, entry: dict[str, Any]) -> None:
        """Say what a checkpoint's entry in the history is; the time that it took is not the next steps'."""
        score = f", F1 of validation {100 * entry['f1']:.2f}" if "f1" in entry else ""
        self._say(f"epoch {entry['epoch']:g} of {self._epochs}: loss {entry['loss']:.4f}{score}")
        self._told, self._told_step, self._losses = self._clock(), self._step, []
