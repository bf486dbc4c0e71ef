"""Chats with a decoder-only language model through vLLM: the conversations of one unit in one batched call.

vLLM runs in our own worker; ray.data.llm would bundle rows of several units. Prompts are rendered and counted here,
with the model's own tokenizer and chat template, since `vllm.LLM.chat` gives up all conversations if one is too long.
Decoding is greedy, but vLLM forms its batches by what fits at the moment, so the last bits of a logit depend on the
other conversations, and a near tie may fall the other way: two runs have the same rows, but a few texts may differ.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, Protocol

from jinja2 import TemplateError

from xner_ray import errors
from xner_ray.errors import FatalError, RecipeError, RetryableError
from xner_ray.models.device import Timed
from xner_ray.models.hub import folder_of, pin, pretrained
from xner_ray.recipe.sections import Resolved, Tag, Translate

Conversation = Sequence[Mapping[str, str]]  # messages: {"role": "system" | "user", "content": text}

_SHARE = 0.85  # of a device's memory; the rest is for CUDA, and for stages that share the worker


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one conversation.

    finished: "stop", the model ended it; "length", the limit did; "prompt", the model was not asked because the prompt
    is longer than it reads; "control", it was not asked because the prompt spells one of its control tokens. `text`
    then says so. mean_logprob: of the answer's tokens, natural logarithm; None if there are none. n_tokens: of the
    answer.
    """

    text: str
    finished: Literal["stop", "length", "prompt", "control"]
    mean_logprob: float | None
    n_tokens: int


class Chat(Protocol):
    """The model of a translator or tagger.

    tokens: of prompts and answers since the start. model_seconds: wall time of answering.
    """

    tokens: int
    model_seconds: float

    def chat(
        self,
        conversations: Sequence[Conversation],
        max_tokens: Sequence[int],
        schema: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        """Return one reply a conversation, in order, of at most `max_tokens`; JSON if there is a JSON `schema`."""
        ...


def require(section: Translate | Tag, key: str) -> None:
    """Raise MissingExtraError without vLLM, RecipeError unless the section has whole GPUs or shares one."""
    errors.require("vllm", "llm", f"{key}.engine llm")
    if section.gpus == 0:
        raise RecipeError(f"{key}.gpus is 0, but engine llm needs a GPU; set {key}.gpus: 1, or a fraction to share one")
    if section.gpus > 1 and section.gpus % 1:
        raise RecipeError(f"{key}.gpus is {section.gpus:g}; allowed for engine llm: up to 1, or a whole number")


def check(section: Translate | Tag, key: str) -> None:
    """Raise RecipeError unless the model is a decoder with a chat template; reads its configuration and tokenizer."""
    _context(section, key)
    _tokenizer(section, key)


def resolve(section: Translate | Tag, key: str, prompt: str) -> Resolved:
    """Pin the model, and identify the engine by vLLM's version and a hash of the prompt. Errors as of `check`."""
    model, identity = pin(str(section.model))
    section = section.model_copy(update={"model": model})
    check(section, key)
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]
    return Resolved(section, {"model": identity, "engine": f"vllm {metadata.version('vllm')}, prompt {digest}"})


class ChatModel(Timed):
    """A `Chat` by vLLM."""

    def __init__(self, section: Translate | Tag, key: str) -> None:
        """Load the model onto the worker's GPUs, several by tensor parallelism; vLLM takes its memory at once.

        dtype auto is the model's own. Sets torch's threads for the whole process. Raises what `require` and `check` do.
        """
        require(section, key)
        import torch  # takes seconds, and the recipe's checks need none of it

        torch.set_num_threads(section.threads)
        self.key, self.tokens = key, 0
        self.tokenizer = _tokenizer(section, key)
        self.context = _context(section, key, self.tokenizer)
        self.control = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.takes_system = _takes_system(self.tokenizer)
        # In this process, so that the engine dies with its worker and raises here; vLLM reports usage by default; its
        # log would bury ours.
        for name, value in (
            ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("VLLM_LOGGING_LEVEL", "ERROR"),
        ):
            os.environ.setdefault(name, value)
        import vllm

        self.model: Any = vllm.LLM(
            model=str(folder_of(str(section.model), weights=True)),
            tokenizer_mode="hf",
            trust_remote_code=False,
            load_format="safetensors",
            dtype=section.dtype,
            seed=0,
            max_model_len=self.context,
            gpu_memory_utilization=section.llm.gpu_memory_share or _SHARE * min(section.gpus, 1.0),
            tensor_parallel_size=max(1, int(section.gpus)),
            distributed_executor_backend="mp" if section.gpus > 1 else "uni",
            # One named backend, and no blanks between the parts, or a model may write blanks up to its limit.
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )

    def chat(
        self,
        conversations: Sequence[Conversation],
        max_tokens: Sequence[int],
        schema: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        """See `Chat`: greedy, in one call of the engine.

        FatalError if the engine fails, which is no row's fault; vLLM's error about a single prompt passes through.
        """
        replies: list[Reply | None] = []
        prompts: list[list[int]] = []
        limits: list[int] = []
        for conversation, limit in zip(conversations, max_tokens, strict=True):
            spelt = sorted(t for t in self.control if any(t in message["content"] for message in conversation))
            ids = [] if spelt else self._render(conversation)
            if spelt:
                replies.append(Reply(f"the text spells {spelt[0]}, a control token of the model", "control", None, 0))
            elif len(ids) >= self.context:
                message = f"the prompt has {len(ids)} tokens, but the model reads {self.context} with its answer"
                replies.append(Reply(message, "prompt", None, 0))
            else:
                replies.append(None)
                prompts.append(ids)
                limits.append(min(limit, self.context - len(ids)))
        answers = iter(self._generate(prompts, limits, schema))
        return [reply or next(answers) for reply in replies]

    def _render(self, conversation: Conversation) -> list[int]:
        messages = [dict(message) for message in conversation]
        if not self.takes_system and messages[0]["role"] == "system":
            system, user, *rest = messages
            messages = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=False,  # for templates that know this switch
        )
        return ids

    def _generate(self, prompts: list[list[int]], limits: list[int], schema: Mapping[str, Any] | None) -> list[Reply]:
        if not prompts:
            return []
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import StructuredOutputsParams

        params = [
            SamplingParams(
                temperature=0.0,
                max_tokens=limit,
                logprobs=0,  # of the chosen token alone
                structured_outputs=None if schema is None else StructuredOutputsParams(json=dict(schema)),
            )
            for limit in limits
        ]
        try:
            with self.in_model():
                outputs = self.model.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
        except VLLMClientError:  # about one prompt; vLLM has withdrawn the others, and the guard finds the row
            raise
        except Exception as error:  # prompts may be left in the engine, whose answers the next call would get
            raise FatalError(
                f"{self.key}: vLLM failed: {type(error).__name__}: {error}. If memory ran out, lower "
                f"{self.key}.llm.context_tokens or {self.key}.llm.gpu_memory_share, or give the stage a GPU of its own"
            ) from error
        replies = []
        for ids, output in zip(prompts, outputs, strict=True):
            (answer,) = output.outputs
            count = len(answer.token_ids)
            if answer.finish_reason not in ("stop", "length"):
                raise RetryableError(f"{self.key}: vLLM gave up on an answer ({answer.finish_reason})")
            self.tokens += len(ids) + count
            mean = None if answer.cumulative_logprob is None or not count else answer.cumulative_logprob / count
            replies.append(Reply(answer.text, answer.finish_reason, mean, count))
        return replies


def _tokenizer(section: Translate | Tag, key: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = pretrained(AutoTokenizer, str(section.model), f"{key}.model")
    if not tokenizer.chat_template:
        raise RecipeError(
            f"{key}.model {section.model!r} has no chat template, so it was not trained to follow instructions; "
            "choose the instruction-tuned variant of the model"
        )
    return tokenizer


def _context(section: Translate | Tag, key: str, tokenizer: Any = None) -> int:
    """Return the tokens of prompt and answer together: the recipe's, or those that the model reads if fewer."""
    from transformers import AutoConfig

    config = pretrained(AutoConfig, str(section.model), f"{key}.model")
    if config.is_encoder_decoder:
        raise RecipeError(
            f"{key}.model {section.model!r} is of type {config.model_type}, an encoder with a decoder, but engine llm "
            "takes decoders alone; models like NLLB run with engine nllb"
        )
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [section.llm.context_tokens, own, tokenizer.model_max_length if tokenizer is not None else None]
    return min(int(limit) for limit in limits if limit)


def _takes_system(tokenizer: Any) -> bool:
    """Tell whether the chat template takes a system message; Gemma 2's refuses it, others leave it out."""
    messages = [{"role": "system", "content": "SYSTEM-TEXT"}, {"role": "user", "content": "USER-TEXT"}]
    try:
        return "SYSTEM-TEXT" in tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        return False
