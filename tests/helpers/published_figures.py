"""The paper's and the thesis's figures, from the tables of the project's reference extraction, as published.tsv.

    python tests/helpers/published_figures.py METHOD.md [--write]

METHOD.md has them in sections 5.2 to 5.5. Nothing is typed: each table is read, checked for its size, and written.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parents[2] / "xner_ray/commands/reproduce/published.tsv"
HEAD = """\
# Figures of Politov et al. (arXiv:2501.18750) and of the thesis of O. Shkalikov, in per cent. By the key in `source`:
# paper: result files of github Cross-Lingual-NER/Projection-Data-Transfer-Cross-Lingual-NER, e69a5d1; macro: means
# thesis-heuristic: github ShkalikovOleh/master-thesis, 680ba54, table of the heuristic's settings on Europarl-NER
# thesis-matching: the same, table of scores, limits and solvers on Europarl-NER; aligner AWESoME
# thesis-pipeline: the same, table of the full pipeline on MasakhaNER 2.0; tagger mDeBERTa-v3-base, aligner AWESoME
# thesis-quoted: the same, figures of other systems that it quotes, in settings of their own
# method: MT model transfer, H heuristic, N n-grams, E entities; with b by back-translation; -s SimAlign, -a AWESoME
# Written by tests/helpers/published_figures.py
"""
COLUMNS = ("set", "lang", "method", "setting", "measure", "value", "source")
SETS = {"Europarl-NER": "europarl", "MasakhaNER2": "masakhaner", "XTREME PAN-X": "wikiann"}
Row = tuple[str, str, str, str, str, str, str]
_FORMS = {"≤1": ("<=1",), "≤2": ("<=2",), "=1": ("=1",), "≥0": (">=0",), "≥1": (">=1",)}
_FORMS |= {"≥0 and ≥1": (">=0", ">=1"), "≤1 and =1": ("<=1", "=1"), "–": ("",)}


def _tables(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the cells of each table, with the line that stands before it."""
    before, rows = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")])
        else:
            if rows:
                yield before, [row for row in rows if not set("".join(row)) <= set("-: ")]
                rows = []
            before = line if line.strip() else before


def _section(text: str, number: str) -> str:
    return re.split(r"\n### ", text.split(f"\n### {number} ")[1])[0]


def _percent(value: str) -> str:
    """
    >>> _percent(".921"), _percent(".18")
    ('92.1', '18.0')
    """
    return f"{100 * float(value):.1f}"


def _paper(text: str) -> Iterator[Row]:
    for before, (head, *rows) in _tables(_section(text, "5.2")):
        name = next(key for title, key in SETS.items() if before.startswith(f"**{title}"))
        for lang, *cells in rows:
            measure = "F1"
            if lang.startswith("macro "):
                lang, _, measure = lang.partition(" ")
                measure = {"proj. ratio": "ratio"}.get(measure, measure)
            for method, value in zip(head[1:], cells, strict=True):
                yield name, lang, method, "", measure, value, "paper"


def _heuristic(text: str) -> Iterator[Row]:
    ((_, (head, *rows)),) = _tables(_section(text, "5.3"))
    for gap, top, only, ratio, *cells in rows:
        for first in ("yes", "no") if only == "either" else (only,):
            top, ratio = (cell.replace("–", "none") for cell in (top, ratio))
            setting = f"gap={gap} top_k={top} only_first={first} ratio={ratio}"
            for lang, value in zip(head[4:], cells, strict=True):
                yield "europarl", lang, "H-a", setting, "F1", _percent(value), "thesis-heuristic"


def _matching(text: str) -> Iterator[Row]:
    ((_, (head, *rows)),) = _tables(_section(text, "5.4"))
    for score, limit, *cells in rows:
        for form in _FORMS[limit]:
            for lang, cell in zip(head[2:], cells, strict=True):
                values = cell.split("/")
                solvers = ("greedy", "gurobi") if len(values) == 2 else ("",)
                for solver, value in zip(solvers, values, strict=True):
                    setting = f"{solver} {form}".strip()
                    method = "MT" if score == "model transfer" else score
                    yield "europarl", lang, method, setting, "F1", _percent(value), "thesis-matching"


def _pipeline(text: str) -> Iterator[Row]:
    section = _section(text, "5.5")
    for _, (head, *rows) in _tables(section):
        for name, *cells in rows:
            method = {"Model transfer": "MT", "Heuristic": "H-a"}.get(name, name)
            setting = "" if method in ("MT", "H-a") else "gurobi <=1 max_words=10"
            for lang, value in zip(head[1:], cells, strict=True):
                lang = "macro" if lang == "avg" else lang
                yield "masakhaner", lang, method, setting, "F1", _percent(value), "thesis-pipeline"
    quoted = section.split("Other systems as quoted")[1].replace("\n", " ")
    for name, value in re.findall(r"(EasyProject|CODEC|GPT-4 few-shot|GoLLIE-TransFusion) (\.\d+)", quoted):
        yield "masakhaner", "macro", name, "", "F1", _percent(value), "thesis-quoted"
    for lang, value in re.findall(r"\b([a-z]{3}) (\.\d{3})\b", quoted.split("EasyProject per language:")[1]):
        yield "masakhaner", lang, "EasyProject", "", "F1", _percent(value), "thesis-quoted"


def transcribed(text: str) -> str:
    """Return published.tsv as the tables of the extraction have it. SystemExit if one has another size."""
    lines = []
    for part, size in ((_paper, 993), (_heuristic, 48), (_matching, 93), (_pipeline, 212)):
        rows = list(part(text))
        if len(rows) != size:
            raise SystemExit(f"{part.__name__}: {len(rows)} figures, not {size}")
        lines += ["\t".join(row) for row in rows]
    return HEAD + "\t".join(COLUMNS) + "\n" + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    made = transcribed(Path(sys.argv[1]).read_text("utf-8"))
    if "--write" in sys.argv:
        TARGET.write_text(made, "utf-8")
    else:
        print(made, end="")
