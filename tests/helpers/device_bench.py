"""What `bench_device.py` measures, of the code of any version: cases, shares of a device, CPU time by part.

Of xner_ray nothing is imported but the roofline, as in `simulated_times.py`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sample_text import SAMPLES, conll
from simulated_times import SimulatedDevice, align_seconds, translate_seconds, unlike

from xner_ray.sizing.roofline import DEVICES, MODELS

LANGS = ("eng_Latn", "spa_Latn")
TRANSLATE, HEALTH, WORDS = "tokenise, tensors, decode", "health", "words"
ENCODE, LINKS = "encoder's host part", "links (on a GPU: the device's)"
_NLLB, _ENCODER = "facebook/nllb-200-", "FacebookAI/xlm-roberta-large"


@dataclass(frozen=True)
class Case:
    """translate: seconds of a batch, by rows, width and steps, None where text is given; align: of a pass.

    encode: of a pass of the translator's encoder, by rows and width.
    """

    name: str
    translate: Callable[[int, int, int], float] | None
    align: Callable[[int, int], float]
    beams: int = 1
    encode: Callable[[int, int], float] = lambda rows, width: 0.0


def cases(gpu: str) -> list[Case]:
    """Return the cases on a GPU."""
    device = DEVICES[gpu]
    align = align_seconds(MODELS[_ENCODER], device, 16)

    def fixed(ms: float) -> Case:
        """Nine tenths of the time in the translator, the rest for both sides of a pair."""
        return Case(f"{ms:g} ms a row", lambda rows, *_: 0.9e-3 * ms * rows, lambda rows, _: 0.05e-3 * ms * rows)

    def nllb(size: str, name: str, beams: int) -> Case:
        model = MODELS[_NLLB + name]
        said = f"{size}{f', {beams} beams' if beams > 1 else ''}"
        encode = align_seconds(model, device, model.encoder_layers)
        return Case(said, translate_seconds(model, device, beams), align, beams, encode)

    kinds = (("600M", "distilled-600M", 1), ("600M", "distilled-600M", 4), ("3.3B", "3.3B", 1))
    return [fixed(4), fixed(1), *(nllb(*kind) for kind in kinds), Case("alignment alone", None, align)]


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
    """Of one case. busy: share of the time in which the device was. cpu_ms, parts: of the host, a row."""

    name: str
    workers: int
    busy: float
    rate: float
    cpu_ms: float
    parts: dict[str, float]

    def line(self, baseline: float) -> str:
        """Return the line of the table. baseline: rows a second."""
        said = f"{self.name:<18} {self.workers:>7} {self.busy:>6.1%} {self.rate:>8.0f} {self.rate / baseline:>6.2f}"
        parts = sorted(self.parts.items(), key=lambda pair: -pair[1])
        return f"{said}  {self.cpu_ms:.3f} ({', '.join(f'{name} {ms:.3f}' for name, ms in parts)})"


HEAD = f"{'case':<18} {'workers':>7} {'busy':>6} {'rows/s':>8} {'ratio':>6}  host CPU ms a row"


def texts(rows: int) -> tuple[list[str], list[str]]:
    """Return so many sentences and translations, no two alike."""
    sides = [[" ".join(each) for each in conll(SAMPLES / f"europarl.{name}.conll")] for name in ("en", "es")]
    source, target = (unlike(side, rows, seed) for seed, side in enumerate(sides))
    return source, target


Work = Callable[[Case, SimulatedDevice, Mapping[str, str], Sequence[Any], Parts], Callable[[], float]]


def measure(
    case: Case, units: Sequence[Any], answers: Mapping[str, str], n_rows: int, workers: int, work: Work
) -> Measured:
    """Run units through workers that share the device; each has a core's thread of its own.

    work: loads its stages, watches parts, and returns a function that runs the units and returns the CPU seconds that
    were the simulation's own.
    """
    device = SimulatedDevice()
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(workers + 1), context.Queue()

    def run(own: Sequence[Any]) -> None:
        torch.set_num_threads(1)
        parts = Parts()
        begin = work(case, device, answers, own, parts)
        parts.seconds.clear()
        ready.wait()
        started = time.process_time()
        simulated = begin()
        results.put({**parts.seconds, "all": time.process_time() - started - simulated})

    processes = [context.Process(target=run, args=(units[n::workers],)) for n in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    before, started = device.busy_s, time.perf_counter()
    found = [results.get() for _ in processes]
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    parts: Counter[str] = Counter()
    for each in found:
        parts.update(each)
    ms = 1e3 / n_rows
    cpu = parts.pop("all")
    parts["tables"] = cpu - sum(parts.values())
    cells = {name: value * ms for name, value in parts.items()}
    return Measured(case.name, workers, (device.busy_s - before) / seconds, n_rows / seconds, cpu * ms, cells)
