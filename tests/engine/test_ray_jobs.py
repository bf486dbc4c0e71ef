"""`ray job submit` on a head of our own: submission id, status, logs, exit status, cancel, resubmit."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import LocalCluster, local_cluster
from published import digests

ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "t0ken" * 4
# The quick start's first sentences, in units small enough that a job can be stopped between two of them
SMALL = ("--set=input.limit=120", "--set=engine.unit_rows=6", "--set=align.workers=1", "--set=match.workers=1")


@pytest.fixture(scope="module")
def head() -> Iterator[LocalCluster]:
    with local_cluster(cpus=2, dashboard=True, env={"HF_TOKEN": TOKEN}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh one, with what a job needs. The package is installed where the head runs."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "xner_ray"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _ray_job(head: LocalCluster, checkout: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", command, *arguments]
    return subprocess.run(ray, env=head.env, cwd=checkout, capture_output=True, text=True, timeout=500)


@pytest.mark.long
def test_a_job_from_submission_to_data(head: LocalCluster, checkout: Path, tmp_path: Path) -> None:
    run, parts = tmp_path / "run", tmp_path / "run" / "_run" / "parts"
    project = ("--working-dir=.", "--", "xner-ray", "project", "jobs/quickstart.yaml")

    submitted = _ray_job(head, checkout, "submit", "--submission-id=first", "--no-wait", *project, str(run), *SMALL)
    assert submitted.returncode == 0, submitted.stderr
    assert "'first' submitted successfully" in submitted.stdout
    head.wait("three parts", lambda: len(list(parts.glob("*/*.parquet"))) >= 3, 400)
    stopped = _ray_job(head, checkout, "stop", "first")
    assert stopped.returncode == 0, stopped.stderr
    assert "Job 'first' was stopped" in _ray_job(head, checkout, "status", "first").stdout
    assert not (run / "_run" / "SEALED").exists()
    before = {path.stem: path.read_bytes() for path in parts.glob("*/*.parquet")}
    assert 3 <= len(before) < 20

    # Something has changed since, so Ray unpacks another copy of the input, with other times
    (checkout / "notes.txt").write_text("stopped once")
    again = _ray_job(head, checkout, "submit", "--submission-id=second", *project, str(run), *SMALL)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Job 'second' succeeded" in again.stdout
    assert "Job 'second' succeeded" in _ray_job(head, checkout, "status", "second").stdout
    logs = _ray_job(head, checkout, "logs", "second").stdout
    assert re.search(r"120 rows in 20 units of up to 6 rows for spa_Latn; \d+ units to do", logs)
    assert re.search(r"\d+/\d+ rows, \S+ rows/s, 0 rejected", logs)
    assert "holds data/" in " ".join(logs.split())
    kept = {path.stem: path.read_bytes() for path in sorted(parts.glob("*/*.parquet"), reverse=True)}
    assert {name: kept[name] for name in before} == before, "a finished unit was made again"

    local = [sys.executable, "-m", "xner_ray", "project", "jobs/quickstart.yaml", str(tmp_path / "local"), *SMALL]
    subprocess.run(local, env=head.env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=500)
    assert digests(run) == digests(tmp_path / "local")
    assert json.loads((run / "report.json").read_text())["rows"]["emitted"] == 120


@pytest.mark.long
@pytest.mark.parametrize(
    ("run", "setting", "message"),
    [
        ("/tmp/never", "align.methd=argmax", "did you mean 'method'?"),
        ("runs/mine", "input.limit=1", "lies in the copy of the working directory that Ray deletes"),
    ],
)
def test_a_job_that_is_refused(head: LocalCluster, checkout: Path, run: str, setting: str, message: str) -> None:
    command = ("xner-ray", "project", "jobs/quickstart.yaml", run, "--set", setting)
    job = _ray_job(head, checkout, "submit", "--working-dir=.", "--", *command)
    assert job.returncode == 1, "the status of `ray job submit`, not ours"
    assert message in " ".join(job.stdout.split())
    assert "exit code 2" in job.stdout + job.stderr, "ours: 2, bad recipe or input"


@pytest.mark.long
def test_a_job_has_the_nodes_token_and_the_settings_that_it_brings(head: LocalCluster, tmp_path: Path) -> None:
    """A token in a runtime environment would stand in a log and in the list of jobs; a setting may."""
    (tmp_path / "ask.py").write_text(
        "import os, ray\nray.init()\n"
        "found = lambda: (len(os.environ.get('HF_TOKEN', '')), os.environ.get('HF_ENDPOINT'))\n"
        "print('driver', *found())\nprint('worker', *ray.get(ray.remote(found).remote()))\n"
    )
    brought = '--runtime-env-json={"env_vars": {"HF_ENDPOINT": "http://mirror"}}'
    job = _ray_job(head, tmp_path, "submit", brought, "--working-dir=.", "--", "python", "ask.py")
    assert job.returncode == 0, job.stdout + job.stderr
    for who in ("driver", "worker"):
        assert f"{who} {len(TOKEN)} http://mirror" in job.stdout
    listed = _ray_job(head, tmp_path, "list")
    assert "http://mirror" in listed.stdout + listed.stderr and TOKEN not in listed.stdout + listed.stderr
    logs = [path for path in head.folder.rglob("*") if path.is_file() and "sockets" not in path.parts]
    assert len(logs) > 10 and not [path for path in logs if TOKEN.encode() in path.read_bytes()]
