"""Bytes that may be a picture -> a small RGB picture, in bounded memory, whatever the bytes are.

Nothing is decoded before its header says that it is small enough. What a decoder raises makes the picture broken: the
bytes are a stranger's. Pillow's own guard begins at 179 million pixels, so the limit here is ours.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from xner_ray.errors import Flag, one_line

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What is read; other decoders of Pillow start programs (EPS), or are seldom tested."""

MOST_RATIO = 20
"""Of the long side to the short one: a model enlarges the short one, and the long one with it."""
MOST_SCANS = 100
"""Of a JPEG: a file of some thousand takes minutes to decode, and no camera writes more than a dozen."""
_PARTS = 2000, 512
"""Reads of a file, and bytes for each further one. A decoder keeps comments and private parts: of millions of empty
ones some hundred MB. A PNG in parts of 2 kB is still read, and most are in parts of 8 kB and more."""
_WEBP = 3  # its decoder holds four copies of the canvas: so much does a pixel count
_STRIP = 1 << 20  # pixels that are converted at once
_UPRIGHT = {  # by the value of EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM")
_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")  # of an object, another in each process
_ORIENTATION = 0x0112
_BLACK_AT_0 = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Fault:
    """Why a picture cannot be used."""

    flag: Flag
    detail: str


class _PartsError(Exception):
    """A file has more parts than a picture has."""


class _Parts(BytesIO):
    """Bytes that can be read so many times."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _PARTS[0] + len(data) // _PARTS[1]

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _PartsError
        return super().read(size)


def decode(data: bytes, side: int, max_pixels: int) -> Image.Image | Fault:
    """Return the first frame in RGB, upright, alpha over white, or why there is none.

    Its short side has at least 1.5 `side` pixels where the picture itself has: a model's processor makes it smaller
    yet. The same bytes give the same picture.
    """
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MOST_SCANS:
        return Fault(Flag.IMAGE_REFUSED, f"a JPEG of more than {MOST_SCANS} scans")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at here, and of odd metadata
            return _decoded(data, side, max_pixels)
    except Image.DecompressionBombError as error:
        return Fault(Flag.IMAGE_TOO_LARGE, one_line(str(error), 200))
    except _PartsError:
        return Fault(Flag.IMAGE_REFUSED, f"{len(data)} bytes in too many parts")
    except UnidentifiedImageError:
        flag = Flag.IMAGE_BROKEN if not data or data.startswith(_BEGINNINGS) else Flag.IMAGE_REFUSED
        return Fault(flag, f"{len(data)} bytes that are none of {', '.join(FORMATS)}")
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises
        said = _ADDRESS.sub("", one_line(f"{type(error).__name__}: {error}", 200))
        return Fault(Flag.IMAGE_BROKEN, said)


def _decoded(data: bytes, side: int, max_pixels: int) -> Image.Image | Fault:
    enough = 3 * side // 2
    # A BMP's runs are read one by one; nothing of them is kept
    with Image.open(BytesIO(data) if data.startswith(b"BM") else _Parts(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height * (_WEBP if image.format == "WEBP" else 1) > max_pixels:
            return Fault(Flag.IMAGE_TOO_LARGE, f"{width} x {height} pixels")
        if max(width, height) > MOST_RATIO * min(width, height):
            return Fault(Flag.IMAGE_REFUSED, f"{width} x {height} pixels, more than {MOST_RATIO} to 1")
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (enough, enough))
        if ImageFile.LOAD_TRUNCATED_IMAGES:  # of this process, where a library has set it
            return Fault(Flag.IMAGE_BROKEN, "this process reads pictures that are cut off (LOAD_TRUNCATED_IMAGES)")
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
        small = _small(image, max(1, min(image.size) // enough))
    return small if turn is None else small.transpose(turn)


def _small(image: Image.Image, factor: int) -> Image.Image:
    """Return a picture in RGB with every `factor` pixels made one, strip by strip: so no copy of all of it is made."""
    width, height = image.size
    rows = max(factor, _STRIP // width // factor * factor)
    found = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = _over_white(image.crop((0, top, width, min(height, top + rows))))
        found.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return found


def _over_white(strip: Image.Image) -> Image.Image:
    """Return a strip in RGB."""
    if strip.mode in _BLACK_AT_0:
        return strip.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if strip.has_transparency_data:
        whole = strip.convert("RGBA")
        white = Image.new("RGBA", whole.size, "white")
        return Image.alpha_composite(white, whole).convert("RGB")
    return strip.convert("RGB")
