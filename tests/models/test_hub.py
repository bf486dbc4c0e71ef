import hashlib
import shutil
import threading
from pathlib import Path

import pytest
import torch
from s3_server import S3Server
from safetensors.torch import save_file

from xner_ray.commands import project
from xner_ray.errors import RecipeError, RetryableError, StorageError
from xner_ray.models import hub
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder
from xner_ray.translate import nllb

TINY = Path(hub.__file__).parent / "tiny-nllb"


def test_a_folder_is_pinned_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    name, first = hub.pin(str(tmp_path))
    assert name == str(tmp_path)
    (tmp_path / "config.json").write_text("{ }")
    assert hub.pin(str(tmp_path))[1] != first


def test_half_a_model_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs a config\.json and weights"):
        hub.pin(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(RecipeError, match=r"model\.safetensors is no whole safetensors file"):
        hub.pin(str(tmp_path))


def test_missing_folders_are_not_taken_for_hub_ids() -> None:
    with pytest.raises(RecipeError, match="no such folder"):
        hub.pin("/nowhere/model")


def test_an_unreachable_hub_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match="HF_HUB_OFFLINE is set, and it is not in the local hub cache; give a folder"):
        hub.pin("nobody/nothing")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def _upload(s3: S3Server, *, sums: bool = False) -> str:
    """The test translator in a bucket; its address."""
    lines = []
    for path in sorted(TINY.iterdir()):
        s3.put(f"/bucket/models/tiny/{path.name}", path.read_bytes())
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} *./{path.name}\n")
    if sums:
        s3.put("/bucket/models/tiny/SHA256SUMS", "".join(lines).encode())
    return s3.uri("bucket/models/tiny")


def _gets(s3: S3Server, name: str) -> int:
    return sum(method == "GET" and path.endswith(name) for method, path, _ in s3.requests)


@pytest.mark.parametrize("sums", [False, True])
def test_a_model_at_an_address_is_fetched_once_for_all_processes(s3: S3Server, cache: Path, sums: bool) -> None:
    address = _upload(s3, sums=sums)
    threads = [threading.Thread(target=hub.pin, args=(address,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name, identity = hub.pin(address)
    assert name == f"{address}#{identity}"
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert hub.local_folder(name) == folder == cache / identity[:32]
    read = {path.name for path in TINY.iterdir()} - {"README.md"}
    assert {path.name for path in folder.iterdir()} - {"SHA256SUMS"} == read
    assert (folder / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    assert _gets(s3, "tokenizer.json") == 1
    s3.fault = lambda method, path, query: "SlowDown"
    assert nllb.tokenizer_of(name).convert_tokens_to_ids("spa_Latn")  # a worker asks nobody any more
    assert hub.pin(name) == (name, identity)


@pytest.mark.slow
def test_a_model_that_was_exchanged_is_another(s3: S3Server, cache: Path) -> None:
    address = _upload(s3, sums=True)
    name, identity = hub.pin(address)
    shutil.rmtree(cache)
    s3.put("/bucket/models/tiny/SHA256SUMS", b"0" * 64 + b"  config.json\n")
    with pytest.raises(RecipeError, match="holds another model than when it was pinned"):
        hub.local_folder(name)
    with pytest.raises(StorageError, match=r"config\.json is not what its SHA256SUMS says"):
        hub.pin(address)
    s3.put("/bucket/models/tiny/SHA256SUMS", b"0" * 64 + b"  ../config.json\n")
    with pytest.raises(RecipeError, match="names no file of it"):
        hub.pin(address)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    again = _upload(s3, sums=True)
    assert hub.pin(again)[1] == identity  # by its content, whenever it was uploaded


def test_a_model_without_sums_is_known_by_its_listing(s3: S3Server, cache: Path) -> None:
    address = _upload(s3)
    identity = hub.pin(address)[1]
    s3.clock_ahead_s = 60
    s3.put("/bucket/models/tiny/config.json", (TINY / "config.json").read_bytes())
    assert hub.pin(address)[1] != identity


def test_half_a_model_and_none_at_an_address_are_refused(s3: S3Server, cache: Path) -> None:
    address = _upload(s3)
    whole = s3.objects["/bucket/models/tiny/model.safetensors"][0]
    s3.put("/bucket/models/tiny/model.safetensors", whole[:-1])
    with pytest.raises(RecipeError, match=r"s3://bucket/models/tiny.*is no whole safetensors file"):
        hub.pin(address)
    with pytest.raises(RecipeError, match="no files there"):
        hub.pin(s3.uri("bucket/models/other"))
    s3.fault = lambda method, path, query: "SlowDown"
    with pytest.raises(RetryableError, match="does not answer"):
        hub.pin(address)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_one_machine_asks_the_hub_for_all(
    s3: S3Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is a cache of it on disk, offline: as its client leaves it, with links to blobs."""
    commit = "c" * 40
    hub_cache = tmp_path / "hub"
    model = hub_cache / "models--owner--name"
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    for path in TINY.iterdir():
        shutil.copy(path, model / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    (snapshot / "pytorch_model.bin").write_bytes(b"code")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub_cache))
    name, identity = hub.pin("owner/name")
    assert (name, identity) == (f"owner/name@{commit}", commit)

    recipe = load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"], "translate": {"model": name}})
    for run in (s3.uri("bucket/run"), str(tmp_path / "run")):
        folder = RunFolder(run)
        workers = project.mirrored(recipe, folder)
        assert workers.align == recipe.align
        assert workers.translate.model.startswith(folder.path("_run", "models", commit))
        assert project.mirrored(recipe, folder) == workers
    assert not any(path.endswith(".bin") for path in s3.objects)
    assert sum(method == "PUT" and path.endswith("/config.json") for method, path, _ in s3.requests) == 1
    shutil.rmtree(hub_cache)
    for place in (project.mirrored(recipe, RunFolder(s3.uri("bucket/run"))), workers):
        assert nllb.tokenizer_of(place.translate.model).convert_tokens_to_ids("spa_Latn")
    with pytest.raises(RecipeError, match="is not in the local hub cache, and HF_HUB_OFFLINE is set"):
        project.mirrored(recipe, RunFolder(s3.uri("bucket/other")))
