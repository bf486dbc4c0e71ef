"""A retry of rejected rows is not forgotten: whatever of its results and of what knows of it is lost or cut short."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from faults import rejecting
from mended_runs import failed, finished, project, retried
from published import digests
from synthetic_runs import Killed

import xner_ray
from xner_ray.commands.rematch import rematch
from xner_ray.errors import DamageError, FatalError, Reason, RecipeError, RunFolderError, XnerError
from xner_ray.run import retries
from xner_ray.run.folder import RunFolder
from xner_ray.run.record import Record
from xner_ray.run.sealed import Sealed
from xner_ray.storage import files as storage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A finished run in a folder of its own, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def test_a_retry_is_not_forgotten_with_seal_and_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retried(home, monkeypatch)
    published, run = digests(home / "run"), home / "run"
    part = next((run / "_run/retried").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    (run / "_run/SEALED").write_bytes((run / "_run/SEALED").read_bytes()[:-9])
    project(home)
    assert digests(run) == published
    assert len(RunFolder(str(run)).retried()) == 1


def test_a_retried_part_that_was_not_published_is_damage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(home, monkeypatch)
    run = home / "run"
    old = (run / "_run/SEALED").read_bytes()
    project(home, retry_rejects=["stage_error"])
    published = digests(run)
    (run / "_run/SEALED").write_bytes(old)
    with pytest.raises(DamageError):
        xner_ray.evaluate(run)
    project(home)
    assert digests(run) == published and len(RunFolder(str(run)).retried()) == 1


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
)
COPIES = _first_copy, _other_files_in_attempts


@dataclass
class Twice:
    """A folder with a run of which a unit was tried twice, and what its documents were before."""

    home: Path
    old: dict[str, bytes]


@pytest.fixture(scope="module")
def twice(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    home = Path(shutil.copytree(made, tmp_path_factory.mktemp("twice") / "home"))
    run, documents = home / "run", ("SEALED", "fingerprint.json")
    old = {f"first {name}": (run / "_run" / name).read_bytes() for name in documents}
    with pytest.MonkeyPatch.context() as patch:
        lost = {12: Reason.STAGE_ERROR, 13: Reason.TOO_LONG, 15: Reason.TRANSLATION_EMPTY, 22: Reason.TRANSLATION_EMPTY}
        rejecting(patch, "match", lost)
        project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])
        project(home, "other", overrides=["output.max_reject_rate=0.5", "match.solver=greedy"])
    project(home, "other", overrides=["match.solver=greedy"], retry_rejects=["translation_empty"])
    project(home, retry_rejects=["stage_error"])
    old |= {name: (run / "_run" / name).read_bytes() for name in documents}
    old["other"] = (home / "other/_run/SEALED").read_bytes()
    project(home, retry_rejects=["too_long"])
    assert _rejected(run) == [15, 22]
    return Twice(home, old)


@pytest.mark.parametrize("damage", [_nothing, *SEALS, *RECORDS, *COPIES])
def test_a_lost_retry_is_made_again_for_its_own_reasons(twice: Twice, tmp_path: Path, damage: Damage) -> None:
    """The first retry of the unit still stands, and a row that was rejected for another reason stays so."""
    home = Path(shutil.copytree(twice.home, tmp_path / "home"))
    run, published = home / "run", digests(home / "run")
    max((run / "_run/retried").rglob("*.parquet")).unlink()
    damage(run, twice.old)
    with pytest.raises(XnerError):
        xner_ray.evaluate(run)
    with pytest.raises(XnerError):
        rematch(run, home / "new")
    project(home)
    assert digests(run) == published
    assert "nothing to do" in project(home)
    project(home, retry_rejects=["translation_empty"])
    assert _rejected(run) == []


def _rejected(run: Path) -> list[int]:
    files = sorted((run / "rejects").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).column("row").to_pylist()]


def test_a_retry_that_was_begun_is_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        rejecting(patch, "match", {2: Reason.STAGE_ERROR, 12: Reason.STAGE_ERROR, 22: Reason.TOO_LONG})
        project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])
    run = home / "run"
    with monkeypatch.context() as patch, suppress(Killed):
        publish = storage.publish

        def dying(path: str, data: bytes) -> None:
            if "/retried/" in path and path.endswith("010.parquet"):
                raise Killed
            publish(path, data)

        patch.setattr(storage, "publish", dying)
        project(home, retry_rejects=["stage_error"])
    assert len(RunFolder(str(run)).retried()) == 1
    with pytest.raises(RunFolderError, match="not sealed yet"):
        xner_ray.evaluate(run)
    shutil.copytree(run, home / "copy")
    (home / "in.conll").rename(home / "gone.conll")
    with pytest.raises(FatalError, match=r"1 units are to be made, .*in\.conll.* \(--retry-rejects none finishes"):
        project(home, "copy")
    with pytest.raises(RecipeError, match="none gives up a retry, so it stands alone"):
        project(home, "copy", retry_rejects=["none", "too_long"])
    assert "1 units keep the rows that were rejected" in project(home, "copy", retry_rejects=["none"])
    assert _rejected(home / "copy") == [12, 22]
    assert "nothing to do" in project(home, "copy", retry_rejects="none")
    (home / "gone.conll").rename(home / "in.conll")
    project(home)
    assert _rejected(run) == [22] and len(RunFolder(str(run)).retried()) == 2
    (home / "in.conll").rename(home / "gone.conll")
    with pytest.raises(FatalError, match=r"rejected rows are to be tried again, and that cannot be: .*in\.conll"):
        project(home, retry_rejects=["too_long"])
    xner_ray.evaluate(run)


def test_a_row_whose_retry_failed_is_not_tried_for_another_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lost = home / "run", {12: Reason.STAGE_ERROR, 13: Reason.TOO_LONG}
    for options in ({"fresh": True}, {"retry_rejects": ["stage_error"]}):
        with monkeypatch.context() as patch:
            rejecting(patch, "match", lost)
            project(home, overrides=["output.max_reject_rate=0.5"], **options)
    project(home, retry_rejects=["too_long"])
    assert _rejected(run) == [12]


def test_a_retry_of_an_earlier_version_is_known_by_its_seal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a run has no identity, and its record says nothing of retries."""
    retried(home, monkeypatch)
    run, published = RunFolder(str(home / "run")), digests(home / "run")
    _as_earlier(run)
    next((home / "run/_run/retried").rglob("*.parquet")).unlink()
    assert retries.due(run).keys() == {"deu_Latn-000000000010"}
    project(home)
    assert digests(home / "run") == published
    assert "nothing to do" in project(home)
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


def test_what_a_retry_replaced_is_not_missed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retried(home, monkeypatch)
    published = digests(home / "run")
    (home / "in.conll").rename(home / "gone.conll")
    next((home / "run/_run/parts").rglob("*010.parquet")).write_bytes(b"PAR1 no part any more PAR1")
    (home / "run/README.md").write_text("another card")
    project(home)
    assert digests(home / "run") == published
    next((home / "run/_run/retried").rglob("*.parquet")).unlink()
    with pytest.raises(FatalError, match="the first is deu_Latn-000000000010, and that cannot be"):
        project(home)
