"""The families, the resources and the syntax of the languages of our codes; what no source says is `unknown`.

Two tables stand beside this file, and `SOURCES.md` says where they come from and under which licences:

- `glottolog.tsv`: the top-level family of Glottolog 5.1. Scripts of one language have the same family. A language
  without relatives is a family of its own, `Basque (isolate)`.
- `uriel.tsv`: `resources` (high, medium or low) as URIEL+ groups the languages, and `syntax`, the 103 syntactic
  features of URIEL as 0 and 1, `-` where its sources disagree or say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

UNKNOWN = "unknown"
LEAST_SHARED = 20
"""Fewer features in common say nothing of a distance."""


@dataclass(frozen=True, slots=True)
class Typology:
    """What the sources say of one language. syntax: one character a feature."""

    glottocode: str
    family: str
    resources: str
    syntax: str


_NOTHING = Typology("", UNKNOWN, UNKNOWN, "")


def _lines(name: str) -> dict[str, list[str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return {code: cells for code, *cells in (line.split("\t") for line in text.splitlines()[1:])}


def _load() -> dict[str, Typology]:
    syntax = _lines("uriel.tsv")
    return {code: Typology(*cells, *syntax[code]) for code, cells in _lines("glottolog.tsv").items()}


TYPOLOGY: Mapping[str, Typology] = MappingProxyType(_load())


def of(code: str) -> Typology:
    """Return what is known of a language; of a code without a line nothing is.

    >>> of("swh_Latn").family, of("swh_Latn").resources, of("xxx_Latn").family
    ('Atlantic-Congo', 'low', 'unknown')
    """
    return TYPOLOGY.get(code, _NOTHING)


def syntactic_distance(one: str, other: str) -> float | None:
    """Return the share of the features known of both languages in which they differ; None below `LEAST_SHARED`.

    >>> syntactic_distance("eng_Latn", "swe_Latn"), syntactic_distance("eng_Latn", "slk_Latn")
    (0.04, None)
    """
    pairs = [(a, b) for a, b in zip(of(one).syntax, of(other).syntax, strict=False) if "-" not in (a, b)]
    return sum(a != b for a, b in pairs) / len(pairs) if len(pairs) >= LEAST_SHARED else None
