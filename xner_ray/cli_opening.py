"""The first line of every command, written before anything heavy is imported: what begins, and with what.

It goes to standard error, so that the output of a command is what it was. With `--json` there is none.
"""

from __future__ import annotations

import sys
from typing import Any

from typer.core import TyperCommand


class Opening(TyperCommand):
    """A command that says at once that it begins."""

    def invoke(self, ctx: Any) -> Any:
        if not ctx.params.get("as_json"):
            print(opening(self, ctx.params), file=sys.stderr, flush=True)
        return super().invoke(ctx)


def opening(command: TyperCommand, values: dict[str, Any]) -> str:
    """Return the line of a command: its name, its arguments, and what it does by the first sentence of its help."""
    words = [command.name or ""]
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if parameter.param_type_name == "argument" and value is not None:
            words += [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]
    does = (command.help or "").split(".")[0].split(":")[0].replace("\n", " ").strip()
    return f"{' '.join(words)}: {does[:1].lower()}{does[1:]} ..."
