"""Runs in this process: no Ray, the same bytes as on Ray, resume from one to the other, faults."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults import in_stage
from given_files import write_recipe, write_sentences
from published import digests

import xner_ray
from xner_ray.commands import inspect, project
from xner_ray.engine import inline
from xner_ray.engine.crashes import DEATHS
from xner_ray.engine.inline import InlineExecutor, deadly
from xner_ray.errors import FatalError, RecipeError, RetryableError
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder

JOBS = Path(__file__).parents[2] / "jobs"
N_ROWS = 60
INLINE, RAY = ["engine.executor=inline"], ["engine.executor=ray", "match.workers=1"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six units that need no model."""
    folder = tmp_path_factory.mktemp("inline")
    write_sentences(folder, N_ROWS, bad=11)
    return write_recipe(folder / "recipe.yaml", output={"max_reject_rate": 0.5}, engine={"unit_rows": 10})


def _parts(run: Path) -> int:
    return len(list((run / "_run/parts").rglob("*.parquet")))


def _die_at(path: Path, row: int) -> str:
    """A program that projects in its own process, and kills itself where row `row` is matched."""
    return f"""
import os, signal, sys
import xner_ray
from xner_ray.engine import inline

build = inline.build

def deadly(name, recipe):
    stage = build(name, recipe)
    if name != "match":
        return stage
    class Deadly(type(stage)):
        def __call__(self, table):
            if {row} in table.column("row").to_pylist():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(table)
    return Deadly(recipe)

inline.build = deadly
xner_ray.project({str(path)!r}, sys.argv[1], overrides={INLINE!r})
"""


@pytest.mark.slow
def test_a_run_in_this_process_imports_no_ray(recipe: Path, tmp_path: Path) -> None:
    code = (
        "import sys, xner_ray\n"
        f"report = xner_ray.project({str(recipe)!r}, sys.argv[1])\n"
        "xner_ray.plan(sys.argv[2])\n"
        "assert report['rows']['read'] == 60\n"
        "print(sorted({'ray', 'torch', 'transformers', 'ortools', 'scipy.optimize'} & set(sys.modules)))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run", recipe],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_both_executors_give_the_same_bytes_and_resume_one_another(
    recipe: Path, tmp_path: Path, ray_here: None
) -> None:
    xner_ray.project(recipe, tmp_path / "inline", overrides=INLINE)
    xner_ray.project(recipe, tmp_path / "ray", overrides=RAY)
    assert digests(tmp_path / "ray") == digests(tmp_path / "inline")
    for name, other in (("then-ray", RAY), ("then-inline", INLINE)):
        run = tmp_path / name
        killed = subprocess.run([sys.executable, "-c", _die_at(recipe, 35), run], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert _parts(run) == 3
        xner_ray.project(recipe, run, overrides=other)
        assert digests(run) == digests(tmp_path / "inline")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["quickstart_nllb", "easyproject"])
def test_models_give_the_same_bytes_on_both_executors(name: str, tmp_path: Path, ray_here: None) -> None:
    """`python tests/bench/bench_executors.py` compares every recipe that runs here."""
    for executor in ("inline", "ray"):
        overrides = ["input.limit=12", "engine.unit_rows=5", f"engine.executor={executor}"]
        xner_ray.project(JOBS / f"{name}.yaml", tmp_path / executor, overrides=overrides)
    assert digests(tmp_path / "ray") == digests(tmp_path / "inline")


@pytest.mark.slow
def test_a_row_that_kills_its_process_is_found(recipe: Path, tmp_path: Path) -> None:
    """By the same command, again and again; `auto` would have left it to Ray after the second death."""
    run, loaded = tmp_path / "run", load_recipe(recipe)
    for deaths in range(30):
        folder = RunFolder(str(run))
        units = inspect.read_index(folder).units if deaths else []
        left_to_ray = deadly(folder, units)
        assert (left_to_ray == "deu_Latn-000000000030") is (deaths in (2, 3, 4, 5)) or deaths > 5
        if left_to_ray:
            assert project._by_rows(loaded, folder, units).name == "ray"
        tried = subprocess.run([sys.executable, "-c", _die_at(recipe, 35), run], capture_output=True, text=True)
        if tried.returncode == 0:
            break
        assert tried.returncode == -signal.SIGKILL, tried.stderr
    assert DEATHS < deaths < 15
    (rejects,) = run.glob("rejects/*/*.parquet")
    rejected = {row["row"]: row for row in pq.read_table(rejects).to_pylist()}
    assert {row: found["reason"] for row, found in rejected.items()} == {11: "illegal_tag", 35: "stage_error"}
    assert "two worker processes in a row died of this row alone" in rejected[35]["detail"]
    (data,) = run.glob("data/*/*.parquet")
    flagged = [row["row"] for row in pq.read_table(data).to_pylist() if "bisected" in (row["flags"] or [])]
    assert flagged == [30, 31, 32, 33, 34, 36, 37, 38, 39]


@pytest.mark.slow
def test_faults_that_pass_are_tried_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    xner_ray.project(recipe, tmp_path / "expected", overrides=INLINE)
    calls: list[int] = []

    def check(row: Mapping[str, Any]) -> None:
        if row["row"] == 25:
            calls.append(1)
            if len(calls) <= 3:
                raise RetryableError("the disk is away")

    in_stage(monkeypatch, "match", check)
    xner_ray.project(recipe, tmp_path / "run", overrides=INLINE)
    assert digests(tmp_path / "run") == digests(tmp_path / "expected")
    calls[:] = []
    monkeypatch.setattr(inline, "_RETRIES", 1)
    with pytest.raises(RetryableError, match="the disk is away"):
        xner_ray.project(recipe, tmp_path / "other", overrides=INLINE)
    assert _parts(tmp_path / "other") == 2, "units before it are kept"


def test_stages_that_do_not_load_are_tried_again(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = load_recipe(recipe)
    build, failures = inline.build, ["no such device", "no such device"]

    def fails(name: str, recipe: Any) -> Any:
        if failures:
            raise OSError(failures.pop())
        return build(name, recipe)

    monkeypatch.setattr(inline, "build", fails)
    monkeypatch.setattr(InlineExecutor.__init__, "__kwdefaults__", {"pauses_s": (0.0, 0.0), "models": None})
    assert xner_ray.project(recipe, tmp_path / "run", overrides=INLINE)["rows"]["read"] == N_ROWS
    failures += ["no such device"] * 3
    with pytest.raises(RetryableError, match="OSError: no such device"):
        xner_ray.project(recipe, tmp_path / "other", overrides=INLINE)
    assert found.engine.executor == "auto"


@pytest.mark.parametrize("key", ["match.workers=2", "match.workers=[1, 3]", "match.memory_gb=1", "match.cpus=0.5"])
def test_what_one_process_cannot_obey_is_refused(key: str, recipe: Path, tmp_path: Path) -> None:
    name = key.partition("=")[0]
    with pytest.raises(RecipeError, match=rf"{name} is set, but engine.executor: inline is one worker"):
        xner_ray.project(recipe, tmp_path / "run", overrides=[*INLINE, key])


def test_a_library_s_error_is_one_message(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("spans 3-5 and 4-6 overlap")

    monkeypatch.setattr(inline.PartWriter, "write", fails)
    with pytest.raises(FatalError, match=r"unit deu_Latn-000000000000: ValueError: spans 3-5 and 4-6 overlap"):
        xner_ray.project(recipe, tmp_path / "run", overrides=INLINE)


def test_the_process_has_its_own_settings_again(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    torch = pytest.importorskip("torch")
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def check(row: Mapping[str, Any]) -> None:
        seen.append((os.environ["OMP_NUM_THREADS"], torch.get_num_threads()))

    in_stage(monkeypatch, "match", check)
    try:
        xner_ray.project(recipe, tmp_path / "run", overrides=INLINE)
        assert set(seen) == {("1", 1)}
        assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("7", 2)
        assert "TOKENIZERS_PARALLELISM" not in os.environ
    finally:
        torch.set_num_threads(threads)


def test_an_address_and_this_process_exclude_one_another(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"engine.*10\.0\.0\.1:1 is a cluster, but executor: inline"):
        xner_ray.project(recipe, tmp_path / "run", overrides=[*INLINE, "engine.address=10.0.0.1:1"])
