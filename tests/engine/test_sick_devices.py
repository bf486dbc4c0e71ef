"""Devices that fail: four fake GPUs, whose CUDA errors are real ones of torch's type. On a Ray of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sick_devices
from given_files import write_recipe, write_sentences
from published import digests

import xner_ray

N_ROWS = 48


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sick")
    write_sentences(folder, N_ROWS, ids=False)
    match = {"workers": 4, "gpus": 1, "cpus": 0.5, "prior": "none"}
    return write_recipe(folder / "recipe.yaml", match=match, engine={"unit_rows": 4, "executor": "ray"})


def _run(kind: str, recipe: Path, folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, sick_devices.__file__, kind, str(recipe), str(folder / kind), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "XNER_RAY_FAKE_GPU": "1"},
    )
    return done.returncode, done.stdout, done.stdout + done.stderr


@pytest.mark.long
def test_a_sick_device_is_left_out_and_no_good_row_is_rejected(recipe: Path, tmp_path: Path) -> None:
    here = ["match.gpus=0", "match.workers=1", "match.cpus=null", "engine.executor=inline"]
    xner_ray.project(recipe, tmp_path / "well", overrides=here)
    for kind in ("one", "once", "load"):
        status, told, all_of_it = _run(kind, recipe, tmp_path)
        assert status == 0, all_of_it
        assert digests(tmp_path / kind) == digests(tmp_path / "well")
        assert ("GPU 1 of node" in told and "units are made on the other GPUs" in told) == (kind != "once"), told


@pytest.mark.long
def test_where_all_devices_are_sick_one_message_says_so(recipe: Path, tmp_path: Path) -> None:
    status, told, all_of_it = _run("all", recipe, tmp_path)
    assert status == 1 and "Traceback" not in all_of_it, all_of_it
    (last,) = [line for line in told.splitlines() if line.startswith("NodeError")]
    assert "GPU" in last and "CUDA error: an illegal memory access" in last


@pytest.mark.long
def test_a_row_that_breaks_every_device_is_found(recipe: Path, tmp_path: Path) -> None:
    status, _, all_of_it = _run("row", recipe, tmp_path)
    assert status == 0, all_of_it
    (path,) = (tmp_path / "row" / "rejects").rglob("*.parquet")
    assert pq.read_table(path).column("row").to_pylist() == [7]
