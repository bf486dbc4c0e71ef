"""A comparison of runs as terminal tables, as Markdown, and its sentences in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xner_ray.evaluate.bootstrap import Interval
from xner_ray.evaluate.comparison import Agreement, Comparison, Language, Mean, Result, Sentence
from xner_ray.evaluate.scores import ITEMS
from xner_ray.report.tables import new_table, sentence

_RIGHT = {
    "reference": "only {reference} is right",
    "run": "only {run} is right",
    "neither": "neither is right",
    None: "no gold",
}
Rows = list[tuple[str, list[str]]]  # a section's name, and cells; the name again or "" for rows that go on


def comparison_tables(comparison: Comparison, *, wide: bool = False) -> Group:
    """Runs, scores with differences, and in how many sentences runs differ; `wide`: differences beside the scores."""
    names = [f"{n} {run.name}" for n, run in enumerate(comparison.runs, start=1)]
    first = f"run {comparison.reference + 1}"
    runs = new_table("Runs", ["", "run", "recipe keys in which they differ"])
    for n, run in enumerate(comparison.runs, start=1):
        own = " (reference)" if n - 1 == comparison.reference else ""
        runs.add_row(str(n), Text(run.name + own, overflow="fold"), Text(run.method, overflow="fold"))
    parts: list[Table | Text] = [runs]
    if comparison.by is not None:
        title, rows = f"Exact entities against gold, in percent: {comparison.scheme}", _scores(comparison, names)
        if wide:
            parts.append(_terminal(title, [*_RATES, *_TESTS], rows))
        else:
            scores = [(lang, cells[: 1 + len(_RATES)]) for lang, cells in rows]
            tests = [(lang, [cells[0], *cells[1 + len(_RATES) :]]) for lang, cells in rows]
            parts.append(_terminal(title, _RATES, scores))
            parts.append(_terminal(f"F1 against that of {first}, in percentage points", _TESTS, tests))
        parts.append(_dim(_notes(comparison, first)))
        heads = ["sentences", "differ", f"{comparison.reference + 1} right", "run right", "neither"]
        title = f"Sentences whose entities are not those of {first}"
        parts += [_terminal(title, heads, _sentences(comparison, names)), _dim([_RIGHT_NOTE.format(first)])]
    if agreement := _agreement(comparison, names):
        parts += [_terminal(_AGREEMENT.format(first), _AGREEMENT_HEADS, agreement), _dim(_AGREEMENT_NOTES)]
    return Group(*parts)


_RATES = ["P", "R", "F1", "95% interval"]
_TESTS = ["diff.", "95% interval", "p", "Holm"]
_RIGHT_NOTE = "right: of those that differ, all entities are right in {} alone, in the run alone, in neither"
_AGREEMENT = "Agreement with {}, in percent; without gold, so no measure of quality"
_AGREEMENT_HEADS = ["sentences", "identical", "with entities", "identical", "F1"]
_AGREEMENT_NOTES = [
    "with entities: in either run, and how many of these are identical",
    "F1: of one run against the other",
]


def markdown(comparison: Comparison) -> str:
    """The same tables in Markdown."""
    reference = comparison.runs[comparison.reference].name
    names = [run.name for run in comparison.runs]
    methods = {run.name: run.method for run in comparison.runs}
    parts = []
    if comparison.by is not None:
        heads = ["", "run", "method", *_RATES, *_TESTS]
        rows = [[lang, name, _code(methods[name]), *cells] for lang, (name, *cells) in _scores(comparison, names)]
        parts += [_table(heads, 3, rows), _bullets(_notes(comparison, reference))]
        heads = ["", "run", "sentences", "differ", f"only {reference} right", "only the run right", "neither"]
        parts.append(_table(heads, 2, [[lang, *cells] for lang, cells in _sentences(comparison, names)]))
    if agreement := _agreement(comparison, names):
        rows = [[lang, cells[0], _code(methods[cells[0]]), *cells[1:]] for lang, cells in agreement]
        parts += [
            f"{_AGREEMENT.format(reference)}.",
            _table(["", "run", "method", *_AGREEMENT_HEADS], 3, rows),
            _bullets(_AGREEMENT_NOTES),
        ]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], left: int, rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * left + ["---:"] * (len(heads) - left), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _code(text: str) -> str:
    return text if text == "defaults" else f"`{text}`"


def _terminal(title: str, heads: Sequence[str], rows: Rows) -> Table:
    table = new_table(title, ["", "run"], heads)
    for number, (lang, cells) in enumerate(rows):
        if lang and number:
            table.add_section()
        table.add_row(lang, Text(cells[0], overflow="fold"), *map(Text, cells[1:]))
    return table


def _dim(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines) + "\n", "dim")


def _scores(comparison: Comparison, names: Sequence[str]) -> Rows:
    rows: Rows = []
    sections: list[tuple[str, Language | Mean]] = [(one.lang, one) for one in comparison.languages]
    if comparison.mean is not None:
        sections.append((f"mean of {comparison.mean.languages}", comparison.mean))
    for title, section in sections:
        for n, (name, result) in enumerate(zip(names, section.results, strict=bool(section.results))):
            rows.append(("" if n else title, [name, *_cells(result)]))
    return rows


def _cells(result: Result) -> list[str]:
    rates, against = result.rates, result.against
    cells = [f"{100 * rate:.1f}" for rate in (rates.precision, rates.recall)]
    cells += [f"{100 * rates.f1:.2f}", _interval(rates.f1_interval)]
    if against is None:
        return [*cells, *"----"]
    p_values = ("-" if p is None else f"{p:.4f}" for p in (against.p_value, against.p_holm))
    change = "-" if against.difference is None else f"{100 * against.difference:+.2f}"
    return [*cells, change, _interval(against.interval, signed=True), *p_values]


def _interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "-"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{low:+.1f}..{high:+.1f}" if signed else f"{low:.1f}-{high:.1f}"


def _sentences(comparison: Comparison, names: Sequence[str]) -> Rows:
    rows: Rows = []
    for language in comparison.languages if comparison.by is not None else ():
        if language.results:
            own = [(name, one) for name, one in zip(names, language.agreement, strict=True) if one is not None]
            for n, (name, one) in enumerate(own):
                right = (one.only_reference_right, one.only_run_right, one.neither_right)
                cells = [name, str(one.sentences), str(one.sentences - one.identical), *map(str, right)]
                rows.append(("" if n else language.lang, cells))
    return rows


def _agreement(comparison: Comparison, names: Sequence[str]) -> Rows:
    rows: Rows = []
    for language in comparison.languages:
        if not language.results:
            own = [(name, one) for name, one in zip(names, language.agreement, strict=True) if one is not None]
            rows += [("" if n else language.lang, [name, *_shares(one)]) for n, (name, one) in enumerate(own)]
    return rows


def _shares(one: Agreement) -> list[str]:
    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f}" if whole else "-"

    f1 = "-" if one.f1 is None else f"{100 * one.f1:.2f}"
    both = share(one.identical_with_entities, one.with_entities)
    return [str(one.sentences), share(one.identical, one.sentences), str(one.with_entities), both, f1]


def _notes(comparison: Comparison, reference: str) -> list[str]:
    notes = [f"diff.: F1 minus that of {reference}, over the same sentences"]
    if comparison.samples and comparison.by is not None:
        tests = len(comparison.runs) - 1
        holm = f"p corrected for the {tests} tests" if tests > 1 else "equal to p, with one test"
        notes += [
            f"p: two-sided paired bootstrap, {comparison.samples:,} resamples of the {ITEMS[comparison.by]}, "
            f"seed {comparison.seed}",
            f"Holm: {holm} of a language (Holm 1979); languages and intervals are not corrected for",
        ]
    return notes


def print_sentences(console: Console, comparison: Comparison) -> None:
    """The sentences in which runs differ, run by run: source side, gold, the reference and the run."""
    reference = comparison.runs[comparison.reference].name
    labels = sorted({span["label"] for one in comparison.sentences for span in _all_spans(one)})
    run = None
    for one in comparison.sentences:
        name = comparison.runs[one.run].name
        if one.run != run:
            run = one.run
            console.print(f"[bold]{escape(reference)}[/bold] and [bold]{escape(name)}[/bold] differ")
        told = _RIGHT[one.right].format(reference=reference, run=name)
        console.print(Text(f"{one.id}  {one.lang}  {told}", style="dim"))
        sides = [(reference, one.reference_spans, one.rejected[0]), (name, one.run_spans, one.rejected[1])]
        shown = Table.grid(padding=(0, 2))
        if one.source_tokens is not None:
            shown.add_row("  source", sentence(one.source_tokens, one.source_spans, labels))
        if one.gold is not None:
            shown.add_row("  gold", sentence(one.tokens, one.gold, labels))
        for title, spans, rejected in sides:
            lost = Text("" if rejected is None else f"rejected: {rejected}", style="red")
            shown.add_row(Text(f"  {title}", overflow="fold"), sentence(one.tokens, spans, labels) + lost)
        console.print(shown)


def _all_spans(one: Sentence) -> Iterable[dict[str, Any]]:
    return (*one.source_spans, *(one.gold or ()), *one.reference_spans, *one.run_spans)


def training_tables(report: Mapping[str, Any]) -> Group:
    """Sentences by origin, checkpoints, and scores if it was scored. `report` as `train` returns it."""
    parts: list[Table | Text] = []
    for role, tallies in report["sentences"].items():
        table = new_table(f"Sentences: {role}", ["source"], ["read", "kept", "left out"])
        for tally in tallies:
            left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "-"
            source = Text(tally["source"], overflow="fold")
            table.add_row(source, str(tally["read"]), str(tally["kept"]), Text(left, overflow="fold"))
        parts.append(table)
    history = new_table("Training", ["epoch"], ["loss", "F1 of validation"])
    for number, entry in enumerate(report["history"], start=1):
        best = " (best)" if number == report["best_checkpoint"] and "f1" in entry else ""
        f1 = f"{100 * entry['f1']:.2f}{best}" if "f1" in entry else "-"
        history.add_row(f"{entry['epoch']:g}", f"{entry['loss']:.4f}", f1)
    parts.append(history)
    if report["evaluation"] is not None:
        columns = ["precision", "recall", "F1", "95% interval", "gold"]
        scores = new_table("Exact entities against gold, in percent", ["language", "label"], columns)
        for one in report["evaluation"]["languages"]:
            for label, rates in (("all", one["overall"]), *one["labels"].items()):
                found = rates["f1_interval"]
                shown = f"{100 * found['low']:.1f}-{100 * found['high']:.1f}" if found else "-"
                cells = [f"{100 * rates[name]:.2f}" for name in ("precision", "recall", "f1")]
                lang = one["lang"] if label == "all" else ""
                scores.add_row(lang, Text(label), *cells, shown, str(rates["gold"]), style="bold" if lang else "")
        parts.append(scores)
    return Group(*parts)
