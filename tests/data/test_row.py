import json

import pyarrow as pa
import pytest
from made_rows import table_from_rows

from xner_ray.data import row
from xner_ray.errors import InputError, Reason


def test_fill_replaces_cells_and_rejects_rows_without_moving_any() -> None:
    table = table_from_rows([{"row": n, "tokens": ["x"]} for n in range(3)], row.row_schema())
    filled = row.fill(table, {"tokens": {2: ["y"]}}, {1: (Reason.EMPTY, "why")})
    assert filled.schema.equals(table.schema)
    assert filled.column("row").to_pylist() == [0, 1, 2]
    assert filled.column("tokens").to_pylist() == [["x"], ["x"], ["y"]]
    assert row.accepted_rows(filled) == [0, 2]
    assert filled.to_pylist()[1]["reason"] == "empty"
    assert filled.to_pylist()[1]["detail"] == "why"


def test_with_features_lists_labels_in_order() -> None:
    metadata = row.with_features(row.ROW, ["PER", "LOC"]).metadata[b"huggingface"]
    names = json.loads(metadata)["info"]["features"]["ner_tags"]["feature"]["names"]
    assert names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


class _Code(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.binary(), "test.code")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "_Code":
        return cls()


@pytest.mark.parametrize(
    "kind",
    [
        _Code(),
        pa.list_(_Code()),
        pa.struct([("a", pa.list_(_Code()))]),
        pa.map_(pa.string(), _Code()),
    ],
)
def test_extension_types_are_refused_however_deep(kind: pa.DataType) -> None:
    with pytest.raises(InputError, match=r"file\.parquet: column .* extension type 'test\.code'.*can run code"):
        row.refuse_extension_types(pa.schema([("x", kind)]), "file.parquet")


def test_unregistered_extension_types_are_refused_by_their_metadata() -> None:
    field = pa.field("x", pa.binary(), metadata={"ARROW:extension:name": "ray.data.arrow_pickled_object"})
    with pytest.raises(InputError, match="arrow_pickled_object"):
        row.refuse_extension_types(pa.schema([pa.field("outer", pa.struct([field]))]), "file")


def test_plain_and_harmless_types_pass() -> None:
    kinds = [pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.int8(), 2), pa.uuid(), pa.map_(pa.string(), pa.int8())]
    row.refuse_extension_types(pa.schema([(str(n), kind) for n, kind in enumerate(kinds)]), "file")


def test_colliding_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"f: column 'links' has the name of an output column.*input\.columns"):
        row.refuse_collisions(["mine", "links"], "f")
