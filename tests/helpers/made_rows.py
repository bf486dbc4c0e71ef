"""Tables of rows from dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from xner_ray.data.row import OK


def table_from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of `schema`; keys that a row lacks are null, but `status` is then "ok"."""
    return pa.Table.from_pylist([{**row, "status": row.get("status") or OK} for row in rows], schema)
