"""Stages that send entities through the translator in brackets: EasyProject, and the bridge of back-translation.

    source sentence, entities marked --translate--> sentence in the target's language with entities

`MarkerStage` (EasyProject) keeps that sentence as the target side: text and labels come from one translation, so
nothing is aligned. It cannot serve a given target sentence.

`BackTranslateStage` ("tgt2tgt") aligns that sentence, the bridge, to the given target side. Two sentences of one
language are easier to align than two languages, but every entity that the translator loses or mangles is gone. In the
paper's released results it helps where words are not separated (ja, th, zh) and costs much F1 elsewhere (reference/
method.md, section 3). A translator trained to keep brackets loses fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xner_ray.data import words
from xner_ray.data.row import accepted_rows, fill, offset_cells, unmatchable
from xner_ray.errors import Loss, Reason
from xner_ray.recipe.sections import Health
from xner_ray.stage import ModelStage
from xner_ray.translate import brackets
from xner_ray.translate.base import Result, Translation, Translator
from xner_ray.translate.brackets import Marked, Placement, Recovered
from xner_ray.translate.health import HealthChecker

_READS = ("source_lang", "lang", "source_text", "source_offsets", "source_spans", "unprojected", "flags")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """The texts to translate for a row. sources: index of each entity in source_spans, in order of the sentence."""

    marked: Marked
    sources: list[int]
    alone: list[str]


@dataclass(frozen=True, slots=True)
class _Carried:
    """A row's sentence on the other side.

    spans: cells of the column, ascending and disjoint; `score` is the similarity in 0..1 to the entity's own
    translation. flags, unprojected: those of the row, and new ones.
    """

    text: str
    offsets: list[tuple[int, int]]
    spans: list[dict[str, Any]]
    unprojected: list[dict[str, Any]]
    flags: list[str]

    @property
    def tokens(self) -> list[str]:
        return [self.text[start:end] for start, end in self.offsets]


class _MarkedStage(ModelStage):
    """Shared by both stages. A call is one unit of one source_lang and one lang; equal texts are translated once."""

    def __init__(self, translator: Translator, min_similarity: float = brackets.MIN_SIMILARITY) -> None:
        super().__init__(translator)
        self.translator, self.min_similarity = translator, min_similarity

    def _carry(self, table: pa.Table, *, bare: bool) -> Iterator[tuple[int, Result, _Carried]]:
        """Yield index, translation and carried sentence of the accepted rows with entities; if `bare`, of all."""
        alive = accepted_rows(table)
        cells = dict(zip(alive, table.select(_READS).take(pa.array(alive, pa.int64())).to_pylist(), strict=True))
        sentences = {index: _sentence(row) for index, row in cells.items()}
        sentences = {index: sentence for index, sentence in sentences.items() if bare or sentence.sources}
        if not sentences:
            return
        unit = cells[next(iter(sentences))]
        texts = dict.fromkeys(text for each in sentences.values() for text in (each.marked.text, *each.alone))
        found = self.translator.translate(list(texts), unit["source_lang"], unit["lang"])
        results = dict(zip(texts, found, strict=True))
        for index, sentence in sentences.items():
            yield index, results[sentence.marked.text], self._recover(cells[index], sentence, results)

    def _recover(self, row: Mapping[str, Any], sentence: _Sentence, results: Mapping[str, Result]) -> _Carried:
        translation = _text(results[sentence.marked.text])
        if translation is None:
            recovered = Recovered("", [], [Loss.MARKER_NOT_TRANSLATED] * len(sentence.sources), {})
        elif not sentence.sources:
            recovered = Recovered(translation, [], [], {})  # its brackets are text
        else:
            recovered = brackets.recover(
                translation,
                [_text(results[text]) for text in sentence.alone],
                brackets=sentence.marked.brackets,
                min_similarity=self.min_similarity,
            )
        offsets = words.split(recovered.text, row["lang"])
        spans, lost = [], list(row["unprojected"] or ())
        for source, entity in zip(sentence.sources, brackets.to_words(recovered.entities, offsets), strict=True):
            if isinstance(entity, Placement):
                label = row["source_spans"][source]["label"]
                place = {"start": entity.start, "end": entity.end, "label": label}
                spans.append({**place, "score": entity.similarity, "source": source})
            else:
                lost.append({"source": source, "reason": str(entity)})
        return _Carried(
            recovered.text,
            offsets,
            sorted(spans, key=lambda span: span["start"]),
            sorted(lost, key=lambda loss: loss["source"]),
            [*(row["flags"] or ()), *sorted(map(str, recovered.faults))],
        )


class BackTranslateStage(_MarkedStage):
    """Fills bridge_tokens and bridge_spans of rows with entities; no row is rejected here.

    bridge_tokens: words of the back-translation, at least one; null if the sentence has no entity, or no translation
    with a word. bridge_spans: recovered entities; null if the sentence has no entity. An entity that is not recovered
    joins `unprojected` with a `Loss.MARKER_*`; each fault of the markers joins `flags` once a row. Spans that cannot be
    matched take no part. Both directions of a run translate from source_lang to lang.
    min_similarity: as in `brackets.recover`.
    """

    name = "back_translate"

    def __call__(self, table: pa.Table) -> pa.Table:
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in ("bridge_tokens", "bridge_spans", "unprojected", "flags")
        }
        for index, _, carried in self._carry(table, bare=False):
            columns["bridge_tokens"][index] = carried.tokens or None
            columns["bridge_spans"][index] = carried.spans
            columns["unprojected"][index] = carried.unprojected
            columns["flags"][index] = carried.flags
        return fill(table, columns)


class MarkerStage(_MarkedStage):
    """Fills the target side and its spans: translation and projection at once (EasyProject).

    A sentence without entities is translated unmarked. A row whose sentence gets no translation is rejected with the
    translator's reason; an entity that is not recovered joins `unprojected`. A span's score is the similarity in 0..1,
    `objective` is their sum, `optimal` is false.
    """

    name = "translate"

    def __init__(self, translator: Translator, min_similarity: float, checks: Health) -> None:
        super().__init__(translator, min_similarity)
        self.checker = HealthChecker(checks)

    def __call__(self, table: pa.Table) -> pa.Table:
        names = ("text", "tokens", "offsets", "translation_score", "spans", "unprojected", "flags")
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in (*names, "complete", "objective", "optimal", "solver")
        }
        rejects: dict[int, tuple[Reason, str]] = {}
        cells = table.select(["source_text", "source_lang", "lang"]).to_pylist()
        for index, result, carried in self._carry(table, bare=True):
            if not isinstance(result, Translation):
                rejects[index] = result
                continue
            if not carried.offsets:
                rejects[index] = (Reason.TRANSLATION_EMPTY, "the translation has markers and no word")
                continue
            row = cells[index]
            flags, reject = self.checker.examine(row["source_text"], carried.text, row["source_lang"], row["lang"])
            if reject is not None:
                rejects[index] = reject
            values = {
                "text": carried.text,
                "tokens": carried.tokens,
                "offsets": offset_cells(carried.offsets),
                "translation_score": None if result.score is None else round(result.score, 4),
                "spans": carried.spans,
                "unprojected": carried.unprojected,
                "flags": [*carried.flags, *flags],
                "complete": not carried.unprojected,
                "objective": round(sum(span["score"] for span in carried.spans), 4),
                "optimal": False,
                "solver": "marker" if carried.spans or carried.unprojected else "none",
            }
            for name, value in values.items():
                columns[name][index] = value
        return fill(table, columns, rejects)


def _text(result: Result) -> str | None:
    """Return the translation, or None if it was rejected or is blank."""
    return result.text if isinstance(result, Translation) and result.text.strip() else None


def _sentence(row: Mapping[str, Any]) -> _Sentence:
    """Return the texts to translate for a row; without entities its text, unmarked."""
    aside, spans, offsets = unmatchable(row), row["source_spans"] or (), row["source_offsets"]
    sources = sorted((i for i in range(len(spans)) if i not in aside), key=lambda i: spans[i]["start"])
    text = row["source_text"]
    if not sources:
        return _Sentence(Marked(text, ""), [], [])
    ranges = [(offsets[spans[i]["start"]]["start"], offsets[spans[i]["end"] - 1]["end"]) for i in sources]
    return _Sentence(brackets.mark(text, ranges), sources, [brackets.escape(text[start:end]) for start, end in ranges])
