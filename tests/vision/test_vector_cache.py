"""Vectors that are kept: what is damaged, of other types or gone is made again, and raises nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xner_ray.vision.cache import VectorCache

ID = "ab" * 32
VECTOR = np.array([1, 2], dtype=np.float16)


def _table(**columns: pa.Array) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "x.parquet")


def _nested(folder: Path) -> None:
    (folder / "below").mkdir()
    _table(id=pa.array([bytes(32)]), vector=pa.array([b"ab"]))(folder / "below")


IDS, FIXED = pa.array([bytes.fromhex(ID)], pa.binary(32)), pa.binary(4)
POISON = {
    "nested": _nested,
    "no vectors": _table(id=IDS),
    "null": _table(id=IDS, vector=pa.array([None], pa.binary())),
    "lists": _table(id=IDS, vector=pa.array([[1.0, 2.0]])),
    "text": _table(id=IDS, vector=pa.array(["abcd"])),
    "odd": _table(id=IDS, vector=pa.array([b"abc"], pa.binary(3))),
    "ids that are lists": _table(id=pa.array([[1]]), vector=pa.array([b"abcd"], FIXED)),
    "zeros": _table(id=IDS, vector=pa.array([bytes(4)], FIXED)),
    "not finite": _table(id=IDS, vector=pa.array([np.array([np.nan, 1], np.float16).tobytes()], FIXED)),
    "no Parquet": lambda folder: (folder / "x.parquet").write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("kind", POISON)
def test_what_is_no_file_of_vectors_is_as_if_it_were_not_there(kind: str, tmp_path: Path) -> None:
    cache = VectorCache(str(tmp_path), "model")
    Path(cache.folder).mkdir()
    POISON[kind](Path(cache.folder))
    cache.look()
    assert cache.find(ID) is None
    cache.add({ID: VECTOR})
    cache.look()
    found = cache.find(ID)
    assert found is not None and found.tolist() == [1, 2]


def test_a_file_that_is_gone_is_none_of_the_cache(tmp_path: Path) -> None:
    cache = VectorCache(str(tmp_path), "model")
    cache.add({ID: VECTOR})
    cache.look()
    for path in Path(cache.folder).iterdir():
        path.unlink()
    cache._read.cache_clear()
    assert cache.find(ID) is None


def test_other_models_have_other_files(tmp_path: Path) -> None:
    VectorCache(str(tmp_path), "model", "a").add({ID: VECTOR})
    for parts, known in ((("model", "b"), False), (("model",), False), (("model", "a"), True)):
        other = VectorCache(str(tmp_path), *parts)
        other.look()
        assert (other.find(ID) is not None) == known
