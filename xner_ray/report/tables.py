"""A run's report, its scores and its sentences on the terminal.

The report is the sum of the parts' footers and of what the index counted, so a retried unit never counts twice and a
dead run can be reported from its folder alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from xner_ray.data.row import unmatchable
from xner_ray.evaluate.scores import ITEMS, Evaluations, Rates, Score
from xner_ray.run.counters import Report

STYLES = ("bold cyan", "bold magenta", "bold green", "bold yellow", "bold blue", "bold red")


def new_table(title: str, left: Sequence[str], right: Sequence[str] = ()) -> Table:
    """A table with its columns of text, then those of numbers; eight of them fit 80 characters."""
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in left:
        table.add_column(Text(name))
    for name in right:
        table.add_column(Text(name), justify="right")
    return table


def run_tables(report: Report) -> Group:
    """The report as terminal tables: rows and entities per language, stages, and every loss with its reason."""
    columns = ("read", "emitted", "rejected", "entities", "projected", "%", "incomplete")
    languages = new_table("Rows and entities", ["language"], columns)
    for lang, counters in report.languages.items():
        rows, entities = counters["rows"], counters["entities"]
        share = f"{100 * entities['projected'] / entities['source']:.1f}" if entities["source"] else "-"
        cells = [rows["read"], rows["emitted"], rows["rejected"], entities["source"], entities["projected"], share]
        languages.add_row(lang, *map(str, cells), str(counters["incomplete_rows"]))
    stages = new_table("Stages", ["stage"], ["rows", "seconds", "rows/s", "tokens", "in model"])
    for name, stage in report.stages.items():
        rate = stage["rows_per_second"]
        speed = "-" if rate is None else f"{rate:,.0f}"
        shown = [str(stage["rows"]), f"{stage['seconds']:.1f}", speed, f"{stage['tokens']:,}"]
        stages.add_row(name, *shown, in_model(stage))
    losses = {f"rejected: {reason}": n for reason, n in report.rejects.items()}
    losses |= {f"unprojected: {reason}": n for reason, n in report.entities["unprojected"].items()}
    losses |= {f"label dropped: {label}": n for label, n in report.labels["dropped"].items()}
    losses |= {"tags repaired": report.repaired_tags} if report.repaired_tags else {}
    losses |= {f"flag: {flag}": n for flag, n in report.flags.items()}
    parts: list[Table] = [languages, stages]
    if losses:
        table = new_table("Losses and repairs", ["what"], ["count"])
        for what, number in sorted(losses.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(Text(what), str(number))
        parts.append(table)
    return Group(*parts)


def in_model(stage: Mapping[str, Any]) -> str:
    """A stage's share of time inside its model, as text; a dash for a stage without one."""
    return f"{stage['model_seconds'] / stage['seconds']:.0%}" if stage["model_seconds"] else "-"


def scores_table(evaluations: Evaluations, *, wide: bool = False) -> Group:
    """Scores per language and label, in percent, F1 with its interval; `wide`: precision and recall with theirs."""
    confidence = f"{evaluations.confidence:.0%} interval"
    columns = ["precision", "recall", "F1"]
    columns = [cell for name in columns for cell in (name, confidence)] if wide else [*columns, confidence]
    title = f"Exact entities against gold, in percent: {evaluations.scheme}"
    table = new_table(title, ["language", "label"], [*columns, "gold", "ratio"])

    def add(lang: str, label: str, rates: Rates) -> None:
        cells = []
        for name in ("precision", "recall", "f1"):
            cells.append(f"{100 * getattr(rates, name):.2f}")
            if wide or name == "f1":
                found = getattr(rates, f"{name}_interval")
                cells.append("-" if found is None else f"{100 * found.low:.1f}-{100 * found.high:.1f}")
        if isinstance(rates, Score):
            cells += [str(rates.gold), f"{rates.predicted / rates.gold:.3f}" if rates.gold else "-"]
        table.add_row(lang, Text(label), *cells, style="bold" if lang else "")

    for result in evaluations:
        add(result.lang, "all", result.overall)
        for label, score in result.labels.items():
            add("", label, score)
        if len(result.labels) > 1:
            add("", "macro", result.macro)
        table.add_section()
    if evaluations.macro is not None:
        add(f"mean of {evaluations.macro.languages}", "all", evaluations.macro.overall)
        for label, rates in evaluations.macro.labels.items():
            add("", label, rates)
    notes = "ratio: projected entities / gold entities"
    if evaluations.samples:
        notes += f"\ninterval: {evaluations.samples:,} bootstrap resamples of the {ITEMS[evaluations.by]}"
        notes += f", seed {evaluations.seed}"
    return Group(table, Text(notes + "\n", style="dim"))


def evaluation_tables(evaluations: Evaluations, *, wide: bool = False) -> Group:
    """Scores, errors by kind, and what the annotations allow."""
    kinds = ("exact", "type", "boundary", "both", "missed", "spurious")
    errors = new_table("What became of each entity", ["language", "label"], kinds)
    columns = ("sentences", "rejected", "source", "gold", "shared", "precision", "recall", "F1")
    ceiling = new_table("What the annotations allow", ["language"], columns)
    for result in evaluations:
        for label, found in [("all", result.errors), *result.errors_by_label.items()]:
            first = label == "all"
            cells = (str(number) for number in asdict(found).values())
            errors.add_row(result.lang if first else "", Text(label), *cells, style="bold" if first else "")
        errors.add_section()
        rows, most = (str(result.rows), str(result.rejected_rows)), result.ceiling
        if most is None:
            ceiling.add_row(result.lang, *rows, "-", str(result.overall.gold), *"----")
        else:
            percent = (f"{100 * value:.2f}" for value in (most.precision, most.recall, most.f1))
            ceiling.add_row(result.lang, *rows, str(most.source), str(result.overall.gold), str(most.shared), *percent)
    of_errors = (
        "type: other label; boundary: other words; both: other words and label\n"
        "gold: all but spurious; projected: all but missed\n"
    )
    of_ceiling = (
        "if every source entity finds its place; shared: min(source, gold), summed over\nsentences and labels\n"
    )
    return Group(scores_table(evaluations, wide=wide), errors, Text(of_errors, "dim"), ceiling, Text(of_ceiling, "dim"))


def sentence(tokens: Sequence[str], spans: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Text:
    """Words with their entities coloured by label and the label behind each."""
    text = Text()
    starts = {span["start"]: span for span in spans}
    position = 0
    while position < len(tokens):
        span = starts.get(position)
        end = span["end"] if span else position + 1
        style = STYLES[list(labels).index(span["label"]) % len(STYLES)] if span and span["label"] in labels else ""
        text.append(" ".join(tokens[position:end]), style=style)
        if span:
            text.append(f"[{span['label']}]", style="dim")
        text.append(" ")
        position = end
    return text


def print_sentences(console: Console, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Both sides of each row, one under the other."""
    for row in rows:
        aside = unmatchable(row)
        source = [span for index, span in enumerate(row["source_spans"] or ()) if index not in aside]
        console.print(Text(f"{row['id']}", style="dim"))
        if row["source_tokens"] is not None:
            console.print(Text(f"  {row['source_lang']}  ") + sentence(row["source_tokens"], source, labels))
        console.print(Text(f"  {row['lang']}  ") + sentence(row["tokens"], row["spans"], labels))
