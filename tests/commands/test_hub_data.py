"""Runs over a data set of the hub: a hub on loopback moves on, or goes away."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import ended_after_first_of_three
from hub_server import HubServer
from local_cluster import local_cluster
from published import digests
from rich.console import Console

import xner_ray
from xner_ray.errors import FatalError, InputError, RunFolderError
from xner_ray.storage import hub as hub_files

NER = "hf://datasets/owner/ner"
FILES = {
    "README.md": b"# a card",
    "train.conll": b"ab B-PER\nc O\n\nd B-LOC\n\n" * 4,
    "out/spa_Latn.txt": b"c ab\nd\n" * 4,
    "links.txt": b"0-1 1-0\n0-0\n" * 4,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    server.join(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "sums"))
    server.put("datasets/owner/ner", FILES)
    hub_files._blocks.clear()
    yield server
    server.close()


def _recipe(revision: str = "", **given: Any) -> dict[str, Any]:
    place = NER + revision
    return {
        "input": {
            "path": f"{place}/train.conll",
            "parallel": {"spa_Latn": f"{place}/out/spa_Latn.txt"},
            "links": f"{place}/links.txt",
            **given,
        },
        "targets": ["spa_Latn"],
        "align": {"backend": "provided"},
        "engine": {"unit_rows": 3, "executor": "inline"},
    }


def _interrupted(recipe: dict[str, Any], run: Path) -> None:
    """Make the first unit of a run."""
    with ended_after_first_of_three(run):
        xner_ray.project(recipe, run)


def _said(recipe: dict[str, Any], run: Path) -> str:
    text = io.StringIO()
    xner_ray.project(recipe, run, console=Console(file=text, width=300))
    return text.getvalue()


@pytest.mark.slow
def test_a_run_keeps_the_commit_that_it_began_with(hub: HubServer, tmp_path: Path) -> None:
    began = hub.refs["datasets/owner/ner"]["main"]
    assert f"hf://datasets/owner/ner@main: commit {began}" in _said(_recipe(), tmp_path / "undisturbed")
    _interrupted(_recipe(), tmp_path / "run")
    moved = hub.put("datasets/owner/ner", FILES | {"train.conll": FILES["train.conll"].replace(b"PER", b"ORG")})
    hub.requests.clear()
    xner_ray.project(_recipe(), tmp_path / "run")
    assert digests(tmp_path / "run") == digests(tmp_path / "undisturbed")
    assert not hub.asked() and not [path for _, path in hub.requests if moved in path]
    with pytest.raises(
        RunFolderError,
        match=rf"train\.conll: {NER}@{moved}/train\.conll is another .*; hf://datasets/owner/ner@{began} resumes",
    ):
        xner_ray.project(_recipe(f"@{moved}"), tmp_path / "run")
    xner_ray.project(_recipe(f"@{began}"), tmp_path / "run")  # the same data by another address
    report = xner_ray.project(_recipe(), tmp_path / "run", fresh=True).report
    assert report.labels["kept"] == ["LOC", "ORG"]


@pytest.mark.slow
def test_a_download_resumes_the_run(hub: HubServer, tmp_path: Path) -> None:
    """As where the hub is gone, whose message says so."""
    _interrupted(_recipe(), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    for name, data in FILES.items():
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_bytes(data)
    xner_ray.project(_recipe(), tmp_path / "other")
    hub.close()
    hub_files._blocks.clear()
    hub_files._entries.clear()
    with pytest.raises(
        FatalError, match=r"units are to be made, .*: hf://datasets/owner/ner@.*does not answer.*hf download"
    ):
        xner_ray.project(_recipe(), tmp_path / "run")
    here = tmp_path / "here"
    given = {"parallel": {"spa_Latn": f"{here}/out/spa_Latn.txt"}, "links": f"{here}/links.txt"}
    xner_ray.project(_recipe(path=f"{here}/train.conll", **given), tmp_path / "run")
    assert digests(tmp_path / "run") == digests(tmp_path / "other")


@pytest.mark.slow
def test_a_finished_run_needs_no_hub(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xner_ray.project(_recipe(), tmp_path / "run")
    hub_files._entries.clear()
    hub.online(monkeypatch, offline=True)
    assert "is complete" in _said(_recipe(), tmp_path / "run")
    hub.online(monkeypatch)
    hub.close()
    assert "is complete" in _said(_recipe(), tmp_path / "run")


def test_a_run_is_never_at_the_hub(hub: HubServer) -> None:
    with pytest.raises(InputError, match=r"hf://datasets/owner/run: data sets of the hub are read, never written"):
        xner_ray.project(_recipe(), "hf://datasets/owner/run")


@pytest.mark.long
@pytest.mark.ray
def test_a_token_of_the_driver_reaches_nodes_that_have_none(hub: HubServer, tmp_path: Path) -> None:
    """A cluster that knows neither token nor endpoint; nothing of it writes the token down."""
    hub.private.add("datasets/owner/ner")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(_recipe() | {"engine": {"unit_rows": 3}}))
    command = [sys.executable, "-m", "xner_ray", "project", str(tmp_path / "recipe.yaml"), str(tmp_path / "run")]
    with local_cluster(cpus=2, env={"HF_HOME": str(tmp_path / "node"), "HF_HUB_OFFLINE": "0"}) as cluster:
        environ = {name: value for name, value in cluster.env.items() if not name.startswith("HF_")}
        environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.may}
        ended = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        logs = [path for path in cluster.folder.rglob("*") if path.is_file() and "sockets" not in path.parts]
        assert len(logs) > 10
        for path in [*logs, *(path for path in tmp_path.rglob("*") if path.is_file())]:
            assert hub.may.encode() not in path.read_bytes(), path


@pytest.mark.ray
def test_endpoint_and_token_of_the_environment_reach_the_workers(hub: HubServer, tmp_path: Path) -> None:
    hub.private.add("datasets/owner/ner")
    recipe = _recipe() | {"engine": {"unit_rows": 3, "executor": "ray"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "xner_ray", "project", str(tmp_path / "recipe.yaml"), str(tmp_path / "run")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "RAY_ADDRESS": "local"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert ended.returncode == 2 and "a token is missing: give one by HF_TOKEN" in ended.stderr
    ended = subprocess.run(command, env=environ | {"HF_TOKEN": hub.may}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert hub.may not in ended.stdout + ended.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and hub.may.encode() in path.read_bytes()]
