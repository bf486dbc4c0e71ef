"""Vectors of pictures that are kept for further units and runs, in Parquet files below a folder or an address.

A vector's key is the SHA-256 of the picture's bytes; the folder's name says all else that it depends on. Files are
written whole, one a unit, and never change; what is damaged is ignored, and made again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xner_ray.errors import InputError, StorageError
from xner_ray.storage import files as storage

_LAYOUT = "1"
_FILES = 32  # that are remembered


class VectorCache:
    """Vectors by the SHA-256 of their pictures, in hexadecimal. parts: all that a vector depends on beside these."""

    def __init__(self, folder: str, *parts: str) -> None:
        name = hashlib.sha256("\0".join((_LAYOUT, *parts)).encode()).hexdigest()[:32]
        self.folder = storage.join(folder, name)
        self._places: dict[bytes, str] = {}
        self._known: set[str] = set()
        self._read = lru_cache(maxsize=_FILES)(_read)

    def find(self, identity: str) -> NDArray[np.float16] | None:
        """Return the vector of a picture, if it was there at the last `look`."""
        key = bytes.fromhex(identity)
        path = self._places.get(key)
        return None if path is None else self._read(path).get(key)

    def add(self, vectors: Mapping[str, NDArray[np.float16]]) -> None:
        """Publish vectors as one file."""
        if not vectors:
            return
        ids = sorted(vectors)
        kind = pa.binary(2 * len(vectors[ids[0]]))
        table = pa.table(
            [
                pa.array([bytes.fromhex(one) for one in ids], pa.binary(32)),
                pa.array([vectors[one].astype("<f2").tobytes() for one in ids], kind),
            ],
            ["id", "vector"],
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="none")
        name = hashlib.sha256("".join(ids).encode()).hexdigest()[:32]
        storage.publish(storage.join(self.folder, f"{name}.parquet"), sink.getvalue())

    def look(self) -> None:
        """Note what files hold that were not there at the last look, whoever has written them."""
        for info in storage.files_below(self.folder, recursive=False):
            if info.base_name in self._known or info.extension != "parquet":
                continue
            self._known.add(info.base_name)
            path = storage.join(self.folder, info.base_name)
            self._places |= dict.fromkeys(self._read(path), path)


def _read(path: str) -> dict[bytes, NDArray[np.float16]]:
    """Return the vectors of a file; none of one that is damaged or gone. ServiceError if a store may answer later."""
    try:
        table = pq.ParquetFile(pa.BufferReader(storage.read_bytes(path))).read(columns=["id", "vector"])
        ids, vectors = (table.column(name) for name in ("id", "vector"))
    except (pa.ArrowException, ValueError, OSError, KeyError, StorageError, InputError):
        return {}
    kind = vectors.type
    if ids.type != pa.binary(32) or not pa.types.is_fixed_size_binary(kind) or kind.byte_width % 2:
        return {}
    found = {}
    for one, data in zip(ids.to_pylist(), vectors.to_pylist(), strict=True):
        vector = np.frombuffer(data or b"", dtype="<f2")
        if vector.any() and np.isfinite(vector).all():  # no model makes zeros
            found[one] = vector
    return found
