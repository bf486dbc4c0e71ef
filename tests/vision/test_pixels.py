"""Bytes become small RGB pictures, or a fault with its flag; memory stays bounded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import HARMFUL, crowded, encoded, photo, plain
from PIL import Image

from xner_ray.errors import Flag
from xner_ray.vision.pixels import Fault, decode

MOST = 50_000_000


def _pixels(data: bytes, side: int = 24) -> np.ndarray:
    found = decode(data, side, MOST)
    assert not isinstance(found, Fault), found
    assert found.mode == "RGB"
    return np.asarray(found)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_each_format_is_read(kind: str) -> None:
    assert abs(_pixels(plain((200, 30, 40), kind=kind)).reshape(-1, 3).mean(0) - (200, 30, 40)).max() < 6


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PDF"])
def test_other_formats_of_pillow_are_refused(kind: str) -> None:
    found = decode(plain(kind=kind), 24, MOST)
    assert isinstance(found, Fault) and found.flag is Flag.IMAGE_REFUSED


@pytest.mark.parametrize("name", HARMFUL)
def test_what_wants_to_do_harm_has_its_flag(name: str) -> None:
    data, flag = HARMFUL[name]
    found = decode(data, 24, MOST)
    assert isinstance(found, Fault) and (found.flag, "\n" in found.detail) == (flag, False)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "PNG"])
def test_a_picture_of_too_many_parts_is_refused_and_one_of_some_is_read(kind: str) -> None:
    found = decode(crowded(kind, 200_000), 24, MOST)
    assert isinstance(found, Fault) and found.flag is Flag.IMAGE_REFUSED and "too many parts" in found.detail
    assert not isinstance(decode(crowded(kind, 300), 24, MOST), Fault)


def test_bombs_do_not_grow_the_process() -> None:
    """In a process of its own: the peak of this one's memory is no measure."""
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pictures import HARMFUL, encoded, plain, tags_bomb
from PIL import Image
from xner_ray.vision.pixels import decode
decode(plain(), 24, 50_000_000)
good = [encoded(Image.new("RGBA", (7000, 7000), (200, 30, 40, 128)))]
good += [encoded(Image.new("RGB", (4000, 4100)), "WEBP", lossless=True, quality=0, method=0)]
hidden = [tags_bomb(kind) for kind in ("JPEG", "PNG", "WEBP")]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in [*(data for data, _ in HARMFUL.values()), *hidden]:
    decode(data, 224, 50_000_000)
bombs = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in good:
    assert decode(data, 224, 50_000_000).size[0] >= 336
print((bombs - before) // 1024, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    helpers = str(Path(__file__).parents[1] / "helpers")
    ended = subprocess.run([sys.executable, "-c", code, helpers], check=True, capture_output=True, text=True)
    bombs, largest = map(int, ended.stdout.split())
    assert bombs < 60 and largest < 300


def test_a_pixel_of_webp_counts_threefold() -> None:
    found = decode(plain(kind="WEBP"), 24, 3 * 60 * 40 - 1)
    assert isinstance(found, Fault) and found.flag is Flag.IMAGE_TOO_LARGE
    assert not isinstance(decode(plain(kind="WEBP"), 24, 3 * 60 * 40), Fault)
    assert not isinstance(decode(plain(), 24, 60 * 40), Fault)


def test_a_picture_stands_upright() -> None:
    left = Image.new("RGB", (80, 40), "white")
    left.paste("red", (0, 0, 40, 40))
    for value, side in {1: "left", 2: "right", 3: "right", 6: "top", 8: "bottom"}.items():
        exif = Image.Exif()
        exif[0x0112] = value
        found = _pixels(encoded(left, "JPEG", exif=exif, quality=95), 20)
        high, wide = found.shape[:2]
        assert (wide > high) == (value < 5)
        green = found[..., 1].astype(int)
        halves = {
            "left": green[:, : wide // 2 - 2],
            "right": green[:, wide // 2 + 2 :],
            "top": green[: high // 2 - 2],
            "bottom": green[high // 2 + 2 :],
        }
        assert halves[side].mean() < 30, (value, side)


def test_alpha_lies_over_white() -> None:
    assert _pixels(plain((255, 0, 0, 0), mode="RGBA")).min() == 255
    half = _pixels(plain((255, 0, 0, 128), mode="RGBA"))
    assert abs(int(half[0, 0, 1]) - 127) <= 1 and half[0, 0, 0] == 255
    named = Image.new("P", (30, 30))
    named.putpalette([255, 0, 0, 0, 255, 0])
    assert _pixels(encoded(named, "PNG", transparency=0)).min() == 255


def test_grey_of_sixteen_bits_and_inks_keep_their_shade() -> None:
    grey = Image.fromarray(np.full((40, 40), 40_000, np.uint16))
    assert abs(int(_pixels(encoded(grey))[0, 0, 0]) - 156) <= 1
    assert _pixels(encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG"))[5, 5, 0] > 200


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert _pixels(data)[0, 0].tolist() == [255, 0, 0]


def test_strips_are_as_the_whole() -> None:
    """A picture that is made smaller strip by strip is what Pillow makes of all of it."""
    rng = np.random.default_rng(1)
    whole = Image.fromarray(rng.integers(0, 256, (2003, 1501, 3), dtype=np.uint8))
    found = decode(encoded(whole), 100, MOST)
    assert not isinstance(found, Fault)
    assert np.array_equal(np.asarray(found), np.asarray(whole.reduce(10)))


def test_large_pictures_are_smaller_and_small_ones_as_they_are() -> None:
    assert _pixels(photo(640, 400), 32).shape[:2] == (50, 80)  # libjpeg's own eighth
    assert min(_pixels(photo(640, 400), 32).shape[:2]) >= 48
    assert _pixels(plain(size=(20, 10)), 224).shape == (10, 20, 3)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF"])
)
def test_no_bytes_raise(data: bytes, start: bytes) -> None:
    found = decode(start + data, 24, MOST)
    assert isinstance(found, Fault | Image.Image)


@given(st.data())
def test_no_damage_to_a_picture_raises(data: st.DataObject) -> None:
    good = bytearray(data.draw(st.sampled_from([plain(), plain(kind="WEBP"), photo(80, 80), plain(kind="GIF")])))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    found = decode(bytes(good), 24, 1_000_000)
    assert isinstance(found, Fault) or found.size[0] * found.size[1] <= 1_000_000
