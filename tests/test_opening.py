"""Every command says at once what it begins: before NumPy, Arrow, Ray or torch are imported."""

import subprocess
import sys

import pytest
import typer

from xner_ray import cli

HEAVY = ("numpy", "pyarrow", "ray", "torch", "transformers")
_GROUP = typer.main.get_command(cli.app)
COMMANDS = sorted(_GROUP.commands)  # type: ignore[attr-defined]

# The first write to standard error is caught as it happens, with the modules that are there by then.
_CATCH = """
import sys

class Caught(Exception):
    pass

loaded = []

class First:
    def write(self, text):
        loaded.extend(sys.modules)
        raise Caught(text)
    def flush(self):
        pass
    def isatty(self):
        return False

import xner_ray.cli as cli
sys.stderr = First()
sys.argv[0] = "xner-ray"
try:
    cli.app(standalone_mode=False)
except Caught as caught:
    print(str(caught).strip())
    print(*loaded)
"""


def _arguments(name: str) -> list[str]:
    """Words for what a command has to be given; none of them is there."""
    command = _GROUP.commands[name]  # type: ignore[attr-defined]
    words = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument" and parameter.required:
            words += [f"none-{parameter.name}"] * (2 if parameter.nargs == -1 else 1)
        elif parameter.required:
            words += [parameter.opts[0], "none"]
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_speaks_before_it_imports_what_takes_seconds(name: str) -> None:
    command = [sys.executable, "-c", _CATCH, *_arguments(name)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    line, modules = ended.stdout.splitlines()
    assert line.startswith(f"{name}") and line.endswith(" ..."), line
    assert {*HEAVY} & {*modules.split()} == set()
