"""`make chaos`: 30 SIGKILLs of the driver and 30 of workers, at random moments. The bytes must not show any of it.

XNER_RAY_KILLS sets another number, XNER_RAY_SEED another order of events; both are printed with what was hit.
Nodes are killed in test_autoscaling.py, named points in test_kill_points.py.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from given_files import write_recipe
from local_cluster import LocalCluster, local_cluster
from published import digests

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("XNER_RAY_KILLS", "30"))
SEED = int(os.environ.get("XNER_RAY_SEED", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(cpus=2) as started:
        yield started


def _start(cluster: LocalCluster, recipe: Path, run: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "xner_ray", "project", str(recipe), str(run)]
    return subprocess.Popen(
        command,
        env=cluster.env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=(run.parent / f"{run.name}.log").open("ab"),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cluster: LocalCluster) -> tuple[Path, dict[str, str], float]:
    """A recipe of 44 units in two languages, with a reject in each, its digests, and how long a run takes."""
    folder = tmp_path_factory.mktemp("chaos")
    source = (ROOT / "jobs/data/templates.en.conll").read_text(encoding="utf-8").split("\n\n")[:215]
    source[50] = "# id = broken\nBad\tX-TAG"
    (folder / "in.conll").write_text("\n\n".join(source) + "\n", encoding="utf-8")
    pool = {"workers": 1, "cpus": 0.4}
    recipe = {
        "input": {"path": "in.conll"},
        "targets": ["swh_Latn", "spa_Latn"],
        # Settings that differ, so that every stage has workers of its own
        "translate": {"model": "tiny-nllb", **pool},
        "align": {"workers": 1, "cpus": 0.5},
        "match": {"workers": 1, "cpus": 0.3},
        "output": {"rows_per_file": 50, "max_reject_rate": 0.1},
        "engine": {"unit_rows": 10},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    started = time.monotonic()
    assert _start(cluster, folder / "recipe.yaml", folder / "run").wait(900) == 0, (folder / "run.log").read_text()
    seconds = time.monotonic() - started
    expected = digests(folder / "run")
    assert len(expected) == 13  # 5 files a language, a file of rejects each, the card
    return folder / "recipe.yaml", expected, seconds


def _moments(run: Path, seconds: float, order: random.Random) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Without end: a name, and whether that moment has come. Time alone would hardly ever hit the sealing."""

    def files(pattern: str) -> int:
        return sum(1 for path in run.glob(pattern) if path.is_file())

    while True:
        kind = order.choice(["time", "parts", "refined", "files", "temporary", "card"])
        if kind == "time":
            end = time.monotonic() + order.uniform(1.0, seconds)
            yield kind, lambda end=end: time.monotonic() >= end  # type: ignore[misc]
        elif kind == "temporary":
            yield kind, lambda: files("_run/**/.*.tmp") + files("data/**/.*.tmp") > 0
        elif kind == "card":
            (run / "README.md").unlink(missing_ok=True)  # of an earlier seal; it is written anew
            yield kind, (run / "README.md").exists
        else:
            pattern = {"parts": "_run/parts/*/*.parquet", "refined": "_run/refined/**/*.parquet"}.get(kind)
            pattern = pattern or "data/*/*.parquet"
            more = files(pattern) + order.randint(1, 8)
            yield kind, lambda pattern=pattern, more=more: files(pattern) >= more  # type: ignore[misc]


def test_kills_of_the_driver(
    undisturbed: tuple[Path, dict[str, str], float], cluster: LocalCluster, tmp_path: Path
) -> None:
    recipe, expected, seconds = undisturbed
    order = random.Random(SEED)
    hit: Counter[str] = Counter()
    runs = 0
    while sum(hit.values()) < KILLS:
        run = tmp_path / f"run{runs}"
        runs += 1
        for moment, come in _moments(run, seconds, order):
            driver = _start(cluster, recipe, run)
            while driver.poll() is None and (sum(hit.values()) >= KILLS or not come()):
                time.sleep(0.005)
            if driver.poll() is None:
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
                hit[moment] += 1
                continue
            assert driver.returncode == 0, (run.parent / f"{run.name}.log").read_text()
            assert digests(run) == expected, (SEED, hit)
            break
    print(f"\n{sum(hit.values())} kills of the driver in {runs} runs (seed {SEED}): {dict(hit)}; bytes equal each time")
    assert sum(hit.values()) == KILLS
    assert len(hit) >= min(4, KILLS)


def test_kills_of_workers(
    undisturbed: tuple[Path, dict[str, str], float], cluster: LocalCluster, tmp_path: Path
) -> None:
    """Reads, translate, align, match, and the tasks of the second matching and of sealing: whatever runs just then."""
    recipe, expected, _ = undisturbed
    order = random.Random(SEED)
    hit: Counter[str] = Counter()
    runs = 0
    (node,) = cluster.nodes()
    while sum(hit.values()) < KILLS:
        run = tmp_path / f"run{runs}"
        runs += 1
        driver = _start(cluster, recipe, run)
        pause = time.monotonic() + order.uniform(1.0, 6.0)
        while driver.poll() is None:
            time.sleep(0.01)
            if time.monotonic() < pause or sum(hit.values()) >= KILLS:
                continue
            titles = {process.pid: _title(process) for process in cluster.workers(node)}
            wanted = order.choice(["MapWorker", "ReadUnitSource", "parts", "seal_file", "MapWorker"])
            chosen = [pid for pid, title in titles.items() if wanted in title]
            if chosen:
                pid = order.choice(chosen)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                hit[titles[pid].removeprefix("ray::").split(".")[0].strip()] += 1
                pause = time.monotonic() + order.uniform(0.5, 4.0)
        assert driver.returncode == 0, (run.parent / f"{run.name}.log").read_text()
        assert digests(run) == expected, (SEED, hit)
    print(f"\n{sum(hit.values())} kills of workers in {runs} runs (seed {SEED}): {dict(hit)}; bytes equal each time")
    assert sum(hit.values()) == KILLS


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_an_object_store_that_holds_less_than_the_run(cluster: LocalCluster, tmp_path: Path) -> None:
    """Three units of 60 MB at a time in a store of 160 MB: Ray spills or waits, and no row is lost.

    The rows' own column makes them heavy, and noise is what nothing packs.
    """
    n_rows, noise = 6_000, random.Random(SEED)
    words = ["Ada", "met", "Bo"]
    rows = {
        "tokens": [words] * n_rows,
        "tags": [["B-PER", "O", "B-PER"]] * n_rows,
        "note": [noise.randbytes(30_000) for _ in range(n_rows)],
    }
    pq.write_table(pa.table(rows), tmp_path / "in.parquet", row_group_size=1_000)
    pq.write_table(pa.table({"tokens": [["Ada", "traf", "Bo"]] * n_rows}), tmp_path / "out.parquet")
    (tmp_path / "links.txt").write_text("0-0 1-1 2-2\n" * n_rows)
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        input={"path": "in.parquet", "parallel": {"deu_Latn": "out.parquet"}, "columns": {"tags": "tags"}},
        match={"workers": 1, "prior": "none"},
        engine={"unit_rows": 2_000},
    )
    driver = _start(cluster, recipe, tmp_path / "run")
    assert driver.wait(600) == 0, (tmp_path / "run.log").read_text()
    files = sorted((tmp_path / "run").glob("data/*/*.parquet"))
    whole = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
    assert whole.num_rows == n_rows
    assert whole.column("note").to_pylist() == rows["note"]
    assert all(len(spans) == 2 for spans in whole.column("spans").to_pylist())
