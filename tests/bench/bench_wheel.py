"""Seconds from the wheel in an empty environment: a projected sentence in Python, and ten by the command line.

    python tests/bench/bench_wheel.py [FOLDER]

Each in a cold process, best of three, beside a bare start of Python in the same environment. FOLDER keeps the
environment, so that a second call only measures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SENTENCE = (
    "import xner_ray; rows = xner_ray.Projector().project(['Nora lives in Paris.'], "
    "parallel={'spa_Latn': ['Nora vive en París.']}); assert rows[0]['spans']; print(xner_ray.__file__)"
)


def made(folder: Path) -> Path:
    """Return the folder of programs of an environment with the wheel, made if it is not there."""
    programs = folder / "environment/bin"
    if not (programs / "xner-ray").exists():
        build = folder / "build/bin"
        pip = ["install", "--quiet", "--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
        for each in ("build", "environment"):
            subprocess.run([sys.executable, "-m", "venv", folder / each], check=True)
        subprocess.run([build / "pip", "install", "--quiet", "hatchling>=1.27"], check=True)
        subprocess.run([build / "hatchling", "build", "-t", "wheel", "-d", folder / "dist"], cwd=ROOT, check=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        subprocess.run([programs / "pip", *pip, "torch"], check=True)
        subprocess.run([programs / "pip", *pip, f"{wheel}[builtin]"], check=True)
    return programs


def best(command: list[str | Path], folder: Path, times: int = 3) -> float:
    """Return the seconds of the fastest of some calls, each in a folder of its own. RuntimeError if one fails."""
    found = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for number in range(times):
        own = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=folder))
        began = time.perf_counter()
        done = subprocess.run([str(part) for part in command], cwd=own, env=environment, capture_output=True, text=True)
        found.append(time.perf_counter() - began)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr[-2000:]}")
    return min(found)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="xner-wheel-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    programs = made(folder)
    bare = best([programs / "python", "-c", "print(1)"], folder)
    command: list[str | Path] = [programs / "xner-ray", "project", ROOT / "jobs/quickstart.yaml", "run"]
    print(f"python itself              {bare:.2f} s")
    for what, words in (
        ("a sentence in Python", [programs / "python", "-c", SENTENCE]),
        ("ten sentences by command", [*command, "--set", "input.limit=10"]),
    ):
        took = best(words, folder)
        print(f"{what:<25}  {took:.1f} s, {took / bare:.0f} times")


if __name__ == "__main__":
    main()
