"""A run is known by the content of its files: on a copy, elsewhere, without its input, and from earlier versions."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import in_stage
from given_files import TRANSLATION, write_recipe, write_sentences
from published import digests
from s3_server import S3Server

import xner_ray
from xner_ray.commands import inspect
from xner_ray.errors import FatalError, InputError, RunFolderError
from xner_ray.read.find import stamps
from xner_ray.read.inputs import find_texts
from xner_ray.recipe.fingerprint import of_files
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder
from xner_ray.storage import sums

N_ROWS = 30


def _project(folder: Path, **options: Any) -> Any:
    return xner_ray.project(folder / "recipe.yaml", folder / "run", **options).report


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a recipe, its input and nothing else."""
    folder = tmp_path / "home"
    folder.mkdir()
    write_sentences(folder, N_ROWS, ids=False)
    engine = {"unit_rows": 10, "executor": "inline"}
    write_recipe(folder / "recipe.yaml", match={"prior": "none"}, engine=engine)
    return folder


def _interrupted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which one unit of three is done."""

    def check(row: Any) -> None:
        if row["row"] == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        in_stage(patch, "match", check)
        with pytest.raises(KeyboardInterrupt):
            _project(home)
    assert len(RunFolder(str(home / "run")).parts()) == 1


@pytest.mark.slow
def test_a_run_goes_on_on_a_copy_of_all_elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(home, tmp_path / "undisturbed")
    _project(tmp_path / "undisturbed")
    _interrupted(home, monkeypatch)
    shutil.copytree(home, tmp_path / "elsewhere", copy_function=shutil.copy)
    shutil.rmtree(home)
    assert _project(tmp_path / "elsewhere").rows["emitted"] == N_ROWS
    assert len(list((tmp_path / "elsewhere/run/_run/parts").glob("0001/*"))) == 1, "what was done stays"
    assert digests(tmp_path / "elsewhere/run") == digests(tmp_path / "undisturbed/run")


def test_a_touched_file_is_the_same_and_a_changed_one_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupted(home, monkeypatch)
    for name in ("in.conll", "out.txt", "links.txt"):
        os.utime(home / name, ns=(10**18, 10**18))
    with open(home / "out.txt", "a") as file:
        file.write("\n")
    os.utime(home / "out.txt", ns=(10**18, 10**18))
    with pytest.raises(RunFolderError) as error:
        _project(home)
    (line,) = str(error.value).splitlines()[1:-1]
    assert line.startswith(f"  parallel deu_Latn train/out.txt: {home}/out.txt is another file than the run began with")
    assert "last change 2001-09-09 01:46:40+00:00" in line and "put the old file back to resume the run" in line
    (home / "out.txt").write_text(f"{TRANSLATION}\n" * N_ROWS)
    assert _project(home).rows["emitted"] == N_ROWS


@pytest.mark.slow
def test_a_finished_run_needs_no_input_and_an_unfinished_one_says_what_is_gone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _project(home)
    published = digests(home / "run")
    (home / "in.conll").rename(home / "gone.conll")
    assert _project(home).rows["emitted"] == N_ROWS
    (home / "run/data/deu_Latn/train-00000-of-00001.parquet").unlink()
    _project(home)
    assert digests(home / "run") == published, "made from the parts"
    next((home / "run/_run/parts/0001").iterdir()).unlink()
    with pytest.raises(
        FatalError, match=r"1 units are to be made, the first is .*20,.* cannot be: .*in\.conll: no such file"
    ) as error:
        _project(home)
    assert error.value.exit_status == 1
    with pytest.raises(InputError, match="no such file"):
        _project(home, overrides=["match.solver=greedy"])
    with pytest.raises(InputError, match="no such file"):
        _project(home, fresh=True)
    (home / "gone.conll").rename(home / "in.conll")
    _project(home)
    assert digests(home / "run") == published


def test_a_run_of_an_earlier_version_is_resumed_and_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows its files by size and time, and neither its documents nor its parts have sums."""
    _project(home)
    folder = RunFolder(str(home / "run"))
    recipe = load_recipe(home / "recipe.yaml")
    keys = {**folder.keys(), **of_files(*find_texts(recipe).identities(stamps))}
    old = {"keys": keys, "targets": ["deu_Latn"], "first_attempt": 1}
    (home / "run/_run/fingerprint.json").write_text(json.dumps(old))
    (home / "run/_run/attempts/0001").write_bytes(b"")
    sealed = home / "run/_run/SEALED"
    sealed.write_text(json.dumps({"files": json.loads(sealed.read_text())["files"]}))
    published = digests(home / "run")
    assert inspect.run_progress(home / "run")["sealed"]
    assert _project(home).rows["emitted"] == N_ROWS
    sealed.unlink()
    assert _project(home).rows["emitted"] == N_ROWS
    assert digests(home / "run") == published
    os.utime(home / "in.conll", ns=(1, 1))
    with pytest.raises(RunFolderError, match="is another file than the run began with"):
        _project(home)


def test_objects_are_not_read_again_where_the_run_knows_their_tags(
    home: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("in.conll", "out.txt", "links.txt"):
        s3.put(f"/bucket/{name}", (home / name).read_bytes())
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    parallel = {"deu_Latn": s3.uri("bucket/out.txt")}
    recipe["input"] = {"path": s3.uri("bucket/in.conll"), "parallel": parallel, "links": s3.uri("bucket/links.txt")}
    xner_ray.project(recipe, home / "run")
    read: list[str] = []
    real = sums.read_sum
    monkeypatch.setattr(sums, "read_sum", lambda path: read.append(path) or real(path))
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "another machine"))
    xner_ray.project(recipe, home / "run")
    assert not [path for path in read if "://" in path]
    s3.put("/bucket/out.txt", (home / "out.txt").read_bytes() + b"\n")
    with pytest.raises(RunFolderError, match=r"bucket/out\.txt.* is another file than the run began with"):
        xner_ray.project(recipe, home / "run")
    assert [path for path in read if "://" in path] == [s3.uri("bucket/out.txt")]
