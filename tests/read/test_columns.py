"""A unit by whole columns is the unit row by row, and odd rows are left to the latter."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.data.tokens import sound
from xner_ray.errors import InputError
from xner_ray.read.columns import Plain, read_plain
from xner_ray.read.formats.links import link_columns
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit
from xner_ray.read.rows import ReadPlan, read_rows, read_unit
from xner_ray.read.sources import source_of
from xner_ray.recipe.model import Recipe

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("tokens", pa.list_(pa.string())),
        ("ner_tags", pa.list_(pa.string())),
        ("own", pa.float64()),
    ]
)
GOOD = [
    "Ana",
    "l'",
    "Union",
    "(",
    "5",
    "%",
    ")",
    ",",
    ".",
    '"',
    "'",
    "–",
    "$",
    "北京",
    "是",
    "²",
    "U.S.",
    "\U0001f600",
    "–5",
]
BAD = ["", "a b", "\u00a0", "\x07", "\u2028", "\u200b", "a\u200bb", "\ufeff", "a\ufeffb", "\u0301", "\u0301a", "\u3164"]
TAGS = ["O", "B-PER", "I-PER", "E-PER", "S-LOC", "L-LOC", "U-ORG", "I-LOC"]


@st.composite
def _row(draw: st.DrawFn, number: int, *, odd: bool) -> dict[str, Any]:
    """A good row, or one that may be anything."""
    words = st.sampled_from(GOOD + (BAD if odd else []))
    tags = st.sampled_from(TAGS + (["X", "B-", "B-a\tb"] if odd else []))
    tokens = draw(st.lists(words, min_size=0 if odd else 1, max_size=6))
    row = {"tokens": tokens, "ner_tags": [draw(tags) for _ in tokens], "own": draw(st.sampled_from([None, 0.5]))}
    row["id"] = draw(st.sampled_from(["same", "\t", f"s{number}"] if odd else [None, f"s{number}"]))
    row["doc_id"] = draw(st.sampled_from([None, "d", "\t"] if odd else [None, "d"]))
    if odd and draw(st.integers(0, 5)) == 0:
        row[draw(st.sampled_from(["tokens", "ner_tags"]))] = draw(st.sampled_from([None, ["B-PER"], [None]]))
    return row


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Good rows and others in any mixture; all good, all odd, and one odd among good ones are drawn often."""
    odd = draw(st.sampled_from([st.just(False), st.just(True), st.booleans(), st.integers(0, 6).map(lambda n: n == 0)]))
    rows: list[dict[str, Any]] = [{"tokens": ["Ana"], "ner_tags": ["B-PER"]}]  # an input without any label is refused
    return rows + [draw(_row(number, odd=draw(odd))) for number in range(draw(st.integers(0, 7)))]


def _indexed(folder: Path, rows: list[dict[str, Any]], target: list[dict[str, Any]] | None, **options: Any) -> Index:
    """Two files of the rows, in row groups of two."""
    for name, side in (("in", rows), ("out", target or [])):
        (folder / name).mkdir()
        for part, some in enumerate((side[:3], side[3:])):
            table = pa.Table.from_pylist(some, SCHEMA)
            table = table if name == "in" else table.drop_columns(["ner_tags"])
            pq.write_table(table, folder / name / f"{part}.parquet", row_group_size=2)
    return build_index(_recipe(folder, parallel=target is not None, **options))


def _recipe(
    folder: Path, *, parallel: bool, lang: str, direction: str, labels: Any, max_words: int, links: bool, sample: Any
) -> Recipe:
    source = {"path": str(folder / "in"), "lang": lang, "labels": labels, "max_words": max_words, "sample": sample}
    other = "spa_Latn" if direction == "train" else "eng_Latn"
    source |= {"parallel": {other: str(folder / "out")}} if parallel else {}
    source |= {"links": str(folder / "links.txt")} if links and parallel else {}
    rest = {"targets": ["spa_Latn"]} if direction == "train" else {"direction": "test", "tag": {"engine": "spacy"}}
    rest |= {"align": {"backend": "provided"}} if links and parallel else {}
    return Recipe.model_validate({"input": source, **rest, "engine": {"unit_rows": 4}})


@settings(max_examples=150)
@given(st.data())
def test_any_mixture_of_odd_and_even_rows_is_what_the_row_reader_reads(data: st.DataObject) -> None:
    rows = data.draw(_rows())
    parallel = data.draw(st.booleans())
    target = [data.draw(st.sampled_from([{**row, "id": None}, row])) for row in rows] if parallel else None
    direction = data.draw(st.sampled_from(["train", "test"]))
    options = {
        "lang": data.draw(st.sampled_from(["fra_Latn", "zho_Hans"])),
        "direction": direction,
        "labels": data.draw(st.sampled_from([{}, {"rename": {"LOC": "GPE", "PER": "PER"}}, {"keep": ["PER", "LOC"]}])),
        "max_words": data.draw(st.sampled_from([5, 1000])),
        "links": data.draw(st.booleans()),
        "sample": data.draw(st.sampled_from([None, None, {"rows": 3, "seed": 1}])),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given_links = [
            "0-0  0-0" if data.draw(st.booleans()) else data.draw(st.sampled_from(["", "9-0", "x"])) for _ in rows
        ]
        (folder / "links.txt").write_text("\n".join(given_links) + "\n")
        index = _indexed(folder, rows, target, **options)
        recipe = _recipe(folder, parallel=parallel, **options)
        for unit in index.units:
            plan = ReadPlan(recipe, index.extra)
            expected, table = read_rows(unit, plan), read_unit(unit, plan)
            assert table.equals(expected)
            assert table.schema.equals(expected.schema)
            table.validate(full=True)
            plain = _plain(unit, recipe, index)
            rejected = [number for number, status in enumerate(expected["status"].to_pylist()) if status == "rejected"]
            odd = plain.odd.tolist()
            assert set(rejected) <= set(odd)
            for number in set(odd) - set(rejected):  # mended, or a word that begins with a mark
                words = [
                    *(expected["source_tokens"][number].as_py() or ()),
                    *(expected["tokens"][number].as_py() or ()),
                ]
                assert expected["flags"][number].as_py() or not sound(words)
            good = np.delete(np.arange(len(expected)), plain.odd)
            assert plain.table.take(good).equals(expected.take(good))


def _plain(unit: Unit, recipe: Recipe, index: Index) -> Plain:
    plain = read_plain(unit, recipe, index.extra, source_of)
    assert plain is not None
    return plain


def _one(path: Path) -> tuple[Recipe, Index]:
    recipe = Recipe.model_validate({"input": {"path": str(path)}, "targets": ["spa_Latn"]})
    return recipe, build_index(recipe)


def test_tags_that_are_numbers_go_by_their_names(tmp_path: Path) -> None:
    feature = {"feature": {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})}
    table = pa.table({"tokens": [["Ana", "Ruiz", "va"]], "ner_tags": pa.array([[1, 2, 0]], pa.list_(pa.int64()))})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    recipe, index = _one(tmp_path / "a.parquet")
    plain = _plain(index.units[0], recipe, index)
    assert not len(plain.odd)
    assert plain.table.equals(read_rows(index.units[0], ReadPlan(recipe, index.extra)))
    assert plain.table.column("source_spans").to_pylist() == [[{"start": 0, "end": 2, "label": "PER", "score": 1.0}]]


def test_text_that_is_not_utf8_is_read_row_by_row(tmp_path: Path) -> None:
    words = pa.array([[b"Ana", b"\xff"], [b"va"]]).cast(pa.list_(pa.binary()))
    values = pa.Array.from_buffers(pa.string(), 3, words.flatten().buffers())
    tokens = pa.ListArray.from_arrays(words.offsets, values)
    pq.write_table(pa.table({"tokens": tokens, "ner_tags": [["O", "O"], ["O"]]}), tmp_path / "a.parquet")
    recipe, index = _one(tmp_path / "a.parquet")
    assert read_plain(index.units[0], recipe, index.extra, source_of) is None
    assert read_unit(index.units[0], ReadPlan(recipe, index.extra)).column("reason").to_pylist() == ["bad_utf8", None]


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"tokens": [["Ana"]], "ner_tags": [["O"]]}), tmp_path / "a.parquet")
    recipe, index = _one(tmp_path / "a.parquet")
    pq.write_table(pa.table({"tokens": [["Ana", "va"]], "ner_tags": [["O", "O"]]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has another size or time"):
        read_plain(index.units[0], recipe, index.extra, source_of)


def test_rows_are_odd_by_themselves_where_tags_are_numbers(tmp_path: Path) -> None:
    tags = pa.array([[0], [1], [7], [-1], [None], None], pa.list_(pa.int8()))
    features = {"ner_tags": {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"tokens": [["Ana"]] * 6, "ner_tags": tags}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    recipe, index = _one(tmp_path / "a.parquet")
    assert _plain(index.units[0], recipe, index).odd.tolist() == [2, 3, 4, 5]
    plan = ReadPlan(recipe, index.extra)
    assert read_unit(index.units[0], plan).equals(read_rows(index.units[0], plan))


def test_lines_of_links() -> None:
    row, source, target, bad = link_columns([b"0-1 2-3", b"", b" 10-0\t"])
    assert [part.tolist() for part in (row, source, target)] == [[0, 0, 2], [0, 2, 10], [1, 3, 0]]
    assert not bad.any()
    for wrong in (b"0-1,2-3", b"0-", b"1234567890-0", b"0-1x", "٣-0".encode(), b"\xff", b"0-1\r0-1"):
        row, source, target, bad = link_columns([b"0-0", wrong, b"1-2"])
        assert [part.tolist() for part in (row, source, target)] == [[0, 2], [0, 1], [0, 2]]
        assert bad.tolist() == [False, True, False]
    assert not link_columns([b"0-0 " * 50_000] * 2)[-1].any()
