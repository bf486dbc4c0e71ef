"""A Hugging Face encoder and its tokenizer, loaded and cut after the last hidden state in use.

State k is what transformers calls `hidden_states[k]`: 0 the embeddings, k the output of layer k, and the last
one as the model returns it (pre-norm models apply their final norm there and only there). Layers after k are
removed from the module; a probe at load time checks that the cut model still gives the same state.
Weights come from safetensors alone, and no code comes with a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from tokenizers import normalizers
from torch import Tensor, nn

from xner_ray.errors import RecipeError
from xner_ray.models import fast_linear
from xner_ray.models.hub import load_arguments

ALIGN_LAYERS = "xner_ray_align_layers"  # in config.json: the layers that `align.layer: auto` takes
_UNKNOWN_POSITIONS = 512  # for models with relative positions that state no limit at all


class Network:
    """An encoder without the layers after the highest of `layers`; called with model inputs, it gives the average of
    these layers' states (B, T, dim).

    `is_cut` says whether there were layers that could be removed.
    """

    def __init__(self, module: nn.Module, layers: Sequence[int], tokenizer: Any) -> None:
        self.module, self.layers = module, sorted(set(layers))
        self._states: dict[int, Tensor] = {}
        probe = tokenizer(["a b c", "a"], padding=True, return_tensors="pt", return_token_type_ids=False)
        self._probe = {"input_ids": probe["input_ids"], "attention_mask": probe["attention_mask"]}
        with torch.inference_mode():
            states = module(**self._probe, output_hidden_states=True).hidden_states
            self.dim = int(states[self.layers[-1]].shape[-1])
            self.n_layers = len(states) - 1
            self.is_cut = self.layers[-1] < self.n_layers and self._cut(states)
            self._expected = self._average([states[layer] for layer in self.layers])

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.is_cut:
            self.module(**inputs)
            states = [self._states.pop(layer) for layer in self.layers]
        elif self.layers == [self.n_layers]:
            states = [self.module(**inputs).last_hidden_state]
        else:
            found = self.module(**inputs, output_hidden_states=True).hidden_states
            states = [found[layer] for layer in self.layers]
        return self._average(states)

    def speed_up(self, precision: fast_linear.Precision) -> bool:
        """Replace the Linear layers by `fast_linear`'s; False, and nothing changed, if model or processor cannot.

        Attention becomes `eager`, which on a CPU takes two thirds of `sdpa`'s time for sentences of 40 subwords. A
        model cannot if it looks into its layers, or if its states on two short sentences come out otherwise:
        cosine below 0.9, where float32 has 1 and int8 about 0.99.
        """
        undo = fast_linear.replace_linears(self.module, precision)
        if undo is None:
            return False
        module: Any = self.module
        attention = module.config._attn_implementation
        module.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                states = self(self._probe).float()
            real = self._probe["attention_mask"].bool()
            if bool((torch.cosine_similarity(states, self._expected.float(), dim=-1)[real] >= 0.9).all()):
                return True
        except (AttributeError, RuntimeError, TypeError):
            self._states.clear()
        undo()
        module.set_attn_implementation(attention)
        return False

    @staticmethod
    def _average(states: list[Tensor]) -> Tensor:
        return states[0] if len(states) == 1 else torch.stack([state.float() for state in states]).mean(dim=0)

    def _cut(self, expected: tuple[Tensor, ...]) -> bool:
        """Remove layers where the model keeps them in one list; put them back if a state changes."""
        lists = [m for m in self.module.modules() if isinstance(m, nn.ModuleList)]
        stack = next((m for m in lists if len(m) == self.n_layers), None)
        if stack is None:
            return False
        highest = max(self.layers[-1], 1)
        removed = list(stack)[highest:]
        del stack[highest:]
        hooks = [
            stack[layer - 1].register_forward_hook(partial(self._keep_output, layer))
            if layer
            else stack[0].register_forward_pre_hook(self._keep_input, with_kwargs=True)
            for layer in self.layers
        ]
        self.module(**self._probe)
        states, self._states = self._states, {}
        if all(layer in states and torch.equal(states[layer], expected[layer]) for layer in self.layers):
            return True
        for hook in hooks:
            hook.remove()
        stack.extend(removed)
        return False

    def _keep_output(self, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._states[layer] = output[0] if isinstance(output, tuple) else output

    def _keep_input(self, _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._states[0] = inputs[0] if inputs else named["hidden_states"]


@contextmanager
def quiet() -> Iterator[None]:
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


def layers_of(model: str) -> tuple[int, list[int] | None]:
    """How many layers a model has, and which `adapt` taught to align and noted under `ALIGN_LAYERS`, if it did."""
    from transformers import AutoConfig

    name, options = load_arguments(model)
    with _named(model), quiet():
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    n_layers = int(getattr(config, "encoder_layers", None) or config.get_text_config().num_hidden_layers)
    return n_layers, getattr(config, ALIGN_LAYERS, None)


def load(model: str, dtype: torch.dtype) -> tuple[Any, nn.Module]:
    """Tokenizer and encoder; of an encoder-decoder model its encoder half."""
    tokenizer, network = load_whole(model, dtype)
    return tokenizer, encoder_of(network).eval()


def encoder_of(network: Any) -> nn.Module:
    """The network, or the encoder half of an encoder-decoder model."""
    half: nn.Module = network.get_encoder() if network.config.is_encoder_decoder else network
    return half


def load_whole(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model, as its folder holds it."""
    from transformers import AutoModel, AutoTokenizer

    name, options = load_arguments(model)
    with _named(model), quiet():
        options["trust_remote_code"] = False
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        if not tokenizer.is_fast:
            raise RecipeError(f"align.encoder {model!r} has no fast tokenizer, which alone tells words apart")
        separate_words(tokenizer)
        network, info = AutoModel.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise RecipeError(f"align.encoder {model!r}: {len(missing)} weights are missing, as {missing[0]}")
    return tokenizer, network


def spelt_specials(tokenizer: Any) -> dict[int, int]:
    """Special token -> unknown token, for ids that stand for words of the text: "</s>" as a word must stay text.

    Unigram tokenizers have "</s>" among their pieces, so not to look for special tokens in the text
    (`split_special_tokens`) is not enough.
    """
    unknown = tokenizer.unk_token_id
    return {} if unknown is None else dict.fromkeys(tokenizer.all_special_ids, unknown)


def separate_words(tokenizer: Any) -> None:
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
