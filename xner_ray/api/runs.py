"""A run as an object, and the commands on runs as Python calls them: with progress, and results that display well."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from xner_ray import defaults
from xner_ray.api.watched import console_of
from xner_ray.commands import inspect
from xner_ray.commands import project as projecting
from xner_ray.commands import rejects as rejecting
from xner_ray.engine import choice
from xner_ray.errors import InputError
from xner_ray.evaluate import scores as evaluation
from xner_ray.extras import require
from xner_ray.report.shown import Shown
from xner_ray.report.status import Status
from xner_ray.run.counters import Report
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

if TYPE_CHECKING:
    import datasets

SENTENCES = 5  # of each language in an HTML display


class Run:
    """A run folder. `run["rows"]` is `run.report["rows"]`.

    path: of the folder; a path, s3:// or gs://. RunFolderError if there is no run. An unfinished run has a `status` and
    `rejects`; all else needs it to be finished. In a notebook the first sentences of each language are shown, with
    their entities coloured by label.
    """

    def __init__(self, path: str | os.PathLike[str], *, report: Report | None = None) -> None:
        """report: of a run that this process has just finished."""
        self._folder = RunFolder(os.fspath(path))
        self._recipe = self._folder.recipe()
        self._report = report

    @property
    def path(self) -> str:
        return self._folder.root

    @property
    def languages(self) -> list[str]:
        return list(self._recipe.languages)

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of their tags."""
        return list(self.report.labels["kept"])

    @property
    def report(self) -> Report:
        """What the run has done, as report.json has it. RunFolderError if it is not finished."""
        if self._report is None:
            self._folder.require_sealed()
            self._report = inspect.read_report(self._folder)
        return self._report

    @property
    def status(self) -> Status:
        """How far the run is at this moment, from its folder alone."""
        return inspect.status(self.path)

    def __getitem__(self, key: str) -> Any:
        return self.report[key]

    def to_arrow(self, lang: str, split: str | None = None) -> pa.Table:
        """Return the published rows of a language, of one split or all, incomplete sentences that were set apart too.

        InputError for a language or a split that the run does not have; RunFolderError, DamageError.
        """
        files = self._files(lang, split, incomplete=True)
        return pa.concat_tables([pq.read_table(pa.BufferReader(storage.read_bytes(path))) for path in files])

    def dataset(self, lang: str, split: str = "train") -> datasets.Dataset:
        """Return the data set of a language, as `datasets.load_dataset(RUN, lang, split=split)` does.

        Files of this machine are mapped into memory, those of a store are read into it. MissingExtraError without
        datasets; other errors as of `to_arrow`.
        """
        require("datasets", "", "dataset")
        import datasets

        files = self._files(lang, split, incomplete=False)
        if storage.is_local(self.path):
            return datasets.load_dataset("parquet", data_files={split: files}, split=split)
        return datasets.Dataset(
            pa.concat_tables([pq.read_table(pa.BufferReader(storage.read_bytes(path))) for path in files])
        )

    def _files(self, lang: str, split: str | None, *, incomplete: bool) -> list[str]:
        if lang not in self.languages:
            raise InputError(f"{self.path}: has no language {lang!r}; allowed: {', '.join(self.languages)}")
        files = self._folder.published(lang, None if split is None else {split}, incomplete=incomplete)
        if not files:
            splits = sorted({os.path.basename(path).split("-")[0] for path in self._folder.published(lang)})
            raise InputError(f"{self.path}: {lang} has no split {split!r}; allowed: {', '.join(splits)}")
        return files

    def evaluate(
        self, *, samples: int = defaults.SAMPLES, seed: int = 0, by: evaluation.By | None = None
    ) -> evaluation.Evaluations:
        """Score the run against its gold labels; see `xner_ray.evaluate`."""
        return inspect.evaluate(self.path, samples=samples, seed=seed, by=by)

    def explain(self, row_id: str, lang: str | None = None) -> Shown:
        """Show one sentence at every stage; see `xner_ray.explain`."""
        return inspect.explain(self.path, row_id, lang)

    def rejects(self, reason: str | None = None, *, limit: int = defaults.REJECTS_SHOWN) -> rejecting.Rejects:
        """Return the rejected rows by reason; see `xner_ray.rejects`."""
        return rejecting.rejects(self.path, reason=reason, limit=limit)

    def sample(self, lang: str, n_rows: int = SENTENCES) -> list[dict[str, Any]]:
        """Return the first rows of a language that have a projected entity."""
        return inspect.sample(self.path, lang, n_rows)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self._described}>"

    @property
    def _described(self) -> str:
        if not self._folder.is_sealed():
            rows = self.status.first.rows
            return f"{rows.done:,} of {rows.total:,} rows done"
        rows_done = self.report.rows
        return f"{rows_done['emitted']:,} rows of {', '.join(self.languages)}, {rows_done['rejected']:,} rejected"

    def _repr_html_(self) -> str:
        """Return counts, and both sides of some sentences of each language; all text is escaped."""
        from xner_ray.report.page.notebook import sentences_html

        if not self._folder.is_sealed():
            return sentences_html([], [], title=f"{self.path}: {self._described}")
        rows = [row for lang in self.languages for row in self.sample(lang)]
        placed = self.report.entities
        lines = [f"{placed['projected']:,} of {placed['source']:,} entities projected"]
        return sentences_html(rows, self.labels, title=f"{self.path}: {self._described}", lines=lines)


def project(
    recipe: projecting.RecipeSource,
    run: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    retry_rejects: Collection[str] = (),
    allow_rejects: bool = False,
    progress: bool | None = None,
    console: Console | None = None,
) -> Run:
    """Make the data set of `recipe` in the folder `run`, or resume it; return the run.

    The same call again does only what is missing. `fresh` discards what the folder holds. `retry_rejects`: units with
    rows that were rejected for one of these reasons (`errors.Reason`) are made again, for these rows alone: all other
    rows stay as they are; with `["none"]` the run is finished without a retry that was begun. `allow_rejects` begins
    even where the input has more bad rows than the recipe allows.
    progress: whether to show what is loaded and done; None: in a notebook and on a terminal. console: where to show it.

    Ray, where a run needs it, is started once and then kept for the runs that follow, until the process ends.
    RecipeError, InputError and RunFolderError come before any work is done.
    """
    with choice.ray_kept():
        report = projecting.project(
            recipe,
            run,
            overrides=overrides,
            fresh=fresh,
            retry_rejects=retry_rejects,
            allow_rejects=allow_rejects,
            console=console_of(progress) if console is None else console,
        )
    return Run(run, report=report)
