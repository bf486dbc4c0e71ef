"""The user's columns: carried with their types, from files, data sets saved to disk, and runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_rows import table_from_rows
from reading import read_all, to_test, to_train, write_conll

from xner_ray.data.row import ROW, row_schema
from xner_ray.errors import InputError
from xner_ray.read.index.build import build_index


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
    recipe = to_test(tmp_path / "a.parquet", unit_rows=512)
    result = read_all(recipe)
    for name in ("when", "price", "nested", "kind"):
        assert result.schema.field(name).type == table.schema.field(name).type
        assert result.column(name).to_pylist() == table.column(name).to_pylist()
    assert result.column("id").to_pylist()[-1] == f"a.parquet:{n - 1}"
    few = read_all(to_test(tmp_path / "a.parquet", unit_rows=7, input={"sample": {"rows": 40, "seed": 3}}))
    assert few.column("nested").to_pylist() == [{"x": [row]} for row in few.column("row").to_pylist()]


def test_columns_must_be_the_same_in_every_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: its other columns differ from those of .*a\.parquet"):
        build_index(to_test(tmp_path))


def test_columns_of_parallel_text_are_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["uno", "dos"], "lang": ["es", "es"]}), tmp_path / "b.parquet")
    given = {"parallel": {"spa_Latn": str(tmp_path / "b.parquet")}}
    table = read_all(to_train(write_conll(tmp_path / "a.conll", 2), input=given))
    assert table.column("text").to_pylist() == ["uno", "dos"]
    assert table.schema == ROW


def test_sentences_of_parquet_keep_the_columns_of_their_document(tmp_path: Path) -> None:
    table = pa.table({"text": ["A b. C d.", "E f."], "n": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    result = read_all(to_test(tmp_path / "a.parquet", unit_rows=1, input={"split": "sentences"}))
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
    result = read_all(to_train(tmp_path / "saved", unit_rows=300))
    assert result.column("n").to_pylist() == list(range(2510))
    assert Counter(result.column("split").to_pylist()) == {"train": 2500, "test": 10}
    assert result.column("source_spans").to_pylist()[0] == [{"start": 0, "end": 1, "label": "PER", "score": 1.0}]
    make(0, 5).save_to_disk(tmp_path / "one")
    plain = make(0, 5).data.table.replace_schema_metadata(None)
    path = str(tmp_path / "one/data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)  # the names of the tags are in dataset_info.json alone
    assert read_all(to_train(tmp_path / "one")).num_rows == 5
    (tmp_path / "hub/data").mkdir(parents=True)
    both["train"].to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    both["test"].to_parquet(tmp_path / "hub/data/validation-00000-of-00001.parquet")
    result = read_all(to_train(tmp_path / "hub", input={"format": "dataset"}))
    assert Counter(result.column("split").to_pylist()) == {"train": 2500, "validation": 10}
    (tmp_path / "one/data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match="is missing"):
        build_index(to_train(tmp_path / "one"))


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
    rows = read_all(to_train(tmp_path / "RUN", input=run, unit_rows=1)).sort_by("row").to_pylist()
    assert [(r["id"], r["split"], r["u"], r["status"]) for r in rows] == [
        ("a", "train", 0, "ok"),
        ("b", "test", 1, "ok"),
        ("c", "train", 2, "ok"),
    ]
    assert rows[0]["source_spans"] == [{"start": 0, "end": 1, "label": "PER", "score": 0.5}]
    assert rows[0]["tokens"] is None
    (row,) = read_all(to_test(tmp_path / "RUN/rejects", input=run)).to_pylist()
    assert (row["id"], row["tokens"], row["gold_spans"], row["source_tokens"]) == ("d", ["Al", "vio"], [], None)
    _run(tmp_path / "RUN/data/por_Latn", "por_Latn", ["a"])
    with pytest.raises(InputError, match=r"2 languages.*por_Latn, spa_Latn"):
        build_index(to_train(tmp_path / "RUN", input=run))
    table = read_all(to_test(tmp_path / "RUN/data/por_Latn/part.parquet", input=run))
    assert table.column("detail")[0].as_py() == "part.parquet:0: the row's lang is por_Latn, not spa_Latn"
    strange = pq.read_table(tmp_path / "RUN/data/por_Latn/part.parquet").set_column(1, "id", pa.array([1]))
    pq.write_table(strange, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="'id' has the type int64; in a run it is string"):
        build_index(to_train(tmp_path / "x.parquet", input=run))
    for younger in ([], ["bridge_tokens", "bridge_spans", "target_tags", "evidence"]):  # older runs have them not
        part = tmp_path / "RUN/data/por_Latn/part.parquet"
        pq.write_table(pq.read_table(part).drop_columns(younger), part)
        with pytest.raises(InputError, match=r"set input\.format: run"):
            build_index(to_train(tmp_path / "RUN/data/por_Latn"))
        assert read_all(to_test(part, input={**run, "lang": "por_Latn"})).column("tokens").to_pylist() == [
            ["Al", "vio"]
        ]
