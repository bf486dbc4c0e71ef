"""The stages: each fills columns of one unit's table, and never heard of Ray.

A stage is built from the recipe and loads its model; called with a table of rows it returns the same rows in the
same order. A row that it cannot handle is rejected with a reason; rows that are rejected already pass through.
`tokens` counts what its model read, `micro_batch_tokens` is what the engine halves when memory runs out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from xner_ray import align, candidates, match, scores, words
from xner_ray.errors import Reason
from xner_ray.recipe import Labels, Recipe
from xner_ray.schema import fill, live, offset_cells, set_aside, span_cells
from xner_ray.spans import Span
from xner_ray.tag import Tagger
from xner_ray.translate import Translation, Translator

if TYPE_CHECKING:
    from xner_ray.encode import Encoder

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

    def __init__(self, recipe: Recipe, encoder: Encoder) -> None:
        self.temperature = recipe.align.temperature
        self.encoder = encoder

    @property
    def tokens(self) -> int:
        return self.encoder.tokens

    @property
    def micro_batch_tokens(self) -> int:
        return self.encoder.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self.encoder.micro_batch_tokens = value

    def __call__(self, table: pa.Table) -> pa.Table:
        spans = table.column("source_spans").to_pylist()
        alive = live(table)
        rows = [index for index in alive if spans[index]]
        sides = [table.column(name).to_pylist() for name in ("source_tokens", "tokens")]
        vectors = self.encoder.encode([side[index] for side in sides for index in rows])
        links: dict[int, Any] = {index: [] for index in alive}
        rejects: dict[int, tuple[Reason, str]] = {}
        for position, index in enumerate(rows):
            source, target = vectors[position], vectors[position + len(rows)]
            if isinstance(source, Reason) or isinstance(target, Reason):
                side = "source" if isinstance(source, Reason) else "target"
                reason = source if isinstance(source, Reason) else target
                assert isinstance(reason, Reason)
                rejects[index] = (reason, f"a word of the {side} side has more subwords than the encoder reads")
                continue
            links[index] = align.make_links(align.similarity(source, target), self.temperature).to_rows()
        return fill(table, {"links": links}, rejects)


class MatchStage:
    """Fills spans, unprojected, complete, objective, optimal, solver: a pure function of each row."""

    name = "match"
    tokens = 0
    micro_batch_tokens = 0

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, table: pa.Table) -> pa.Table:
        names = ("spans", "unprojected", "complete", "objective", "optimal", "solver")
        columns: dict[str, dict[int, Any]] = {name: {} for name in names}
        read = {name: table.column(name).to_pylist() for name in MATCH_READS}
        for index in live(table):
            cells = match_row({name: values[index] for name, values in read.items()}, self.recipe)
            for name in names:
                columns[name][index] = cells[name]
        return fill(table, columns)


MATCH_READS = ("source_tokens", "tokens", "source_spans", "links", "unprojected")


def match_row(row: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The match columns of one row, from `MATCH_READS`."""
    spans = [Span(s["start"], s["end"], s["label"]) for s in row["source_spans"]]
    aside = set_aside(row)
    entities = [index for index in range(len(spans)) if index not in aside]
    _, found = solve_row(row, [spans[index] for index in entities], recipe)
    lost = {**aside, **{entities[entity]: str(loss) for entity, loss in found.unprojected}}
    return {
        "spans": [
            {
                "start": start,
                "end": end,
                "label": spans[entities[entity]].label,
                "score": score / scores.SCALE,
                "source": entities[entity],
            }
            for entity, start, end, score in found.chosen
        ],
        "unprojected": [{"source": source, "reason": lost[source]} for source in sorted(lost)],
        "complete": not lost,
        "objective": round(found.objective, 4),
        "optimal": found.optimal,
        "solver": found.solver,
    }


def solve_row(row: Mapping[str, Any], entities: Sequence[Span], recipe: Recipe) -> tuple[scores.Scored, match.Matching]:
    """Scored candidates of one row, and the matching of its entities (those that reading has not set aside)."""
    scored = score_row(row, entities, recipe)
    found = match.solve(
        scored,
        n_entities=len(entities),
        n_words=len(row["tokens"]),
        solver=recipe.match.solver,
        time_limit_s=recipe.match.time_limit_s,
    )
    return scored, found


def score_row(row: Mapping[str, Any], entities: Sequence[Span], recipe: Recipe) -> scores.Scored:
    """Candidates of one row with their scores."""
    links = align.Links.from_rows(row["links"])
    n_words = len(row["tokens"])
    pairs = align.extract(links, len(row["source_tokens"]), n_words, recipe.align.method)
    counts = candidates.link_counts(entities, np.array(pairs, dtype=np.int64).reshape(-1, 2), n_words=n_words)
    section = recipe.match
    if section.candidates == "ngram":
        spans = candidates.ngrams(len(entities), n_words, max_words=section.max_words)
    else:
        spans = candidates.windows(counts, max_words=section.max_words)
    return scores.fuse(spans, {"align": scores.alignment(spans, counts, entities)}, section.scores.model_dump())


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
        from xner_ray.encode import Encoder

        section = recipe.align
        encoder = Encoder(
            section.encoder,
            layer=section.layer,
            device="cuda" if section.gpus else "cpu",
            dtype=section.dtype,
            threads=section.threads,
            micro_batch_tokens=section.micro_batch_tokens,
        )
        stage = AlignStage(recipe, encoder)
    else:
        stage = MatchStage(recipe)
    return stage


def _spaces(offsets: list[Offset]) -> list[bool]:
    """For each word whether white space follows it in its text."""
    return [left["end"] < right["start"] for left, right in pairwise(offsets)] + [False]
