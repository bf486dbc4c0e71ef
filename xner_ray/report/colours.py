"""The look of a label: a hue and a kind of edge, the same in every run, whatever other labels are in it.

Labels of known tag sets have looks by a table; those of CoNLL and of OntoNotes are clear of each other. Any other label
has one by its hash, never one of the first five. A look is a help to the eye: the label is always written beside it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple


class Hue(NamedTuple):
    """Colours of one hue: the ground behind ink and the edge, on a light and on a dark page."""

    ground: str
    edge: str
    dark_ground: str
    dark_edge: str


HUES = (
    Hue("#cfe3ff", "#2563a8", "#17385f", "#79b4f5"),  # blue
    Hue("#ffd9c7", "#b4531a", "#58290f", "#f2a274"),  # orange
    Hue("#d0f0d3", "#277a36", "#14431f", "#7fd08e"),  # green
    Hue("#f3d1f0", "#95338c", "#4e1b4a", "#e79ae0"),  # magenta
    Hue("#fff0b3", "#7d6200", "#473a05", "#e0c341"),  # yellow
    Hue("#c8eef0", "#0f6f76", "#0c4045", "#6fd0d6"),  # teal
    Hue("#e3d9ff", "#5b3fb5", "#35267a", "#b6a3ff"),  # violet
    Hue("#e1e4e8", "#57606a", "#38414c", "#a0a9b3"),  # grey
    Hue("#ffcfcc", "#a03f40", "#562323", "#fb9795"),  # red
    Hue("#d7e5b9", "#576e00", "#2f3b06", "#aac469"),  # olive
    Hue("#b5e7fe", "#006d90", "#003c53", "#55c6f4"),  # sky
    Hue("#b8ebd6", "#007a55", "#00412e", "#5dd0a9"),  # mint
)
EDGES = ("solid", "dotted", "double")


class Look(NamedTuple):
    hue: int
    edge: int = 0

    @property
    def classes(self) -> str:
        """The look as classes of page.css.

        >>> Look(3).classes, Look(4, 1).classes
        ('c3', 'c4 k1')
        """
        return f"c{self.hue} k{self.edge}" if self.edge else f"c{self.hue}"


_FIRST = {"LOC": Look(0), "MISC": Look(1), "ORG": Look(2), "PER": Look(3), "DATE": Look(4)}
_KNOWN = {
    **_FIRST,
    "GPE": Look(5),
    "NORP": Look(6),
    "CARDINAL": Look(7),
    "EVENT": Look(8),
    "PRODUCT": Look(9),
    "FAC": Look(10),
    "WORK_OF_ART": Look(11),
    "TIME": Look(4, 1),
    "QUANTITY": Look(5, 1),
    "LANGUAGE": Look(6, 1),
    "ORDINAL": Look(7, 1),
    "LAW": Look(8, 1),
    "MONEY": Look(9, 1),
    "CORP": Look(10, 1),
    "PERCENT": Look(9, 2),
}
_SAME = {
    **{"PERSON": "PER", "LOCATION": "LOC", "ORGANIZATION": "ORG", "ORGANISATION": "ORG"},
    **{"MISCELLANEOUS": "MISC", "OTHER": "MISC", "EVE": "EVENT", "PROD": "PRODUCT", "FACILITY": "FAC"},
    **{"CW": "WORK_OF_ART", "CREATIVE_WORK": "WORK_OF_ART", "GRP": "NORP", "GROUP": "NORP", "CORPORATION": "CORP"},
}
_FREE = [
    Look(hue, edge) for edge in range(len(EDGES)) for hue in range(len(HUES)) if (hue, edge) not in _FIRST.values()
]


def look(label: str) -> Look:
    """Return the look of a label, whatever its case.

    >>> look("PER") == look("person") == Look(3), look("DISEASE") == look("disease")
    (True, True)
    """
    name = label.strip().upper().replace("-", "_").replace(" ", "_")
    name = _SAME.get(name, name)
    if name in _KNOWN:
        return _KNOWN[name]
    return _FREE[int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()) % len(_FREE)]
