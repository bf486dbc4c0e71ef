"""Tables of a comparison and of a training, and the sentences in which compared runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from xner_ray.evaluate.comparison import Against, Agreement, Comparison, Result
from xner_ray.evaluate.controls import LEVEL, Verdict
from xner_ray.evaluate.scores import ITEMS, Evaluations
from xner_ray.report.tables import Table, interval_text, scores_table, sentence

_RATES = ["P", "R", "F1", "95% interval"]
_TESTS = ["diff.", "95% interval", "p", "Holm"]
_RIGHT = {
    "reference": "only {reference} is right",
    "run": "only {run} is right",
    "neither": "neither is right",
    None: "no gold",
}


def comparison_tables(comparison: Comparison, verdicts: Sequence[Verdict] = (), *, wide: bool = False) -> Group:
    """Return runs, scores with differences, how many sentences differ, and verdicts on runs with controls.

    wide: differences beside the scores.
    """
    names = [[f"{n} {run.name}"] for n, run in enumerate(comparison.runs, start=1)]
    number = comparison.reference + 1
    first = f"run {number}"
    runs = Table("Runs", ["", "run", "recipe keys in which they differ"])
    for n, run in enumerate(comparison.runs, start=1):
        runs.add_row(n, run.name + (" (reference)" if n == number else ""), run.method)
    parts = [runs]
    if comparison.by is not None:
        title, notes = f"Exact entities against gold, in percent: {comparison.scheme}", _notes(comparison, first)
        if wide:
            parts.append(_scores(comparison, names, title=title, notes=notes))
        else:
            parts.append(_scores(comparison, names, slice(4), title=title))
            title = f"F1 against that of {first}, in percentage points"
            parts.append(_scores(comparison, names, slice(4, 8), title=title, notes=notes))
        note = f"right: of those that differ, all entities are right in {first} alone, in the run alone, in neither"
        differing = _differing(comparison, names, [f"{number} right", "run right", "neither"])
        differing.title, differing.notes = f"Sentences whose entities are not those of {first}", [note]
        parts.append(differing)
    judged = [verdict_table(verdicts, comparison.runs[comparison.reference].name)] if verdicts else []
    return Group(*parts, *_agreement(comparison, names, first), *judged)


def markdown(comparison: Comparison) -> str:
    """Return the same tables in Markdown."""
    reference = comparison.runs[comparison.reference].name
    names = [[run.name] for run in comparison.runs]
    methods = [[run.name, run.method if run.method == "defaults" else f"`{run.method}`"] for run in comparison.runs]
    parts = []
    if comparison.by is not None:
        parts.append(_scores(comparison, methods, notes=_notes(comparison, reference)))
        parts.append(_differing(comparison, names, [f"only {reference} right", "only the run right", "neither"]))
    parts += _agreement(comparison, methods, reference)
    return "\n\n".join(table.markdown() for table in parts) + "\n"


# In the functions below, `runs` has for each run the cells that every row of it begins with: its name, or name and
# method.


def _left(runs: Sequence[Sequence[str]]) -> list[str]:
    return ["", "run", "method"][: 1 + len(runs[0])]


def _scores(
    comparison: Comparison,
    runs: Sequence[Sequence[str]],
    columns: slice = slice(None),
    *,
    title: str = "",
    notes: Sequence[str] = (),
) -> Table:
    """Return those `columns` of scores and differences, per language and over all of them."""
    table = Table(title, _left(runs), [*_RATES, *_TESTS][columns], notes)
    sections = [(one.lang, one.results) for one in comparison.languages]
    if comparison.mean is not None:
        sections.append((f"mean of {comparison.mean.languages}", comparison.mean.results))
    for name, results in sections:  # none of a language without gold
        table.add_section(name, [[*run, *_cells(one)[columns]] for run, one in zip(runs, results, strict=False)])
    return table


def _cells(result: Result) -> list[str]:
    rates, against = result.rates, result.against
    cells = [f"{100 * rate:.1f}" for rate in (rates.precision, rates.recall)]
    cells += [f"{100 * rates.f1:.2f}", interval_text(rates.f1_interval)]
    if against is None:
        return [*cells, *"----"]
    p_values = ("-" if p is None else f"{p:.4f}" for p in (against.p_value, against.p_holm))
    change = "-" if against.difference is None else f"{100 * against.difference:+.2f}"
    return [*cells, change, interval_text(against.interval, signed=True), *p_values]


def _differing(comparison: Comparison, runs: Sequence[Sequence[str]], right: Sequence[str]) -> Table:
    """Return how many sentences with gold differ from the reference's; `right`: heads that say which run is right."""
    right_of = attrgetter("only_reference_right", "only_run_right", "neither_right")
    table = Table("", _left(runs), ["sentences", "differ", *right])
    for language in comparison.languages:
        if language.results:
            own = zip(runs, language.agreement, strict=True)
            cells = [
                [*run, one.sentences, one.sentences - one.identical, *right_of(one)]
                for run, one in own
                if one is not None
            ]
            table.add_section(language.lang, cells)
    return table


def _agreement(comparison: Comparison, runs: Sequence[Sequence[str]], reference: str) -> list[Table]:
    """Return the table of the languages without gold, if there are any."""
    table = Table(
        f"Agreement with {reference}, in percent; without gold, so no measure of quality",
        _left(runs),
        ["sentences", "identical", "with entities", "identical", "F1"],
        ["with entities: in either run, and how many of these are identical", "F1: of one run against the other"],
    )
    for language in comparison.languages:
        if not language.results:
            own = zip(runs, language.agreement, strict=True)
            table.add_section(language.lang, [[*run, *_shares(one)] for run, one in own if one is not None])
    return [table] if table.rows else []


def _shares(one: Agreement) -> list[str]:
    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f}" if whole else "-"

    f1 = "-" if one.f1 is None else f"{100 * one.f1:.2f}"
    both = share(one.identical_with_entities, one.with_entities)
    return [str(one.sentences), share(one.identical, one.sentences), str(one.with_entities), both, f1]


def verdict_table(verdicts: Sequence[Verdict], reference: str) -> Table:
    """Return for each method with a control whether it beats the reference, and the same with exchanged pictures."""
    columns = ["F1", f"minus {reference}", "95% interval", "Holm", "minus its control", "95% interval", "Holm"]
    notes = [
        f"control: the same with exchanged pictures or texts; yes: the interval is above zero and Holm below {LEVEL:g}",
        f"Holm: p corrected for the tests of a language, two a method; better: it beats {reference} and its control",
    ]
    heads = ["method", "control", f"beats {reference}?", "beats its control?"]
    table = Table("Teachers: beyond the text, and beyond chance", heads, columns, notes)
    for lang in dict.fromkeys(one.lang for one in verdicts):
        rows = [
            [
                *(one.run, one.control_run, one.beats_text, one.beats_control, f"{100 * one.f1:.2f}"),
                *(cell for each in (one.text, one.control) for cell in _difference(each)),
            ]
            for one in verdicts
            if one.lang == lang
        ]
        table.add_section(lang or "mean", rows)
    return table


def _difference(against: Against) -> list[str]:
    change = "-" if against.difference is None else f"{100 * against.difference:+.2f}"
    p_value = "-" if against.p_holm is None else f"{against.p_holm:.4f}"
    return [change, interval_text(against.interval, signed=True), p_value]


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
    """Print the sentences in which runs differ, run by run: source side, gold, the reference and the run."""
    reference = comparison.runs[comparison.reference].name
    labels = sorted(
        {
            span["label"]
            for one in comparison.sentences
            for span in (*one.source_spans, *(one.gold or ()), *one.reference_spans, *one.run_spans)
        }
    )
    run = None
    for one in comparison.sentences:
        name = comparison.runs[one.run].name
        if one.run != run:
            run = one.run
            console.print(f"[bold]{escape(reference)}[/bold] and [bold]{escape(name)}[/bold] differ")
        right = _RIGHT[one.right].format(reference=reference, run=name)
        console.print(Text(f"{one.id}  {one.lang}  {right}", style="dim"))
        sides = [(reference, one.reference_spans, one.rejected[0]), (name, one.run_spans, one.rejected[1])]
        shown = RichTable.grid(padding=(0, 2))
        if one.source_tokens is not None:
            shown.add_row("  source", sentence(one.source_tokens, one.source_spans, labels))
        if one.gold is not None:
            shown.add_row("  gold", sentence(one.tokens, one.gold, labels))
        for title, spans, rejected in sides:
            lost = Text("" if rejected is None else f"rejected: {rejected}", style="red")
            shown.add_row(Text(f"  {title}", overflow="fold"), sentence(one.tokens, spans, labels) + lost)
        console.print(shown)


def training_tables(report: Mapping[str, Any]) -> Group:
    """Return sentences by origin, checkpoints, and scores if there are any. `report`: as `train` returns it."""
    parts = []
    for role, tallies in report["sentences"].items():
        table = Table(f"Sentences: {role}", ["source"], ["read", "kept", "left out"])
        for tally in tallies:
            left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "-"
            table.add_row(tally["source"], tally["read"], tally["kept"], left)
        parts.append(table)
    history = Table("Training", ["epoch"], ["loss", "F1 of validation"])
    for number, entry in enumerate(report["history"], start=1):
        best = " (best)" if number == report["best_checkpoint"] and "f1" in entry else ""
        f1 = f"{100 * entry['f1']:.2f}{best}" if "f1" in entry else "-"
        history.add_row(f"{entry['epoch']:g}", f"{entry['loss']:.4f}", f1)
    parts.append(history)
    if report["evaluation"] is not None:
        found = TypeAdapter(Evaluations).validate_python(report["evaluation"])
        parts.append(scores_table(found, against=report.get("against", {})))  # of earlier versions: none
    return Group(*parts)
