"""A run as an object: one rate everywhere, data sets, displays."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import xner_ray
from xner_ray.errors import InputError, RunFolderError

JOB = Path(__file__).parents[2] / "jobs" / "quickstart.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[xner_ray.Run, str]:
    said = io.StringIO()
    few = ["input.limit=12", "engine.unit_rows=4"]
    console = Console(file=said, width=200)
    run = xner_ray.project(JOB, tmp_path_factory.mktemp("run") / "r", overrides=few, console=console)
    return run, said.getvalue()


def test_log_page_report_and_status_show_one_rate(made: tuple[xner_ray.Run, str]) -> None:
    run, said = made
    rate = run.report.rows_per_second
    assert rate
    assert re.findall(r"12/12 rows, ([\d,.]+) rows/s", said) == [f"{rate:,.1f}"]
    assert f"; {rate:,.1f} rows/s without it" in (Path(run.path) / "report.html").read_text("utf-8")
    assert json.loads((Path(run.path) / "report.json").read_text())["rows_per_second"] == rate
    assert run.status.first.rows_per_second == rate
    assert f"units: 3 done, 0 left (0 rows); {rate:,.1f} rows/s" in str(run.status)


def test_it_says_what_it_loads_before_it_works(made: tuple[xner_ray.Run, str]) -> None:
    lines = made[1].splitlines()
    looked, done = (next(n for n, line in enumerate(lines) if text in line) for text in ("looking at models", "12/12"))
    loads = [n for n, line in enumerate(lines) if line.startswith("loading ")]  # none where this process has them
    assert 0 == looked < done and all(looked < n < done for n in loads)


def test_a_run_gives_its_data_sets(made: tuple[xner_ray.Run, str]) -> None:
    run, _ = made
    opened = xner_ray.Run(run.path)
    assert (run.languages, len(run.to_arrow("spa_Latn")), opened["rows"]["read"]) == (["spa_Latn"], 12, 12)
    assert opened.report.to_dict() == run.report.to_dict()
    data = run.dataset("spa_Latn")
    assert len(data) == 12 and data.features["ner_tags"].feature.names[0] == "O"
    assert run.evaluate(samples=0)[0].rows == 12
    with pytest.raises(InputError, match="has no language 'swh_Latn'; allowed: spa_Latn"):
        run.to_arrow("swh_Latn")
    with pytest.raises(InputError, match="has no split 'dev'; allowed: train"):
        run.dataset("spa_Latn", "dev")


def test_values_display_in_a_notebook_and_at_a_prompt(made: tuple[xner_ray.Run, str]) -> None:
    run, _ = made
    first = run.to_arrow("spa_Latn").column("id")[0].as_py()
    for value, text in (
        (run.status, "sealed: the data set is complete"),
        (xner_ray.plan(JOB, offline=True), "labels: "),
        (run.explain(first), "source"),
        (run.rejects(), "no row of 12 was rejected"),
    ):
        assert text in repr(value), value
        shown = value._repr_mimebundle_([], [])
        assert text.split()[0] in shown["text/html"] and "<pre" in shown["text/html"]
    assert "12 rows of spa_Latn" in run._repr_html_() and "<script" not in run._repr_html_()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run here"):
        xner_ray.Run(tmp_path / "nothing")
