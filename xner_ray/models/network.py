"""A Hugging Face encoder and its tokenizer, loaded and cut after the last hidden state in use.

State k is transformers' `hidden_states[k]`: 0 the embeddings, k the output of layer k, and the last one as the model
returns it (pre-norm models apply their final norm there alone). Layers after k are removed from the module; a probe at
load time checks that the cut model still gives the same state. Weights are read from safetensors alone. The built-in
encoder is loaded once for all stages of a process that read the same of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from tokenizers import normalizers
from torch import Tensor, nn

from xner_ray.errors import RecipeError
from xner_ray.models import e5, fast_linear
from xner_ray.models.device import pick_dtype
from xner_ray.models.hub import complete, pretrained
from xner_ray.models.kept import KeptStates
from xner_ray.models.windows import Dtype, separator

ALIGN_LAYERS = "xner_ray_align_layers"  # in config.json: the layers of `align.layer: auto`
CONTEXT = "xner_ray_context"  # in config.json: the column of texts that a student was trained with beside sentences
_UNKNOWN_POSITIONS = 512  # for models with relative positions that state no limit at all


class Network:
    """An encoder without the layers after the highest of `layers`.

    Called with model inputs, it returns the average of these layers' states (B, T, dim). is_cut: whether there were
    layers that could be removed.
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
        """Replace the Linear layers by `fast_linear`'s; returns False, and changes nothing, where that fails.

        Attention becomes `eager`, which on a CPU takes two thirds of `sdpa`'s time for sentences of 40 subwords. It
        fails if float32 cannot be packed here, if the model looks into its layers, or if its states on two short
        sentences come out different: cosine below 0.9, where float32 has 1 and int8 about 0.99.
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
        """Remove layers after the last one needed, if the model lists its layers; restore them if a state changes."""
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


class SharedNetwork:
    """An encoder's network with its tokenizer, on its device. precision: the number format of the products."""

    def __init__(
        self,
        model: str,
        layers: list[int],
        device: torch.device,
        dtype: torch.dtype,
        fast: fast_linear.Precision | None,
    ) -> None:
        """Load the model. fast: of `fast_linear`, where that works. Errors as of `load`."""
        if model == e5.BUILTIN:
            model = str(e5.builtin_folder())
            self.tokenizer, module = _builtin_tokenizer(model), _encoder(model, dtype)
        else:
            self.tokenizer, module = load(model, dtype)
        self.positions = positions_of(module, self.tokenizer)
        self.network = Network(module, layers, self.tokenizer)
        module.to(device)
        self.precision: str = str(module.dtype).removeprefix("torch.")
        if fast and self.network.speed_up(fast):
            self.precision = fast
        self.kept = KeptStates(device.type)


_loaded: WeakValueDictionary[Any, SharedNetwork] = WeakValueDictionary()


def shared(model: str, layers: list[int], device: torch.device, dtype: Dtype) -> SharedNetwork:
    """Return the network for a number format; of the built-in encoder the one that this process has, if it has one.

    dtype: as of `align`. `auto` is float32 on a CPU and float16 on a GPU; on a CPU, `bfloat16` and `int8` concern the
    products with weights alone (see fast_linear.py). Errors as of `SharedNetwork`.
    """
    fast: fast_linear.Precision | None = None
    if device.type == "cpu" and dtype != "float16":
        fast = "float32" if dtype == "auto" else dtype
    kind = torch.float32 if fast or dtype == "int8" else pick_dtype(dtype, device.type)
    if model != e5.BUILTIN:
        return SharedNetwork(model, layers, device, kind, fast)
    key = tuple(layers), device, kind, fast
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = SharedNetwork(model, layers, device, kind, fast)
    return found


def layers_of(model: str) -> tuple[int, list[int] | None]:
    """Return the number of a model's layers, and those that `adapt` noted under `ALIGN_LAYERS`, or None."""
    from transformers import AutoConfig

    config = pretrained(AutoConfig, model, "align.encoder")
    n_layers = int(getattr(config, "encoder_layers", None) or config.get_text_config().num_hidden_layers)
    return n_layers, getattr(config, ALIGN_LAYERS, None)


def load(model: str, dtype: torch.dtype) -> tuple[Any, nn.Module]:
    """Return tokenizer and encoder; of an encoder-decoder model its encoder half."""
    return fast_tokenizer(model, "align.encoder"), _encoder(model, dtype)


@cache
def _builtin_tokenizer(folder: str) -> Any:
    """Keep a tokenizer of 250,000 pieces for later runs of this process: it takes longer to read than the model."""
    return fast_tokenizer(folder, "align.encoder")


def _encoder(model: str, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModel

    return encoder_of(complete(AutoModel, model, "align.encoder", dtype)).eval()


def load_whole(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return tokenizer and model, as its folder holds it."""
    from transformers import AutoModel

    return fast_tokenizer(model, "align.encoder"), complete(AutoModel, model, "align.encoder", dtype)


def encoder_of(network: Any) -> nn.Module:
    """Return the network, or the encoder half of an encoder-decoder model."""
    half: nn.Module = network.get_encoder() if network.config.is_encoder_decoder else network
    return half


def fast_tokenizer(model: str, key: str) -> Any:
    """Load a tokenizer that keeps given words apart; RecipeError, with the recipe's `key`, if it is not a fast one."""
    from transformers import AutoTokenizer

    tokenizer = pretrained(AutoTokenizer, model, key)
    if not tokenizer.is_fast:
        raise RecipeError(f"{key} {model!r} has no fast tokenizer, which alone tells words apart")
    separate_words(tokenizer)
    return tokenizer


def separate_words(tokenizer: Any) -> None:
    """Make a tokenizer read given words as words of a text, if it would read them as one word without spaces.

    It would where the space belongs to the next word (byte-level BPE, Gemma's pieces): there a space is prepended.
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


def require_separator(tokenizer: Any, key: str, model: str) -> None:
    """Raise RecipeError, with the recipe's `key` of the model, if nothing could part a sentence from its context."""
    if not separator(tokenizer):
        raise RecipeError(
            f"{key} {model!r}: its tokenizer has no separator to stand between a sentence and its context; take a "
            "model with one, as relatives of BERT and XLM-R, or leave context out"
        )


def require_look_behind(logits: Callable[[dict[str, Tensor]], Tensor], tokenizer: Any, key: str, model: str) -> None:
    """Raise RecipeError if words would not be read by what stands behind them, as in models from left to right.

    logits: of inputs on the CPU, (B, T, classes). Two rows of equal tokens are read, but for the last of one row.
    """
    ids = torch.full((2, 4), tokenizer("a").input_ids[0])
    ids[1, 3] = next(number for number in range(9) if number not in (int(ids[0, 0]), tokenizer.pad_token_id))
    with torch.inference_mode():
        found = logits({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).float()
    if torch.allclose(found[0, :3], found[1, :3], rtol=1e-5, atol=1e-7):
        raise RecipeError(
            f"{key} {model!r}: reads each word without what stands behind it, so a context would say nothing; take a "
            "model that reads both ways, or leave context out"
        )


def positions_of(network: nn.Module, tokenizer: Any) -> int:
    """Return the number of tokens that the model reads at once: the lowest limit of its parts.

    RoBERTa and its relatives number positions from behind the padding index, so XLM-R's 514 serve 512 tokens; many
    tokenizers state no limit (1e30).
    """
    limits = [tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None) or 0]
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min((int(limit) for limit in limits if 0 < limit < 1_000_000), default=_UNKNOWN_POSITIONS)
