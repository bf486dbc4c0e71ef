"""Idioms of Arrow and NumPy: offsets of lists, flat values, ranges, a column replaced in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Sizes = Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]


def ints(values: pa.Array | pa.ChunkedArray) -> Ints:
    """Return numbers without nulls as int64."""
    result: Ints = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return result


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of a type are text, or nothing at all.

    >>> is_text(pa.string()), is_text(pa.dictionary(pa.int8(), pa.large_string())), is_text(pa.list_(pa.string()))
    (True, True, False)
    """
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    of_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(fits(kind) for fits in of_text)


def lengths(lists: pa.Array | pa.ChunkedArray) -> Ints:
    """Return the number of elements of each list; 0 for null."""
    return ints(pc.fill_null(pc.list_value_length(lists), 0))


def offsets(sizes: Sizes) -> Ints:
    """Return the offset of each list in the flat values, and the end of the last one.

    >>> offsets([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    return np.append(0, np.cumsum(sizes, dtype=np.int64))


def ranges(first: Ints | int, sizes: Ints) -> Ints:
    """Concatenate the ranges of sizes[i] numbers that begin at first[i].

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(sizes)
    return np.repeat(first - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)


def flat(lists: pa.Array) -> tuple[Ints, Ints, pa.StructArray]:
    """Return the row of each element, its place in the row's list, and the elements. No Python object is made."""
    sizes = lengths(lists)
    return np.repeat(np.arange(len(sizes)), sizes), ranges(0, sizes), lists.flatten()


def nested(
    sizes: Sizes,
    values: pa.Array,
    kind: pa.ListType | None = None,
    *,
    null: NDArray[np.bool_] | pa.Array | None = None,
) -> pa.Array:
    """Return flat values as lists of these sizes, the reverse of `flat`. null: the rows whose cell is null."""
    mask = None if null is None else pa.array(null)
    return pa.ListArray.from_arrays(pa.array(offsets(sizes), pa.int32()), values, type=kind, mask=mask)


def nested_structs(sizes: Sizes, fields: Mapping[str, Any], kind: pa.ListType) -> pa.Array:
    """Return lists of structs from the flat values of each field, cast to the field's type."""
    values = [pa.array(fields[field.name], field.type) for field in kind.value_type]
    return nested(sizes, pa.StructArray.from_arrays(values, fields=list(kind.value_type)), kind)


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the table with other values in one column, which keeps its place, its type and its metadata."""
    position = table.schema.get_field_index(name)
    return table.set_column(position, table.schema.field(position), values)
