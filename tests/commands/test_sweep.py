"""What a sweep makes of what, without runs; and the sweep of jobs/ for real, on a few sentences."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands.sweep import planned, sweep
from xner_ray.engine.resolve import resolve
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.read.inputs import find_texts
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

JOBS = Path(__file__).parents[2] / "jobs"
GREEDY = {"match.solver": "greedy"}


def _written(folder: Path, methods: Mapping[str, Any], given: Any = "recipe.yaml", **others: Any) -> Path:
    recipe = {"input": {"path": "in.conll", "parallel": {"spa_Latn": "es.conll"}}, "targets": ["spa_Latn"]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "match": {"prior": "none"}}))
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"data": {"one": given}, "methods": dict(methods), **others}, sort_keys=False))
    return path


def _sources(path: Path) -> dict[str, str | None]:
    return {run.method: run.source for run in planned(path)}


def test_methods_that_share_their_links_have_one_source(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        {
            "default": None,
            "greedy": GREEDY,
            "uncentred": {"align.center": "none"},
            "uncentred_split": {"align.center": "none", "output.incomplete": "split"},
            "mwmf": {"align.method": "mwmf", "match.scores": {"align": 1}},
            "tagged": {"projector": "transfer", "target_tag.engine": "hf", "target_tag.model": "x"},
            "other_transfer": {"projector": "transfer", "target_tag.engine": "hf", "target_tag.model": "y"},
            "likelihood": {"likelihood.engine": "nllb", "match.scores": {"likelihood": 1}},
            "likelihood_greedy": {"likelihood.engine": "nllb", "match.scores": {"likelihood": 1}, **GREEDY},
            "likelihood_unused": {"likelihood.engine": "nllb"},
        },
    )
    assert _sources(path) == {
        "default": "mwmf",
        "greedy": "mwmf",
        "uncentred": None,
        "uncentred_split": "uncentred",
        "mwmf": None,
        "tagged": None,
        "other_transfer": None,
        "likelihood": None,
        "likelihood_greedy": None,
        "likelihood_unused": None,
    }
    order = [run.method for run in planned(path)]
    assert all(order.index(source) < order.index(method) for method, source in _sources(path).items() if source)


def test_settings_come_from_the_recipe_then_all_then_the_data_set_then_the_method(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        {"default": {}, "greedy": {**GREEDY, "match.max_words": 7, "match.per_entity": "<=2"}},
        {"recipe": "recipe.yaml", "settings": {"match.max_words": 6, "input.limit": 9}},
        settings={"match.max_words": 5, "match.candidates": "ngram", "input.limit": 8},
    )
    runs = {run.method: run.recipe for run in planned(path, ["input.limit=3"])}
    for method, solver, max_words, per_entity in (("default", "exact", 6, "<=1"), ("greedy", "greedy", 7, "<=2")):
        match = runs[method].match
        assert (match.prior, match.candidates, runs[method].input.limit) == ("none", "ngram", 3)
        assert (match.solver, match.max_words, match.per_entity) == (solver, max_words, per_entity)
        assert runs[method].input.path == str(tmp_path / "in.conll")


def test_a_whole_mapping_and_a_key_of_it_follow_that_order_too(tmp_path: Path) -> None:
    whole = "match.scores"
    path = _written(
        tmp_path,
        {"default": None, "whole": {whole: {"align": 1.0}}, "key": {f"{whole}.edges": 0.4}},
        {"recipe": "recipe.yaml", "settings": {f"{whole}.edges": 0.3}},
        settings={whole: {"soft": 2.0, "edges": 0.2}},
    )
    recipes = {run.method: dict(run.recipe.match.scores) for run in planned(path, ["match.prior=auto"])}
    assert recipes == {
        "default": {"soft": 2.0, "edges": 0.3},
        "whole": {"align": 1.0},
        "key": {"soft": 2.0, "edges": 0.4},
    }
    (tmp_path / "other").mkdir()
    path = _written(
        tmp_path / "other",
        {"default": None, "align": {whole: {"align": 1.0}}},
        {"recipe": "recipe.yaml", "settings": {whole: {"soft": 3.0}}},
        settings={f"{whole}.align": 5.0},
    )
    recipes = {
        run.method: dict(run.recipe.match.scores) for run in planned(path, ["match.prior=auto", f"{whole}.edges=0.1"])
    }
    assert recipes == {"default": {"soft": 3.0, "edges": 0.1}, "align": {"align": 1.0, "edges": 0.1}}


@pytest.mark.parametrize(
    ("methods", "others", "message"),
    [
        ({"one": {}}, {}, r"sweep\.yaml: methods is .*at least 2 items"),
        ({"one": {}, "two/x": {}}, {}, "'two/x' cannot be a folder's name; allowed: letters"),
        ({"one": {}, "two": {}}, {"against": "tow"}, "against: 'tow' is no method; did you mean 'two'"),
        ({"one": {}, "two": {}}, {"metods": {}}, "unknown key 'metods'.*did you mean 'methods'"),
        ({"one": {}, "two": {"match": GREEDY}}, {}, r"match: a whole section .* write match.<key>: value"),
        ({"one": {}, "two": {"match.solvr": "greedy"}}, {}, r"one, two: .*unknown key 'match.solvr'.*'solver'"),
        ({"one": {}, "two": {"match.solver": "greedier"}}, {}, "one, two: .*match.solver is 'greedier'"),
        ({"one": {}, "two": ["match.solver=greedy"]}, {}, "methods.two"),
        ({"one": {}, "two": {}}, {"data": {}}, r"sweep\.yaml: data is \{\}: .*at least 1 item"),
        ({"one": {}, "two": {}}, {"data": {"d": "nowhere.yaml"}}, "d, one: .*nowhere.yaml: no such recipe file"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    methods: dict[str, Any], others: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        sweep(_written(tmp_path, methods, **others), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml: no such recipe file"):
        sweep(tmp_path / "nothing.yaml", tmp_path / "out")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(RecipeError, match="a sweep is a mapping of data"):
        sweep(tmp_path / "list.yaml", tmp_path / "out")


@pytest.mark.slow
def test_the_sweep_of_jobs_on_a_few_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One worker: loading the model into two at a time takes longer than these sentences
    few = ["input.limit=40", "engine.unit_rows=20", "align.workers=1", "match.workers=1"]
    settings = [option for one in few for option in ("--set", one)]
    arguments = ["sweep", str(JOBS / "sweep.yaml"), str(tmp_path / "out"), *settings, "--samples", "200"]
    publish, published = storage.publish, []

    def dies(path: str, data: bytes) -> None:
        if path.endswith("/no_edges/_run/SEALED"):
            raise KeyboardInterrupt
        publish(path, data)

    (tmp_path / "out").mkdir()
    (tmp_path / "out/compare.md").write_text("of an earlier sweep")
    monkeypatch.setattr(storage, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        sweep(JOBS / "sweep.yaml", tmp_path / "out", overrides=few, samples=200)
    assert not (tmp_path / "out/compare.md").exists()
    made = {path.name for path in (tmp_path / "out/europarl").iterdir() if (path / "_run/SEALED").exists()}
    assert made == {"default", "greedy", "no_prior"}

    def noted(path: str, data: bytes) -> None:
        published.append(path)
        publish(path, data)

    monkeypatch.setattr(storage, "publish", noted)
    shown = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert not [path for path in published if any(f"/{name}/" in path for name in made)]
    assert max(map(len, shown.output.splitlines())) <= 80 or str(tmp_path) in shown.output
    for part in ("europarl/greedy, rematched from default", "europarl/heuristic_paper, projected", "Holm 1979"):
        assert part in shown.output
    methods = list(yaml.safe_load((JOBS / "sweep.yaml").read_text())["methods"])
    assert len(methods) >= 8
    found = json.loads((tmp_path / "out/compare.json").read_text())["europarl"]
    assert [run["name"] for run in found["runs"]] == methods
    assert found["runs"][1]["keys"] == {"match.solver": "greedy"}
    assert found["runs"][methods.index("heuristic_paper")]["method"] == "align.center=none match.solver=heuristic"
    for run, result in zip(found["runs"], found["languages"][0]["results"], strict=True):
        (alone,) = xner_ray.evaluate(run["run"], samples=0)
        assert (result["rates"]["f1"], alone.rows) == (alone.overall.f1, 40)
    text = (tmp_path / "out/compare.md").read_text()
    assert text.startswith("## europarl\n\n|  | run | method |")
    assert "|  | greedy | `match.solver=greedy` |" in text
    # Each folder is the run that project would make by the method's own recipe: nothing of its source's is left
    for plan in planned(JOBS / "sweep.yaml", few):
        folder = RunFolder(str(tmp_path / "out/europarl" / plan.method))
        resolved, models = resolve(plan.recipe)
        assert folder.recipe() == resolved
        assert folder.keys() == fingerprint(resolved, *find_texts(resolved).identities(), models)
    before = (tmp_path / "out/compare.md").read_bytes()
    again = sweep(JOBS / "sweep.yaml", tmp_path / "out", overrides=few, samples=200)
    assert (tmp_path / "out/compare.md").read_bytes() == before
    assert list(again.reports["europarl"]) == [run.method for run in planned(JOBS / "sweep.yaml")]
    with pytest.raises(RunFolderError, match=r"europarl/default: .*holds a run of another recipe(.|\n)*input.limit"):
        sweep(JOBS / "sweep.yaml", tmp_path / "out", overrides=["input.limit=39", *few[1:]])
    assert (tmp_path / "out/compare.md").read_bytes() == before
