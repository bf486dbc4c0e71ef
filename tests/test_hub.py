from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from xner_ray import hub
from xner_ray.errors import RecipeError


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


def test_hub_ids_take_a_revision() -> None:
    assert hub.load_arguments("owner/name@abc") == ("owner/name", {"revision": "abc"})
    assert hub.load_arguments("owner/name") == ("owner/name", {"revision": None})


def test_missing_folders_are_not_taken_for_hub_ids() -> None:
    with pytest.raises(RecipeError, match="no such folder"):
        hub.pin("/nowhere/model")


def test_an_unreachable_hub_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match="not in the local hub cache; give a folder"):
        hub.pin("nobody/nothing")


def test_auto_dtype_depends_on_the_device() -> None:
    assert hub.pick_dtype("auto", "cpu") is torch.float32
    assert hub.pick_dtype("auto", "cuda") is torch.bfloat16
    assert hub.pick_dtype("float16", "cpu") is torch.float16
