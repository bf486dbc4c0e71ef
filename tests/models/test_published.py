"""Which files of a model are read, and pickled weights that become safetensors."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_models import mdeberta, nllb, nllb_large, nllb_local
from s3_server import S3Server
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_nllb import FOLDER

from xner_ray.errors import RecipeError, XnerError
from xner_ray.models import convert, hub, published
from xner_ray.storage.cache import sha256


def _read(**files: Any) -> Callable[[str], bytes]:
    return lambda name: json.dumps(files[name.split(".")[0]]).encode()


def _index(*files: str) -> dict[str, Any]:
    return {"weight_map": {f"w{number}": file for number, file in enumerate(files)}}


PARTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5", "consolidated.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", "pytorch_model.generator.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (["model.safetensors.index.json", "consolidated.safetensors", "pytorch_model.bin", *PARTS], PARTS),
        (["pytorch_model.bin.index.json", "a.bin", "b.bin", "c.bin"], ["a.bin", "b.bin"]),
    ],
)
def test_one_copy_of_the_weights_is_read(names: list[str], files: list[str]) -> None:
    read = _read(model=_index(PARTS[1], *PARTS), pytorch_model=_index("b.bin", "a.bin"))
    found = published.weights(["config.json", *names], read, "m")
    assert found.files == files and found.pickled == files[0].endswith(".bin")


def test_what_lies_beside_the_weights() -> None:
    names = [
        *("config.json", "vocab.txt", "spm.model", "chat_template.jinja", "pytorch_model.bin.index.json"),
        *("README.md", "model.onnx", "onnx/config.json", "1_Pooling/config.json", "tf_model.h5.index.json"),
        *("additional_chat_templates/tool.jinja", "modeling_own.py", "flax_model.msgpack.index.json"),
    ]
    assert published.small(names) == sorted([*names[:5], "additional_chat_templates/tool.jinja"])
    assert "pytorch_model.bin.index.json" not in published.kept(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "needs a config.json and weights .* it has no config.json"),
        (["config.json"], "it has no weights; name another revision .*refs/pr/N"),
        (["config.json", "consolidated.safetensors", "tf_model.h5"], "it has consolidated.safetensors, tf_model.h5; "),
        (["config.json", "pytorch_model.bin.index.json", "a.bin"], r"b.bin, which its .* \(1 of 2 parts are there\)"),
        (["config.json", "model.safetensors.index.json"], "model.safetensors.index.json is no index of weights"),
    ],
)
def test_models_without_whole_weights_are_refused_in_one_line(names: list[str], message: str) -> None:
    outside = _read(model=_index("../../etc/passwd.bin"), pytorch_model=_index("b.bin", "a.bin"))
    with pytest.raises(RecipeError, match=f"^model 'm': .*{message}") as error:
        published.weights(names, outside, "m")
    assert "\n" not in str(error.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize("form", [nllb, nllb_large])
def test_a_folder_of_pickles_gives_what_safetensors_give(
    form: Callable[[Path], Path], tmp_path: Path, cache: Path
) -> None:
    from transformers import AutoModelForSeq2SeqLM

    folder = hub.folder_of(str(form(tmp_path / "pickled")), weights=True)
    models = [
        hub.with_weights(AutoModelForSeq2SeqLM, str(name), "translate.model", dtype=torch.float32)
        for name in (tmp_path / "pickled", nllb_local(tmp_path / "local"))
    ]
    (name, one), (_, other) = ((model, model.state_dict()) for model in models)
    assert list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)
    assert name.lm_head.weight is name.model.shared.weight
    stated = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(stated) == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert not [name for name in stated if name.endswith((".bin", ".bin.index.json", ".md"))]
    assert hub.folder_of(str(tmp_path / "pickled"), weights=True) == folder


def test_converting_once_more_gives_the_same_bytes(tmp_path: Path) -> None:
    source = nllb_large(tmp_path / "pickled")
    parts = sorted(source.glob("*.bin"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        convert.to_safetensors(iter(parts), 3, tmp_path / name, "m")
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_names_shapes_and_dtypes_stay_and_shared_tensors_are_kept_once(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "a.shared": base,
        "b.half": torch.ones(3, dtype=torch.float16),
        "c.brain": torch.ones(3, dtype=torch.bfloat16),
        "d.tied": base,
        "e.row": base[1],
        "f.turned": base.T,
        "g.ids": torch.arange(5),
        "h.none": torch.zeros(0, 4),
        "i.none": torch.zeros(0, 4),
        "j.learnt": torch.nn.Parameter(torch.ones(2)),
        "k.mask": torch.tensor([True, False]),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    convert.to_safetensors([tmp_path / "pytorch_model.bin"], 1, tmp_path, "m")
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set(state) - {"d.tied"}
    assert all(found[name].dtype == state[name].dtype and torch.equal(found[name], state[name]) for name in found)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_files_of_before_torch_1_6_are_read(tmp_path: Path) -> None:
    state = {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    convert.to_safetensors([tmp_path / "pytorch_model.bin"], 1, tmp_path, "m")
    assert {name: each.tolist() for name, each in load_file(tmp_path / "model.safetensors").items()} == {
        "a": [1.0] * 3,
        "b": [[0.0] * 2] * 2,
    }


class _Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_pickle_does_not_run(new: bool, tmp_path: Path, cache: Path) -> None:
    folder = nllb(tmp_path / "model")
    state = {"a": torch.ones(1), "b": _Hostile(tmp_path / "ran")}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    with pytest.raises(RecipeError, match=r"pytorch_model.bin is damaged, or holds .* which could run code") as error:
        hub.folder_of(str(folder), weights=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors by name"),
        ([torch.ones(1)], "holds no tensors by name"),
        ({"a": torch.ones(1), "epoch": 3}, "holds 'epoch', which is no dense tensor"),
        ({"a": torch.eye(2).to_sparse()}, "holds 'a', which is no dense tensor"),
        (None, "is damaged, or holds"),
    ],
)
def test_pickles_without_tensors_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(content, path)
    if content is None:
        whole = nllb(tmp_path / "model") / "pytorch_model.bin"
        path.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(RecipeError, match=f"^model 'm': pytorch_model.bin {message}"):
        convert.to_safetensors([path], 1, tmp_path, "m")


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        torch.save({"w": torch.ones(1)}, tmp_path / f"{name}.bin")
    with pytest.raises(RecipeError, match=r"w is in b.bin and in an earlier part"):
        convert.to_safetensors([tmp_path / "a.bin", tmp_path / "b.bin"], 2, tmp_path, "m")


def test_many_threads_convert_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, made = str(mdeberta(tmp_path / "model")), []
    whole = convert.to_safetensors
    monkeypatch.setattr(convert, "to_safetensors", lambda *given: (made.append(1), whole(*given)))
    threads = [threading.Thread(target=hub.folder_of, args=(folder,), kwargs={"weights": True}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    tensors = load_file(hub.folder_of(folder, weights=True) / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_the_test_translator_is_as_it_was() -> None:
    """Folders of safetensors are loaded where they are."""
    assert hub.folder_of("tiny-nllb", weights=True) == hub.folder_of(str(FOLDER), weights=True) == FOLDER


def test_pickled_weights_at_an_address_are_converted_once_a_machine(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    lines, source = [], nllb_large(tmp_path / "model")
    for path in sorted(source.glob("[!.]*")):
        s3.put(f"/bucket/nllb/{path.name}", path.read_bytes())
        lines.append(f"{sha256(path)}  {path.name}\n")
    s3.put("/bucket/nllb/tf_model.h5", b"the same once more")
    s3.put("/bucket/nllb/SHA256SUMS", "".join(lines).encode())
    folder = hub.folder_of(s3.uri("bucket/nllb"), weights=True)
    assert not [path for path in folder.iterdir() if ".bin" in path.name.replace("sentencepiece.bpe", "")]
    assert (folder / "model.safetensors.index.json").is_file()
    assert not [path for method, path, _ in s3.requests if path.endswith(".h5") and method == "GET"]
    s3.put("/bucket/nllb/pytorch_model-00002-of-00003.bin", b"altered")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(XnerError, match=r"pytorch_model-00002-of-00003.bin is not what its SHA256SUMS says"):
        hub.folder_of(s3.uri("bucket/nllb"), weights=True)
