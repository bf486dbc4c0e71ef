"""What fuzzing has found (`test_fuzz.py`), each in its smallest form: no other exception, and rejects as foreseen."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import file_of
from reading import read_all, to_train, write

from xner_ray.data.row import ROW
from xner_ray.errors import InputError, Reason
from xner_ray.read.index import scan as scanning
from xner_ray.read.index.build import build_index
from xner_ray.read.record import Raw, Stated
from xner_ray.read.records import read_records, records_of
from xner_ray.recipe.model import Recipe

LONG = "9" * 5000  # digits; Python reads 4,300 of a number


def rows_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Read all rows; fail unless the scan has foreseen which of them are rejected."""
    index = build_index(recipe)
    rows: list[dict[str, Any]] = read_all(recipe, index).to_pylist()
    found = Counter(row["reason"] for row in rows if row["reason"] not in (None, Reason.DUPLICATE_ID))
    assert {one.reason: one.rows for one in index.rejects} == found
    return rows


def test_conll_a_line_of_another_width_behind_the_first_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "a\tX\tB-PER\nb\tX\tO\n\n" * 9 + "c\tX\tO\nd\tO\n\n")
    assert [row["reason"] for row in rows_of(to_train(path))][8:] == [None, "malformed"]


@pytest.mark.parametrize("head", ["# sent_id = s2\n", "# text = of no word\n"])
def test_uner_a_sentence_that_a_comment_announces_and_no_word_follows(tmp_path: Path, head: str) -> None:
    path = write(tmp_path / "a.iob2", f"# sent_id = s1\n1\tAda\tB-PER\n\n{head}\n1\tBo\tB-PER\n")
    assert [row["reason"] for row in rows_of(to_train(path))] == [None, "empty", None]


def test_parquet_a_tag_that_is_null(tmp_path: Path) -> None:
    pq.write_table(pa.table({"tokens": [["A"], ["b"]], "ner_tags": [["B-PER"], [None]]}), tmp_path / "a.parquet")
    assert [row["reason"] for row in rows_of(to_train(tmp_path / "a.parquet"))] == [None, "illegal_tag"]


@pytest.mark.parametrize("lang", ["eng_Latn", "deu_Latn"])
def test_a_run_with_a_token_that_is_null(tmp_path: Path, lang: str) -> None:
    row = {"row": 0, "id": "s", "split": "train", "source_lang": lang, "lang": "spa_Latn", "source_text": "A b"}
    good = row | {"source_lang": "eng_Latn", "source_tokens": ["A", "b"], "source_spans": []}
    pq.write_table(pa.Table.from_pylist([good, row | {"source_tokens": ["A", None]}], ROW), tmp_path / "a.parquet")
    _, found = rows_of(to_train(tmp_path / "a.parquet", input={"format": "run"}))
    assert (found["reason"], found["source_tokens"]) == ("malformed", None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "\u200b \u2060", "spans": []}, "empty"),
        ({"tokens": [], "text": "x", "ner_tags": []}, "empty"),
        ({"tokens": ["\u200b"], "ner_tags": ["O"]}, "empty"),
        ({"text": "Al x", "tokens": ["Al", "y"], "spans": [{"start": 0, "end": 2, "label": "PER"}]}, "malformed"),
        ({"text": "Al \u200b x", "spans": [{"start": 3, "end": 4, "label": "PER"}]}, "bad_span"),
        ({"text": "lo \u0301 x", "spans": [{"start": 3, "end": 4, "label": "PER"}]}, "bad_span"),
    ],
)
def test_rejects_that_the_scan_foresees(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    same = {key: value for key, value in {"text": "Al", "tokens": ["Al"]}.items() if key in row}
    same |= {"ner_tags": ["O"]} if "ner_tags" in row else {"spans": [{"start": 0, "end": 2, "label": "PER"}]}
    assert [found["reason"] for found in rows_of(to_train(write(tmp_path / "a.jsonl", same, row)))] == [None, reason]


def test_a_message_is_one_line_whatever_it_quotes(tmp_path: Path) -> None:
    row = {"text": "x", "split": "a\n\x1b[2J\u2028" + "b" * 2000, "spans": []}
    good = {"text": "y", "spans": [{"start": 0, "end": 1, "label": "PER"}]}
    found = rows_of(to_train(write(tmp_path / "a.jsonl", good, row)))[1]
    assert found["detail"].isprintable() and len(found["detail"]) <= 600
    assert found["detail"].startswith("a.jsonl:2: split is") and found["detail"].endswith("validation, test")
    path = write(tmp_path / "b.jsonl", {"\x1b[2J\n": [1.5], "x" * 5000: 1})
    with pytest.raises(InputError, match=r"b\.jsonl: no key holds text.*set input.columns: {text: KEY}$") as error:
        build_index(to_train(path))
    assert str(error.value).isprintable() and len(str(error.value)) <= 1200


@pytest.mark.parametrize(
    ("format", "content", "stated"),
    [
        ("webanno", f"#FORMAT=WebAnno TSV 3.3\n\n#Text=x\n1-1\t0-{LONG}\tx\n", Stated()),
        ("brat", f"T1\tPER 0 {LONG}\tx\n", Stated()),
        ("conll", f"x\t{LONG}\n", Stated(names=("O",))),
    ],
)
def test_numbers_of_thousands_of_digits(tmp_path: Path, format: str, content: str, stated: Stated) -> None:
    (tmp_path / "a.txt").write_text("x")
    file = file_of(tmp_path, content, format, "a.ann", stated=stated)
    records = [record for _, record in read_records(file)]
    assert all(record.reason or record.tokens for record in records)


def test_table_a_tag_of_thousands_of_digits(tmp_path: Path) -> None:
    file = file_of(tmp_path, "", "table", stated=Stated(names=("O", "B-PER")))
    raw = Raw(None, 2, {"id": None, "doc": None, "words": ["x"], "ner_tags": [LONG], "fault": ""})
    assert records_of(raw, file)[0].reason == Reason.ILLEGAL_TAG


def test_numbers_of_thousands_of_digits_tell_no_format(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", f"{LONG}\tx\n" * 30)
    with pytest.raises(InputError, match=r"a\.txt"):
        build_index(to_train(path))


def test_an_arrow_stream_whose_lists_leave_their_buffers_is_refused(tmp_path: Path) -> None:
    """pyarrow reads other memory there, and dies of it."""
    offsets = pa.array([0, 1, 2**30, 2], pa.int32()).buffers()[1]
    words = pa.array(["Ada", "b"])
    tokens = pa.Array.from_buffers(pa.list_(pa.string()), 3, [None, offsets], children=[words])
    batch = pa.record_batch({"tokens": tokens, "ner_tags": tokens})
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"arrow: cannot be read as Arrow stream \(.*out of bounds"):
        build_index(to_train(tmp_path))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.conll", "-DOCSTART- (d\x00)\n\n"),
        ("a.conll", "# doc_id = d\x00\n"),
        ("a.conll2012", "#begin document (d\x00)\n"),
    ],
)
def test_a_document_id_with_a_control_character_costs_no_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: str
) -> None:
    """Nor could a piece of the file foresee it that begins behind the id."""
    line = "x B-PER\n\n" if name == "a.conll" else "x 0 0 Ada NN * - - - Sp (PER) -\n\n"
    recipe = to_train(write(tmp_path / name, head + line * 30))
    whole = build_index(recipe)
    assert {row["doc_id"] for row in rows_of(recipe)} == {"d\ufffd"}
    monkeypatch.setattr(scanning, "GRID_BYTES", 16)
    monkeypatch.setattr(scanning, "PIECE_BYTES", 64)
    assert build_index(recipe).rejects == whole.rejects == []


@pytest.mark.parametrize(
    "odd",
    [
        {"data": {"text": "Al"}, "annotations": 7},
        {"data": {"text": "Al"}, "annotations": [{"result": "x"}]},
        {"passages": [{"text": ["Al"], "offsets": [[10**15, 10**15 + 2]]}], "entities": []},
        {"passages": [{"text": ["Al"], "offsets": [[-1, 1]]}], "entities": []},
    ],
)
def test_objects_of_tools_with_values_of_another_kind(tmp_path: Path, odd: dict[str, Any]) -> None:
    region = {"type": "labels", "value": {"start": 0, "end": 2, "labels": ["PER"]}}
    task = {"data": {"text": "Al"}, "annotations": [{"result": [region]}]}
    passage = {"text": ["Al"], "offsets": [[0, 2]]}
    entity = {"text": ["Al"], "offsets": [[0, 2]], "type": "PER"}
    good = task if "data" in odd else {"passages": [passage], "entities": [entity]}
    rows = rows_of(to_train(write(tmp_path / "a.jsonl", good, odd)))
    assert [row["reason"] for row in rows] == [None, "malformed"]


def test_a_saved_dataset_that_lists_no_names(tmp_path: Path) -> None:
    for entry in ({}, 7, {"file": "x"}):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [entry]}))
        with pytest.raises(InputError, match=r"state\.json lists .* names no file"):
            build_index(to_train(tmp_path))


def test_a_saved_dataset_with_another_column_that_could_hold_spans(tmp_path: Path) -> None:
    entities = [[{"start": 0, "end": 2, "label": "PER"}]]
    table = pa.table({"text": ["Al"], "spans": entities, "entities": entities})
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (row,) = rows_of(to_train(tmp_path))
    assert row["entities"] == entities[0]


def test_a_saved_dataset_that_lists_a_file_twice(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"tokens": ["Ada"], "ner_tags": ["B-PER"]}]).save_to_disk(str(tmp_path))
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(state | {"_data_files": state["_data_files"] * 2}))
    with pytest.raises(InputError, match=r"state\.json lists data-00000-of-00001\.arrow twice; leave one out$"):
        build_index(to_train(tmp_path))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_column_whose_name_is_not_utf8(tmp_path: Path, name: str) -> None:
    table = pa.table({"tokens": [["Ada"]], "ner_tags": [["B-PER"]], "extra_column": ["x"]})
    folder = tmp_path / "saved"
    folder.mkdir()
    if name == "a.parquet":
        pq.write_table(table, folder / name, store_schema=False)
    else:
        with pa.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(table)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data.replace(b"extra_column", b"extra_\xec\xe8umn"))
    with pytest.raises(InputError, match=r"cannot be read as (Parquet|Arrow stream)") as error:
        build_index(to_train(folder))
    assert str(error.value).isprintable()


def test_a_label_that_begins_with_a_sign(tmp_path: Path) -> None:
    tags = ["B--DOCSTART-", "I--DOCSTART-", "O", "B-PER"]
    path = write(tmp_path / "a.conll", ("".join(f"w\t{tag}\n" for tag in tags) + "\n") * 9)
    (label,) = {span["label"] for row in rows_of(to_train(path)) for span in row["source_spans"]} - {"PER"}
    assert label == "-DOCSTART-"
