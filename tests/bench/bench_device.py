"""How busy a GPU is, and what a row costs its host: our host code around a simulated device.

    python tests/bench/bench_device.py [--rows 4096] [--gpu H100] [--workers 1 2]

The stages `translate` and `align` are the real ones, from a table of rows to a table of links; the models' steps take
the time of a roofline (`xner_ray/sizing/roofline.py`), or a fixed time a row, without holding the interpreter. What of
a real GPU is missing: see tests/helpers/simulated_device.py. Matching is not among the parts: another pool does it.

Baseline: one worker on the device, where it waits for all that the host does. With k workers (`gpus: 1/k`), one
prepares while another computes. Prints the share of time in which the device was busy, rows a second, their ratio to
the baseline, and the CPU time of a row on the host, by part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from made_rows import unit_tables  # noqa: E402
from sample_text import conll  # noqa: E402
from simulated_device import (  # noqa: E402
    SimulatedDevice,
    SimulatedEncoder,
    SimulatedNllb,
    align_seconds,
    translate_seconds,
    unlike,
)

from xner_ray.align import aligner as aligner_module  # noqa: E402
from xner_ray.align.aligner import BatchAligner  # noqa: E402
from xner_ray.align.stage import AlignStage  # noqa: E402
from xner_ray.data import words  # noqa: E402
from xner_ray.engine.envelope import pack, unpack  # noqa: E402
from xner_ray.engine.guard import run_stage  # noqa: E402
from xner_ray.models import windows  # noqa: E402
from xner_ray.recipe.load import load_recipe  # noqa: E402
from xner_ray.sizing.roofline import DEVICES, MODELS  # noqa: E402
from xner_ray.translate.stage import TranslateStage  # noqa: E402

DATA = ROOT / "jobs" / "data"
SOURCE, TARGET = "eng_Latn", "spa_Latn"
NLLB, ENCODER = "facebook/nllb-200-", "FacebookAI/xlm-roberta-large"


@dataclass(frozen=True)
class Case:
    """translate: seconds of a batch, by rows, width and steps, None where text is given; align: of a pass."""

    name: str
    translate: Callable[[int, int, int], float] | None
    align: Callable[[int, int], float]
    beams: int = 1


def cases(gpu: str) -> list[Case]:
    device = DEVICES[gpu]
    align = align_seconds(MODELS[ENCODER], device, 16)

    def fixed(ms: float) -> Case:
        """Nine tenths of the time in the translator, the rest for both sides of a pair."""
        return Case(f"{ms:g} ms a row", lambda rows, *_: 0.9e-3 * ms * rows, lambda rows, _: 0.05e-3 * ms * rows)

    return [
        fixed(4),
        fixed(1),
        *(
            Case(
                f"{size}{', 4 beams' if beams > 1 else ''}",
                translate_seconds(MODELS[NLLB + name], device, beams),
                align,
                beams,
            )
            for size, name, beams in (("600M", "distilled-600M", 1), ("600M", "distilled-600M", 4), ("3.3B", "3.3B", 1))
        ),
        Case("alignment alone", None, align),
    ]


class Parts:
    """CPU time by part of the host's work."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def watch(self, owner: Any, name: str, part: str, inner: Callable[[], float] = lambda: 0.0) -> None:
        """Count the time of a function, without what `inner` says passed in the simulation meanwhile."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            started, before = time.process_time(), inner()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.process_time() - started - (inner() - before)

        setattr(owner, name, watched)


@dataclass
class Measured:
    seconds: float
    busy: float
    cpu_ms: float
    parts: dict[str, float]


def measure(case: Case, source: list[str], target: list[str], workers: int, unit_rows: int) -> Measured:
    """Run the units through workers that share the device; each has a core's thread of its own."""
    device = SimulatedDevice()
    given = unit_tables(source, None if case.translate else target, unit_rows, (SOURCE, TARGET))
    answers = dict(zip(source, target, strict=True)) if case.translate else {}
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(workers + 1), context.Queue()
    own = [
        context.Process(target=_work, args=(case, device, answers, given[n::workers], ready, results))
        for n in range(workers)
    ]
    for process in own:
        process.start()
    ready.wait()
    before, started = device.busy_s, time.perf_counter()
    found = [results.get() for _ in own]
    seconds = time.perf_counter() - started
    for process in own:
        process.join()
    parts: Counter[str] = Counter()
    for each in found:
        parts.update(each)
    total = 1e3 / len(source)
    cpu = parts.pop("all")
    parts["tables"] = cpu - sum(parts.values())
    return Measured(seconds, (device.busy_s - before) / seconds, cpu * total, {k: v * total for k, v in parts.items()})


def _work(
    case: Case, device: SimulatedDevice, answers: dict[str, str], units: list[pa.Table], ready: Any, results: Any
) -> None:
    torch.set_num_threads(1)
    windows.CPU_TOKENS = 1 << 16  # the bound of a CPU's cache is none of a GPU's
    parts = Parts()
    recipe = load_recipe({"input": {"path": "a.conll"}, "targets": [TARGET]})
    encoder = SimulatedEncoder(device, case.align)
    stages: list[Any] = [AlignStage(recipe, BatchAligner(encoder))]
    translator = None
    if case.translate:
        translator = SimulatedNllb(device, answers, (SOURCE, TARGET), case.translate, case.beams)
        stages.insert(0, TranslateStage(recipe, translator))
        parts.watch(translator, "translate", "tokenise, tensors, decode", lambda: translator.simulation_s)
        parts.watch(stages[0].checker, "examine", "health")
    parts.watch(words, "split", "words")
    parts.watch(encoder, "encode", "encoder's host part", lambda: encoder.simulation_s)
    parts.watch(aligner_module, "align_sides", "links (on a GPU: the device's)")
    ready.wait()
    started = time.process_time()
    for number, table in enumerate(units):
        ((name, table, counted),) = unpack(pack(f"spa_Latn-{number:012d}", table, {}))
        for stage in stages:
            table, _ = run_stage(stage, table)
        pack(name, table, counted)
    simulated = encoder.simulation_s + (translator.simulation_s if translator else 0.0)
    results.put({**parts.seconds, "all": time.process_time() - started - simulated})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--unit-rows", type=int, default=1024)
    parser.add_argument("--gpu", choices=sorted(DEVICES), default="H100")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    sides = [[" ".join(each) for each in conll(DATA / f"europarl.{name}.conll")] for name in ("en", "es")]
    source, target = (unlike(side, options.rows, seed) for seed, side in enumerate(sides))
    print(f"{options.rows:,} rows in units of {options.unit_rows:,}; simulated {options.gpu}\n")
    print(f"{'case':<18} {'workers':>7} {'busy':>6} {'rows/s':>8} {'ratio':>6}  host CPU ms a row")
    for case in cases(options.gpu):
        baseline = None
        for workers in options.workers:
            found = measure(case, source, target, workers, options.unit_rows)
            rate = options.rows / found.seconds
            baseline = baseline or rate
            said = f"{case.name:<18} {workers:>7} {found.busy:>6.1%} {rate:>8.0f} {rate / baseline:>6.2f}"
            parts = sorted(found.parts.items(), key=lambda pair: -pair[1])
            print(f"{said}  {found.cpu_ms:.3f} ({', '.join(f'{name} {ms:.3f}' for name, ms in parts)})")


if __name__ == "__main__":
    main()
