"""Alignment of several target languages in one run against as many runs of one, on the built-in encoder.

    python tests/bench/bench_shared.py [--rows 399] [--targets 5]

The units of one range of rows in several languages have the same source sentences, which one worker reads once
(`engine/bundles.py`). Baseline: a new stage for each language. Prints the CPU time of a row and language, the ratio of
one run to the sum of the others, and whether all links are the same; exit status 1 if they are not. Target texts are
Spanish ones with words of two mixed: what is encoded is as long as real text, and nobody reads the links.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from made_rows import unit_tables  # noqa: E402
from sample_text import SAMPLES, conll  # noqa: E402
from simulated_times import unlike  # noqa: E402

from xner_ray.align.aligner import BatchAligner  # noqa: E402
from xner_ray.align.encoder import Encoder  # noqa: E402
from xner_ray.align.stage import AlignStage  # noqa: E402
from xner_ray.recipe.load import load_recipe  # noqa: E402

RECIPE = load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"]})
UNIT_ROWS = 133


def _stage() -> AlignStage:
    return AlignStage(RECIPE, BatchAligner(Encoder("builtin", threads=1)))


def _timed(stage: AlignStage, units: list[pa.Table]) -> tuple[float, list[pa.Table]]:
    """Return the CPU time of some units, and what came out."""
    started = time.process_time()
    found = [stage(unit) for unit in units]
    return time.process_time() - started, found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=399)
    parser.add_argument("--targets", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, target = ([" ".join(each) for each in conll(SAMPLES / f"europarl.{name}.conll")] for name in ("en", "es"))
    source = source[: options.rows]
    langs = [
        unit_tables(source, unlike(target, len(source), seed), UNIT_ROWS, ("eng_Latn", "spa_Latn"))
        for seed in range(options.targets)
    ]
    alone_s, alone = 0.0, []
    for units in langs:
        seconds, found = _timed(_stage(), units)
        alone_s += seconds
        alone.append(found)
    by_range = [unit for same in zip(*langs, strict=True) for unit in same]
    together_s, found = _timed(_stage(), by_range)
    expected = [unit for same in zip(*alone, strict=True) for unit in same]
    same = all(one.equals(other) for one, other in zip(found, expected, strict=True))
    cells = 1e3 / (len(source) * options.targets)
    print(f"{options.targets} runs of one target: {alone_s * cells:.2f} ms of CPU a row and language")
    print(f"one run of {options.targets} targets:  {together_s * cells:.2f} ms, ratio {together_s / alone_s:.2f}")
    print(f"links: {'the same' if same else 'NOT THE SAME'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
