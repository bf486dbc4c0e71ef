"""The command `rejects`: rows by reason, of finished and unfinished runs, written out and read again."""

import json
from pathlib import Path

import pytest
from reading import read_all, to_train
from run_folders import finished
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands.rejects import rejects
from xner_ray.errors import DamageError, InputError, Reason
from xner_ray.report.cures import cure
from xner_ray.run.folder import RunFolder

TEXT = (
    "# id = one\nAnna B-PER\nruns O\n\n# id = two\nBad X-TAG\n\n# id = three\nनई B-LOC\nदिल्ली I-LOC\nboomed O\n\n"
    "# id = four\nMore B-PER\nwords O\nthan O\nare O\nallowed O\n\n# id = one\nTwice O\n"
)


def _recipe(folder: Path) -> Path:
    (folder / "in.conll").write_text(TEXT, encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(
        "input: {path: in.conll, max_words: 4, parallel: {spa_Latn: in.conll}}\ntargets: [spa_Latn]\n"
        "align: {encoder: builtin}\n"
    )
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rejects")
    xner_ray.project(_recipe(folder), folder / "run", allow_rejects=True)
    return folder / "run"


def test_rows_stand_under_their_reasons_with_place_and_cure(run: Path) -> None:
    found = rejects(run)
    assert (found.finished, found.rows) == (True, 5)
    assert found.rejected == {"duplicate_id": 1, "illegal_tag": 1, "too_long": 1}
    (bad,) = found.examples["illegal_tag"]
    assert bad["id"] == "two" and bad["detail"].startswith("in.conll:6: line 6: illegal tag 'X-TAG'")
    shown = CliRunner().invoke(cli.app, ["rejects", str(run)], env={"COLUMNS": "200"}).output
    assert "illegal tag 'X-TAG'" in shown and "input.scheme" in shown and "More words than are allowed" in shown


def test_one_reason_and_a_limit(run: Path) -> None:
    shown = CliRunner().invoke(cli.app, ["rejects", str(run), "--reason", "too_long", "--json"]).output
    found = json.loads(shown)
    assert found["rejected"] == {"too_long": 1}
    assert found["examples"]["too_long"][0]["tokens"] == ["More", "words", "than", "are", "allowed"]
    assert not any(rejects(run, limit=0).examples.values())
    with pytest.raises(InputError, match=r"'too_lang' is no reason to reject a row; did you mean 'too_long'"):
        rejects(run, reason="too_lang")


def test_what_is_written_is_read_again(run: Path, tmp_path: Path) -> None:
    found = rejects(run, reason="too_long", output=tmp_path / "bad.jsonl", limit=0)
    assert found.rows_written == 1
    table = read_all(to_train(tmp_path / "bad.jsonl"))
    assert table.column("id").to_pylist() == ["four"]
    assert table.column("source_tokens").to_pylist() == [["More", "words", "than", "are", "allowed"]]
    written = json.loads((tmp_path / "bad.jsonl").read_text())
    assert written["reason"] == "too_long" and "5 words; input.max_words is 4" in written["detail"]


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    bad = {"status": "rejected", "reason": "malformed", "detail": "a.conll:1: no", "source_text": "x"}
    run = finished(tmp_path / "run", {"spa_Latn": [{"status": "ok", "tokens": ["x"]}, bad, bad]}, unit_rows=2)
    folder = RunFolder(str(run))
    folder.unseal()
    Path(folder.parts()["spa_Latn-000000000000"]).unlink()
    found = rejects(run)
    assert (found.finished, found.units_done, found.units, found.rows) == (False, 1, 2, 1)
    assert found.rejected == {"malformed": 1}
    shown = CliRunner().invoke(cli.app, ["rejects", str(run)], env={"COLUMNS": "200"}).output
    assert "is not finished: 1 of 2 units" in shown


def test_a_damaged_part_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"spa_Latn": [{"status": "ok", "tokens": ["x"]}]})
    part = Path(RunFolder(str(run)).parts()["spa_Latn-000000000000"])
    part.write_bytes(part.read_bytes().replace(b"ok", b"OK"))
    with pytest.raises(DamageError, match="was altered"):
        rejects(run)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_cure(reason: Reason) -> None:
    assert cure(reason)
