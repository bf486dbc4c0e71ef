"""Pictures a CPU second of one core: read, checked, decoded and made smaller, against Pillow without `draft`.

python tests/bench/bench_images.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from pictures import photo

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


if __name__ == "__main__":
    main()
