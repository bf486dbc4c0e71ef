"""Recipes with a user's own score functions: what is checked, read and counted before any worker starts."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from plugged import SAME, stage_of, with_plugin

from xner_ray.commands.sweep import planned
from xner_ray.engine.pools import Capacity, group
from xner_ray.engine.resolve import model_lines, notices, resolve, unweighted
from xner_ray.errors import FatalError, RecipeError, RetryableError
from xner_ray.match import plugin
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Runtime


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"match": {"scores": {"soft": 1, "sam": 1}}}, "match.scores.sam: no such score; did you mean 'same'"),
        ({"match": {"thresholds": {"sam": 1}}}, "thresholds: sam is not among scores"),
        ({"match": {"filters": {"sam": 1}}}, "match.filters.sam: no such score; did you mean 'same'"),
        ({"evidence": {}}, "match.scores.same: no such score; allowed: .*; a function of your own is named under"),
        ({"evidence": {"scores": ["same"]}}, "evidence: scores: no plugin defines them"),
        ({"evidence": {"plugin": "a b"}}, "plugin: 'a b'; allowed: a file that ends in .py, or a module"),
        ({"evidence": {"plugin": "same-image.py"}}, "scores: 'same-image' is no name for a score function"),
        ({"evidence": {"plugin": "x.py", "scores": ["soft"]}}, "scores: 'soft' is no name for a score function"),
        ({"evidence": {"plugin": "x.py", "scores": ["setup"]}}, "scores: 'setup' is no name"),
        ({"evidence": {"plugin": "x.py", "scores": ["class"]}}, "scores: 'class' is no name"),
        ({"evidence": {"plugin": "x.py", "scores": ["a", "a"]}}, "names a function twice"),
        ({"evidence": {"plugin": "x.py", "source": "import os"}}, "unknown key 'evidence.source'"),
        ({"projector": "transfer", "target_tag": {"engine": "spacy"}}, "evidence.plugin: only projector match uses it"),
    ],
)
def test_recipes_that_cannot_work(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    if sections.get("projector"):
        sections |= {"align": {}, "input": {"path": "a"}}
    with pytest.raises(RecipeError, match=message):
        with_plugin(tmp_path, **sections)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def sane(row, entity, candidates): ...", "has no function 'same'; did you mean 'sane'"),
        ("def same(:", r"is no Python that can be read: .*same\.py, line 1"),
        ("x = '\0'", "is no Python that can be read"),
    ],
)
def test_plugins_that_cannot_work(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve(with_plugin(tmp_path, source))


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    recipe = with_plugin(tmp_path)
    (tmp_path / "same.py").unlink()
    with pytest.raises(RecipeError, match=r"evidence.plugin: .*same\.py cannot be read"):
        resolve(recipe)
    for name in ("no_such.module", "math"):  # the second has no Python source
        with pytest.raises(RecipeError, match=f"no module '{name}' with Python source can be imported here"):
            resolve(with_plugin(tmp_path, evidence={"plugin": name, "scores": ["same"]}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (", r"inner: SyntaxError: .*__init__\.py, line 1"),
        ("x = 1\n{}['HOME']", r"pack/__init__\.py:2: KeyError: 'HOME'"),
        ("def f():\n  raise SystemExit(3)\nf()", r"pack/__init__\.py:2: SystemExit: 3"),
        ("import no_such_thing", r"pack/__init__\.py:1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("import json\njson.loads('[')", r"pack/__init__\.py:2: JSONDecodeError: Expecting value"),
    ],
)
def test_a_package_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(source)
    (tmp_path / "pack" / "inner.py").write_text(SAME)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pack", raising=False)  # another test has one
    recipe = with_plugin(tmp_path, evidence={"plugin": "pack.inner", "scores": ["same"]})
    with pytest.raises(
        RecipeError, match=rf"no module 'pack\.inner' .* imported here \(.*{message}.*\); allowed: a file"
    ):
        resolve(recipe)


def test_a_file_is_compiled_as_it_is_written(tmp_path: Path) -> None:
    source = SAME + "def typed(x: int) -> float: ...\nclass Box:\n    side: int\n"
    own = stage_of(with_plugin(tmp_path, source)).functions["same"].__globals__  # type: ignore[attr-defined]
    assert own["typed"].__annotations__ == {"x": int, "return": float}
    assert own["Box"].__annotations__ == {"side": int}
    late = "from __future__ import annotations\n" + source
    own = stage_of(with_plugin(tmp_path, late)).functions["same"].__globals__  # type: ignore[attr-defined]
    assert own["Box"].__annotations__ == {"side": "int"}


def test_what_fails_on_a_worker_says_where(tmp_path: Path) -> None:
    for source, message in (
        ("import no_such_thing\n" + SAME, r"evidence.plugin: same\.py:1: ModuleNotFoundError: No module named"),
        (SAME + "def setup():\n    1 / 0", r"evidence.plugin: same\.py:5: ZeroDivisionError"),
    ):
        with pytest.raises(RetryableError, match=message):
            stage_of(with_plugin(tmp_path, source))
    with pytest.raises(FatalError, match="has no function 'same'"):
        stage_of(with_plugin(tmp_path, "same = 3"))


def test_a_relative_path_is_the_recipes(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "{input: {path: a}, targets: [spa_Latn], evidence: {plugin: own/same.py}, match: {scores: {soft: 1, same: 1}}}"
    )
    assert load_recipe(tmp_path / "recipe.yaml").evidence.plugin == str(tmp_path / "own" / "same.py")


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    def keys(recipe: Recipe) -> dict[str, Any]:
        resolved, models = resolve(recipe)
        return fingerprint(resolved, {}, {}, models)

    (tmp_path / "other").mkdir()
    first, moved = keys(with_plugin(tmp_path)), keys(with_plugin(tmp_path / "other"))
    edited = keys(with_plugin(tmp_path, SAME + "\n"))
    wide = keys(with_plugin(tmp_path, evidence={"plugin": str(tmp_path / "same.py"), "workers": 3, "gpus": 0.5}))
    assert first == moved
    assert {key for key in edited if edited[key] != first[key]} == {"evidence.plugin identity"}
    assert wide == first
    assert not any(
        key.startswith("evidence") for key in keys(with_plugin(tmp_path, evidence={}, match={"scores": {"soft": 1}}))
    )


def test_the_source_is_for_workers_alone(tmp_path: Path) -> None:
    resolved, models = resolve(with_plugin(tmp_path))
    assert isinstance(resolved.evidence, plugin.ReadEvidence)
    assert set(resolved.model_dump(mode="json")["evidence"]) == {"plugin", "scores", *Runtime.model_fields}
    assert b"row[" in pickle.dumps(resolved)
    assert ("evidence.plugin", str(tmp_path / "same.py"), models["evidence.plugin"]) in model_lines(resolved, models)


def test_it_is_a_stage_with_workers_of_its_own(tmp_path: Path) -> None:
    section = {"plugin": str(tmp_path / "same.py"), "workers": 2, "gpus": 0.5}
    recipe = with_plugin(tmp_path, evidence=section)
    assert recipe.stages == ["evidence", "match"]
    pools = group(recipe, Capacity(cpus=4, gpus=1, local=True), 8)
    assert [(pool.stages, pool.gpus) for pool in pools] == [(("evidence",), 0.5), (("match",), 0.0)]
    both = with_plugin(
        tmp_path,
        likelihood={"engine": "nllb"},
        match={"scores": {"soft": 1, "same": 1, "likelihood": 1}, "prior": "none"},
    )
    assert both.stages == ["evidence", "likelihood", "match"]


def test_a_score_that_decides_nothing_is_said(tmp_path: Path) -> None:
    assert (
        unweighted(with_plugin(tmp_path))
        == unweighted(with_plugin(tmp_path, match={"scores": {"soft": 1}, "filters": {"same": 0}}))
        == []
    )
    (line,) = notices(with_plugin(tmp_path, match={"scores": {"soft": 1}}))
    assert line == "evidence.plugin: same is computed and stored, but decides nothing: no weight and no filter has it"
    assert len(unweighted(with_plugin(tmp_path, match={"solver": "heuristic"}))) == 1


def test_methods_of_a_sweep_share_a_run_where_they_score_the_same_cells(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(with_plugin(tmp_path).model_dump(mode="json")))
    methods: dict[str, Any] = {
        "default": {},
        "without": {"match.scores": {"soft": 1}},
        "greedy": {"match.solver": "greedy", "match.prior": "none"},
        "short": {"match.max_words": 3},
        "other": {"evidence.scores": ["same", "more"]},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps({"data": {"a": "recipe.yaml"}, "methods": methods}))
    sources = {run.method: run.source for run in planned(tmp_path / "sweep.yaml")}
    assert sources == {"default": None, "without": "default", "greedy": "default", "short": None, "other": None}
