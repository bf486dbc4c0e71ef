"""What a command shows, wherever a value is looked at: in a terminal, a notebook, by `print` and at a prompt."""

from __future__ import annotations

import io
import re

from rich.console import Console, Group, RenderableType
from rich.jupyter import JupyterMixin

# Controls, also those that change the direction of the text around them, and halves of surrogate pairs
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
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


def plain(text: str) -> str:
    """Return a text with U+FFFD for what a terminal would obey or could not show.

    >>> plain("a\\x1b[1m\\tb\\u202e")
    'a\ufffd[1m\\tb\ufffd'
    """
    return _UNSHOWN.sub("\ufffd", text)
