"""A score of how well two phrases translate each other: NMTScore "direct" (Vamvas and Sennrich 2022; method.md 4.3).

    P(A|B) = (prod_t p(A_t | B, A_<t)) ** (1 / |A|)      the model's probability of A given B, per token
    s(A|B) = min(1, P(A|B) / P(A|A))                     relative to that of repeating A in A's own language
    score  = (s(source|target) + s(target|source)) / 2

Nothing is generated: one teacher-forced pass for each distinct (condition, output), sorted by length, in micro-batches
under a token budget. Phrases are scored without their sentence, so that a phrase costs the same wherever it occurs; the
model then sees no context (method.md 6.1).

|A| counts A's subwords and the end token, but not the language token, which is forced. Without the end token the
beginning of a name ("Cruz" of "Cruz Roja") would count as a whole translation. What is unlikely about a bare phrase,
such as an end without a full stop, is in P(A|A) too and cancels out.

The cut at 1 is ours: a model often prefers its own translation to a copy, and pruning needs a bound. The package
nmtscore differs in two more points (scorer.py, m2m100.py): it counts a second end token, and takes 2 ** -loss of a loss
in nats, so that its s is s ** 0.69. The formula here is the published one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.models.device import Timed
from xner_ray.models.windows import padded
from xner_ray.recipe.sections import Translating
from xner_ray.translate.nllb import NllbTranslator, log_probabilities, start_of

_Phrase = tuple[str, str]  # language, text
_Job = tuple[_Phrase, _Phrase]  # condition, output


class LikelihoodScorer(Timed):
    """Scores pairs of phrases.

    tokens: subwords of all conditions and outputs that went through the model. micro_batch_tokens: bound of rows x
    (longest condition + longest output) of one forward pass; a single longer pair goes alone. torch.OutOfMemoryError
    passes through.
    """

    def __init__(self, section: Translating) -> None:
        """Load the model of `section` as the translator does; RecipeError if it cannot be used."""
        translator = NllbTranslator(section)
        self.name = translator.name
        self.tokenizer, self.model, self.positions = translator.tokenizer, translator.model, translator.positions
        self.languages = translator.languages
        self.micro_batch_tokens = translator.micro_batch_tokens
        self.tokens = 0

    def score(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> NDArray[np.float64]:
        """Return the score of each (phrase in `source`, phrase in `target`): float64 in [0, 1], rounded to 1e-4.

        source, target: language codes as the model spells them ("eng_Latn"); they may be the same. An empty phrase and
        one longer than the model's positions score 0. A pair's score depends on other pairs by floating-point noise
        alone, which rounding almost always hides. RecipeError if the model lacks a language; ValueError if a likelihood
        is not a number.
        """
        asked = [((source, s), (target, t)) for s, t in pairs]
        ids = self._subwords(sorted({phrase for pair in asked for phrase in pair}), {source, target})
        scored = [(s, t) for s, t in asked if s in ids and t in ids]
        jobs = {job for s, t in scored for job in ((s, t), (t, s), (s, s), (t, t))}
        likelihood: dict[_Job, float] = {}
        for batch in self._micro_batches(jobs, ids):
            likelihood.update(zip(batch, self._log_likelihoods(batch, ids), strict=True))
        result = np.zeros(len(pairs))
        for place, (s, t) in enumerate(asked):
            if s in ids and t in ids:
                # As logarithms: P(A|A) of a long phrase may be 0 in floats, the ratio not.
                ratios = likelihood[t, s] - likelihood[s, s], likelihood[s, t] - likelihood[t, t]
                result[place] = np.exp(np.minimum(ratios, 0.0)).mean()
        if np.isnan(result).any():
            raise ValueError(f"{self.name} gives a likelihood that is not a number for {pairs[int(result.argmin())]}")
        return result.round(4)

    def _subwords(self, phrases: list[_Phrase], languages: set[str]) -> dict[_Phrase, tuple[list[int], list[int]]]:
        """Return, for each phrase that can be scored, the ids that the encoder reads and those of the output."""
        end = self.tokenizer.eos_token_id
        result = {}
        for language in sorted(languages):
            told = self.languages.told(language, language)
            self.tokenizer.src_lang = told.source
            texts = [text for code, text in phrases if code == language and text.strip()]
            if not texts:
                continue
            # The tokenizer decides where the language token is in what the encoder reads; an output has it first.
            read = self.tokenizer(texts, split_special_tokens=True)["input_ids"]
            bare = self.tokenizer(texts, split_special_tokens=True, add_special_tokens=False)["input_ids"]
            for text, condition, pieces in zip(texts, read, bare, strict=True):
                if pieces and max(len(condition), len(pieces) + 2) <= self.positions:
                    result[language, text] = (condition, [*told.first, *pieces, end])
        return result

    def _micro_batches(self, jobs: set[_Job], ids: dict[_Phrase, tuple[list[int], list[int]]]) -> Iterator[list[_Job]]:
        """Yield the jobs in batches, longest output first, then longest condition."""
        lengths = {job: (len(ids[job[1]][1]), len(ids[job[0]][0])) for job in jobs}
        batch: list[_Job] = []
        widest = 0  # condition of the batch
        for job in sorted(jobs, key=lambda j: (-lengths[j][0], -lengths[j][1], j)):
            rows, output = len(batch) + 1, lengths[batch[0] if batch else job][0]
            widest = max(widest, lengths[job][1])
            if batch and (rows * (widest + output) > self.micro_batch_tokens):
                yield batch
                batch, widest = [], lengths[job][1]
            batch.append(job)
        if batch:
            yield batch

    def _log_likelihoods(self, batch: list[_Job], ids: dict[_Phrase, tuple[list[int], list[int]]]) -> list[float]:
        """Return log P(output | condition) of each job."""
        padding, start = self.tokenizer.pad_token_id, start_of(self.model)
        conditions, outputs = [ids[condition][0] for condition, _ in batch], [ids[output][1] for _, output in batch]
        inputs, given = (
            padded(rows, padding, self.model.device) for rows in (conditions, [[start, *row] for row in outputs])
        )
        with torch.inference_mode(), self.in_model():
            states = self.model.get_encoder()(**inputs).last_hidden_state
            found = log_probabilities(self.model, states, inputs["attention_mask"], given["input_ids"]).double().cpu()
        self.tokens += sum(map(len, conditions)) + sum(map(len, outputs))
        return [float(row[1 : len(output)].mean()) for row, output in zip(found, outputs, strict=True)]
