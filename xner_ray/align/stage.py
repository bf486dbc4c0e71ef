"""The stage `align`: links between the words of both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import with_column
from xner_ray.data.row import accepted_rows, fill, readable
from xner_ray.models import e5
from xner_ray.recipe.model import Recipe
from xner_ray.stage import ModelStage

if TYPE_CHECKING:
    from xner_ray.align.aligner import Aligner


class AlignStage(ModelStage):
    """Fills links; where a row has a bridge, those of the bridge's words.

    A sentence without entities has nothing to project: it gets no links, and is not encoded, unless the built-in tagger
    has read it with the same layers. A state depends on its micro-batch in its last bits, so both read the same
    sentences, whether their states are shared or not (`models/kept.py`).
    """

    name = "align"

    def __init__(self, recipe: Recipe, aligner: Aligner) -> None:
        super().__init__(aligner)
        self.aligner = aligner
        built_in = recipe.align.encoder == e5.BUILTIN and recipe.align.layer in ("auto", e5.LAYER)
        self.reads_all = built_in and "tag" in recipe.stages and recipe.tag.engine == "builtin"

    def __call__(self, table: pa.Table) -> pa.Table:
        bridged = pc.is_valid(table.column("bridge_spans"))
        source = pc.if_else(bridged, table.column("bridge_tokens"), table.column("source_tokens"))
        n_spans = pc.if_else(
            bridged,
            pc.list_value_length(table.column("bridge_spans")),
            pc.list_value_length(table.column("source_spans")),
        )
        # Read whatever became of the row in this language: so the sentences are the same in all languages
        legible, placed = readable(table, source), pc.fill_null(pc.greater(n_spans, 0), False)
        wanted = legible if self.reads_all else pc.and_(legible, placed)
        read = np.flatnonzero(wanted.to_numpy())
        alive = accepted_rows(table)
        pairs = np.flatnonzero(np.isin(read, alive) & placed.to_numpy()[read])
        rows = read[pairs]
        source_words = source.take(pa.array(read if len(rows) else rows)).to_pylist()
        links, found = self.aligner.align(source_words, table.column("tokens").take(pa.array(rows)).to_pylist(), pairs)
        links = replace(links, row=rows[links.row].astype(np.int32))
        rejects = {int(rows[position]): reject for position, reject in found.items()}
        known = np.zeros(table.num_rows, dtype=np.bool_)
        known[[index for index in alive if index not in rejects]] = True
        column = pc.if_else(pa.array(known), links.to_arrow(table.num_rows), table.column("links").combine_chunks())
        return fill(with_column(table, "links", column), {}, rejects)
