"""The stage `constrained`: a translator says where in a given translation it would put an entity's markers.

Each entity is marked in the source alone, so that nothing has to tell which marker is whose; that two entities do not
share a word is left to the matching, which gets the share of every place. Passes of all entities of a wave are read in
step (`constrained.together`): what the encoder says of a marked source is computed once, and kept for the wave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xner_ray.data.row import accepted_rows, fill, unmatchable, with_flags
from xner_ray.errors import Flag, Loss, RecipeError
from xner_ray.models.device import Timed
from xner_ray.models.windows import micro_batches, padded
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Constrained, Directions, Resolved, Translating
from xner_ray.stage import ModelStage
from xner_ray.translate import brackets, nllb
from xner_ray.translate.constrained import Answer, Found, Pass, Target, search, together
from xner_ray.translate.languages import Languages

SCORE = "constrained"
"""The name of the shares in the column `evidence`."""
_WAVE = 8  # micro-batches of the encoder whose states are kept at a time


def resolve(section: Translating, key: str, directions: Directions) -> Resolved:
    """Pin the model; reads no weights. RecipeError unless it knows every language, and square brackets."""
    resolved = nllb.resolve(section, key, directions)
    assert isinstance(resolved.section, Translating)
    languages = Languages(nllb.tokenizer_of(resolved.section.model, key), section.model, key)
    unknown = languages.tokenizer.unk_token_id
    for source, target in directions.values():
        bare, marked = languages.written(["a b", "[a] b"], source, target)
        if marked.count(unknown) > bare.count(unknown) or len(marked) < len(bare) + 2:
            raise RecipeError(
                f"{key}.model: {section.model} has no subwords for the markers [ and ]; choose a model that has seen "
                "square brackets, or projector: match"
            )
    return resolved


@dataclass(frozen=True, eq=False, slots=True)
class Entity:
    """A source sentence with one entity in brackets, and the translation, which entities of a sentence share."""

    marked: str
    target: Target


class MarkerScorer(Timed):
    """Finds places of markers.

    tokens: subwords of all sources and translations that went through the model. micro_batch_tokens: bound of rows x
    (longest source + longest translation) of one forward pass. torch.OutOfMemoryError passes through.
    """

    def __init__(self, section: Constrained) -> None:
        """Load the model of `section` as the translator does; RecipeError if it cannot be used."""
        translator = nllb.NllbTranslator(section)
        self.name, self.beams, self.min_ratio = section.model, section.beams, section.min_ratio
        self.tokenizer, self.model, self.positions = translator.tokenizer, translator.model, translator.positions
        self.languages = Languages(self.tokenizer, self.name, "constrained")
        self.micro_batch_tokens = translator.micro_batch_tokens
        self.tokens = 0

    def target(self, text: str, offsets: Sequence[tuple[int, int]], source: str, lang: str, max_words: int) -> Target:
        """Return a translation from `source` into `lang`; its square brackets become round ones, as in the source."""
        end = self.tokenizer.eos_token_id

        def tokenise(texts: list[str]) -> list[list[int]]:
            return [[*ids, end] for ids in self.languages.written(texts, source, lang)]

        return Target(brackets.escape(text), offsets, tokenise, max_words)

    def find(self, entities: Sequence[Entity], source: str, target: str) -> list[Found]:
        """Return what was found of each entity. source, target: language codes as the model spells them.

        ValueError if a probability is not a number; RecipeError if the model lacks a language.
        """
        first = self.languages.told(source, target).first
        ids = self.languages.read([entity.marked for entity in entities], source, target)
        results = [Found(too_long=True)] * len(entities)
        fitting = [index for index in range(len(entities)) if len(ids[index]) <= self.positions]
        # Sorted by length: a wave's passes are then alike
        batches = list(micro_batches([len(ids[index]) for index in fitting], self.micro_batch_tokens))
        for start in range(0, len(batches), _WAVE):
            wave = [[fitting[place] for place in batch] for batch in batches[start : start + _WAVE]]
            kept = [index for batch in wave for index in batch]
            states = [each for batch in wave for each in self._encode([ids[index] for index in batch])]
            searches = [
                # Before the subwords of a text stands the token of its language
                search(
                    entities[index].target, beams=self.beams, room=self.positions - len(first), min_ratio=self.min_ratio
                )
                for index in kept
            ]
            for index, found in zip(kept, together(searches, partial(self._read, states, first)), strict=True):
                results[index] = found
                entities[index].target.forget()
        return results

    @torch.inference_mode()
    def _encode(self, ids: list[list[int]]) -> list[torch.Tensor]:
        """Return the encoder's states of one micro-batch, (subwords, d) each."""
        with self.in_model():
            inputs = padded(ids, self.tokenizer.pad_token_id, self.model.device)
            states = self.model.get_encoder()(**inputs).last_hidden_state
            found = [row[: len(own)].clone() for row, own in zip(states, ids, strict=True)]
        self.tokens += sum(map(len, ids))
        return found

    def _read(self, states: list[torch.Tensor], first: tuple[int, ...], passes: list[tuple[int, Pass]]) -> list[Answer]:
        """Return the answers to passes, each with the index of its source among the states."""
        answers: list[Answer | None] = [None] * len(passes)
        lengths = [len(states[index]) + len(each.tokens) + len(first) for index, each in passes]
        for batch in micro_batches(lengths, self.micro_batch_tokens):
            found = self._read_batch(
                [passes[place][1] for place in batch], [states[passes[p][0]] for p in batch], first
            )
            for place, answer in zip(batch, found, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    @torch.inference_mode()
    def _read_batch(self, passes: list[Pass], states: list[torch.Tensor], first: tuple[int, ...]) -> list[Answer]:
        start, padding, device = nllb.start_of(self.model), self.tokenizer.pad_token_id, self.model.device
        given = padded([[start, *first, *each.tokens[:-1]] for each in passes], padding, device)["input_ids"]
        # By row and place: the text's own subword, then the others that are asked there
        asked = [
            (row, place + len(first), token, number)
            for row, each in enumerate(passes)
            for number, (place, token) in enumerate([*enumerate(each.tokens), *each.others])
        ]
        asked.sort(key=lambda one: one[:2])
        rows, places, tokens, numbers = np.array(asked, dtype=np.int64).T
        with self.in_model():
            mask = torch.nn.utils.rnn.pad_sequence(
                [torch.ones(len(own), dtype=torch.long, device=device) for own in states], batch_first=True
            )
            values = (
                nllb.log_probabilities_of(
                    self.model,
                    torch.nn.utils.rnn.pad_sequence(states, batch_first=True),
                    mask,
                    given,
                    *(torch.from_numpy(column.copy()).to(device) for column in (rows, places, tokens)),
                )
                .double()
                .cpu()
                .numpy()
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{self.name} gives a probability that is not a number; set dtype: float32, or bfloat16")
        self.tokens += sum(len(each.tokens) + len(first) for each in passes)
        own = [np.empty(len(each.tokens) + len(each.others)) for each in passes]
        for row, number, value in zip(rows.tolist(), numbers.tolist(), values.tolist(), strict=True):
            own[row][number] = value
        return [
            Answer(found[: len(each.tokens)].tolist(), found[len(each.tokens) :].tolist())
            for found, each in zip(own, passes, strict=True)
        ]


class ConstrainedStage(ModelStage):
    """Fills evidence with the shares of places, by entity, for `match`; no row is rejected here.

    A row with an entity of which the search ended at `Constrained.beams` is flagged BEAM_FULL.

    An entity whose markers are `Constrained.min_ratio` times as probable as none, or less, joins `unprojected` as
    MARKER_UNLIKELY, one whose marked sentence or translation is longer than the model reads as MARKER_TOO_LONG.
    A call is one unit of one source_lang and one lang.
    """

    name = "constrained"

    def __init__(self, recipe: Recipe, scorer: MarkerScorer) -> None:
        super().__init__(scorer)
        self.scorer, self.max_words = scorer, recipe.match.max_words

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = accepted_rows(table)
        names = ("source_lang", "lang", "source_text", "source_offsets", "source_spans", "text", "offsets")
        columns = table.select([*names, "unprojected", "evidence", "flags"]).take(pa.array(alive, pa.int64()))
        asked: list[tuple[int, int]] = []  # row and index of the source span
        entities: list[Entity] = []
        rows = dict(zip(alive, columns.to_pylist(), strict=True))
        for index, row in rows.items():
            aside, spans = unmatchable(row), row["source_spans"] or ()
            own = [source for source in range(len(spans)) if source not in aside]
            if own:
                offsets = [(each["start"], each["end"]) for each in row["offsets"]]
                target = self.scorer.target(row["text"], offsets, row["source_lang"], row["lang"], self.max_words)
                entities += [Entity(_marked(row, spans[source]), target) for source in own]
                asked += [(index, source) for source in own]
        if not asked:
            return table
        unit = rows[asked[0][0]]
        found = self.scorer.find(entities, unit["source_lang"], unit["lang"])
        evidence: dict[int, list[dict[str, Any]]] = {index: list(rows[index]["evidence"] or ()) for index, _ in asked}
        lost: dict[int, list[dict[str, Any]]] = {index: list(rows[index]["unprojected"] or ()) for index, _ in asked}
        flags: dict[int, list[str]] = {}
        for (index, source), each in zip(asked, found, strict=True):
            if each.too_long or each.ratio <= self.scorer.min_ratio:
                loss = Loss.MARKER_TOO_LONG if each.too_long else Loss.MARKER_UNLIKELY
                lost[index].append({"source": source, "reason": str(loss)})
                continue
            evidence[index] += [
                {"score": SCORE, "source": source, "start": start, "end": end, "value": share}
                for (start, end), share in each.shares().items()
            ]
            if not each.proven:
                flags[index] = with_flags(rows[index]["flags"], [Flag.BEAM_FULL])
        ordered = {index: sorted(own, key=lambda loss: loss["source"]) for index, own in lost.items()}
        return fill(table, {"evidence": evidence, "unprojected": ordered, "flags": flags})


def _marked(row: dict[str, Any], span: dict[str, Any]) -> str:
    """Return the source text of a row with one entity in brackets."""
    offsets = row["source_offsets"]
    start, end = offsets[span["start"]]["start"], offsets[span["end"] - 1]["end"]
    return brackets.mark(row["source_text"], [(start, end)]).text
