"""A resume takes the commits of models that its run recorded: a hub on loopback moves on, or goes away."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import ended_after_first_of_three
from hub_server import HubServer
from huggingface_hub import constants
from published import digests
from rich.console import Console
from s3_server import S3Server
from tiny_encoders import tiny

import xner_ray
from xner_ray.commands.validation.recipe import Experiment
from xner_ray.commands.validation.trainings import trainings
from xner_ray.engine import resolve
from xner_ray.errors import FatalError, RecipeError, RunFolderError
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.run.folder import RunFolder
from xner_ray.train import ray as on_ray
from xner_ray.train.recipe import Training

ENCODER, OTHER = "owner/encoder", "owner/other"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    (tmp_path / "in.conll").write_text("ab B-PER\nc O\n\nd B-LOC\n\n" * 4)
    (tmp_path / "out.txt").write_text("c ab\nd\n" * 4)
    tiny(tmp_path / "encoder", "bert")
    return tmp_path / "encoder"


@pytest.fixture
def hub(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    server.commit(ENCODER, encoder)
    server.join(monkeypatch, tmp_path / "cache")
    yield server
    server.close()


def _recipe(folder: Path, model: str = ENCODER, **others: Any) -> dict[str, Any]:
    return {
        "input": {"path": str(folder / "in.conll"), "parallel": {"spa_Latn": str(folder / "out.txt")}},
        "targets": ["spa_Latn"],
        "align": {"encoder": model, "layer": 3},
        "engine": {"unit_rows": 3, "executor": "inline"},
        **others,
    }


def _interrupted(recipe: dict[str, Any], run: Path) -> None:
    """Make the first unit of a run."""
    with ended_after_first_of_three(run):
        xner_ray.project(recipe, run)


@pytest.mark.slow
def test_a_commit_on_main_and_a_hub_that_is_gone_do_not_change_a_run(
    hub: HubServer, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = _recipe(tmp_path), tmp_path / "run"
    began = hub.refs[ENCODER]["main"]
    xner_ray.project(recipe, tmp_path / "undisturbed")
    expected = digests(tmp_path / "undisturbed")
    for name in ("edited", "down", "offline", "gone"):
        _interrupted(recipe, tmp_path / name)
    _interrupted(recipe, run)
    known = json.loads((run / "_run/fingerprint.json").read_text())
    assert known["asked"] == {"align.encoder": ENCODER}
    assert known["keys"]["align.encoder identity"] == began

    edited = hub.commit(ENCODER, encoder, README="edited")
    hub.requests.clear()
    xner_ray.project(recipe, tmp_path / "edited")
    assert hub.asked() == []
    hub.down = True
    xner_ray.project(recipe, tmp_path / "down")
    hub.down = False
    hub.online(monkeypatch, offline=True)
    xner_ray.project(recipe, tmp_path / "offline")
    hub.online(monkeypatch)
    for name in ("edited", "down", "offline"):
        assert digests(tmp_path / name) == expected
        assert RunFolder(str(tmp_path / name)).recipe().align.encoder == f"{ENCODER}@{began}"

    pinned = _recipe(tmp_path, f"{ENCODER}@{began}")
    with pytest.raises(RunFolderError) as error:
        xner_ray.project(_recipe(tmp_path, f"{ENCODER}@main"), run)
    kept = f"align.encoder: {ENCODER}@{began} resumes the run as it is"
    assert f"align.encoder identity: '{began}' there, '{edited}' now ({kept})" in str(error.value)
    xner_ray.project(pinned, run)
    assert digests(run) == expected

    xner_ray.project(recipe, run, fresh=True)
    assert RunFolder(str(run)).recipe().align.encoder == f"{ENCODER}@{edited}", "fresh is a new run"
    hub.close()
    elsewhere = tmp_path / "elsewhere"  # a copy of input and run; of the originals nothing is left
    elsewhere.mkdir()
    for name in ("in.conll", "out.txt"):
        shutil.copy(tmp_path / name, elsewhere)
        (tmp_path / name).unlink()
    shutil.copytree(tmp_path / "gone", elsewhere / "run", copy_function=shutil.copy)
    shutil.rmtree(tmp_path / "gone")
    xner_ray.project(_recipe(elsewhere), elsewhere / "run")
    assert digests(elsewhere / "run") == expected


@pytest.mark.slow
def test_another_name_or_revision_is_what_it_says(hub: HubServer, encoder: Path, tmp_path: Path) -> None:
    proposed = hub.commit(ENCODER, encoder, "refs/pr/45", README="proposed")
    hub.commit(OTHER, encoder)
    run = tmp_path / "run"
    _interrupted(_recipe(tmp_path, f"{ENCODER}@refs/pr/45"), run)
    hub.commit(ENCODER, encoder, "refs/pr/45", README="proposed again")
    for name in (ENCODER, OTHER, f"{ENCODER}@main"):
        with pytest.raises(RunFolderError, match=f"align.encoder: {ENCODER}@{proposed} resumes the run as it is"):
            xner_ray.project(_recipe(tmp_path, name), run)
    with pytest.raises(RecipeError, match="the hub has the model, but no revision 'v9' of it"):
        xner_ray.project(_recipe(tmp_path, f"{ENCODER}@v9"), run)
    with pytest.raises(RecipeError, match="neither a folder here nor a model on the hub"):
        xner_ray.project(_recipe(tmp_path, "owner/none"), run)
    xner_ray.project(_recipe(tmp_path, f"{ENCODER}@refs/pr/45"), run)
    assert RunFolder(str(run)).keys()["align.encoder identity"] == proposed


@pytest.mark.slow
def test_a_run_that_did_not_record_what_was_asked(hub: HubServer, encoder: Path, tmp_path: Path) -> None:
    run, began = tmp_path / "run", hub.refs[ENCODER]["main"]
    _interrupted(_recipe(tmp_path), run)
    path = run / "_run/fingerprint.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: found[key] for key in ("keys", "targets", "first_attempt")}))
    hub.commit(ENCODER, encoder, README="edited")
    with pytest.raises(RunFolderError, match="resumes the run as it is"):
        xner_ray.project(_recipe(tmp_path, f"{ENCODER}@main"), run)
    xner_ray.project(_recipe(tmp_path), run)
    assert RunFolder(str(run)).keys()["align.encoder identity"] == began


@pytest.mark.slow
def test_further_targets_come_with_the_models_of_the_run(hub: HubServer, encoder: Path, tmp_path: Path) -> None:
    run, began = tmp_path / "run", hub.refs[ENCODER]["main"]
    xner_ray.project(_recipe(tmp_path), run)
    hub.commit(ENCODER, encoder, README="edited")
    (tmp_path / "more.txt").write_text("c ab\nd\n" * 4)
    more = _recipe(tmp_path, targets=["spa_Latn", "por_Latn"])
    more["input"]["parallel"]["por_Latn"] = str(tmp_path / "more.txt")
    report = xner_ray.project(more, run)
    assert set(report["languages"]) == {"spa_Latn", "por_Latn"}
    assert RunFolder(str(run)).recipe().align.encoder == f"{ENCODER}@{began}"
    assert RunFolder(str(run)).record().asked == {"align.encoder": ENCODER}
    again = xner_ray.rematch(run, tmp_path / "rematched", overrides=["match.solver=greedy"])
    assert again["units"] == report["units"] and RunFolder(str(tmp_path / "rematched")).record().asked == {
        "align.encoder": ENCODER
    }


def test_a_changed_local_folder_is_another_model(encoder: Path, tmp_path: Path) -> None:
    recipe, run = _recipe(tmp_path, str(encoder)), tmp_path / "run"
    _interrupted(recipe, run)
    (encoder / "README.md").write_text("edited")
    with pytest.raises(RunFolderError, match=r"align\.encoder identity: '[0-9a-f]{64}' there, '[0-9a-f]{64}' now\n"):
        xner_ray.project(recipe, run)


def test_a_model_at_an_address_is_kept(
    encoder: Path, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    for path in encoder.iterdir():
        s3.put(f"/bucket/encoder/{path.name}", path.read_bytes())
    recipe, run = _recipe(tmp_path, s3.uri("bucket/encoder")), tmp_path / "run"
    _interrupted(recipe, run)
    began = RunFolder(str(run)).models()["align.encoder"]
    s3.put("/bucket/encoder/README.md", b"edited")
    s3.fault = lambda method, path, query: "SlowDown"
    xner_ray.project(recipe, run)
    assert RunFolder(str(run)).models()["align.encoder"] == began


def test_every_model_of_a_recipe_is_kept(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Translator, back-translator, likelihood and encoder, by what resolving them gives."""
    nllb = Path(resolve.__file__).parents[1] / "models" / "tiny-nllb"
    hub.commit("owner/nllb", nllb)
    model = {"engine": "nllb", "model": "owner/nllb"}
    scores = {"match": {"scores": {"soft": 1, "likelihood": 1}, "prior": "none"}}
    given = {**_recipe(tmp_path, translate=model, back_translate=model, likelihood=model, **scores)}
    del given["input"]["parallel"]
    recipe: Recipe = load_recipe(given)
    asked = dict(recipe.models())
    assert set(asked) == {"translate.model", "back_translate.model", "likelihood.model", "align.encoder"} | {
        key for key in asked if key.startswith("tag.")
    }
    first, identities = resolve.resolve(recipe)
    folder = RunFolder(str(tmp_path / "run"))
    folder.begin(first, {}, b"", 10, asked=asked)
    hub.commit("owner/nllb", nllb, README="edited")
    hub.requests.clear()
    assert resolve.resolve(recipe, recorded=resolve.recorded(recipe, folder)) == (first, identities)
    assert hub.asked() == []
    second, _ = resolve.resolve(recipe)
    assert second.translate.model != first.translate.model and second.align.encoder == first.align.encoder


@pytest.mark.slow
def test_a_cache_without_main(hub: HubServer, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As runs fill it: by commits."""
    first = hub.refs[ENCODER]["main"]
    xner_ray.project(_recipe(tmp_path, f"{ENCODER}@{first}"), tmp_path / "first")
    cache = Path(constants.HF_HUB_CACHE) / "models--owner--encoder"
    assert {path.name for path in (cache / "snapshots").iterdir()} == {first}
    assert not (cache / "refs" / "main").exists()
    hub.down = True
    console = Console(record=True, file=io.StringIO(), width=300)
    xner_ray.project(_recipe(tmp_path), tmp_path / "second", console=console)
    said = f"{ENCODER}: the hub cannot be reached; {first} is taken, the only commit in the local hub cache"
    assert console.export_text().count(said) == 1
    assert digests(tmp_path / "second") == digests(tmp_path / "first")
    plan = Console(record=True, file=io.StringIO(), width=300)
    plan.print(xner_ray.plan(_recipe(tmp_path)))
    assert said in plan.export_text()
    with pytest.raises(RecipeError, match=f"does not say which commit v2 is; name one that it has: {ENCODER}@{first}$"):
        xner_ray.project(_recipe(tmp_path, f"{ENCODER}@v2"), tmp_path / "third")

    hub.down = False
    second = hub.commit(ENCODER, encoder, README="edited")
    xner_ray.project(_recipe(tmp_path, f"{ENCODER}@{second}"), tmp_path / "third")
    hub.online(monkeypatch, offline=True)
    one, two = sorted([first, second])
    with pytest.raises(RecipeError) as error:
        xner_ray.project(_recipe(tmp_path), tmp_path / "fourth")
    assert str(error.value) == (
        f"model {ENCODER!r}: the hub cannot be reached, and the local hub cache does not say which commit main is; "
        f"name one that it has: {ENCODER}@{one}, {ENCODER}@{two}"
    )
    assert not (tmp_path / "fourth").exists()


def test_a_student_keeps_its_encoder(
    hub: HubServer, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train is left out: the training is given up, and then ends at once."""
    names: list[str] = []

    def stops(training: Training, place: str, folder: str, publish: Any, *_: Any) -> dict[str, Any]:
        names.append(training.model.encoder)
        raise FatalError("the test ends it here")

    def ends(training: Training, place: str, folder: str, publish: Any, *_: Any) -> dict[str, Any]:
        names.append(training.model.encoder)
        (tmp_path / "made").mkdir()
        (tmp_path / "made/config.json").write_text("{}")
        report = {"recipe": training.model_dump(mode="json")}
        publish(tmp_path / "made", report)
        return report

    recipe = {"data": [{"input": {"path": str(tmp_path / "in.conll")}}], "model": {"encoder": f"{ENCODER}@main"}}
    began, student = hub.refs[ENCODER]["main"], tmp_path / "student"
    monkeypatch.setattr(on_ray, "run", stops)
    with pytest.raises(FatalError):
        xner_ray.train(recipe, student)
    edited = hub.commit(ENCODER, encoder, README="edited")
    hub.requests.clear()
    monkeypatch.setattr(on_ray, "run", ends)
    report = xner_ray.train(recipe, student)
    hub.down = True
    assert xner_ray.train(recipe, student) == report, "it is finished"
    assert hub.asked() == []
    hub.down = False
    with pytest.raises(RunFolderError, match=f"model.encoder: {began} there, {edited} now"):
        xner_ray.train({**recipe, "model": {"encoder": ENCODER}}, student)
    monkeypatch.setattr(on_ray, "run", stops)
    with pytest.raises(FatalError):
        xner_ray.train(recipe, student, fresh=True)
    assert names == [f"{ENCODER}@{began}", f"{ENCODER}@{began}", f"{ENCODER}@{edited}"]


def test_an_adapted_encoder_keeps_what_it_is_made_from(hub: HubServer, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("ab c\nd\n" * 4)
    pairs = {"path": str(tmp_path / "in.txt"), "lang": "eng_Latn", "parallel": {"spa_Latn": str(tmp_path / "out.txt")}}
    recipe = {"data": [{"input": pairs}], "model": {"encoder": ENCODER, "layer": 3}, "fit": {"part_pairs": 2}}
    began, adapted = hub.refs[ENCODER]["main"], tmp_path / "adapted"

    def stops(line: str) -> None:
        raise FatalError("the test ends it here")

    with pytest.raises(FatalError):
        xner_ray.adapt(recipe, adapted, say=stops)
    hub.commit(ENCODER, encoder, README="edited")
    hub.requests.clear()
    report = xner_ray.adapt(recipe, adapted)
    assert report["recipe"]["model"]["encoder"] == f"{ENCODER}@{began}"
    assert xner_ray.adapt(recipe, adapted) == report
    assert hub.asked() == []


def test_students_of_an_experiment_keep_their_encoder(hub: HubServer, encoder: Path, tmp_path: Path) -> None:
    students = {"english": {"data": [{"run": "toy", "side": "source"}]}, "gold": {"data": [{"run": "toy"}]}}
    common = {"model": {"encoder": ENCODER}}
    experiment = Experiment.model_validate(
        {"runs": {"toy": "toy.yaml"}, "languages": ["spa_Latn"], "evaluate": [{"run": "toy"}], "folds": 2}
        | {"students": students, "student": common}
    )
    out, began = str(tmp_path / "out"), hub.refs[ENCODER]["main"]
    first = trainings(experiment, tmp_path, out, print)
    assert {item.encoder for item in first} == {began}
    hub.commit(ENCODER, encoder, README="edited")
    assert trainings(experiment, tmp_path, out, print) == first
    assert trainings(experiment, tmp_path, str(tmp_path / "another"), print) != first
