"""The stages: each fills columns of one unit's table, and never heard of Ray.

A stage is built from the recipe and loads its model; called with a table of rows it returns the same rows in the
same order. A row that it cannot handle is rejected with a reason; rows that are rejected already pass through.
`tokens` counts what its model read, `micro_batch_tokens` is what the engine halves when memory runs out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray import projection, words
from xner_ray.errors import Reason
from xner_ray.prior import Prior
from xner_ray.recipe import Labels, Recipe
from xner_ray.schema import fill, live, offset_cells, span_cells
from xner_ray.spans import Span
from xner_ray.tag import Tagger
from xner_ray.translate import Translation, Translator

if TYPE_CHECKING:
    from xner_ray.aligner import Aligner

Offset = dict[str, int]


class Stage(Protocol):
    name: str
    micro_batch_tokens: int  # 0: works row by row

    @property
    def tokens(self) -> int: ...

    def __call__(self, table: pa.Table) -> pa.Table: ...


class TranslateStage:
    """Fills the side that the input did not give: text, words, offsets, translation_score."""

    name = "translate"

    def __init__(self, recipe: Recipe, translator: Translator) -> None:
        self.translator = translator
        self.side = "" if recipe.direction == "train" else "source_"

    @property
    def tokens(self) -> int:
        return self.translator.tokens

    @property
    def micro_batch_tokens(self) -> int:
        return self.translator.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self.translator.micro_batch_tokens = value

    def __call__(self, table: pa.Table) -> pa.Table:
        missing = table.column(f"{self.side}text").is_null().to_pylist()
        rows = [index for index in live(table) if missing[index]]
        if not rows:
            return table
        given = "source_text" if self.side == "" else "text"
        texts = table.column(given).to_pylist()
        lang, source_lang = table.column("lang")[rows[0]].as_py(), table.column("source_lang")[rows[0]].as_py()
        source, target = (source_lang, lang) if self.side == "" else (lang, source_lang)
        results = self.translator.translate([texts[index] for index in rows], source, target)
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in (f"{self.side}text", f"{self.side}tokens", f"{self.side}offsets", "translation_score")
        }
        rejects: dict[int, tuple[Reason, str]] = {}
        for index, result in zip(rows, results, strict=True):
            if not isinstance(result, Translation):
                rejects[index] = result
                continue
            offsets = words.split(result.text, target)
            columns[f"{self.side}text"][index] = result.text
            columns[f"{self.side}tokens"][index] = [result.text[start:end] for start, end in offsets]
            columns[f"{self.side}offsets"][index] = offset_cells(offsets)
            columns["translation_score"][index] = round(result.score, 4)
        return fill(table, columns, rejects)


class TagStage:
    """Fills source_spans where they are not given; the run's label map applies to the tagger's labels too."""

    name = "tag"
    tokens = 0
    micro_batch_tokens = 0

    def __init__(self, recipe: Recipe, tagger: Tagger) -> None:
        self.tagger = tagger
        self.labels = recipe.input.labels

    def __call__(self, table: pa.Table) -> pa.Table:
        missing = table.column("source_spans").is_null().to_pylist()
        rows = [index for index in live(table) if missing[index]]
        tokens, offsets = table.column("source_tokens").to_pylist(), table.column("source_offsets").to_pylist()
        found = self.tagger.tag([(tokens[index], _spaces(offsets[index])) for index in rows])
        self.tokens += sum(len(tokens[index]) for index in rows)
        spans = {index: span_cells(map_labels(s, self.labels)) for index, s in zip(rows, found, strict=True)}
        return fill(table, {"source_spans": spans})


class AlignStage:
    """Fills links. A sentence without entities has nothing to project, so it is not encoded and has no links."""

    name = "align"

    def __init__(self, recipe: Recipe, aligner: Aligner) -> None:
        self.aligner = aligner

    @property
    def tokens(self) -> int:
        return self.aligner.tokens

    @property
    def micro_batch_tokens(self) -> int:
        return self.aligner.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self.aligner.micro_batch_tokens = value

    def __call__(self, table: pa.Table) -> pa.Table:
        spans = table.column("source_spans").to_pylist()
        alive = live(table)
        rows = np.array([index for index in alive if spans[index]], dtype=np.int64)
        sides = [table.column(name).take(pa.array(rows)).to_pylist() for name in ("source_tokens", "tokens")]
        links, found = self.aligner.align(*sides)
        links = replace(links, row=rows[links.row].astype(np.int32))
        rejects = {int(rows[position]): reject for position, reject in found.items()}
        position = table.schema.get_field_index("links")
        known = np.zeros(table.num_rows, dtype=np.bool_)
        known[[index for index in alive if index not in rejects]] = True
        column = pc.if_else(pa.array(known), links.to_arrow(table.num_rows), table.column(position).combine_chunks())
        return fill(table.set_column(position, table.schema.field(position), column), {}, rejects)


class MatchStage:
    """Fills `projection.WRITES`: a pure function of each row and the prior of its language."""

    name = "match"
    tokens = 0
    micro_batch_tokens = 0

    def __init__(self, recipe: Recipe, prior: Prior | None = None) -> None:
        self.settings, self.method, self.prior = recipe.match, recipe.align.method, prior

    def __call__(self, table: pa.Table) -> pa.Table:
        return projection.project(table, self.settings, self.method, self.prior)


def map_labels(spans: Sequence[Span], labels: Labels) -> list[Span]:
    """Rename, then keep."""
    renamed = [Span(s.start, s.end, labels.rename.get(s.label, s.label), s.score) for s in spans]
    return [span for span in renamed if labels.keep is None or span.label in labels.keep]


def stage_names(recipe: Recipe) -> list[str]:
    """The stages that a recipe needs, in order."""
    names = [] if recipe.translate_engine == "provided" else ["translate"]
    names += [] if recipe.tag.engine == "none" else ["tag"]
    return [*names, "align", "match"]


def build(name: str, recipe: Recipe) -> Stage:
    """One stage with its model loaded. What a stage needs is imported with it: torch and transformers take seconds."""
    stage: Stage
    if name == "translate":
        from xner_ray.translate.nllb import NllbTranslator

        stage = TranslateStage(recipe, NllbTranslator(recipe.translate))
    elif name == "tag":
        from xner_ray.tag.spacy import SpacyTagger

        stage = TagStage(recipe, SpacyTagger(recipe.tag))
    elif name == "align":
        stage = AlignStage(recipe, _aligner(recipe))
    else:
        stage = MatchStage(recipe)
    return stage


def _aligner(recipe: Recipe) -> Aligner:
    from xner_ray.align import AlignOptions
    from xner_ray.aligner import BatchAligner
    from xner_ray.encode import Encoder
    from xner_ray.simalign_backend import SimAligner

    section = recipe.align
    device = "cuda" if section.gpus else "cpu"
    options = AlignOptions(
        level=section.level,
        center=section.center,
        similarity=section.similarity,
        temperature=section.temperature,
        threshold=section.threshold,
        distortion=section.distortion,
    )
    if section.backend == "simalign":
        return SimAligner(
            section.encoder,
            layer=section.layer,
            options=options,
            methods=[section.method],
            device=device,
            threads=section.threads,
        )
    encoder = Encoder(
        section.encoder,
        layer=section.layer,
        device=device,
        dtype=section.dtype,
        threads=section.threads,
        micro_batch_tokens=section.micro_batch_tokens,
    )
    return BatchAligner(encoder, options, methods=[section.method])


def _spaces(offsets: list[Offset]) -> list[bool]:
    """For each word whether white space follows it in its text."""
    return [left["end"] < right["start"] for left, right in pairwise(offsets)] + [False]
