"""Model transfer: the baseline without any projection, a tagger straight on the target words.

Same rows and columns as a projection, so that runs can be compared: `spans` are the tagger's, without a `source`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from xner_ray.evidence import read_tags
from xner_ray.problem import Problem
from xner_ray.recipe import Labels
from xner_ray.schema import fill, live
from xner_ray.spans import Span


class TransferStage:
    """Fills spans from target_tags, by each word's most probable tag; the run's label map applies to the labels.

    A span's score is the mean probability of its words' tags. `unprojected` stays what it was: no entity was projected.
    """

    name = "match"
    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0
    recall = None

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = live(table)
        part = table.select(["tokens", "target_tags"]).take(pa.array(alive, pa.int64())).combine_chunks()
        n_target = part.column("tokens").combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        none = np.zeros(0, dtype=np.int64)
        problem = Problem(n_source=np.zeros_like(n_target), n_target=n_target, row=none, start=none, end=none)
        tags = read_tags(part.column("target_tags").combine_chunks(), problem)
        best = tags.probabilities.argmax(axis=1)
        found: list[list[Span]] = [[] for _ in alive]
        for row, start, end in zip(*(column.tolist() for column in tags.spans(problem)), strict=True):
            first = int(problem.target_base[row])
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
