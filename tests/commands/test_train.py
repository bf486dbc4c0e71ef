"""The command `train`: recipes, what a folder may hold, and Ray Train for real, killed and gone on with."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console
from run_folders import finished
from students import TOY, row, run
from tiny_encoders import tiny
from typer.testing import CliRunner

from xner_ray import cli
from xner_ray.commands.train import train
from xner_ray.errors import (
    FatalError,
    InputError,
    MissingExtraError,
    RecipeError,
    RetryableError,
    RunFolderError,
    StorageError,
    XnerError,
)
from xner_ray.storage.lease import claim
from xner_ray.train.load import fingerprint, load_training

EPOCHS = 40
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without dropout, and sentences where two words are names."""
    folder = tmp_path_factory.mktemp("toy")
    tiny(folder / "encoder", "bert")
    config = folder / "encoder" / "config.json"
    plain = {**json.loads(config.read_text()), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(plain))
    lines = []
    for number in range(48):
        name = ("zz", "qq")[number % 2]
        words = [("a", "O"), (name, f"B-{('PER', 'LOC')[number % 2]}"), ("bee"[: 1 + number % 3], "O")]
        lines += [f"{word}\t{tag}" for word, tag in words[number % 3 :] + words[: number % 3]] + [""]
    (folder / "toy.conll").write_text("\n".join(lines))
    recipe = {
        "data": [{"input": {"path": "toy.conll"}}],
        "evaluate": [{"input": {"path": "toy.conll"}}],
        "model": {"encoder": "encoder", "frozen": 1, "layers": 3, "dropout": 0.0},
        "fit": {"epochs": EPOCHS, "learning_rate": 0.01, "head_learning_rate": 0.02, "batch_sentences": 8},
        "resources": {"threads": 1, "cpus": 0.5},
    }
    (folder / "student.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_a_run_is_a_recipe_of_its_own(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"spa_Latn": [{"tokens": ["x"]}]})
    training = load_training(run, ["fit.epochs=3"])
    assert [source.run for source in training.data] == [str(run)]
    assert training.fit.epochs == 3


def test_places_are_relative_to_the_recipe(toy: Path) -> None:
    training = load_training(toy / "student.yaml")
    assert training.data[0].input is not None
    assert training.data[0].input.path == str(toy / "toy.conll")
    assert training.model.encoder == str(toy / "encoder")


def test_wrong_keys_are_named(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--set fit.epoch=3: unknown key 'fit.epoch' .*did you mean"):
        load_training(toy / "student.yaml", ["fit.epoch=3"])
    with pytest.raises(RecipeError, match=r"give either run .* or input"):
        load_training({"data": [{"run": "a", "input": {"path": "b"}}]})
    with pytest.raises(RecipeError, match="stopping early needs validation"):
        load_training({"data": [{"run": "a"}], "fit": {"patience": 2}})
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_training(tmp_path / "none.yaml")


def test_the_fingerprint_knows_what_matters(toy: Path, tmp_path: Path) -> None:
    recipe = toy / "student.yaml"
    first = fingerprint(load_training(recipe))
    assert fingerprint(load_training(recipe, ["resources.workers=2", "fit.micro_batch_tokens=64"])) == first
    changed = fingerprint(load_training(recipe, ["fit.seed=1"]))
    assert {key for key in first if first[key] != changed[key]} == {"fit.seed"}
    moved = tmp_path / "toy.conll"
    moved.write_text((toy / "toy.conll").read_text() + "a\tO\n\n")
    changed = fingerprint(load_training(recipe, [f"data=[{{input: {{path: {moved}}}}}]"]))
    assert {key for key in first if first[key] != changed[key]} == {"data.0.input.path"}


def test_what_changes_no_student_is_as_earlier_versions_recorded_it(toy: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"spa_Latn": [{"tokens": ["x"]}]})
    recipe = {"data": [{"run": str(run)}], "evaluate": [{"run": str(run), "labels": "projected"}]}
    keys = fingerprint(load_training(recipe))
    assert keys["model.encoder"] == '"builtin"' and "tag version" not in keys
    assert keys["evaluate.0.filters.bad_translations"] == '"keep"' and keys["data.0.filters.bad_translations"] == "null"
    for source in ({"side": "source"}, {"labels": "gold"}, {"filters": {"bad_translations": "keep"}}):
        found = fingerprint(load_training({"data": [{"run": str(run), **source}]}))
        assert found["data.0.filters.bad_translations"] == '"keep"'
    files = fingerprint(load_training(toy / "student.yaml", ["validation_share=0.5"]))
    assert files["data.0.filters.bad_translations"] == '"keep"'
    assert files["tag version"] == "3"  # which checkpoint is the best depends on it


def test_an_unfinished_run_teaches_nothing(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"spa_Latn": [{"tokens": ["x"]}]})
    (run / "_run" / "SEALED").unlink()
    with pytest.raises(RunFolderError, match="not sealed yet; finish the run first"):
        train(run, tmp_path / "model")
    with pytest.raises(RunFolderError, match="no run here"):
        train({"data": [{"run": str(tmp_path / "none")}]}, tmp_path / "model")
    with pytest.raises(InputError, match="no such file"):
        train({"data": [{"input": {"path": str(tmp_path / "none.conll")}}]}, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_other_folders_are_left_alone(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(RunFolderError, match=r"holds files that are no student \(thesis.txt\)"):
            train(toy / "student.yaml", tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.slow
def test_a_folder_in_which_another_works_is_left_as_it_is(toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    state = folder / "_train" / "fit" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"of the other")
    with claim(str(folder), str(folder)):
        for fresh in (False, True):
            with pytest.raises(RunFolderError, match="another xner-ray works in this folder"):
                train(toy / "student.yaml", folder, fresh=fresh)
    assert state.read_bytes() == b"of the other"
    with pytest.raises(RecipeError, match="is what the student is made from"):
        train(toy / "student.yaml", toy / "encoder", fresh=True)


def test_the_recipe_names_the_encoder_and_its_processes_a_copy(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xner_ray.models import hub
    from xner_ray.train import ray

    pinned = f"org/encoder@{'a' * 40}"
    monkeypatch.setattr(hub, "pin", lambda name, say: (pinned, "a" * 40))
    monkeypatch.setattr(hub, "mirror", lambda name, models, say: f"{models}/{name.partition('@')[2]}")
    asked: list[Any] = []

    def runs(training: Any, encoder: str, folder: str, publish: Any, say: Any) -> dict[str, Any]:
        asked.append((training.model.encoder, encoder))
        with tempfile.TemporaryDirectory() as own:
            publish(Path(own), {"recipe": training.model_dump(mode="json")})
        return {}

    monkeypatch.setattr(ray, "run", runs)
    train(toy / "student.yaml", tmp_path / "model", overrides=["model.encoder=org/encoder"])
    assert asked == [(pinned, f"{tmp_path}/model/_train/models/{'a' * 40}")]
    report = json.loads((tmp_path / "model" / "training.json").read_text())
    assert report["recipe"]["model"]["encoder"] == pinned
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["SHA256SUMS", "training.json"]


def test_the_first_line_says_what_is_made_of_what_before_anything_is_loaded(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xner_ray.models import hub

    def fails(*_: Any) -> Any:
        raise RecipeError("loads")

    monkeypatch.setattr(hub, "pin", fails)
    log = io.StringIO()
    with pytest.raises(RecipeError, match="loads"):
        train(
            toy / "student.yaml",
            tmp_path / "model",
            overrides=["resources.workers=2"],
            console=Console(file=log, width=300),
        )
    (said,) = log.getvalue().splitlines()
    assert said.startswith(f"a student of {toy}/toy.conll (")
    assert said.endswith(f"): encoder {toy}/encoder, {EPOCHS} epochs, 2 workers")


def test_only_what_another_try_may_mend_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from xner_ray.train import ray

    for error, again in [
        (RecipeError("frozen"), False),
        (FatalError("no number"), False),
        (MissingExtraError("py3langid", "lid", "filters.language"), False),
        (StorageError("gone"), True),
        (RetryableError("later"), True),
    ]:

        def fails(config: Any, error: XnerError = error) -> Any:
            raise error

        monkeypatch.setattr(ray, "_trained", fails)
        if again:
            with pytest.raises(type(error)):
                ray._worker({})
        else:
            found = pickle.loads(pickle.dumps(ray._worker({})))
            assert type(found) is type(error) and str(found) == str(error)


@pytest.fixture(scope="module")
def student(toy: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("student") / "model"
    return folder, train(toy / "student.yaml", folder)


@pytest.mark.long
def test_it_learns_and_leaves_a_hugging_face_folder(student: tuple[Path, dict[str, Any]], toy: Path) -> None:
    from xner_ray.recipe.sections import Tag
    from xner_ray.tag.hf import HfTagger

    folder, report = student
    assert report["evaluation"]["languages"][0]["overall"]["f1"] == 1.0
    assert len(report["history"]) == EPOCHS
    assert report["sentences"]["data"][0]["read"] == report["sentences"]["data"][0]["kept"] == 48
    assert json.loads((folder / "training.json").read_text())["history"] == report["history"]
    assert not (folder / "_train").exists()
    listed = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {*listed, "SHA256SUMS"} == {path.name for path in folder.iterdir()}
    spans = HfTagger(Tag(engine="hf", model=str(folder))).tag(
        [(["a", "zz", "b"], [True] * 3), (["qq", "be", "a"], [True] * 3)]
    )
    assert [[(s.start, s.end, s.label) for s in each] for each in spans] == [[(1, 2, "PER")], [(0, 1, "LOC")]]
    assert "100.00 | 100.00 | 100.00" in (folder / "README.md").read_text()


@pytest.mark.long
def test_the_same_command_again_does_nothing_and_another_is_refused(
    student: tuple[Path, dict[str, Any]], toy: Path
) -> None:
    folder, _ = student
    before = (folder / "model.safetensors").stat().st_mtime_ns
    result = CliRunner().invoke(cli.app, ["train", str(toy / "student.yaml"), str(folder)])
    assert result.exit_code == 0
    assert "is trained already" in result.output.replace("\n", " ")
    assert "100.00" in result.output
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunFolderError, match=r"holds the student of another recipe(?s:.*)fit.seed: 0 there, 1 now"):
        train(toy / "student.yaml", folder, overrides=["fit.seed=1"])


@pytest.mark.long
def test_two_workers_take_the_same_steps(student: tuple[Path, dict[str, Any]], toy: Path, tmp_path: Path) -> None:
    two = train(toy / "student.yaml", tmp_path / "two", overrides=["resources.workers=2"])
    losses = [[entry["loss"] for entry in report["history"]] for report in (student[1], two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert two["evaluation"]["languages"] == student[1]["evaluation"]["languages"]


@pytest.mark.long
def test_two_workers_of_a_stream_give_the_same_bytes_again(toy: Path, tmp_path: Path, ray_here: None) -> None:
    """Each reads its own share; the lines of progress come from the first."""
    path = run(tmp_path / "run", {"spa_Latn": [row(words, *spans) for words, spans in TOY] * 12}, unit_rows=8)
    recipe = {
        "data": [{"run": path}],
        "evaluate": [{"run": path}],
        "model": {"encoder": str(toy / "encoder"), "frozen": 1, "layers": 3},
        "fit": {"epochs": 6, "learning_rate": 0.01, "head_learning_rate": 0.02, "shuffle_sentences": 40},
        "resources": {"threads": 1, "cpus": 0.5, "workers": 2},
    }
    reports, logs = [], []
    for name in ("one", "two"):
        logs.append(io.StringIO())
        reports.append(train(recipe, tmp_path / name, console=Console(file=logs[-1], width=300)))
    losses = [entry["loss"] for entry in reports[0]["history"]]
    assert reports[0] == reports[1] and losses[-1] < 0.7 * losses[0]
    for name in ("model.safetensors", "training.json", "README.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for log in logs:
        said = log.getvalue().splitlines()
        assert said.count("6 epochs of 6 steps with 16 sentences each, read as they are needed") == 1
        assert sum(line.startswith("the first step is done") for line in said) == 1
        assert said[-1] == "labels the 96 sentences of evaluate"


@pytest.mark.long
def test_what_is_wrong_in_every_worker_is_one_message(toy: Path, tmp_path: Path, ray_here: None) -> None:
    with pytest.raises(InputError, match=r"data: no sentence is left \(.*48 read, 48 length\)"):
        train(
            toy / "student.yaml",
            tmp_path / "model",
            overrides=["data=[{input: {path: %s}, filters: {words: [9, 9]}}]" % (toy / "toy.conll")],
        )


def _worker(driver: psutil.Process) -> psutil.Process | None:
    for child in driver.children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(child.cmdline()):
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def _until(found: Callable[[], Any], seconds: float = 400.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come")


@pytest.mark.long
def test_killed_and_gone_on_with(toy: Path, tmp_path: Path, ray_here: None) -> None:
    """First a worker dies, then the driver with all that it started; the student has an undisturbed one's bytes."""
    longer = ["fit.epochs=70"]
    undisturbed = tmp_path / "undisturbed"
    train(toy / "student.yaml", undisturbed, overrides=longer)
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "xner_ray", "train", str(toy / "student.yaml"), str(folder)]
    command += [part for setting in longer for part in ("--set", setting)]
    with open(tmp_path / "log", "wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    process = psutil.Process(driver.pid)

    def checkpoints() -> list[str]:
        return sorted(path.name for path in (folder / "_train" / "fit").glob("checkpoint_*"))

    try:
        first = _until(checkpoints)
        worker = _until(lambda: _worker(process))
        worker.kill()
        _until(lambda: (found := _worker(process)) is not None and found.pid != worker.pid)
        _until(lambda: checkpoints() and checkpoints() != first)
        assert not (folder / "SHA256SUMS").exists(), "too fast to be killed: more epochs"
    finally:
        family = [process, *process.children(recursive=True)]
        for one in family:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        driver.wait()
    report = train(toy / "student.yaml", folder, overrides=longer)
    assert len(report["history"]) == 70
    for name in ("model.safetensors", "training.json", "README.md", "SHA256SUMS"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
