"""The run on Ray: resume, exactly once, the same bytes for any number of workers. Real Ray, real models."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from published import digests
from rich.console import Console

import xner_ray
from xner_ray.engine import ray_cluster
from xner_ray.errors import FatalError, RecipeError, RetryableError, RunFolderError
from xner_ray.report.progress import Progress

ROOT = Path(__file__).parents[2]


def _everywhere(*settings: str) -> list[str]:
    """Overrides that give every stage the same settings, so that they share one pool."""
    return [f"{stage}.{setting}" for stage in ("translate", "align", "match") for setting in settings]


def _rows(run: Path) -> list[tuple[str, int, str]]:
    files = [*run.glob("data/**/*.parquet"), *run.glob("rejects/**/*.parquet")]
    return [(r["lang"], r["row"], r["status"]) for f in files for r in pq.ParquetFile(f).read().to_pylist()]


@pytest.fixture(scope="module")
def many_units(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> tuple[Path, Path]:
    """A recipe of 24 units (two languages, the last of each short, one reject), and its undisturbed run by 1 worker.

    Its sentences are the shortest, since a translation takes as many steps as it has words.
    """
    folder = tmp_path_factory.mktemp("many")
    source = (ROOT / "jobs/data/templates.en.conll").read_text(encoding="utf-8").split("\n\n")
    source = sorted(filter(str.strip, source), key=len)[:23]
    source[20] = "# id = broken\nBad\tX-TAG"
    (folder / "in.conll").write_text("\n\n".join(source) + "\n", encoding="utf-8")
    recipe = {
        "input": {"path": "in.conll"},
        "targets": ["swh_Latn", "spa_Latn"],
        "translate": {"model": "tiny-nllb"},
        "output": {"rows_per_file": 10, "max_reject_rate": 0.1},
        "engine": {"unit_rows": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    run = folder / "one"
    xner_ray.project(path, run, overrides=_everywhere("workers=1"))
    return path, run


@pytest.mark.slow
def test_undisturbed_run_is_whole(many_units: tuple[Path, Path]) -> None:
    _, run = many_units
    report = json.loads((run / "report.json").read_text())
    assert report["units"] == 24
    assert report["rows"] == {"read": 46, "emitted": 44, "rejected": 2}
    assert report["rejects"] == {"illegal_tag": 2}
    assert sorted(_rows(run)) == sorted(
        (lang, row, "rejected" if row == 20 else "ok") for lang in ("swh_Latn", "spa_Latn") for row in range(23)
    )
    sealed = json.loads((run / "_run/SEALED").read_text())["files"]
    assert sum(entry["rows"] for entry in sealed) == 46
    published = digests(run)
    assert all(published[entry["file"]] == entry["sha256"] for entry in sealed)
    assert [len(list((run / f"data/{lang}").iterdir())) for lang in ("swh_Latn", "spa_Latn")] == [3, 3]


@pytest.mark.slow
def test_four_workers_give_the_same_bytes(many_units: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, expected = many_units
    xner_ray.project(recipe, tmp_path / "four", overrides=_everywhere("workers=4", "cpus=0.4"))
    assert digests(tmp_path / "four") == digests(expected)


@pytest.mark.slow
def test_two_pools_give_the_same_bytes(many_units: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, expected = many_units
    overrides = ["match.cpus=0.3", "translate.cpus=0.5", "align.cpus=0.5"]
    xner_ray.project(recipe, tmp_path / "pools", overrides=overrides)
    assert digests(tmp_path / "pools") == digests(expected)


@pytest.mark.long
def test_a_killed_driver_loses_and_doubles_nothing(many_units: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGKILL the driver after some units, then let the same command finish. `make chaos` kills thirty."""
    recipe, expected = many_units
    run = tmp_path / "killed"
    parts = run / "_run" / "parts"
    command = [sys.executable, "-m", "xner_ray", "project", str(recipe), str(run), "--set=engine.executor=ray"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(list(parts.glob("*/*.parquet"))) < 6 and time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (run / "_run" / "SEALED").exists()
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(xner_ray.status(run))
    assert "not sealed" in capture.get()
    done = {path.stem: path.read_bytes() for path in parts.glob("*/*.parquet")}
    assert 6 <= len(done) < 24
    xner_ray.project(recipe, run)
    assert digests(run) == digests(expected)
    assert sorted(_rows(run)) == sorted(_rows(expected))
    still = {path.stem: path.read_bytes() for path in sorted(parts.glob("*/*.parquet"), reverse=True)}
    assert {name: still[name] for name in done} == done, "a finished unit was made again"


@pytest.mark.slow
def test_targets_grow_and_finished_languages_stay(many_units: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, expected = many_units
    run = tmp_path / "grown"
    one = _everywhere("workers=1")
    xner_ray.project(recipe, run, overrides=["targets=[swh_Latn]", *one])
    parts = {path: path.stat().st_mtime_ns for path in (run / "_run/parts").rglob("*.parquet")}
    assert len(parts) == 12
    # Another unit size now would name other units; those that are listed stay.
    xner_ray.project(recipe, run, overrides=["engine.unit_rows=50", *one])
    assert digests(run) == digests(expected)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    with pytest.raises(RunFolderError, match="targets: spa_Latn there, missing now"):
        xner_ray.project(recipe, run, overrides=["targets=[swh_Latn]"])


@pytest.mark.slow
def test_a_complete_run_is_left_alone(many_units: tuple[Path, Path]) -> None:
    recipe, run = many_units
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    report = xner_ray.project(recipe, run)
    assert report["rows"]["read"] == 46
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_another_recipe_is_refused_with_the_keys_that_differ(many_units: tuple[Path, Path]) -> None:
    recipe, run = many_units
    with pytest.raises(RunFolderError) as error:
        xner_ray.project(recipe, run, overrides=["align.method=argmax", "translate.workers=2"])
    assert "align.method: 'itermax' there, 'argmax' now" in str(error.value)
    assert "workers" not in str(error.value)
    assert "--fresh" in str(error.value)


@pytest.mark.long
def test_a_cluster_is_joined_by_its_address(tmp_path: Path) -> None:
    """RAY_ADDRESS, which `ray job submit` sets, comes before the recipe's engine.address."""
    head = subprocess.Popen(
        [sys.executable, "-c", _HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdin is not None
    assert head.stdout is not None
    try:
        address = head.stdout.readline().strip()
        command = [
            sys.executable,
            "-m",
            "xner_ray",
            "project",
            str(ROOT / "jobs/quickstart.yaml"),
            str(tmp_path / "run"),
        ]
        joined = subprocess.run(
            [*command, "--set=input.limit=10"],
            env={**os.environ, "RAY_ADDRESS": address},
            capture_output=True,
            text=True,
        )
        assert joined.returncode == 0, joined.stderr
        assert "every node of the cluster must reach it there" in " ".join(joined.stdout.split())
        assert len(_rows(tmp_path / "run")) == 10
        assert head.poll() is None, "the cluster that was joined must outlive the run"
    finally:
        head.stdin.close()
        head.wait(60)
        head.stdout.close()


_HEAD = """
import ray, sys
context = ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=2)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_counters_and_queues_of_a_run_at_work(tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus gets, from the node's own exporter and without a dashboard, what the report says.

    The language is in no other run of this Ray, whose counters go on from run to run.
    """
    text = "\n\n".join(f"Anna B-PER\nsees_{n} O" for n in range(40)) + "\n\nBad X-TAG\n"
    (tmp_path / "in.conll").write_text(text)
    queues: list[dict[str, tuple[int, int]]] = []
    add = Progress.add

    def looked(self: Progress, unit: str, counters: Any) -> None:
        queues.append(dict(self._queues()))
        add(self, unit, counters)

    monkeypatch.setattr(Progress, "add", looked)
    recipe = {
        "input": {"path": str(tmp_path / "in.conll"), "parallel": {"nno_Latn": str(tmp_path / "in.conll")}},
        "targets": ["nno_Latn"],
        "target_tag": {"engine": "none"},
        "output": {"max_reject_rate": 1},
        "engine": {"unit_rows": 2, "price_per_hour": 3600},
    }
    report = xner_ray.project(recipe, tmp_path / "run", overrides=["align.workers=1", "match.workers=1"])
    assert report["rows"] == {"read": 41, "emitted": 40, "rejected": 1}
    assert report["cost"]["so_far"] == pytest.approx(report["seconds"], rel=0.1)
    assert len(queues) == 21
    assert all(list(queue) == ["read", "align"] for queue in queues)
    on_their_way = [sum(map(sum, queue.values())) for queue in queues]
    assert max(on_their_way) > 0
    assert all(units <= 21 - done + 2 for done, units in enumerate(on_their_way))  # a unit may be seen twice
    assert on_their_way[-1] <= 2

    expected = {("rejects", "read", "illegal_tag"): 1.0}
    for stage, counters in report["stages"].items():
        if stage != "refine":  # of the second matching, which no worker makes
            expected[("rows", stage, "")] = counters["rows"]
            expected[("stage_seconds", stage, "")] = counters["seconds"]
    for name in ("tokens", "model_seconds"):
        expected[(name, "align", "")] = report["stages"]["align"][name]
    deadline = time.monotonic() + 240
    while (found := _exported("nno_Latn")) != pytest.approx(expected, abs=0.02) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == pytest.approx(expected, abs=0.02)


def _exported(lang: str) -> dict[tuple[str, str, str], float]:
    """(counter, stage, reason) -> its sum over all workers, as Prometheus would read it."""
    import ray

    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[tuple[str, str, str], float] = {}
    for line in lines:
        if (match := re.match(r"ray_xner_ray_(\w+)_total\{(.*)\} (\S+)$", line)) and f'lang="{lang}"' in match[2]:
            tags = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            key = (match[1], tags["stage"], tags.get("reason", ""))
            found[key] = found.get(key, 0.0) + float(match[3])
    return found


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    data: dict[str, Any] = {
        "input": {"path": str(ROOT / "jobs/data/europarl.en.conll")},
        "targets": ["spa_Latn"],
    }
    data["input"]["parallel"] = {"spa_Latn": str(ROOT / "jobs/data/europarl.es.conll")}
    for fresh in (False, True):
        with pytest.raises(RunFolderError, match=r"holds files that are no run .*thesis\.tex"):
            xner_ray.project(data, tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_own_errors_finds_what_was_raised_on_purpose(ray_here: None) -> None:
    import ray

    @ray.remote(num_cpus=0.1)
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(RecipeError, match="on purpose"), ray_cluster.own_errors():
        ray.get(fail.remote(RecipeError("on purpose")))
    with pytest.raises(FatalError, match=r"a worker failed: .*no such thing"), ray_cluster.own_errors():
        ray.get(fail.remote(ValueError("no such thing")))
    with pytest.raises(RetryableError), ray_cluster.own_errors():
        ray.get(fail.remote(RetryableError("later")))


def test_map_tasks_keeps_order(ray_here: None) -> None:
    def divide(a: int, b: int) -> int:
        return a // b

    assert ray_cluster.map_tasks(divide, [7, 8, 9], [2, 2, 2]) == [3, 4, 4]
    assert ray_cluster.map_tasks(divide, [7], [2]) == [3]
    assert ray_cluster.map_tasks(divide, [], []) == []


def test_one_call_is_a_task_too(ray_here: None) -> None:
    """What it needs for a large file must not stay with the driver."""
    (process,) = ray_cluster.map_tasks(lambda _: os.getpid(), [0])
    assert process != os.getpid()
