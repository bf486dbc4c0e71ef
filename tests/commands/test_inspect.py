"""How far a run is, from a folder whose files and times the test has made."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_rows import table_from_rows
from page_rows import row_of
from rich.console import Console
from typer.testing import CliRunner

from xner_ray import cli
from xner_ray.commands import inspect, session
from xner_ray.data.row import row_schema
from xner_ray.errors import RunFolderError
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit, unit_name
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.report.status import Status
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

UNITS = [unit_name("spa_Latn", start) for start in range(0, 60, 10)]  # six of ten rows
BEGAN = 1_700_000_000


def _recipe(overrides: Sequence[str] = ()) -> Recipe:
    given = {"path": "/nowhere/a.conll", "labels": {"keep": ["PER"]}, "parallel": {"spa_Latn": "/nowhere/es"}}
    return load_recipe({"input": given, "targets": ["spa_Latn"], "engine": {"price_per_hour": 36}}, overrides)


def _begin(path: Path, overrides: Sequence[str] = ()) -> RunFolder:
    folder = RunFolder(str(path))
    units = [Unit(name, "spa_Latn", "train", 10 * n, 10 * n + 10, None, (), (), (), 0) for n, name in enumerate(UNITS)]
    sink = io.BytesIO()
    rows = {"spa_Latn": 60}
    pq.write_table(Index(units, ["PER"], {}, {}, rows, rows, 0, [], 10).to_table(), sink)
    folder.begin(_recipe(overrides), {}, sink.getvalue(), 10)
    return folder


def _at(path: str, seconds: float) -> None:
    os.utime(path, (BEGAN + seconds, BEGAN + seconds))


def _driver(folder: RunFolder, seconds: float) -> str:
    attempt = folder.next_attempt()
    _at(folder.path("_run", "attempts", attempt), seconds)
    return attempt


def _finish(path: str, unit: str, seconds: float, *, refined: bool = False) -> None:
    """A unit of which one row is rejected; its stages took 4 s, its second matching half a second."""
    rows: list[dict[str, Any]] = [
        {"row": n, "id": str(n), "lang": "spa_Latn", "status": "ok", "complete": True, "solver": "none"}
        for n in range(10)
    ]
    rows[3] |= {"status": "rejected", "reason": "too_long"}
    stages = {"align": {"rows": 9, "seconds": 4.0, "tokens": 90, "model_seconds": 3.0, "rejects": {}}}
    if refined:
        stages["refine"] = {"rows": 9, "seconds": 0.5, "tokens": 0, "model_seconds": 0.0, "rejects": {}}
    table = table_from_rows(rows, row_schema())
    part_files.write_part(path, table, {**part_files.count(table), "stages": stages})
    _at(path, seconds)


def _parts(folder: RunFolder, attempt: str, times: dict[str, float]) -> None:
    for unit, seconds in times.items():
        _finish(folder.path("_run", "parts", attempt, f"{unit}.parquet"), unit, seconds)


def _refined(folder: RunFolder, times: dict[str, float]) -> None:
    for unit, seconds in times.items():
        _finish(f"{folder.refined_folder}/{unit}.parquet", unit, seconds, refined=True)


def _said(folder: RunFolder, now: float) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(Status.of(inspect.run_progress(folder.root, now=BEGAN + now)))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_dead_run_tells_what_is_left_and_for_how_long(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    # 60 s of loading models; its first unit began at 60; a unit every 10 s from there on
    _parts(folder, _driver(folder, 0), {UNITS[0]: 64, UNITS[1]: 70, UNITS[2]: 80})
    found = inspect.run_progress(tmp_path, now=BEGAN + 380)
    assert (found["sealed"], found["driver_lives"], found["drivers"]) == (False, False, 1)
    assert found["units"] == {"total": 6, "done": 3, "left": 3}
    assert found["rows"] == {"total": 60, "done": 30, "left": 30}
    assert (found["rows_per_second"], found["seconds_left"]) == (1.5, 20.0)
    assert (found["seconds"], found["seconds_since_last_file"]) == (80.0, 300.0)
    assert found["second_matching"]["rows"] == {"total": 60, "done": 0, "left": 60}
    assert found["second_matching"]["seconds_left"] is None
    # 80 s so far and 20 s to come, at 36 an hour; for 60 rows
    assert found["cost"] == {
        "price_per_hour": 36.0,
        "hours": 0.0222,
        "so_far": 0.8,
        "at_the_end": 1.0,
        "per_million_rows": 16666.6667,
    }
    assert found["report"]["rows"] == {"read": 30, "emitted": 27, "rejected": 3}
    assert found["report"]["rejects"] == {"too_long": 3}
    text = _said(folder, 380)
    for line in (
        "not sealed",
        "no driver is alive; the same command resumes it, last file 0:05:00 ago",
        "units: 3 done, 3 left (30 rows); 1.5 rows/s, 0:00:20 left",
        "second matching: 0 done, 6 left (60 rows)",
        "cost 0.80, 1.00 at the end, 16,666.67 per million rows",
        "rejected: too_long",
    ):
        assert line in text


def test_the_rate_is_that_of_the_last_driver_that_finished_a_unit(tmp_path: Path) -> None:
    """And the hours between two drivers cost nothing."""
    folder = _begin(tmp_path)
    _parts(folder, _driver(folder, 0), {UNITS[0]: 10})
    _parts(folder, _driver(folder, 36_000), {UNITS[1]: 36_010, UNITS[2]: 36_026})
    found = inspect.run_progress(tmp_path, now=BEGAN + 40_000)
    assert (found["rows_per_second"], found["seconds_left"], found["seconds"]) == (1.0, 30.0, 36.0)
    _driver(folder, 50_000)
    again = inspect.run_progress(tmp_path, now=BEGAN + 60_000)
    assert {**again, "drivers": 2, "seconds_since_last_file": 3974.0} == found
    assert again["seconds_since_last_file"] == 10_000.0


def test_the_second_matching_has_its_own_rate(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    attempt = _driver(folder, 0)
    _parts(folder, attempt, {unit: 10.0 + n for n, unit in enumerate(UNITS)})
    storage.publish(f"{folder.priors_folder}/spa_Latn.parquet", b"")
    _at(f"{folder.priors_folder}/spa_Latn.parquet", 19)
    _refined(folder, {UNITS[0]: 20.5, UNITS[1]: 21})
    found = inspect.run_progress(tmp_path, now=BEGAN + 30)
    assert (found["units"]["left"], found["seconds_left"], found["rows_per_second"]) == (0, 0.0, 6.7)
    second = found["second_matching"]
    assert (second["units"]["left"], second["rows_per_second"], second["seconds_left"]) == (4, 20.0, 2.0)
    assert found["cost"]["at_the_end"] == round(36 * (21 + 2) / 3600, 4)
    assert not found["sealed"]
    assert "second matching: 2 done, 4 left (40 rows); 20.0 rows/s, 0:00:02 left" in _said(folder, 30)
    # Its parts are there; another driver has the rest to match again
    _driver(folder, 1000)
    _refined(folder, {UNITS[2]: 1010.5, UNITS[3]: 1012})
    second = inspect.run_progress(tmp_path, now=BEGAN + 2000)["second_matching"]
    assert (second["units"]["left"], second["rows_per_second"], second["seconds_left"]) == (2, 10.0, 2.0)


def test_a_run_of_one_matching_has_no_second(tmp_path: Path) -> None:
    folder = _begin(tmp_path, ["match.prior=none", "engine.price_per_hour=null"])
    _driver(folder, 0)
    found = inspect.run_progress(tmp_path, now=BEGAN + 30)
    assert (found["second_matching"], found["cost"], found["rows_per_second"]) == (None, None, None)
    text = _said(folder, 30)
    assert "second matching" not in text
    assert "cost" not in text


def test_a_run_without_a_driver_yet(tmp_path: Path) -> None:
    found = inspect.run_progress(_begin(tmp_path).root)
    assert (found["drivers"], found["seconds_since_last_file"], found["seconds"]) == (0, None, 0.0)
    assert "no unit was started" in _said(RunFolder(str(tmp_path)), 0)


def test_what_was_before_fresh_counts_no_more(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    old = _driver(folder, 0)
    _parts(folder, old, {UNITS[0]: 50})
    folder.discard()
    _begin(tmp_path)
    _parts(folder, _driver(folder, 1000), {UNITS[0]: 1010})
    _parts(folder, old, {UNITS[1]: 2000})  # by a worker that outlived its driver
    found = inspect.run_progress(tmp_path, now=BEGAN + 2000)
    assert (found["units"]["done"], found["seconds"], found["rows_per_second"]) == (1, 10.0, 2.5)


def test_status_says_that_a_driver_works(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    _parts(folder, _driver(folder, 0), {UNITS[0]: 64})
    with folder.claim():
        assert "a driver is working on it, last file 0:05:00 ago" in _said(folder, 364)
    assert "no driver is alive" in _said(folder, 364)


def test_status_as_json_and_as_text(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    _parts(folder, _driver(folder, 0), {UNITS[0]: 64})
    shown = json.loads(CliRunner().invoke(cli.app, ["status", str(tmp_path), "--json"]).output)
    assert shown["rows"] == {"total": 60, "done": 10, "left": 50}
    assert shown["report"]["rejects"] == {"too_long": 1}
    assert "units: 1 done, 5 left (50 rows)" in CliRunner().invoke(cli.app, ["status", str(tmp_path)]).output


@pytest.mark.slow
def test_status_and_explain_import_no_solver_no_model_and_no_pandas(tmp_path: Path) -> None:
    folder = _begin(tmp_path, ["match.prior=none"])
    table = table_from_rows([row_of(0)], row_schema())
    counters = {**part_files.count(table), "stages": {}}
    part_files.write_part(folder.path("_run", "parts", _driver(folder, 0), f"{UNITS[0]}.parquet"), table, counters)
    code = (
        "import atexit, sys; from xner_ray.cli import main; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    for arguments, shown in ((["status"], "1 done, 5 left"), (["explain", "--id", "s0"], "candidates")):
        command = [sys.executable, "-c", code, *arguments, str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        assert shown in ended.stdout
        modules = set(ended.stderr.split())
        assert "pyarrow" in modules
        assert modules.isdisjoint({"scipy.optimize", "ortools", "pandas", "ray", "torch", "transformers"})


def test_a_run_on_an_object_store_does_not_say_whether_a_driver_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _begin(tmp_path)
    _parts(folder, _driver(folder, 0), {UNITS[0]: 64})
    monkeypatch.setattr(RunFolder, "is_claimed", lambda _: None)
    assert "not sealed\nlast file 0:05:00 ago\n" in _said(folder, 364)


def test_the_page_of_a_run_that_is_not_finished(tmp_path: Path) -> None:
    folder = _begin(tmp_path)
    with pytest.raises(RunFolderError, match="no run here"):
        inspect.write_page(tmp_path / "other")
    assert "There is no sentence to show" in Path(inspect.write_page(tmp_path)).read_text()
    _parts(folder, _driver(folder, 0), {UNITS[0]: 64, UNITS[1]: 70, UNITS[2]: 80})
    text = Path(inspect.write_page(tmp_path)).read_text()
    assert "Not sealed: 3 of 6 units are done" in text
    assert "scores, distributions and sentences too" in text
    assert "30 rows in 0:01:20" in text
    assert text == Path(inspect.write_page(tmp_path)).read_text()
    text = Path(inspect.write_page(tmp_path, rows=20)).read_text()
    assert "of 20 sentences, all those of 2 units drawn from 3" in text
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path), "--rows", "30"])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "report.html")


def test_a_page_that_cannot_be_made_keeps_no_run_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _begin(tmp_path)
    inspect.write_page(tmp_path)
    console = Console(width=200, file=io.StringIO())
    given = folder, folder.recipe(), inspect.read_index(folder), {}

    def fails(*_: object, **__: object) -> bytes:
        raise KeyError("a column that is not there")

    monkeypatch.setattr(session, "page_of", fails)
    assert session._page(*given, {}, console) == {}
    assert "report.html was not made (KeyError: 'a column that is not there')" in console.file.getvalue()  # type: ignore[attr-defined]
    assert not (tmp_path / "report.html").exists(), "an old one would be of another state"
