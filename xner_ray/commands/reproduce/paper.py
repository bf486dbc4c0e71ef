"""The command `reproduce paper`: the experiment of Politov et al. on data as published, beside their figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import yaml
from rich.console import Console, Group
from rich.text import Text

from xner_ray.commands.inspect import evaluate, read_index, tables
from xner_ray.commands.reproduce import layouts, table
from xner_ray.commands.reproduce.plan import SOURCE, Asked, SetPlan, ending, left_out, planned
from xner_ray.commands.reproduce.table import Cell, SetTable
from xner_ray.data.spans import Span, spans_to_tags
from xner_ray.errors import Reason, RecipeError, XnerError, did_you_mean
from xner_ray.evaluate.scores import Evaluation
from xner_ray.recipe.sweep import Planned
from xner_ray.report.tables import Table
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

PAPERS = ("paper",)
TABLES = ("table.md", "table.json", "table.tsv")
_COLUMNS = ["id", "tokens", "gold_spans", "source_tokens", "source_spans", "reason"]
# Such a row has no part in scores, so the runs that read on do without it.
_NO_ROW = {Reason.DUPLICATE_ID, Reason.LEFT_OUT}
OFFLINE = "without the hub, --models builtin projects with the models of the package"


class Maker(Protocol):
    """Makes runs in a folder, as `commands.sweep.made` does."""

    def __call__(
        self, runs: Sequence[Planned], root: str, *, fresh: bool, console: Console, begun: Callable[[Planned], None]
    ) -> Mapping[str, Mapping[str, Report]]: ...


def check(paper: str) -> None:
    """Raise RecipeError for a paper that is not known."""
    if paper not in PAPERS:
        raise RecipeError(f"reproduce {paper}: no such paper{did_you_mean(paper, PAPERS)}")


def plan(asked: Asked) -> Group:
    """Return what would be done, as tables. Looks at the folders of data alone, and writes nothing."""
    parts: list[Any] = []
    plans = planned(asked)
    for one in plans:
        shown = Table(table.title(one), ["run", "how"], ["reads"], table.said_of_data(one))
        for run in one.runs:
            how = "projected" if run.source is None else f"rematched from {run.source}"
            reads = f"English and entities of {one.hands_on}" if run.method in one.readers else one.found.folder
            shown.add_row(run.method, how, reads)
        shown.notes = [*shown.notes, *table.differences(one, asked)]
        parts.append(shown)
    return Group(*parts, *left_out(asked, plans))


def reproduce(asked: Asked, make: Maker, *, fresh: bool = False, console: Console | None = None) -> list[SetTable]:
    """Make the runs in `asked.runs`/SET/METHOD, and write table.md, table.json and table.tsv; return the tables.

    make: `commands.sweep.made`, which stands above this package. fresh: discard the runs that are there. The same call
    resumes. RecipeError or InputError for wrong folders or settings, before any work; an error of a run names it.
    """
    console = console or Console(quiet=True)
    plans = planned(asked)
    root = RunFolder(asked.runs).root
    for line in left_out(asked, plans):
        console.print(Text(line))
    for one in plans:
        console.print(Text(f"{table.title(one)}: {', '.join(one.codes)}", "bold"))
        for line in table.said_of_data(one):
            console.print(Text(line))
        _copy(one, root)
    found = []
    for one in plans:
        reports = _make(one, root, make, fresh, console)
        found.append(_scored(one, asked, root, reports))
        console.print(table.shown(found[-1]))
    for name, text in zip(TABLES, table.files(found), strict=True):
        storage.publish(storage.join(root, name), text.encode())
    return found


def _copy(one: SetPlan, root: str) -> None:
    """Copy the test files to where the recipe reads them, and write the recipe. Equal bytes are left alone."""
    own = "parquet" if one.found.format == "parquet" else "conll"
    codes = [*one.codes, *(["en"] if one.name == "europarl" else [])]
    contents = {f"{one.found.files[code].lang}.{own}": one.found.files[code] for code in codes}
    data, after = storage.join(root, "data", one.name), ending(one.english)
    for name, file in contents.items():
        _put(storage.join(data, name), layouts.content(file))
    for code, path in one.english.items():
        _put(storage.join(data, f"{one.found.files[code].lang}.{SOURCE}{after}"), storage.read_bytes(path))
    text = yaml.safe_dump(one.recipe, sort_keys=False, allow_unicode=True)
    _put(storage.join(root, f"{one.name}.yaml"), text.encode())


def _put(path: str, data: bytes) -> None:
    if storage.read_if_there(path) != data:
        storage.publish(path, data)


def _make(one: SetPlan, root: str, make: Maker, fresh: bool, console: Console) -> Mapping[str, Report]:
    def begun(run: Planned) -> None:
        for name in TABLES:  # an earlier table does not cover it
            storage.delete(storage.join(root, name))
        if run.method in one.readers and run.source is None:
            _hand_on(one, root)

    try:
        return make(one.runs, root, fresh=fresh, console=console, begun=begun)[one.name]
    except XnerError as error:
        if "hub" in str(error) and "--models" not in str(error):
            error.args = (f"{error}; {OFFLINE}",)
        raise


def _hand_on(one: SetPlan, root: str) -> None:
    """Write both sides of the run that has translated and tagged, for those that read on from there."""
    folder = RunFolder(storage.join(root, one.name, str(one.hands_on)))
    units = read_index(folder).units
    for lang in one.langs:
        target, source = [], []
        for part in tables(folder, [unit for unit in units if unit.lang == lang], _COLUMNS):
            for row in part.to_pylist():
                if row["tokens"] and row["reason"] not in _NO_ROW:
                    target.append(_line(row["id"], row["tokens"], row["gold_spans"]))
                    source.append(_line(row["id"], row["source_tokens"] or [], row["source_spans"]))
        for name, side in ((".jsonl", target), (f".{SOURCE}.jsonl", source)):
            _put(storage.join(root, "data", one.name, "translated", lang + name), "".join(side).encode())


def _line(row: str, tokens: Sequence[str], spans: Sequence[dict[str, Any]] | None) -> str:
    found = [Span(span["start"], span["end"], span["label"]) for span in spans or ()] if tokens else []
    record = {"id": row, "tokens": tokens, "ner_tags": spans_to_tags(found, len(tokens))}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _scored(one: SetPlan, asked: Asked, root: str, reports: Mapping[str, Report]) -> SetTable:
    scores: dict[str, dict[str, Evaluation]] = {}
    for method in one.methods:
        found = evaluate(storage.join(root, one.name, method), samples=0)
        scores[method] = {each.lang: each for each in found}
    cells = [
        Cell.of(one.name, code, method, scores[method][lang], compared=not one.english)
        for lang, code in one.langs.items()
        for method in one.methods
        if lang in scores[method]
    ]
    rejecting = [method for method, report in reports.items() if report.reject_rate > report.max_reject_rate]
    settings = {run.method: list(run.overrides) for run in one.runs}
    notes = [*table.said_of_data(one), *table.differences(one, asked)]
    return SetTable(one.name, table.title(one), one.codes, one.methods, cells, settings, notes, rejecting)
