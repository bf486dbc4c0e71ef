"""Tables of robustness: a line a language and run, then each figure by group: mean, interval, worst, spread."""

from __future__ import annotations

from rich.console import Group as Tables

from xner_ray.evaluate.robustness import FIGURES, Entry, Group, Robustness, Spread
from xner_ray.report.tables import Table, interval_text

_TITLES = {
    "f1": "F1",
    "missing": "Missing entities",
    "doubtful": "Doubtful entities",
    "score": "Mean score",
    "overconfidence": "Overconfidence",
    "calibration_error": "Calibration error",
}


def robustness_tables(found: Robustness) -> list[Table]:
    """Return the tables, for terminal and Markdown. Percent, but points of overconfidence."""
    made = [_languages(found), _figures("Each language", found.languages, found)]
    if found.domains:
        made.append(_figures("Each domain", found.domains, found))
    if losses := _losses(found):
        made.append(losses)
    for figure in FIGURES:
        if any(figure in group.figures for group in found.groups):
            made.append(_by_group(figure, found))
    return made


def shown(found: Robustness) -> Tables:
    """Return the tables for a terminal."""
    return Tables(*robustness_tables(found))


def markdown(found: Robustness) -> str:
    """Return the tables in Markdown."""
    return "\n\n".join(table.markdown() for table in robustness_tables(found)) + "\n"


def _languages(found: Robustness) -> Table:
    table = Table(
        "Languages",
        ["", "script", "words", "family", "resources"],
        ["distance", "names kept"],
        [
            "distance: share of known syntactic features (URIEL) in which it differs from its source language",
            "names kept: share of source entities whose words stand unchanged in the sentence",
        ],
    )
    for one in found.languages:
        words = ("spaces" if one.spaces else "no spaces") + (", rtl" if one.direction == "rtl" else "")
        distance = "unknown" if one.distance is None else f"{one.distance:.2f}"
        kept = "-" if one.names_kept is None else f"{100 * one.names_kept:.0f}%"
        table.add_row(one.name, one.script, words, one.family, one.resources, distance, kept)
    return table


def _figures(title: str, entries: list[Entry], found: Robustness) -> Table:
    domains = any(one.domain is not None for one in entries)
    items = {one.by for one in entries}
    drawn = "documents where every row has one and there are 20, else sentences" if "doc" in items else "sentences"
    none = [one.name for one in entries if not one.with_gold]
    some = [f"{one.name} ({one.with_gold:,})" for one in entries if 0 < one.with_gold < one.rows]
    notes = [
        f"F1: exact entities against gold ({found.scheme}), with its {found.confidence:.0%} interval",
        "missing: source entities without a place, those of rejected rows too; doubt: entities that "
        f"score below {found.doubtful:g}",
        "over: mean score minus the share that is right, in points; error: expected calibration error",
    ]
    if none:
        notes.append(f"without gold, so without F1, over and error: {', '.join(dict.fromkeys(none))}")
    if some:
        notes.append(f"with gold in some rows, of which these are: {', '.join(some)}")
    if found.samples:
        notes.append(f"interval: {found.samples:,} bootstrap resamples of the {drawn}, seed {found.seed}")
    left = ["", "domain"] if domains else [""]
    right = ["rows", "F1", "interval", "missing", "doubt", "score", "over", "error"]
    table = Table(f"{title}, in percent", left, right, notes)
    for one in entries:
        f1 = one.figures.get("f1")
        cells = [one.name, one.domain] if domains else [one.name]
        table.add_row(
            *cells,
            f"{one.rows:,}",
            _value(one, "f1"),
            interval_text(f1.interval if f1 else None),
            *(_value(one, name) for name in ("missing", "doubtful", "score", "overconfidence", "calibration_error")),
        )
    return table


def _value(one: Entry, name: str) -> str:
    figure = one.figures.get(name)
    if figure is None:
        return "-"
    return f"{100 * figure.value:{'+' if name == 'overconfidence' else ''}.1f}"


def _losses(found: Robustness) -> Table | None:
    reasons = sorted({reason for one in found.languages for reason in one.missing})
    if not reasons:
        return None
    table = Table(
        "Missing entities by reason", [""], ["to place", *reasons], ["in percent of the source entities to place"]
    )
    for one in found.languages:
        if one.source_entities:
            shares = (f"{100 * one.missing.get(reason, 0) / one.source_entities:.1f}" for reason in reasons)
            table.add_row(one.name, f"{one.source_entities:,}", *shares)
    return table


def _by_group(figure: str, found: Robustness) -> Table:
    notes = ["mean: unweighted, over the languages; worst: the language; range: largest minus smallest; sd: n - 1"]
    if len({one.lang for one in found.languages}) < len(found.languages):
        notes.append("n: languages; one that several runs have counts once in each")
    if figure in ("f1", "overconfidence", "calibration_error"):
        notes.append("languages without gold are left out")
    if figure == "calibration_error":
        notes.append("no intervals: the error of a resample is larger than that of the data by its noise")
    unit = "percentage points" if figure == "overconfidence" else "percent"
    title = f"{_TITLES[figure]} by group, in {unit}"
    table = Table(title, ["", "group"], ["n", "mean", "interval", "worst", "range", "sd"], notes)
    sections: dict[str, list[tuple[Group, Spread]]] = {}
    for group in found.groups:
        if (spread := group.figures.get(figure)) is not None:
            sections.setdefault(group.dimension, []).append((group, spread))
    alike = []
    for dimension, own in sections.items():
        if len(own) > 1 or dimension in ("all", "domain"):
            table.add_section(dimension, [_cells(group, spread, figure) for group, spread in own])
        else:  # the line of `all` once more
            alike.append(f"{dimension}: {own[0][0].name}")
    if alike:
        table.notes = [*table.notes, f"all in one group: {', '.join(alike)}"]
    return table


def _cells(group: Group, spread: Spread, figure: str) -> list[str]:
    signed = figure == "overconfidence"
    plus = "+" if signed else ""
    worst = f"{spread.worst} {100 * spread.worst_value:{plus}.1f}" if spread.languages > 1 else spread.worst
    width, sd = ("-" if one is None else f"{100 * one:.1f}" for one in (spread.range, spread.sd))
    mean = f"{100 * spread.mean:{plus}.1f}"
    return [group.name, str(spread.languages), mean, interval_text(spread.interval, signed=signed), worst, width, sd]
