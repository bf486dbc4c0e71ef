"""The lists of checks for a GPU, beside a machine that simulates one: no figure here says anything of a device."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness
import hour_list
import pytest
import short_list
import torch
from harness import Check, Expected, Figure, NotHereError, Report
from hour_list import Hour, Runs
from rig import Busy, Cuda, Rig, Sizes, known_gpu

from xner_ray.recipe.load import load_recipe
from xner_ray.translate.nllb import NllbTranslator

TINY = Sizes(
    rows=16,
    few=8,
    plain=(4, 8),
    memory_rows=16,
    leave_gb=(12, 2e-4),
    translator={"d_model": 64, "layers": 1, "ffn_dim": 128, "attention_heads": 4, "vocab_size": 4000},
    encoder={
        **{"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128},
        **{"num_attention_heads": 4, "vocab_size": 4000},
    },
)
BYTES = 1000  # that a padded token of a batch takes


class SimulatedMachine:
    """A CPU that counts memory as a device has it. leaks: bytes that a failed call leaves behind."""

    kind, gpus, known = "cpu", 0, "H100"

    def __init__(self, leaks: int = 0) -> None:
        self.leaks, self.left_alive, self.most = leaks, 0, 0
        self.limit = math.inf

    def free_bytes(self) -> int:
        return 10**10

    def allocated(self) -> int:
        return self.left_alive

    def begin_peak(self) -> None:
        self.most = 0

    def peak(self) -> int:
        return self.left_alive + self.most

    def wait(self) -> None:
        pass

    def clear(self) -> None:
        pass

    @contextmanager
    def leaving(self, n_bytes: int) -> Iterator[None]:
        self.limit = n_bytes
        try:
            yield
        finally:
            self.limit = math.inf

    @contextmanager
    def busy(self) -> Iterator[Busy]:
        found = Busy()
        yield found
        found.samples += [0.2, 0.4]

    def attach(self, translator: NllbTranslator) -> NllbTranslator:
        run = translator._run

        def limited(ids: list[list[int]], first: int, limit: int) -> Any:
            taken = len(ids) * max(map(len, ids)) * BYTES
            if taken > self.limit:
                self.left_alive += self.leaks
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.most = max(self.most, taken)
            return run(ids, first, limit)

        translator._run = limited  # type: ignore[method-assign]
        return translator


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    found = Rig(SimulatedMachine(), TINY, layer=2)
    yield found
    found.close()


def _report(tmp_path: Path, limit_s: float = 60) -> Report:
    return Report(tmp_path, "Checks", {"GPU": "none | simulated"}, limit_s)


def _run(checks: list[Check], tmp_path: Path, limit_s: float = 60, **options: Any) -> Report:
    report = _report(tmp_path, limit_s)
    harness.run(checks, None, report, say=lambda line: None, **options)
    return report


def _one(verdict_of: float, expected: Expected | None = None) -> Any:
    return lambda rig: iter([Figure("a figure", verdict_of, expected)])


@pytest.mark.parametrize(
    ("value", "at_most", "kind", "verdict"),
    [
        (50, False, "estimated", "passed"), (49, False, "estimated", "off"), (11, False, "simulated", "off"),
        (10, False, "simulated", "alarm"), (99, False, "required", "failed"), (100, False, "required", "passed"),
        (200, True, "estimated", "passed"), (201, True, "estimated", "off"), (1000, True, "estimated", "alarm"),
        (101, True, "required", "failed"), (100, True, "required", "passed"),
    ],
)  # fmt: skip
def test_half_of_what_is_expected_is_no_alarm_and_a_tenth_is(
    value: float, at_most: bool, kind: Any, verdict: str
) -> None:
    assert Expected(100, kind, "here", at_most=at_most).verdict(value) == verdict


def test_a_check_that_raises_is_a_line_and_the_next_one_runs(tmp_path: Path) -> None:
    def broken(rig: Any) -> Iterator[Figure]:
        yield Figure("before it", 1.0)
        raise RuntimeError("CUDA error: an illegal memory access\nwas | encountered")

    def elsewhere(rig: Any) -> Iterator[Figure]:
        raise NotHereError("no driver")
        yield

    cleaned: list[int] = []
    checks = [
        *(Check("broken", broken, 5), Check("elsewhere", elsewhere, 5), Check("fine", _one(2.0), 5)),
        *(
            Check("unlucky", _one(1.0, Expected(10, "estimated", "a book")), 5),
            Check("bare", _one(1.0), 5, ("no_such",)),
        ),
    ]
    report = _run(checks, tmp_path, clean=lambda: cleaned.append(1))
    assert [(each.verdict, each.why) for each in report.outcomes] == [
        ("failed", "RuntimeError: CUDA error: an illegal memory access was | encountered"),
        ("skipped", "no driver"),
        ("measured", ""),
        ("alarm", ""),
        ("skipped", "no module no_such on this machine; install it"),
    ]
    assert report.bad and len(cleaned) == 4
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Checks: 1 failed, 1 alarm, 2 skipped, 1 measured." in text
    assert "| broken | before it | 1 |  | measured |" in text
    assert "| broken | failed | 0.0 | RuntimeError: CUDA error: an illegal memory access was \\| encountered |" in text
    assert "| unlucky | a figure | 1 | at least 10 (estimated: a book) | alarm |" in text
    assert "- GPU: none \\| simulated" in text
    data = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [check["verdict"] for check in data["checks"]] == [each.verdict for each in report.outcomes]
    assert data["checks"][3]["figures"] == [
        {
            **{"name": "a figure", "value": 1.0, "note": "", "verdict": "alarm"},
            "expected": {"bound": 10, "kind": "estimated", "source": "a book", "at_most": False, "said": ""},
        }
    ]


def test_a_check_that_overruns_is_ended_whatever_it_catches(tmp_path: Path) -> None:
    def slow(rig: Any) -> Iterator[Figure]:
        yield Figure("before it", 1.0)
        while True:
            try:
                time.sleep(30)
            except Exception:  # as a stage's guard does
                continue

    report = _run([Check("slow", slow, 0.05), Check("next", _one(1.0), 5)], tmp_path)
    assert [(each.verdict, each.why) for each in report.outcomes] == [
        ("failed", "over its limit of 0.05 s"),
        ("measured", ""),
    ]
    assert report.outcomes[0].seconds < 25 and len(report.outcomes[0].figures) == 1


def test_what_no_longer_fits_is_skipped_and_what_fits_runs(tmp_path: Path) -> None:
    checks = [Check("long", _one(1.0), 50), Check("short", _one(1.0), 1)]
    report = _run(checks, tmp_path, limit_s=60, spent_s=20)
    assert [each.verdict for each in report.outcomes] == ["skipped", "measured"]
    assert report.outcomes[0].why == "no time left: it may take 50 s, and 40 s are left"
    assert not report.bad


def test_a_killed_run_leaves_what_it_found_and_where_it_was(tmp_path: Path) -> None:
    seen: list[str] = []

    def looking(rig: Any) -> Iterator[Figure]:
        seen.append((tmp_path / "report.md").read_text("utf-8"))
        yield Figure("more", 1.0)

    _run([Check("first", _one(7.0), 5), Check("second", looking, 5)], tmp_path)
    assert "| first | a figure | 7 |  | measured |" in seen[0]
    assert "| second | running | 0.0 |  |" in seen[0]


def test_the_short_list_runs_to_its_end_on_a_simulated_machine(rig: Rig, tmp_path: Path) -> None:
    report = _report(tmp_path, 3600)
    harness.run([Check(each.name, each.function, 300) for each in short_list.CHECKS], rig, report)
    by_name = {each.check.name: each for each in report.outcomes}
    assert [(each.state, each.why) for each in report.outcomes] == [("skipped", "no GPU"), *[("done", "")] * 6]
    figures = {name: {figure.name: figure for figure in outcome.figures} for name, outcome in by_name.items()}
    assert figures["throughput"]["engine nllb, busy share"].value == pytest.approx(0.3)
    assert figures["throughput"]["engine nllb, rows/s, beside plan's"].expected.kind == "simulated"
    assert by_name["equal output"].verdict == by_name["memory"].verdict == "passed"
    for name in ("scoring", "number formats", "links"):
        assert all(figure.value is not None for figure in by_name[name].figures)
    memory = figures["memory"]
    assert memory["12 GB left: rows accounted for"].verdict == "skipped"  # more than the machine has
    assert memory["half of that left: share of them flagged memory_halved"].value == 1
    assert memory["half of that left: MB of failed calls alive at the next"].value == 0
    assert memory["half of that left: share of rows translated"].value == 1
    formats = figures["number formats"]
    assert 0 < formats["bfloat16: share of tokens that differ from float32"].value < 0.5


def test_memory_that_a_failed_call_leaves_behind_fails(tmp_path: Path) -> None:
    leaking = Rig(SimulatedMachine(leaks=3 << 20), TINY)
    report = _report(tmp_path, 3600)
    harness.run([Check("memory", short_list.memory, 250)], leaking, report)
    leaking.close()
    (outcome,) = report.outcomes
    assert outcome.verdict == "failed"
    assert {figure.name for figure in outcome.figures if figure.verdict == "failed"} == {
        "0.0002 GB left: MB of failed calls alive at the next",
        "half of that left: MB of failed calls alive at the next",
    }


def test_a_gpu_is_known_by_the_name_that_its_driver_gives() -> None:
    names = ("NVIDIA H200", "NVIDIA A100-SXM4-40GB", "NVIDIA L4", "NVIDIA L40S", "NVIDIA GeForce RTX 4090")
    assert [known_gpu(name) for name in names] == ["H200", "A100", "L4", None, None]


def test_samples_of_a_busy_device_are_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '10\\n[N/A]\\n30\\n4'\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with Cuda().busy() as busy:
        time.sleep(1)
    assert busy.samples in ([], [0.1, 0.3])  # a busy machine may not have begun
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with Cuda().busy() as busy:
        pass
    assert busy.share is None


@pytest.mark.parametrize("models", [None, Path("/models")])
def test_recipes_of_the_hour_are_valid(models: Path | None) -> None:
    rig = hour_list.rig_of(SimulatedMachine(), models)
    one, shared = (load_recipe(rig.runs.recipe, settings) for settings in (rig.runs.settings, rig.runs.shared))
    assert (one.translate.workers, one.translate.gpus, one.align.gpus) == (1, 1, 1)
    assert (shared.translate.workers, shared.translate.gpus, shared.align.workers, shared.align.gpus) == (
        *(2, 0.5),
        *(2, 0.5),
    )
    assert [hour_list.sharing(gb * 10**9) for gb in (8, 24, 40, 80)] == [2, 2, 3, 4]
    changed = {
        name: getattr(shared, name) for name in ("translate", "target_tag", "align")
    }  # target_tag is where align is
    assert one.model_copy(update=changed) == shared
    chain = load_recipe(dict(rig.runs.chain), rig.runs.chain_settings)
    assert chain.translate.model == ("" if models is None else "/models/") + "facebook/nllb-200-3.3B"
    assert chain.tag.engine == "hf" and chain.direction == "test"


@pytest.mark.long
@pytest.mark.ray
def test_the_hour_runs_to_its_end_with_tiny_models(tmp_path: Path) -> None:
    """With Ray and without a device: the texts of tiny-nllb and all times are nothing to judge."""
    jobs = hour_list.ROOT / "jobs"
    chain = load_recipe(jobs / "translate_test.yaml").model_dump(mode="json", exclude_unset=True)
    workers = [f"{stage}.{key}" for stage in ("translate", "align") for key in ("workers={}", "cpus=0.3")]
    few = ("input.limit=60", "engine.unit_rows=10")
    one, two = ((*few, *(each.format(number) for each in workers)) for number in (1, 2))
    rig = Hour(
        SimulatedMachine(), TINY, Runs(jobs / "quickstart_nllb.yaml", one, two, chain, few), translator="tiny-nllb"
    )
    names = {"NLLB as published", "ctranslate2", "a whole run", "several workers", "a killed worker"}
    names |= {"the paper's chain at 3.3B"}
    checks = [Check(each.name, each.function, 900, each.needs) for each in hour_list.CHECKS if each.name in names]
    report = _report(tmp_path / "report", 6000)
    try:
        harness.run(checks, rig, report)
    finally:
        rig.close()
    assert [(each.check.name, each.state, each.why) for each in report.outcomes] == [
        (check.name, "done", "") for check in checks
    ]
    figures = {each.check.name: {figure.name: figure for figure in each.figures} for each in report.outcomes}
    assert figures["ctranslate2"]["share of rows with the text of nllb"].value == 1
    for name in ("several workers", "a killed worker"):
        assert figures[name]["share of files with the same bytes"].value == 1
    assert figures["a killed worker"]["workers killed"].value == 1
    assert figures["a whole run"]["rows"].value == 120


def test_the_short_list_fits_into_its_time() -> None:
    """With 15 seconds for the imports: what takes no more than its limit leaves time for all that follow."""
    assert sum(check.limit_s for check in short_list.CHECKS) <= 480 - 15


@pytest.mark.gpu
def test_the_short_list_on_a_gpu(tmp_path: Path) -> None:
    report = Report(tmp_path, "Checks", Cuda().described(), 480)
    rig = Rig(Cuda(), Sizes())
    try:
        harness.run(short_list.CHECKS, rig, report, clean=rig.machine.clear)
    finally:
        rig.close()
    assert [each.why for each in report.outcomes if each.state != "done"] == []
