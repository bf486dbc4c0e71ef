"""What a damaged run says and becomes: foreign files, two damages at once, folders in the place of files, odd files."""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults import in_stage, rejecting
from given_files import write_recipe, write_sentences
from published import digests
from rich.console import Console
from synthetic_runs import Killed

import xner_ray
from xner_ray.commands import inspect, session
from xner_ray.commands.combine import combine
from xner_ray.commands.rematch import rematch
from xner_ray.errors import DamageError, FatalError, Reason, RecipeError, RunFolderError, XnerError
from xner_ray.run import retries
from xner_ray.run.folder import RunFolder
from xner_ray.run.record import Record
from xner_ray.run.sealed import Sealed
from xner_ray.storage import files as storage
from xner_ray.train.load import load_training
from xner_ray.train.sentences import Tally
from xner_ray.train.sources import file_rows

PART = "_run/parts/0001/deu_Latn-000000000010.parquet"
DATA = "data/deu_Latn/train-00000-of-00001.parquet"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a recipe and a finished run of three units."""
    write_sentences(tmp_path, 30, ids=False)
    _project(tmp_path)
    return tmp_path


def _project(home: Path, run: str = "run", **options: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    recipe = write_recipe(home / "recipe.yaml", match={"prior": "none"}, engine={"unit_rows": 10, "executor": "inline"})
    xner_ray.project(recipe, home / run, console=console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run with a rejected row in its second unit."""

    def check(row: Mapping[str, Any]) -> None:
        if row["row"] == 12:
            raise OSError("no word list")

    with monkeypatch.context() as patch:
        in_stage(patch, "match", check)
        _project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])


def _retried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run whose second unit was tried again."""
    _failed(home, monkeypatch)
    _project(home, retry_rejects=["stage_error"])
    assert len(RunFolder(str(home / "run")).retried()) == 1


def test_a_part_of_another_run_is_no_part_of_this_one(home: Path) -> None:
    _project(home, "other", overrides=["match.solver=greedy"])
    published = digests(home / "run")
    shutil.copy(home / "other" / PART, home / "run" / PART)
    with pytest.raises(DamageError, match=r"000000000010\.parquet: is a file of another run"):
        xner_ray.evaluate(home / "run")
    assert f"{PART} is a file of another run; it is made again" in _project(home)
    assert digests(home / "run") == published
    assert "nothing to do" in _project(home)
    _project(home, "same")  # of the same recipe; yet its rejects might be others
    shutil.copy(home / "same" / PART, home / "run" / PART)
    assert f"{PART} is a file of another run; it is made again" in _project(home)
    assert digests(home / "run") == published


def test_a_retry_is_not_forgotten_with_seal_and_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _retried(home, monkeypatch)
    published, run = digests(home / "run"), home / "run"
    retried = next((run / "_run/retried").rglob("*.parquet"))
    retried.write_bytes(retried.read_bytes()[:-9])
    (run / "_run/SEALED").write_bytes((run / "_run/SEALED").read_bytes()[:-9])
    _project(home)
    assert digests(run) == published
    assert len(RunFolder(str(run)).retried()) == 1


Damage = Callable[[Path, dict[str, bytes]], None]  # of a run folder, with its documents before the retry


def _no_seal(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/SEALED").unlink()


def _cut_seal(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/SEALED").write_bytes((run / "_run/SEALED").read_bytes()[:-9])


def _old_seal(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/SEALED").write_bytes(old["SEALED"])


def _old_record(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/fingerprint.json").write_bytes(old["fingerprint.json"])


def _old_record_and_no_seal(run: Path, old: dict[str, bytes]) -> None:
    _old_record(run, old)
    _no_seal(run, old)


def _no_record(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/fingerprint.json").unlink()


def _foreign_seal(run: Path, old: dict[str, bytes]) -> None:
    """Of a run by another recipe in which another unit was tried again."""
    (run / "_run/SEALED").write_bytes(old["other"])


def _first_seal(run: Path, old: dict[str, bytes]) -> None:
    """Of the run that stood here before `--fresh`."""
    (run / "_run/SEALED").write_bytes(old["first SEALED"])


def _first_copy(run: Path, old: dict[str, bytes]) -> None:
    """The last driver's copy of the record, of the run that stood here before `--fresh`."""
    max((run / "_run/attempts").iterdir()).write_bytes(old["first fingerprint.json"])


def _other_files_in_attempts(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/attempts/notes.txt").write_bytes(old["first fingerprint.json"])


def _first_record_and_no_seal(run: Path, old: dict[str, bytes]) -> None:
    (run / "_run/fingerprint.json").write_bytes(old["first fingerprint.json"])
    _no_seal(run, old)


def _nothing(run: Path, old: dict[str, bytes]) -> None:
    pass


SEALS = _no_seal, _cut_seal, _old_seal, _first_seal, _foreign_seal
RECORDS = (
    _old_record,
    _old_record_and_no_seal,
    _first_record_and_no_seal,
    _no_record,
    _first_copy,
    _other_files_in_attempts,
)


@pytest.mark.parametrize("damage", [_nothing, *SEALS, *RECORDS, *COPIES])
def test_a_lost_retry_is_made_again_for_its_own_reasons(
    home: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    """The first retry of the unit still stands, and a row that was rejected for another reason stays so."""
    run, documents = home / "run", ("SEALED", "fingerprint.json")
    old = {f"first {name}": (run / "_run" / name).read_bytes() for name in documents}
    with monkeypatch.context() as patch:
        lost = {12: Reason.STAGE_ERROR, 13: Reason.TOO_LONG, 15: Reason.TRANSLATION_EMPTY, 22: Reason.TRANSLATION_EMPTY}
        rejecting(patch, "match", lost)
        _project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])
        _project(home, "other", overrides=["output.max_reject_rate=0.5", "match.solver=greedy"])
    _project(home, "other", overrides=["match.solver=greedy"], retry_rejects=["translation_empty"])
    _project(home, retry_rejects=["stage_error"])
    old |= {name: (run / "_run" / name).read_bytes() for name in documents}
    old["other"] = (home / "other/_run/SEALED").read_bytes()
    _project(home, retry_rejects=["too_long"])
    published = digests(run)
    assert _rejected(run) == [15, 22]
    last = max((run / "_run/retried").rglob("*.parquet"))
    last.unlink()
    damage(run, old)
    with pytest.raises(XnerError):
        xner_ray.evaluate(run)
    with pytest.raises(XnerError):
        rematch(run, home / "new")
    _project(home)
    assert digests(run) == published
    assert "nothing to do" in _project(home)
    _project(home, retry_rejects=["translation_empty"])
    assert _rejected(run) == []


def _rejected(run: Path) -> list[int]:
    files = sorted((run / "rejects").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).column("row").to_pylist()]


def test_a_retry_that_was_begun_is_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        rejecting(patch, "match", {2: Reason.STAGE_ERROR, 12: Reason.STAGE_ERROR, 22: Reason.TOO_LONG})
        _project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])
    run = home / "run"
    with monkeypatch.context() as patch, suppress(Killed):
        publish = storage.publish

        def dying(path: str, data: bytes) -> None:
            if "/retried/" in path and path.endswith("010.parquet"):
                raise Killed
            publish(path, data)

        patch.setattr(storage, "publish", dying)
        _project(home, retry_rejects=["stage_error"])
    assert len(RunFolder(str(run)).retried()) == 1
    with pytest.raises(RunFolderError, match="not sealed yet"):
        xner_ray.evaluate(run)
    shutil.copytree(run, home / "copy")
    (home / "in.conll").rename(home / "gone.conll")
    with pytest.raises(FatalError, match=r"1 units are to be made, .*in\.conll.* \(--retry-rejects none finishes"):
        _project(home, "copy")
    with pytest.raises(RecipeError, match="none gives up a retry, so it stands alone"):
        _project(home, "copy", retry_rejects=["none", "too_long"])
    assert "1 units keep the rows that were rejected" in _project(home, "copy", retry_rejects=["none"])
    assert _rejected(home / "copy") == [12, 22]
    assert "nothing to do" in _project(home, "copy", retry_rejects="none")
    (home / "gone.conll").rename(home / "in.conll")
    _project(home)
    assert _rejected(run) == [22] and len(RunFolder(str(run)).retried()) == 2
    (home / "in.conll").rename(home / "gone.conll")
    with pytest.raises(FatalError, match=r"rejected rows are to be tried again, and that cannot be: .*in\.conll"):
        _project(home, retry_rejects=["too_long"])
    xner_ray.evaluate(run)


def test_a_row_whose_retry_failed_is_not_tried_for_another_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lost = home / "run", {12: Reason.STAGE_ERROR, 13: Reason.TOO_LONG}
    for options in ({"fresh": True}, {"retry_rejects": ["stage_error"]}):
        with monkeypatch.context() as patch:
            rejecting(patch, "match", lost)
            _project(home, overrides=["output.max_reject_rate=0.5"], **options)
    _project(home, retry_rejects=["too_long"])
    assert _rejected(run) == [12]


def test_a_retry_of_an_earlier_version_is_known_by_its_seal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a run has no identity, and its record says nothing of retries."""
    _retried(home, monkeypatch)
    run, published = RunFolder(str(home / "run")), digests(home / "run")
    _as_earlier(run)
    next((home / "run/_run/retried").rglob("*.parquet")).unlink()
    assert retries.due(run).keys() == {"deu_Latn-000000000010"}
    _project(home)
    assert digests(home / "run") == published
    assert "nothing to do" in _project(home)
    _as_earlier(run)
    sealed = Sealed.load(run.sealed_path)
    storage.publish(run.sealed_path, replace(sealed, others=[], retried=["0002/deu_Latn-000000000000"]).dump())
    assert retries.due(run) == {}, "a SEALED that is not this record's is not believed"


def _as_earlier(run: RunFolder) -> None:
    for path in [run.path("_run", "fingerprint.json"), *map(str, Path(run.path("_run", "attempts")).iterdir())]:
        storage.publish(path, replace(Record.load(path), identity="", retries={}).dump())
    sealed = Sealed.load(run.sealed_path)
    data = storage.read_bytes(run.path("_run", "fingerprint.json"))
    storage.publish(run.sealed_path, sealed.with_other("_run/fingerprint.json", data).dump())
    run.restore_record()  # reads it anew


def test_a_mend_that_is_cut_short_leaves_no_finished_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published, run = digests(home / "run"), home / "run"
    (run / PART).unlink()
    with monkeypatch.context() as patch, suppress(Killed):

        def dying(*given: Any, **options: Any) -> None:
            raise Killed

        rejecting(patch, "match", {12: Reason.STAGE_ERROR})  # for once
        patch.setattr(session.publish, "seal", dying)
        _project(home, overrides=["output.max_reject_rate=0.5"])
    with pytest.raises(RunFolderError, match="not sealed yet"):
        xner_ray.evaluate(run)
    _project(home, retry_rejects=["stage_error"])
    assert digests(run) == published


def test_status_counts_no_part_of_another_run(home: Path) -> None:
    _project(home, "other", overrides=["match.solver=greedy"])
    shutil.copy(home / "other" / PART, home / "run" / PART)
    with pytest.raises(DamageError, match=r"000000000010\.parquet: is a file of another run"):
        inspect.run_progress(home / "run")


def test_what_a_retry_replaced_is_not_missed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _retried(home, monkeypatch)
    published = digests(home / "run")
    (home / "in.conll").rename(home / "gone.conll")
    next((home / "run/_run/parts").rglob("*010.parquet")).write_bytes(b"PAR1 no part any more PAR1")
    (home / "run/README.md").write_text("another card")
    _project(home)
    assert digests(home / "run") == published
    next((home / "run/_run/retried").rglob("*.parquet")).unlink()
    with pytest.raises(FatalError, match="the first is deu_Latn-000000000010, and that cannot be"):
        _project(home)


def test_what_another_run_of_these_rows_was_made_from_is_in_its_fingerprint(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failed(home, monkeypatch)
    rematch(home / "run", home / "again", overrides=["match.solver=greedy"])
    combine([home / "run", home / "again"], home / "both")
    _project(home, retry_rejects=["stage_error"])
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
        _project(home)
    assert part.read_bytes() == damaged


def test_a_folder_in_the_place_of_a_file_is_named(home: Path) -> None:
    (home / "run" / DATA).unlink()
    (home / "run" / DATA).mkdir()
    with pytest.raises(DamageError, match=r"train-00000-of-00001\.parquet: is no file"):
        xner_ray.evaluate(home / "run")
    with pytest.raises(RunFolderError, match=r"is no file, and one of the run belongs there; move it away"):
        _project(home)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"files": 3}'])
def test_a_seal_of_other_content_is_damage(home: Path, text: str) -> None:
    published = digests(home / "run")
    (home / "run/_run/SEALED").write_text(text)
    with pytest.raises(DamageError):
        xner_ray.evaluate(home / "run")
    _project(home)
    assert digests(home / "run") == published


def test_a_file_that_no_seal_lists_is_named(home: Path) -> None:
    shutil.copy(home / "run" / DATA, home / "run" / DATA.replace("00001", "00002"))
    said = _project(home)
    assert f"{DATA.replace('00001', '00002')}: is no file of this run, but is read with it; move it away" in said
    assert "nothing to do" in said


def test_a_run_whose_record_and_units_are_gone_is_still_one(home: Path) -> None:
    published = digests(home / "run")
    for name in ("fingerprint.json", "units.parquet"):
        (home / "run/_run" / name).unlink()
    _project(home)
    assert digests(home / "run") == published


def test_the_record_of_another_run_is_put_right_by_the_seal(home: Path) -> None:
    _project(home, "other", overrides=["match.solver=greedy"])
    published, record = digests(home / "run"), (home / "run/_run/fingerprint.json").read_bytes()
    shutil.copy(home / "other/_run/fingerprint.json", home / "run/_run/fingerprint.json")
    assert "fingerprint.json was damaged; the last driver's copy of it is taken" in _project(home)
    assert (home / "run/_run/fingerprint.json").read_bytes() == record and digests(home / "run") == published


def test_what_no_command_makes_again_is_said(home: Path) -> None:
    for path in [home / "run/_run/fingerprint.json", *(home / "run/_run/attempts").iterdir()]:
        path.write_text("x")
    with pytest.raises(FatalError, match=r"fingerprint\.json: .*, and nothing makes it again; .* --fresh"):
        _project(home)
    _project(home, fresh=True)


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
