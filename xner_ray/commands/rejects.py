"""The command `rejects`: the rejected rows of a run, by reason, to look at or to mend and feed back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group
from rich.text import Text

from xner_ray import defaults
from xner_ray.commands.inspect import read_index, whole_parts
from xner_ray.data.row import REJECTED, ROW, carried_names
from xner_ray.errors import InputError, Reason, did_you_mean
from xner_ray.report.cures import cure
from xner_ray.report.look import printable
from xner_ray.report.shown import Displayed
from xner_ray.report.tables import Table
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.write.jsonl import plain

_SHOWN_CHARACTERS = 300  # of a text
_SIDE = ("text", "tokens", "offsets")
_COLUMNS = ("id", "doc_id", "split", "lang", "row", "status", "reason", "detail")


@dataclass(repr=False)
class Rejects(Displayed):
    """Rejected rows. rows: all that the units done so far hold. examples: the first of each reason.

    An example has id, lang, split, reason, detail, and the side that the input gives: text or tokens, and spans over
    code points of the text where the row's labels were read. The other columns of the user come with them.
    """

    run: str
    finished: bool
    units_done: int
    units: int
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # by reason, the commonest first
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    written: str = ""  # the file with all of them
    rows_written: int = 0

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __rich__(self) -> Group:
        lines: list[Any] = []
        if not self.finished:
            lines.append(Text(f"{self.run} is not finished: {self.units_done:,} of {self.units:,} units", "yellow"))
        if not self.rejected:
            return Group(*lines, Text(f"no row of {self.rows:,} was rejected"))
        table = Table("Rejected rows", ["reason", "what to do"], ["rows", "%"])
        for reason, count in self.rejected.items():
            table.add_row(reason, cure(reason), f"{count:,}", f"{100 * count / self.rows:.2f}")
        lines.append(table)
        for reason, rows in self.examples.items():
            lines.append(Text(reason, "bold"))
            for row in rows:
                lines.append(Text(f"  {row['id']}  {row['lang']}", "dim"))
                lines.append(Text(f"    {printable(row['detail'])}", "red"))
                shown = row.get("text") or " ".join(row.get("tokens") or ())
                lines += [Text(f"    {_short(shown)}")] if shown else []
        if self.written:
            lines.append(Text(f"{self.written}: {self.rows_written:,} rows; mended, it is an input (format jsonl)"))
        return Group(*lines)


def _short(text: str) -> str:
    text = printable(text.replace("\n", "\\n"))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def rejects(
    run: str | os.PathLike[str],
    *,
    reason: str | None = None,
    limit: int = defaults.REJECTS_SHOWN,
    output: str | os.PathLike[str] | None = None,
) -> Rejects:
    """Return the rejected rows of a run, finished or not, by reason, with the first `limit` of each.

    reason: one of `errors.Reason`, that alone. output: a file of JSON lines for all of them, to be mended and read
    again. InputError for an unknown reason; DamageError if a part is not what was written.
    """
    if reason is not None and reason not in set(Reason):
        raise InputError(f"rejects: {reason!r} is no reason to reject a row{did_you_mean(reason, map(str, Reason))}")
    folder = RunFolder(os.fspath(run))
    recipe, index = folder.recipe(), read_index(folder)
    parts = whole_parts(folder, index.units)
    done = [unit for unit in index.units if unit.name in parts]
    found = Rejects(folder.root, folder.is_sealed(), len(done), len(index.units), sum(unit.n_rows for unit in done))
    counts: dict[str, int] = {}

    def rows() -> Iterator[dict[str, Any]]:
        for unit in done:
            if whole.counters(parts[unit.name]).get("rejects") == {}:
                continue
            for row in _rejected(part_files.read_part(parts[unit.name], checked=True), reason):
                made = _given(row, source=recipe.direction == "train")
                counts[row["reason"]] = counts.get(row["reason"], 0) + 1
                if len(examples := found.examples.setdefault(row["reason"], [])) < limit:
                    examples.append(made)
                yield made

    if output is None:
        for _ in rows():
            pass
    else:
        found.written = os.fspath(output)
        storage.publish_stream(found.written, (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows()))
        found.rows_written = sum(counts.values())
    found.rejected = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    found.examples = {name: found.examples[name] for name in found.rejected}
    return found


def _rejected(table: pa.Table, reason: str | None) -> list[dict[str, Any]]:
    """Return the rejected rows of a part, with the columns that say what they were."""
    wanted = pc.equal(table.column("status"), REJECTED)
    if reason is not None:
        wanted = pc.and_(wanted, pc.fill_null(pc.equal(table.column("reason"), reason), False))
    own = [*_COLUMNS, *_SIDE, *(f"source_{name}" for name in _SIDE), "source_spans", "gold_spans"]
    carried = carried_names(table.schema.names)
    rows: list[dict[str, Any]] = table.filter(wanted).select([*own, *carried]).to_pylist()
    return rows


def _given(row: Mapping[str, Any], *, source: bool) -> dict[str, Any]:
    """Return the side of a row that the input gave, as JSONL that our reader takes, with reason and detail."""
    text, tokens, offsets = (row[f"source_{name}" if source else name] for name in _SIDE)
    spans = row["source_spans" if source else "gold_spans"]
    made = {name: row[name] for name in ("id", "doc_id", "split", "lang", "reason", "detail") if row[name] is not None}
    made |= {name: value for name, value in (("text", text), ("tokens", tokens)) if value is not None}
    if spans is not None and offsets:
        made["spans"] = [
            {"start": offsets[s["start"]]["start"], "end": offsets[s["end"] - 1]["end"], "label": s["label"]}
            for s in spans
        ]
    for name, value in row.items():
        if name in ROW.names or value is None:
            continue
        inner = _object(value) if name == "extra" else None  # of jsonl: all other keys of its line
        made |= {name: plain(value)} if inner is None else {key: one for key, one in inner.items() if key not in made}
    return made


def _object(value: Any) -> dict[str, Any] | None:
    """Return the object that a JSON text holds; None if it holds none."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None
