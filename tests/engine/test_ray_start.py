"""A Ray that does not start: one message, and the same work without Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from given_files import write_recipe, write_sentences

import xner_ray
from xner_ray.engine import ray_cluster
from xner_ray.errors import FatalError


def test_whatever_ray_raises_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**options: object) -> None:
        raise Exception("The current node timed out.\nAnd more.")

    # A Ray that an earlier test has left running is neither taken nor shut down.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray._private.worker, "_global_node", None)
    monkeypatch.setattr(ray, "init", fails)
    with (
        pytest.raises(FatalError, match=r"^Ray did not start on this machine: The current node timed out\. Mostly"),
        ray_cluster.cluster("local"),
    ):
        pass


def test_a_ray_that_was_joined_before_is_this_machine(ray_here: None) -> None:
    with ray_cluster.cluster("local") as capacity:
        assert capacity.local and not capacity.autoscaled


@pytest.mark.parametrize("autoscaled", [False, True])
def test_a_cluster_that_was_joined_before_is_none(autoscaled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `ray.init()` in a notebook on a node of it: others fetch no model by themselves, and may have the GPUs."""
    node = {"Alive": True, "Resources": {"CPU": 2.0, "memory": 1e9}}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [node] if autoscaled else [node, node])
    monkeypatch.setattr(ray_cluster, "_is_autoscaled", lambda: autoscaled)
    with ray_cluster.cluster("local") as capacity:
        assert not capacity.local and capacity.autoscaled == autoscaled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "The node with node id: 667b and address: 10.77.0.2 and node name: 10.77.0.2 has been marked dead because "
            "the detector has missed too many heartbeats from it. This can happen when a \t(1) x\n\t(2) y",
            "Ray has lost the node at 10.77.0.2; its work goes to others\n",
        ),
        (
            "Task f failed due to oom. There are infinite oom retries remaining, so the task will be retried. Error: 3 "
            "worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.77.0.2, ID: 4a5e) "
            "was 22.45GB used / 23.54GB limit (0.953671)\nOOM kill reason: Memory usage exceeded threshold",
            "Ray has killed workers of the node at 10.77.0.2, short of memory (22.45GB used / 23.54GB limit); "
            "they begin anew\n",
        ),
        ("Raylet is terminated. Last 20 lines of the Raylet logs:\n    [state-dump]", ""),
        ("Task f failed. There are infinite retries remaining, so the task will be retried. Error: RPC error", ""),
    ],
)
def test_a_line_at_most_of_what_ray_says(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts as Ray 2.60 has them, shortened."""
    ray_cluster._said_by_ray("own", {"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert capsys.readouterr() == ("", said)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("RAYLET_EXECUTABLE", "The current node timed out during startup."),
        ("GCS_SERVER_EXECUTABLE", "Timed out waiting for file"),
    ],
)
def test_a_start_that_fails(tmp_path: Path, program: str, why: str) -> None:
    """A program of Ray's ends at once instead of serving; Ray waits half a minute for it."""
    write_sentences(tmp_path, 1, ids=False)
    recipe = write_recipe(tmp_path / "recipe.yaml")
    code = f"import ray._private.services as s; s.{program} = '/bin/false'; from xner_ray.__main__ import main; main()"
    arguments = ["project", str(recipe), str(tmp_path / "run"), "--set=engine.executor=ray"]
    environment = {**os.environ, "COLUMNS": "400"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    begun, said = done.stderr.splitlines()
    assert begun.startswith("project ") and said.startswith(f"xner-ray: Ray did not start on this machine: {why}")
    assert "--set engine.executor=inline" in done.stderr and "engine.address" in done.stderr
    report = xner_ray.project(recipe, tmp_path / "run", overrides=["engine.executor=inline"])
    assert report["rows"]["emitted"] == 1


@pytest.mark.long
@pytest.mark.ray
def test_a_driver_whose_own_node_is_lost_ends_with_a_line() -> None:
    """Ray's core ends no driver whose raylet is killed while its head lives."""
    code = """
import psutil, ray
from xner_ray.engine import ray_cluster
with ray_cluster.cluster("local"):
    waits = ray.remote(num_cpus=1000)(lambda: 0).remote()
    next(child for child in psutil.Process().children() if child.name() == "raylet").kill()
    ray.get(waits)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1 and ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(
        "xner-ray: ended, since Ray has lost the cluster's head or this machine's"
    )
