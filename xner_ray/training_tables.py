"""A student's report for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from xner_ray.report import new_table


def tables(report: Mapping[str, Any]) -> Group:
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
