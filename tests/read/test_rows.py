"""Rows: what a run is told of its input, and why a row is rejected."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reading import read_all, reasons, to_test, to_train, write, write_conll

from xner_ray.errors import Flag, Loss, Reason, RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.read.inputs import find_texts


def test_a_row_of_direction_train(tmp_path: Path) -> None:
    rows = {"id": "s", "doc_id": "d", "text": "Al  saw Bo.", "tokens": ["Al", "saw", "Bo", "."], "more": 1}
    path = write(tmp_path / "a.jsonl", rows | {"ner_tags": ["B-PER", "O", "B-PER", "O"]})
    parallel = write(tmp_path / "b.txt", "Al vio a Bo.\n")
    (row,) = read_all(to_train(path, input={"parallel": {"spa_Latn": str(parallel)}})).to_pylist()
    assert {name: row[name] for name in ("row", "id", "doc_id", "split", "source_lang", "lang", "status")} == {
        "row": 0,
        "id": "s",
        "doc_id": "d",
        "split": "train",
        "source_lang": "eng_Latn",
        "lang": "spa_Latn",
        "status": "ok",
    }
    assert row["source_text"] == "Al  saw Bo."
    assert [row["source_text"][o["start"] : o["end"]] for o in row["source_offsets"]] == row["source_tokens"]
    assert [(s["start"], s["end"], s["label"]) for s in row["source_spans"]] == [(0, 1, "PER"), (2, 3, "PER")]
    assert row["tokens"] == ["Al", "vio", "a", "Bo", "."]
    assert row["gold_spans"] is None
    assert (row["flags"], row["unprojected"], row["extra"]) == ([], [], '{"more": 1}')


def test_direction_train_without_parallel_text_has_no_target_side(tmp_path: Path) -> None:
    (row,) = read_all(to_train(write(tmp_path / "a.conll", "A B-PER\n"))).to_pylist()
    assert [row[name] for name in ("text", "tokens", "offsets", "gold_spans")] == [None] * 4
    assert (row["id"], row["source_text"], row["doc_id"]) == ("a.conll:1", "A", None)


def test_labelled_parallel_is_gold_with_mapped_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "A B-PERSON\nb B-DATE\n")
    gold = write(tmp_path / "b.conll", "x B-DATE\nA B-PERSON\n")
    given = {"parallel": {"spa_Latn": str(gold)}, "labels": {"rename": {"PERSON": "PER"}, "keep": ["PER"]}}
    recipe = to_train(path, input=given)
    index = build_index(recipe)
    assert (index.labels_found, index.labels_dropped, index.gold_labels) == (
        ["PER"],
        {"DATE": 1},
        {"spa_Latn": ["PER"]},
    )
    (row,) = read_all(recipe, index).to_pylist()
    assert row["source_spans"] == [{"start": 0, "end": 1, "label": "PER", "score": 1.0}]
    assert row["gold_spans"] == [{"start": 1, "end": 2, "label": "PER"}]


def test_direction_test(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Al B-PER\nvio O\n\nnada O\n")
    parallel = write(tmp_path / "b.txt", "Al saw.\nNothing.\n")
    first, second = read_all(to_test(path, input={"parallel": {"eng_Latn": str(parallel)}})).to_pylist()
    assert (first["lang"], first["source_lang"], first["tokens"]) == ("spa_Latn", "eng_Latn", ["Al", "vio"])
    assert first["gold_spans"] == [{"start": 0, "end": 1, "label": "PER"}]
    assert (first["source_tokens"], first["source_spans"]) == (["Al", "saw", "."], None)
    assert second["gold_spans"] == []


def test_a_tagger_ignores_the_labels_of_the_input(tmp_path: Path) -> None:
    recipe = to_train(write(tmp_path / "a.conll", "A B-PER\n"), tag={"engine": "spacy"})
    assert read_all(recipe).to_pylist()[0]["source_spans"] is None


def test_several_languages_of_direction_test(tmp_path: Path) -> None:
    for lang in ("swh_Latn", "yor_Latn"):
        write(tmp_path / f"{lang}.conll", f"{lang} B-PER\n")
        write(tmp_path / f"{lang}.txt", f"English of {lang}\n")
    given = {"lang": ["swh_Latn", "yor_Latn"], "parallel": {"eng_Latn": str(tmp_path / "{lang}.txt")}}
    recipe = to_test(tmp_path / "{lang}.conll", input=given)
    index = build_index(recipe)
    stated, beside = find_texts(recipe).identities()
    assert list(stated) == ["swh_Latn/train/swh_Latn.conll", "yor_Latn/train/yor_Latn.conll"]
    assert {lang: list(files) for lang, files in beside.items()} == {
        lang: [f"train/{lang}.txt"] for lang in ("swh_Latn", "yor_Latn")
    }
    rows = read_all(recipe, index).to_pylist()
    assert [(r["lang"], r["tokens"], r["source_text"]) for r in rows] == [
        ("swh_Latn", ["swh_Latn"], "English of swh_Latn"),
        ("yor_Latn", ["yor_Latn"], "English of yor_Latn"),
    ]


def test_character_spans_snap_to_words(tmp_path: Path) -> None:
    spans = [[1, 4, "PER"], [8, 13, "LOC"], [0, 13, "ORG"], [0, 6, "PER"], [0, 5, "PER"]]
    recipe = to_train(write(tmp_path / "a.jsonl", {"text": "Peter  in Rom", "spans": spans}))
    (row,) = read_all(recipe).to_pylist()
    # (1, 4) and (8, 13) had edges inside words; the blank in (0, 6) is no edge of a word.
    assert Counter(row["flags"]) == {Flag.SNAPPED: 2}
    found = [(s["start"], s["end"], s["label"]) for s in row["source_spans"]]
    assert found == [(0, 1, "PER"), (0, 3, "ORG"), (1, 3, "LOC")]
    assert row["unprojected"] == [{"source": 0, "reason": "nested"}, {"source": 2, "reason": "nested"}]
    gold = read_all(to_test(tmp_path / "a.jsonl")).to_pylist()[0]["gold_spans"]
    assert gold == [{"start": 0, "end": 3, "label": "ORG"}]


def test_a_span_that_covers_no_word_rejects_the_row(tmp_path: Path) -> None:
    spans = [[0, 5, "PER"], [5, 6, "MISC"]]
    path = write(tmp_path / "a.jsonl", {"text": "Peter  in Rom", "spans": spans}, {"text": "b", "spans": []})
    first, second = read_all(to_train(path)).to_pylist()
    assert (first["reason"], second["reason"]) == (Reason.BAD_SPAN, None)
    assert first["detail"] == "a.jsonl:1: span [5, 6, 'MISC'] covers white space and no word"
    (row, _) = read_all(to_train(path, input={"labels": {"keep": ["PER"]}})).to_pylist()  # its label is not wanted
    assert (row["reason"], row["flags"], len(row["source_spans"])) == (None, [], 1)


def test_a_span_that_crosses_another_is_not_nested(tmp_path: Path) -> None:
    spans = [[0, 5, "A"], [2, 7, "B"], [0, 1, "C"], [4, 7, "D"], [0, 5, "E"]]
    path = write(tmp_path / "a.jsonl", {"text": "a b c d", "spans": spans})
    (row,) = read_all(to_train(path)).to_pylist()
    lost = {row["source_spans"][u["source"]]["label"]: u["reason"] for u in row["unprojected"]}
    assert lost == {"B": Loss.OVERLAPPING_SPAN, "C": Loss.NESTED, "D": Loss.OVERLAPPING_SPAN, "E": Loss.NESTED}


@pytest.mark.parametrize("label", ["\ud800", "a\x07", "a\nb", "a\tb", " a", "", "a\u2028b", "a\x85b"])
def test_labels_of_rejected_rows_are_no_labels(tmp_path: Path, label: str) -> None:
    text = "Mary lives in Paris"
    spans = [[{"start": 0, "end": 4, "label": one}] for one in (label, "work of art")]
    rows = [{"text": text, "spans": one} for one in spans] + [{"tokens": ["a"], "ner_tags": [f"B-{label}"]}]
    path = write(tmp_path / "a.jsonl", *rows)
    for labels in ({}, {"keep": ["work of art"]}):
        index = build_index(recipe := to_train(path, input={"labels": labels}))
        assert (index.labels_found, index.labels_dropped) == (["work of art"], {})
        table = read_all(recipe, index)
        assert [bool(reason) for reason in reasons(table)] == [True, False, True]
        assert table.column("source_spans").to_pylist()[0] is None


@pytest.mark.parametrize("name", ["id", "doc_id"])
@pytest.mark.parametrize("value", ["a\nb", "a\tb", "a\x00", "a\x7f", "a\u2029"])
def test_ids_are_one_line(tmp_path: Path, name: str, value: str) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "spans": [], name: value}, {"text": "b", "spans": [], name: "a b"})
    first, second = read_all(to_train(path)).to_pylist()
    assert (first["reason"], second["reason"]) == (Reason.CONTROL_CHARACTER, None)
    assert first["detail"] == f"a.jsonl:1: U+{ord(value[1]):04X} in the {name} {value!r}"


def test_identities_say_which_file_is_which(tmp_path: Path) -> None:
    a, b = str(write_conll(tmp_path / "a.conll", 2)), str(write_conll(tmp_path / "b.conll", 3))
    one = find_texts(to_train({"train": a, "validation": b})).identities()
    assert list(one[0]) == ["train/a.conll", "validation/b.conll"]
    assert all(value.startswith("conll sha256:") for value in one[0].values())
    assert one != find_texts(to_train({"train": b, "validation": a})).identities()
    assert one == find_texts(to_train({"train": a, "validation": b}, input={"format": "conll"})).identities()
    assert one != find_texts(to_train({"train": a, "validation": b}, input={"format": "text"})).identities()
    given = {"parallel": {"spa_Latn": a}}
    recipe = to_train(b, input=given)
    assert list(find_texts(recipe).identities()[1]["spa_Latn"]) == ["train/a.conll"]
    as_text = to_train(b, input={**given, "parallel_format": "text"})
    assert find_texts(recipe).identities() != find_texts(as_text).identities()


def test_a_dropped_label_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "Bank of Rome", "spans": [[0, 12, "ORG"], [8, 12, "LOC"]]})
    (row,) = read_all(to_train(path, input={"labels": {"keep": ["LOC"]}})).to_pylist()
    assert [s["label"] for s in row["source_spans"]] == ["LOC"]
    assert row["unprojected"] == []


def test_every_reject_reason(tmp_path: Path) -> None:
    labels: dict[str, Any] = {"ner_tags": ["O"]}
    rows = [
        ("{", Reason.MALFORMED),
        ({"tokens": ["a"]}, Reason.MALFORMED),  # no labels
        ('{"tokens": ["\\ud800"], "ner_tags": ["O"]}', Reason.BAD_UTF8),
        ({"tokens": ["a"], "ner_tags": ["X"]}, Reason.ILLEGAL_TAG),
        ({"tokens": ["a\0"], **labels}, Reason.CONTROL_CHARACTER),
        ({"tokens": ["a"], "ner_tags": ["B-P\x07"]}, Reason.CONTROL_CHARACTER),
        ({"tokens": [], "ner_tags": []}, Reason.EMPTY),
        ({"text": " \t\n", "spans": []}, Reason.EMPTY),
        ({"tokens": ["a"] * 6, "ner_tags": ["O"] * 6}, Reason.TOO_LONG),
        ({"text": "abc", "spans": [[2, 9, "PER"]]}, Reason.BAD_SPAN),
        ({"tokens": ["a b"], **labels}, None),
        ({"tokens": [""], **labels}, Reason.EMPTY),
        ({"tokens": ["a", "\u3000"], "ner_tags": ["O", "B-PER"]}, Reason.BAD_SPAN),
        ({"tokens": ["x"], "text": "y", "spans": []}, Reason.MALFORMED),
        ({"id": 1, "tokens": ["a"], **labels}, None),
        ({"id": "1", "tokens": ["b"], **labels}, Reason.DUPLICATE_ID),
        ({"tokens": ["\u200b"], **labels}, Reason.EMPTY),
        ({"text": "tab\tand\nnewline", "spans": []}, None),
    ]
    path = write(tmp_path / "a.jsonl", *(row for row, _ in rows))
    table = read_all(to_train(path, input={"max_words": 5}))
    assert reasons(table) == [reason for _, reason in rows]
    for number, row in enumerate(table.to_pylist(), start=1):
        assert row["status"] == ("rejected" if row["reason"] else "ok")
        assert row["reason"] is None or row["detail"].startswith(f"a.jsonl:{number}: "), row["detail"]
    details = table.column("detail").to_pylist()
    assert "U+0000" in details[4]
    assert details[12] == "a.jsonl:13: span [1, 2, 'PER'] covers no word"
    assert "row 14 already has the id '1'" in details[15]
    assert table.column("source_tokens").to_pylist()[8] == ["a"] * 6  # what is known is kept


def test_blank_lines_of_text_are_left_out_unless_other_lines_stand_beside_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\n\n \t\ntwo\n" * 10)
    recipe = to_train(path, tag={"engine": "spacy"})
    index = build_index(recipe)
    table = read_all(recipe, index)
    assert reasons(table) == [None, "left_out", "left_out", None] * 10
    assert table.column("id").to_pylist()[:3] == ["a.txt:1", "a.txt:2", "a.txt:3"]
    assert index.reject_rate == 0  # they stop no run
    assert index.problems()[0].endswith("20 of 40 rows will be rejected: left_out; the first: a.txt:2: a blank line")
    beside = {"parallel": {"spa_Latn": str(write(tmp_path / "b.txt", "uno\n\n\ndos\n" * 10))}}
    recipe = to_train(path, tag={"engine": "spacy"}, input=beside)
    index = build_index(recipe)
    assert reasons(read_all(recipe, index)) == [None, "empty", "empty", None] * 10
    assert index.reject_rate == 0.5


def test_what_is_not_as_the_files_have_it_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "New York\tB-LOC\n\u00a0\tO\nx\tO\n\na\tO\n\n" * 30)
    assert build_index(to_train(path)).said[-1] == (
        f"{path}: 30 rows with tokens that are no words as they stand: blanks are dropped, tokens with blanks inside "
        "are cut"
    )
    text = "Nora left. Ada went home. Bo ran."
    path = write(tmp_path / "a.jsonl", *[{"text": text, "spans": [[5, 14, "X"]]}] * 3)
    index = build_index(to_train(path, input={"split": "sentences"}))
    assert index.said[-1] == f"{path}: 3 rows are several sentences that an entity over their border holds together"


def test_what_is_wrong_with_the_parallel_side_rejects_the_row(tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", 3)
    parallel = write(tmp_path / "b.txt", "uno\n\nt\0s\n")
    table = read_all(to_train(path, input={"parallel": {"spa_Latn": str(parallel)}}))
    assert reasons(table) == [None, "empty", "control_character"]
    assert table.column("detail").to_pylist()[1].startswith("b.txt:2: ")


def test_ten_thousand_words(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "".join(f"w{i} O\n" for i in range(10_000)), "\nx O\n")
    recipe = to_train(path, input={"max_words": 10_000})
    row, _ = read_all(recipe).to_pylist()
    assert (row["status"], len(row["source_tokens"]), len(row["source_offsets"])) == ("ok", 10_000, 10_000)
    row, _ = read_all(to_train(path)).to_pylist()
    assert row["detail"] == "a.conll:1: 10000 words; input.max_words is 1000"


def test_sentences_of_raw_documents(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", {"id": "d1", "text": "One is here. Two is there."}, {"text": "Three."}, {"text": ""}
    )
    recipe = to_test(path, input={"split": "sentences", "lang": "fra_Latn"}, unit_rows=1)
    rows = read_all(recipe).to_pylist()
    assert [(r["id"], r["doc_id"], r["text"], r["reason"]) for r in rows] == [
        ("d1#0", "d1", "One is here.", None),
        ("d1#1", "d1", "Two is there.", None),
        ("a.jsonl:2#0", "a.jsonl:2", "Three.", None),
        ("a.jsonl:3#0", "a.jsonl:3", "", "empty"),
    ]
    with pytest.raises(RecipeError, match="in sentences already"):
        build_index(to_test(write(tmp_path / "b.iob2", "1\tw\tO\n"), input={"split": "sentences"}))
