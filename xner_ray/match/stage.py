"""The stages `match`, `likelihood` and `evidence`, and model transfer, the baseline without any projection."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, lengths
from xner_ray.data.row import accepted_rows, carried_names, fill, span_cells
from xner_ray.data.spans import Span
from xner_ray.match import plugin, projection
from xner_ray.match.batch import EntityBatch
from xner_ray.match.prior import Prior
from xner_ray.match.pruning import best_first
from xner_ray.match.rows import add_scores, read, read_tags
from xner_ray.match.scores import threshold
from xner_ray.recipe.input import Labels
from xner_ray.recipe.limits import limits
from xner_ray.recipe.model import Recipe
from xner_ray.stage import Budgeted, ModelStage


class PhraseScorer(Budgeted, Protocol):
    """A model of how well two phrases translate each other: `translate/likelihood.py`."""

    def score(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> Floats: ...


class _ModellessStage:
    """Counters of a stage without a model."""

    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0


class MatchStage(_ModellessStage):
    """Fills `projection.WRITES`: a pure function of each row and the prior of its language."""

    name = "match"

    def __init__(self, recipe: Recipe, prior: Prior | None = None) -> None:
        self.settings, self.method, self.prior = recipe.match, recipe.align.method, prior
        self.labelled = recipe.labelled

    def __call__(self, table: pa.Table) -> pa.Table:
        return projection.project(table, self.settings, self.method, self.prior, labelled=self.labelled)


class PlaceStage(_ModellessStage):
    """Fills `projection.WRITES` from the shares that the stage `constrained` gave to places."""

    name = "match"

    def __init__(self, recipe: Recipe) -> None:
        self.settings = recipe.match

    def __call__(self, table: pa.Table) -> pa.Table:
        return projection.place(table, self.settings, "constrained")


class TransferStage(_ModellessStage):
    """Fills spans from target_tags, by the most probable sequence of tags; the run's label map applies to the labels.

    A span's score is the mean probability of its words' tags. `unprojected` stays as it is: no entity was projected.
    """

    name = "match"

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = accepted_rows(table)
        part = table.select(["tokens", "target_tags"]).take(pa.array(alive, pa.int64())).combine_chunks()
        n_target, none = lengths(part.column("tokens")), np.zeros(0, dtype=np.int64)
        batch = EntityBatch(n_source=np.zeros_like(n_target), n_target=n_target, row=none, start=none, end=none)
        tags = read_tags(part.column("target_tags").combine_chunks(), batch)
        best = tags.best(batch)
        found: list[list[Span]] = [[] for _ in alive]
        for row, start, end in zip(*(column.tolist() for column in tags.spans(batch, best)), strict=True):
            first = int(batch.target_base[row])
            words = np.arange(first + start, first + end)
            score = round(float(tags.probabilities[words, best[words]].mean()), 4)
            found[row].append(Span(start, end, tags.labels[int(best[words[0]] - 1) // 2], score))
        spans = {index: self.labels.map(own) for index, own in zip(alive, found, strict=True)}
        columns: dict[str, dict[int, Any]] = {
            "spans": {index: span_cells(own) for index, own in spans.items()},
            "complete": dict.fromkeys(alive, True),
            "objective": {index: round(sum(span.score for span in own), 4) for index, own in spans.items()},
            "optimal": dict.fromkeys(alive, False),
            "solver": {index: "transfer" if own else "none" for index, own in spans.items()},
        }
        return fill(table, columns)


class LikelihoodStage(ModelStage):
    """Fills evidence with the likelihood of the candidates that can still win the first matching by it.

    Each entity's best candidates by the other scores come first; those that they rule out are not computed and count 0
    (`pruning.py`). Texts are the words of entity and candidate as they stand in their sentences.
    """

    name = "likelihood"

    def __init__(self, recipe: Recipe, scorer: PhraseScorer) -> None:
        super().__init__(scorer)
        self.settings, self.method, self.scorer = recipe.match, recipe.align.method, scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = read(table)
        batch, weights = rows.batch, projection.shares(self.settings, None)
        at_most = projection.thresholds(self.settings, weights)
        spans, found = projection.measure(rows, self.settings, self.method, None)
        values = np.zeros(len(spans))
        if len(batch):
            sides = ("source_text", "source_offsets", "source_spans", "text", "offsets", "source_lang", "lang")
            listed = table.select(sides).to_pylist()
            langs = [listed[int(batch.row[0])][name] for name in ("source_lang", "lang")]

            def phrases(cell: int) -> tuple[str, str]:
                """Return the texts of a cell's entity, never of the bridge, and of its candidate."""
                entity = int(spans.entity[cell])
                row = listed[int(batch.row[entity])]
                span = row["source_spans"][int(rows.source[entity])]
                start, end = int(spans.start[cell]), int(spans.end[cell])
                return _text(row, "source_", span["start"], span["end"]), _text(row, "", start, end)

            def score(index: NDArray[np.intp]) -> Floats:
                values[index] = self.scorer.score([phrases(cell) for cell in index.tolist()], *langs)
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
        return add_scores(table, {self.name: values}, batch, rows.source, spans)


class EvidenceStage(_ModellessStage):
    """Fills evidence with the scores of the plug-in's functions."""

    name = "evidence"

    def __init__(self, recipe: Recipe, functions: Mapping[str, plugin.Score]) -> None:
        self.settings, self.method, self.functions = recipe.match, recipe.align.method, dict(functions)
        self.plugin = str(recipe.evidence.plugin)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = read(table)
        batch, spans = rows.batch, projection.every_candidate(rows, self.settings, self.method)
        given = [*plugin.GIVEN, *carried_names(table.schema.names)]
        sides = table.select([*given, "source_offsets", "offsets"])
        values: dict[str, Floats] = {name: np.zeros(len(spans)) for name in self.functions}
        first = np.searchsorted(spans.entity, np.arange(len(batch) + 1)).tolist()
        places = list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))
        known, pickled, row = -1, b"", dict[str, Any]()
        for entity, (begin, end) in enumerate(pairwise(first)):
            if begin == end:
                continue
            if batch.row[entity] != known:
                known = int(batch.row[entity])
                (row,) = sides.slice(known, 1).to_pylist()
                pickled = pickle.dumps({name: row[name] for name in given})
            span = row["source_spans"][int(rows.source[entity])]
            asked = {**span, "text": _text(row, "source_", span["start"], span["end"])}
            offered = [{"start": s, "end": e, "text": _text(row, "", s, e)} for s, e in places[begin:end]]
            for name, function in self.functions.items():
                values[name][begin:end] = plugin.call(name, function, self.plugin, pickled, asked, offered)
        return add_scores(table, values, batch, rows.source, spans)


def _text(row: Mapping[str, Any], side: str, start: int, end: int) -> str:
    """Return words of one side of a row as they stand in its text. side: "source_" or ""."""
    offsets = row[f"{side}offsets"]
    text: str = row[f"{side}text"][offsets[start]["start"] : offsets[end - 1]["end"]]
    return text
