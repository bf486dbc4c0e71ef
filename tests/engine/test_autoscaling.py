"""Fake GPU nodes that come and go, and are killed; one fake GPU for three stages. Real models, on the CPU.

Minutes long, so `make chaos` runs them and `make test` does not.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from local_cluster import LocalCluster, NodeType, local_cluster
from published import digests

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.chaos]


def _recipe(folder: Path, sentences: int, **sections: Mapping[str, Any]) -> Path:
    source = (ROOT / "jobs/data/templates.en.conll").read_text(encoding="utf-8").split("\n\n")[:sentences]
    source[7] = "# id = broken\nBad\tX-TAG"
    (folder / "in.conll").write_text("\n\n".join(source) + "\n", encoding="utf-8")
    recipe = {
        "input": {"path": "in.conll"},
        "targets": ["swh_Latn", "spa_Latn"],
        "output": {"max_reject_rate": 0.1},
        **sections,
        "translate": {"model": "tiny-nllb", **sections.get("translate", {})},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def _project(
    cluster: LocalCluster | None, recipe: Path, run: Path, settings: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """A driver on the cluster, or on a Ray that it starts."""
    command = [sys.executable, "-m", "xner_ray", "project", str(recipe), str(run)]
    command += [f"--set={setting}" for setting in settings]
    environment = cluster.env if cluster is not None else None
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _finish(driver: "subprocess.Popen[str]", status: int = 0) -> str:
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == status, output
    return " ".join(output.split())


def _parts(run: Path) -> int:
    return len(list((run / "_run" / "parts").glob("*/*.parquet")))


@pytest.fixture(scope="module")
def autoscaled() -> Iterator[LocalCluster]:
    """A head without CPUs for work, a node of 2 CPUs, and 0 to 3 nodes of one fake GPU."""
    nodes = {"cpu": NodeType({"CPU": 2}, least=1), "gpu": NodeType({"CPU": 1, "GPU": 1}, most=3)}
    with local_cluster(cpus=0, nodes=nodes, idle_s=8) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """80 units, and the digests of an undisturbed run by local workers without any GPU."""
    folder = tmp_path_factory.mktemp("expected")
    recipe = _recipe(folder, 200, engine={"unit_rows": 5})
    _finish(_project(None, recipe, folder / "run"))
    return recipe, digests(folder / "run")


# Nothing says how many GPU workers: as many as the autoscaler gives
GPU_POOL = ("translate.gpus=1", "align.workers=1", "match.workers=1")


def test_gpu_nodes_come_are_killed_and_go(
    autoscaled: LocalCluster, expected: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """0 -> 3, one killed with its worker in the middle of a unit, 3 again, 0. The same bytes as without any of it."""
    recipe, wanted = expected
    assert not autoscaled.nodes("gpu")
    driver = _project(autoscaled, recipe, tmp_path / "run", GPU_POOL)
    autoscaled.wait("ten parts", lambda: _parts(tmp_path / "run") >= 10 or driver.poll() is not None, 400)
    assert driver.poll() is None, driver.communicate()[0]
    before = {node.pid for node in autoscaled.nodes("gpu")}
    (busy, *_) = [node for node in autoscaled.nodes("gpu") if autoscaled.workers(node, "ray::MapWorker")]
    os.kill(busy.pid, signal.SIGKILL)
    most = 0
    while driver.poll() is None:
        most = max(most, len(autoscaled.nodes("gpu")))
        time.sleep(0.2)
    _finish(driver)
    assert digests(tmp_path / "run") == wanted
    assert most == 3
    assert busy.pid in before
    autoscaled.wait("no GPU node", lambda: not autoscaled.nodes("gpu"), 60)


def test_what_the_autoscaler_can_never_give_is_refused(autoscaled: LocalCluster, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, 40)
    for settings in (
        ["translate.gpus=1", "translate.workers=4"],  # of three
        ["translate.gpus=2", "translate.workers=1"],  # no node has two
        ["translate.gpus=1", "translate.workers=2", "align.gpus=1", "align.workers=[2,3]"],  # two pools
    ):
        output = _finish(_project(autoscaled, recipe, tmp_path / "run", settings), status=2)
        assert "its autoscaler says that its node types and their maxima cannot give the rest" in output
        assert not autoscaled.nodes("gpu"), "a question must not start what it cannot have"


@pytest.fixture(scope="module")
def one_gpu() -> Iterator[LocalCluster]:
    with local_cluster(cpus=2, gpus=1) as cluster:
        yield cluster


THREE_STAGES: dict[str, Any] = {
    "likelihood": {"engine": "nllb", "model": "tiny-nllb"},
    "match": {"prior": "none", "scores": {"soft": 1.0, "likelihood": 0.2}},
    "engine": {"unit_rows": 6},
}


def test_three_stages_share_one_gpu_on_two_cpus(one_gpu: LocalCluster, tmp_path: Path) -> None:
    """As one actor, and as three pools with fractions; these are killed in the middle, and the resume ends too."""
    recipe = _recipe(tmp_path, 48, **THREE_STAGES)
    together = [f"{stage}.gpus=1" for stage in ("translate", "align", "likelihood")]
    output = _finish(_project(one_gpu, recipe, tmp_path / "together", together))
    assert "workers: translate x 1" not in output
    assert "translate+align+likelihood x 1, match x" in output

    apart = ["translate.gpus=0.3", "align.gpus=0.25", "likelihood.gpus=0.4"]
    driver = _project(one_gpu, recipe, tmp_path / "apart", apart)
    one_gpu.wait("three parts", lambda: _parts(tmp_path / "apart") >= 3 or driver.poll() is not None, 400)
    assert driver.poll() is None, driver.communicate()[0]
    psutil.Process(driver.pid).kill()
    driver.communicate()
    done = _parts(tmp_path / "apart")
    assert 3 <= done < 16
    output = _finish(_project(one_gpu, recipe, tmp_path / "apart", apart))
    assert "workers: translate x 1-3, align x 1-4, likelihood x 1-2, match x 1" in output
    assert digests(tmp_path / "apart") == digests(tmp_path / "together")
