"""The rows of a projection in memory: a sequence of dicts, and the same as tables of other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray import defaults
from xner_ray.data.row import REJECTED, with_features
from xner_ray.errors import InputError
from xner_ray.evaluate import scores as evaluation
from xner_ray.extras import require
from xner_ray.match.prior import Prior
from xner_ray.recipe.model import Recipe
from xner_ray.report.shown import Shown
from xner_ray.run.counters import Report
from xner_ray.run.publish import select

if TYPE_CHECKING:
    import datasets
    import pandas as pd

SHOWN = 20  # sentences of an HTML display


class Rows(Sequence[dict[str, Any]]):
    """Projected sentences, each a dict with the columns of a published row.

    The rows of one language stand together, in the order of the input. Indices, `len`, loops and slices mean these
    rows; sentences that yield no row are in `rejects`. In a notebook both sides of each sentence are shown, with their
    entities coloured by label.
    """

    def __init__(
        self, table: pa.Table, matched: pa.Table, recipe: Recipe, report: Report, priors: Mapping[str, Prior | None]
    ) -> None:
        """table: all rows, finished. matched: the same after the first matching. priors: of the second, by language."""
        self._all, self._matched, self._recipe, self._priors = table, matched, recipe, priors
        self._table = select(table, "emitted").combine_chunks()
        self.report = report

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of their tags: `ner_tags` are O, B-first, I-first, B-second, ..."""
        return list(self.report.labels["kept"])

    @property
    def languages(self) -> list[str]:
        return list(self._recipe.languages)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            rows: list[dict[str, Any]] = self._table.take(
                pa.array(range(*index.indices(len(self))), pa.int64())
            ).to_pylist()
            return rows
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row: dict[str, Any] = self._table.slice(index % len(self), 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    @cached_property
    def rejects(self) -> list[dict[str, Any]]:
        """The sentences that yield no row, with `reason` and `detail`, and all that is known of them."""
        rows: list[dict[str, Any]] = select(self._all, "rejected").to_pylist()
        return rows

    def to_arrow(self, lang: str | None = None) -> pa.Table:
        """Return the rows, of one language or all, as a run publishes them, with the features of `datasets`.

        InputError for a language that is none of these.
        """
        table = self._table
        if lang is not None:
            if lang not in self.languages:
                raise InputError(f"rows: {lang!r} is none of their languages; allowed: {', '.join(self.languages)}")
            table = table.filter(pc.equal(table.column("lang"), lang))
        return table.cast(with_features(table.schema, self.labels))

    def to_pandas(self, lang: str | None = None) -> pd.DataFrame:
        """Return the rows as a frame. MissingExtraError without pandas."""
        require("pandas", "", "to_pandas")
        return self.to_arrow(lang).to_pandas()

    def to_dataset(self, lang: str | None = None) -> datasets.Dataset:
        """Return the rows as a `datasets.Dataset` whose tags are a ClassLabel. MissingExtraError without datasets."""
        require("datasets", "", "to_dataset")
        import datasets

        return datasets.Dataset(self.to_arrow(lang))

    def evaluate(
        self, *, samples: int = defaults.SAMPLES, seed: int = 0, by: evaluation.By | None = None
    ) -> evaluation.Evaluations:
        """Score the rows against the gold labels of `parallel`, as `xner_ray.evaluate` does; empty without gold."""
        return evaluation.evaluate([self._all], samples=samples, seed=seed, by=by)

    def explain(self, row: int | str | Mapping[str, Any], lang: str | None = None) -> Shown:
        """Show a sentence at every stage: links, candidates with scores, which were chosen and why others lost.

        row: one of these rows or of `rejects`, its number, or an id; lang: where several languages have the id, one of
        them. InputError if there is no such row.
        """
        from xner_ray.report import explain as explanation

        if isinstance(row, int):
            row = self[row]
        row_id, lang = (row, lang) if isinstance(row, str) else (str(row["id"]), str(row["lang"]))
        shown = []
        ids, langs = (self._all.column(name).to_pylist() for name in ("id", "lang"))
        for at in (at for at, found in enumerate(ids) if found == row_id and lang in (None, langs[at])):
            first, final = self._matched.slice(at, 1), self._all.slice(at, 1).to_pylist()[0]
            shown.append(explanation.explain(final, first, self._recipe, self._priors.get(langs[at]), self.labels))
        if not shown:
            known = f"; ids look like {ids[0]!r}" if ids else ""
            raise InputError(f"rows: no sentence has the id {row_id!r}{f' in {lang}' if lang else ''}{known}")
        return Shown(*shown)

    def __repr__(self) -> str:
        return f"<Rows: {self._counted}>"

    @property
    def _counted(self) -> str:
        """The rows, rejects and languages, for people."""
        rejected = ", ".join(f"{reason} {n:,}" for reason, n in self.report.rejects.items())
        n_rejected = self.report.rows["rejected"]
        parts = [f"{len(self):,} row{'s' * (len(self) != 1)} of {', '.join(self.languages)}"]
        return ", ".join(parts + ([f"{n_rejected:,} rejected ({rejected})"] if n_rejected else []))

    def _repr_html_(self) -> str:
        """Return both sides of the first sentences, entities coloured by label; all text is escaped."""
        from xner_ray.report.page.notebook import sentences_html

        status = pc.equal(self._all.column("status"), REJECTED)
        shown = self._table.slice(0, SHOWN).to_pylist() + self._all.filter(status).slice(0, SHOWN // 4).to_pylist()
        return sentences_html(shown, self.labels, title=self._counted, left_out=len(self) - min(SHOWN, len(self)))
