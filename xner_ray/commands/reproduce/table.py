"""The table of `reproduce`: our F1, the published one and their difference; and all in which the two differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group

from xner_ray.commands.reproduce import methods as methods_of
from xner_ray.commands.reproduce import published
from xner_ray.commands.reproduce.methods import LEGEND, TITLES
from xner_ray.commands.reproduce.plan import Asked, SetPlan
from xner_ray.evaluate.scores import Evaluation
from xner_ray.recipe import model
from xner_ray.recipe.decides import Decides
from xner_ray.recipe.model import Recipe
from xner_ray.report.tables import Table
from xner_ray.version import __version__

_MISSING = "-"
_FIT = 8  # methods beside each other on 80 characters
_COUNTS = ("exact", "predicted", "gold", "rows", "rejected")
_TSV = ("set", "lang", "method", "ours", "published", "difference", "source", *_COUNTS)
_NO_ROWS = model.keys_that(Decides.RUN)  # keys of a recipe that decide no row


@dataclass(frozen=True)
class Cell:
    """The figures of a method in a language, F1 in per cent. published: None where there is none, or none to compare.

    source: of the published figure. rejected: rows of gold without a prediction, as they were rejected.
    """

    set: str
    lang: str
    method: str
    ours: float
    published: float | None
    source: str
    exact: int
    predicted: int
    gold: int
    rows: int
    rejected: int

    @classmethod
    def of(cls, name: str, code: str, method: str, found: Evaluation, *, compared: bool) -> Cell:
        figure = published.beside(name, method).get(code) if compared else None
        score = found.overall
        value, source = (figure.value, figure.source) if figure else (None, "")
        counts = (score.exact, score.predicted, score.gold, found.rows, found.rejected_rows)
        return cls(name, code, method, 100 * score.f1, value, source, *counts)

    @property
    def difference(self) -> float | None:
        return None if self.published is None else self.ours - self.published


@dataclass(frozen=True)
class SetTable:
    """A set's cells. settings: what `--set` would need for each run. notes: the data, and what differs.

    rejecting: methods with more rejects than `output.max_reject_rate`.
    """

    name: str
    title: str
    langs: list[str]
    methods: list[str]
    cells: list[Cell]
    settings: dict[str, list[str]]
    notes: list[str]
    rejecting: list[str]

    def macro(self, method: str) -> tuple[float | None, float | None]:
        """Return the mean over languages, ours and published; of a mean each language needs its figure."""
        cells = [cell for cell in self.cells if cell.method == method]
        values = [cell.published for cell in cells if cell.published is not None]
        complete = len(cells) == len(self.langs)
        ours = sum(cell.ours for cell in cells) / len(cells) if complete else None
        return ours, sum(values) / len(values) if complete and len(values) == len(cells) else None


def title(one: SetPlan) -> str:
    """Return the name of a set, as heads have it."""
    return TITLES[one.name] + (", English given" if one.english else "")


def said_of_data(one: SetPlan) -> list[str]:
    """Return lines on what was found in the folder of a set, and what was not."""
    paper = published.languages(one.name)
    layouts = " and ".join(dict.fromkeys(one.found.files[code].layout.said for code in one.codes))
    number = sum(code in paper for code in one.codes)
    lines = [f"data: {one.found.folder}, as {layouts}; {number} of the paper's {len(paper)} languages"]
    if one.found.absent:
        lines.append(f"not in the folder: {', '.join(one.found.absent)}")
    if one.found.without_test:
        lines.append(f"in the folder, but without a test file: {', '.join(one.found.without_test)}")
    left = [code for code in paper if code in one.found.files and code not in one.codes]
    if left:
        lines.append(f"left out by --langs: {', '.join(left)}")
    if others := [code for code in one.unused if code not in paper]:
        lines.append(f"in the folder, not in the paper: {', '.join(others)} (--langs takes them)")
    return lines


def differences(one: SetPlan, asked: Asked) -> list[str]:
    """Return all in which our runs of a set are not the paper's, a line each."""
    return ["differs: " + line for line in _differences(one, asked)]


def _differences(one: SetPlan, asked: Asked) -> Iterable[str]:
    recipes = {run.method: run.recipe for run in one.runs}
    recipe = next((each for each in recipes.values() if each.projector == "match"), None)
    if recipe is not None:
        yield from _of_models(one, recipe)
    taggers = {each.target_tag.model or each.target_tag.engine for each in recipes.values() if _tags_target(each)}
    if used := sorted(taggers - {methods_of.TAGGER}):
        lack = "; it knows no MISC, which gold has" if used == ["builtin"] and one.name == "europarl" else ""
        yield f"the tagger of MT and E is {' and '.join(used)}, the paper's {methods_of.TAGGER}{lack}"
    if one.english:
        yield "the English was given by --english, so no published figure stands beside ours: theirs is NLLB's"
    if not all(one.found.files[code].layout.split for code in one.codes):
        yield "file names do not say which split these sentences are of; the published figures are of the test split"
    if asked.limit is not None:
        yield f"the first {asked.limit:,} sentences of each language alone (--limit)"
    if deciding := [each for each in asked.overrides if not each.startswith(_NO_ROWS)]:
        yield f"by --set: {', '.join(deciding)}"
    if left := [method for method in published.methods(one.name) if method not in one.methods]:
        yield f"methods of the paper that were not run: {', '.join(left)}"
    if len(one.codes) > 1 and set(published.languages(one.name)) - set(one.codes):
        theirs = "" if one.english else ", the published one too"
        yield f"mean: over the languages here{theirs}, so that it is not the paper's macro F1"
    if "X-a" in one.methods and one.name != "wikiann" and not one.english:
        tagger = ", with mDeBERTa as tagger and n-grams to 10 words" if one.name == "masakhaner" else ""
        yield f"beside X-a stands the thesis's figure of Gurobi with AWESoME's links{tagger}"
    misc = "" if one.name == "europarl" else "MISC is dropped before projection, "
    yield (
        "the program is another than the paper's: n-grams have up to 60 words (theirs: any number; 30 in ja, th, zh) "
        f"and may hold '!' and '?', {misc}an error is a reject with its reason (docs/decisions/paper.md)"
    )


def _tags_target(recipe: Recipe) -> bool:
    return recipe.projector == "transfer" or "tagger" in recipe.match.candidates


def _of_models(one: SetPlan, recipe: Recipe) -> Iterable[str]:
    encoder = recipe.align.encoder
    if encoder != methods_of.ENCODER or recipe.align.layer != methods_of.LAYER:
        where = "" if recipe.align.layer == "auto" else f", layer {recipe.align.layer}"
        yield f"the encoder is {encoder}{where}, the paper's {methods_of.ENCODER}, layer {methods_of.LAYER}"
    if one.name == "europarl":
        return
    translator = (
        recipe.translate.model if recipe.translate_engine in ("nllb", "ctranslate2") else recipe.translate_engine
    )
    if not one.english and translator != methods_of.TRANSLATOR:
        yield f"the translator is {translator}, the paper's {methods_of.TRANSLATOR}"
    tagger = recipe.tag.model or recipe.tag.engine
    if tagger != methods_of.TAGGER:
        yield f"the tagger of the English is {tagger}, the paper's {methods_of.TAGGER}"


def shown(one: SetTable) -> Group:
    """Return a set's table for a terminal: in parts of as many methods as fit, the notes below the last."""
    chunks = [one.methods[first : first + _FIT] for first in range(0, len(one.methods), _FIT)]
    tables = [_table(one, chunk) for chunk in chunks]
    tables[-1].notes = _notes(one)
    return Group(*tables)


def markdown(one: SetTable) -> str:
    """Return a set's table in Markdown, all methods side by side."""
    table = _table(one, one.methods)
    table.notes = _notes(one)
    return table.markdown()


def _notes(one: SetTable) -> list[str]:
    legend = dict.fromkeys(part for part in LEGEND for method in one.methods if part in methods_of.parts(method))
    notes = ["F1 in per cent, exact entities; " + "; ".join(LEGEND[part] for part in legend), *one.notes]
    rejected = sorted({cell.lang for cell in one.cells if cell.rejected})
    if one.rejecting:
        notes.append(f"more rejects than output.max_reject_rate: {', '.join(one.rejecting)}")
    if rejected:
        notes.append(f"rejected rows count as without predictions; there are some in {', '.join(rejected)} (table.tsv)")
    return notes


def _table(one: SetTable, methods: Sequence[str]) -> Table:
    """Return our line a language, with a published figure also that and the difference; and the means."""
    table = Table(one.title, ["", "F1"], methods)
    by_place = {(cell.lang, cell.method): cell for cell in one.cells}
    compared = any(cell.published is not None for cell in one.cells)
    for code in one.langs:
        cells = (by_place.get((code, method)) for method in methods)
        pairs = [(cell.ours, cell.published) if cell else (None, None) for cell in cells]
        table.add_section(code, _lines(pairs, 1, compared))
    if len(one.langs) > 1:
        means = [one.macro(method) for method in methods]
        table.add_section("mean", _lines(means, 2, compared))
    return table


def _lines(pairs: Sequence[tuple[float | None, float | None]], digits: int, compared: bool) -> list[list[str]]:
    def text(value: float | None, sign: str = "") -> str:
        return _MISSING if value is None else f"{value:{sign}.{digits}f}"

    lines = [["ours", *(text(ours) for ours, _ in pairs)]]
    if compared:
        lines.append(["publ.", *(text(theirs) for _, theirs in pairs)])
        changes = [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]
        lines.append(["diff.", *(text(change, "+") for change in changes)])
    return lines


def files(found: Sequence[SetTable]) -> tuple[str, str, str]:
    """Return table.md, table.json and table.tsv."""
    sets = []
    for one in found:
        means = {method: dict(zip(("ours", "published"), one.macro(method), strict=True)) for method in one.methods}
        sets.append({**asdict(one), "mean": means})
    plain = {"xner_ray": __version__, "paper": "arXiv:2501.18750", "sets": sets}
    lines = ["\t".join(_TSV)]
    for cell in (cell for one in found for cell in one.cells):
        figures = [f"{cell.ours:.2f}", *("" if v is None else f"{v:.2f}" for v in (cell.published, cell.difference))]
        counts = [getattr(cell, name) for name in _COUNTS]
        lines.append("\t".join([cell.set, cell.lang, cell.method, *figures, cell.source, *map(str, counts)]))
    text = "\n\n".join(map(markdown, found)) + "\n"
    return text, json.dumps(plain, indent=1, ensure_ascii=False) + "\n", "\n".join(lines) + "\n"
