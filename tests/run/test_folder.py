import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from xner_ray.errors import RunFolderError
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder, versions
from xner_ray.storage import files as storage

RECIPE = load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"]})


def _folder(path: Path, keys: dict[str, Any]) -> RunFolder:
    folder = RunFolder(str(path))
    folder.begin(RECIPE, keys, b"listed", 10)
    return folder


def test_check_accepts_the_same_and_names_what_differs(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"align.method": "itermax", "match.solver": "exact"})
    folder.check({"align.method": "itermax", "match.solver": "exact"}, ["spa_Latn"])
    with pytest.raises(RunFolderError) as error:
        folder.check({"align.method": "argmax", "match.solver": "exact"}, ["spa_Latn"])
    assert "align.method: 'itermax' there, 'argmax' now" in str(error.value)
    assert "match.solver" not in str(error.value)


def test_targets_may_grow_with_their_parallel_text_but_not_shrink(tmp_path: Path) -> None:
    keys = {"parallel spa_Latn a.txt": "1-2", "align.method": "itermax"}
    folder = _folder(tmp_path, keys)
    folder.check({**keys, "parallel swh_Latn b.txt": "3-4", "translate.beams": 1}, ["spa_Latn", "swh_Latn"])
    with pytest.raises(RunFolderError, match=r"parallel spa_Latn c\.txt"):  # another text for a finished language
        folder.check({**keys, "parallel spa_Latn c.txt": "5-6"}, ["spa_Latn", "swh_Latn"])
    with pytest.raises(RunFolderError, match=r"parallel spa_Latn a\.txt: '1-2' there, None now"):
        folder.check({"align.method": "itermax", "translate.beams": 1}, ["spa_Latn", "swh_Latn"])
    with pytest.raises(RunFolderError, match=r"translate\.beams"):
        folder.check({**keys, "translate.beams": 1}, ["spa_Latn"])
    with pytest.raises(RunFolderError, match="targets: spa_Latn there, missing now"):
        folder.check(keys, ["swh_Latn"])
    with pytest.raises(RunFolderError, match=r"parallel spa_Latn a\.txt"):
        folder.check({**keys, "parallel spa_Latn a.txt": "changed"}, ["spa_Latn"])


def test_checks_of_given_text_come_with_the_first_given_text_alone(tmp_path: Path) -> None:
    both, checks = ["spa_Latn", "swh_Latn"], {"given text version": 2, "translate.health.copied": "flag"}
    made = {"translate.beams": 1}
    _folder(tmp_path / "made", made).check({**made, "parallel swh_Latn b.txt": "3-4", **checks}, both)
    given = {"parallel spa_Latn a.txt": "1-2"}  # not checked, as of earlier versions
    with pytest.raises(RunFolderError, match="given text version: None there, 2 now"):
        _folder(tmp_path / "given", given).check({**given, "parallel swh_Latn b.txt": "3-4", **checks}, both)


def test_targets_may_grow_with_apertium(tmp_path: Path) -> None:
    """Each language has an identity of its own, and the first translation brings the size of a unit into the keys."""
    keys = {"translate.engine spa_Latn identity": "a", "engine.unit_rows": 8}
    folder, both = _folder(tmp_path / "a", keys), ["spa_Latn", "cat_Latn"]
    folder.check(
        {**keys, "translate.engine cat_Latn identity": "b", "back_translate.engine cat_Latn identity": "b"}, both
    )
    with pytest.raises(RunFolderError, match=r"back_translate\.engine spa_Latn identity: None there"):
        folder.check({**keys, "back_translate.engine spa_Latn identity": "b"}, both)
    with pytest.raises(RunFolderError, match=r"translate\.engine spa_Latn identity: 'a' there, 'c' now"):
        folder.check({**keys, "translate.engine spa_Latn identity": "c"}, both)
    given = _folder(tmp_path / "b", {})
    given.check({"translate.engine cat_Latn identity": "b", "engine.unit_rows": 8}, both)
    with pytest.raises(RunFolderError, match=r"engine\.unit_rows"):
        given.check({"engine.unit_rows": 8}, ["spa_Latn"])


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    code = (
        "import sys; from xner_ray.run.folder import RunFolder\n"
        f"with RunFolder({str(tmp_path)!r}).claim():\n    print('in', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "in\n"
    with pytest.raises(RunFolderError, match="another xner-ray works in this folder"), RunFolder(str(tmp_path)).claim():
        pass
    assert RunFolder(str(tmp_path)).is_claimed() is True
    first.kill()  # a killed driver holds nothing
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with RunFolder(str(tmp_path)).claim():
        pass


def test_asking_whether_a_driver_lives_keeps_none_out_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    assert folder.is_claimed() is False
    assert not (tmp_path / "run").exists()
    with folder.claim():
        pass
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            RunFolder(folder.root).is_claimed()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(5):
            with folder.claim():
                pass
    finally:
        stop.set()
        thread.join()
    monkeypatch.setattr(storage, "is_local", lambda _: False)  # as an object store has no lock
    assert folder.is_claimed() is None


def test_parts_of_several_attempts_count_once(tmp_path: Path) -> None:
    for name in ("0002/a", "0001/a", "0002/b"):
        path = tmp_path / "_run/parts" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PAR1....PAR1")
    for name in ("0001/b", "0001/d"):  # too short to be a part: another program's, or a disk's
        (tmp_path / "_run/parts" / f"{name}.parquet").write_bytes(b"PAR1")
    (tmp_path / "_run/parts/0002/.c.parquet.1.tmp").write_bytes(b"half")
    parts = RunFolder(str(tmp_path)).parts()
    assert {name: Path(path).parent.name for name, path in parts.items()} == {"a": "0001", "b": "0002"}


def test_every_attempt_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {})
    assert [folder.next_attempt() for _ in range(3)] == ["0001", "0002", "0003"]


def test_parts_from_before_fresh_never_count_again(tmp_path: Path) -> None:
    """A worker of a killed driver may publish after --fresh has begun anew."""
    folder = _folder(tmp_path, {"k": 1})
    old = folder.next_attempt()
    folder.discard()
    storage.publish(folder.path("_run", "parts", old, "a.parquet"), b"PAR1 late PAR1")
    folder.begin(RECIPE, {"k": 2}, b"listed", 10)
    assert folder.parts() == {}
    new = folder.next_attempt()
    assert new > old
    storage.publish(folder.path("_run", "parts", new, "a.parquet"), b"PAR1 now PAR1")
    assert list(folder.parts()) == ["a"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file/run: cannot be written"), RunFolder(f"{tmp_path}/file/run").claim():
        pass


def test_a_local_run_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunFolder("runs/a").root == str(tmp_path / "runs/a")
    assert RunFolder("s3://bucket/a/").root == "s3://bucket/a"


def test_record_survives_reading(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"k": 1})
    assert folder.recipe() == RECIPE
    assert json.loads((tmp_path / "_run/versions.json").read_text())["xner_ray"] == versions()["xner_ray"]


def test_discard_leaves_what_a_run_did_not_make(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {})
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    folder.discard()
    assert not folder.is_run()
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "_run"}


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    folder = RunFolder(str(tmp_path))
    with pytest.raises(RunFolderError, match=r"holds files that are no run .*thesis\.tex"):
        folder.refuse_other_files()
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFolderError, match="is a file; name a folder"):
        RunFolder(str(tmp_path / "thesis.tex")).refuse_other_files()


def test_what_was_recorded_before_units_were_listed_binds_nobody(tmp_path: Path) -> None:
    """A run that ended before its input could be read may be started again with another one."""
    folder = RunFolder(str(tmp_path))
    folder.begin(RECIPE, {"input file a": "1"}, b"listed", 10)
    storage.delete(folder.units_path)
    folder.refuse_other_files()
    folder.check({"input file a": "2"}, ["spa_Latn"])


def test_no_run_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run here"):
        RunFolder(str(tmp_path)).recipe()
