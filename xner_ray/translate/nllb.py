"""NLLB-200 and any model of its kind, through transformers.

Sentences are sorted by length and decoded in micro-batches under a token budget that counts the source and as
many target positions; order is restored. The language token of the target is forced as the first one. The
score is the mean log-probability of the generated tokens (the forced one left out), computed by one
teacher-forced pass over the finished sequence, so that greedy and beam search report the same quantity.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from xner_ray.errors import Reason, RecipeError, did_you_mean
from xner_ray.models.device import Timed, device_of, pick_dtype
from xner_ray.models.hub import load_arguments, pinned
from xner_ray.models.network import quiet
from xner_ray.recipe.sections import Directions, Resolved, Translating
from xner_ray.translate.base import Translation

# Logits of one scoring pass, in elements: 2 ** 27 float32 are half a gibibyte beside a 256,000-word vocabulary.
SCORING_ELEMENTS = 1 << 27


def resolve(section: Translating, key: str, directions: Directions) -> Resolved:
    """Pin the model; reads no weights. RecipeError, with the section's `key`, unless it knows every language."""
    section, identity = pinned(section)
    tokenizer = tokenizer_of(section.model, key)
    for code in dict.fromkeys(code for direction in directions.values() for code in direction):
        language_id(tokenizer, code, section.model, key)
    return Resolved(section, {"model": identity})


class NllbTranslator(Timed):
    def __init__(self, section: Translating) -> None:
        assert section.dtype != "int8"  # the recipe's check; Ct2Translator has a constructor of its own
        place = device_of(section)
        self.name = section.model
        self.beams = section.beams
        self.max_new_tokens = section.max_new_tokens
        self.micro_batch_tokens = section.micro_batch_tokens
        self.tokens = 0
        self.tokenizer = tokenizer_of(section.model)
        path, options = load_arguments(section.model)
        with quiet():
            self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(
                path, dtype=pick_dtype(section.dtype, place), use_safetensors=True, **options
            )
        self.model.to(place).eval()
        config = self.model.config
        self.positions: int = config.max_position_embeddings
        # Its own limit would cut long sentences at 200 tokens; ours is given with every call.
        self.model.generation_config.max_length = None

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        """One result a text, in order; too long sources and cut or empty translations are rejects, never shortened."""
        self.tokenizer.src_lang = source
        first = language_id(self.tokenizer, target, self.name)
        language_id(self.tokenizer, source, self.name)
        # Text that spells a special token, as "</s>", must stay text.
        ids: list[list[int]] = self.tokenizer(texts, split_special_tokens=True)["input_ids"] if texts else []
        results: list[Translation | tuple[Reason, str]] = [(Reason.SOURCE_TOO_LONG, "")] * len(texts)
        fitting = []
        for index, sentence in enumerate(ids):
            if len(sentence) <= self.positions:
                fitting.append(index)
            else:
                results[index] = (
                    Reason.SOURCE_TOO_LONG,
                    f"{len(sentence)} subwords, but the translator reads {self.positions}; split the sentence",
                )
        for batch in self._micro_batches(fitting, ids):
            found = self._generate([ids[i] for i in batch], first)
            for index, result in zip(batch, found, strict=True):
                results[index] = result
        return results

    def _limit(self, width: int) -> int:
        """Most subwords of a translation, its language token and end included, of a source of `width` subwords.

        The width counts as the next power of two: sentences of one micro-batch share a limit that each of them would
        have alone. A translation over three times its source is a loop; the limit keeps it from holding up its batch.
        """
        rounded = 1 << (width - 1).bit_length()
        return min(self.max_new_tokens or 3 * rounded + 32, self.positions - 1)

    def _micro_batches(self, indices: list[int], ids: list[list[int]]) -> Iterator[list[int]]:
        """Longest first, so that running out of memory shows at once; at least one sentence each, of one limit."""
        batch: list[int] = []
        for index in sorted(indices, key=lambda i: (-len(ids[i]), i)):
            longest = len(ids[batch[0]]) if batch else len(ids[index])
            full = 2 * longest * (len(batch) + 1) > self.micro_batch_tokens
            if batch and (full or self._limit(len(ids[index])) != self._limit(longest)):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    @torch.inference_mode()
    def _generate(self, ids: list[list[int]], first: int) -> list[Translation | tuple[Reason, str]]:
        """Translate the rows of one micro-batch."""
        padding, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        width = max(map(len, ids))
        device = self.model.device
        inputs = torch.tensor([row + [padding] * (width - len(row)) for row in ids], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=device)
        limit = self._limit(width)
        with warnings.catch_warnings(), self.in_model():
            warnings.filterwarnings("ignore", message=".*max_new_tokens.*")
            sequences = self.model.generate(
                input_ids=inputs,
                attention_mask=mask,
                forced_bos_token_id=first,
                num_beams=self.beams,
                do_sample=False,
                max_new_tokens=limit,
            )
            lengths = [_length(row, end) for row in sequences[:, 1:].tolist()]
            scores = self._scores(inputs, mask, sequences, lengths)
        self.tokens += int(mask.sum()) + sum(length or limit for length in lengths)
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        results: list[Translation | tuple[Reason, str]] = []
        for text, length, score in zip(texts, lengths, scores, strict=True):
            if length is None:
                results.append((Reason.TRANSLATION_TRUNCATED, f"no end after {limit} subwords: {text[:200]}"))
            elif not text.strip():
                results.append((Reason.TRANSLATION_EMPTY, "the translator gave no text"))
            else:
                results.append(Translation(text.strip(), score))
        return results

    def _scores(
        self, inputs: torch.Tensor, mask: torch.Tensor, sequences: torch.Tensor, lengths: list[int | None]
    ) -> list[float]:
        """Mean log-probability of each sequence's tokens after the forced one, its end included."""
        vocabulary = self.model.config.vocab_size
        rows = max(1, SCORING_ELEMENTS // (sequences.shape[1] * vocabulary))
        scores: list[float] = []
        for start in range(0, len(lengths), rows):
            part = slice(start, start + rows)
            logits = self.model(
                input_ids=inputs[part], attention_mask=mask[part], decoder_input_ids=sequences[part, :-1]
            ).logits
            chosen = sequences[part, 1:]
            token_scores = torch.log_softmax(logits.float(), dim=-1).gather(2, chosen[:, :, None])[:, :, 0]
            for row, length in zip(token_scores, lengths[part], strict=True):
                scores.append(float(row[1 : length or len(row)].mean()))
        return scores


def _length(tokens: list[int], end: int) -> int | None:
    """Number of tokens up to and with the end token; None if it never came."""
    return tokens.index(end) + 1 if end in tokens else None


def tokenizer_of(name: str, key: str = "translate") -> Any:
    """The model's tokenizer. RecipeError, with the section's `key`, if it cannot be had."""
    path, options = load_arguments(name)
    try:
        return AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{key}.model {name!r} cannot be used: {error}") from error


def language_id(tokenizer: Any, code: str, model: str, key: str = "translate") -> int:
    """The token that stands for a language. RecipeError, with the section's `key`, if the model has none."""
    identifier = tokenizer.convert_tokens_to_ids(code)
    if identifier is None or identifier == tokenizer.unk_token_id:
        known = [t for t in tokenizer.all_special_tokens if len(t) == 8 and t[3] == "_"]
        raise RecipeError(
            f"{key}.model: {model} has no language token {code!r}{did_you_mean(code, known)} "
            "Choose another model, or give the text under input.parallel"
        )
    return int(identifier)
