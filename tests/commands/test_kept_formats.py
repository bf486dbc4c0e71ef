"""A run, a student, an adapted encoder and an experiment each compute in one number format from beginning to end."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import ended_after_first_of_three
from published import digests
from rich.console import Console
from tiny_encoders import tiny

import xner_ray
from xner_ray.commands.validation.recipe import Experiment
from xner_ray.commands.validation.trainings import trainings
from xner_ray.errors import FatalError, RunFolderError
from xner_ray.models import cpu_dtype
from xner_ray.models.cpu_dtype import Times
from xner_ray.run.folder import RunFolder
from xner_ray.train import ray as on_ray
from xner_ray.train.recipe import Training

SLOW, FAST = Times(0.606, 0.026), Times(0.001, 0.009)
Timed = Callable[[Times | None], list[str]]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Let every layer take these times, or fail the test where one is timed; return the formats that are asked for."""

    def given(found: Times | None) -> list[str]:
        asked: list[str] = []

        def times(dtype: str, way: str, threads: int) -> Times:
            assert found is not None, "nothing is to be timed"
            asked.append(f"{dtype} {way} {threads}")
            return found

        monkeypatch.setattr(cpu_dtype, "times", times)
        return asked

    return given


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "in.conll").write_text("ab B-PER\nc O\n\nd B-LOC\n\n" * 4)
    (tmp_path / "out.txt").write_text("c ab\nd\n" * 4)
    tiny(tmp_path / "encoder", "bert")
    return {
        "input": {"path": str(tmp_path / "in.conll"), "parallel": {"spa_Latn": str(tmp_path / "out.txt")}},
        "targets": ["spa_Latn"],
        "align": {"encoder": str(tmp_path / "encoder"), "layer": 3, "dtype": "int8", "threads": 2},
        "engine": {"unit_rows": 3, "executor": "inline"},
    }


def _project(recipe: dict[str, Any], run: Path, *overrides: str) -> str:
    console = Console(record=True, file=io.StringIO(), width=300)
    xner_ray.project(recipe, run, overrides=overrides, console=console)
    return console.export_text()


@pytest.mark.slow
def test_a_run_keeps_the_format_in_which_it_began(recipe: dict[str, Any], tmp_path: Path, timed: Timed) -> None:
    asked = timed(SLOW)
    said = _project(recipe, tmp_path / "slow")
    assert said.count("align.dtype: int8 takes 606.0 ms a layer on this CPU, float32 26.0; float32 is taken") == 1
    assert asked == ["int8 encoder 2"]
    assert RunFolder(str(tmp_path / "slow")).recipe().align.dtype == "float32"
    timed(None)
    _project(recipe, tmp_path / "float32", "align.dtype=float32")
    assert digests(tmp_path / "slow") == digests(tmp_path / "float32")

    for began, kept in ((SLOW, "float32"), (FAST, "int8")):
        timed(began)
        run, again = tmp_path / f"began-{kept}", tmp_path / f"undisturbed-{kept}"
        _project(recipe, again)
        with ended_after_first_of_three(run):
            xner_ray.project(recipe, run)
        shutil.copytree(run, moved := tmp_path / f"moved-{kept}")  # as to another machine
        timed(None)
        assert "is taken" not in _project(recipe, moved)
        assert RunFolder(str(moved)).keys()["align.dtype"] == kept
        assert digests(moved) == digests(again)
        other = "bfloat16"
        timed(FAST)
        with pytest.raises(RunFolderError, match=f"align.dtype: '{kept}' there, '{other}' now"):
            xner_ray.project(recipe, moved, overrides=[f"align.dtype={other}"])
        timed(began)
        _project(recipe, moved, "align.dtype=int8", "targets=[spa_Latn]")


@pytest.mark.slow
def test_float32_that_was_asked_for_is_not_changed_by_a_slow_format(
    recipe: dict[str, Any], tmp_path: Path, timed: Timed
) -> None:
    timed(None)
    _project(recipe, tmp_path / "run", "align.dtype=float32")
    timed(SLOW)
    assert "complete; nothing to do" in _project(recipe, tmp_path / "run")
    timed(FAST)
    with pytest.raises(RunFolderError, match=r"align.dtype: 'float32' there, 'int8' now"):
        xner_ray.project(recipe, tmp_path / "run")


def test_plan_times_as_the_run_does_and_says_where_it_cannot(
    recipe: dict[str, Any], tmp_path: Path, timed: Timed
) -> None:
    console = Console(record=True, file=io.StringIO(), width=300)
    timed(SLOW)
    console.print(xner_ray.plan(recipe))
    assert "align.dtype: int8 takes 606.0 ms a layer on this CPU" in console.export_text()
    timed(None)
    console.print(xner_ray.plan(recipe, offline=True))
    assert "align.dtype: int8: not timed (--offline); float32 where that is faster" in console.export_text()
    console.print(xner_ray.plan(recipe, offline=True, assume="cpus=8,gpus=1", overrides=["align.gpus=1"]))
    assert "not timed" not in console.export_text()


def test_a_student_keeps_the_format_in_which_its_training_began(
    recipe: dict[str, Any], tmp_path: Path, timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train is left out: the training is given up."""
    formats: list[str] = []

    def stops(training: Training, place: str, folder: str, publish: Any, *_: Any) -> dict[str, Any]:
        formats.append(training.fit.dtype)
        raise FatalError("the test ends it here")

    monkeypatch.setattr(on_ray, "run", stops)
    student = {
        "data": [{"input": {"path": str(tmp_path / "in.conll")}}],
        "model": {"encoder": str(tmp_path / "encoder")},
        "fit": {"dtype": "bfloat16"},
    }
    console = Console(record=True, file=io.StringIO(), width=300)
    for found in (SLOW, None):
        timed(found)
        with pytest.raises(FatalError):
            xner_ray.train(student, tmp_path / "student", console=console)
    timed(FAST)
    with pytest.raises(FatalError):
        xner_ray.train(student, tmp_path / "student", fresh=True)
    assert formats == ["float32", "float32", "bfloat16"]
    said = "fit.dtype: bfloat16 takes 606.0 ms a layer on this CPU, float32 26.0; float32 is taken"
    assert console.export_text().count(said) == 1
    timed(None)
    with pytest.raises(RunFolderError, match=r'fit.dtype: "bfloat16" there, "float32" now'):
        xner_ray.train({**student, "fit": {"dtype": "float32"}}, tmp_path / "student")


def test_an_adapted_encoder_keeps_its_format(recipe: dict[str, Any], tmp_path: Path, timed: Timed) -> None:
    (tmp_path / "in.txt").write_text("ab c\nd\n" * 4)
    pairs = {"path": str(tmp_path / "in.txt"), "lang": "eng_Latn", "parallel": {"spa_Latn": str(tmp_path / "out.txt")}}
    model = {"encoder": str(tmp_path / "encoder"), "layer": 3}
    adaptation = {"data": [{"input": pairs}], "model": model, "fit": {"part_pairs": 2, "dtype": "bfloat16"}}
    said: list[str] = []

    def stops(line: str) -> None:
        said.append(line)
        if line.startswith("epoch"):
            raise FatalError("the test ends it here")

    assert timed(SLOW) == []
    with pytest.raises(FatalError):
        xner_ray.adapt(adaptation, tmp_path / "adapted", say=stops)
    assert said[0].startswith("fit.dtype: bfloat16 takes 606.0 ms a layer on this CPU")
    timed(None)
    report = xner_ray.adapt(adaptation, tmp_path / "adapted")
    assert report["recipe"]["fit"]["dtype"] == "float32"
    assert xner_ray.adapt(adaptation, tmp_path / "adapted")["asked"]["fit.dtype"] == "bfloat16"


def test_an_experiment_times_once_for_all_its_students(recipe: dict[str, Any], tmp_path: Path, timed: Timed) -> None:
    gold = {"input": {"path": str(tmp_path / "in.conll")}}
    experiment = Experiment.model_validate(
        {
            "runs": {"unused": "unused.yaml"},
            "languages": ["eng_Latn"],
            "evaluate": [gold],
            "folds": 2,
            "students": {"a": {"data": [gold]}, "b": {"data": [gold], "fit": {"dtype": "float32"}}},
            "student": {"fit": {"dtype": "bfloat16"}},
        }
    )

    def formats() -> set[tuple[str, str]]:
        said: list[str] = []
        items = trainings(experiment, tmp_path, str(tmp_path / "out"), said.append)
        return {(item.student, item.training.fit.dtype) for item in items}

    asked = timed(FAST)
    assert formats() == {("a", "bfloat16"), ("b", "float32")}
    assert asked == ["bfloat16 training 1"]
    timed(None)
    assert formats() == {("a", "bfloat16"), ("b", "float32")}
    assert json.loads((tmp_path / "out/encoders.json").read_text()) == {"fit.dtype: bfloat16": "bfloat16"}
