"""A unit on its way through Ray: one row with its name, its table as Arrow IPC, and what has been counted.

One row is one block is one call, so nothing bundles, splits or infers a unit, on CPU and on GPU alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from xner_ray.errors import FatalError

_ENVELOPE = pa.schema([("unit", pa.string()), ("rows", pa.large_binary()), ("counted", pa.string())])


def pack(unit: str, table: pa.Table, counted: Mapping[str, Any]) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = sink.getvalue()
    ends = pa.array([0, data.size], type=pa.int64()).buffers()[1]
    rows = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])  # without copying it
    return pa.table([pa.array([unit]), rows, pa.array([json.dumps(counted)])], schema=_ENVELOPE)


def unpack(batch: pa.Table) -> tuple[str, pa.Table, dict[str, Any]]:
    """Return unit name, rows and counters. FatalError if Ray has put several units into one call."""
    if batch.num_rows != 1:
        raise FatalError(f"a stage was called with {batch.num_rows} units; each call is one")
    table = pa.ipc.open_stream(batch.column("rows")[0].as_buffer()).read_all()
    return batch.column("unit")[0].as_py(), table, json.loads(batch.column("counted")[0].as_py())
