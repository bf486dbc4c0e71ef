"""Write the table of docs/students.md about students at real size, from the cells in docs/students_translate.json.

python tests/helpers/students_page.py --write            the table, from the cells
python tests/helpers/students_page.py --take OUT/cells   the cells first, of `xner-ray cross-validate ... OUT`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE, CELLS = DOCS / "students.md", DOCS / "students_translate.json"
LANGUAGES = ("nya_Latn", "swh_Latn", "hau_Latn")
STUDENTS = {
    "english": "(a) English gold alone",
    "tagged": "(t) the tagger straight on the words",
    "projected": "(b) projected sentences",
    "both": "(c) English and projected",
    "soft": "(d) projected, and the tagger's tags of the same words",
    "taught": "(c) and (d)",
    "silver": "(s) the other project's labels",
    "masked": "(b), O words of incomplete sentences masked",
    "disputed": "(b), O words that the tagger holds for an entity masked",
    "weighted": "(b), weighted by score",
    "everyone": "(e) English and ours, one student of all languages",
}
_BEGIN, _END = "<!-- cells -->\n", "<!-- end of cells -->\n"
Cell = Mapping[str, Any]


def table(cells: Iterable[Cell]) -> str:
    """Return the table: mean F1 over the seeds, and that of each seed; a student without cells has no line."""
    found: dict[tuple[str, str], list[float]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        found.setdefault((cell["student"], cell["lang"]), []).append(100 * cell["f1"])
    lines = [
        f"| learns from | {' | '.join(LANGUAGES)} | mean of {' and '.join(LANGUAGES[1:])} |",
        "|---|---:|---:|---:|---:|",
    ]
    for student, what in STUDENTS.items():
        own = [found.get((student, lang), []) for lang in LANGUAGES]
        if not any(own):
            continue
        means = [sum(each) / len(each) if each else None for each in own]
        shown = [_shown(each) for each in own]
        both = f"{(means[1] + means[2]) / 2:.1f}" if means[1] is not None and means[2] is not None else ""
        lines.append(f"| {what} | {' | '.join(shown)} | {both} |")
    return "".join(f"{line}\n" for line in lines)


def _shown(f1: list[float]) -> str:
    """Return the mean, and behind it each seed's where they differ.

    >>> _shown([61.0, 62.04]), _shown([81.0, 81.0]), _shown([])
    ('61.5 (61.0, 62.0)', '81.0', '')
    """
    if not f1:
        return ""
    each = ", ".join(f"{one:.1f}" for one in f1)
    return f"{sum(f1) / len(f1):.1f}" + (f" ({each})" if len({f"{one:.6f}" for one in f1}) > 1 or len(f1) == 1 else "")


def page(text: str, cells: Iterable[Cell]) -> str:
    """Return the page with the table of the cells in its place."""
    before, rest = text.split(_BEGIN)
    return before + _BEGIN + table(cells) + _END + rest.split(_END)[1]


def take(folder: Path) -> None:
    """Add the cells of an experiment to those that are kept; one of the same student, language and seed is replaced."""
    known = json.loads(CELLS.read_text("utf-8")) if CELLS.exists() else []
    kept = {(cell["student"], cell["lang"], cell["seed"]): cell for cell in known}
    for path in sorted(folder.rglob("*.json")):
        cell = json.loads(path.read_text("utf-8"))
        kept[cell["student"], cell["lang"], cell["seed"]] = cell
    order = list(STUDENTS)
    listed = sorted(kept.values(), key=lambda one: (order.index(one["student"]), one["lang"], one["seed"]))
    CELLS.write_text("[\n" + ",\n".join(json.dumps(cell) for cell in listed) + "\n]\n", "utf-8")


if __name__ == "__main__":
    if "--take" in sys.argv:
        take(Path(sys.argv[sys.argv.index("--take") + 1]))
    found = page(PAGE.read_text("utf-8"), json.loads(CELLS.read_text("utf-8")))
    PAGE.write_text(found, "utf-8")
