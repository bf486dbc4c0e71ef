"""A finished run on the hub: card, files, a second push, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from huggingface_hub import snapshot_download

import xner_ray
from tests.helpers.hub_upload import UploadHub
from xner_ray.commands.push import push
from xner_ray.errors import DamageError, InputError, RunFolderError, ServiceError, StorageError, XnerError

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
NAME = "group/swahili-ner"
TEXT = "Anna B-PER\nin O\nNairobi B-LOC\n\nBad X-TAG\n\nOmar B-PER\nleft O\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of three rows, one of them rejected."""
    folder = tmp_path_factory.mktemp("push")
    (folder / "en.conll").write_text(TEXT)
    (folder / "es.txt").write_text("Anna en Nairobi\nMal\nOmar salió\n")
    (folder / "links.txt").write_text("0-0 1-1 2-2\n0-0\n0-0 1-1\n")
    recipe = {
        "input": {"path": "en.conll", "parallel": {"spa_Latn": "es.txt"}, "links": "links.txt"},
        "targets": ["spa_Latn"],
        "align": {"backend": "provided"},
        "target_tag": {"engine": "none"},
        "output": {"max_reject_rate": 1.0},
        "match": {"scores": {"align": 1.0}, "min_score": 0.0},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    xner_ray.project(folder / "r.yaml", folder / "run")
    return folder / "run"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    server = UploadHub()
    server.join(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("HF_TOKEN", server.may)
    yield server
    server.close()


def _files(hub: UploadHub, revision: str = "main", name: str = NAME) -> dict[str, bytes]:
    repository = f"datasets/{name}"
    return hub.files[repository][hub.refs[repository][revision]]


def test_the_data_set_of_the_hub_is_that_of_the_run(hub: UploadHub, run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert push(run, NAME, licence="cc-by-4.0", say=said.append) == f"hf://datasets/{NAME}"
    files = _files(hub)
    data = "data/spa_Latn/train-00000-of-00001.parquet"
    assert set(files) == {".gitattributes", "README.md", "report.html", "report.json", data}
    assert files[data] == (run / data).read_bytes()
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and head["language"] == ["es"]
    assert head["configs"] == [
        {"config_name": "spa_Latn", "data_files": [{"split": "train", "path": "data/spa_Latn/train-*.parquet"}]}
    ]
    assert f'load_dataset("{NAME}", "spa_Latn")' in card and "xner_ray " in card and "`_run/`" not in card
    assert str(run) not in card
    assert hub.messages == ["Push 2 sentences in 1 languages"] and hub.private_made == set()
    assert said[0].startswith(f"{run}: 3 files, ") and said[-1].startswith("commit ")
    # And its card says what is data
    snapshot_download(NAME, repo_type="dataset", local_dir=tmp_path / "there")
    read = datasets.load_dataset(str(tmp_path / "there"), "spa_Latn", cache_dir=str(tmp_path / "datasets"))
    assert read["train"]["tokens"][:] == [["Anna", "en", "Nairobi"], ["Omar", "salió"]]


def test_a_second_push_sends_nothing_that_is_there_and_drops_what_is_not_in_the_run(hub: UploadHub, run: Path) -> None:
    push(run, NAME, rejects=True)
    assert any(name.startswith("rejects/spa_Latn/") for name in _files(hub))
    sent = list(hub.puts)
    push(run, NAME)
    assert hub.puts == sent and not any(name.startswith("rejects/") for name in _files(hub))


def test_a_push_that_broke_off_is_done_by_the_same_call(hub: UploadHub, run: Path) -> None:
    hub.fault = lambda method, path: 400 if method == "POST" and "/commit/" in path else 0
    with pytest.raises(StorageError, match="HTTP status 400"):
        push(run, NAME)
    assert set(_files(hub)) == {".gitattributes"}
    hub.fault, sent = lambda method, path: 0, list(hub.puts)
    push(run, NAME)
    assert hub.puts == sent and "README.md" in _files(hub)


def test_a_file_that_does_not_arrive_ends_the_push_with_what_to_do(hub: UploadHub, run: Path) -> None:
    hub.fault = lambda method, path: 403 if method == "PUT" else 0
    with pytest.raises(ServiceError, match=r"uploading 'data/spa_Latn/.*403.*the same command sends what is missing"):
        push(run, NAME)
    assert set(_files(hub)) == {".gitattributes"}


def test_a_branch_and_a_private_repository(hub: UploadHub, run: Path) -> None:
    assert push(run, NAME, private=True, branch="v2") == f"hf://datasets/{NAME}@v2"
    assert hub.private_made == {f"datasets/{NAME}"}
    assert "README.md" in _files(hub, "v2") and "README.md" not in _files(hub)


def test_data_of_others_are_not_replaced_unless_that_is_said(hub: UploadHub, run: Path) -> None:
    hub.put(f"datasets/{NAME}", {"README.md": b"# Mine\n", "data/train.parquet": b"x", "notes.txt": b"n"})
    with pytest.raises(RunFolderError, match=r"holds 3 files that no run of xner_ray made; .*--replace"):
        push(run, NAME)
    assert set(_files(hub)) == {"README.md", "data/train.parquet", "notes.txt"}
    push(run, NAME, replace=True)
    assert "data/train.parquet" not in _files(hub) and "notes.txt" in _files(hub)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"repository": "name"}, InputError, "name: no repository of the hub; write owner/name"),
        ({"repository": "a/b/c"}, InputError, "write owner/name"),
        ({"licence": "CC BY 4.0"}, InputError, "--license CC BY 4.0: write the hub's name"),
    ],
)
def test_wrong_names_are_refused(run: Path, given: dict[str, Any], error: type[XnerError], message: str) -> None:
    with pytest.raises(error, match=message):
        push(run, given.pop("repository", NAME), **given)


def test_no_token_a_wrong_one_and_a_hub_that_is_down(
    hub: UploadHub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.other)
    with pytest.raises(StorageError, match=r"status 403\): the token given is wrong, or without the right to write to"):
        push(run, NAME)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="no token is given; make one with the right to write"):
        push(run, NAME)
    monkeypatch.setenv("HF_TOKEN", hub.may)
    hub.fault = lambda method, path: 503
    with pytest.raises(ServiceError, match="does not answer"):
        push(run, NAME)
    hub.close()
    with pytest.raises(ServiceError, match="does not answer"):
        push(run, NAME)


def test_somebody_else_commits_meanwhile(hub: UploadHub, run: Path) -> None:
    push(run, NAME)

    def meanwhile(method: str, path: str) -> int:
        if method == "POST" and "/preupload/" in path:
            hub.put(f"datasets/{NAME}", _files(hub) | {"other.txt": b"o"})
        return 0

    hub.fault = meanwhile
    with pytest.raises(ServiceError, match="somebody else committed"):
        push(run, NAME)


def test_a_run_that_is_not_whole_is_not_pushed(hub: UploadHub, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (file,) = (tmp_path / "run/data/spa_Latn").glob("*.parquet")
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamageError, match="was altered"):
        push(tmp_path / "run", NAME)
    (tmp_path / "run/_run/SEALED").unlink()
    with pytest.raises(RunFolderError, match="not sealed yet"):
        push(tmp_path / "run", NAME)
    assert f"datasets/{NAME}" not in hub.files, "not even the repository is made"
