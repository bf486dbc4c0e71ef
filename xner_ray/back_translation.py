"""Back-translation refinement ("tgt2tgt"): a bridge in the target's own language between the entities and the target.

    source sentence, entities marked --translate--> bridge sentence with entities --align, match--> original target

Aligning two sentences of one language is easier than aligning two languages, but every entity that the translator
loses or mangles is gone. The paper's released results: it helps where words are not written apart (ja, th, zh) and
costs much F1 elsewhere (reference/method.md, section 3). A translator trained to keep brackets loses fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xner_ray import markers, words
from xner_ray.errors import Loss
from xner_ray.markers import Marked, Placement, Recovered
from xner_ray.schema import fill, live, set_aside
from xner_ray.stage import ModelStage
from xner_ray.translate import Translation, Translator

_READS = ("source_lang", "lang", "source_text", "source_offsets", "source_spans", "unprojected", "flags")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """What is translated for one row. sources: index of each entity in source_spans, by place in the sentence."""

    marked: Marked
    sources: list[int]
    alone: list[str]


class BackTranslateStage(ModelStage):
    """Fills bridge_tokens and bridge_spans of rows with entities; no row is rejected here.

    bridge_tokens: words of the back-translation, at least one; null where the sentence has no entity, or got no
    translation with a word. bridge_spans: recovered entities, ascending and disjoint, as half-open ranges of words;
    `source` is the index in source_spans, `score` the similarity in 0..1 to the entity's own translation. Null where
    the sentence has no entity.

    Entities that are not recovered join `unprojected` with a `Loss.MARKER_*`, each `markers.Fault` joins `flags` once a
    row. Spans that reading has set aside take no part. A call is one unit, of one source_lang and one lang; each
    distinct text of it is translated once, from source_lang to lang in both directions of a run.
    min_similarity: as in `markers.recover`.
    """

    name = "back_translate"

    def __init__(self, translator: Translator, min_similarity: float = markers.MIN_SIMILARITY) -> None:
        super().__init__(translator)
        self.translator, self.min_similarity = translator, min_similarity

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = live(table)
        cells = dict(zip(alive, table.select(_READS).take(pa.array(alive, pa.int64())).to_pylist(), strict=True))
        sentences = {index: sentence for index, row in cells.items() if (sentence := _sentence(row))}
        if not sentences:
            return table
        unit = cells[next(iter(sentences))]
        texts = [text for sentence in sentences.values() for text in (sentence.marked.text, *sentence.alone)]
        translations = self._translate(list(dict.fromkeys(texts)), unit["source_lang"], unit["lang"])
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in ("bridge_tokens", "bridge_spans", "unprojected", "flags")
        }
        for index, sentence in sentences.items():
            for name, value in self._bridge(cells[index], sentence, translations).items():
                columns[name][index] = value
        return fill(table, columns)

    def _translate(self, texts: list[str], source_lang: str, lang: str) -> dict[str, str]:
        """Translations by text, without the rejected and the blank."""
        results = zip(texts, self.translator.translate(texts, source_lang, lang), strict=True)
        return {text: found.text for text, found in results if isinstance(found, Translation) and found.text.strip()}

    def _bridge(self, row: Mapping[str, Any], sentence: _Sentence, translations: Mapping[str, str]) -> dict[str, Any]:
        """The cells of one row."""
        translation = translations.get(sentence.marked.text)
        if translation is None:
            recovered = Recovered("", [], [Loss.MARKER_NOT_TRANSLATED] * len(sentence.sources), {})
        else:
            recovered = markers.recover(
                translation,
                [translations.get(text) for text in sentence.alone],
                brackets=sentence.marked.brackets,
                min_similarity=self.min_similarity,
            )
        offsets = words.split(recovered.text, row["lang"])
        spans, lost = [], list(row["unprojected"] or ())
        for source, entity in zip(sentence.sources, markers.to_words(recovered.entities, offsets), strict=True):
            if isinstance(entity, Placement):
                label = row["source_spans"][source]["label"]
                place = {"start": entity.start, "end": entity.end, "label": label}
                spans.append({**place, "score": entity.similarity, "source": source})
            else:
                lost.append({"source": source, "reason": str(entity)})
        return {
            "bridge_tokens": [recovered.text[start:end] for start, end in offsets] or None,
            "bridge_spans": sorted(spans, key=lambda span: span["start"]),
            "unprojected": sorted(lost, key=lambda loss: loss["source"]),
            "flags": [*(row["flags"] or ()), *sorted(map(str, recovered.faults))],
        }


def _sentence(row: Mapping[str, Any]) -> _Sentence | None:
    """What to translate for a row, or None if it has no entity."""
    aside, spans, offsets = set_aside(row), row["source_spans"] or (), row["source_offsets"]
    sources = sorted((i for i in range(len(spans)) if i not in aside), key=lambda i: spans[i]["start"])
    if not sources:
        return None
    ranges = [(offsets[spans[i]["start"]]["start"], offsets[spans[i]["end"] - 1]["end"]) for i in sources]
    text = row["source_text"]
    return _Sentence(markers.mark(text, ranges), sources, [markers.escape(text[start:end]) for start, end in ranges])
