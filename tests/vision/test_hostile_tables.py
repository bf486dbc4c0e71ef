"""Tables of pictures that want to do harm: bombs, columns of one name, paths that are no text, damaged bytes."""

import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encoded, plain
from PIL import Image

from xner_ray.vision.loader import Loader
from xner_ray.vision.references import References

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CELLS = pa.array([{"bytes": plain("red"), "path": "x.png"}, {"bytes": plain("blue"), "path": "y.png"}], KIND)
ENDINGS = ("parquet", "arrow")


def _write(folder: Path, table: pa.Table) -> None:
    pq.write_table(table, folder / "t.parquet")
    with pa.OSFile(str(folder / "t.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def _flags(folder: Path, references: Iterable[str], *, column: str = "image", max_mb: float = 20) -> list[str]:
    places = References(str(folder), [str(folder)], [])
    loader = Loader(places, max_mb=max_mb, max_pixels=50_000_000, side=24, column=column)
    return [str(one.fault.flag) if one.fault else "used" for one in loader.load(references)]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("other", [pa.array(["a", "b"]), pa.array([{"b": "a"}, {"b": "b"}])])
def test_other_columns_of_the_same_name_are_not_taken_for_pictures(
    tmp_path: Path, ending: str, other: pa.Array
) -> None:
    for columns, names in (([CELLS, other], ["image", "image"]), ([other, CELLS], ["image", "image"])):
        _write(tmp_path, pa.Table.from_arrays(columns, names=names))
        assert _flags(tmp_path, [f"t.{ending}#0", f"t.{ending}#1"]) == ["used", "used"]
    _write(tmp_path, pa.Table.from_arrays([other, CELLS], names=["a", "a.b"]))  # Parquet spells both a.b
    assert _flags(tmp_path, [f"t.{ending}#0", f"t.{ending}#1"], column="a.b") == ["used", "used"]


def test_a_path_that_is_no_text_harms_no_row_beside_it(tmp_path: Path) -> None:
    data = pa.array([plain(), plain("blue"), None], pa.binary())
    raw = pa.array([b"a.png", b"\xff\xfe.png", b"\xff.png"], pa.binary())
    paths = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(
        pa.table({"image": pa.StructArray.from_arrays([data, paths], fields=list(KIND))}), tmp_path / "t.parquet"
    )
    assert _flags(tmp_path, [f"t.parquet#{row}" for row in range(3)]) == ["used", "used", "image_refused"]


def test_bombs_in_tables_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cell that is too large, and a large one among small ones."""
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *given, **options: pytest.fail("it was unpacked"))
    for sizes, compression in (([90_000_000], "none"), ([40_000_000, *[9] * 200], "zstd")):
        cells = [{"bytes": bytes(size), "path": ""} for size in sizes]
        pq.write_table(pa.table({"image": pa.array(cells, KIND)}), tmp_path / "t.parquet", compression=compression)
        assert _flags(tmp_path, ["t.parquet#0"], max_mb=2) == ["image_too_large"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_pictures_of_a_table_do_not_stay_in_memory(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise))
    cells = [{"bytes": data + bytes([number]), "path": ""} for number in range(60)]
    _write(tmp_path, pa.table({"image": pa.array(cells, KIND)}))
    del cells
    tracemalloc.start()
    try:
        assert _flags(tmp_path, [f"t.{ending}#{row}" for row in range(60)]) == ["used"] * 60
        assert tracemalloc.get_traced_memory()[1] < 15 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_tables_raise_nothing(tmp_path: Path, ending: str) -> None:
    _write(tmp_path, pa.table({"image": pa.concat_arrays([CELLS] * 10)}))
    good = (tmp_path / f"t.{ending}").read_bytes()
    for seed in range(150):
        drawn, bad = random.Random(seed), bytearray(good)
        for _ in range(drawn.randint(1, 6)):
            bad[drawn.randrange(len(bad))] = drawn.randrange(256)
        (tmp_path / f"t.{ending}").write_bytes(bad)
        assert len(_flags(tmp_path, [f"t.{ending}#0", f"t.{ending}#7"])) == 2
