"""The command adapt: a folder that alignment takes, made once, whole, and gone on with after an end."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from s3_server import S3Server
from safetensors.torch import load_file
from tiny_encoders import tiny
from typer.testing import CliRunner

import xner_ray
from xner_ray.adapt import loop
from xner_ray.align.encoder import Encoder
from xner_ray.cli import app
from xner_ray.commands import adapt
from xner_ray.errors import InputError, RecipeError, RetryableError, RunFolderError
from xner_ray.storage import files as storage
from xner_ray.storage.lease import claim

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    tiny(tmp_path / "tiny", "bert")
    (tmp_path / "en.txt").write_text("ab c\nd e\n" + "a " * 40 + "\nf g h\n", encoding="utf-8")
    (tmp_path / "es.txt").write_text("c ab\ne d\nb\nh g f\n", encoding="utf-8")
    data = {"path": "en.txt", "lang": "eng_Latn", "parallel": {"spa_Latn": "es.txt"}}
    fit = {"epochs": 2, "part_pairs": 2, "batch_pairs": 1}
    given = {"data": [{"input": data}], "model": {"encoder": "tiny", "layer": 3}, "fit": fit}
    path = tmp_path / "adapt.yaml"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    return path


def test_the_command_makes_a_folder_for_align_encoder(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "adapted"
    result = CliRunner().invoke(app, ["adapt", str(recipe), str(folder)])
    assert result.exit_code == 0, result.output
    assert "layer: 3}" in result.output
    assert result.output.count("of the words were linked") == 4
    report = json.loads((folder / "adaptation.json").read_text())
    assert report["data"][0]["read"] == 4
    assert report["data"][0]["dropped"] == {"longer than the encoder reads, or without a subword": 1}
    assert [entry["pairs"] for entry in report["history"]] == [2, 1, 2, 1]
    card = str(loaded := ModelCard.load(folder / "README.md"))
    assert loaded.data.language == ["en", "es"] and loaded.data.library_name == "transformers"
    assert "layer: 3" in card and "| eng_Latn with spa_Latn | 4 | 3 |" in card and str(tmp_path) not in card
    assert Encoder.check(str(folder)) == [3]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["adapted"]
    listed = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {*listed, "SHA256SUMS"} == {path.name for path in folder.iterdir()}
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert xner_ray.adapt(recipe, folder) == report  # finished: nothing is done again
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    (folder / "adaptation.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"adaptation\.json: is damaged; .* give --fresh"):
        xner_ray.adapt(recipe, folder)


def test_an_ended_adaptation_goes_on(recipe: Path, tmp_path: Path) -> None:
    xner_ray.adapt(recipe, tmp_path / "whole")

    class StopError(Exception):
        pass

    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            raise StopError

    with pytest.raises(StopError):
        xner_ray.adapt(recipe, tmp_path / "ended", say=say)
    assert [path.name for path in (tmp_path / "ended").iterdir()] == ["_train"]
    with pytest.raises(RunFolderError, match=r"encoder of another recipe(?s:.*)fit.seed: 0 there, 1 now"):
        xner_ray.adapt(recipe, tmp_path / "ended", overrides=["fit.seed=1"])
    lines.clear()
    xner_ray.adapt(recipe, tmp_path / "ended", say=lines.append)
    assert lines[0] == "resumes after part 2" and len(lines) == 3
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "ended"))
    assert all((one[name] == other[name]).all() for name in one)
    lines.clear()
    with pytest.raises(StopError):
        xner_ray.adapt(recipe, tmp_path / "next", say=say)
    state = tmp_path / "next" / "_train" / "state.pt"
    data = state.read_bytes()
    half = len(data) // 2
    for damaged in (b"half", data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :], data[:half]):
        state.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"no complete checkpoint \(.*\); --fresh discards it"):
            xner_ray.adapt(recipe, tmp_path / "next")
    state.write_bytes(data)
    for name in ("fingerprint.json", "asked.json", "recipe.yaml"):
        whole = (state.parent / name).read_bytes()
        (state.parent / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunFolderError, match=f"{name}: is damaged; .* give --fresh"):
            xner_ray.adapt(recipe, tmp_path / "next")
        (state.parent / name).write_bytes(whole)
    xner_ray.adapt(recipe, tmp_path / "next", fresh=True)
    assert (tmp_path / "next" / "SHA256SUMS").read_bytes() == (tmp_path / "whole" / "SHA256SUMS").read_bytes()


def test_a_folder_with_something_else_is_refused(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapted"
    folder.mkdir()  # an empty one is as good as none
    xner_ray.adapt(recipe, folder)
    with pytest.raises(RunFolderError, match=r"of another recipe(?s:.*)fit.learning_rate: 2e-05 there, 0.001 now"):
        xner_ray.adapt(recipe, folder, overrides=["fit.learning_rate=1e-3"])
    xner_ray.adapt(recipe, folder, overrides=["fit.learning_rate=1e-3"], fresh=True)
    with pytest.raises(RunFolderError, match=r"holds files that are no adapted encoder \(config.json\)"):
        xner_ray.adapt(recipe, tiny(tmp_path / "other", "bert"), fresh=True)
    assert (tmp_path / "other" / "model.safetensors").exists()
    with claim(str(folder), str(folder)), pytest.raises(RunFolderError, match="another xner-ray works in this folder"):
        xner_ray.adapt(recipe, folder, fresh=True)


def test_fresh_discards_what_adapt_wrote_and_only_when_it_can_be_made_again(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapted"
    xner_ray.adapt(recipe, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    gone = [{"input": {"path": str(tmp_path / "gone.txt"), "parallel": {"spa_Latn": str(tmp_path / "es.txt")}}}]
    with pytest.raises(InputError, match="gone"):
        xner_ray.adapt(recipe, folder, overrides=[f"data={json.dumps(gone)}"], fresh=True)
    with pytest.raises(RecipeError, match=r"model\.frozen is 3"):
        xner_ray.adapt(recipe, folder, overrides=["model.frozen=3"], fresh=True)
    with pytest.raises(RecipeError, match="adapted: is what the adapted encoder is made from"):
        xner_ray.adapt(recipe, folder, overrides=[f"model.encoder={folder}"], fresh=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "notes.txt").write_text("mine")
    xner_ray.adapt(recipe, folder, overrides=["fit.seed=1"], fresh=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_places_that_a_folder_can_have(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    xner_ray.adapt(recipe, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "adaptation.json").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    xner_ray.adapt(recipe, ".")
    assert (tmp_path / "here" / "SHA256SUMS").read_bytes() == (tmp_path / "real" / "SHA256SUMS").read_bytes()
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(loop, "fit", lambda *_, **__: pytest.fail("trained before it knew its place"))
    with pytest.raises(RunFolderError, match="cannot be written"):
        xner_ray.adapt(recipe, tmp_path / "file" / "model")


def test_an_object_store_is_a_place_as_well(recipe: Path, tmp_path: Path, s3: S3Server) -> None:
    report = xner_ray.adapt(recipe, s3.uri("models/adapted"))
    assert xner_ray.adapt(recipe, s3.uri("models/adapted")) == report
    assert xner_ray.adapt(recipe, tmp_path / "local") == report
    assert storage.read_bytes(s3.uri("models/adapted/SHA256SUMS")) == (tmp_path / "local/SHA256SUMS").read_bytes()


def test_memory_that_does_not_suffice_can_be_made_to(recipe: Path, tmp_path: Path) -> None:
    whole = xner_ray.adapt(recipe, tmp_path / "whole")
    fit, lines = loop.fit, list[str]()

    def short(*given: Any, **named: Any) -> Any:
        def checkpoint(progress: Any, state: Any) -> None:
            named["checkpoint"](progress, state)
            raise torch.OutOfMemoryError("no room")

        return fit(*given, **{**named, "checkpoint": checkpoint})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "fit", short)
        with pytest.raises(RetryableError, match=r"halve fit\.micro_batch_tokens"):
            xner_ray.adapt(recipe, tmp_path / "short")
    report = xner_ray.adapt(recipe, tmp_path / "short", overrides=["fit.micro_batch_tokens=64"], say=lines.append)
    assert lines[0] == "resumes after part 1" and report["fingerprint"] == whole["fingerprint"]


def test_a_wrong_key_is_named(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'fit\.rate'"):
        adapt.load_adaptation(recipe, ["fit.rate=1"])


@pytest.mark.long
def test_the_recipe_in_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for the number of pairs."""
    monkeypatch.chdir(JOBS)  # paths in overrides are those of the folder where one stands
    given: Any = yaml.safe_load((JOBS / "adapt_encoder.yaml").read_text())
    data = given["data"]
    for origin in data:
        origin["input"]["limit"] = 4
    report = xner_ray.adapt(JOBS / "adapt_encoder.yaml", tmp_path / "adapted", overrides=[f"data={json.dumps(data)}"])
    assert report["layers"] == [7]
    assert sum(origin["kept"] for origin in report["data"]) == 4 * len(data)
    assert 0.5 < report["history"][-1]["words_linked"] <= 1
    assert Encoder.check(str(tmp_path / "adapted")) == [7]


@pytest.mark.long
def test_the_taggers_recipe_in_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both steps that its comment names, on few sentences: the second keeps the head of the first."""
    from xner_ray.recipe.load import load_checked
    from xner_ray.train import student
    from xner_ray.train.recipe import Training

    monkeypatch.chdir(JOBS)  # its paths are relative to the recipe
    heads = []
    data = yaml.safe_load(Path("adapt_tagger.yaml").read_text())["data"]
    few = [{"input": {**origin["input"], "limit": 12}} for origin in data]
    steps = (
        [f"data={json.dumps(few[1:])}", "model.encoder=builtin", "model.frozen=7", "model.layers=9"],
        [f"data={json.dumps(few)}", f"model.encoder={tmp_path / '0'}"],
    )
    for number, overrides in enumerate(steps):
        training, _ = load_checked(Training, Path("adapt_tagger.yaml"), [*overrides, "fit.epochs=1", "evaluate=[]"])
        trained = student.train(training)
        if number == 0:
            student.write_model(trained, training, tmp_path / "0")
        heads.append((trained.student.keeps_head, trained.data.labels, trained.student.frozen))
    assert heads == [(False, ["LOC", "ORG", "PER"], 7), (True, ["LOC", "ORG", "PER"], 7)]
