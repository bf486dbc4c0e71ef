"""What a damaged run says and becomes: foreign files, two damages at once, folders in the place of files, odd files."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults import rejecting
from mended_runs import failed, finished, project
from published import digests
from synthetic_runs import Killed

import xner_ray
from xner_ray.commands import inspect, session
from xner_ray.commands.combine import combine
from xner_ray.commands.rematch import rematch
from xner_ray.errors import DamageError, FatalError, Reason, RunFolderError
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.load import load_training
from xner_ray.train.sentences import Tally
from xner_ray.train.sources import file_rows

PART = "_run/parts/0001/deu_Latn-000000000010.parquet"
DATA = "data/deu_Latn/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A finished run in a folder of its own, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def test_a_part_of_another_run_is_no_part_of_this_one(home: Path) -> None:
    project(home, "other", overrides=["match.solver=greedy"])
    published = digests(home / "run")
    shutil.copy(home / "other" / PART, home / "run" / PART)
    with pytest.raises(DamageError, match=r"000000000010\.parquet: is a file of another run"):
        xner_ray.evaluate(home / "run")
    assert f"{PART} is a file of another run; it is made again" in project(home)
    assert digests(home / "run") == published
    assert "nothing to do" in project(home)
    project(home, "same")  # of the same recipe; yet its rejects might be others
    shutil.copy(home / "same" / PART, home / "run" / PART)
    assert f"{PART} is a file of another run; it is made again" in project(home)
    assert digests(home / "run") == published


def test_a_mend_that_is_cut_short_leaves_no_finished_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published, run = digests(home / "run"), home / "run"
    (run / PART).unlink()
    with monkeypatch.context() as patch, suppress(Killed):

        def dying(*given: Any, **options: Any) -> None:
            raise Killed

        rejecting(patch, "match", {12: Reason.STAGE_ERROR})  # for once
        patch.setattr(session.publish, "seal", dying)
        project(home, overrides=["output.max_reject_rate=0.5"])
    with pytest.raises(RunFolderError, match="not sealed yet"):
        xner_ray.evaluate(run)
    project(home, retry_rejects=["stage_error"])
    assert digests(run) == published


def test_status_counts_no_part_of_another_run(home: Path) -> None:
    project(home, "other", overrides=["match.solver=greedy"])
    shutil.copy(home / "other" / PART, home / "run" / PART)
    with pytest.raises(DamageError, match=r"000000000010\.parquet: is a file of another run"):
        inspect.run_progress(home / "run")


def test_what_another_run_of_these_rows_was_made_from_is_in_its_fingerprint(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(home, monkeypatch)
    rematch(home / "run", home / "again", overrides=["match.solver=greedy"])
    combine([home / "run", home / "again"], home / "both")
    project(home, retry_rejects=["stage_error"])
    with pytest.raises(RunFolderError, match=r"retried parts of the run: None there"):
        rematch(home / "run", home / "again", overrides=["match.solver=greedy"])
    with pytest.raises(RunFolderError, match=r"retried parts of run 1: None there"):
        combine([home / "run", home / "again"], home / "both")


def test_nothing_is_deleted_that_cannot_be_made(home: Path) -> None:
    (home / "in.conll").rename(home / "gone.conll")
    part = home / "run" / PART
    part.write_bytes(part.read_bytes()[:-9])
    damaged = part.read_bytes()
    with pytest.raises(FatalError, match=r"1 such files are to be made again, and that cannot be: .*in\.conll"):
        project(home)
    assert part.read_bytes() == damaged


def test_a_folder_in_the_place_of_a_file_is_named(home: Path) -> None:
    (home / "run" / DATA).unlink()
    (home / "run" / DATA).mkdir()
    with pytest.raises(DamageError, match=r"train-00000-of-00001\.parquet: is no file"):
        xner_ray.evaluate(home / "run")
    with pytest.raises(RunFolderError, match=r"is no file, and one of the run belongs there; move it away"):
        project(home)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"files": 3}'])
def test_a_seal_of_other_content_is_damage(home: Path, text: str) -> None:
    published = digests(home / "run")
    (home / "run/_run/SEALED").write_text(text)
    with pytest.raises(DamageError):
        xner_ray.evaluate(home / "run")
    project(home)
    assert digests(home / "run") == published


def test_a_file_that_no_seal_lists_is_named(home: Path) -> None:
    shutil.copy(home / "run" / DATA, home / "run" / DATA.replace("00001", "00002"))
    said = project(home)
    assert f"{DATA.replace('00001', '00002')}: is no file of this run, but is read with it; move it away" in said
    assert "nothing to do" in said


def test_a_run_whose_record_and_units_are_gone_is_still_one(home: Path) -> None:
    published = digests(home / "run")
    for name in ("fingerprint.json", "units.parquet"):
        (home / "run/_run" / name).unlink()
    project(home)
    assert digests(home / "run") == published


def test_the_record_of_another_run_is_put_right_by_the_seal(home: Path) -> None:
    project(home, "other", overrides=["match.solver=greedy"])
    published, record = digests(home / "run"), (home / "run/_run/fingerprint.json").read_bytes()
    shutil.copy(home / "other/_run/fingerprint.json", home / "run/_run/fingerprint.json")
    assert "fingerprint.json was damaged; the last driver's copy of it is taken" in project(home)
    assert (home / "run/_run/fingerprint.json").read_bytes() == record and digests(home / "run") == published


def test_what_no_command_makes_again_is_said(home: Path) -> None:
    for path in [home / "run/_run/fingerprint.json", *(home / "run/_run/attempts").iterdir()]:
        path.write_text("x")
    with pytest.raises(FatalError, match=r"fingerprint\.json: .*, and nothing makes it again; .* --fresh"):
        project(home)
    project(home, fresh=True)


def test_a_page_is_not_written_into_a_run_that_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(str(home / "run"))
    with folder.claim(), pytest.raises(RunFolderError, match="another xner-ray works in this folder"):
        inspect.write_page(home / "run")
    real = inspect.page_of

    def changed(*args: Any, **options: Any) -> bytes:
        folder.unseal()
        return real(*args, **options)

    monkeypatch.setattr(inspect, "page_of", changed)
    with pytest.raises(RunFolderError, match="was changed while its page was made; ask again"):
        inspect.write_page(home / "run")
    assert not folder.is_sealed()


def test_records_of_an_earlier_version_that_are_cut_are_damage(home: Path) -> None:
    """They have no sum, so what reads them finds it."""
    record = json.loads((home / "run/_run/fingerprint.json").read_text())
    (home / "run/_run/fingerprint.json").write_text(
        json.dumps({"keys": record["keys"], "targets": record["targets"], "first_attempt": 1})
    )
    (home / "run/_run/attempts/0001").write_bytes(b"")
    sealed = json.loads((home / "run/_run/SEALED").read_text())
    (home / "run/_run/SEALED").write_text(json.dumps({"files": sealed["files"]}))
    for name, read in {
        "_run/units.parquet": lambda: inspect.read_index(RunFolder(str(home / "run"))),
        "report.json": lambda: inspect.read_report(RunFolder(str(home / "run"))),
        "_run/recipe.yaml": lambda: RunFolder(str(home / "run")).recipe(),
    }.items():
        kept = (home / "run" / name).read_bytes()
        (home / "run" / name).write_bytes(b"a: [" if name.endswith("yaml") else kept[:-5])
        with pytest.raises(DamageError, match=Path(name).name.replace(".", r"\.")):
            read()
        (home / "run" / name).write_bytes(kept)
    recipe = home / "run/_run/recipe.yaml"
    recipe.write_text(recipe.read_text() + "colour: red\n")
    with pytest.raises(RunFolderError, match=r"another version of xner_ray wrote it \(colour: .*\); use that version"):
        RunFolder(str(home / "run")).recipe()


def test_labelled_files_of_a_half_finished_run_are_refused(home: Path) -> None:
    folder = RunFolder(str(home / "run"))
    given = {"input": {"path": str(home / "run"), "format": "run", "lang": "deu_Latn"}}
    (source,) = load_training({"data": [given], "model": {"encoder": "builtin"}}).data
    list(file_rows(source, tally := Tally("a")))
    assert tally.read == 30
    sealed = storage.read_bytes(folder.sealed_path)
    folder.unseal()
    with pytest.raises(RunFolderError, match="not sealed yet; finish the run first"):
        list(file_rows(source, Tally("a")))
    storage.publish(folder.sealed_path, sealed)
    pq.write_table(pq.read_table(home / "run" / DATA).slice(0, 5), home / "run" / DATA)
    with pytest.raises(DamageError, match="is cut off"):
        list(file_rows(source, Tally("a")))
