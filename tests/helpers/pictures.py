"""Pictures as bytes: good ones, and such as want to do harm."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def plain(colour: object = "red", size: tuple[int, int] = (60, 40), kind: str = "PNG", mode: str = "RGB") -> bytes:
    return encoded(Image.new(mode, size, colour), kind)


def photo(width: int, height: int, quality: int = 85) -> bytes:
    """Return a JPEG that has as much detail as a photograph: smooth shapes, edges, and a little noise."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    smooth = np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape, dtype=np.int16)
    return encoded(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG", quality=quality)


def png_bomb(side: int) -> bytes:
    """Return a small PNG of side x side pixels of one bit."""
    row = b"\0" * (side // 8 + 1)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif_bomb() -> bytes:
    """Return a GIF whose screen is small, and whose first frame is not."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame + b";"


def scans_bomb() -> bytes:
    """Return a progressive JPEG whose last scan is there a thousand times."""
    good = encoded(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    last = good.rfind(b"\xff\xda")
    return good[:last] + good[last:-2] * 1000 + b"\xff\xd9"


def crowded(kind: str, parts: int) -> bytes:
    """Return a picture with so many comments of no length, or of one byte."""
    good = plain(kind=kind)
    if kind == "JPEG":
        return good[:2] + b"\xff\xfe\x00\x02" * parts + good[2:]
    if kind == "GIF":
        screen = good.index(b",", 13 + (3 << 1 + (good[10] & 7)))
        return good[:screen] + b"!\xfe" + b"\x01c" * parts + b"\x00" + good[screen:]
    data = good.index(b"IDAT") - 4
    return good[:data] + (bytes(4) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))) * parts + good[data:]


def tags_bomb(kind: str) -> bytes:
    """Return a picture whose metadata has a thousand tags, each of which says that it is the same 400 kB."""
    begin = 8 + 2 + 12 * 1000 + 4
    tags = b"".join(struct.pack("<HHII", 1000 + number, 7, 400_000, begin) for number in range(1000))
    exif = b"II*\0" + struct.pack("<IH", 8, 1000) + tags + bytes(4 + 400_000)
    if kind != "JPEG":
        return encoded(Image.new("RGB", (60, 40), "red"), kind, exif=exif)
    parts = (b"Exif\0\0" + exif[first : first + 65_000] for first in range(0, len(exif), 65_000))
    good = plain(kind="JPEG")
    return good[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts) + good[2:]


HARMFUL = {
    "bomb144.png": (png_bomb(12_000), "image_too_large"),
    "bomb400.png": (png_bomb(20_000), "image_too_large"),
    "bomb.gif": (gif_bomb(), "image_too_large"),
    "scans.jpg": (scans_bomb(), "image_refused"),
    "cut.jpg": (photo(320, 200)[:4000], "image_broken"),
    "cut.png": (plain()[:-30], "image_broken"),
    "page.jpg": (b"<html><body>404</body></html>", "image_refused"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image_refused"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "image_refused"),
    "empty.png": (b"", "image_broken"),
    "thin.png": (plain(size=(1, 3000)), "image_refused"),
}
"""Bytes by the names of their files, and the flag of each."""
