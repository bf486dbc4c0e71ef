"""A unit on its way through Ray: one row with its name, its table as Arrow IPC, and what has been counted.

A block is one task and holds the units of one bundle (`bundles.py`), so nothing splits or infers a unit, on CPU and on
GPU alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

_ENVELOPE = pa.schema([("unit", pa.string()), ("rows", pa.large_binary()), ("counted", pa.string())])


def pack(unit: str, table: pa.Table, counted: Mapping[str, Any]) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = sink.getvalue()
    ends = pa.array([0, data.size], type=pa.int64()).buffers()[1]
    rows = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])  # without copying it
    return pa.table([pa.array([unit]), rows, pa.array([json.dumps(counted)])], schema=_ENVELOPE)


def unpack(batch: pa.Table) -> Iterator[tuple[str, pa.Table, dict[str, Any]]]:
    """Yield name, rows and counters of each unit."""
    for unit, rows, counted in zip(*batch.columns, strict=True):
        yield unit.as_py(), pa.ipc.open_stream(rows.as_buffer()).read_all(), json.loads(counted.as_py())
