"""How well two phrases translate each other: NMTScore "direct" (method.md 4.3; Vamvas and Sennrich 2022).

    P(A|B) = (prod_t p(A_t | B, A_<t)) ** (1 / |A|)      how readily the model gives A for B, per token
    s(A|B) = min(1, P(A|B) / P(A|A))                     measured by how readily it repeats A in A's own language
    score  = (s(source|target) + s(target|source)) / 2

Nothing is generated: one teacher-forced pass for each distinct (condition, output), sorted by length, in micro-batches
under a token budget and a bound of the logits' memory. Phrases stand alone, without their sentence, so that a phrase
costs the same wherever it occurs; the price is that the model sees no context (method.md 6.1).

|A| counts A's subwords and the end token, not the language token: that one is forced, so no translation decides it.
The end stays, because without it the beginning of a name ("Cruz" of "Cruz Roja") would count as a whole translation.
What the model dislikes about a bare phrase, such as an end without a full stop, stands in P(A|A) too and cancels out.

The cut at 1 is ours: a model often prefers its own translation to a copy, and fusion needs a bound (`contenders`).
The package nmtscore differs in two more points (scorer.py, m2m100.py): it counts a second end token, and takes
2 ** -loss of a loss in nats, so that its s is s ** 0.69. The formula stands here as published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.models.device import Timed
from xner_ray.recipe.sections import Translating
from xner_ray.translate.nllb import SCORING_ELEMENTS, NllbTranslator, language_id

_Phrase = tuple[str, str]  # language, text
_Job = tuple[_Phrase, _Phrase]  # condition, output


class LikelihoodScorer(Timed):
    """`tokens` counts the subwords of all conditions and outputs that went through the model, for the report.

    `micro_batch_tokens` bounds rows x (longest condition + longest output) of one forward pass; a single longer pair
    passes alone. Halve it when the device runs out of memory: torch.OutOfMemoryError passes through.
    """

    def __init__(self, section: Translating) -> None:
        """Loads the model of `section` as the translator does; RecipeError if it cannot be used."""
        translator = NllbTranslator(section)
        self.name = translator.name
        self.tokenizer, self.model, self.positions = translator.tokenizer, translator.model, translator.positions
        self.micro_batch_tokens = section.micro_batch_tokens
        self.tokens = 0

    def score(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> NDArray[np.float64]:
        """The score of each (phrase in `source`, phrase in `target`): float64 in [0, 1], rounded to 1e-4.

        source, target: language codes as the model spells them ("eng_Latn"); they may be the same. An empty phrase,
        and one longer than the model's positions, scores 0: that costs a candidate, never a row. A pair's score does
        not depend on the others beyond the noise of floats, which rounding hides almost always.
        RecipeError if the model lacks a language; ValueError if a likelihood is not a number.
        """
        asked = [((source, s), (target, t)) for s, t in pairs]
        ids = self._subwords(sorted({phrase for pair in asked for phrase in pair}), {source, target})
        scored = [(s, t) for s, t in asked if s in ids and t in ids]
        jobs = {job for s, t in scored for job in ((s, t), (t, s), (s, s), (t, t))}
        likelihood: dict[_Job, float] = {}
        for batch, width in self._micro_batches(jobs, ids):
            likelihood.update(zip(batch, self._log_likelihoods(batch, ids, width), strict=True))
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
        """Of each phrase that can be scored, what the encoder reads, and the output: language, subwords, end."""
        end = self.tokenizer.eos_token_id
        result = {}
        for language in sorted(languages):
            first = language_id(self.tokenizer, language, self.name)
            self.tokenizer.src_lang = language
            texts = [text for code, text in phrases if code == language and text.strip()]
            if not texts:
                continue
            # Where the language stands in what the encoder reads is the tokenizer's matter.
            read = self.tokenizer(texts, split_special_tokens=True)["input_ids"]
            bare = self.tokenizer(texts, split_special_tokens=True, add_special_tokens=False)["input_ids"]
            for text, condition, pieces in zip(texts, read, bare, strict=True):
                if pieces and max(len(condition), len(pieces) + 2) <= self.positions:
                    result[language, text] = (condition, [first, *pieces, end])
        return result

    def _micro_batches(
        self, jobs: set[_Job], ids: dict[_Phrase, tuple[list[int], list[int]]]
    ) -> Iterator[tuple[list[_Job], tuple[int, int]]]:
        """Longest output first, then longest condition; with the length of the longest of each."""
        logits = SCORING_ELEMENTS // self.model.config.vocab_size
        lengths = {job: (len(ids[job[1]][1]), len(ids[job[0]][0])) for job in jobs}
        batch: list[_Job] = []
        width = (0, 0)
        for job in sorted(jobs, key=lambda j: (-lengths[j][0], -lengths[j][1], j)):
            output, condition = lengths[job]
            wider = max(width[0], condition), max(width[1], output)
            rows = len(batch) + 1
            if batch and (rows * sum(wider) > self.micro_batch_tokens or rows * wider[1] > logits):
                yield batch, width
                batch, wider = [], (condition, output)
            batch.append(job)
            width = wider
        if batch:
            yield batch, width

    def _log_likelihoods(
        self, batch: list[_Job], ids: dict[_Phrase, tuple[list[int], list[int]]], width: tuple[int, int]
    ) -> list[float]:
        """log P(output | condition) of each job."""
        padding, device = self.tokenizer.pad_token_id, self.model.device
        conditions, outputs = [ids[condition][0] for condition, _ in batch], [ids[output][1] for _, output in batch]
        read, given = _padded(conditions, width[0], padding).to(device), _padded(outputs, width[1], padding).to(device)
        lengths = torch.tensor([len(row) for row in conditions], device=device)
        mask = (torch.arange(width[0], device=device) < lengths[:, None]).long()
        start = torch.full_like(given[:, :1], self.model.config.decoder_start_token_id)
        with torch.inference_mode(), self.in_model():
            logits = self.model(
                input_ids=read, attention_mask=mask, decoder_input_ids=torch.cat([start, given[:, :-1]], dim=1)
            ).logits
            chosen = torch.log_softmax(logits.float(), dim=-1).gather(2, given[:, :, None])[:, :, 0].double().cpu()
        self.tokens += sum(map(len, conditions)) + sum(map(len, outputs))
        return [float(row[1 : len(output)].mean()) for row, output in zip(chosen, outputs, strict=True)]


def _padded(rows: list[list[int]], width: int, padding: int) -> torch.Tensor:
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows])
