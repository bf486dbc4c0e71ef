"""Progress while it is made: live on a terminal and in a notebook, as lines in a log.

A log gets a line at most every `LOG_SECONDS` while there is something new, and one every `SILENT_SECONDS` otherwise, so
that what takes long is told from what hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from xner_ray.report.shown import Shown

LOG_SECONDS = 10.0
SILENT_SECONDS = 60.0
_REFRESH_SECONDS = 0.5


class Told(Protocol):
    """Progress as its driver tells it.

    line: for a log. table: for a screen. told: called after every change. ended: True once nothing will change.
    """

    told: Callable[[], None]

    @property
    def ended(self) -> bool: ...

    def line(self) -> str: ...

    def table(self) -> RenderableType: ...


@contextmanager
def live(progress: Told, console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Show progress for as long as the block runs."""
    if console.quiet:
        yield
    elif console.is_jupyter:
        with _in_notebook(progress):
            yield
    elif console.is_terminal:
        with Live(get_renderable=progress.table, console=console, refresh_per_second=1 / _REFRESH_SECONDS):
            yield
    else:
        with _in_log(progress, console, clock):
            yield


@contextmanager
def _in_log(progress: Told, console: Console, clock: Callable[[], float]) -> Iterator[None]:
    last = clock()
    lock = threading.Lock()

    def tell(least: float) -> None:
        nonlocal last
        with lock:
            if progress.ended or clock() - last >= least:
                last = clock()
                console.print(Text(progress.line()), soft_wrap=True)

    def in_silence() -> None:
        if not progress.ended:
            tell(SILENT_SECONDS)

    progress.told = lambda: tell(LOG_SECONDS)
    with _repeated(in_silence, 1.0):
        yield


@contextmanager
def _in_notebook(progress: Told) -> Iterator[None]:
    """Show the table in one output that is replaced, which needs no widgets."""
    from IPython.display import display

    handle: Any = display(Shown(progress.table()), display_id=True)

    def update() -> None:
        handle.update(Shown(progress.table()))

    with _repeated(update, _REFRESH_SECONDS):
        yield
    update()


@contextmanager
def _repeated(function: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function again and again in a thread of its own, for as long as the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            function()

    thread = threading.Thread(target=run, daemon=True, name="xner_ray progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
