"""What it costs to check a run before it is read: evaluate with and without, and the speed of the first check.

    python tests/bench/bench_verify.py [--rows 100000] [--rounds 5]

A run over given text and links is made in this process. Then `evaluate` is timed, in turn: checked as ever, every file
of it found whole before; and with the checks taken out, which is the baseline. The first check of all files, with
nothing remembered, is timed alone, in megabytes per second.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

import yaml

import xner_ray
from xner_ray.commands import inspect
from xner_ray.run import folder as run_folder
from xner_ray.run import repair, whole
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import damage

SENTENCE = ["Ada\tB-PER", "met\tO", "Bo\tB-PER", "in\tO", "the\tO", "old\tO", "town\tO", "of\tO", "Rome\tB-LOC", ".\tO"]
TARGET = ["In\tO", "der\tO", "Altstadt\tO", "von\tO", "Rom\tB-LOC", "traf\tO", "Ada\tB-PER", "Bo\tB-PER", ".\tO"]
LINKS = "0-6 1-5 2-7 3-0 4-1 5-2 6-2 7-3 8-4 9-8"


def made(folder: Path, rows: int) -> Path:
    """Make a run with gold labels in a folder; words are drawn from many, so that files are as large as real ones."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 12))) for _ in range(50_000)]
    for name, lines in {"in.conll": SENTENCE, "out.conll": TARGET}.items():
        tags = [line.partition("\t")[2] for line in lines]
        with open(folder / name, "w") as file:
            for _ in range(rows):
                file.write("\n".join(f"{rng.choice(words)}\t{tag}" for tag in tags) + "\n\n")
    (folder / "links.txt").write_text(f"{LINKS}\n" * rows)
    recipe = {
        "input": {"path": "in.conll", "parallel": {"deu_Latn": "out.conll"}, "links": "links.txt"},
        "targets": ["deu_Latn"],
        "align": {"backend": "provided"},
        "engine": {"executor": "inline"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    xner_ray.project(folder / "recipe.yaml", folder / "run")
    return folder / "run"


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["XNER_RAY_CACHE"] = f"{name}/cache"
        run = made(Path(name), given.rows)
        time.sleep(3)  # files that are younger are read each time
        folder = RunFolder(str(run))
        sealed = folder.require_sealed()
        parts = [path for path, _ in folder.files_made()]
        size = sum(os.path.getsize(path) for path in [*parts, *(run / entry["file"] for entry in sealed.files)])
        first = seconds(lambda: (whole.damaged(parts, summed=True), damage(folder.root, sealed.files)))
        print(f"first check: {size / 1e6:,.1f} MB in {first:.2f} s, {size / 1e6 / first:,.0f} MB/s")

        def evaluate() -> object:
            return inspect.evaluate(run, samples=0)

        def unchecked() -> object:
            with (
                mock.patch.object(whole, "damaged", return_value={}),
                mock.patch.object(repair, "missing", return_value={}),
                mock.patch.object(run_folder, "damage", return_value={}),
            ):
                return inspect.evaluate(run, samples=0)

        evaluate(), unchecked()
        times = [(seconds(evaluate), seconds(unchecked)) for _ in range(given.rounds)]
        checked, plain = (median(column) for column in zip(*times, strict=True))
        ratio = median(one / other for one, other in times)
        print(f"evaluate of {given.rows:,} rows: {checked:.3f} s checked, {plain:.3f} s unchecked, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
