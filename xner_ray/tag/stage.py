"""The stages `tag` and `target_tag`: entities of the source side, tag probabilities of target words.

Both also say what their taggers think of the entities in the source (`source_opinions`), if entities' scores are to be
probabilities. A row's context (`tag.context`, `target_tag.context`) is read beside its words, of either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.row import (
    accepted_rows,
    engine_flags,
    fill,
    nested_losses,
    readable,
    spaces_after,
    span_cells,
    tag_cells,
    with_flags,
)
from xner_ray.data.spans import Span
from xner_ray.errors import Flag, Reason, one_line
from xner_ray.recipe.model import Recipe
from xner_ray.stage import LastResult, ModelStage
from xner_ray.tag.base import (
    Contexts,
    ContextTagger,
    Pictures,
    PictureTagger,
    Rejected,
    Seen,
    Sentence,
    Tagger,
    judge,
)

_PICTURES = 64  # that are held at once


@dataclass(frozen=True)
class Found:
    """The spans of a sentence, and the probabilities of its words' tags where the tagger gives them.

    cut: the end of its context was not read.
    """

    spans: Sequence[Span]
    probabilities: NDArray[np.float32] | None = None
    cut: bool = False


@dataclass(frozen=True)
class Asked:
    """What a tagger is asked. references: of the sentences' pictures, if they are shown; lang: of the input."""

    sentences: list[Sentence]
    contexts: Contexts = None
    references: list[str | None] | None = None
    lang: str = ""


class TagStage(ModelStage):
    """Fills source_spans where they are not given; the run's label map applies to the tagger's labels too."""

    name = "tag"

    def __init__(self, recipe: Recipe, tagger: Tagger, pictures: Pictures | None = None) -> None:
        """Take a tagger, and pictures for one that is shown some."""
        super().__init__(tagger)
        self.pictures, self.images = pictures, recipe.input.images
        self.tagger, self.labels, self.mark = tagger, recipe.input.labels, engine_flags(recipe.tag.engine)
        self.weighed = "image" in recipe.stages  # a picture weighs the labels against their probabilities
        self.opines = recipe.tag_opines
        self.context = recipe.tag.context
        self.last: LastResult[Asked, Sequence[tuple[Found | Rejected, Seen]]] = LastResult()

    def __call__(self, table: pa.Table) -> pa.Table:
        # Read whatever became of the row in this language: so the sentences are the same in all languages
        missing = table.column("source_spans").is_null()
        read = np.flatnonzero(pc.and_(missing, readable(table, table.column("source_tokens"))).to_numpy())
        rows = np.intersect1d(read, accepted_rows(table)).tolist()
        chosen = pa.array(read if rows else read[:0])
        picked = table.select(["source_tokens", "source_offsets"]).take(chosen)
        tokens, offsets = (column.to_pylist() for column in picked.columns)
        sentences: list[Sentence] = [
            (words, spaces_after(places)) for words, places in zip(tokens, offsets, strict=True)
        ]
        asked = Asked(sentences, _contexts(table, self.context, chosen))
        if self.pictures is not None and rows:
            references, lang = table.column("image").take(chosen).to_pylist(), table.column("lang")[0].as_py()
            asked = replace(asked, references=references, lang=lang)
        of_row = dict(zip(read.tolist(), self.last.of(asked, self._looked_at), strict=bool(rows)))
        found = [of_row[index] for index in rows]
        names = ("source_spans", "source_opinions", "unprojected", "flags")
        columns: dict[str, dict[int, Any]] = {name: {} for name in names}
        flags = table.column("flags").to_pylist()
        rejects: dict[int, tuple[Reason, str]] = {}
        for index, (result, seen) in zip(rows, found, strict=True):
            if seen.flag is not None and self.images.missing == "reject":
                reference = one_line(table.column("image")[index].as_py(), 200)
                rejects[index] = Reason(str(seen.flag)), f"{reference}: {seen.detail}"
                continue
            if seen.picture is not None:
                columns.setdefault("image_id", {})[index] = seen.picture[0]
            if isinstance(result, tuple):
                rejects[index] = result
                continue
            # Each span as the run names it, in the order of the first of equal ones, and as the tagger does
            own = {mapped: span for span in result.spans for mapped in self.labels.map([span])}
            spans = list(own)
            columns["source_spans"][index] = span_cells(spans)
            if result.probabilities is not None and self.opines:
                said = judge(result.probabilities, [*own.values()], self.tagger.labels)
                # None for renamed ones: `target_tags` have the tagger's own names
                columns["source_opinions"][index] = [
                    each if mapped.label == span.label else None
                    for each, (mapped, span) in zip(said, own.items(), strict=True)
                ]
            if result.probabilities is not None and self.weighed:
                inside = {word for span in spans for word in range(span.start, span.end)}
                cells = tag_cells(result.probabilities, self.tagger.labels)
                columns.setdefault("source_tags", {})[index] = [cell for cell in cells if cell["word"] in inside]
            if lost := nested_losses(spans):
                columns["unprojected"][index] = lost
            odd = [*([Flag.CONTEXT_CUT] if result.cut else []), *([seen.flag] if seen.flag is not None else [])]
            if mark := [*self.mark, *odd]:
                columns["flags"][index] = with_flags(flags[index], mark)
        return fill(table, columns, rejects)

    def _looked_at(self, asked: Asked) -> Sequence[tuple[Found | Rejected, Seen]]:
        """Tag sentences, with their pictures if they are shown: so many at a time that memory holds them."""
        if asked.references is None or self.pictures is None:
            return [(found, Seen()) for found in self._tagged(asked.sentences, asked.contexts)]
        distinct = sorted({one for one in asked.references if one is not None})
        by = len(distinct) // 2 if self.images.ablation == "shuffled" else 0
        shown = {one: distinct[(at + by) % len(distinct)] for at, one in enumerate(distinct)}
        found: dict[int, tuple[Found | Rejected, Seen]] = {}
        for first in range(0, max(1, len(distinct)), _PICTURES):
            some = distinct[first : first + _PICTURES]
            own = self.pictures.load(some, asked.lang)
            others = own if not by else self.pictures.load([shown[one] for one in some], asked.lang)
            # Those without a reference go with the first pictures
            chosen = [n for n, one in enumerate(asked.references) if one in own or (one is None and not first)]
            seen = [own.get(asked.references[n] or "", Seen()) for n in chosen]
            pictures = [
                None if one.picture is None else others[shown[str(asked.references[n])]].picture
                for n, one in zip(chosen, seen, strict=True)
            ]
            tagger = cast(PictureTagger, self.tagger)
            tagged = tagger.tag([asked.sentences[n] for n in chosen], pictures)
            each = [one if isinstance(one, tuple) else Found(one) for one in tagged]
            found |= dict(zip(chosen, zip(each, seen, strict=True), strict=True))
        return [found[n] for n in range(len(asked.sentences))]

    def _tagged(self, sentences: list[Sentence], contexts: Contexts) -> Sequence[Found | Rejected]:
        if contexts is not None:
            tagger = cast(ContextTagger, self.tagger)
            cuts = tagger.cuts([words for words, _ in sentences], contexts)
            return [Found(*found, cut) for found, cut in zip(tagger.tagged(sentences, contexts), cuts, strict=True)]
        if (self.weighed or self.opines) and (tagged := getattr(self.tagger, "tagged", None)) is not None:
            return [Found(*found) for found in tagged(sentences)]
        return [found if isinstance(found, tuple) else Found(found) for found in self.tagger.tag(sentences)]

    def forget(self) -> None:
        super().forget()
        self.last.forget()


class TargetTagStage(ModelStage):
    """Fills target_tags of rows that have an entity to place; of all rows if the tags are the result.

    With them the tagger's opinion of the source's entities, where `tag` has not given the same tagger's.
    """

    name = "target_tag"

    def __init__(self, recipe: Recipe, tagger: Tagger) -> None:
        super().__init__(tagger)
        self.tagger, self.every_row = tagger, recipe.projector == "transfer"
        self.mark = engine_flags(recipe.target_tag.engine)
        self.opines = recipe.opines
        self.context = recipe.target_tag.context
        self.last: LastResult[tuple[list[list[str]], Contexts], Sequence[NDArray[np.float32] | Rejected]] = LastResult()

    def __call__(self, table: pa.Table) -> pa.Table:
        spans = table.column("source_spans").to_pylist()
        rows = [index for index in accepted_rows(table) if spans[index] or self.every_row]
        opinions = self._opinions(table, rows) if self.opines else {}
        chosen = pa.array(rows, pa.int64())
        tokens, contexts = table.column("tokens").take(chosen).to_pylist(), _contexts(table, self.context, chosen)
        found = self._probabilities((tokens, contexts))
        cut = () if contexts is None else cast(ContextTagger, self.tagger).cuts(tokens, contexts)
        marks = {index: [Flag.CONTEXT_CUT] for index, one in zip(rows, cut, strict=False) if one}
        flags = table.column("flags").to_pylist()
        rejects = {index: each for index, each in zip(rows, found, strict=True) if isinstance(each, tuple)}
        tagged = {index: each for index, each in zip(rows, found, strict=True) if not isinstance(each, tuple)}
        columns: dict[str, dict[int, Any]] = {
            "source_opinions": {index: opinions[index] for index in tagged if index in opinions},
            "target_tags": {index: tag_cells(each, self.tagger.labels) for index, each in tagged.items()},
            "flags": {
                index: with_flags(flags[index], [*self.mark, *marks.get(index, [])])
                for index in tagged
                if self.mark or index in marks
            },
        }
        return fill(table, columns, rejects)

    def _opinions(self, table: pa.Table, rows: Sequence[int]) -> dict[int, list[dict[str, float] | None]]:
        """Return cells of `source_opinions` by row, for those of the rows that have none."""
        # As in `align`: whatever became of the row in this language, and so that states can be shared
        placed = pc.fill_null(pc.greater(pc.list_value_length(table.column("source_spans")), 0), False)
        missing = pc.and_(table.column("source_opinions").is_null(), placed)
        read = np.flatnonzero(pc.and_(missing, readable(table, table.column("source_tokens"))).to_numpy())
        wanted = {*rows} & {*read.tolist()}
        chosen = pa.array(read if wanted else read[:0])
        part = table.select(["source_tokens", "source_spans"]).take(chosen)
        tokens, spans = (column.to_pylist() for column in part.columns)
        found = self.last.of((tokens, _contexts(table, self.context, chosen)), self._probabilities)
        return {
            index: judge(each, [Span(s["start"], s["end"], s["label"]) for s in own], self.tagger.labels)
            for index, own, each in zip(read.tolist() if wanted else (), spans, found, strict=True)
            if index in wanted and not isinstance(each, tuple)
        }

    def _probabilities(self, asked: tuple[list[list[str]], Contexts]) -> Sequence[NDArray[np.float32] | Rejected]:
        words, contexts = asked
        if contexts is None:
            return self.tagger.probabilities(words)
        return cast(ContextTagger, self.tagger).probabilities(words, contexts)

    def forget(self) -> None:
        super().forget()
        self.last.forget()


def _contexts(table: pa.Table, column: str | None, rows: pa.Array) -> list[str | None] | None:
    """Return the contexts of some rows; None if the stage reads none."""
    return None if column is None else table.column(column).take(rows).to_pylist()
