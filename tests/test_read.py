"""Index, units and rows: what a run is told of its input, and that no row is lost however it is cut."""

import json
import os
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.errors import Flag, InputError, Loss, Reason, RecipeError
from xner_ray.read.index import Index, build_index, identities
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.read.units import MOST_UNITS, grown_unit_rows
from xner_ray.recipe import Recipe
from xner_ray.schema import ROW, row_schema, table_from_rows

SHARED = Path(os.environ.get("XNER_SHARED", Path(__file__).parent.parent.parent / "shared"))
needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="XNER_SHARED has no data: real text is not here"
)


def _train(path: object, *, unit_rows: int = 2048, targets: tuple[str, ...] = ("spa_Latn",), **options: Any) -> Recipe:
    given = {"path": path if isinstance(path, dict) else str(path), **options.pop("input", {})}
    return Recipe.model_validate(
        {"input": given, "targets": list(targets), "engine": {"unit_rows": unit_rows}, **options}
    )


def _test(path: object, *, unit_rows: int = 2048, **options: Any) -> Recipe:
    given = {"path": str(path), "lang": "spa_Latn", **options.pop("input", {})}
    engine = {"unit_rows": unit_rows}
    return Recipe.model_validate(
        {"direction": "test", "input": given, "tag": {"engine": "spacy"}, "engine": engine, **options}
    )


def _read(recipe: Recipe, index: Index | None = None) -> pa.Table:
    index = index or build_index(recipe)
    plan = pickle.loads(pickle.dumps(ReadPlan(recipe, index.extra)))
    tables = [read_unit(pickle.loads(pickle.dumps(unit)), plan) for unit in index.units]
    for unit, table in zip(index.units, tables, strict=True):
        assert table.schema == row_schema(index.extra)
        assert table.num_rows == unit.n_rows > 0
        expected = list(unit.picked) if unit.picked is not None else list(range(unit.start, unit.stop))
        assert table.column("row").to_pylist() == expected
    return pa.concat_tables(tables)


def _write(path: Path, *rows: object) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    else:
        path.write_text("".join(map(str, rows)))
    return path


def _conll(path: Path, count: int, *, word: str = "w", tag: str = "B-PER") -> Path:
    return _write(path, "\n".join(f"{word}{i} {tag}\nx O\n" for i in range(count)))


def _reasons(table: pa.Table) -> list[str | None]:
    return list(table.column("reason").to_pylist())


# rows


def test_a_row_of_direction_train(tmp_path: Path) -> None:
    rows = {"id": "s", "doc_id": "d", "text": "Al  saw Bo.", "tokens": ["Al", "saw", "Bo", "."], "more": 1}
    path = _write(tmp_path / "a.jsonl", rows | {"ner_tags": ["B-PER", "O", "B-PER", "O"]})
    parallel = _write(tmp_path / "b.txt", "Al vio a Bo.\n")
    (row,) = _read(_train(path, input={"parallel": {"spa_Latn": str(parallel)}})).to_pylist()
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
    (row,) = _read(_train(_write(tmp_path / "a.conll", "A B-PER\n"))).to_pylist()
    assert [row[name] for name in ("text", "tokens", "offsets", "gold_spans")] == [None] * 4
    assert (row["id"], row["source_text"], row["doc_id"]) == ("a.conll:1", "A", None)


def test_labelled_parallel_is_gold_with_mapped_labels(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.conll", "A B-PERSON\nb B-DATE\n")
    gold = _write(tmp_path / "b.conll", "x B-DATE\nA B-PERSON\n")
    given = {"parallel": {"spa_Latn": str(gold)}, "labels": {"rename": {"PERSON": "PER"}, "keep": ["PER"]}}
    recipe = _train(path, input=given)
    index = build_index(recipe)
    assert (index.labels_found, index.labels_dropped, index.gold_labels) == (
        ["PER"],
        {"DATE": 1},
        {"spa_Latn": ["PER"]},
    )
    (row,) = _read(recipe, index).to_pylist()
    assert row["source_spans"] == [{"start": 0, "end": 1, "label": "PER", "score": 1.0}]
    assert row["gold_spans"] == [{"start": 1, "end": 2, "label": "PER"}]


def test_direction_test(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.conll", "Al B-PER\nvio O\n\nnada O\n")
    parallel = _write(tmp_path / "b.txt", "Al saw.\nNothing.\n")
    first, second = _read(_test(path, input={"parallel": {"eng_Latn": str(parallel)}})).to_pylist()
    assert (first["lang"], first["source_lang"], first["tokens"]) == ("spa_Latn", "eng_Latn", ["Al", "vio"])
    assert first["gold_spans"] == [{"start": 0, "end": 1, "label": "PER"}]
    assert (first["source_tokens"], first["source_spans"]) == (["Al", "saw", "."], None)
    assert second["gold_spans"] == []


def test_a_tagger_ignores_the_labels_of_the_input(tmp_path: Path) -> None:
    recipe = _train(_write(tmp_path / "a.conll", "A B-PER\n"), tag={"engine": "spacy"})
    assert _read(recipe).to_pylist()[0]["source_spans"] is None


def test_several_languages_of_direction_test(tmp_path: Path) -> None:
    for lang in ("swh_Latn", "yor_Latn"):
        _write(tmp_path / f"{lang}.conll", f"{lang} B-PER\n")
        _write(tmp_path / f"{lang}.txt", f"English of {lang}\n")
    given = {"lang": ["swh_Latn", "yor_Latn"], "parallel": {"eng_Latn": str(tmp_path / "{lang}.txt")}}
    recipe = _test(tmp_path / "{lang}.conll", input=given)
    index = build_index(recipe)
    assert list(index.inputs) == ["swh_Latn/train/swh_Latn.conll", "yor_Latn/train/yor_Latn.conll"]
    assert (index.inputs, index.parallel_inputs) == identities(recipe)
    rows = _read(recipe, index).to_pylist()
    assert [(r["lang"], r["tokens"], r["source_text"]) for r in rows] == [
        ("swh_Latn", ["swh_Latn"], "English of swh_Latn"),
        ("yor_Latn", ["yor_Latn"], "English of yor_Latn"),
    ]


def test_character_spans_snap_to_words(tmp_path: Path) -> None:
    spans = [[1, 4, "PER"], [8, 13, "LOC"], [0, 13, "ORG"], [0, 6, "PER"], [0, 5, "PER"]]
    recipe = _train(_write(tmp_path / "a.jsonl", {"text": "Peter  in Rom", "spans": spans}))
    (row,) = _read(recipe).to_pylist()
    # (1, 4) and (8, 13) had edges inside words; the blank in (0, 6) is no edge of a word.
    assert Counter(row["flags"]) == {Flag.SNAPPED: 2}
    found = [(s["start"], s["end"], s["label"]) for s in row["source_spans"]]
    assert found == [(0, 1, "PER"), (0, 3, "ORG"), (1, 3, "LOC")]
    assert row["unprojected"] == [{"source": 0, "reason": "nested"}, {"source": 2, "reason": "nested"}]
    gold = _read(_test(tmp_path / "a.jsonl")).to_pylist()[0]["gold_spans"]
    assert gold == [{"start": 0, "end": 3, "label": "ORG"}]


def test_a_span_that_covers_no_word_rejects_the_row(tmp_path: Path) -> None:
    spans = [[0, 5, "PER"], [5, 6, "MISC"]]
    path = _write(tmp_path / "a.jsonl", {"text": "Peter  in Rom", "spans": spans}, {"text": "b", "spans": []})
    first, second = _read(_train(path)).to_pylist()
    assert (first["reason"], second["reason"]) == (Reason.BAD_SPAN, None)
    assert first["detail"] == "a.jsonl:1: span [5, 6, 'MISC'] covers white space and no word"
    (row, _) = _read(_train(path, input={"labels": {"keep": ["PER"]}})).to_pylist()  # its label is not wanted
    assert (row["reason"], row["flags"], len(row["source_spans"])) == (None, [], 1)


def test_a_span_that_crosses_another_is_not_nested(tmp_path: Path) -> None:
    spans = [[0, 5, "A"], [2, 7, "B"], [0, 1, "C"], [4, 7, "D"], [0, 5, "E"]]
    path = _write(tmp_path / "a.jsonl", {"text": "a b c d", "spans": spans})
    (row,) = _read(_train(path)).to_pylist()
    lost = {row["source_spans"][u["source"]]["label"]: u["reason"] for u in row["unprojected"]}
    assert lost == {"B": Loss.OVERLAPPING_SPAN, "C": Loss.NESTED, "D": Loss.OVERLAPPING_SPAN, "E": Loss.NESTED}


@pytest.mark.parametrize("label", ["\ud800", "a\x07", "a\nb", "a\tb", " a", "", "a\u2028b", "a\x85b"])
def test_labels_of_rejected_rows_are_no_labels(tmp_path: Path, label: str) -> None:
    text = "Mary lives in Paris"
    spans = [[{"start": 0, "end": 4, "label": one}] for one in (label, "work of art")]
    rows = [{"text": text, "spans": one} for one in spans] + [{"tokens": ["a"], "ner_tags": [f"B-{label}"]}]
    path = _write(tmp_path / "a.jsonl", *rows)
    for labels in ({}, {"keep": ["work of art"]}):
        index = build_index(recipe := _train(path, input={"labels": labels}))
        assert (index.labels_found, index.labels_dropped) == (["work of art"], {})
        table = _read(recipe, index)
        assert [bool(reason) for reason in _reasons(table)] == [True, False, True]
        assert table.column("source_spans").to_pylist()[0] is None


@pytest.mark.parametrize("name", ["id", "doc_id"])
@pytest.mark.parametrize("value", ["a\nb", "a\tb", "a\x00", "a\x7f", "a\u2029"])
def test_ids_are_one_line(tmp_path: Path, name: str, value: str) -> None:
    path = _write(
        tmp_path / "a.jsonl", {"text": "a", "spans": [], name: value}, {"text": "b", "spans": [], name: "a b"}
    )
    first, second = _read(_train(path)).to_pylist()
    assert (first["reason"], second["reason"]) == (Reason.CONTROL_CHARACTER, None)
    assert first["detail"] == f"a.jsonl:1: U+{ord(value[1]):04X} in the {name} {value!r}"


def test_identities_say_which_file_is_which(tmp_path: Path) -> None:
    a, b = str(_conll(tmp_path / "a.conll", 2)), str(_conll(tmp_path / "b.conll", 2))
    one = identities(_train({"train": a, "validation": b}))
    assert list(one[0]) == ["train/a.conll", "validation/b.conll"]
    assert all(value.startswith("conll ") for value in one[0].values())
    assert one != identities(_train({"train": b, "validation": a}))
    assert one == identities(_train({"train": a, "validation": b}, input={"format": "conll"}))
    assert one != identities(_train({"train": a, "validation": b}, input={"format": "text"}))
    given = {"parallel": {"spa_Latn": a}}
    recipe = _train(b, input=given)
    index = build_index(recipe)
    assert (index.inputs, index.parallel_inputs) == identities(recipe)
    assert list(index.parallel_inputs["spa_Latn"]) == ["train/a.conll"]
    assert identities(recipe) != identities(_train(b, input={**given, "parallel_format": "text"}))


def test_a_dropped_label_hides_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", {"text": "Bank of Rome", "spans": [[0, 12, "ORG"], [8, 12, "LOC"]]})
    (row,) = _read(_train(path, input={"labels": {"keep": ["LOC"]}})).to_pylist()
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
        ({"tokens": ["a b"], **labels}, Reason.BAD_TOKEN),
        ({"tokens": [""], **labels}, Reason.BAD_TOKEN),
        ({"tokens": ["a\u00a0b"], **labels}, Reason.BAD_TOKEN),
        ({"tokens": ["x"], "text": "y", "spans": []}, Reason.MALFORMED),
        ({"id": 1, "tokens": ["a"], **labels}, None),
        ({"id": "1", "tokens": ["b"], **labels}, Reason.DUPLICATE_ID),
        ({"tokens": ["\u200b"], **labels}, None),  # no width, yet a word
        ({"text": "tab\tand\nnewline", "spans": []}, None),
    ]
    path = _write(tmp_path / "a.jsonl", *(row for row, _ in rows))
    table = _read(_train(path, input={"max_words": 5}))
    assert _reasons(table) == [reason for _, reason in rows]
    for number, row in enumerate(table.to_pylist(), start=1):
        assert row["status"] == ("rejected" if row["reason"] else "ok")
        assert row["reason"] is None or row["detail"].startswith(f"a.jsonl:{number}: "), row["detail"]
    details = table.column("detail").to_pylist()
    assert "U+0000" in details[4]
    assert "'a b'" in details[10]
    assert "'1' stands in row 14" in details[15]
    assert table.column("source_tokens").to_pylist()[10] == ["a b"]  # what is known is kept


def test_blank_line_of_text_is_an_empty_row(tmp_path: Path) -> None:
    table = _read(_train(_write(tmp_path / "a.txt", "one\n\ntwo"), tag={"engine": "spacy"}))
    assert _reasons(table) == [None, "empty", None]
    assert table.column("id").to_pylist() == ["a.txt:1", "a.txt:2", "a.txt:3"]


def test_what_is_wrong_with_the_parallel_side_rejects_the_row(tmp_path: Path) -> None:
    path = _conll(tmp_path / "a.conll", 3)
    parallel = _write(tmp_path / "b.txt", "uno\n\nt\0s\n")
    table = _read(_train(path, input={"parallel": {"spa_Latn": str(parallel)}}))
    assert _reasons(table) == [None, "empty", "control_character"]
    assert table.column("detail").to_pylist()[1].startswith("b.txt:2: ")


def test_ten_thousand_words(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.conll", "".join(f"w{i} O\n" for i in range(10_000)))
    recipe = _train(path, input={"max_words": 10_000})
    (row,) = _read(recipe).to_pylist()
    assert (row["status"], len(row["source_tokens"]), len(row["source_offsets"])) == ("ok", 10_000, 10_000)
    (row,) = _read(_train(path)).to_pylist()
    assert row["detail"] == "a.conll:1: 10000 words; input.max_words is 1000"


def test_sentences_of_raw_documents(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.jsonl", {"id": "d1", "text": "One is here. Two is there."}, {"text": "Three."}, {"text": ""}
    )
    recipe = _test(path, input={"split": "sentences", "lang": "fra_Latn"}, unit_rows=1)
    rows = _read(recipe).to_pylist()
    assert [(r["id"], r["doc_id"], r["text"], r["reason"]) for r in rows] == [
        ("d1#0", "d1", "One is here.", None),
        ("d1#1", "d1", "Two is there.", None),
        ("a.jsonl:2#0", "a.jsonl:2", "Three.", None),
        ("a.jsonl:3#0", "a.jsonl:3", "", "empty"),
    ]
    with pytest.raises(RecipeError, match="in sentences already"):
        build_index(_test(_conll(tmp_path / "b.conll", 1), input={"split": "sentences"}))


# the user's columns


def test_columns_of_parquet_are_carried_with_their_types(tmp_path: Path) -> None:
    n = 3000
    table = pa.table(
        {
            "text": [f"t {i}" for i in range(n)],
            "when": pa.array(range(n), pa.timestamp("ns", "UTC")),
            "price": pa.array(range(n), pa.decimal128(9, 2)),
            "kind": pa.array(["a", "b", None] * (n // 3)).dictionary_encode(),
            "nested": [{"x": [i]} for i in range(n)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    recipe = _test(tmp_path / "a.parquet", unit_rows=512)
    result = _read(recipe)
    for name in ("when", "price", "nested", "kind"):
        assert result.schema.field(name).type == table.schema.field(name).type
        assert result.column(name).to_pylist() == table.column(name).to_pylist()
    assert result.column("id").to_pylist()[-1] == f"a.parquet:{n - 1}"
    few = _read(_test(tmp_path / "a.parquet", unit_rows=7, input={"sample": {"rows": 40, "seed": 3}}))
    assert few.column("nested").to_pylist() == [{"x": [row]} for row in few.column("row").to_pylist()]


def test_columns_must_be_the_same_in_every_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: its other columns are not those of .*a\.parquet"):
        build_index(_test(tmp_path))


def test_columns_of_parallel_text_are_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["uno", "dos"], "lang": ["es", "es"]}), tmp_path / "b.parquet")
    given = {"parallel": {"spa_Latn": str(tmp_path / "b.parquet")}}
    table = _read(_train(_conll(tmp_path / "a.conll", 2), input=given))
    assert table.column("text").to_pylist() == ["uno", "dos"]
    assert table.schema == ROW


def test_sentences_of_parquet_keep_the_columns_of_their_document(tmp_path: Path) -> None:
    table = pa.table({"text": ["A b. C d.", "E f."], "n": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    result = _read(_test(tmp_path / "a.parquet", unit_rows=1, input={"split": "sentences"}))
    assert result.column("text").to_pylist() == ["A b.", "C d.", "E f."]
    assert result.column("n").to_pylist() == [1, 1, 2]


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER", "I-PER"])),
            "n": datasets.Value("int32"),
        }
    )

    def make(start: int, stop: int) -> Any:
        rows = range(start, stop)
        data = {"tokens": [["Al", f"w{i}"] for i in rows], "ner_tags": [[1, 0]] * len(rows), "n": list(rows)}
        return datasets.Dataset.from_dict(data, features=features)

    both = datasets.DatasetDict({"test": make(2500, 2510), "train": make(0, 2500)})
    both.save_to_disk(tmp_path / "saved", num_shards={"train": 2, "test": 1})
    result = _read(_train(tmp_path / "saved", unit_rows=300))
    assert result.column("n").to_pylist() == list(range(2510))
    assert Counter(result.column("split").to_pylist()) == {"train": 2500, "test": 10}
    assert result.column("source_spans").to_pylist()[0] == [{"start": 0, "end": 1, "label": "PER", "score": 1.0}]
    make(0, 5).save_to_disk(tmp_path / "one")
    plain = make(0, 5).data.table.replace_schema_metadata(None)
    path = str(tmp_path / "one/data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)  # the names of the tags are in dataset_info.json alone
    assert _read(_train(tmp_path / "one")).num_rows == 5
    (tmp_path / "hub/data").mkdir(parents=True)
    both["train"].to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    both["test"].to_parquet(tmp_path / "hub/data/validation-00000-of-00001.parquet")
    result = _read(_train(tmp_path / "hub", input={"format": "dataset"}))
    assert Counter(result.column("split").to_pylist()) == {"train": 2500, "validation": 10}
    (tmp_path / "one/data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match="is missing"):
        build_index(_train(tmp_path / "one"))


def _run(folder: Path, lang: str, ids: list[str]) -> None:
    folder.mkdir(parents=True)
    row = {"source_text": "Al saw", "source_tokens": ["Al", "saw"], "text": "Al vio", "tokens": ["Al", "vio"]}
    row |= {"source_spans": [{"start": 0, "end": 1, "label": "PER", "score": 0.5}], "gold_spans": []}
    row |= {"source_lang": "eng_Latn", "lang": lang, "doc_id": "d", "status": "rejected", "reason": "stage_error"}
    rows = [row | {"id": id, "split": "test" if number % 2 else "train", "u": number} for number, id in enumerate(ids)]
    pq.write_table(table_from_rows(rows, row_schema([pa.field("u", pa.int8())])), folder / "part.parquet")


def test_a_run_and_its_rejects_are_inputs(tmp_path: Path) -> None:
    _run(tmp_path / "RUN/data/spa_Latn", "spa_Latn", ["a", "b", "c"])
    _run(tmp_path / "RUN/rejects/spa_Latn", "spa_Latn", ["d"])
    run = {"format": "run"}
    rows = _read(_train(tmp_path / "RUN", input=run, unit_rows=1)).sort_by("row").to_pylist()
    assert [(r["id"], r["split"], r["u"], r["status"]) for r in rows] == [
        ("a", "train", 0, "ok"),
        ("b", "test", 1, "ok"),
        ("c", "train", 2, "ok"),
    ]
    assert rows[0]["source_spans"] == [{"start": 0, "end": 1, "label": "PER", "score": 0.5}]
    assert rows[0]["tokens"] is None
    (row,) = _read(_test(tmp_path / "RUN/rejects", input=run)).to_pylist()
    assert (row["id"], row["tokens"], row["gold_spans"], row["source_tokens"]) == ("d", ["Al", "vio"], [], None)
    _run(tmp_path / "RUN/data/por_Latn", "por_Latn", ["a"])
    with pytest.raises(InputError, match=r"2 languages.*por_Latn, spa_Latn"):
        build_index(_train(tmp_path / "RUN", input=run))
    table = _read(_test(tmp_path / "RUN/data/por_Latn/part.parquet", input=run))
    assert table.column("detail")[0].as_py() == "part.parquet:0: the row's lang is por_Latn, not spa_Latn"
    strange = pq.read_table(tmp_path / "RUN/data/por_Latn/part.parquet").set_column(1, "id", pa.array([1]))
    pq.write_table(strange, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="'id' has the type int64; in a run it is string"):
        build_index(_train(tmp_path / "x.parquet", input=run))
    for younger in ([], ["bridge_tokens", "bridge_spans", "target_tags", "evidence"]):  # older runs have them not
        part = tmp_path / "RUN/data/por_Latn/part.parquet"
        pq.write_table(pq.read_table(part).drop_columns(younger), part)
        with pytest.raises(InputError, match=r"set input\.format: run"):
            build_index(_train(tmp_path / "RUN/data/por_Latn"))
        assert _read(_test(part, input={**run, "lang": "por_Latn"})).column("tokens").to_pylist() == [["Al", "vio"]]


# index and units


def test_units_of_rows_languages_and_splits(tmp_path: Path) -> None:
    paths = {"test": str(_conll(tmp_path / "t.conll", 3)), "train": str(tmp_path / "many")}
    (tmp_path / "many").mkdir()
    for name in "abc":
        _conll(tmp_path / f"many/{name}.conll", 4, word=name)
    recipe = _train(paths, unit_rows=5, targets=("spa_Latn", "por_Latn"))
    index = build_index(recipe)
    assert [(u.name, u.split, u.n_rows) for u in index.units] == [
        (f"{lang}-{row:012d}", split, count)
        for lang in ("spa_Latn", "por_Latn")
        for row, split, count in ((0, "train", 5), (5, "train", 5), (10, "train", 2), (12, "test", 3))
    ]
    assert index.n_rows == {"spa_Latn": 15, "por_Latn": 15}
    assert index.n_words == {"spa_Latn": 30, "por_Latn": 30}
    assert [len(unit.segments) for unit in index.units[:4]] == [2, 2, 1, 1]
    rows = _read(recipe, index)
    assert rows.column("id").to_pylist()[:5] == ["a.conll:1", "a.conll:4", "a.conll:7", "a.conll:10", "b.conll:1"]


def test_index_survives_its_table(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", *({"id": str(i % 7), "tokens": ["a"], "ner_tags": ["I-PER"]} for i in range(9)))
    recipe = _train(path, unit_rows=2, input={"sample": {"rows": 6}, "parallel": {"spa_Latn": str(path)}})
    index = build_index(recipe)
    assert index.repaired == 9
    pq.write_table(index.to_table(), tmp_path / "units.parquet")
    again = Index.from_table(pq.read_table(tmp_path / "units.parquet"))
    assert again == index
    assert _read(recipe, again) == _read(recipe, index)


@pytest.mark.parametrize("format", ["conll", "jsonl", "text", "parquet", "gz"])
def test_rows_do_not_depend_on_the_size_of_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr("xner_ray.read.scan.ScanJob.__init__.__defaults__", (4,), raising=False)
    options: dict[str, Any] = {}
    if format == "conll":
        blocks = [
            f"-DOCSTART- O\n\nA{i} B-PER\n\n" if i % 5 == 0 else f"# id = s{i % 40}\nb{i} O\nc\tX\n\n"
            for i in range(60)
        ]
        path = _write(tmp_path / "a.conll", *blocks)
    elif format == "jsonl":
        rows = [
            {"text": f"Al saw {i}. And so on.", "spans": [], "split": ["train", "dev"][i % 3 == 0]} for i in range(60)
        ]
        path = _write(tmp_path / "a.jsonl", *rows)
    elif format == "text":
        path = _write(tmp_path / "a.txt", *(f"Line {i}. Two.\n" for i in range(60)))
        options = {"input": {"split": "sentences"}}
    elif format == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"text": [f"t {i}" for i in range(60)], "n": range(60)}), path, row_group_size=9)
    else:
        import gzip

        path = tmp_path / "a.conll.gz"
        path.write_bytes(gzip.compress(b"".join(b"a%d O\n\n" % i for i in range(60))))
    tables = [_read(_test(path, unit_rows=size, **options)) for size in (1, 7, 2048)]
    by_row = [table.sort_by("row").combine_chunks() for table in tables]
    assert by_row[0].num_rows == (120 if format == "text" else 60)
    assert by_row[0].equals(by_row[1])
    assert by_row[1].equals(by_row[2])
    if format == "conll":
        assert set(_reasons(by_row[0])) == {None, "illegal_tag"}


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    unit_rows=st.sampled_from([1, 2, 3, 7, 50]),
    stride=st.sampled_from([1, 3, 8]),
    sample=st.none() | st.tuples(st.integers(1, 60), st.integers(0, 3)),
)
def test_units_over_many_files(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    unit_rows: int,
    stride: int,
    sample: tuple[int, int] | None,
) -> None:
    folder = tmp_path_factory.mktemp("units")
    for number, size in enumerate(sizes):
        _conll(folder / f"f{number}.conll", size, word=f"f{number}-")
    _write(folder / "all.txt", *(f"f{n}-{i} t\n" for n, size in enumerate(sizes) for i in range(size)))
    given_ = {"format": "conll", "parallel": {"spa_Latn": str(folder / "all.txt")}}
    if sample:
        given_["sample"] = {"rows": sample[0], "seed": sample[1]}
    recipe = _train(folder / "*.conll", unit_rows=unit_rows, input=given_)

    def with_stride(function: Any, jobs: list[Any]) -> list[Any]:
        for job in jobs:
            object.__setattr__(job, "stride", stride)
        return list(map(function, reversed(jobs)))  # answers in any order

    index = build_index(recipe, map_files=with_stride)
    table = _read(recipe, index)
    total = sum(sizes)
    assert table.num_rows == (min(sample[0], total) if sample else total)
    assert [unit.n_rows for unit in index.units[:-1]] == [unit_rows] * (len(index.units) - 1)
    expected = [f"f{n}-{i}" for n, size in enumerate(sizes) for i in range(size)]
    for row in table.to_pylist():
        assert row["source_tokens"][0] == expected[row["row"]]
        assert row["text"] == expected[row["row"]] + " t"


def test_limit_stops_the_scan_and_sample_is_stated(tmp_path: Path) -> None:
    path = _conll(tmp_path / "a.conll", 100)
    scanned: list[int] = []

    def watch(function: Any, jobs: list[Any]) -> Any:
        for scan in map(function, jobs):
            scanned.append(scan.rows)
            yield scan

    recipe = _train(path, input={"limit": 10}, unit_rows=4)
    index = build_index(recipe, map_files=watch)
    assert scanned == [10]
    assert [unit.n_rows for unit in index.units] == [4, 4, 2]
    assert _read(recipe, index).column("row").to_pylist() == list(range(10))
    import random

    rows = _read(_train(path, input={"sample": {"rows": 5, "seed": 1}})).column("row").to_pylist()
    assert rows == sorted(random.Random(1).sample(range(100), 5))
    few = _write(tmp_path / "b.txt", "x\n" * 9)
    with pytest.raises(InputError, match="has 9 sentences"):
        build_index(_train(path, input={"limit": 10, "parallel": {"spa_Latn": str(few)}}))


def test_a_sample_reads_only_near_its_rows(tmp_path: Path) -> None:
    path = _conll(tmp_path / "a.conll", 20_000)
    index = build_index(_train(path, input={"sample": {"rows": 4, "seed": 0}}))
    (unit,) = index.units
    assert len(unit.segments) == 4
    assert all(segment.skip < 520 and segment.take == 1 for segment in unit.segments)
    assert pytest.approx(8, abs=1) == unit.n_words


def test_duplicates_across_files(tmp_path: Path) -> None:
    for name, ids in (("a", ["x", "y", "x"]), ("b", ["z", "y", None])):
        rows = [{"tokens": ["w"], "ner_tags": ["O"]} | ({"id": i} if i else {}) for i in ids]
        _write(tmp_path / f"{name}.jsonl", *rows)
    recipe = _train(tmp_path, unit_rows=2)
    index = build_index(recipe)
    assert [unit.duplicates for unit in index.units] == [(), ((2, 0),), ((4, 1),)]
    table = _read(recipe, index)
    assert _reasons(table) == [None, None, "duplicate_id", None, "duplicate_id", None]


def test_a_sample_keeps_the_first_picked_of_an_id(tmp_path: Path) -> None:
    ids = [str(number % 10) for number in range(60)]
    path = _write(tmp_path / "a.jsonl", *({"id": i, "tokens": ["w"], "ner_tags": ["O"]} for i in ids))
    for seed in range(5):
        recipe = _train(path, unit_rows=4, input={"sample": {"rows": 12, "seed": seed}})
        rows = _read(recipe).sort_by("row").to_pylist()
        seen: dict[str, int] = {}
        for row in rows:
            first = seen.setdefault(row["id"], row["row"])
            assert row["reason"] == (None if first == row["row"] else "duplicate_id")
            assert row["reason"] is None or f"stands in row {first} already" in row["detail"]


def test_units_grow_with_the_input() -> None:
    assert grown_unit_rows([MOST_UNITS], 1) == 1
    assert grown_unit_rows([MOST_UNITS + 1], 1) == 2
    assert grown_unit_rows([100_000_000] * 50, 2048) % 2048 == 0
    for sizes in ([MOST_UNITS * 3 + 1, 1], [7] * 1000, [2048 * MOST_UNITS, 5, 5]):
        rows = grown_unit_rows(sizes, 2)
        assert sum(-(-size // rows) for size in sizes) <= MOST_UNITS


# errors of files


def test_parallel_of_another_length_names_both(tmp_path: Path) -> None:
    path, parallel = _conll(tmp_path / "a.conll", 3), _write(tmp_path / "b.txt", "x\ny\n")
    with pytest.raises(InputError, match=r"b\.txt has 2 sentences, .*a\.conll has 3"):
        build_index(_train(path, input={"parallel": {"spa_Latn": str(parallel)}}))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.conll", "", "holds no sentence"),
        ("a.conll", "\n \n", "holds no sentence"),
        ("a.conll", "a b\n\n" * 12, "not one of 12 rows is proper conll; the first: a.conll:1: line 1: illegal tag"),
        ("a.jsonl", '{"txt": "a"}\n' * 12, "neither 'tokens' nor 'text' is there; keys: txt"),
        ("a.txt", "hello\n", r"has no labels \(read as text\)"),
        ("a.conll", "hello\n", r"has no labels \(read as conll\)"),
        ("a.csv", "hello\n", "cannot be guessed"),
        ("a.parquet", "hello\n", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        build_index(_train(_write(tmp_path / name, content) if content != "" else _write(tmp_path / name)))
    assert name in str(error.value)
    assert error.value.exit_status == 2


def test_parquet_without_labels_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(InputError, match=r"column ner_tags \(or spans\) is missing; columns: text"):
        build_index(_train(path))
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "spans": pa.array([], pa.null())}), path)
    with pytest.raises(InputError, match="holds no sentence"):
        build_index(_train(path))


def test_a_file_that_changed_is_not_read_as_something_else(tmp_path: Path) -> None:
    path = _conll(tmp_path / "a.conll", 5)
    recipe = _train(path)
    index = build_index(recipe)
    _conll(path, 2)
    with pytest.raises(InputError, match=r"a\.conll: has changed since it was indexed"):
        _read(recipe, index)


def test_a_file_replaced_by_one_of_as_many_rows_is_noticed(tmp_path: Path) -> None:
    path = _conll(tmp_path / "a.conll", 5)
    parallel = _write(tmp_path / "b.txt", "x\n" * 5)
    for changed in (path, parallel):
        recipe = _train(path, input={"parallel": {"spa_Latn": str(parallel)}})
        index = build_index(recipe)
        assert _read(recipe, index).num_rows == 5
        os.utime(changed, ns=(1, 1))
        with pytest.raises(InputError, match=rf"{changed.name}: has changed since it was indexed.*--fresh"):
            _read(recipe, index)


# real text


def _spans(table: pa.Table, column: str) -> int:
    return sum(len(spans) for spans in table.column(column).to_pylist())


@needs_shared
def test_europarl() -> None:
    folder = SHARED / "data/europarl-ner"
    given = {"parallel": {"spa_Latn": str(folder / "es-europarl.test.conll02")}}
    recipe = _train(folder / "en-europarl.test.conll02", input=given)
    index = build_index(recipe)
    table = _read(recipe, index)
    assert (table.num_rows, _spans(table, "source_spans"), _spans(table, "gold_spans")) == (799, 702, 697)
    assert index.labels_found == index.gold_labels["spa_Latn"] == ["LOC", "MISC", "ORG", "PER"]
    assert set(_reasons(table)) == {None}
    assert index.repaired == 0


@needs_shared
def test_uner_pud() -> None:
    folder = SHARED / "data/uner-pud"
    languages = {"por_Latn": "pt", "swe_Latn": "sv"}
    given = {"parallel": {lang: str(folder / f"{name}_pud-ud-test.iob2") for lang, name in languages.items()}}
    recipe = _train(folder / "en_pud-ud-test.iob2", targets=tuple(languages), input=given, unit_rows=300)
    table = _read(recipe)
    by_lang = {lang: table.filter(pa.compute.equal(table["lang"], lang)) for lang in languages}
    assert {lang: part.num_rows for lang, part in by_lang.items()} == dict.fromkeys(languages, 1000)
    assert _spans(by_lang["por_Latn"], "source_spans") == 1075
    assert [_spans(part, "gold_spans") for part in by_lang.values()] == [1099, 1029]
    assert set(_reasons(table)) == {None}
    own = [_read(_test(path, input={"lang": lang})) for lang, path in given["parallel"].items()]
    assert own[0].column("id").equals(own[1].column("id"))
    assert own[0].column("id").equals(by_lang["por_Latn"].column("id"))
    for part in own:
        for row in part.to_pylist():
            assert [row["text"][o["start"] : o["end"]] for o in row["offsets"]] == row["tokens"]
            assert all(before["end"] <= after["start"] for before, after in pairwise(row["offsets"]))
    # "da" is written, "de" and "a" are the words: the text is theirs.
    first = own[0].slice(0, 1).to_pylist()[0]
    assert "de a transição" in first["text"]


def test_schema_is_ours() -> None:
    assert ROW.names[0] == "row"
