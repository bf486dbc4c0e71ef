"""Pictures a CPU second of one core: read, checked, decoded and made smaller, against Pillow without `draft`.

python tests/bench/bench_images.py
python tests/bench/bench_images.py rows    # 20,000 rows, 2,000 drawings: how many are encoded, by 1 worker and by 4
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
sys.path.insert(0, str(Path(__file__).parents[2] / "jobs" / "tiny_clip"))
from ambiguous import IMAGE
from draw import KINDS, picture
from pictures import photo

import xner_ray
from xner_ray.vision.loader import Loader
from xner_ray.vision.references import References

SIDE = 224
SIZES = ((640, 427), (2560, 1708))
PICTURES = 24


def _per_second(work: Callable[[], None]) -> float:
    """Return pictures a CPU second, the best of three."""
    found = 0.0
    for _ in range(3):
        started = time.process_time()
        work()
        found = max(found, PICTURES / (time.process_time() - started))
    return found


def _plainly(data: list[bytes]) -> None:
    for one in data:
        image = ImageOps.exif_transpose(Image.open(BytesIO(one))).convert("RGB")
        share = SIDE / min(image.size)
        image.resize((round(image.size[0] * share), round(image.size[1] * share)), Image.Resampling.BICUBIC)


def main() -> None:
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = [photo(width, height) + b"\0" * number for number in range(PICTURES)]  # contents of their own
            for number, one in enumerate(data):
                (Path(folder) / f"{number}.jpg").write_bytes(one)
            loader = Loader(References(folder, [folder]), max_mb=20, max_pixels=50_000_000, side=SIDE, column="image")

            def ours(loader: Loader = loader) -> None:
                found = list(loader.load(f"{number}.jpg" for number in range(PICTURES)))
                assert all(one.image is not None for one in found)

            def plain(data: list[bytes] = data) -> None:
                _plainly(data)

            mine, other = _per_second(ours), _per_second(plain)
        print(
            f"{width} x {height}, {len(data[0]) / 1e3:.0f} kB: {mine:.0f} pictures a CPU second, "
            f"{mine / other:.2f} times Pillow without draft ({other:.0f})"
        )


def rows(n_rows: int = 20_000, n_pictures: int = 2_000) -> None:
    """Print how many pictures a run with a cache encodes, by one worker and by four, and the rate of its stage."""
    languages = ["spa_Latn", "deu_Latn", "fra_Latn"]
    text = "Everyone is talking about Jordan this week ."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(n_pictures):
            drawing = picture(list(KINDS)[number % len(KINDS)], random.Random(number))
            drawing.save(folder / f"{number}.png")
        distinct = len({path.read_bytes() for path in folder.glob("*.png")})  # some are plain white
        lines = [
            {"text": text, "spans": [{"start": 26, "end": 32, "label": ["PER", "LOC", "ORG"][row % 3]}]}
            | {"photo": f"{row * n_pictures // n_rows}.png"}
            for row in range(n_rows)
        ]
        (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        links = " ".join(f"{word}-{word}" for word in range(len(text.split())))
        for lang in languages:
            (folder / f"{lang}.txt").write_text(f"{text}\n" * n_rows)
            (folder / f"links.{lang}").write_text(f"{links}\n" * n_rows)
        for workers in (1, 4):
            own = {"workers": workers, "cpus": 0.2, "cache": str(folder / f"cache-{workers}")}
            recipe = {
                "input": {
                    "path": str(folder / "a.jsonl"),
                    "columns": {"image": "photo"},
                    "parallel": {lang: str(folder / f"{lang}.txt") for lang in languages},
                    "links": str(folder / "links.{lang}"),
                },
                "targets": languages,
                "align": {"backend": "provided"},
                "image": {**IMAGE, **own},
                "match": {"workers": 1, "cpus": 0.3},
                "engine": {"executor": "ray"},
            }
            stage = xner_ray.project(recipe, folder / f"run-{workers}")["stages"]["image"]
            files = (folder / f"cache-{workers}").rglob("*.parquet")
            encoded = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
            rate = stage["rows"] / stage["seconds"]
            print(
                f"{workers} workers: {encoded:,} pictures encoded, of {distinct:,} distinct ones "
                f"({encoded / distinct:.3f} times); {rate:,.0f} rows a second of one worker"
            )


if __name__ == "__main__":
    rows() if sys.argv[1:] == ["rows"] else main()
