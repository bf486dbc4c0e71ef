"""What a command shows, wherever a value is looked at: in a terminal, a notebook, by `print` and at a prompt."""

from __future__ import annotations

import io

from rich.console import Console, Group, RenderableType
from rich.jupyter import JupyterMixin

_COLUMNS = 100  # of text where no terminal says how wide it is


class Displayed(JupyterMixin):
    """A value that rich can render: notebooks, `print` and prompts show what a terminal shows.

    A class that has `__rich__` or `__rich_console__` inherits it.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return text_of(self)  # type: ignore[arg-type]  # the class that inherits can be rendered

    def __repr__(self) -> str:
        return str(self)


class Shown(Displayed, Group):
    """Lines and tables, one under the other."""


def text_of(shown: RenderableType, *, columns: int = _COLUMNS) -> str:
    """Return what a terminal of so many columns shows, as plain text without a line break at its end.

    >>> text_of(Shown("a", "b"))
    'a\\nb'
    """
    sink = io.StringIO()
    console = Console(file=sink, width=columns, color_system=None, force_jupyter=False, force_terminal=False)
    console.print(shown)
    lines = (line.rstrip() for line in sink.getvalue().splitlines())
    return "\n".join(lines).rstrip("\n")
