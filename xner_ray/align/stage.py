"""The stage `align`: links between the words of both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import with_column
from xner_ray.data.row import accepted_rows, fill
from xner_ray.recipe.model import Recipe
from xner_ray.stage import ModelStage

if TYPE_CHECKING:
    from xner_ray.align.aligner import Aligner


class AlignStage(ModelStage):
    """Fills links; where a row has a bridge, those of the bridge's words.

    A sentence without entities has nothing to project: it is not encoded and gets no links.
    """

    name = "align"

    def __init__(self, recipe: Recipe, aligner: Aligner) -> None:
        super().__init__(aligner)
        self.aligner = aligner

    def __call__(self, table: pa.Table) -> pa.Table:
        bridged = pc.is_valid(table.column("bridge_spans"))
        spans = pc.if_else(
            bridged,
            pc.list_value_length(table.column("bridge_spans")),
            pc.list_value_length(table.column("source_spans")),
        ).to_pylist()
        alive = accepted_rows(table)
        rows = np.array([index for index in alive if spans[index]], dtype=np.int64)
        source = pc.if_else(bridged, table.column("bridge_tokens"), table.column("source_tokens"))
        sides = [side.take(pa.array(rows)).to_pylist() for side in (source, table.column("tokens"))]
        links, found = self.aligner.align(*sides)
        links = replace(links, row=rows[links.row].astype(np.int32))
        rejects = {int(rows[position]): reject for position, reject in found.items()}
        known = np.zeros(table.num_rows, dtype=np.bool_)
        known[[index for index in alive if index not in rejects]] = True
        column = pc.if_else(pa.array(known), links.to_arrow(table.num_rows), table.column("links").combine_chunks())
        return fill(with_column(table, "links", column), {}, rejects)
