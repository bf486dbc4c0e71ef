"""Idioms of Arrow and NumPy against loops over Python objects."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data import arrow

KIND = pa.list_(pa.struct([("word", pa.int32()), ("tag", pa.string())]))
LISTS = st.lists(st.none() | st.lists(st.tuples(st.integers(0, 9), st.sampled_from("AB")), max_size=4), max_size=6)


@given(LISTS)
def test_flat_lists_can_be_nested_again(lists: list[list[tuple[int, str]] | None]) -> None:
    column = pa.array(
        [[{"word": w, "tag": t} for w, t in cells or ()] if cells is not None else None for cells in lists], KIND
    )
    expected = [(row, place, *cell) for row, cells in enumerate(lists) for place, cell in enumerate(cells or ())]
    row, place, cells = arrow.flat(column)
    words, tags = arrow.ints(cells.field("word")), cells.field("tag")
    assert list(zip(row.tolist(), place.tolist(), words.tolist(), tags.to_pylist(), strict=True)) == expected
    sizes = arrow.lengths(column)
    assert arrow.nested(sizes, cells, KIND, null=column.is_null()).equals(column)
    filled = pa.array([cells or [] for cells in column.to_pylist()], KIND)
    assert arrow.nested_structs(sizes, {"tag": tags, "word": words}, KIND).equals(filled)


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 4)), max_size=8))
def test_ranges_and_offsets(pairs: list[tuple[int, int]]) -> None:
    first, sizes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    assert arrow.ranges(first, sizes).tolist() == [n for begin, size in pairs for n in range(begin, begin + size)]
    assert arrow.offsets(sizes).tolist() == [int(sizes[:end].sum()) for end in range(len(sizes) + 1)]


def test_a_replaced_column_keeps_its_place_and_its_metadata() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), metadata={"of": "a"}), ("b", pa.int64())], metadata={"of": "table"})
    table = arrow.with_column(pa.table({"a": [1], "b": [2]}, schema=schema), "a", pa.array([3]))
    assert table.schema.equals(schema, check_metadata=True)
    assert table.to_pylist() == [{"a": 3, "b": 2}]
