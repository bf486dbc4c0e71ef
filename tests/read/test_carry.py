"""Columns of the user's that come along: from every format into the rows, the data set and the exports."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xner_ray.errors import InputError, RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.write import jsonl

IMAGE = {"path": "a.jpg", "box": [0, 1.5, None]}


def _read(path: Path, **given: Any) -> pa.Table:
    recipe = load_recipe({"input": {"path": str(path), **given}, "targets": ["spa_Latn"]})
    index = build_index(recipe)
    return pa.concat_tables([read_unit(unit, ReadPlan(recipe, index.extra)) for unit in index.units])


def _jsonl(folder: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps({"text": "Al", "spans": [], **row}) for row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder / "a.jsonl"


def test_columns_of_jsonl_are_text_as_it_is_and_json_of_all_else(tmp_path: Path) -> None:
    rows = [{"image": image} for image in ("a.jpg", "", "é\u2028", 7, True, None, IMAGE, [], "7", "\ud800", ["\ud800"])]
    table = _read(_jsonl(tmp_path, *rows, {}, "no JSON", {"other": 1}), carry=["image"])
    assert table.schema.field("image").type == pa.string()
    assert table.column("image").to_pylist() == [
        *("a.jpg", "", "é\u2028", "7", "true", None, json.dumps(IMAGE, sort_keys=True), "[]", "7"),
        *("\ufffd", r'["\ud800"]', None, None, None),
    ]
    assert "extra" not in table.column_names  # what is not named stays behind


def test_several_columns_come_in_one_order_and_none_if_none_is_wanted(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, {"z": 1, "a": 2, "extra": 3})
    first, second = (_read(path, carry=names) for names in (["z", "a", "extra"], ["extra", "a", "z"]))
    assert first.equals(second)
    assert first.column_names[-3:] == ["a", "extra", "z"]
    assert _read(path, carry=[]).column_names[-1] == "detail"
    assert _read(path).column("extra").to_pylist() == ['{"a": 2, "extra": 3, "z": 1}']


def test_an_index_that_was_written_is_the_same(tmp_path: Path) -> None:
    path = str(_jsonl(tmp_path, {"image": 1}))
    recipe = load_recipe({"input": {"path": path, "carry": ["image"]}, "targets": ["spa_Latn"]})
    index = build_index(recipe)
    assert Index.from_table(index.to_table()).bound(recipe) == index
    assert Index.from_table(index.to_table()).to_table().equals(index.to_table())  # as rematch writes it again


def test_columns_of_tables_keep_their_types_and_the_others_stay_behind(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"\0\xff", "path": "x"}, None])
    table = pa.table({"tokens": [["A"], ["b"]], "ner_tags": [["B-PER"], ["O"]], "image": image, "big": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    read = _read(tmp_path / "a.parquet", carry=["image"])
    assert read.schema.field("image").type == image.type
    assert read.column("image").to_pylist() == image.to_pylist()
    assert "big" not in read.column_names
    assert {"big", "image"} <= set(_read(tmp_path / "a.parquet").column_names)
    # A column with the name of one of ours is refused, unless it is left out
    pq.write_table(table.append_column("links", pa.array(["", ""])), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column .links. has the name of an output column; .*input\.carry"):
        _read(tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet", carry=["image"]).column("links").null_count == 2


def test_a_run_feeds_its_columns_back(tmp_path: Path) -> None:
    read = _read(_jsonl(tmp_path, {"image": IMAGE, "page": "3"}), carry=["image", "page"])
    folder = tmp_path / "run" / "data" / "swh_Latn"
    folder.mkdir(parents=True)
    pq.write_table(read, folder / "train-00000-of-00001.parquet")
    again = _read(tmp_path / "run", format="run", carry=["image"])
    assert again.column("image").equals(read.column("image"))
    assert "page" not in again.column_names
    assert _read(tmp_path / "run", format="run").column("page").to_pylist() == ["3"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"carry": ["text"]}, "carry: 'text' is read as columns.text already"),
        ({"carry": ["body"], "columns": {"text": "body"}}, "carry: 'body' is read as columns.text already"),
        ({"carry": ["evidence"]}, "carry: 'evidence' has the name of an output column"),
        ({"carry": ["a", "a"]}, r"carry: \['a', 'a'\]; allowed: names of columns, each once"),
        ({"carry": [""]}, "allowed: names of columns"),
        ({"carry": ["a\n"]}, "allowed: names of columns"),
        ({"carry": "image"}, "input.carry is 'image': input should be a valid list"),
        (
            {"carry": ["image"], "format": "conll"},
            "format conll has no columns; allowed: jsonl, json, parquet, dataset, run",
        ),
    ],
)
def test_names_that_cannot_be_carried_are_errors_of_the_recipe(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe({"input": {"path": "a", **given}, "targets": ["spa_Latn"]})


def test_columns_that_are_not_there_are_errors_of_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl: input.carry: no row has the key 'imge'"):
        _read(_jsonl(tmp_path, {"image": "x"}, {}), carry=["image", "imge"])
    pq.write_table(pa.table({"tokens": [["A"]], "ner_tags": [["O"]], "image": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column imge is missing; did you mean 'image'"):
        _read(tmp_path / "a.parquet", carry=["imge"])
    (tmp_path / "a.conll").write_text("A O\n")
    with pytest.raises(InputError, match="format conll has no columns to carry"):
        _read(tmp_path / "a.conll", carry=["image"])


def test_what_is_carried_is_in_the_fingerprint_in_any_order() -> None:
    keys = []
    for carry in (None, ["a", "b"], ["b", "a"]):
        recipe = load_recipe({"input": {"path": "a.jsonl", "carry": carry}, "targets": ["spa_Latn"]})
        keys.append(fingerprint(recipe, {}, {}, {}))
    assert keys[0] != keys[1] == keys[2]


ROW = {"id": "x", "lang": "spa_Latn", "text": "va", "source_text": "goes", "tokens": ["va"], "spans": [], "offsets": []}


def test_jsonl_exports_carry_columns_of_any_type() -> None:
    values = {
        "image": "a.jpg",
        "bytes": b"\0\xff",
        "at": datetime.datetime(2026, 1, 2, 3),
        "score": math.nan,
        "deep": [{"a": (1, b"x"), "b": math.inf}],
        "none": None,
        "flag": True,
    }
    (line,) = jsonl.write([{**ROW, "status": "ok", **values}])
    record = json.loads(line)
    assert {name: record[name] for name in values} == {
        "image": "a.jpg",
        "bytes": "AP8=",
        "at": "2026-01-02 03:00:00",
        "score": None,
        "deep": [{"a": [1, "eA=="], "b": None}],
        "none": None,
        "flag": True,
    }
    assert "status" not in record
    with pytest.raises(InputError, match="row x: the carried column 'tags' has the name of a key of this export"):
        list(jsonl.write([{**ROW, "tags": "sport"}]))
