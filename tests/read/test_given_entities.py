"""Entities that the user's own programs found: read and checked."""

from collections import Counter
from pathlib import Path

import pytest
from given_files import to_test, write
from reading import read_all

from xner_ray.errors import Flag, InputError
from xner_ray.read.index.build import build_index
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import run_labels


def test_entities_of_the_parallel_file_are_projected_and_gold_stays_the_inputs(tmp_path: Path) -> None:
    gold = write(tmp_path / "es.conll", "Al B-PER\nvio O\nRoma B-CITY\n\nnada O\n")
    predicted = write(tmp_path / "en.conll", "Al B-PERSON\nsaw O\nRome B-LOC\n\nnothing B-DATE\n")
    labels = {"rename": {"PERSON": "PER", "CITY": "LOC"}, "keep": ["PER", "LOC"]}
    recipe = to_test(gold, predicted, labels=labels)
    index = build_index(recipe)
    assert (index.labels_found, index.labels_dropped) == (["LOC", "PER"], {"DATE": 1})
    first, second = read_all(recipe, index).to_pylist()
    assert first["source_spans"] == [
        {"start": 0, "end": 1, "label": "PER", "score": 1.0},
        {"start": 2, "end": 3, "label": "LOC", "score": 1.0},
    ]
    assert first["gold_spans"] == [{"start": 0, "end": 1, "label": "PER"}, {"start": 2, "end": 3, "label": "LOC"}]
    assert (second["source_spans"], second["gold_spans"], second["unprojected"]) == ([], [], [])
    assert run_labels(recipe, index.labels_found) == ["PER", "LOC"]


def test_labels_of_both_files_are_labels_of_the_run(tmp_path: Path) -> None:
    gold, predicted = write(tmp_path / "es.conll", "a B-PER\n"), write(tmp_path / "en.conll", "a I-ORG\n")
    recipe = to_test(gold, predicted)
    index = build_index(recipe)
    assert run_labels(recipe, index.labels_found) == ["ORG", "PER"]
    assert index.repaired == 1
    tagged = recipe.model_copy(update={"tag": recipe.tag.model_copy(update={"engine": "spacy"})})
    assert (build_index(tagged).labels_found, build_index(tagged).repaired) == (["PER"], 0)  # then nobody reads them


def test_given_entities_are_treated_as_those_of_direction_train(tmp_path: Path) -> None:
    spans = [[1, 4, "PER"], [0, 13, "ORG"]]
    rows = [
        {"text": "Peter  in Rome", "spans": [*spans, [8, 14, "LOC"]]},
        {"text": "no labels"},
        {"text": "none here", "spans": []},
        {"text": "a", "spans": [[0, 9, "PER"]]},
    ]
    source = write(tmp_path / "en.jsonl", rows)
    target = write(tmp_path / "es.txt", "x\n" * 4)
    test = read_all(to_test(target, source)).to_pylist()
    train = read_all(load_recipe({"input": {"path": source}, "targets": ["spa_Latn"]})).to_pylist()
    same = ("source_spans", "unprojected", "flags", "status", "reason", "detail")
    assert [[row[name] for name in same] for row in test] == [[row[name] for name in same] for row in train]
    assert Counter(test[0]["flags"]) == {Flag.SNAPPED: 3}
    assert {loss["reason"] for loss in test[0]["unprojected"]} == {"nested"}
    assert [row["reason"] for row in test] == [None, "malformed", None, "bad_span"]
    assert test[1]["detail"] == "en.jsonl:2: has no labels"
    assert {row["gold_spans"] for row in test} == {None}


def test_parallel_text_without_any_label_is_refused(tmp_path: Path) -> None:
    gold = write(tmp_path / "es.conll", "a B-PER\n")
    for name in ("en.txt", "en.conll"):
        with pytest.raises(InputError, match=rf"{name}: has no labels \(read as .*tag\.engine: provided needs labels"):
            build_index(to_test(gold, write(tmp_path / name, "a\n")))
