"""Runs with projector constrained: on the shipped model, which has never seen a bracket; and on one trained on them.

The second is trained here, in two minutes of CPU time: nothing of it is in the package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bracketed
import pyarrow.parquet as pq
import pytest
from published import digests
from tiny_nllb import CODES, ROOT, generate

import xner_ray
from xner_ray.errors import RunFolderError

JOB = ROOT / "jobs" / "constrained.yaml"
SHIPPED = ["constrained.model=tiny-nllb", "constrained.min_ratio=0"]


def _rows(run: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(run.glob("data/**/*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.slow
def test_a_run_adds_up_and_resumes_with_what_the_projector_reads_alone(tmp_path: Path) -> None:
    run, few = tmp_path / "run", ["input.limit=12", *SHIPPED]
    report = xner_ray.project(JOB, run, overrides=few)
    assert list(report["stages"]) == ["read", "translate", "constrained", "match"]
    assert report["rows"] == {"read": 24, "emitted": 24, "rejected": 0}
    entities = report["entities"]
    assert entities["source"] == entities["projected"] + sum(entities["unprojected"].values()) == 66
    assert entities["projected"] > 60 and set(entities["unprojected"]) <= {"overlap"}
    assert report["stages"]["constrained"]["tokens"] > report["stages"]["translate"]["tokens"]
    for row in _rows(run):
        assert {cell["score"] for cell in row["evidence"] or ()} <= {"constrained"}
        assert row["complete"] == (not row["unprojected"]) and not row["links"]
        offered = {(cell["source"], cell["start"], cell["end"]) for cell in row["evidence"] or ()}
        assert {(span["source"], span["start"], span["end"]) for span in row["spans"]} <= offered
    before = digests(run)
    for unread in ("match.min_score=0.1", "constrained.max_new_tokens=9", "constrained.micro_batch_tokens=99"):
        xner_ray.project(JOB, run, overrides=[*few, unread])
        assert digests(run) == before
    for read in ("constrained.beams=1", "match.solver=greedy"):
        with pytest.raises(RunFolderError, match=read.partition("=")[0]):
            xner_ray.project(JOB, run, overrides=[*few, read])
    with pytest.raises(RunFolderError, match="projector constrained"):
        xner_ray.rematch(run, tmp_path / "again")


@pytest.mark.slow
def test_a_given_target_keeps_its_text_and_its_literal_brackets(tmp_path: Path) -> None:
    """Direction test: the target side is the input; its translation and the tags of that are given too."""
    (tmp_path / "es.txt").write_text("Ana [la médica] vive en Lima .\nLlueve .\n", encoding="utf-8")
    (tmp_path / "en.conll").write_text(
        "Ana\tB-PER\n[\tO\nthe\tO\ndoctor\tO\n]\tO\nlives\tO\nin\tO\nLima\tB-LOC\n.\tO\n\nIt\tO\nrains\tO\n.\tO\n"
    )
    recipe = {
        "direction": "test",
        "projector": "constrained",
        "input": {
            "path": str(tmp_path / "es.txt"),
            "lang": "spa_Latn",
            "parallel": {"eng_Latn": str(tmp_path / "en.conll")},
        },
        "tag": {"engine": "provided"},
        "constrained": {"model": "tiny-nllb", "min_ratio": 0},
    }
    report = xner_ray.project(recipe, tmp_path / "run")
    assert report["stages"]["constrained"]["tokens"] > 0 and "translate" not in report["stages"]
    with_entities, without = _rows(tmp_path / "run")
    assert with_entities["text"] == "Ana [la médica] vive en Lima ."
    assert [span["label"] for span in with_entities["spans"]] and without["spans"] == []


@pytest.mark.ray
@pytest.mark.long
def test_both_executors_give_the_same_bytes(tmp_path: Path, ray_here: None) -> None:
    few = ["input.limit=24", "engine.unit_rows=8", *SHIPPED]
    xner_ray.project(JOB, tmp_path / "inline", overrides=[*few, "engine.executor=inline"])
    xner_ray.project(
        JOB, tmp_path / "ray", overrides=[*few, "engine.executor=ray", "constrained.cpus=0.4", "constrained.workers=2"]
    )
    assert digests(tmp_path / "ray") == digests(tmp_path / "inline")


@pytest.mark.long
def test_entities_are_where_they_belong_in_right_translations(tmp_path: Path) -> None:
    """With reordered and repeated entities, and beside match; docs/translation.md has 1,000 sentences."""
    pytest.importorskip("babel")
    pytest.importorskip("faker")
    drawn = generate.sentences(300, generate.HELD_OUT_SEED, held_out=True)
    source = bracketed.write_sentences(tmp_path, drawn)
    recipe: dict[str, Any] = {
        "input": {
            "path": str(source),
            "parallel": {CODES[lang]: str(tmp_path / f"{CODES[lang]}.txt") for lang in bracketed.LANGUAGES},
        },
        "targets": [CODES[lang] for lang in bracketed.LANGUAGES],
    }
    model = str(bracketed.trained(tmp_path / "model"))
    xner_ray.project(recipe, tmp_path / "match")
    xner_ray.project({**recipe, "projector": "constrained", "constrained": {"model": model}}, tmp_path / "constrained")
    shares: dict[str, dict[str, float]] = {}
    for run in ("match", "constrained"):
        right: dict[str, list[bool]] = {"all": [], "reordered": [], "repeated": []}
        for lang in bracketed.LANGUAGES:
            found = bracketed.places(tmp_path / run, lang)
            for number, sentence in enumerate(drawn):
                for source_index, entity in enumerate(bracketed.wanted(sentence, lang)):
                    hit = found[number].get(source_index) == entity.place
                    for kind in right:
                        if kind == "all" or getattr(entity, kind):
                            right[kind].append(hit)
        assert min(map(len, right.values())) > 100
        shares[run] = {kind: sum(hits) / len(hits) for kind, hits in right.items()}
    print(json.dumps(shares))
    assert min(shares["constrained"].values()) >= 0.98
    assert shares["constrained"]["all"] >= shares["match"]["all"] - 0.005  # both miss some six in a thousand


def test_the_places_that_are_wanted_are_those_of_the_generator() -> None:
    """Of a sentence whose entities change places, and one that has the same name twice."""
    pytest.importorskip("babel")
    pytest.importorskip("faker")
    drawn = generate.sentences(64, 3, held_out=True)
    led = next(sentence for sentence in drawn if " was appointed by " in sentence.sides["en"].text)
    text = led.sides["es"].text
    first, second, third = bracketed.wanted(led, "es")
    assert text[slice(*first.place)] == led.sides["en"].text.split(" was appointed by ")[0]
    assert first.place > second.place and first.reordered and second.reordered and not third.reordered
    twice = next(sentence for sentence in drawn if " stopped working at " in sentence.sides["en"].text)
    found = bracketed.wanted(twice, "sw")
    assert [entity.repeated for entity in found] == [True] * 4 and len({entity.place for entity in found}) == 4
