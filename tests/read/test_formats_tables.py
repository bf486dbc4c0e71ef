"""Parquet and Arrow files -> records, also where their columns want to run code."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import file_of, records_of

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.mapping import char_span
from xner_ray.read.record import File
from xner_ray.read.records import read_records


def test_struct_of_lists_and_numbered_labels() -> None:
    assert char_span((0, 1, 1), 3, ["PER", "LOC"]) == (0, 1, "LOC")


def _parquet(tmp_path: Path, table: pa.Table, name: str = "a.parquet", **options) -> File:
    pq.write_table(table, tmp_path / name, **options)
    return File(str(tmp_path / name), name, "parquet", "eng_Latn")


def test_parquet_class_labels_and_row_groups(tmp_path: Path) -> None:
    features = {"ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"tokens": [["A", "b"], ["c"], ["d"]], "ner_tags": [[1, 0], [0], [5]], "n": [1, 2, 3]})
    file = _parquet(tmp_path, table.replace_schema_metadata(metadata), row_group_size=2)
    records = records_of(file)
    assert [r.spans for r in records] == [[Span(0, 1, "PER")], [], None]
    assert records[2].reason is Reason.ILLEGAL_TAG
    assert [place and tuple(place[:2]) for place, _ in read_records(file)] == [(0, 0), None, (1, 2)]
    assert [r.extra[0].column("n")[r.extra[1]].as_py() for r in records] == [1, 2, 3]
    assert [r.line for _, r in read_records(file, skip=2)] == [2]


def test_parquet_spans_as_structs_and_as_struct_of_lists(tmp_path: Path) -> None:
    spans = [[{"start": 0, "end": 2, "label": "PER"}], None]
    first, second = records_of(_parquet(tmp_path, pa.table({"text": ["Al x", "y"], "spans": spans})))
    assert (first.chars, second.chars) == ([(0, 2, "PER")], None)
    lists = pa.table({"text": ["Al x"], "spans": [{"start": [0], "end": [2], "label": ["PER"]}]})
    assert records_of(_parquet(tmp_path, lists))[0].chars == [(0, 2, "PER")]


def test_parquet_bad_utf8_is_one_row(tmp_path: Path) -> None:
    text = pa.array([b"ok", b"bad\xff", b"ok"], pa.binary()).view(pa.string())
    tokens = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]).cast(pa.int32()), text)
    records = records_of(_parquet(tmp_path, pa.table({"tokens": tokens})))
    assert [(r.tokens, r.reason) for r in records] == [
        (["ok"], None),
        (["bad\ufffd"], Reason.BAD_UTF8),
        (["ok"], None),
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"txt": ["a"]}), r"tokens \(or text\) is missing.*columns: txt"),
        (pa.table({"text": ["a"], "lang": ["b"]}), "'lang' has the name of an output column"),
        (pa.table({"text": [1]}), "'text' has the type int64"),
        (pa.table({"tokens": ["a"]}), "'tokens' has the type string"),
        (pa.table({"tokens": [["a"]], "ner_tags": [[1]]}), "no ClassLabel"),
        (pa.table([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), "two columns have the same name"),
    ],
)
def test_parquet_files_that_cannot_be_used(tmp_path: Path, table: pa.Table, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        records_of(_parquet(tmp_path, table))
    assert "a.parquet" in str(error.value)


def test_not_parquet_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        records_of(file_of(tmp_path, "hello", "parquet", "a.parquet"))
    with pytest.raises(InputError, match=r"a\.arrow: cannot be read as Arrow"):
        records_of(file_of(tmp_path, "hello hello hello", "dataset", "a.arrow"))


class _Own(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.string(), "test.own")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "_Own":
        return cls()


def _arrow_stream(path: Path, table: pa.Table, rows: int = 2) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("nested", [False, True])
def test_extension_types_are_refused_registered_or_not(tmp_path: Path, suffix: str, nested: bool) -> None:
    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    unknown = pa.field("x", pa.binary(), metadata=metadata)
    if nested:
        unknown = pa.field("x", pa.list_(pa.struct([unknown])))
    values = pa.array([[{"x": b"code"}]] if nested else [b"code"], unknown.type)
    known = pa.ExtensionArray.from_storage(_Own(), pa.array(["a"]))
    pa.register_extension_type(_Own())
    try:
        for field, array, name in (
            (unknown, values, "ray.data.arrow_pickled_object"),
            (pa.field("y", known.type), known, "test.own"),
        ):
            table = pa.table([pa.array(["a"]), array], schema=pa.schema([("text", pa.string()), field]))
            path = tmp_path / f"e.{suffix}"
            if suffix == "arrow":
                _arrow_stream(path, table)
            else:
                pq.write_table(table, path)
            with pytest.raises(InputError, match=name):
                records_of(File(str(path), path.name, "dataset", "eng_Latn"))
    finally:
        pa.unregister_extension_type("test.own")


@pytest.mark.parametrize("dictionary", [False, True])
def test_arrow_stream_batches_are_places(tmp_path: Path, dictionary: bool) -> None:
    kind = pa.dictionary(pa.int32(), pa.string()) if dictionary else pa.string()
    table = pa.table({"text": [f"t{i}" for i in range(5)], "tag": pa.array(list("ababa")).cast(kind)})
    _arrow_stream(tmp_path / "s.arrow", table)
    file = File(str(tmp_path / "s.arrow"), "s.arrow", "dataset", "eng_Latn")
    pairs = list(read_records(file))
    assert [r.text for _, r in pairs] == [f"t{i}" for i in range(5)]
    places = [place for place, _ in pairs if place]
    assert [place.line for place in places] == ([0] if dictionary else [0, 2, 4])
    for place in places:
        assert [r.line for _, r in read_records(file, place)] == list(range(place.line, 5))


@pytest.mark.parametrize("dictionary", [False, True])
def test_an_arrow_stream_cut_anywhere_is_an_error(tmp_path: Path, dictionary: bool) -> None:
    kind = pa.dictionary(pa.int32(), pa.string()) if dictionary else pa.string()
    table = pa.table({"text": [f"t{i}" for i in range(5)], "tag": pa.array(list("ababa")).cast(kind)})
    path = tmp_path / "s.arrow"
    _arrow_stream(path, table)
    file, whole = File(str(path), "s.arrow", "dataset", "eng_Latn"), path.read_bytes()
    places = [place for place, _ in read_records(file) if place]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"s\.arrow: cannot be read as Arrow"):
            records_of(file)
    path.write_bytes(whole[:-8])
    for place in places:
        with pytest.raises(InputError, match="cut off: no end-of-stream marker"):
            list(read_records(file, place))
    _arrow_stream(path, table.slice(0, 0))
    assert records_of(file) == []
