"""Where the progress of a call from Python is shown."""

from __future__ import annotations

from rich.console import Console


def console_of(progress: bool | None) -> Console:
    """Return the console of a call. progress: whether it shows anything; None: where somebody looks.

    That is a notebook or a terminal, and no file or pipe, which a library does not write to unasked.
    """
    console = Console()
    watched = console.is_jupyter or console.is_terminal
    console.quiet = not (watched if progress is None else progress)
    return console
