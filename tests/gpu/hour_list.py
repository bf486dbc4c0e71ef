"""The checks of `make gpu`: those of the short list on published models, then whole runs as a user starts them.

Models come from the hub, or from a folder with OWNER/NAME for each. Whole runs are processes of their own, with Ray.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml
from harness import Check, Expected, Figure, NotHereError, one_line
from published import digests
from rig import SOURCE, TARGET, Rig, Sizes
from short_list import (
    HOUR,
    device,
    equal_output,
    links,
    memory,
    number_formats,
    scoring,
    texts_of,
    throughput,
    timed,
)

ROOT = Path(__file__).parents[2]
NLLB, LARGE_NLLB = "facebook/nllb-200-distilled-600M", "facebook/nllb-200-3.3B"
ENCODER, TAGGER = "google-bert/bert-base-multilingual-cased", "FacebookAI/xlm-roberta-large-finetuned-conll03-english"
# 799 rows each: as many units as languages, so that each of four workers has four
TARGETS = (
    *("swh_Latn", "hau_Latn", "yor_Latn", "ibo_Latn", "zul_Latn", "xho_Latn", "kin_Latn", "lug_Latn"),
    *("spa_Latn", "fra_Latn", "deu_Latn", "tur_Latn", "ind_Latn", "vie_Latn", "rus_Cyrl", "arb_Arab"),
)
_LARGE_GB = 16.0  # free memory that NLLB 3.3B wants, in 16 bits with its batches
_WORKER_BYTES = 12e9  # of a device, for a worker of jobs/nllb.yaml
_WORKER = "MapWorker"  # in the title of a process of Ray's that has our stages


@dataclass(frozen=True)
class Runs:
    """Whole runs. shared: `settings` for several workers on the device. chain: of the recipe of the paper's chain."""

    recipe: Path
    settings: tuple[str, ...]
    shared: tuple[str, ...]
    chain: Mapping[str, Any]
    chain_settings: tuple[str, ...]


class Hour(Rig):
    """A rig with whole runs in a folder; `digests` of the first of them are what others must give too."""

    def __init__(self, machine: Any, sizes: Sizes, runs: Runs, **models: Any) -> None:
        super().__init__(machine, sizes, **models)
        self.runs = runs
        self.expected: dict[str, str] | None = None
        self.rate: float | None = None

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)


def rig_of(machine: Any, models: Path | None) -> Hour:
    """Return the rig of a machine with a GPU. models: a folder in the place of the hub."""

    def name(model: str) -> str:
        return model if models is None else str((models / model).resolve())

    aligning = f"align.encoder={name(ENCODER)}"
    settings = (f"translate.model={name(NLLB)}", aligning, f"targets=[{', '.join(TARGETS)}]")

    def workers(number: int) -> list[str]:
        keys = (f"gpus={1 / number:g}", f"workers={number}")
        return [f"{stage}.{key}" for stage in ("translate", "align") for key in keys]

    chain = (f"translate.model={name(LARGE_NLLB)}", f"tag.model={name(TAGGER)}", aligning)
    one, several = ((*settings, *workers(number)) for number in (1, sharing(machine.free_bytes())))
    runs = Runs(ROOT / "jobs/nllb.yaml", one, several, chain_recipe(), chain)
    return Hour(machine, Sizes(), runs, translator=name(NLLB), encoder=name(ENCODER))


def sharing(free_bytes: int) -> int:
    """Return how many workers share a device of so much memory: with less each, batches shrink, and bytes change."""
    return max(2, min(4, int(free_bytes / _WORKER_BYTES)))


def chain_recipe() -> dict[str, Any]:
    """Return the paper's chain, jobs/xtreme_nllb.yaml, over the Spanish sentences that are here."""
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "jobs/xtreme_nllb.yaml").read_text("utf-8"))
    given = {"path": str(ROOT / "jobs/data/europarl.es.conll"), "lang": TARGET, "labels": recipe["input"]["labels"]}
    return {**recipe, "input": given, "source_lang": SOURCE}


def as_published(rig: Hour) -> Iterator[Figure]:
    """Load NLLB as it is published: pickled weights are fetched, and converted once a machine."""
    started = time.perf_counter()
    translator = rig.translator()
    yield Figure("seconds to fetch, convert and load", time.perf_counter() - started)
    parameters = sum(each.numel() for each in translator.model.parameters())
    yield Figure("millions of parameters", parameters / 1e6)
    (text,) = texts_of(translator.translate(["The president lives in Paris."], SOURCE, TARGET))
    says = float("par" in text.casefold() and "president" in text.casefold())
    yield Figure("the first sentence is translated", says, Expected(1, "required", "a look"), text)


def ctranslate2(rig: Hour) -> Iterator[Figure]:
    from xner_ray.recipe.sections import Translate
    from xner_ray.translate.ct2 import Ct2Translator

    few = rig.english[: rig.sizes.few]
    ours = rig.translator()
    ours.translate(few[:32], SOURCE, TARGET)
    seconds, _ = timed(rig, partial(ours.translate, rig.english, SOURCE, TARGET))
    before = texts_of(ours.translate(few, SOURCE, TARGET))
    del ours  # two models at a time may be too many
    rig.machine.clear()
    section = Translate(engine="ctranslate2", model=rig.translator_model, gpus=rig.machine.gpus)
    translator = Ct2Translator(section)
    translator.translate(few[:32], SOURCE, TARGET)
    own, share = timed(rig, lambda: translator.translate(rig.english, SOURCE, TARGET))
    yield Figure("engine ctranslate2, rows/s", len(rig.english) / own)
    yield Figure("busy share", share)
    several = Expected(3, "estimated", HOUR, said="several times")
    yield Figure("ctranslate2, times nllb", seconds / own, several)
    after = texts_of(translator.translate(few, SOURCE, TARGET))
    same = sum(a == b for a, b in zip(before, after, strict=True)) / len(few)
    yield Figure("share of rows with the text of nllb", same, Expected(0.9, "estimated", "two engines in float16"))


def whole_run(rig: Hour) -> Iterator[Figure]:
    run = rig.folder / "one"
    _, share = timed(rig, lambda: _project(rig.runs.recipe, run, rig.runs.settings))
    rig.expected = digests(run)
    yield from _of_run(rig, run, share, Expected(60, "estimated", HOUR, said="60 to 170"), _sm())
    rig.rate = _rate(run)


def several_workers(rig: Hour) -> Iterator[Figure]:
    if rig.expected is None or rig.rate is None:
        raise NotHereError("the whole run with one worker did not end")
    run = rig.folder / "four"
    _, share = timed(rig, lambda: _project(rig.runs.recipe, run, rig.runs.shared))
    yield from _of_run(rig, run, share, None, None)
    times = Expected(2, "estimated", HOUR, said="2 to 3 with four workers a GPU")
    yield Figure("times one worker", _rate(run) / rig.rate, times, "whole runs, their start included")
    yield _same(rig, run)


def killed_worker(rig: Hour) -> Iterator[Figure]:
    """Kill the worker that holds the models, once it has done a unit."""
    if rig.expected is None:
        raise NotHereError("the whole run with one worker did not end")
    run, killed = rig.folder / "killed", 0
    with _started(rig.runs.recipe, run, rig.runs.settings) as driver:
        while driver.poll() is None:
            time.sleep(0.05)
            if killed or not any(run.glob("_run/parts/*/*.parquet")):
                continue
            for process in _workers(driver.pid):
                with suppress(psutil.Error):
                    process.kill()
                    killed += 1
        _must_end_well(driver, run)
    yield Figure("workers killed", killed, Expected(1, "required", "the check itself"))
    yield _same(rig, run)


def paper_chain(rig: Hour) -> Iterator[Figure]:
    if rig.machine.kind == "cuda" and (free := rig.machine.free_bytes() / 1e9) < _LARGE_GB:
        raise NotHereError(f"NLLB 3.3B wants {_LARGE_GB:g} GB of the device, and {free:.0f} are free")
    run, recipe = rig.folder / "chain", rig.folder / "chain.yaml"
    recipe.write_text(yaml.safe_dump(dict(rig.runs.chain)), encoding="utf-8")
    _, share = timed(rig, lambda: _project(recipe, run, rig.runs.chain_settings))
    yield from _of_run(rig, run, share, Expected(30, "estimated", HOUR, said="30 to 60"), None, "translate")


def _of_run(
    rig: Hour, run: Path, share: float | None, rate: Expected | None, busy: Expected | None, stage: str = ""
) -> Iterator[Figure]:
    report = json.loads((run / "report.json").read_text("utf-8"))
    rows = report["rows"]
    yield Figure("rows", rows["read"])
    yield Figure("rows/s of the whole, start and loading included", _rate(run), None if stage else rate)
    if stage:
        # Models that are fetched, converted and loaded first would hide what a row takes
        yield Figure(f"rows/s of {stage}, a worker", report["stages"][stage]["rows_per_second"], rate)
    yield Figure("share of rows rejected", report["reject_rate"])
    yield Figure("busy share", share, busy)


def _rate(run: Path) -> float:
    report = json.loads((run / "report.json").read_text("utf-8"))
    return float(report["rows"]["read"]) / max(1e-9, float(report["seconds"]))


def _same(rig: Hour, run: Path) -> Figure:
    found, expected = digests(run), rig.expected or {}
    names = found.keys() | expected.keys()
    same = sum(found.get(name) == expected.get(name) for name in names) / max(1, len(names))
    return Figure("share of files with the same bytes", same, Expected(1, "required", HOUR, said="the same bytes"))


def _sm() -> Expected:
    return Expected(0.1, "estimated", HOUR, said="0.1 to 0.35")


def _project(recipe: Path, run: Path, settings: Sequence[str]) -> None:
    with _started(recipe, run, settings) as driver:
        driver.wait()
        _must_end_well(driver, run)


def _must_end_well(driver: subprocess.Popen[bytes], run: Path) -> None:
    if driver.returncode:
        said = run.with_suffix(".log").read_text("utf-8", errors="replace").strip().split("\n")
        raise RuntimeError(f"xner-ray project ended with {driver.returncode}: {one_line(' '.join(said[-3:]))}")


@contextmanager
def _started(recipe: Path, run: Path, settings: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run with Ray; end it, and all that it started, where the block is left early."""
    command = [sys.executable, "-m", "xner_ray", "project", str(recipe), str(run)]
    for setting in ("engine.executor=ray", *settings):
        command += ["--set", setting]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with run.with_suffix(".log").open("wb") as log:
        driver = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield driver
    finally:
        own: list[psutil.Process] = []
        if driver.poll() is None:
            with suppress(psutil.Error):
                own = psutil.Process(driver.pid).children(recursive=True)
            driver.send_signal(signal.SIGTERM)  # Ray's own end
            with suppress(subprocess.TimeoutExpired):
                driver.wait(20)
        for process in own:
            with suppress(psutil.Error):
                process.kill()
        driver.kill()
        driver.wait()


def _workers(driver: int) -> list[psutil.Process]:
    """Return the processes of a run that hold its models: the widest of Ray's workers, the others only match."""
    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::") and _WORKER in title:
                    found.append((process.memory_info().rss, process.pid, process))
    return [max(found)[2]] if found else []


CHECKS = (
    Check("the device", device, 20),
    Check("NLLB as published", as_published, 900),
    Check("throughput", throughput, 240),
    Check("equal output", equal_output, 120),
    Check("scoring", scoring, 60),
    Check("memory", memory, 150),
    Check("number formats", number_formats, 180),
    Check("links", links, 300),
    Check("ctranslate2", ctranslate2, 300, ("ctranslate2",)),
    Check("a whole run", whole_run, 600, ("ray",)),
    Check("several workers", several_workers, 600, ("ray",)),
    Check("a killed worker", killed_worker, 600, ("ray",)),
    Check("the paper's chain at 3.3B", paper_chain, 900, ("ray",)),
)
