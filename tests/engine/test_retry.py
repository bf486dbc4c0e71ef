"""Rejects that are tried again. Stages raise on chosen rows, in a real run that needs no model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faults import in_stage
from given_files import write_recipe, write_sentences
from made_rows import table_from_rows
from published import digests

import xner_ray
from xner_ray.data import row as data_row
from xner_ray.errors import FatalError, RecipeError
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder

N_ROWS = 60


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough rows for a prior, in units of 8, with one row that no retry mends."""
    folder = tmp_path_factory.mktemp("retry")
    write_sentences(folder, N_ROWS, bad=11)
    engine = {"unit_rows": 8, "executor": "inline"}
    return write_recipe(folder / "recipe.yaml", output={"max_reject_rate": 0.5}, engine=engine)


def _raise_on(monkeypatch: pytest.MonkeyPatch, bad: set[str]) -> None:
    def check(row: Mapping[str, Any]) -> None:
        if row["id"] in bad:
            raise OSError(f"no word list for {row['id']}")

    in_stage(monkeypatch, "match", check)


@pytest.mark.slow
def test_a_retry_gives_the_data_set_of_a_run_without_the_fault(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tmp_path / "undisturbed"
    report = xner_ray.project(recipe, expected)
    assert report["rejects"] == {"illegal_tag": 1}
    assert report["priors"]["deu_Latn"]["used"]

    run = tmp_path / "run"
    _raise_on(monkeypatch, {"3", "17", "18", "40"})
    report = xner_ray.project(recipe, run)
    assert report["rejects"] == {"illegal_tag": 1, "stage_error": 4}
    row = next(
        r
        for r in part_files.read_part(RunFolder(str(run)).parts()["deu_Latn-000000000000"]).to_pylist()
        if r["id"] == "3"
    )
    assert row["detail"].endswith("OSError: no word list for 3")

    # Half of the fault is gone. What is made again and is no reject stays as it was.
    monkeypatch.undo()
    _raise_on(monkeypatch, {"17"})
    report = xner_ray.project(recipe, run, retry_rejects=["stage_error"])
    assert report["rejects"] == {"illegal_tag": 1, "stage_error": 1}
    assert report["rows"] == {"read": N_ROWS, "emitted": N_ROWS - 2, "rejected": 2}
    assert report["stages"]["match"]["rows"] == N_ROWS - 1, "a retry is no second time"
    retried = sorted(path.stem for path in (run / "_run/retried").glob("*/*.parquet"))
    assert retried == [f"deu_Latn-{row:012d}" for row in (0, 16, 40)]

    monkeypatch.undo()
    report = xner_ray.project(recipe, run, retry_rejects=["stage_error"])
    assert digests(run) == digests(expected)
    assert len(list((run / "_run/retried").glob("*/*.parquet"))) == 4

    sealed = (run / "_run/SEALED").stat().st_mtime_ns
    assert xner_ray.project(recipe, run, retry_rejects=["stage_error"])["rejects"] == {"illegal_tag": 1}
    assert (run / "_run/SEALED").stat().st_mtime_ns == sealed, "nothing was left to try again"
    xner_ray.project(recipe, run, retry_rejects=["illegal_tag"])
    assert digests(run) == digests(expected)


def test_reasons_are_checked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'stage_eror' is no reason to reject a row; did you mean 'stage_error'"):
        xner_ray.project({"input": {"path": "a"}, "targets": ["deu_Latn"]}, tmp_path, retry_rejects=["stage_eror"])


def _unit(*cells: tuple[str, str | None, str]) -> pa.Table:
    rows = [
        {"row": n, "id": str(n), "status": status, "reason": reason, "text": text}
        for n, (status, reason, text) in enumerate(cells)
    ]
    return table_from_rows(rows, data_row.row_schema())


def test_only_rows_with_the_reason_are_taken_anew() -> None:
    old = _unit(("ok", None, "old"), ("rejected", "stage_error", "old"), ("rejected", "empty", "old"))
    new = _unit(("ok", None, "new"), ("ok", None, "new"), ("ok", None, "new"))
    merged = part_files.retried(old, new, {"stage_error", "too_long"})
    assert merged.column("text").to_pylist() == ["old", "new", "old"]
    assert merged.column("status").to_pylist() == ["ok", "ok", "rejected"]
    with pytest.raises(FatalError, match="other rows"):
        part_files.retried(old, new.slice(1), {"stage_error"})


def test_the_latest_retry_counts(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    before = folder.priors_folder
    for kind, attempt, unit in (
        ("parts", 1, "a"), ("parts", 1, "b"), ("retried", 2, "a"), ("retried", 3, "a"), ("parts", 4, "a")
    ):  # fmt: skip
        path = tmp_path / f"_run/{kind}/{attempt:04d}/{unit}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PAR1" * 3)
    assert {unit: path.split("/_run/")[1] for unit, path in folder.parts().items()} == {
        "a": "retried/0003/a.parquet",
        "b": "parts/0001/b.parquet",
    }
    assert folder.priors_folder != before, "a retry changes what a prior counts"
