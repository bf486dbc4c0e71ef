"""Tables for terminal, Markdown and HTML: a run's report and scores; and coloured sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from xner_ray.data.row import unmatchable
from xner_ray.evaluate.bootstrap import Interval
from xner_ray.evaluate.scores import GOLD, ITEMS, Evaluations, Rates, Score
from xner_ray.report.colours import look
from xner_ray.report.shown import plain
from xner_ray.run.counters import Report, Stage

STYLES = ("bold cyan", "bold magenta", "bold green", "bold yellow", "bold blue", "bold red")
_ANY = 10_000  # columns, more than any table has


@dataclass(frozen=True)
class Row:
    """`section`: a section begins with this row. `style`: for the terminal alone."""

    cells: Sequence[str]
    section: bool = False
    style: str = ""


@dataclass
class Table:
    """Plain text in columns, with a renderer for each medium; the macro `table` of page.html is that for HTML.

    left, right: heads of the columns of text, then of those of numbers. notes: lines below the table. On a terminal of
    80 characters eight columns fit; no terminal cuts a number in two.
    """

    title: str
    left: Sequence[str]
    right: Sequence[str] = ()
    notes: Sequence[str] = ()
    rows: list[Row] = field(default_factory=list)

    def add_row(self, *cells: object, style: str = "") -> None:
        self.rows.append(Row([*map(str, cells)], style=style))

    def add_section(self, name: str, rows: Iterable[Sequence[object]], *, style: str = "") -> None:
        """Add rows under one name, which only the first of them shows; `style` is of that one."""
        for number, cells in enumerate(rows):
            first = number == 0
            self.rows.append(Row([name if first else "", *map(str, cells)], first, style if first else ""))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown: RenderableType = self._columns(self.right)
        if Measurement.get(console, options.update(max_width=_ANY), shown).maximum > options.max_width:
            narrow = self._columns([name.replace(" ", "\n") for name in self.right], no_wrap=True)
            least = Measurement.get(console, options.update(max_width=_ANY), narrow).minimum
            shown = narrow if least <= options.max_width else self._cards()
        yield shown
        if self.notes:
            yield Text("\n".join(self.notes) + "\n", "dim")

    def _columns(self, right: Sequence[str], *, no_wrap: bool = False) -> RichTable:
        """Return the table as columns. right: heads of the columns of numbers; no_wrap: which are never folded."""
        shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
        shown.title = Text(self.title) if self.title else None
        for name in self.left:
            shown.add_column(Text(name), overflow="fold")
        for name in right:
            shown.add_column(Text(name), overflow="fold", justify="right", no_wrap=no_wrap)
        for row in self.rows:
            if row.section:
                shown.add_section()
            shown.add_row(*map(Text, row.cells), style=row.style)
        return shown

    def _cards(self) -> Group:
        """Return each row as lines, a number a line, for a terminal that is too narrow for the columns."""
        lines = [Text(self.title, "italic")] if self.title else []
        wide = max(map(len, self.right), default=0)
        section = ""
        for row in self.rows:
            texts = row.cells[: len(self.left)]
            if row.section:
                section = texts[0]
            named = [section, *texts[1:]] if self.rows[0].section else texts
            lines.append(Text("\n" + " ".join(filter(None, named)), row.style or "bold"))
            cells = zip(self.right, row.cells[len(self.left) :], strict=False)
            lines += [Text(f"  {name:<{wide}}  {cell}") for name, cell in cells if cell]
        return Group(*lines, Text())

    def markdown(self) -> str:
        """Return title, table and notes as paragraphs of Markdown, without a line break at the end."""
        rules = ["---"] * len(self.left) + ["---:"] * len(self.right)
        lines = [[*self.left, *self.right], rules, *(row.cells for row in self.rows)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts = [self.title and f"{self.title}.", table, "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(filter(None, parts))


def interval_text(interval: Interval | None, *, signed: bool = False, digits: int = 1) -> str:
    """Return an interval in percent; of a difference `signed`, in percentage points.

    >>> interval_text(Interval(0.5, 0.625)), interval_text(Interval(-0.01, 0.02), signed=True), interval_text(None)
    ('50.0-62.5', '-1.0..+2.0', '-')
    """
    if interval is None:
        return "-"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{low:+.{digits}f}..{high:+.{digits}f}" if signed else f"{low:.{digits}f}-{high:.{digits}f}"


def run_tables(report: Report) -> Group:
    """Return a report as tables: rows and entities per language, stages, and every loss with its reason."""
    columns = ("read", "emitted", "rejected", "entities", "projected", "%", "incomplete")
    languages = Table("Rows and entities", ["language"], columns)
    for lang, counters in report.languages.items():
        rows, entities = counters["rows"], counters["entities"]
        share = f"{100 * entities['projected'] / entities['source']:.1f}" if entities["source"] else "-"
        cells = (rows["read"], rows["emitted"], rows["rejected"], entities["source"], entities["projected"], share)
        languages.add_row(lang, *cells, counters["incomplete_rows"])
    losses = {f"rejected: {reason}": n for reason, n in report.rejects.items()}
    losses |= {f"unprojected: {reason}": n for reason, n in report.entities["unprojected"].items()}
    losses |= {f"label dropped: {label}": n for label, n in report.labels["dropped"].items()}
    losses |= {"tags repaired": report.repaired_tags} if report.repaired_tags else {}
    losses |= {f"flag: {flag}": n for flag, n in report.flags.items()}
    lost = Table("Losses and repairs", ["what"], ["count"])
    for what, number in sorted(losses.items(), key=lambda item: (-item[1], item[0])):
        lost.add_row(what, number)
    return Group(languages, stages_table(report.stages), *([lost] if losses else []))


def stages_table(stages: Mapping[str, Stage]) -> Table:
    """Return rows, time and tokens per stage."""
    table = Table("Stages", ["stage"], ["rows", "seconds", "rows/s", "tokens", "in model"])
    for name, stage in stages.items():
        rate = stage["rows_per_second"]
        speed = "-" if rate is None else f"{rate:,.0f}"
        table.add_row(name, stage["rows"], f"{stage['seconds']:.1f}", speed, f"{stage['tokens']:,}", in_model(stage))
    return table


def in_model(stage: Stage) -> str:
    """Return the share of a stage's time inside its model, as text; a dash for a stage without one."""
    return f"{stage['model_seconds'] / stage['seconds']:.0%}" if stage["model_seconds"] else "-"


def scores_table(evaluations: Evaluations, *, wide: bool = False, against: Mapping[str, str] | None = None) -> Table:
    """Return scores per language and label, in percent, F1 with its interval; `wide`: each score with its own.

    against: what the scores of a language are against; gold labels where it says nothing.
    """
    confidence = f"{evaluations.confidence:.0%} interval"
    columns = ["precision", "recall", "F1"]
    columns = [cell for name in columns for cell in (name, confidence)] if wide else [*columns, confidence]
    notes = ["ratio: predicted entities / gold entities"]
    if evaluations.samples:
        items = ITEMS[evaluations.by]
        notes.append(f"interval: {evaluations.samples:,} bootstrap resamples of the {items}, seed {evaluations.seed}")
    made = [f"{lang}: against {kind}" for lang, kind in (against or {}).items() if kind != GOLD]
    if made:
        notes.append(f"{'; '.join(made)}: how far the student agrees with these, no quality")
    title = f"Exact entities{'' if made else ' against gold'}, in percent: {evaluations.scheme}"
    table = Table(title, ["language", "label"], [*columns, "gold", "ratio"], notes)
    for name, lines in score_sections(evaluations):
        table.add_section(name, [(label, *_score(rates, wide)) for label, rates in lines], style="bold")
    return table


def score_sections(evaluations: Evaluations) -> Iterator[tuple[str, list[tuple[str, Rates]]]]:
    """Yield each language, then the mean of several, with its lines: label and rates, first those of all labels."""
    for one in evaluations:
        macro = [("macro", one.macro)] if len(one.labels) > 1 else []
        yield one.lang, [("all", one.overall), *one.labels.items(), *macro]
    if (mean := evaluations.macro) is not None:
        yield f"mean of {mean.languages}", [("all", mean.overall), *mean.labels.items()]


def _score(rates: Rates, wide: bool) -> list[str]:
    cells = []
    for name in ("precision", "recall", "f1"):
        cells.append(f"{100 * getattr(rates, name):.2f}")
        if wide or name == "f1":
            cells.append(interval_text(getattr(rates, f"{name}_interval")))
    if not isinstance(rates, Score):
        return [*cells, "", ""]
    return [*cells, str(rates.gold), f"{rates.predicted / rates.gold:.3f}" if rates.gold else "-"]


def evaluation_tables(evaluations: Evaluations, *, wide: bool = False) -> Group:
    """Return scores, errors by kind, and what the annotations allow."""
    notes = [
        "type: other label; boundary: other words; both: other words and label",
        "gold: all but spurious; projected: all but missed",
    ]
    kinds = ("exact", "type", "boundary", "both", "missed", "spurious")
    errors = Table("What became of each entity", ["language", "label"], kinds, notes)
    notes = [
        "if every source entity is placed right; shared: min(source, gold), summed over",
        "sentences and labels",
    ]
    columns = ("sentences", "rejected", "source", "gold", "shared", "precision", "recall", "F1")
    ceiling = Table("What the annotations allow", ["language"], columns, notes)
    notes = [
        "error: expected calibration error, bins of equal mass; AUROC: a right entity scores higher than a wrong one",
    ]
    calibration = Table(
        "Whether scores are probabilities",
        ["language"],
        ["entities", "mean score", "in gold", "error", "AUROC"],
        notes,
    )
    for result in evaluations:
        if (found := result.calibration) is not None:
            figures = (found.score, found.right, found.error, found.auroc)
            shown = ("-" if figure is None else f"{figure:.3f}" for figure in figures)
            calibration.add_row(result.lang, f"{found.entities:,}", *shown)
        kinds_of = [("all", result.errors), *result.errors_by_label.items()]
        cells = [(label, *asdict(found).values()) for label, found in kinds_of]
        errors.add_section(result.lang, cells, style="bold")
        rows, most, gold = (result.rows, result.rejected_rows), result.ceiling, result.overall.gold
        if most is None:
            ceiling.add_row(result.lang, *rows, "-", gold, *"----")
        else:
            percent = (f"{100 * value:.2f}" for value in (most.precision, most.recall, most.f1))
            ceiling.add_row(result.lang, *rows, most.source, gold, most.shared, *percent)
    tables = [scores_table(evaluations, wide=wide), errors, ceiling]
    return Group(*tables, *([calibration] if calibration.rows else []))


def sentence(tokens: Sequence[str], spans: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Text:
    """Return words with their entities coloured by label, and the label behind each."""
    text = Text()
    starts = {span["start"]: span for span in spans}
    position = 0
    while position < len(tokens):
        span = starts.get(position)
        end = span["end"] if span else position + 1
        style = STYLES[look(span["label"]).hue % len(STYLES)] if span and span["label"] in labels else ""
        text.append(plain(" ".join(tokens[position:end])), style=style)
        if span:
            text.append(plain(f"[{span['label']}]"), style="dim")
        text.append(" ")
        position = end
    return text


def print_sentences(console: Console, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Print both sides of each row, one under the other."""
    for row in rows:
        aside = unmatchable(row)
        source = [span for index, span in enumerate(row["source_spans"] or ()) if index not in aside]
        console.print(Text(plain(str(row["id"])), style="dim"))
        if row["source_tokens"] is not None:
            console.print(Text(f"  {row['source_lang']}  ") + sentence(row["source_tokens"], source, labels))
        console.print(Text(f"  {row['lang']}  ") + sentence(row["tokens"], row["spans"], labels))
