"""Filters, folds and shares: every sentence read is kept or counted, and both sides of a run go the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from students import row, run, sentences, training

from xner_ray.errors import InputError
from xner_ray.train.recipe import Folds, Source
from xner_ray.train.sentences import _weights, fold_of, in_share, label_names
from xner_ray.train.sources import load

ROWS = [
    row("a b c", (0, 1, "PER"), (1, 2, "LOC"), score=0.7),
    row("d e", (0, 1, "PER"), score=0.6999, translation_score=-3.0),
    row("a b c", translation_score=-0.5),  # the words of the first
    row("f", flags=["translation_lost_digits", "snapped"]),
    row("g h i j k", complete=False),
    row("l m", (0, 2, "ORG"), score=1.4, flags=["snapped"], translation_score=-1.25),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(tmp_path_factory.mktemp("runs") / "run", {"spa_Latn": ROWS})


def _kept(path: str, source: dict[str, Any], **others: Any) -> tuple[list[int], dict[str, Any]]:
    table, (tally,) = load(training({"run": path, **source}, **others), "data")
    plain = tally.to_dict()
    assert plain["read"] == len(ROWS) == plain["kept"] + sum(plain["dropped"].values())
    return table.column("row").to_pylist(), plain


@pytest.mark.parametrize(
    ("filters", "reason", "gone"),
    [
        ({}, None, []),
        ({"incomplete": "keep"}, None, []),
        ({"incomplete": "mask"}, None, []),
        ({"incomplete": "drop"}, "incomplete", [4]),
        ({"min_score": 0.7}, "score", [1]),  # a score of 0.7 is stored as 0.69999999
        ({"min_score": 1.0}, "score", [0, 1]),
        ({"min_translation_score": -1.25}, "translation score", [1]),
        ({"min_translation_score": -1.0}, "translation score", [1, 5]),
        ({"flags": ["snapped"]}, "flags", [3, 5]),
        ({"flags": ["translation_lost_digits"]}, "flags", [3]),
        ({"words": [2, 3]}, "length", [3, 4]),
        ({"duplicates": "drop"}, "duplicate", [2]),
    ],
)
def test_each_filter_alone(path: str, filters: dict[str, Any], reason: str | None, gone: list[int]) -> None:
    kept, tally = _kept(path, {"filters": filters})
    assert kept == [number for number in range(len(ROWS)) if number not in gone]
    assert tally["dropped"] == ({reason: len(gone)} if reason else {})
    assert tally["masked"] == (filters.get("incomplete") == "mask")


BAD = "Nora aliona Nairobi na na na na na na na na na na na na ."
GOOD = "Nora aliona mji wa Nairobi ."


@pytest.mark.parametrize("direction", ["train", "test"])
def test_bad_translations_teach_nothing_whoever_made_them(tmp_path: Path, direction: str) -> None:
    """The given side is the source in direction train, and the target in direction test."""
    english, made = "Nora saw the town of Nairobi .", [GOOD, BAD, "[", "Nora saw the town of Nairobi ."]
    given = ("source_text", "text") if direction == "train" else ("text", "source_text")
    rows = [
        {**row("Nora aliona Nairobi", (0, 1, "PER")), **dict(zip(given, texts, strict=True))}
        for texts in [*((english, text) for text in made), (BAD, BAD), (english, None)]
    ]
    path = run(tmp_path / "run", {"spa_Latn": rows}, direction=direction)
    table, (tally,) = load(training({"run": path, "filters": {"bad_translations": "drop"}}), "data")
    assert table.column("row").to_pylist() == [0, 5]  # nothing is known of the last one
    assert tally.to_dict()["dropped"] == {"bad translation": 4}
    assert load(training({"run": path}), "data")[0].num_rows == 6


@pytest.mark.parametrize(
    ("source", "gone"),
    [
        ({}, [0, 1]),
        ({"labels": "projected"}, [0, 1]),
        ({"labels": "gold"}, []),  # right whatever the other side is
        ({"side": "source"}, []),
        ({"filters": {"bad_translations": "keep"}}, []),
    ],
)
def test_what_the_run_has_flagged_as_no_translation_teaches_nothing(
    tmp_path: Path, source: dict[str, Any], gone: list[int]
) -> None:
    flags = [["snapped", "translation_repeats"], ["translation_copied"], ["translation_lost_digits", "snapped"], []]
    rows = [{**row("a b", (0, 1, "PER"), flags=each), "gold_spans": [], "source_spans": []} for each in flags]
    path = run(tmp_path / "run", {"spa_Latn": rows})
    table, (tally,) = load(training({"run": path, **source}), "data")
    assert table.column("row").to_pylist() == [number for number in range(4) if number not in gone]
    assert tally.to_dict()["dropped"] == ({"bad translation": len(gone)} if gone else {})
    for labels in ("gold", "projected"):  # what is scored is scored whole
        recipe = training({"run": path}, evaluate=[{"run": path, "labels": labels}])
        evaluated, (tally,) = load(recipe, "evaluate")
        assert evaluated.num_rows == 4 and not tally.to_dict()["dropped"]


@pytest.mark.parametrize(
    ("direction", "sections", "source", "gone"),
    [
        ("test", {}, {}, 1),
        ("test", {}, {"labels": "soft"}, 0),  # of the text that is given, not of its translation
        ("train", {}, {"labels": "soft"}, 1),
        ("train", {"projector": "transfer", "target_tag": {"engine": "builtin"}}, {}, 1),  # of the translation itself
    ],
)
def test_labels_of_the_text_that_was_translated_stay(
    tmp_path: Path, direction: str, sections: dict[str, Any], source: dict[str, Any], gone: int
) -> None:
    tags = [{"word": 0, "tag": "O", "probability": 1.0}]
    rows = [row("a b", (0, 1, "PER"), flags=["translation_repeats"], target_tags=tags), row("c", target_tags=tags)]
    path = run(tmp_path / "run", {"spa_Latn": rows}, direction=direction, sections=sections)
    table, _ = load(training({"run": path, **source}), "data")
    assert table.num_rows == 2 - gone


def test_doubtful_entities_are_kept_and_marked(path: str) -> None:
    table, (tally,) = load(training({"run": path, "filters": {"mask_below": 0.7, "min_score": 0.5}}), "data")
    marked = {
        row: cells
        for row, cells in zip(*(table.column(n).to_pylist() for n in ("row", "doubtful")), strict=True)
        if cells
    }
    assert marked == {1: [{"start": 0, "end": 1, "label": "PER"}]}  # a score of 0.7 is not below 0.7
    assert table.column("spans").to_pylist()[1] == marked[1]
    assert tally.to_dict()["doubtful"] == 1 and tally.to_dict()["kept"] == len(ROWS)
    kept, without = _kept(path, {"filters": {"mask_below": 1.0, "min_score": 0.7}})
    assert 1 not in kept and without["doubtful"] == 2  # of what is dropped nothing is counted


def test_a_sentence_counts_under_the_first_filter_that_drops_it(path: str) -> None:
    filters = {"min_score": 0.9, "flags": ["snapped"], "words": [2, 4], "duplicates": "drop"}
    kept, tally = _kept(path, {"filters": filters})
    # With its first copy gone for its score, the sentence stays
    assert kept == [2] and tally["dropped"] == {"score": 2, "flags": 2, "length": 1}


def test_sentences_in_another_language_go(tmp_path: Path) -> None:
    pytest.importorskip("py3langid")
    words = ["El presidente viajó ayer a la capital del país", "The president travelled to the capital yesterday"]
    path = run(tmp_path / "run", {"spa_Latn": [row(each) for each in words]})
    table, (tally,) = load(training({"run": path, "filters": {"language": True}}), "data")
    assert table.column("row").to_pylist() == [0] and tally.to_dict()["dropped"] == {"language": 1}


def test_weights() -> None:
    lists = pa.array([[0.5, 1.0], [], [1.5, 0.2], [None, 0.4]], pa.list_(pa.float32()))
    table = pa.table({"projected": lists})
    plain = Source(run="RUN", weight=2.0)
    assert _weights(table, plain).to_pylist() == [2.0] * 4
    scored = Source(run="RUN", weight=2.0, weight_by="score")
    assert _weights(table, scored).to_pylist() == pytest.approx([1.5, 2.0, 1.2, 1.4])


def test_labels_are_renamed_and_left_out_and_counted(path: str) -> None:
    table, (tally,) = load(training({"run": path}, labels={"rename": {"ORG": "PER"}, "keep": ["PER"]}), "data")
    labels = [[span["label"] for span in spans] for spans in table.column("spans").to_pylist()]
    assert labels == [["PER"], ["PER"], [], [], [], ["PER"]] and label_names(table) == ["PER"]
    assert tally.to_dict()["labels_dropped"] == {"LOC": 1}


def test_soft_tags_are_renamed_and_become_o(tmp_path: Path) -> None:
    tags = [{"word": 0, "tag": tag, "probability": 0.25} for tag in ("O", "B-PER", "I-ORG", "B-LOC")]
    path = run(tmp_path / "run", {"spa_Latn": [row("a", target_tags=tags)]})
    labels = {"rename": {"ORG": "PER"}, "keep": ["PER"]}
    table, _ = load(training({"run": path, "labels": "soft"}, labels=labels), "data")
    assert [cell["tag"] for cell in table.column("tags")[0].as_py()] == ["O", "B-PER", "I-PER", "O"]
    assert label_names(table) == ["PER"]


@given(st.lists(st.text(min_size=1), unique=True, max_size=60), st.integers(2, 7), st.integers(0, 3))
def test_each_key_is_in_one_fold(keys: list[str], n: int, seed: int) -> None:
    found = fold_of(keys, Folds(n=n, seed=seed))
    assert ((found >= 0) & (found < n)).all()
    # Whatever else is there, and in whatever order
    assert fold_of(keys[::-1], Folds(n=n, seed=seed)).tolist() == found[::-1].tolist()


def test_shares_and_folds_have_about_their_size() -> None:
    keys = [f"doc {number}" for number in range(20_000)]
    assert in_share(keys, 0.2, "x").mean() == pytest.approx(0.2, abs=0.012)  # four standard errors
    np.testing.assert_allclose(np.bincount(fold_of(keys, Folds(n=5))) / len(keys), 0.2, atol=0.012)
    assert (fold_of(keys, Folds(n=5)) != fold_of(keys, Folds(n=5, seed=1))).mean() > 0.7
    narrow, wide = in_share(keys, 0.1, "x"), in_share(keys, 0.3, "x")
    assert (wide | ~narrow).all()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [row(f"w{n}", (0, 1, "PER"), doc_id=None if n % 3 else f"D{n // 9}") for n in range(90)]
    return run(tmp_path_factory.mktemp("runs") / "many", {"spa_Latn": rows, "deu_Latn": rows})


def _ids(table: pa.Table) -> set[str]:
    return set(table.column("id").to_pylist())


def test_folds_split_documents_the_same_way_everywhere(many: str, tmp_path: Path) -> None:
    every: list[set[str]] = []
    lines = [
        {"id": f"s{n}", "doc_id": None if n % 3 else f"D{n // 9}", "tokens": ["w"], "ner_tags": ["B-PER"]}
        for n in range(90)
    ]
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(json.dumps({k: v for k, v in line.items() if v is not None}) + "\n" for line in lines))
    sources: list[dict[str, Any]] = [
        {"run": many},
        {"run": many, "side": "source"},
        {"input": {"path": str(file), "lang": "spa_Latn"}},
    ]
    for fold in range(3):
        folds = {"n": 3, "held_out": fold}
        held, left = [], []
        for source in sources:
            recipe = training(source, evaluate=[source], folds=folds)
            learnt, (tally,) = load(recipe, "data")
            tested, _ = load(recipe, "evaluate")
            assert tally.read == tally.kept + tally.dropped["other fold"]
            held.append(_ids(tested))
            left.append(_ids(learnt))
        assert held[0] == held[1] == held[2] and left[0] == left[1] == left[2]
        assert not held[0] & left[0] and len(held[0] | left[0]) == 90
        every.append(held[0])
    assert sum(map(len, every)) == 90 == len(set.union(*every))
    docs = [{id_ for id_ in fold if id_ in ("s0", "s3", "s6")} for fold in every]  # of one document
    assert sorted(map(len, docs)) == [0, 0, 3]


def test_validation_shares_are_disjoint_and_cover_all(many: str) -> None:
    for folds in (None, {"n": 3}):
        recipe = training({"run": many}, validation_share=0.3, folds=folds)
        learnt, (first,) = load(recipe, "data", held_out=False)
        held, (second,) = load(recipe, "data", held_out=True)
        assert not _ids(learnt) & _ids(held)
        assert first.kept == second.dropped["training"] and second.kept == first.dropped["validation"]
        for tally in (first, second):
            assert tally.read == 180 == tally.kept + sum(tally.dropped.values())


def test_nothing_left_says_where_it_went(path: str) -> None:
    with pytest.raises(InputError, match=r"data: no sentence is left \(.*: 6 read, 6 length\); loosen splits, filters"):
        load(training({"run": path, "filters": {"words": [90, 99]}}), "data")


def test_labels_of_a_table() -> None:
    table = sentences(
        [
            {"tokens": ["a"], "spans": [(0, 1, "PER")]},
            {"tokens": ["a"], "tags": [(0, "I-LOC", 0.1), (0, "O", 0.9)]},
            {"tokens": ["a"], "spans": []},
        ]
    )
    assert label_names(table) == ["LOC", "PER"] and label_names(table.slice(2)) == []
