"""The stages `match` and `likelihood`, and model transfer, the baseline without any projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.row import accepted_rows, fill
from xner_ray.data.spans import Span
from xner_ray.match import projection
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates
from xner_ray.match.cells import read_tags, score_cells
from xner_ray.match.prior import Prior
from xner_ray.match.pruning import best_first
from xner_ray.match.scores import Floats, threshold
from xner_ray.recipe.limits import limits
from xner_ray.recipe.model import Labels, Recipe
from xner_ray.stage import Budgeted, ModelStage


class PhraseScorer(Budgeted, Protocol):
    """A model of how well two phrases translate each other: `translate/likelihood.py`."""

    def score(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> Floats: ...


class TransferStage:
    """Fills spans from target_tags, by each word's most probable tag; the run's label map applies to the labels.

    A span's score is the mean probability of its words' tags. `unprojected` stays what it was: no entity was projected.
    """

    name = "match"
    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = accepted_rows(table)
        part = table.select(["tokens", "target_tags"]).take(pa.array(alive, pa.int64())).combine_chunks()
        n_target = part.column("tokens").combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        none = np.zeros(0, dtype=np.int64)
        batch = EntityBatch(n_source=np.zeros_like(n_target), n_target=n_target, row=none, start=none, end=none)
        tags = read_tags(part.column("target_tags").combine_chunks(), batch)
        best = tags.probabilities.argmax(axis=1)
        found: list[list[Span]] = [[] for _ in alive]
        for row, start, end in zip(*(column.tolist() for column in tags.spans(batch)), strict=True):
            first = int(batch.target_base[row])
            words = np.arange(first + start, first + end)
            score = round(float(tags.probabilities[words, best[words]].mean()), 4)
            found[row].append(Span(start, end, tags.labels[int(best[words[0]] - 1) // 2], score))
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in ("spans", "complete", "objective", "optimal", "solver")
        }
        for index, spans in zip(alive, found, strict=True):
            cells: list[dict[str, Any]] = [
                {"start": s.start, "end": s.end, "label": s.label, "score": s.score, "source": None}
                for s in self.labels.map(spans)
            ]
            columns["spans"][index] = cells
            columns["complete"][index] = True
            columns["objective"][index] = round(sum(cell["score"] for cell in cells), 4)
            columns["optimal"][index] = False
            columns["solver"][index] = "transfer" if cells else "none"
        return fill(table, columns)


class LikelihoodStage(ModelStage):
    """Fills evidence with the likelihood of the candidates that can still win the first matching by it.

    Each entity's best candidates by the other scores come first; what these rule out is not computed and counts 0
    (`pruning.py`). Texts are the words of entity and candidate as they stand in their sentences.
    """

    name = "likelihood"

    def __init__(self, recipe: Recipe, scorer: PhraseScorer) -> None:
        super().__init__(scorer)
        self.settings, self.method, self.scorer = recipe.match, recipe.align.method, scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = projection.read(table)
        batch, weights = rows.batch, projection.shares(self.settings, None)
        at_most = projection.thresholds(self.settings, weights)
        spans, found = projection.measure(rows, self.settings, self.method, None)
        values = np.zeros(len(spans))
        if len(batch):
            first = int(batch.row[0])
            langs = [table.column(name)[first].as_py() for name in ("source_lang", "lang")]
            pairs = _phrases(table, rows, spans)

            def score(index: NDArray[np.intp]) -> Floats:
                values[index] = self.scorer.score([pairs(cell) for cell in index.tolist()], *langs)
                return threshold(values[index], at_most[self.name])

            others = sorted(set(weights) - {self.name})
            base = [weights[name] * threshold(found[name], at_most.get(name, 0.0)) for name in others]
            best_first(
                batch,
                spans,
                np.sum([np.zeros(len(spans)), *base], axis=0),
                weights[self.name],
                score,
                min_score=self.settings.min_score,
                one_each=limits(self.settings.per_entity)[1] == 1,
            )
        row, cells = score_cells({self.name: values}, batch, rows.source, spans)
        before = table.column("evidence").to_pylist()  # of a plug-in
        by_row: dict[int, list[Any]] = {index: before[index] or [] for index in accepted_rows(table)}
        for index, cell in zip(row.tolist(), cells, strict=True):
            by_row[index].append(cell)
        return fill(table, {"evidence": by_row})


def _phrases(table: pa.Table, rows: projection.Rows, spans: Candidates) -> Callable[[int], tuple[str, str]]:
    """The texts of a cell's entity, never of the bridge, and of its candidate, as they stand in their sentences."""
    names = ("source_text", "source_offsets", "source_spans", "text", "offsets")
    columns = {name: table.column(name).to_pylist() for name in names}

    def pair(cell: int) -> tuple[str, str]:
        entity = int(spans.entity[cell])
        row = int(rows.batch.row[entity])
        span = columns["source_spans"][row][int(rows.source[entity])]
        places = ("source_", span["start"], span["end"]), ("", int(spans.start[cell]), int(spans.end[cell]))
        source, target = (
            columns[f"{side}text"][row][
                columns[f"{side}offsets"][row][start]["start"] : columns[f"{side}offsets"][row][end - 1]["end"]
            ]
            for side, start, end in places
        )
        return source, target

    return pair


class MatchStage:
    """Fills `projection.WRITES`: a pure function of each row and the prior of its language."""

    name = "match"
    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0

    def __init__(self, recipe: Recipe, prior: Prior | None = None) -> None:
        self.settings, self.method, self.prior = recipe.match, recipe.align.method, prior

    def __call__(self, table: pa.Table) -> pa.Table:
        return projection.project(table, self.settings, self.method, self.prior)
