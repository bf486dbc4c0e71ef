"""Files with a word a line through index and units: what is found out is what the rows are read by."""

from pathlib import Path

import pytest
from reading import read_all, to_test, to_train, write

from xner_ray.errors import InputError
from xner_ray.read.index import scan
from xner_ray.read.index.build import build_index


def test_the_whole_file_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rows suggest that the second column is never used; many small pieces say otherwise."""
    monkeypatch.setattr(scan, "_HEAD_ROWS", 5)
    monkeypatch.setattr(scan, "PIECE_BYTES", 1 << 14)
    path = write(tmp_path / "a.conll", "x\tO\tO\n\n" * 6000 + "Oslo\tB-LOC\tO\nis\tO\tO\n" * 1)
    table = read_all(to_train(path))
    assert table.num_rows == 6001
    assert [span["label"] for span in table.column("source_spans")[-1].as_py()] == ["LOC"]


def test_a_file_without_blank_lines_in_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Nora\tB-PER\nslept\tO\n.\tO\nShe\tO\nwoke\tO\n!\tO\n" * 50)
    with pytest.raises(InputError, match=r"no blank line in 300 lines.* input.split: sentences"):
        build_index(to_test(path))
    rows = read_all(to_test(path, input={"split": "sentences"}, unit_rows=7)).to_pylist()
    assert [row["tokens"] for row in rows] == [["Nora", "slept", "."], ["She", "woke", "!"]] * 50
    assert rows[-1]["id"] == "a.conll:298"


def test_stated_columns_and_header_in_units(tmp_path: Path) -> None:
    text = "nr\tword\tcoarse\tfine\n\n" + "1\tOslo\tB-LOC\tB-CITY\n2\tTimes\tO\tO\n\n" * 30
    path = write(tmp_path / "a.conll", text)
    with pytest.raises(InputError, match=r"column 3 \(coarse\): LOC 30; column 4 \(fine\): CITY 30"):
        build_index(to_train(path))
    rows = read_all(to_train(path, input={"columns": {"tags": "fine"}}, unit_rows=4)).to_pylist()
    assert [row["source_tokens"] for row in rows] == [["Oslo", "Times"]] * 30
    assert {row["source_spans"][0]["label"] for row in rows} == {"CITY"}
