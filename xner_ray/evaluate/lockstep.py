"""Tables of several runs, read side by side; a check that their rows are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.arrow import ints, lengths, with_column

_KINDS = {"id": "rows with another id", "tokens": "rows with other words", "gold_spans": "rows with other gold"}


class _Stream:
    """One run's tables as a stream of rows."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = iter(tables)
        self.group: tuple[str, str] | None = None  # language and split; None at the end
        self._next()

    def _next(self) -> None:
        self.group = None
        for table in self._tables:
            if table.num_rows:
                self.table, self._rows = table, ints(table.column("row").combine_chunks())
                self.group = (table.column("lang")[0].as_py(), table.column("split")[0].as_py() or "")
                return

    @property
    def last(self) -> int:
        return int(self._rows[-1])

    def take(self, last: int) -> pa.Table:
        """Take the rows of the present table up to the row number `last`."""
        n = int(np.searchsorted(self._rows, last, side="right"))
        piece, self.table, self._rows = self.table.slice(0, n), self.table.slice(n), self._rows[n:]
        if not len(self._rows):
            self._next()
        return piece


def zip_runs(runs: Sequence[Iterable[pa.Table]]) -> Iterator[list[pa.Table]]:
    """Yield the runs' tables in pieces of the same range of rows; a run without rows there has an empty piece."""
    streams = [_Stream(tables) for tables in runs]
    while groups := [stream.group for stream in streams if stream.group is not None]:
        here = [stream.group == min(groups) for stream in streams]
        last = min(stream.last for stream, inside in zip(streams, here, strict=True) if inside)
        nothing = next(stream.table for stream, inside in zip(streams, here, strict=True) if inside).slice(0, 0)
        yield [stream.take(last) if inside else nothing for stream, inside in zip(streams, here, strict=True)]


class RunMismatch:
    """The differences in rows, ids, words and gold that keep a run from being compared with the first."""

    def __init__(self, first: str, other: str) -> None:
        self.first, self.other = first, other
        self.counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def check(self, first: pa.Table, other: pa.Table) -> bool:
        """Return whether rows and ids are the same, and words and gold of the rows in which both have words."""
        rows, others = (ints(table.column("row").combine_chunks()) for table in (first, other))
        if not np.array_equal(rows, others):
            self._alone(first, f"rows only in {self.first}", ~np.isin(rows, others))
            self._alone(other, f"rows only in {self.other}", ~np.isin(others, rows))
            return False
        for name in [name for name in _KINDS if not first.column(name).equals(other.column(name))]:
            columns = [each.column(column).to_pylist() for each in (first, other) for column in (name, "tokens")]
            for row, one, words, two, other_words in zip(rows.tolist(), *columns, strict=True):
                if one != two and (name == "id" or (words and other_words)):
                    self._note(_KINDS[name], f"{_where(first)} row {row}: {_brief(one)} against {_brief(two)}")
        return not self.counts

    def _alone(self, table: pa.Table, kind: str, alone: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(alone).tolist():
            row, name = table.column("row")[index].as_py(), table.column("id")[index].as_py()
            self._note(kind, f"{_where(table)} row {row}, id {name!r}")

    def _note(self, kind: str, example: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._examples.setdefault(kind, example)

    def message(self) -> str:
        found = "; ".join(f"{n:,} {kind}, as {self._examples[kind]}" for kind, n in self.counts.items())
        return (
            f"{self.first} and {self.other} are not over the same sentences: {found}. Compare runs of the same input, "
            "selection (input.limit, input.sample), labels and target text"
        )


def _where(table: pa.Table) -> str:
    return str(table.column("lang")[0].as_py())


def _brief(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value = [f"{one['label']} [{one['start']}, {one['end']})" for one in value]
    text = " ".join(value) if isinstance(value, list) else str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def with_words(pieces: Sequence[pa.Table]) -> list[pa.Table]:
    """Fill tokens, gold and document of rows that a run rejected before it had words, from a run that has them."""
    names = ["tokens", "gold_spans", "doc_id"]
    first = pieces[0]
    if all(first.column(name).equals(piece.column(name)) for piece in pieces[1:] for name in names):
        return list(pieces)
    words = np.stack([lengths(piece.column("tokens")) > 0 for piece in pieces])
    taken = words.argmax(axis=0) * first.num_rows + np.arange(first.num_rows)
    given = pa.concat_tables([piece.select(names) for piece in pieces]).take(pa.array(taken))
    for name in names:
        pieces = [with_column(piece, name, given.column(name)) for piece in pieces]
    return list(pieces)
