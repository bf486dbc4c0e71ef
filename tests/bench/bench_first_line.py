"""Seconds to the first line of every command, its output a pipe, against the seconds that Python itself takes.

    python tests/bench/bench_first_line.py

And the seconds to a projected sentence in Python, in a cold process: text given, built-in encoder; best of three.
"""

import subprocess
import sys
import time

import typer

from xner_ray import cli

SENTENCE = (
    "import xner_ray; rows = xner_ray.Projector().project(['Nora lives in Paris.'], "
    "parallel={'spa_Latn': ['Nora vive en París.']}); assert rows[0]['spans']"
)


def first_line(command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as started:
        assert started.stdout is not None and started.stdout.readline()
        took = time.perf_counter() - began
        started.stdout.read()
    return took


def main() -> None:
    bare = min(first_line([sys.executable, "-c", "print(1)"]) for _ in range(3))
    print(f"python itself       {bare:.2f} s")
    group = typer.main.get_command(cli.app)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        words = ["none"] * sum(one.required for one in command.params if one.param_type_name == "argument")
        words += [
            word
            for one in command.params
            if one.param_type_name != "argument" and one.required
            for word in (one.opts[0], "none")
        ]
        took = min(first_line([sys.executable, "-m", "xner_ray", name, *words]) for _ in range(3))
        print(f"{name:<18}  {took:.2f} s, {took / bare:.0f} times")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", SENTENCE], check=True)
        times.append(time.perf_counter() - began)
    print(f"a sentence, cold    {min(times):.1f} s, {min(times) / bare:.0f} times")


if __name__ == "__main__":
    main()
