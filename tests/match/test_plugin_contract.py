"""A user's own score functions: their arguments, and their allowed answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from made_rows import table_from_rows
from plugged import stage_of, with_plugin

from xner_ray.data.row import row_schema
from xner_ray.engine.guard import run_stage
from xner_ray.engine.resolve import resolve
from xner_ray.engine.stages import build
from xner_ray.errors import FatalError, RetryableError
from xner_ray.match import plugin, projection
from xner_ray.match import rows as rows_of
from xner_ray.match.stage import LikelihoodStage, MatchStage
from xner_ray.recipe.model import Recipe


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


def _evidence(recipe: Recipe, *rows: dict[str, Any]) -> list[Any]:
    found: list[Any] = stage_of(recipe)(_table(*rows)).column("evidence").to_pylist()
    return found


WATCH = """
calls = []
def setup():
    calls.append("setup")
def same(row, entity, candidates):
    calls.append((row, entity, candidates))
    return (0.5 for _ in candidates) if row["id"] == "lazy" else [0.5] * len(candidates)
"""


def test_what_a_function_gets(tmp_path: Path) -> None:
    stage = stage_of(with_plugin(tmp_path, WATCH, match={"max_words": 2}))
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
    recipe = with_plugin(tmp_path)
    table = stage_of(recipe)(_table(_row(), _row(1, "nobody"), _row(2, None)))
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
    recipe = with_plugin(tmp_path, likelihood={"engine": "nllb", "model": "tiny-nllb"}, match=sections)
    table = LikelihoodStage(recipe, Scorer())(stage_of(recipe)(_table(_row(image="Bob"))))  # type: ignore[arg-type]
    (cells,) = table.column("evidence").to_pylist()
    assert {c["score"] for c in cells} == {"same", "likelihood"}
    assert [c["value"] for c in cells if c["score"] == "same"] == [1.0, 1.0]
    (row,) = MatchStage(recipe)(table).to_pylist()
    assert [(s["start"], s["source"], s["score"]) for s in row["spans"]] == [(0, 1, 0.75), (2, 0, 0.25)]


def test_the_entity_is_that_of_the_source_also_over_a_bridge(tmp_path: Path) -> None:
    bridge = [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 1}]
    stage = stage_of(with_plugin(tmp_path, WATCH))
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
    recipe = with_plugin(tmp_path, evidence=evidence, match={"scores": {"a": 1, "b": 1}, "max_words": 1})
    resolved, identities = resolve(recipe)
    (cells,) = _evidence(recipe, _row())
    assert [(cell["score"], cell["value"]) for cell in cells] == [("a", 0.25)] * 8 + [("b", 1.0)] * 8
    assert recipe.evidence.plugin == "pack.own"
    (tmp_path / "pack" / "own.py").write_text("# another one on this node\n")
    with pytest.raises(RetryableError, match=r"own\.py differs from the driver's pack\.own"):
        build("evidence", resolved)
    assert resolve(with_plugin(tmp_path))[1] != identities


def test_a_module_that_was_imported_in_an_earlier_state_is_run_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in (0, 1):
        source = f"def same(row, entity, candidates):\n    return [{number}.0] * len(candidates)\n"
        (tmp_path / "aged.py").write_text(source)
        recipe = with_plugin(tmp_path, evidence={"plugin": "aged", "scores": ["same"]})
        found = stage_of(recipe).functions["same"]({}, {}, [{}, {}])
        assert found == [float(number)] * 2


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
    table, stats = run_stage(stage_of(with_plugin(tmp_path, source)), _table(*map(_row, range(5))))
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
    broken = stage_of(with_plugin(tmp_path, "def same(row, entity, candidates):\n    gone"))
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
        stage = stage_of(with_plugin(tmp_path, HOSTILE, evidence=evidence))
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
    """Rematching rests on this: scores that follow from links, in any form, choose among the scored cells alone."""
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
    rows = rows_of.read(table)
    for kind in ("window", "runs", "ngram", "window+runs"):
        section = with_plugin(tmp_path, match={"candidates": kind, "max_words": 3}).match
        scored = projection.every_candidate(rows, section, "itermax")
        cells = set(zip(scored.entity.tolist(), scored.start.tolist(), scored.end.tolist(), strict=True))
        assert len(cells) == len(scored)
        for names in ({"soft": 1}, {"align": 1}, {"soft": 1, "align": 1}, {"soft": 1, "edges": 1}, {"same": 1}):
            for margin in (False, True):
                weighted = section.model_copy(update={"scores": names})
                found, _ = projection.measure(rows, weighted, "itermax", None)
                if margin:
                    mass = projection._masses(rows, "itermax")["soft"]
                    found = projection._candidates(rows, mass, section, margin=True)
                assert set(zip(found.entity.tolist(), found.start.tolist(), found.end.tolist(), strict=True)) <= cells
