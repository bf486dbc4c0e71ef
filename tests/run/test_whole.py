"""Files that know their own sum."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.errors import DamageError, RunFolderError
from xner_ray.run import whole
from xner_ray.run.record import Record
from xner_ray.run.sealed import Sealed
from xner_ray.storage import sums

TABLE = pa.table({"row": list(range(200)), "words": [f"word {n}" for n in range(200)]})


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "parts/0001/u.parquet"
    whole.publish(str(path), TABLE, {"rows": 200})
    return path


def _placed(folder: Path, data: bytes, place: str = "parts/0001/u.parquet") -> str:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def test_a_whole_file_is_read_and_says_its_counters(part: Path) -> None:
    assert pq.read_table(pa.BufferReader(whole.read(str(part)))).equals(TABLE)
    assert whole.counters(str(part)) == {"rows": 200}
    assert whole.damaged([str(part)]) == {}


@given(st.data())
def test_any_other_bit_any_cut_and_any_growth_is_found(
    part: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = part.read_bytes()
    how = data.draw(st.sampled_from(["bit", "cut", "grown"]))
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    if how == "bit":
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del bad[at:]
    else:
        bad += data.draw(st.binary(min_size=1, max_size=20))
    path = _placed(tmp_path_factory.mktemp("damaged"), bytes(bad))
    found = whole.damaged([path])
    # A bit of the sum's own name makes it a file of an earlier version, whose content is what was written.
    if not found:
        assert how == "bit" and pq.read_table(pa.BufferReader(whole.read(path))).equals(TABLE)
    else:
        with pytest.raises(DamageError, match="run the command that made this run again"):
            whole.read(path)


@given(st.data())
def test_counters_are_right_or_refused(
    part: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bad = bytearray(part.read_bytes())
    bad[data.draw(st.integers(len(bad) - 900, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(DamageError):
        assert whole.counters(_placed(tmp_path_factory.mktemp("counters"), bytes(bad))) == {"rows": 200}


def test_a_file_in_the_place_of_another_is_found(part: Path, tmp_path: Path) -> None:
    path = _placed(tmp_path, part.read_bytes(), "parts/0001/v.parquet")
    assert whole.damaged([path]) == {path: "is the file parts/0001/u.parquet"}
    with pytest.raises(DamageError, match="or is another file"):
        whole.counters(path)
    gone = str(tmp_path / "parts/0001/w.parquet")
    assert whole.damaged([gone, str(part)]) == {gone: "is missing"}


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "parts/0001/u.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(TABLE.replace_schema_metadata({b"xner_ray": b'{"rows": 1}'}), path)
    assert whole.damaged([str(path)]) == {} and whole.counters(str(path)) == {"rows": 1}
    path.write_bytes(path.read_bytes()[:-3])
    assert "no whole Parquet file" in whole.damaged([str(path)])[str(path)]


@given(st.data())
def test_a_document_is_read_as_written_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    document = Sealed([{"file": "data/a", "bytes": 3}], [], ["ä"], "1")
    text = bytearray(document.dump())
    if data.draw(st.booleans()):
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del text[data.draw(st.integers(0, len(text) - 1)) :]
    path = tmp_path_factory.mktemp("documents") / "SEALED"
    path.write_bytes(bytes(text))
    with suppress(DamageError):
        assert Sealed.load(str(path)) == document  # white space may have changed
    path.write_bytes(document.dump())
    assert Sealed.load(str(path)) == document
    with pytest.raises(DamageError, match="is the file _run/SEALED"):
        Record.load(str(path))


def test_documents_of_earlier_versions_have_no_sum(tmp_path: Path) -> None:
    path = tmp_path / "SEALED"
    path.write_text(json.dumps({"files": []}))
    assert Sealed.load(str(path)) == Sealed([])
    with pytest.raises(DamageError, match="its sum is another"):
        Record.load(str(path))
    with pytest.raises(DamageError, match="is missing"):
        Sealed.load(str(tmp_path / "none"))
    path.write_text("[]")
    with pytest.raises(DamageError, match="is no JSON document"):
        Sealed.load(str(path))


def test_a_document_of_a_newer_version_is_named_as_one(tmp_path: Path) -> None:
    path = tmp_path / "SEALED"
    path.write_bytes(whole.dump({**vars(Sealed([])), "shards": 3}, "_run/SEALED"))
    with pytest.raises(RunFolderError, match="a newer version of xner_ray wrote it"):
        Sealed.load(str(path))


def test_a_run_of_this_version_has_no_file_without_a_sum(tmp_path: Path) -> None:
    path = tmp_path / "parts/0001/u.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(TABLE, path)
    assert whole.damaged([str(path)]) == {}
    assert "it has no sum" in whole.damaged([str(path)], summed=True)[str(path)]


def test_a_part_that_was_found_whole_is_summed_as_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are remembered by the same stamp: a part may be the input of another run."""
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sums, "_SETTLED_NS", 0)
    path = str(tmp_path / "parts/0001/u.parquet")
    whole.publish(path, TABLE)
    time.sleep(0.02)  # clocks of file systems tick coarsely
    for _ in range(2):
        assert whole.damaged([path], summed=True) == {}
        assert sums.sums([path]) == [hashlib.sha256(Path(path).read_bytes()).hexdigest()]


def test_what_a_library_says_in_several_lines_is_one_message() -> None:
    with pytest.raises(DamageError) as caught, whole.reading("/run/part"):
        raise pa.ArrowInvalid("no footer\n\tat byte 4\n")
    assert str(caught.value).isprintable() and "no footer\\n\\tat byte 4)" in str(caught.value)
