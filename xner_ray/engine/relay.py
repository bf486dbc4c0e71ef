"""Lines of progress from a process elsewhere to the driver, by an actor that loads no model code, which takes 10 s."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

_TOLD_SECONDS = 0.3  # between two looks for lines of progress


class Lines:
    """Lines of progress on their way from the first process to the driver; an actor."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        """Return the lines that have come since the last call."""
        found, self._lines = self._lines, []
        return found


@contextmanager
def relayed(say: Callable[[str], None]) -> Iterator[Any]:
    """Yield an actor, of `Lines`, whose lines are said in this process while the block runs."""
    actor: Any = ray.remote(num_cpus=0)(Lines)
    lines, ended = actor.remote(), threading.Event()

    def relay() -> None:
        last = False
        while not last:
            last = ended.wait(_TOLD_SECONDS)
            try:
                for line in ray.get(lines.take.remote(), timeout=60):
                    say(line)
            except ray.exceptions.RayError:  # its node is lost: the training goes on without a word
                say("the lines of progress are lost with a node; the training goes on")
                return

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join(timeout=5)
        ray.kill(lines)
