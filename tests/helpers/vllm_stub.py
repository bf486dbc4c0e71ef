"""A stand-in for the package vllm, which needs a GPU: names, arguments and errors of version 0.29.0, read in its wheel.

It takes the arguments that xner_ray gives, refuses others, checks prompts as vLLM does, and answers by a function of
the test. Nothing is generated: a test with it is about our side of the interface, and says nothing about vLLM.

Read in: entrypoints/llm.py (LLM.__init__, generate), entrypoints/offline_utils.py (order, lengths of lists, what is
taken back), v1/engine/input_processor.py (`_validate_prompt_len`), sampling_params.py, outputs.py, exceptions.py,
v1/engine/__init__.py (FINISH_REASON_STRINGS), v1/engine/logprobs.py (cumulative_logprob), config/structured_outputs.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

VARIABLES = ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL")


class VLLMError(Exception):
    pass


class VLLMClientError(VLLMError):
    pass


class VLLMValidationError(VLLMClientError):
    pass


@dataclass
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None


@dataclass(kw_only=True)
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16
    logprobs: int | None = None
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise VLLMValidationError(f"max_tokens must be at least 1, got {self.max_tokens}.")


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    logprobs: Any
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


Answer = tuple[str, str]  # text and finish reason


@dataclass
class Stub:
    """What the test wants of it, and what it was asked. answer: from prompt ids and parameters."""

    answer: Callable[[list[int], SamplingParams], Answer]
    made: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[list[list[int]], list[SamplingParams]]] = field(default_factory=list)


def install(patch: pytest.MonkeyPatch, folder: Path, answer: Callable[[list[int], SamplingParams], Answer]) -> Stub:
    """Put the stub where `import vllm` and `metadata.version` find it, until the end of the test."""
    stub = Stub(answer)

    class LLM:
        def __init__(
            self,
            model: str,
            *,
            tokenizer_mode: str = "auto",
            trust_remote_code: bool = False,
            tensor_parallel_size: int = 1,
            dtype: str = "auto",
            revision: str | None = None,
            tokenizer_revision: str | None = None,
            seed: int = 0,
            gpu_memory_utilization: float = 0.92,
            structured_outputs_config: dict[str, Any] | None = None,
            # of EngineArgs
            load_format: str = "auto",
            max_model_len: int | None = None,
            distributed_executor_backend: str | None = None,
        ) -> None:
            stub.made.append({key: value for key, value in locals().items() if key not in ("self", "stub")})
            assert max_model_len is not None
            self.max_model_len = max_model_len

        def generate(
            self,
            prompts: Sequence[dict[str, list[int]]],
            sampling_params: Sequence[SamplingParams],
            *,
            use_tqdm: bool = True,
        ) -> list[RequestOutput]:
            assert not use_tqdm
            if len(sampling_params) != len(prompts):
                raise VLLMValidationError("The lengths of prompts and params must be the same.")
            ids = [prompt["prompt_token_ids"] for prompt in prompts]
            for prompt in ids:
                if not prompt or len(prompt) >= self.max_model_len:
                    raise VLLMValidationError(f"The decoder prompt (length {len(prompt)}) is empty or too long.")
            stub.calls.append((ids, list(sampling_params)))
            return [
                _output(str(n), prompt, params, *stub.answer(prompt, params))
                for n, (prompt, params) in enumerate(zip(ids, sampling_params, strict=True))
            ]

    parts = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams},
        "vllm.exceptions": {"VLLMClientError": VLLMClientError},
        "vllm.sampling_params": {"StructuredOutputsParams": StructuredOutputsParams},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__dict__.update(members)
        patch.setitem(sys.modules, name, module)
    about = folder / "vllm-0.29.0.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.29.0\n")
    patch.syspath_prepend(str(folder))
    for name in VARIABLES:  # what ChatModel sets is taken back with the rest
        patch.setenv(name, "")
        patch.delenv(name)
    return stub


def _output(name: str, prompt: list[int], params: SamplingParams, text: str, reason: str) -> RequestOutput:
    tokens = list(text.encode())
    mean = None if params.logprobs is None else -0.25 * len(tokens)
    return RequestOutput(name, prompt, [CompletionOutput(0, text, tokens, mean, None, reason)])
