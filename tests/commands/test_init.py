"""The command `init`: recipes that `plan` takes, and what it refuses to write."""

import io
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands.start.init import init
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.comments import commented, comments
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Engine, Output, Recipe
from xner_ray.recipe.sections import Align, Match

TEXT = "Anna B-PER\nlives O\nin O\nOslo B-LOC\n. O\n\nNothing O\nelse O\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "en.conll").write_text(TEXT)
    (tmp_path / "data" / "sw.txt").write_text("Anna anaishi Oslo .\nHakuna kingine\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _plan(path: Path) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(xner_ray.plan(path))
    return captured.get()


def test_with_given_text_the_recipe_passes_plan_from_another_folder(folder: Path) -> None:
    path, found = init(
        "data/en.conll", targets=["swa"], parallel={"swh_Latn": "data/sw.txt"}, output="jobs/new/recipe.yaml"
    )
    assert found.labels == {"LOC": 1, "PER": 1}
    recipe = yaml.safe_load(path.read_text())
    assert recipe["input"]["path"] == "../../data/en.conll" and recipe["targets"] == ["swh_Latn"]
    assert recipe["input"]["parallel"] == {"swh_Latn": "../../data/sw.txt"} and "translate" not in recipe
    planned = _plan(path)
    assert "text given" in planned and "labels: LOC, PER" in planned


@pytest.mark.slow  # imports torch
def test_without_text_a_translator_that_the_machine_has_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = init("data/en.conll", targets=["swh_Latn"])
    assert yaml.safe_load(path.read_text())["translate"]["model"] == "tiny-nllb"  # no hub, and nothing in the cache
    assert "text by nllb" in _plan(path)
    monkeypatch.setattr("xner_ray.commands.start.init._offline", lambda: False)
    monkeypatch.setattr("xner_ray.commands.start.init.find_spec", lambda name: object())
    recipe = yaml.safe_load(init("data/en.conll", targets=["swh_Latn"], force=True)[0].read_text())
    assert recipe["translate"]["engine"] == "ctranslate2"
    assert recipe["translate"]["model"] == "facebook/nllb-200-distilled-600M"


def test_without_targets_the_input_is_the_target_side(folder: Path) -> None:
    path, _ = init("data/sw.txt", parallel={"eng_Latn": "data/en.conll"}, overrides=["input.lang=swh_Latn"])
    recipe = load_recipe(path)
    assert (recipe.direction, recipe.input.lang, recipe.source_lang) == ("test", "swh_Latn", "eng_Latn")
    assert "direction test" in _plan(path)


def test_the_command_says_what_is_bad_and_never_overwrites(folder: Path) -> None:
    (folder / "bad.conll").write_text(TEXT + "\nBad X-TAG\n")
    arguments = ["init", "bad.conll", "--targets", "swh_Latn,spa_Latn", "--lang", "eng_Latn"]
    ended = CliRunner().invoke(cli.app, arguments)
    assert ended.exit_code == 0 and "1 of 3 rows will be rejected: illegal_tag; bad.conll:10" in ended.output
    text = Path("recipe.yaml").read_text()
    assert "targets: [swh_Latn, spa_Latn]  # Swahili, Spanish" in text
    again = CliRunner().invoke(cli.app, arguments)
    assert isinstance(again.exception, RecipeError) and "is there already; name another file" in str(again.exception)
    assert CliRunner().invoke(cli.app, [*arguments, "--force"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": ["swa_Latn"]}, RecipeError, r"targets: 'swa_Latn' .* did you mean swh_Latn \(Swahili\)"),
        ({"targets": ["no"]}, RecipeError, r"did you mean nob_Latn .* or nno_Latn"),
        ({"targets": ["bar_Latn", "eng_Latn"]}, RecipeError, r"'bar_Latn' is not a language code"),
        ({}, RecipeError, r"name the languages to make data for, as in --targets swh_Latn,yor_Latn"),
        ({"files": "data/sw.txt", "targets": ["spa_Latn"]}, InputError, r"has no labels \(read as text\)"),
        ({"files": ["data/sw.txt", "data/en.conll"], "targets": ["spa_Latn"]}, InputError, r"a recipe has one input"),
        ({"targets": ["pcm_Latn"]}, RecipeError, r"NLLB does not translate pcm_Latn .*--parallel pcm_Latn=FILE"),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(
    folder: Path, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        init(**{"files": "data/en.conll", **arguments})  # type: ignore[arg-type]
    assert not Path("recipe.yaml").exists()


def test_an_ambiguous_file_is_refused_with_the_key(folder: Path) -> None:
    (folder / "nested.conll").write_text("Oslo B-ORG B-LOC\nTimes I-ORG O\n\nx O B-LOC\n")
    with pytest.raises(InputError, match=r"input.columns: {tokens: 1, tags: 2}"):
        init("nested.conll", targets=["swh_Latn"])
    path, found = init("nested.conll", targets=["swh_Latn"], overrides=["input.columns={tokens: 1, tags: 3}"])
    assert found.labels == {"LOC": 2} and load_recipe(path).input.columns.tags == "3"


def test_the_commented_defaults_are_the_defaults(folder: Path) -> None:
    path, _ = init("data/en.conll", targets=["swh_Latn"])
    uncommented = re.sub(r"^# ((?: {2}|align:|match:|output:|engine:).*)$", r"\1", path.read_text(), flags=re.MULTILINE)
    path.with_name("all.yaml").write_text(uncommented)
    assert yaml.safe_load(uncommented)["match"]["min_score"] == Recipe.model_fields["match"].default.min_score
    assert load_recipe(path.with_name("all.yaml")).model_dump() == load_recipe(path).model_dump()


def test_comments_come_from_the_fields() -> None:
    assert comments(Match)["min_score"] == "an entity without a candidate above this stays unprojected"
    assert comments(Align)["gpus"].startswith("per worker")  # of the class below it
    assert "  # keep | reject | split" in commented("output", Output)
    assert "# engine:\n#   executor: auto" in commented("engine", Engine) and "None" not in commented("align", Align)


def test_plan_for_nodes_and_models_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    (tmp_path / "a.conll").write_text("Ada B-PER\nmet O\nBo B-PER\n\n" * 20)
    device = {"gpus": 1, "model": "owner/no-such-model"}
    given = {"translate": device, "align": {"gpus": 1}, "engine": {"unit_rows": 1}}
    recipe = {"input": {"path": str(tmp_path / "a.conll")}, "targets": ["deu_Latn"], **given}
    console = Console(record=True, file=io.StringIO(), width=300)
    console.print(xner_ray.plan(recipe, assume="cpus=192,gpus=8,memory_gb=2000", offline=True))
    said = console.export_text()
    assert "Pools (what is assumed has 192 CPUs, 8 GPUs)" in said
    assert "on Ray: translate+target_tag+align x 1 to 8, match x 1 to 4 workers (--assume cpus=192" in said
    assert "models were not looked at (--offline): translate.model owner/no-such-model" in said
    with pytest.raises(RecipeError, match=r"need at least 1 GPUs .* but what is assumed has 0"):
        xner_ray.plan(recipe, assume="cpus=8", offline=True)
