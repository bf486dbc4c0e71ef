"""A user's own score functions: what they get, what they may answer, where they run and where they never do."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from synthetic_runs import SPANISH, digests, make_run, serial  # noqa: F401

import xner_ray
from xner_ray import inspecting, plugin, projection, write
from xner_ray.deriving import rematch
from xner_ray.errors import FatalError, RecipeError, RetryableError
from xner_ray.fingerprint import fingerprint
from xner_ray.folder import RunFolder
from xner_ray.guard import run_stage
from xner_ray.planning import Capacity, group, model_lines, notices, resolve, unweighted
from xner_ray.plugin import EvidenceStage
from xner_ray.recipe import Recipe
from xner_ray.recipe_file import load_recipe
from xner_ray.schema import row_schema, table_from_rows
from xner_ray.sections import Runtime
from xner_ray.stages import LikelihoodStage, MatchStage, build, stage_names
from xner_ray.sweeping import planned

SAME = """
def same(row, entity, candidates):
    return [float(row["image"] == each["text"]) for each in candidates]
"""


def _recipe(folder: Path, source: str = SAME, name: str = "same.py", **sections: Any) -> Recipe:
    (folder / name).write_text(source)
    match = {"scores": {"soft": 1.0, "same": 1.0}, "min_score": 0.0, "candidates": "ngram"}
    return load_recipe(
        {
            "input": {"path": "a", "parallel": {"spa_Latn": "b"}, "links": "c"},
            "targets": ["spa_Latn"],
            "align": {"backend": "provided"},
            "evidence": {"plugin": str(folder / name)},
            "match": match | sections.pop("match", {}),
            **sections,
        }
    )


def _offsets(words: list[str]) -> list[dict[str, int]]:
    ends = np.cumsum([len(word) + 1 for word in words]).tolist()
    return [{"start": end - len(word) - 1, "end": end - 1} for word, end in zip(words, ends, strict=True)]


def _row(number: int = 0, image: str | None = "Ana María", **cells: Any) -> dict[str, Any]:
    source, target = ["Anna", "met", "Bob"], ["Bob", "y", "Ana", "María"]
    spans = [{"start": 0, "end": 1, "label": "PER", "score": 1.0}, {"start": 2, "end": 3, "label": "PER", "score": 0.5}]
    row = {"row": number, "id": f"s{number}", "source_lang": "eng_Latn", "lang": "spa_Latn", "split": "train"}
    row |= {"source_text": " ".join(source), "source_tokens": source, "source_offsets": _offsets(source)}
    row |= {"text": " ".join(target), "tokens": target, "offsets": _offsets(target), "source_spans": spans}
    row |= {"gold_spans": [], "links": [], "unprojected": [], "flags": [], "image": image}
    return row | cells


def _table(*rows: dict[str, Any]) -> pa.Table:
    return table_from_rows(rows, row_schema([pa.field("image", pa.string())]))


def _stage(recipe: Recipe) -> EvidenceStage:
    stage = build("evidence", pickle.loads(pickle.dumps(resolve(recipe)[0])))
    assert isinstance(stage, EvidenceStage)
    return stage


def _evidence(recipe: Recipe, *rows: dict[str, Any]) -> list[Any]:
    found: list[Any] = _stage(recipe)(_table(*rows)).column("evidence").to_pylist()
    return found


# the contract


WATCH = """
calls = []
def setup():
    calls.append("setup")
def same(row, entity, candidates):
    calls.append((row, entity, candidates))
    return (0.5 for _ in candidates) if row["id"] == "lazy" else [0.5] * len(candidates)
"""


def test_what_a_function_gets(tmp_path: Path) -> None:
    stage = _stage(_recipe(tmp_path, WATCH, match={"max_words": 2}))
    rejected = _row(1, status="rejected", reason="empty")
    stage(_table(_row(), rejected, _row(2, source_spans=[])))
    stage(_table(_row(3)))
    ready, first, second, third, _ = stage.functions["same"].__globals__["calls"]  # type: ignore[attr-defined]
    assert ready == "setup"  # once, although the stage was called twice
    row, entity, candidates = first
    assert set(row) == {*plugin.GIVEN, "image"}
    assert "gold_spans" not in row  # or a function could cheat
    assert (row["row"], row["id"], row["image"], row["tokens"][0], third[0]["row"]) == (0, "s0", "Ana María", "Bob", 3)
    assert entity == {"start": 0, "end": 1, "label": "PER", "score": 1.0, "text": "Anna"}
    assert (second[0], second[1]["text"], second[1]["score"]) == (row, "Bob", 0.5)
    assert candidates[:2] == [{"start": 0, "end": 1, "text": "Bob"}, {"start": 0, "end": 2, "text": "Bob y"}]
    assert len(candidates) == 4 + 3
    assert type(candidates[0]["start"]) is int


def test_scores_are_stored_where_they_say_something_and_choose(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    table = _stage(recipe)(_table(_row(), _row(1, "nobody"), _row(2, None)))
    cells = [
        [(c["score"], c["source"], c["start"], c["end"], c["value"]) for c in row or ()]
        for row in table.column("evidence").to_pylist()
    ]
    assert cells == [[("same", 0, 2, 4, 1.0), ("same", 1, 2, 4, 1.0)], [], []]
    spans = MatchStage(recipe)(table).column("spans").to_pylist()
    assert [[(s["start"], s["end"], s["score"]) for s in row] for row in spans] == [[(2, 4, 0.5)], [], []]


def test_a_likelihood_is_added_to_what_the_plugin_said(tmp_path: Path) -> None:
    class Scorer:
        tokens, model_seconds, micro_batch_tokens = 0, 0.0, 64

        def score(self, pairs: list[tuple[str, str]], source: str, target: str) -> Any:
            return np.array([0.5 * (source[:1] == target[:1]) for source, target in pairs])

    sections: dict[str, Any] = {"scores": {"same": 1, "likelihood": 1}, "prior": "none"}
    recipe = _recipe(tmp_path, likelihood={"engine": "nllb", "model": "tiny-nllb"}, match=sections)
    table = LikelihoodStage(recipe, Scorer())(_stage(recipe)(_table(_row(image="Bob"))))  # type: ignore[arg-type]
    (cells,) = table.column("evidence").to_pylist()
    assert {c["score"] for c in cells} == {"same", "likelihood"}
    assert [c["value"] for c in cells if c["score"] == "same"] == [1.0, 1.0]
    (row,) = MatchStage(recipe)(table).to_pylist()
    assert [(s["start"], s["source"], s["score"]) for s in row["spans"]] == [(0, 1, 0.75), (2, 0, 0.25)]


def test_the_entity_is_that_of_the_source_also_over_a_bridge(tmp_path: Path) -> None:
    bridge = [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 1}]
    stage = _stage(_recipe(tmp_path, WATCH))
    (cells,) = stage(_table(_row(bridge_tokens=["Bobby"], bridge_spans=bridge))).column("evidence").to_pylist()
    _, (_, entity, _) = stage.functions["same"].__globals__["calls"]  # type: ignore[attr-defined]
    assert entity["text"] == "Bob"
    assert {cell["source"] for cell in cells} == {1}


def test_several_functions_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "own.py").write_text(
        "def b(row, entity, candidates):\n return [1] * len(candidates)\n"
        "def a(row, entity, candidates):\n return [0.25] * len(candidates)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    evidence = {"plugin": "pack.own", "scores": ["b", "a"]}
    recipe = _recipe(tmp_path, evidence=evidence, match={"scores": {"a": 1, "b": 1}, "max_words": 1})
    resolved, identities = resolve(recipe)
    (cells,) = _evidence(recipe, _row())
    assert [(cell["score"], cell["value"]) for cell in cells] == [("a", 0.25)] * 8 + [("b", 1.0)] * 8
    assert recipe.evidence.plugin == "pack.own"
    (tmp_path / "pack" / "own.py").write_text("# another one on this node\n")
    with pytest.raises(RetryableError, match=r"own\.py is not what the driver has as pack\.own"):
        build("evidence", resolved)
    assert resolve(_recipe(tmp_path))[1] != identities


@pytest.mark.parametrize(
    "answer",
    [
        [0.0, 0.5, 1.0],
        (0, 1, True),
        np.array([0.5, 0.1, 1], dtype=np.float16),
        torch.tensor([0.5, 0, 1]),
        [-0.00004, 1.00004, 0.123456],  # float noise
    ],
)
def test_answers_that_are_scores(answer: Any) -> None:
    values = plugin.checked(answer, 3)
    assert values.dtype == np.float64
    assert values.tolist() == [round(min(max(float(a), 0), 1), 4) + 0.0 for a in answer]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0.5, 0.5], r"returned the shape \(2,\); allowed: 3 numbers from 0 to 1, one a candidate"),
        ([], r"returned the shape \(0,\)"),
        ([[0.1], [0.2], [0.3]], r"returned the shape \(3, 1\)"),
        ([[0.1], [0.2, 0.3], []], "returned list that holds no plain numbers"),
        (0.5, r"returned the shape \(\)"),
        (None, "returned NoneType that holds no plain numbers"),
        ((x for x in [0.1, 0.2, 0.3]), "returned generator that holds no plain numbers"),
        ({"a": 1}, "returned dict that holds no plain numbers"),
        (["0.1", "0.2", "0.3"], "returned list that holds no plain numbers"),
        ([0.1, None, 0.3], "returned list that holds no plain numbers"),
        ([0.1, 0.2, 1j], "returned list that holds no plain numbers"),
        ([0.1, 10**400, 0.3], "returned list that holds no plain numbers"),
        ([0.1, float("nan"), 0.3], "returned nan for candidate 1"),
        ([0.1, 0.2, float("inf")], "returned inf for candidate 2"),
        ([1e308, 0.2, 0.3], r"returned 1e\+308 for candidate 0"),
        ([0.1, -0.1, 0.3], "returned -0.1 for candidate 1"),
        ([0.1, 1.1, 0.3], "returned 1.1 for candidate 1"),
        (torch.tensor([0.5, 0, 1], requires_grad=True), "returned Tensor that holds no plain numbers"),
    ],
)
def test_answers_that_are_not(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugin.checked(answer, 3)


def test_a_row_that_a_function_fails_on_is_rejected_alone(tmp_path: Path) -> None:
    source = """
def same(row, entity, candidates):
    if row["id"] == "s1":
        return [2.0] * len(candidates)
    if row["id"] == "s2":
        return {}["image"]
    if row["id"] == "s4":
        raise SystemExit("bye")
    return [0.25] * 10
"""
    table, stats = run_stage(_stage(_recipe(tmp_path, source)), _table(*map(_row, range(5))))
    rows = table.to_pylist()
    assert stats.rejects == {"stage_error": 3}
    assert [row["reason"] for row in rows] == [None, "stage_error", "stage_error", None, "stage_error"]
    assert rows[1]["detail"] == (
        "evidence: PluginError: same for 'Anna': returned 2.0 for candidate 0; allowed: 10 numbers from 0 to 1, one a "
        "candidate"
    )
    assert rows[2]["detail"] == "evidence: PluginError: same: same.py:6: KeyError: 'image'"
    assert rows[4]["detail"] == "evidence: PluginError: same: same.py:8: SystemExit: bye"
    assert [len(row["evidence"] or ()) for row in rows] == [20, 0, 0, 20, 0]
    assert rows[0]["tokens"] == ["Bob", "y", "Ana", "María"]
    broken = _stage(_recipe(tmp_path, "def same(row, entity, candidates):\n    gone"))
    with pytest.raises(FatalError, match=r"evidence raises on more than 16 .*same\.py:2: NameError: name 'gone'"):
        run_stage(broken, _table(*map(_row, range(20))))


HOSTILE = """
calls = []
def hostile(row, entity, candidates):
    row["source_spans"].sort(key=lambda span: -span["start"])
    for span in row["source_spans"]:
        span["label"] = "HARM"
    for name in ("tokens", "source_tokens", "tags"):
        row[name].clear()
    row["text"] = row["new"] = "harm"
    candidates.sort(key=lambda each: -each["start"])
    for each in candidates:
        each.clear()
    candidates.pop()
    entity.clear()
    return [0.0] * (len(candidates) + 1)
def same(row, entity, candidates):
    calls.append((row, entity, candidates))
    return [0.1 * (1 + entity["start"]) + 0.01 * each["start"] + 0.001 * each["end"] for each in candidates]
"""


def test_a_function_that_changes_what_it_gets_harms_nobody(tmp_path: Path) -> None:
    """Neither the functions after it nor the entities after it; each call has its own objects."""
    rows = pa.Table.from_pylist([{"tags": ["a", "b"]}, {"tags": ["c"]}])
    table = _table(_row(), _row(1)).append_column("tags", rows.column("tags"))
    found = {}
    for names in (["same"], ["hostile", "same"]):
        evidence = {"plugin": str(tmp_path / "same.py"), "scores": names}
        stage = _stage(_recipe(tmp_path, HOSTILE, evidence=evidence))
        cells = stage(table).column("evidence").to_pylist()
        found[len(names)] = cells, stage.functions["same"].__globals__["calls"]  # type: ignore[attr-defined]
    assert found[2] == found[1]
    cells, calls = found[2]
    assert [(entity["start"], entity["label"], entity["text"]) for _, entity, _ in calls] == [
        (0, "PER", "Anna"),
        (2, "PER", "Bob"),
    ] * 2
    assert {len(candidates) for *_, candidates in calls} == {10}
    assert [row["tags"] for row, *_ in calls] == [["a", "b"]] * 2 + [["c"]] * 2
    for row in cells:
        assert len(row) == 20
        for cell in row:
            expected = 0.1 * (1 + 2 * cell["source"]) + 0.01 * cell["start"] + 0.001 * cell["end"]
            assert cell["value"] == pytest.approx(expected)


def test_every_candidate_is_one_that_any_settings_ask_for(tmp_path: Path) -> None:
    """What rematch rests on: scores that follow from links, in any form, choose among the scored cells alone."""
    rng = np.random.default_rng(0)
    table = _table(
        *(
            _row(
                n,
                links=[
                    {"source": s, "target": t, "forward": f, "backward": b, "cosine": 0.5, "methods": m}
                    for (s, t), f, b, m in zip(
                        [(s, t) for s in range(3) for t in range(4) if rng.random() < 0.5],
                        rng.choice([0, 0.00004, 0.3], 12).tolist(),
                        rng.choice([0, 0.00006, 0.5], 12).tolist(),
                        rng.choice([0, 1, 2, 3], 12).tolist(),
                        strict=False,
                    )
                ],
            )
            for n in range(60)
        )
    )
    rows = projection.read(table)
    for kind in ("window", "runs", "ngram", "window+runs"):
        section = _recipe(tmp_path, match={"candidates": kind, "max_words": 3}).match
        scored = projection.every_candidate(rows, section, "itermax")
        cells = set(zip(scored.entity.tolist(), scored.start.tolist(), scored.end.tolist(), strict=True))
        assert len(cells) == len(scored)
        for names in ({"soft": 1}, {"align": 1}, {"soft": 1, "align": 1}, {"soft": 1, "edges": 1}, {"same": 1}):
            for margin in (False, True):
                mass = section.model_copy(update={"scores": names})
                found, _ = projection.measure(rows, mass, "itermax", None)
                if margin:
                    found = projection._candidates(
                        rows, rows.problem.spread(rows.links, sum(projection._parts(rows.links))), section, margin=True
                    )  # type: ignore[arg-type]
                assert set(zip(found.entity.tolist(), found.start.tolist(), found.end.tolist(), strict=True)) <= cells


# the recipe


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"match": {"scores": {"soft": 1, "sam": 1}}}, "match.scores.sam: no such score; did you mean 'same'"),
        ({"match": {"thresholds": {"sam": 1}}}, "thresholds: sam is not among scores"),
        ({"match": {"filters": {"sam": 1}}}, "match.filters.sam: no such score; did you mean 'same'"),
        ({"evidence": {}}, "match.scores.same: no such score; allowed: .*; a function of your own is named under"),
        ({"evidence": {"scores": ["same"]}}, "evidence: scores: there is no plugin that has them"),
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
        _recipe(tmp_path, **sections)


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
        resolve(_recipe(tmp_path, source))


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    (tmp_path / "same.py").unlink()
    with pytest.raises(RecipeError, match=r"evidence.plugin: .*same\.py cannot be read"):
        resolve(recipe)
    for name in ("no_such.module", "math"):  # the second has no Python source
        with pytest.raises(RecipeError, match=f"no module '{name}' with Python source can be imported here"):
            resolve(_recipe(tmp_path, evidence={"plugin": name, "scores": ["same"]}))


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
    recipe = _recipe(tmp_path, evidence={"plugin": "pack.inner", "scores": ["same"]})
    with pytest.raises(
        RecipeError, match=rf"no module 'pack\.inner' .* imported here \(.*{message}.*\); allowed: a file"
    ):
        resolve(recipe)


def test_a_file_is_compiled_as_it_is_written(tmp_path: Path) -> None:
    source = SAME + "def typed(x: int) -> float: ...\nclass Box:\n    side: int\n"
    own = _stage(_recipe(tmp_path, source)).functions["same"].__globals__  # type: ignore[attr-defined]
    assert own["typed"].__annotations__ == {"x": int, "return": float}
    assert own["Box"].__annotations__ == {"side": int}
    late = "from __future__ import annotations\n" + source
    own = _stage(_recipe(tmp_path, late)).functions["same"].__globals__  # type: ignore[attr-defined]
    assert own["Box"].__annotations__ == {"side": "int"}


def test_what_fails_on_a_worker_says_where(tmp_path: Path) -> None:
    for source, message in (
        ("import no_such_thing\n" + SAME, r"evidence.plugin: same\.py:1: ModuleNotFoundError: No module named"),
        (SAME + "def setup():\n    1 / 0", r"evidence.plugin: same\.py:5: ZeroDivisionError"),
    ):
        with pytest.raises(RetryableError, match=message):
            _stage(_recipe(tmp_path, source))
    with pytest.raises(FatalError, match="has no function 'same'"):
        _stage(_recipe(tmp_path, "same = 3"))


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
    first, moved = keys(_recipe(tmp_path)), keys(_recipe(tmp_path / "other"))
    edited = keys(_recipe(tmp_path, SAME + "\n"))
    wide = keys(_recipe(tmp_path, evidence={"plugin": str(tmp_path / "same.py"), "workers": 3, "gpus": 0.5}))
    assert first == moved
    assert {key for key in edited if edited[key] != first[key]} == {"evidence.plugin identity"}
    assert wide == first
    assert not any(
        key.startswith("evidence") for key in keys(_recipe(tmp_path, evidence={}, match={"scores": {"soft": 1}}))
    )


def test_the_source_is_for_workers_alone(tmp_path: Path) -> None:
    resolved, models = resolve(_recipe(tmp_path))
    assert isinstance(resolved.evidence, plugin.ReadEvidence)
    assert set(resolved.model_dump(mode="json")["evidence"]) == {"plugin", "scores", *Runtime.model_fields}
    assert b"row[" in pickle.dumps(resolved)
    assert ("evidence.plugin", str(tmp_path / "same.py"), models["evidence.plugin"]) in model_lines(resolved, models)


def test_it_is_a_stage_with_workers_of_its_own(tmp_path: Path) -> None:
    section = {"plugin": str(tmp_path / "same.py"), "workers": 2, "gpus": 0.5}
    recipe = _recipe(tmp_path, evidence=section)
    assert stage_names(recipe) == ["evidence", "match"]
    pools = group(recipe, Capacity(cpus=4, gpus=1, local=True), 8)
    assert [(pool.stages, pool.gpus) for pool in pools] == [(("evidence",), 0.5), (("match",), 0.0)]
    both = _recipe(
        tmp_path,
        likelihood={"engine": "nllb"},
        match={"scores": {"soft": 1, "same": 1, "likelihood": 1}, "prior": "none"},
    )
    assert stage_names(both) == ["evidence", "likelihood", "match"]


def test_a_score_that_decides_nothing_is_said(tmp_path: Path) -> None:
    assert (
        unweighted(_recipe(tmp_path))
        == unweighted(_recipe(tmp_path, match={"scores": {"soft": 1}, "filters": {"same": 0}}))
        == []
    )
    (line,) = notices(_recipe(tmp_path, match={"scores": {"soft": 1}}))
    assert line == "evidence.plugin: same is computed and stored, but decides nothing: no weight and no filter has it"
    assert len(unweighted(_recipe(tmp_path, match={"solver": "heuristic"}))) == 1


def test_methods_of_a_sweep_share_a_run_where_they_score_the_same_cells(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(_recipe(tmp_path).model_dump(mode="json")))
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


# runs that are there


TRAP = "import os, pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n" + SAME


def test_no_command_on_a_run_runs_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "same.py").write_text(TRAP)
    sys.modules.pop("xner_ray_plugin", None)
    own = [f"evidence.plugin={tmp_path / 'same.py'}", "match.scores={soft: 1, same: 1}", "match.min_score=0.3"]
    run = make_run(tmp_path / "run", own, SPANISH)
    inspecting.how_far(run)
    new = tmp_path / "new"
    rematch(run, new, overrides=["match.scores.same=0.5"])
    xner_ray.status(new)
    xner_ray.evaluate(new)
    xner_ray.write_page(new)
    rematch(run, tmp_path / "newer", overrides=["match.scores.same=0.1"])
    xner_ray.compare([new, tmp_path / "newer"])
    xner_ray.export(new)
    console = Console()
    with console.capture():
        console.print(xner_ray.explain(new, "s3"))
    resolve(RunFolder(str(new)).recipe().model_copy())  # nor does looking at a recipe
    assert not (tmp_path / "same.ran").exists()
    assert "xner_ray_plugin" not in sys.modules
    _stage(RunFolder(str(new)).recipe())
    assert (tmp_path / "same.ran").exists()  # the trap works


@pytest.mark.parametrize("key", ["match.candidates=ngram", "match.max_words=3", "align.method=argmax"])
def test_cells_that_were_never_scored_are_not_rematched(tmp_path: Path, key: str) -> None:
    own = ["evidence.plugin=/nowhere/same.py", "match.scores={soft: 1, same: 1}"]
    run = make_run(tmp_path / "run", own, SPANISH)
    with pytest.raises(RecipeError, match=f"^rematch cannot set {key.split('=')[0]}: evidence.plugin was called only"):
        rematch(run, tmp_path / "new", overrides=[key])
    assert not (tmp_path / "new").exists()


def test_the_card_names_the_plugin_and_not_its_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["evidence.plugin=/home/me/same.py", "match.scores={soft: 1, same: 1}"], SPANISH)
    rematch(run, tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "- evidence: same, by the plug-in same.py" in card
    assert "/home/me" not in card


# real runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 sentences whose links are worth little, and pictures that tell who is meant."""
    folder = tmp_path_factory.mktemp("data")
    names = ["Ana", "Bo", "Cy", "Di", "Ed", "Flo", "Gil"]
    rows, parallel, links = [], [], []
    for n in range(70):
        one, two = names[n % 7], names[(n + 1 + n // 7 % 5) % 7]
        text = f"Mr {one} met {two}"
        spans = [[3, 3 + len(one), "PER"], [len(text) - len(two), len(text), "PER"]]
        rows.append({"id": f"s{n}", "text": text, "spans": spans, "image": {"left": two, "right": one}, "other": n})
        parallel.append(f"don {two} y don {one}")
        links.append(f"1-{1 + 3 * (n % 2)} 3-{1 + 3 * ((n + n % 3 // 2) % 2)}")
    rows.append({**rows[-1], "id": "s0"})  # rejected, and its picture with it
    parallel.append(parallel[-1])
    links.append(links[-1])
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "b.txt").write_text("\n".join(parallel))
    (folder / "c.links").write_text("\n".join(links))
    (folder / "shown.py").write_text(
        "import json\n"
        "def shown(row, entity, candidates):\n"
        "    side = {name: side for side, name in json.loads(row['image']).items()}[entity['text']]\n"
        "    place = {'left': 1, 'right': 4}[side]\n"
        "    return [float((c['start'], c['end']) == (place, place + 1)) for c in candidates]\n"
    )
    (folder / "recipe.yaml").write_text(
        """
input: {path: a.jsonl, parallel: {spa_Latn: b.txt}, links: c.links, carry: [image]}
targets: [spa_Latn]
align: {backend: provided}
evidence: {plugin: shown.py}
match: {candidates: ngram, max_words: 5, scores: {soft: 1, edges: 0.2, shown: 3}, min_score: 0.3}
engine: {unit_rows: 16}
"""
    )
    return folder


@pytest.mark.slow
def test_runs_with_a_plugin(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_here: None) -> None:
    monkeypatch.undo()  # real tasks, not those of `serial`
    recipe = data / "recipe.yaml"
    report = xner_ray.project(recipe, tmp_path / "run", overrides=["evidence.workers=1", "match.workers=1"])
    assert report["rows"] == {"read": 71, "emitted": 70, "rejected": 1}
    assert report["priors"]["spa_Latn"]["used"]
    rows = xner_ray.sample(tmp_path / "run", "spa_Latn", 70)
    for row in rows:  # every name stands where its picture has it
        assert {(s["start"], row["source_spans"][s["source"]]["start"]) for s in row["spans"]} == {(1, 3), (4, 1)}
        assert set(json.loads(row["image"])) == {"left", "right"}
    (file,) = (tmp_path / "run" / "rejects" / "spa_Latn").glob("*.parquet")
    assert json.loads(write.read_part(str(file)).column("image")[0].as_py()).keys() == {"left", "right"}
    # Other weights from what is stored, while the plug-in is gone: as if made with them, and by two workers
    other = ["match.scores={soft: 1, shown: 0.1}", "match.min_score=0.5", "match.thresholds={shown: 0.2}"]
    two = ["evidence.workers=2", "evidence.cpus=0.2", "match.workers=1", "match.cpus=0.1"]
    xner_ray.project(recipe, tmp_path / "made", overrides=[*other, *two])
    source = (data / "shown.py").read_text()
    (data / "shown.py").unlink()
    rematch(tmp_path / "run", tmp_path / "again", overrides=other)
    assert digests(tmp_path / "again")["sealed"] == digests(tmp_path / "made")["sealed"]
    assert RunFolder(str(tmp_path / "again")).keys() == RunFolder(str(tmp_path / "made")).keys()
    assert digests(tmp_path / "made")["sealed"] != digests(tmp_path / "run")["sealed"]
    # An edited plug-in is another run
    (data / "shown.py").write_text(source + "# edited\n")
    with pytest.raises(xner_ray.errors.RunFolderError, match=r"evidence\.plugin identity"):
        xner_ray.project(recipe, tmp_path / "run")
    (data / "shown.py").write_text(source)
    # What is carried comes back in files, features and exports
    import datasets

    loaded = datasets.load_dataset(str(tmp_path / "run"), "spa_Latn", cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["image"] == '{"left": "Bo", "right": "Ana"}'
    assert loaded.features["ner_tags"].feature.names == ["O", "B-PER", "I-PER"]
    (export,) = xner_ray.export(tmp_path / "run", to="jsonl")
    assert json.loads(Path(export).read_text().splitlines()[0])["image"] == '{"left": "Bo", "right": "Ana"}'
    (part,) = (tmp_path / "run" / "data" / "spa_Latn").glob("*.parquet")
    assert write.read_part(str(part)).schema.field("image").type == pa.string()
    console = Console(width=160)
    with console.capture() as capture:
        console.print(xner_ray.explain(tmp_path / "run", "s0"))
    assert "shown" in capture.get()
    assert "1.0000" in capture.get()
