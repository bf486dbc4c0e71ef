"""Translation models with encoder and decoder through transformers: NLLB-200, M2M-100, mBART-50, MADLAD-400, OPUS-MT.

Sentences are sorted by length and decoded in micro-batches under a token budget that counts the source and as many
target positions; order is restored. A token of the target language, where the model has one, is forced as the first one
(`translate.languages`). A translation that does
not end within half of its limit is made again beside others of its kind: most of these are loops, and a micro-batch
takes as many steps as its longest row. The score is the mean log-probability of the generated tokens without the forced
one. Greedy search notes each token's as it takes it; for beams it comes from one teacher-forced pass over the finished
sequence, which is the same quantity.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from xner_ray.errors import Reason, RecipeError
from xner_ray.models.device import Timed, budget_of, device_of, pick_dtype
from xner_ray.models.hub import complete, pinned, pretrained
from xner_ray.models.windows import micro_batches, padded
from xner_ray.recipe.sections import Directions, Resolved, Translating
from xner_ray.translate.base import Result, Translation
from xner_ray.translate.languages import Languages, Told

# Logits that are held at a time in scoring, in elements: 2 ** 27 float32 are half a gibibyte, 523 places of NLLB's
# 256,206 words.
SCORING_ELEMENTS = 1 << 27
# Probabilities of the next word of all beams of a micro-batch, in elements: beam search takes some 14 bytes of memory
# for each, so that 2 ** 28 are 4 GB, 1,047 beams of NLLB.
STEP_ELEMENTS = 1 << 28
_RELATIVE_POSITIONS = 512  # as T5 and MADLAD-400 have them: no table ends, but longer texts were not trained on
# Keys of a generation_config.json that leave the probabilities of tokens as they are.
_PLAIN = {
    *("_from_model_config", "transformers_version", "max_length", "num_beams", "early_stopping"),
    *("use_cache", "output_attentions", "output_hidden_states"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
}


def resolve(section: Translating, key: str, directions: Directions) -> Resolved:
    """Pin the model; reads no weights. RecipeError, with the section's `key`, unless it knows every language."""
    section, identity = pinned(section)
    languages = Languages(tokenizer_of(section.model, key), section.model, key)
    for source, target in directions.values():
        told = languages.told(source, target)
        if key == "likelihood" and told.source is None:
            raise RecipeError(
                f"likelihood.model: {section.model} is not told the language that it reads, so it cannot compare a "
                "phrase with a copy of it; choose a model with a token for each language, as NLLB-200 has"
            )
    return Resolved(section, {"model": identity})


class NllbTranslator(Timed):
    again = True  # what does not end soon is made again by itself

    def __init__(self, section: Translating) -> None:
        assert section.dtype != "int8"  # checked by the recipe; Ct2Translator has its own constructor
        place = device_of(section)
        self.name = section.model
        self.beams = section.beams
        self.max_new_tokens = section.max_new_tokens
        self.micro_batch_tokens = self.budget = budget_of(section)
        self.tokens = 0
        self.tokenizer = tokenizer_of(section.model)
        dtype = pick_dtype(section.dtype, place)
        self.model: Any = complete(AutoModelForSeq2SeqLM, section.model, "translate.model", dtype)
        self.model.to(place).eval()
        self.languages = Languages(self.tokenizer, self.name)
        self.positions = positions_of(self.model.config)
        _refuse_other_heads(self.model, self.name)
        # The model's own limit would cut long sentences at 200 tokens; ours is given with every call. OPUS-MT forces an
        # end at it, so that a loop would look like a translation.
        self.model.generation_config.max_length = None
        self.model.generation_config.forced_eos_token_id = None
        # Whether tokens have the probabilities that the model gives them: no penalties, nothing forced or forbidden
        self.plain = self.model.generation_config.to_diff_dict().keys() <= _PLAIN

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Result]:
        """Return one result a text, in order; too long sources and cut or empty translations are rejects."""
        told = self.languages.told(source, target)
        ids = self.languages.read(texts, source, target)
        results: list[Result] = [(Reason.SOURCE_TOO_LONG, "")] * len(texts)
        fitting = []
        for index, sentence in enumerate(ids):
            if len(sentence) <= self.positions:
                fitting.append(index)
            else:
                results[index] = (
                    Reason.SOURCE_TOO_LONG,
                    f"{len(sentence)} subwords, but the translator reads {self.positions}; split the sentence",
                )
        unended: list[int] = []
        for limit, rows in self._alike(fitting, ids):
            first_limit = limit // 2 + 16 if self.again else limit
            cut = self._translate(rows, ids, told, min(first_limit, limit), results)
            unended += cut if first_limit < limit else []
        for limit, rows in self._alike(unended, ids):
            self._translate(rows, ids, told, limit, results)
        return results

    def _translate(
        self, rows: list[int], ids: list[list[int]], told: Told, limit: int, results: list[Result]
    ) -> list[int]:
        """Translate rows into at most `limit` subwords each; return those that did not end."""
        cut: list[int] = []
        for batch in self._micro_batches(rows, ids):
            for index, result in zip(batch, self._generate([ids[i] for i in batch], told.first, limit), strict=True):
                results[index] = result
                if isinstance(result, tuple) and result[0] == Reason.TRANSLATION_TRUNCATED:
                    cut.append(index)
        return cut

    def _alike(self, rows: list[int], ids: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Yield a limit and the rows that have it, the longest first."""
        ordered = sorted(rows, key=lambda index: -len(ids[index]))
        for limit, own in groupby(ordered, key=lambda index: self._limit(len(ids[index]))):
            yield limit, list(own)

    def _limit(self, width: int) -> int:
        """Return the most subwords of a translation, language token and end included, for a source of `width` subwords.

        The width is rounded up to a power of two, so that the sentences of one micro-batch share a limit that each
        would have alone. A translation over three times its source is a loop.
        """
        rounded = 1 << (width - 1).bit_length()
        return min(self.max_new_tokens or 3 * rounded + 32, self.positions - 1)

    def _micro_batches(self, rows: list[int], ids: list[list[int]]) -> Iterator[list[int]]:
        # Short sentences are many, and each beam of each has a vocabulary of probabilities
        room = STEP_ELEMENTS * self.micro_batch_tokens // self.budget
        most = max(1, room // (self.beams * len(self.tokenizer)))
        for batch in micro_batches([len(ids[index]) for index in rows], self.micro_batch_tokens // 2):
            for start in range(0, len(batch), most):
                yield [rows[place] for place in batch[start : start + most]]

    def _generate(self, ids: list[list[int]], first: tuple[int, ...], limit: int) -> list[Result]:
        """Translate the rows of one micro-batch. first: tokens that every translation begins with."""
        with self.in_model():
            sequences, found = self._run(ids, first, limit)
        if not np.isfinite(found[:, len(first) :]).all():
            kind = str(self.model.dtype).removeprefix("torch.")
            raise ValueError(not_finite(kind))
        end = self.tokenizer.eos_token_id
        lengths = [row.index(end) + 1 if end in row else None for row in sequences[:, 1:].tolist()]
        self.tokens += sum(map(len, ids)) + sum(length or limit for length in lengths)
        # Without what every translation begins with: not every tokenizer knows that its language's token is special
        texts = self.tokenizer.batch_decode(sequences[:, 1 + len(first) :], skip_special_tokens=True)
        own = [row[len(first) : length or len(row)] for row, length in zip(found, lengths, strict=True)]
        scores = [float(each.mean()) if len(each) else 0.0 for each in own]
        results: list[Result] = []
        for text, length, score in zip(texts, lengths, scores, strict=True):
            results.append(result_of(text, score, None if length else limit))
        return results

    @torch.inference_mode()
    def _run(
        self, ids: list[list[int]], first: tuple[int, ...], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows' generated tokens, (rows, length), and the log-probability of each after the first one."""
        inputs = padded(ids, self.tokenizer.pad_token_id, self.model.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*max_new_tokens.*")
            states = self.model.get_encoder()(**inputs).last_hidden_state
            mask = inputs["attention_mask"]
            noted = _Noted() if self.beams == 1 and self.plain else None
            sequences = self.model.generate(
                encoder_outputs=BaseModelOutput(states),
                attention_mask=mask,
                forced_bos_token_id=first[0] if first else None,
                num_beams=self.beams,
                do_sample=False,
                max_new_tokens=limit,
                logits_processor=LogitsProcessorList([noted] if noted else []),
            )
        found = noted.of(sequences, self.model) if noted else log_probabilities(self.model, states, mask, sequences)
        return sequences.cpu().numpy(), found.cpu().numpy()


class _Noted(LogitsProcessor):
    """Notes the log-probability of the likeliest token at each step, which is the one that greedy search takes."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores.log_softmax(dim=1).amax(dim=1))
        return scores

    def of(self, sequences: torch.Tensor, model: Any) -> torch.Tensor:
        """Return what `log_probabilities` returns."""
        return torch.stack(self.steps, dim=1).masked_fill(sequences[:, 1:] == model.config.pad_token_id, 0.0)


def not_finite(kind: str) -> str:
    """Return what is said of probabilities that overflowed in a number format."""
    return f"the model's probabilities are no finite numbers in {kind}; set dtype: float32, or bfloat16"


def result_of(text: str, score: float, limit: int | None) -> Result:
    """Return the translation, or its reject if it is empty, or cut off at `limit` subwords."""
    if limit is not None:
        return Reason.TRANSLATION_TRUNCATED, f"no end after {limit} subwords: {text[:200]}"
    if not text.strip():
        return Reason.TRANSLATION_EMPTY, "the translator gave no text"
    return Translation(text.strip(), score)


def log_probabilities(model: Any, states: torch.Tensor, mask: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each token of `sequences` after the first: float32 (rows, length - 1).

    states, mask: of the encoder, (rows, width, d) and (rows, width). Padding has 0. One pass of the decoder; the
    head, whose logits are a vocabulary wide, goes over the places in chunks, without those of padding.
    """
    wanted = sequences[:, 1:]
    row, place = torch.nonzero(wanted != model.config.pad_token_id, as_tuple=True)
    found = torch.zeros(wanted.shape, device=wanted.device)
    found[row, place] = log_probabilities_of(model, states, mask, sequences[:, :-1], row, place, wanted[row, place])
    return found


def log_probabilities_of(
    model: Any,
    states: torch.Tensor,
    mask: torch.Tensor,
    given: torch.Tensor,
    row: torch.Tensor,
    place: torch.Tensor,
    token: torch.Tensor,
) -> torch.Tensor:
    """Return the log-probability of tokens, each as what follows given[row, :place + 1]: float32 (tokens,).

    row, place: ascending, so that tokens in one place share its logits.
    """
    decoded = model.get_decoder()(
        input_ids=given, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
    ).last_hidden_state
    flat = decoded.flatten(0, 1)
    at, which = torch.unique_consecutive(row * given.shape[1] + place, return_inverse=True)
    found = torch.zeros(len(token), device=given.device)
    step = max(1, SCORING_ELEMENTS // model.config.vocab_size)
    for start in range(0, len(at), step):
        logits = logits_of(model, flat[at[start : start + step]]).float()
        first, end = torch.searchsorted(which, torch.tensor([start, start + len(logits)], device=which.device)).tolist()
        own = which[first:end] - start
        found[first:end] = logits[own, token[first:end]] - logits.logsumexp(1)[own]
    return found


def logits_of(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return the logits of the decoder's states, (places, d) -> (places, vocabulary), as the model's own pass does."""
    if getattr(model.config, "scale_decoder_outputs", False):  # T5 with tied embeddings
        states = states * model.config.d_model**-0.5
    logits: torch.Tensor = model.lm_head(states)
    bias = getattr(model, "final_logits_bias", None)
    return logits if bias is None else logits + bias


@torch.inference_mode()
def _refuse_other_heads(model: Any, name: str) -> None:
    """Raise RecipeError where `logits_of` is not what an unknown architecture computes."""
    if model.config.model_type == "m2m_100":
        return
    start, end = (torch.tensor([[number]], device=model.device) for number in (start_of(model), end_of(model)))
    states = model.get_encoder()(input_ids=end).last_hidden_state
    decoded = model.get_decoder()(input_ids=start, encoder_hidden_states=states, use_cache=False).last_hidden_state
    wanted = model(input_ids=end, decoder_input_ids=start, use_cache=False).logits
    if not torch.allclose(logits_of(model, decoded[0]).float(), wanted[0].float(), atol=1e-2, rtol=1e-2):
        raise RecipeError(
            f"translate.model: {name} is of type {model.config.model_type}, whose probabilities cannot be read here; "
            "choose another model, or give the text under input.parallel"
        )


def start_of(model: Any) -> int:
    """Return the token that the decoder starts with."""
    found = model.generation_config.decoder_start_token_id
    return int(model.config.decoder_start_token_id if found is None else found)


def end_of(model: Any) -> int:
    found = model.config.eos_token_id
    return int(found[0] if isinstance(found, list) else found)


def positions_of(config: Any) -> int:
    """Return the most subwords that a model reads or writes; of one with relative positions, what it has seen."""
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(found or _RELATIVE_POSITIONS)


def tokenizer_of(name: str, key: str = "translate") -> Any:
    """Return the model's tokenizer. RecipeError, with the section's `key`, if it cannot be used."""
    return pretrained(AutoTokenizer, name, f"{key}.model")
