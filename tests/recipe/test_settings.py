"""Settings of `--set`: paths as seen from the shell, errors at what they come from, and kinds of YAML told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from xner_ray.commands.adapt import load_adaptation
from xner_ray.commands.loop.recipe import load_loop
from xner_ray.commands.sweep import load_sweep, planned
from xner_ray.commands.validation.recipe import load_experiment
from xner_ray.errors import RecipeError
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.settings import anchored, overridden
from xner_ray.train.load import load_training

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder of a shell, beside the folder `recipes` with r.yaml."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(yaml.safe_dump({"input": {"path": "own.jsonl"}, "targets": ["swh_Latn"]}))
    (tmp_path / "shell").mkdir()
    monkeypatch.chdir(tmp_path / "shell")
    return tmp_path / "shell"


def _recipe(*overrides: str) -> Recipe:
    return load_recipe("../recipes/r.yaml", overrides)


def test_paths_of_settings_start_at_the_shell_and_those_of_the_file_at_the_file(shell: Path) -> None:
    assert _recipe().input.path == str(shell.parent / "recipes/own.jsonl")
    assert _recipe("input.path=x/a.jsonl").input.path == str(shell / "x/a.jsonl")
    assert _recipe("input={path: a.jsonl, lang: eng_Latn}").input.path == str(shell / "a.jsonl")
    assert _recipe("input.path.train=a.jsonl").input.path == {"train": str(shell / "a.jsonl")}
    assert _recipe("input.path=s3://b/a.jsonl").input.path == "s3://b/a.jsonl"
    parallel = _recipe("input.parallel.spa_Latn=es.txt", "targets=[spa_Latn]").input.parallel
    assert parallel == {"spa_Latn": str(shell / "es.txt")}


def test_models_of_settings_are_paths_where_they_look_like_one_or_are_there(shell: Path) -> None:
    (shell / "mine").mkdir()
    assert _recipe("align.encoder=mine").align.encoder == str(shell / "mine")
    assert _recipe("align.encoder=../models/x").align.encoder == str(shell.parent / "models/x")
    assert _recipe("align.encoder=owner/name").align.encoder == "owner/name"
    assert _recipe("align.encoder=builtin").align.encoder == "builtin"


def test_a_plugin_of_a_setting_is_a_file_only_if_it_ends_so() -> None:
    given = ["evidence.plugin=own.py", "evidence.plugin=package.own"]
    assert anchored(Recipe, given, Path("/shell")) == ['evidence.plugin="/shell/own.py"', given[1]]


def test_anchored_settings_keep_what_is_no_path() -> None:
    given = ["input.path=été/{lang}.conll", "match.scores={soft: 1, edges: 0.2}", "targets=[swh_Latn]"]
    moved = anchored(Recipe, given, Path("/shell"))
    assert moved[1:] == given[1:]
    assert overridden({}, moved)["input"] == {"path": "/shell/été/{lang}.conll"}
    assert anchored(Recipe, moved, Path("/elsewhere")) == moved  # as it is done twice on the way from a sweep


def test_settings_of_a_sweep_start_at_the_recipe_and_those_of_the_shell_there(shell: Path) -> None:
    sweep = {
        "data": {"a": {"recipe": "r.yaml", "settings": {"input.path": "other.jsonl"}}},
        "methods": {"m": {}, "n": {}},
    }
    (shell.parent / "recipes/s.yaml").write_text(yaml.safe_dump(sweep))
    run, _ = planned("../recipes/s.yaml")
    assert load_recipe(run.recipe_file, run.overrides).input.path == str(shell.parent / "recipes/other.jsonl")
    run, _ = planned("../recipes/s.yaml", ["input.path=here.jsonl"])
    assert run.recipe.input.path == load_recipe(run.recipe_file, run.overrides).input.path == str(shell / "here.jsonl")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("align.methd=argmax", "--set align.methd=argmax: unknown key 'align.methd'"),
        ("targets=swh_Latn,zul_Latn", "--set targets=swh_Latn,zul_Latn: targets is 'swh_Latn,zul_Latn'"),
        ("targets=swh_Latn,zul_Latn", r"as in \[swh_Latn, zul_Latn\]$"),
        ("align={methd: x}", r"--set align=\{methd: x\}: unknown key 'align.methd'"),
        ("translate.dtype=int8", r"^\S*r.yaml with --set translate.dtype=int8: translate: dtype: int8 needs engine"),
        ("input.path=https://user:secret@host/a", "input.path"),
    ],
)
def test_an_error_of_a_setting_names_the_setting(shell: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _recipe(setting)


def test_an_error_of_the_file_beside_a_setting_names_the_file(shell: Path) -> None:
    path = shell.parent / "recipes/r.yaml"
    path.write_text(path.read_text() + "match: {solvr: exact}\n")
    with pytest.raises(RecipeError, match=r"^\.\./recipes/r\.yaml: unknown key 'match\.solvr'"):
        _recipe("match.min_score=0")


LOADERS: dict[str, Any] = {
    "project": load_recipe,
    "sweep": load_sweep,
    "cross-validate": load_experiment,
    "train": load_training,
    "adapt": load_adaptation,
    "loop": load_loop,
}
FILES = {
    "quickstart.yaml": "project",
    "sweep.yaml": "sweep",
    "students.yaml": "cross-validate",
    "student.yaml": "train",
    "adapt_tagger.yaml": "train",
    "adapt_encoder.yaml": "adapt",
    "loop_lug.yaml": "loop",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("command", LOADERS)
def test_a_file_of_another_kind_is_refused_with_the_command_that_takes_it(command: str, file: str) -> None:
    if FILES[file] == command or (command, file) == ("loop", "quickstart.yaml"):  # of a run: a loop with the defaults
        LOADERS[command](JOBS / file)
    else:
        with pytest.raises(RecipeError, match=f"what takes it: xner-ray {FILES[file]} "):
            LOADERS[command](JOBS / file)


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "{}"])
def test_an_empty_file_is_called_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml: it is empty; `xner-ray init FILE` writes a recipe"):
        load_recipe(tmp_path / "r.yaml")
