"""Whole runs on an object store and on a full disk: input, run, faults, resume. Real Ray; no model is loaded."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from given_files import over_links
from rich.console import Console
from s3_server import S3Server

import xner_ray
from xner_ray.errors import RetryableError, StorageError
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.storage.lease import Lease

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
LANGUAGES = {"eng_Latn": "en", "spa_Latn": "es", "swh_Latn": "sw"}
UNITS = 6
HERE, ON_RAY = ["engine.executor=inline"], ["engine.executor=ray", "match.cpus=0.3"]


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    server = S3Server()
    for code, short in LANGUAGES.items():
        text = (ROOT / f"jobs/data/templates.{short}.conll").read_text(encoding="utf-8")
        server.put(f"/bucket/in/{code}.conll", ("\n\n".join(text.split("\n\n")[:30]) + "\n").encode())
    for code in ("spa_Latn", "swh_Latn"):
        server.put(f"/bucket/in/{code}.links", b"0-0 1-1 2-2 3-3 4-4\n" * 30)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def without_faults(store: S3Server) -> Iterator[None]:
    yield
    store.fault = lambda method, path, query: None


def _recipe(store: S3Server) -> dict[str, Any]:
    targets = ["spa_Latn", "swh_Latn"]
    given = {
        "path": store.uri("bucket/in/eng_Latn.conll"),
        "parallel": {code: store.uri(f"bucket/in/{code}.conll") for code in targets},
        "links": store.uri("bucket/in/{lang}.links"),
    }
    return over_links(input=given, targets=targets, engine={"unit_rows": 10})


def _published(run: str) -> dict[str, str]:
    """SHA-256 of all files of the data set."""
    inner = storage.locate(run)[1]
    files = [info.path for part in ("data", "rejects") for info in storage.files_below(storage.join(run, part))]
    return {
        path[len(inner) :]: hashlib.sha256(storage.read_bytes(storage.within(run, path))).hexdigest() for path in files
    }


@pytest.fixture(scope="module")
def expected(store: S3Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data set of an undisturbed run on a disk."""
    run = tmp_path_factory.mktemp("expected") / "run"
    report = xner_ray.project(_recipe(store), run, overrides=HERE)
    assert report["rows"] == {"read": 60, "emitted": 60, "rejected": 0}
    assert report["entities"]["projected"] > 50
    return _published(str(run))


def _parts(store: S3Server, run: str) -> set[str]:
    with store.lock:
        return {p.rpartition("/")[2] for p in store.objects if p.startswith(f"/bucket/{run}/_run/parts/")}


def test_a_run_survives_a_killed_driver_and_a_store_that_fails_and_all_commands_read_it(
    store: S3Server, expected: dict[str, str], tmp_path: Path, ray_here: None
) -> None:
    run = store.uri("bucket/whole")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_recipe(store)))
    store.fault = lambda method, path, query: (
        "hang" if method == "PUT" and "/parts/" in path and len(_parts(store, "whole")) >= 1 else None
    )
    command = [sys.executable, "-m", "xner_ray", "project", str(recipe), run, "--set", ON_RAY[0], "--set", ON_RAY[1]]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(_parts(store, "whole")) < 1 and time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert "/bucket/whole/_run/LOCK" in store.objects
    assert "/bucket/whole/_run/SEALED" not in store.objects

    done = _parts(store, "whole")
    store.fault = lambda method, path, query: (
        "SlowDown" if "/whole/" in path and len(_parts(store, "whole")) >= 3 else None
    )
    with pytest.raises(RetryableError, match=r"(?s)s3://bucket/whole.*does not answer.*the same command resumes"):
        xner_ray.project(recipe, run, overrides=ON_RAY)
    assert done < _parts(store, "whole")
    assert len(_parts(store, "whole")) < UNITS

    numbers = iter(range(1_000_000))
    store.fault = lambda method, path, query: ("SlowDown", "reset")[n % 2] if (n := next(numbers)) % 9 == 0 else None
    report = xner_ray.project(recipe, run, overrides=ON_RAY).report
    assert next(numbers) > 50
    assert report["rows"] == {"read": 60, "emitted": 60, "rejected": 0}
    store.fault = lambda method, path, query: None
    assert _published(run) == expected
    sent = len(store.requests)
    assert xner_ray.project(recipe, run, overrides=ON_RAY).report == replace(report, max_reject_rate=0.01)
    written = [path for method, path, _ in store.requests[sent:] if method == "PUT"]
    assert all("/_run/LOCK" in path or path.endswith("/") for path in written)  # complete: left alone

    greedy, both = store.uri("bucket/greedy"), store.uri("bucket/both")
    xner_ray.rematch(run, greedy, overrides=["match.solver=greedy"])
    xner_ray.combine([run, greedy], both)
    text = io.StringIO()
    Console(file=text, width=200).print(xner_ray.status(both), xner_ray.explain(both, "tmpl-0001", "spa_Latn"))
    assert "sealed: the data set is complete" in text.getvalue()
    (spanish, _) = xner_ray.evaluate(run)
    assert spanish.lang == "spa_Latn"
    exported = xner_ray.export(run)
    assert exported[0] == store.uri("bucket/whole/export/spa_Latn.train.conll")
    assert storage.read_bytes(exported[0]).startswith(b"La\tO\n")

    for path, (data, _) in list(store.objects.items()):
        if path.startswith("/bucket/whole/") and not path.endswith("/"):
            target = tmp_path / path.removeprefix("/bucket/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    data = datasets.load_dataset(str(tmp_path / "whole"), "spa_Latn", cache_dir=str(tmp_path / "cache"))
    assert data["train"].num_rows == 30
    assert b"endpoint" not in (tmp_path / "whole/README.md").read_bytes()


@pytest.mark.parametrize("overrides", [HERE, ON_RAY], ids=["inline", "ray"])
def test_two_drivers_at_once_give_the_same_data_set(
    store: S3Server, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch, overrides: list[str], ray_here: None
) -> None:
    """The lock is taken away from both."""
    monkeypatch.setattr(Lease, "_take", lambda self: self._write())
    monkeypatch.setattr(Lease, "check", lambda self: None)
    run = store.uri("bucket/two")

    def slowly(method: str, path: str, query: dict[str, str]) -> str | None:
        if method == "PUT" and "/parts/" in path:
            time.sleep(0.1)
        return None

    store.fault = slowly
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            xner_ray.project(_recipe(store), run, overrides=overrides)
        except BaseException as error:
            failures.append(error)

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert not failures
    written = [path for method, path, _ in store.requests if method == "PUT" and "/two/_run/parts/" in path]
    assert len(written) > UNITS, "the drivers did not meet"
    assert len(_parts(store, "two")) == UNITS
    assert _published(run) == expected


@pytest.mark.parametrize("overrides", [HERE, ON_RAY], ids=["inline", "ray"])
def test_a_full_disk_ends_a_run_that_then_resumes(
    store: S3Server, expected: dict[str, str], tmp_path: Path, overrides: list[str], ray_here: None
) -> None:
    """A real one: a small file system in memory that is then made larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system in memory cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=r"\.parquet: cannot be written: no space is left there"):
            xner_ray.project(_recipe(store), disk / "run", overrides=overrides)
        assert 0 < len(RunFolder(str(disk / "run")).parts()) < UNITS
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        xner_ray.project(_recipe(store), disk / "run", overrides=overrides)
        assert _published(str(disk / "run")) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)
