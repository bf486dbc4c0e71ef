"""Seconds inside a model, as wall time around its calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timed:
    """What has a model: `model_seconds` adds up the wall time of `with self.in_model():`, of failed calls too.

    On a GPU a block holds the transfer of its results to the host: without it, a call only queues work.
    """

    model_seconds: float = 0.0

    @contextmanager
    def in_model(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.model_seconds += time.perf_counter() - started
