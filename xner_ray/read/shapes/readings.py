"""The readings of a span's numbers, and the code that says under which of them one span fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xner_ray.data.kinds import Ends, Offsets

UNITS: tuple[Offsets, ...] = ("characters", "utf16", "bytes", "graphemes")
READINGS: tuple[tuple[Offsets, Ends], ...] = (
    *[(unit, "exclusive") for unit in UNITS],
    *[(unit, "inclusive") for unit in UNITS],
    ("tokens", "exclusive"),
    ("tokens", "inclusive"),
)
"""In the order in which they are preferred; bit i of a code says that a span fits the reading i."""
TOKENS_EXCLUSIVE, TOKENS_INCLUSIVE = 8, 9
OWN, UNSPACED, NO_TEXT = 1 << 10, 1 << 11, 1 << 12  # has its own text; in a script without spaces; tokens alone
_DIFFERS = 13


def differs(unit: Offsets) -> int:
    """Return the bit of a code which says that a unit puts the span elsewhere than characters do."""
    return 1 << _DIFFERS + UNITS.index(unit)
