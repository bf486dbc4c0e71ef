"""The published figures: `published.tsv` beside this file, loaded and looked up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xner_ray.errors import XnerError

_TABLE = Path(__file__).with_name("published.tsv")
_COLUMNS = ["set", "lang", "method", "setting", "measure", "value", "source"]
MACRO = "macro"
# Of the exact solver the thesis alone has figures, of its matching by alignment with AWESoME's links.
_ELSEWHERE = {
    ("europarl", "X-a"): ("align", "gurobi <=1", "thesis-matching"),
    ("masakhaner", "X-a"): ("align", "gurobi <=1 max_words=10", "thesis-pipeline"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure, in per cent.

    lang: as the publication spells it, or `macro`. setting: of solver, limit and the like, where several were run.
    """

    set: str
    lang: str
    method: str
    setting: str
    measure: str
    value: float
    source: str


@cache
def figures() -> tuple[Figure, ...]:
    """Return all figures of the table. XnerError if it is damaged."""
    lines = [line for line in _TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    if lines[0].split("\t") != _COLUMNS:
        raise XnerError(f"{_TABLE}: its columns are not {', '.join(_COLUMNS)}; install the package again")
    found = []
    for line in lines[1:]:
        name, lang, method, setting, measure, value, source = line.split("\t")
        found.append(Figure(name, lang, method, setting, measure, float(value), source))
    return tuple(found)


def languages(name: str) -> list[str]:
    """Return the languages of a set, as the paper spells them and in its order."""
    return list(dict.fromkeys(one.lang for one in figures() if (one.set, one.source) == (name, "paper")))[:-1]


def methods(name: str) -> list[str]:
    """Return the methods that the paper has on a set, in its order."""
    return list(dict.fromkeys(one.method for one in figures() if (one.set, one.source) == (name, "paper")))


def beside(name: str, method: str) -> dict[str, Figure]:
    """Return the F1 by language, and `macro`, that stands beside our method; none where nobody has published one."""
    known, setting, source = _ELSEWHERE.get((name, method), (method, "", "paper"))
    wanted = (name, known, setting, "F1", source)
    return {one.lang: one for one in figures() if (one.set, one.method, one.setting, one.measure, one.source) == wanted}
