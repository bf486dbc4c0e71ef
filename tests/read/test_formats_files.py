"""Which files an input is: formats guessed, splits, folders, globs and addresses."""

import os
from pathlib import Path
from typing import Any

import pytest

from xner_ray.errors import InputError
from xner_ray.read.find import contents, find_files, guess
from xner_ray.read.record import Place, split_of_file
from xner_ray.read.records import iterate
from xner_ray.recipe.columns import Columns


def test_guess_names_what_it_knows() -> None:
    assert guess("x", ["a.CoNLL", "b.conll03.gz"]) == "conll"
    assert guess("x", ["a.iob2", "README.md"]) == "uner"
    with pytest.raises(
        InputError, match=r"cannot be guessed, no file has a known ending.*set input.format.*jsonl: \.jsonl"
    ):
        guess("x", ["a.xyz"])
    with pytest.raises(InputError, match=r"several formats \(text, uner\)"):
        guess("x", ["a.txt", "b.iob2"])


def test_split_of_file() -> None:
    names = ("train-0-of-1.parquet", "dev/x.txt", "test.2.txt", "trainer.txt", "a/b.txt")
    assert [split_of_file(name) for name in names] == ["train", "validation", "test", None, None]


def _found(path: str, **options) -> list[tuple[str, str, str]]:
    options = {"format": None, "lang": "eng_Latn", "side": "source", "columns": Columns()} | options
    return [(file.name, file.format, file.split) for file in find_files(path, **options)]


def test_files_folders_globs_and_uris(tmp_path: Path) -> None:
    for name in ("b/test.conll", "a/train.conll", "a/x.conll", "a/.hidden.conll", "_run/y.conll", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a O\n")
    everything = [("train.conll", "conll", "train"), ("x.conll", "conll", "train"), ("test.conll", "conll", "test")]
    assert _found(str(tmp_path)) == everything
    assert _found(f"file://{tmp_path}") == everything
    assert _found(str(tmp_path / "*/[tx]*.conll")) == everything
    assert _found(str(tmp_path / "**/x.conll")) == [("x.conll", "conll", "train")]
    assert _found(f"file://{tmp_path}/b/*.conll") == [("test.conll", "conll", "test")]
    assert _found(str(tmp_path / "b/test.conll")) == [("test.conll", "conll", "train")]  # a file is what it is
    assert _found({"test": str(tmp_path / "a/x.conll"), "train": str(tmp_path / "b")}) == [
        ("test.conll", "conll", "train"),
        ("x.conll", "conll", "test"),
    ]
    with pytest.raises(InputError, match="no such file or folder"):
        _found(str(tmp_path / "none.conll"))
    with pytest.raises(InputError, match="no file matches"):
        _found(str(tmp_path / "*.iob"))
    with pytest.raises(InputError, match="no file of format parquet"):
        _found(str(tmp_path), format="parquet")


def test_equal_names_are_told_apart_and_lang_is_filled_in(tmp_path: Path) -> None:
    for folder in ("swh_Latn/one", "swh_Latn/two"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jsonl").write_text("{}")
    found = _found(str(tmp_path / "{lang}"), lang="swh_Latn")
    assert [name for name, _, _ in found] == ["one/a.jsonl", "two/a.jsonl"]


def test_input_in_the_working_directory_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray unpacks a copy for every node and every change: the same file when its content is, wherever it lies."""
    copies = [
        tmp_path / "s/runtime_resources/working_dir_files" / name / "jobs" for name in ("_ray_pkg_1", "_ray_pkg_2")
    ]
    for number, folder in enumerate(copies):
        folder.mkdir(parents=True)
        (folder / "a.conll").write_text("Ada\tB-PER\n")
        os.utime(folder / "a.conll", ns=(number, number))
    options: dict[str, Any] = {"format": None, "lang": "eng_Latn", "side": "input", "columns": Columns()}
    first, again = (find_files(str(folder / "a.conll"), **options) for folder in copies)
    assert contents(first) == contents(again)
    monkeypatch.chdir(copies[1])
    (copies[0] / "a.conll").unlink()
    (record,) = iterate(first[0], Place(), 0, 1)
    assert list(record.tokens or ()) == ["Ada"]
    (copies[1] / "a.conll").write_text("Bob\tB-PER\n")
    with pytest.raises(InputError, match=r"a\.conll"):
        list(iterate(first[0], Place(), 0, 1))
