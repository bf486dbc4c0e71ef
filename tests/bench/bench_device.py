"""How busy a GPU is, and what a row costs its host: our host code around a simulated device.

    python tests/bench/bench_device.py [--rows 4096] [--gpu H100] [--workers 1 2] [--before CHECKOUT]

The stages `translate` and `align` are the real ones, from a table of rows to a table of links; the models' steps take
the time of a roofline (`xner_ray/sizing/roofline.py`), or a fixed time a row, without holding the interpreter. What of
a real GPU is missing: see tests/helpers/simulated_device.py. Matching is not among the parts: another pool does it.

Baseline: one worker on the device, where it waits for all that the host does. With k workers (`gpus: 1/k`), one
prepares while another computes. Prints the share of time in which the device was busy, rows a second, their ratio to
the baseline, and the CPU time of a row on the host, by part. before: a checkout of commit 852dcb8 (`git worktree add`),
whose stages run each case right before ours do; then the ratios are to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

import device_bench as bench  # noqa: E402
from made_rows import unit_tables  # noqa: E402
from simulated_device import SimulatedEncoder, SimulatedNllb  # noqa: E402
from simulated_times import SimulatedDevice  # noqa: E402

from xner_ray.align import aligner as aligner_module  # noqa: E402
from xner_ray.align.aligner import BatchAligner  # noqa: E402
from xner_ray.align.stage import AlignStage  # noqa: E402
from xner_ray.data import words  # noqa: E402
from xner_ray.engine.envelope import pack, unpack  # noqa: E402
from xner_ray.engine.guard import run_stage  # noqa: E402
from xner_ray.models import windows  # noqa: E402
from xner_ray.recipe.load import load_recipe  # noqa: E402
from xner_ray.sizing.roofline import DEVICES  # noqa: E402
from xner_ray.translate.stage import TranslateStage  # noqa: E402

BEFORE = Path(__file__).with_name("bench_device_before.py")


def work(
    case: bench.Case, device: SimulatedDevice, answers: Mapping[str, str], units: Sequence[Any], parts: bench.Parts
) -> Callable[[], float]:
    """Load the stages of one worker; see `device_bench.measure`."""
    windows.CPU_TOKENS = 1 << 16  # the bound of a CPU's cache is none of a GPU's
    recipe = load_recipe({"input": {"path": "a.conll"}, "targets": [bench.LANGS[1]]})
    encoder = SimulatedEncoder(device, case.align)
    stages: list[Any] = [AlignStage(recipe, BatchAligner(encoder))]
    translator: SimulatedNllb | None = None
    if case.translate:
        translator = SimulatedNllb(device, answers, bench.LANGS, case.translate, case.beams)
        stages.insert(0, TranslateStage(recipe, translator))
        parts.watch(translator, "translate", bench.TRANSLATE, lambda: translator.simulation_s)
        parts.watch(stages[0].checker, "examine", bench.HEALTH)
    parts.watch(words, "split", bench.WORDS)
    parts.watch(encoder, "encode", bench.ENCODE, lambda: encoder.simulation_s)
    parts.watch(aligner_module, "align_sides", bench.LINKS)

    def run() -> float:
        for number, table in enumerate(units):
            ((name, found, counted),) = unpack(pack(f"spa_Latn-{number:012d}", table, {}))
            for stage in stages:
                found, _ = run_stage(stage, found)
            pack(name, found, counted)
        return encoder.simulation_s + (translator.simulation_s if translator else 0.0)

    return run


def _before(checkout: str, number: int, options: argparse.Namespace) -> bench.Measured:
    """Run a case by the code of another checkout, one worker."""
    command = [sys.executable, str(BEFORE), checkout, str(number), str(options.rows), str(options.unit_rows)]
    done = subprocess.run(
        [*command, options.gpu], env={**os.environ, "PYTHONPATH": ""}, check=True, stdout=subprocess.PIPE, text=True
    )
    return bench.Measured(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--unit-rows", type=int, default=1024)
    parser.add_argument("--gpu", choices=sorted(DEVICES), default="H100")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--before", metavar="CHECKOUT")
    options = parser.parse_args()
    source, target = bench.texts(options.rows)
    print(f"{options.rows:,} rows in units of {options.unit_rows:,}; simulated {options.gpu}\n")
    print(bench.HEAD)
    for number, case in enumerate(bench.cases(options.gpu)):
        old = _before(options.before, number, options) if options.before else None
        if old is not None:
            print(old.line(old.rate) + "  before", flush=True)
        baseline = None if old is None else old.rate
        units = unit_tables(source, None if case.translate else target, options.unit_rows, bench.LANGS)
        answers = dict(zip(source, target, strict=True)) if case.translate else {}
        for workers in options.workers:
            found = bench.measure(case, units, answers, options.rows, workers, work)
            baseline = baseline or found.rate
            host = "" if old is None else f"; host {_own(found) / _own(old):.2f} of before, links apart"
            print(found.line(baseline) + host, flush=True)


def _own(found: bench.Measured) -> float:
    """Return the host's CPU ms of a row without links, which a GPU computes."""
    return found.cpu_ms - found.parts[bench.LINKS]


if __name__ == "__main__":
    main()
