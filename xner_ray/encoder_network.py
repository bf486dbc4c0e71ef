"""A Hugging Face encoder and its tokenizer, loaded and cut after the hidden state in use.

State k is what transformers calls `hidden_states[k]`: 0 the embeddings, k the output of layer k, and the last
one as the model returns it (pre-norm models apply their final norm there and only there). Layers after k are
removed from the module; a probe at load time checks that the cut model still gives the same state.
Weights come from safetensors alone, and no code comes with a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import normalizers
from torch import Tensor, nn

from xner_ray.errors import RecipeError
from xner_ray.hub import load_arguments

_UNKNOWN_POSITIONS = 512  # for models with relative positions that state no limit at all


class Network:
    """An encoder without the layers after `layer`; called with model inputs, it gives that state (B, T, dim).

    `is_cut` says whether there were layers that could be removed.
    """

    def __init__(self, module: nn.Module, layer: int, tokenizer: Any) -> None:
        self.module, self.layer = module, layer
        self._state: Tensor | None = None
        probe = tokenizer(["a b c", "a"], padding=True, return_tensors="pt", return_token_type_ids=False)
        inputs = {"input_ids": probe["input_ids"], "attention_mask": probe["attention_mask"]}
        with torch.inference_mode():
            states = module(**inputs, output_hidden_states=True).hidden_states
            self.dim = int(states[layer].shape[-1])
            self.n_layers = len(states) - 1
            self.is_cut = layer < self.n_layers and self._cut(inputs, states[layer])

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.is_cut:
            self.module(**inputs)
            state, self._state = self._state, None
        elif self.layer == self.n_layers:
            state = self.module(**inputs).last_hidden_state
        else:
            state = self.module(**inputs, output_hidden_states=True).hidden_states[self.layer]
        assert state is not None
        return state

    def _cut(self, inputs: dict[str, Tensor], expected: Tensor) -> bool:
        """Remove layers where the model keeps them in one list; put them back if the state changes."""
        lists = [m for m in self.module.modules() if isinstance(m, nn.ModuleList)]
        stack = next((m for m in lists if len(m) == self.n_layers), None)
        if stack is None:
            return False
        removed = list(stack)[max(self.layer, 1) :]
        del stack[max(self.layer, 1) :]
        if self.layer:
            hook = stack[-1].register_forward_hook(self._keep_output)
        else:
            hook = stack[0].register_forward_pre_hook(self._keep_input, with_kwargs=True)
        self.module(**inputs)
        state, self._state = self._state, None
        if state is not None and torch.equal(state, expected):
            return True
        hook.remove()
        stack.extend(removed)
        return False

    def _keep_output(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._state = output[0] if isinstance(output, tuple) else output

    def _keep_input(self, _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._state = inputs[0] if inputs else named["hidden_states"]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no warning about the pooler that many checkpoints lack and nobody uses."""
    import transformers.utils.logging

    logging: Any = transformers.utils.logging
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _named(model: str) -> Iterator[None]:
    """transformers' ways of saying that there is no such model, as an error of the recipe."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise RecipeError(f"align.encoder {model!r} cannot be used: {error}") from error


def layers_of(model: str) -> int:
    from transformers import AutoConfig

    name, options = load_arguments(model)
    with _named(model), _quiet():
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    return int(getattr(config, "encoder_layers", None) or config.get_text_config().num_hidden_layers)


def load(model: str, dtype: torch.dtype) -> tuple[Any, nn.Module]:
    """Tokenizer and encoder; of an encoder-decoder model its encoder half."""
    from transformers import AutoModel, AutoTokenizer

    name, options = load_arguments(model)
    with _named(model), _quiet():
        options["trust_remote_code"] = False
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        if not tokenizer.is_fast:
            raise RecipeError(f"align.encoder {model!r} has no fast tokenizer, which alone tells words apart")
        _separate_words(tokenizer)
        network, info = AutoModel.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise RecipeError(f"align.encoder {model!r}: {len(missing)} weights are missing, as {missing[0]}")
    encoder = network.get_encoder() if network.config.is_encoder_decoder else network
    return tokenizer, encoder.eval()


def _separate_words(tokenizer: Any) -> None:
    """Make given words look like words of a text, if the tokenizer would read them as one word without spaces.

    That is so where the space belongs to the next word (byte-level BPE, Gemma's pieces): prepend it.
    """

    def ids(text: str | list[str]) -> list[int]:
        encoding = tokenizer(text, is_split_into_words=isinstance(text, list), add_special_tokens=False)
        return list(encoding["input_ids"])

    words = ["cat", "sat"]
    if ids(words) == ids("cat sat"):
        return
    expected = ids(" cat sat")
    backend = tokenizer.backend_tokenizer
    before = backend.normalizer
    space = normalizers.Prepend(" ")
    backend.normalizer = space if before is None else normalizers.Sequence([space, before])
    if ids(words) != expected:
        backend.normalizer = before


def positions_of(network: nn.Module, tokenizer: Any) -> int:
    """How many tokens the model reads: the least of what the parts say.

    RoBERTa's kin number positions from behind the padding index, so XLM-R's 514 serve 512 tokens, and many
    tokenizers state no limit (1e30).
    """
    limits = [tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None) or 0]
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min((int(limit) for limit in limits if 0 < limit < 1_000_000), default=_UNKNOWN_POSITIONS)
