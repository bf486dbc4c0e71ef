"""Workers that fail: models that do not load, processes that die. A run that needs no model, on a local Ray."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faults
import psutil
import pyarrow.parquet as pq
import pytest
import ray.cloudpickle
from given_files import write_recipe, write_sentences
from published import digests

import xner_ray
from xner_ray.engine import ray_data
from xner_ray.errors import FatalError, NodeError, ServiceError
from xner_ray.stage import Stage

N_UNITS = 20
for module in (sys.modules[__name__], faults):  # workers cannot import a test
    ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> tuple[Path, dict[str, str]]:
    """A recipe of 20 units whose links are given, and the digests of its run."""
    folder = tmp_path_factory.mktemp("faults")
    write_sentences(folder, N_UNITS * 2, ids=False)
    match = {"workers": 1, "prior": "none"}
    recipe = write_recipe(folder / "recipe.yaml", align={"workers": 1}, match=match, engine={"unit_rows": 2})
    report = xner_ray.project(recipe, folder / "run")
    assert report["units"] == N_UNITS
    assert report["rows"]["emitted"] == 2 * N_UNITS
    assert report["entities"]["projected"] == 6 * N_UNITS
    return recipe, digests(folder / "run")


Worker = type[ray_data.WritingWorker]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[Worker], None]:
    """Workers of the runs that follow are of this class; one that is defined in a function travels to Ray by value."""
    return lambda worker: monkeypatch.setattr(ray_data, "WORKERS", (ray_data.Worker, worker))


def _no_row_7(row: Mapping[str, Any]) -> None:
    if row["row"] == 7:
        raise OSError("no word list")


def _count(path: Path) -> int:
    """How often this was called with the path, over all processes."""
    with open(path, "ab") as file:
        file.write(b".")
        return file.tell()


@pytest.mark.slow
def test_models_that_do_not_load(
    undisturbed: tuple[Path, dict[str, str]], faulty: Callable[[Worker], None], tmp_path: Path
) -> None:
    recipe, expected = undisturbed
    tries = tmp_path / "tries"
    bad_tries = 2

    class LoadsLate(ray_data.WritingWorker):
        pauses_s = (0.1, 0.1)

        def load(self, name: str) -> Stage:
            if _count(tries) <= bad_tries:
                raise OSError("stale file handle")
            return super().load(name)

    faulty(LoadsLate)
    xner_ray.project(recipe, tmp_path / "late")
    assert digests(tmp_path / "late") == expected

    bad_tries = 99
    tries.unlink()
    with pytest.raises(NodeError) as error:
        xner_ray.project(recipe, tmp_path / "never")
    message = r"the models of match do not load on node [0-9a-f]{12}: OSError: stale file handle"
    assert re.fullmatch(message, str(error.value)), "one line, and nothing of Ray's own"
    assert error.value.exit_status == 1


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_no_fault_of_a_node(
    undisturbed: tuple[Path, dict[str, str]], faulty: Callable[[Worker], None], tmp_path: Path
) -> None:
    """As models come from a store. The only node is not left out: new workers try again on it."""
    recipe, expected = undisturbed
    tries, bad_tries = tmp_path / "tries", 3

    class AsksAStore(ray_data.WritingWorker):
        pauses_s = (0.1,)

        def load(self, name: str) -> Stage:
            if _count(tries) <= bad_tries:
                raise ServiceError("s3://bucket/model: cannot be read: the storage does not answer")
            return super().load(name)

    faulty(AsksAStore)
    xner_ray.project(recipe, tmp_path / "late")
    assert digests(tmp_path / "late") == expected
    bad_tries = 99
    with pytest.raises(ServiceError) as error:
        xner_ray.project(recipe, tmp_path / "never")
    assert str(error.value) == "s3://bucket/model: cannot be read: the storage does not answer"


@pytest.mark.slow
def test_a_row_that_raises_in_a_worker_and_its_retry(
    undisturbed: tuple[Path, dict[str, str]],
    faulty: Callable[[Worker], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    recipe, expected = undisturbed

    class Raises(ray_data.WritingWorker):
        def load(self, name: str) -> Stage:
            return faults.Faulty(super().load(name), _no_row_7)  # type: ignore[return-value]

    faulty(Raises)
    report = xner_ray.project(recipe, tmp_path / "run").report
    assert report.rejects == {"stage_error": 1}
    monkeypatch.undo()
    report = xner_ray.project(recipe, tmp_path / "run", retry_rejects=["stage_error"]).report
    assert report.rejects == {} and len(list((tmp_path / "run/_run/retried").glob("*/*.parquet"))) == 1
    assert digests(tmp_path / "run") == expected


@pytest.mark.long
def test_a_unit_that_kills_its_worker(
    undisturbed: tuple[Path, dict[str, str]],
    faulty: Callable[[Worker], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice is survived; every time ends the run, which says which unit, and goes on when the cause is gone.

    If it is a row that kills, the row is found and rejected.
    """
    recipe, expected = undisturbed
    deaths, most = tmp_path / "deaths", 2

    class Dies(ray_data.WritingWorker):
        deaths, most_deaths = 3, 4

        def work(self, unit: str, table: Any, counted: dict[str, Any]) -> Any:
            if table.column("row")[0].as_py() == 20 and _count(deaths) <= most:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().work(unit, table, counted)

    faulty(Dies)
    xner_ray.project(recipe, tmp_path / "twice")
    assert deaths.stat().st_size == 3
    assert digests(tmp_path / "twice") == expected

    most = 99
    deaths.unlink()
    with pytest.raises(FatalError, match=r"unit deu_Latn-0*20: 4 workers in a row died in the stages match"):
        xner_ray.project(recipe, tmp_path / "always")
    assert deaths.stat().st_size == 4
    monkeypatch.undo()
    xner_ray.project(recipe, tmp_path / "always")
    assert digests(tmp_path / "always") == expected


@pytest.mark.long
def test_a_row_that_kills_its_worker(
    undisturbed: tuple[Path, dict[str, str]], faulty: Callable[[Worker], None], tmp_path: Path
) -> None:
    recipe, _ = undisturbed

    class Deadly:
        """The stage, where a process dies of row 21."""

        def __init__(self, stage: Stage) -> None:
            self.stage = stage

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stage, name)

        def __call__(self, table: Any) -> Any:
            status = dict(zip(table.column("row").to_pylist(), table.column("status").to_pylist(), strict=True))
            if status.get(21) == "ok":
                os.kill(os.getpid(), signal.SIGKILL)
            return self.stage(table)

    class Dies(ray_data.WritingWorker):
        deaths = 1

        def load(self, name: str) -> Stage:
            return Deadly(super().load(name))  # type: ignore[return-value]

    faulty(Dies)
    report = xner_ray.project(recipe, tmp_path / "run", overrides=["engine.unit_rows=8"])
    assert report["rejects"] == {"stage_error": 1}
    (rejected,) = (tmp_path / "run").glob("rejects/**/*.parquet")
    row = pq.read_table(rejected).to_pylist()[0]
    assert row["row"] == 21
    assert row["detail"].startswith("match: two worker processes in a row died of this row alone (killed,")
    rows = {row["row"]: row for path in (tmp_path / "run").glob("data/**/*.parquet") for row in _read(path)}
    undisturbed_rows = {row["row"]: row for path in recipe.parent.glob("run/data/**/*.parquet") for row in _read(path)}
    for number, row in rows.items():
        changed = {"flags": ["bisected"]} if 16 <= number < 24 else {}
        assert row == {**undisturbed_rows[number], **changed}
    assert sorted(rows) == [number for number in range(2 * N_UNITS) if number != 21]


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return rows


@pytest.mark.slow
@pytest.mark.chaos
def test_workers_killed_at_random_moments(
    undisturbed: tuple[Path, dict[str, str]], faulty: Callable[[Worker], None], tmp_path: Path
) -> None:
    recipe, expected = undisturbed

    class Slow(ray_data.WritingWorker):
        def work(self, unit: str, table: Any, counted: dict[str, Any]) -> Any:
            time.sleep(0.3)
            return super().work(unit, table, counted)

    faulty(Slow)
    done = threading.Event()
    killed = []

    def kill() -> None:
        parts = tmp_path / "run" / "_run" / "parts"
        for at_least in (2, 7, 13):
            while len(list(parts.glob("*/*.parquet"))) < at_least and not done.wait(0.05):
                pass
            for process in psutil.Process().children(recursive=True):
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::MapWorker"):
                    process.kill()
                    killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        xner_ray.project(recipe, tmp_path / "run", overrides=["align.workers=2", "match.workers=2"])
    finally:
        done.set()
        killer.join()
    assert len(killed) >= 3
    assert digests(tmp_path / "run") == expected
