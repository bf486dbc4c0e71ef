"""References of pictures on their way into rows: from every format that has columns, and never their bytes."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import to_test, to_train

from xner_ray.data.row import IMAGES, ROW, row_schema
from xner_ray.errors import InputError, RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.read.inputs import shared_folders
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe

SPANS = [{"start": 0, "end": 3, "label": "PER"}]
_HUB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _read(recipe: Recipe) -> pa.Table:
    index = build_index(recipe)
    table = pa.concat_tables(
        [read_unit(unit, ReadPlan(recipe, index.extra, shared_folders(recipe))) for unit in index.units]
    )
    assert table.schema == row_schema(index.extra, images=True)
    return table


def _recipe(path: Path, column: str = "photo", **given: Any) -> Recipe:
    return to_train(path, input={"columns": {"image": column}, **given})


def _lines(path: Path, *photos: Any) -> Path:
    rows = [{"text": f"Ada {n} waves .", "spans": SPANS, "photo": photo, "n": n} for n, photo in enumerate(photos)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_references_of_jsonl(tmp_path: Path) -> None:
    path = _lines(
        tmp_path / "a.jsonl", "x.png", None, "", {"path": "y.png", "bytes": None}, "s3://b/z.png", 7, "a\nb\ud800"
    )
    table = _read(_recipe(path))
    assert table.column("image").to_pylist() == ["x.png", None, None, "y.png", "s3://b/z.png", None, "a�b�"]
    assert table.column("reason").to_pylist() == [None] * 5 + ["malformed", None]
    assert "photo is 7; allowed: a path or an address" in table.column("detail")[5].as_py()
    assert json.loads(table.column("extra")[0].as_py()) == {"n": 0}
    assert all(table.column(name).null_count == table.num_rows for name in IMAGES.names[1:])


def test_words_with_tags_have_pictures_too_and_a_long_reference_is_cut(tmp_path: Path) -> None:
    """A picture inside the text, as `data:`, stays outside the rows."""
    path = tmp_path / "a.jsonl"
    rows = [{"tokens": ["Ada", "waves"], "ner_tags": ["B-PER", "O"]} for _ in range(40)]
    rows[20]["photo"], rows[39]["photo"] = "x.png", "data:image/png;base64," + "A" * 100_000  # type: ignore[assignment]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = _read(_recipe(path)).column("image").to_pylist()
    assert images[20] == "x.png" and len(images[39]) < 100 and images[39].startswith("data:")
    assert images.count(None) == 38


def test_a_recipe_without_pictures_has_no_columns_of_them(tmp_path: Path) -> None:
    recipe = to_train(_lines(tmp_path / "a.jsonl", "x.png"))
    index = build_index(recipe)
    table = read_unit(index.units[0], ReadPlan(recipe, index.extra))
    assert table.schema.names == [*ROW.names, "extra"]
    assert json.loads(table.column("extra")[0].as_py())["photo"] == "x.png"


def test_relative_references_of_several_folders_begin_where_all_files_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _lines(tmp_path / name / "a.jsonl", "x.png", "../y.png", "/z.png")
    table = _read(_recipe(tmp_path / "*" / "a.jsonl"))
    assert table.column("image").to_pylist() == [
        *("one/x.png", "one/../y.png", "/z.png"),
        *("two/x.png", "two/../y.png", "/z.png"),
    ]


def test_tables_of_text(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "spans", "photo"])
        rows.writerow(["Ada waves .", json.dumps(SPANS), "x.png"])
        rows.writerow(["Ada sits .", json.dumps(SPANS), ""])
    assert _read(_recipe(tmp_path / "a.csv")).column("image").to_pylist() == ["x.png", None]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_pictures_inside_tables_are_told_by_their_place_and_not_read(
    tmp_path: Path, ending: str, monkeypatch: Any
) -> None:
    cells = [{"bytes": b"x" * 1000, "path": "x.png"}, None, {"bytes": None, "path": "y.png"}] * 3
    table = pa.table(
        {
            "text": [f"Ada {n} waves ." for n in range(9)],
            "spans": [SPANS] * 9,
            "photo": pa.array(cells, _HUB),
            "n": range(9),
        }
    )
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(table, path, row_group_size=4)
        asked: list[list[str]] = []
        read = pq.ParquetFile.iter_batches

        def batches(self: Any, *args: Any, **options: Any) -> Any:
            asked.append(options["columns"])
            return read(self, *args, **options)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", batches)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table, max_chunksize=4)
    found = _read(_recipe(path))
    assert found.column("image").to_pylist() == [f"a.{ending}#{n}" if n % 3 != 1 else None for n in range(9)]
    assert found.column("n").to_pylist() == list(range(9))
    if ending == "parquet":
        assert asked and all("photo.path" in each and "photo" not in each for each in asked)


def test_a_column_of_paths_in_a_table(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["Ada x"] * 2, "spans": [SPANS] * 2, "photo": ["x.png", None]}), tmp_path / "a.parquet"
    )
    assert _read(_recipe(tmp_path / "a.parquet")).column("image").to_pylist() == ["x.png", None]


def test_the_test_direction_has_the_pictures_of_its_input(tmp_path: Path) -> None:
    recipe = to_test(_lines(tmp_path / "a.jsonl", "x.png"), input={"columns": {"image": "photo"}})
    assert _read(recipe).column("image").to_pylist() == ["x.png"]


def test_documents_give_their_picture_to_each_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "Ada waves. She sits.", "spans": SPANS, "photo": "x.png"}) + "\n")
    assert _read(_recipe(path, split="sentences")).column("image").to_pylist() == ["x.png"] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "Ada\tB-PER\nwaves\tO\n", "input.columns.image is 'photo', which the files have not"),
        ("a.txt", "Ada waves.\n", "input.columns.image is 'photo', which the files have not"),
        (
            "a.jsonl",
            json.dumps({"text": "Ada", "spans": SPANS}),
            "input.columns.image is 'photo', which the files have not",
        ),
    ],
)
def test_files_without_the_column_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        build_index(_recipe(tmp_path / name))


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["Ada x"], "spans": [SPANS], "photo": [[1, 2]]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'photo' has the type list<.*allowed: text or \{bytes, path\}"):
        build_index(_recipe(tmp_path / "a.parquet"))


def test_files_in_two_stores_share_no_folder(tmp_path: Path, s3: Any) -> None:
    line = json.dumps({"text": "Ada waves .", "spans": SPANS, "photo": "x.png"}) + "\n"
    (tmp_path / "a.jsonl").write_text(line)
    s3.put("/bucket/b.jsonl", line.encode())
    paths = {"train": str(tmp_path / "a.jsonl"), "test": s3.uri("bucket/b.jsonl")}
    with pytest.raises(RecipeError, match=r"input\.columns\.image: .* share none; put the files into one store"):
        shared_folders(_recipe(paths))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": {"max_mb": 3}}, "images: there are no pictures; name their column under columns.image"),
        ({"columns": {"image": "i"}, "images": {"roots": ["http://h/x"]}}, "never fetched from the web"),
        ({"columns": {"image": "i"}, "images": {"max_pixels": 10**9}}, "less than or equal to 170000000"),
        ({"columns": {"image": "i"}, "carry": ["image_id"]}, "'image_id' has the name of an output column"),
    ],
)
def test_sections_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_train("a.jsonl", input=given)
