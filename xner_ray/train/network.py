"""The student's network: a Hugging Face token classifier whose lowest layers may be frozen.

A frozen layer gives the same state for a sentence in every epoch, so it is computed once, by running the model in two
parts. The model's own list of layers is changed for each run; here the lower two of four layers are frozen:

    list             what runs                                                gives
    [0, 1, 2, 3]     embeddings > 0 > 1 > 2 > 3 > head                        logits
    [0, 1]           embeddings > 0 > 1                                       states: the output of layer 1
    [C, C, 2, 3]     embeddings > C > C > 2 > 3 > head; C returns the states  the same logits

C stands once for each frozen layer, because some models choose a layer's mask by its index. Two short sentences show
whether a model gives the same logits in parts; otherwise it always runs whole. Everything that the states depend on is
frozen too: embeddings, and weights that upper layers share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.data.spans import label_list
from xner_ray.errors import RecipeError, one_line
from xner_ray.models import network
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.hub import folder_of, quiet
from xner_ray.models.windows import Windows
from xner_ray.train.recipe import Model

Ints = NDArray[np.int64]


class Student:
    """A token classifier, its tokenizer and a device.

    names: its classes, O, B-l, I-l of each label. keeps_head: the encoder was a classifier of these labels, and the
    student has its head. splits: the model can run in two parts. frozen_digest: a hash of all that the states depend
    on, but for the sentence.
    """

    def __init__(self, settings: Model, labels: Sequence[str], *, seed: int, device: torch.device) -> None:
        """Load the encoder, and freeze its lowest layers. RecipeError if that is not possible."""
        self.device, self.settings = device, settings
        self.tokenizer, self.module, self.keeps_head = _load(settings, label_list(labels), seed)
        config: Any = self.module.config
        self.names = [config.id2label[index] for index in range(config.num_labels)]
        self.positions = network.positions_of(self.module, self.tokenizer)
        self.stack = _stack(self.module)
        self.frozen = settings.n_frozen
        if self.frozen and (self.stack is None or self.frozen > len(self.stack)):
            found = "no single list of layers" if self.stack is None else f"{len(self.stack)} layers"
            raise RecipeError(f"model.frozen is {self.frozen}, but {settings.encoder!r} has {found}")
        self.module.to(device)
        probe = self.tokenizer(["a b c", "a"], padding=True, return_tensors="pt", return_token_type_ids=False)
        self._probe = {name: probe[name].to(device) for name in ("input_ids", "attention_mask")}
        self._freeze()
        self.low = list(self.stack)[: self.frozen] if self.stack is not None else []
        self.high = list(self.stack)[self.frozen :] if self.stack is not None else []
        self.splits = bool(self.frozen) and self._can_split()
        self.frozen_digest = self._digest() if self.splits else b""

    def _freeze(self) -> None:
        if not self.frozen:
            return
        assert self.stack is not None
        self.module.eval()
        last = self.stack[self.frozen - 1]
        for layer in list(self.stack)[: self.frozen]:
            layer.requires_grad_(False)
        others = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        reached = torch.autograd.grad(self._state_after(last, self._probe).sum(), others, allow_unused=True)
        for parameter, gradient in zip(others, reached, strict=True):
            parameter.requires_grad_(gradient is None)

    def _digest(self) -> bytes:
        digest = hashlib.blake2b(f"{self.device.type} {self.frozen}".encode(), digest_size=16)
        for name, value in self.module.state_dict(keep_vars=True).items():
            if not value.requires_grad:
                digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.digest()

    def train(self, training: bool = True) -> None:
        """Switch dropout on or off; in frozen parts it stays off."""
        self.module.train(training)
        for module in self.module.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        for layer in self.low:
            layer.eval()

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters that learn, of the encoder and of the head."""
        body: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                (body if name.startswith(self.module.base_model_prefix + ".") else head).append(parameter)
        return body, head

    @torch.inference_mode()
    def states(self, pieces: Windows, rows: Sequence[int]) -> list[Tensor]:
        """Return each row's output of the last frozen layer, (subwords, dim), on the CPU.

        A CPU computes row by row: the last bits of a state then do not depend on the other rows, so that a training
        does not depend on what the cache holds.
        """
        if self.device.type == "cpu" and len(rows) > 1:
            return [self.states(pieces, [row])[0] for row in rows]
        ids, mask = pieces.batch(rows, self.tokenizer.pad_token_id)
        training = self.module.training
        self.module.eval()  # `train` does not know that a dropout beside the embeddings is frozen
        with self._only(self.low):
            found = self._state_after(
                self.low[-1], {"input_ids": self._tensor(ids), "attention_mask": self._tensor(mask)}
            )
        self.train(training)
        sizes = pieces.lengths[list(rows)].tolist()
        return [state[:size].clone() for state, size in zip(found.cpu(), sizes, strict=True)]

    def logits(self, pieces: Windows, rows: Sequence[int], states: Sequence[Tensor] | None) -> tuple[Tensor, Ints]:
        """Return the logits of the words read in these rows, (words, classes) in float32, and the words' numbers.

        states: those of the rows, if the student `splits`; None runs the whole model.
        """
        ids, mask = pieces.batch(rows, self.tokenizer.pad_token_id)
        at, places, words = pieces.read_in(rows)
        inputs = {"input_ids": self._tensor(ids), "attention_mask": self._tensor(mask)}
        if states is None:
            found = self.module(**inputs).logits
        else:
            given = torch.zeros((len(rows), ids.shape[1], states[0].shape[-1]), dtype=states[0].dtype)
            for number, state in enumerate(states):
                given[number, : len(state)] = state
            with self._only(self._from(given.to(self.device))):
                found = self.module(**inputs).logits
        return found[self._tensor(at), self._tensor(places)].float(), words

    def save(self, folder: Path, dtype: Literal["float32", "float16", "bfloat16"] = "float32") -> None:
        """Write an ordinary Hugging Face folder with safetensors."""
        kind = getattr(torch, dtype)
        state = {
            name: value.to(kind) if value.is_floating_point() else value
            for name, value in self.module.state_dict().items()
        }
        with quiet():
            self.module.save_pretrained(folder, state_dict=state)
            self.module.config.dtype = kind  # save_pretrained writes the type of the weights in memory
            self.module.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _tensor(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    @contextmanager
    def _only(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        """Put these layers into the model's list for a while."""
        assert self.stack is not None
        del self.stack[:]
        self.stack.extend(layers)
        try:
            yield
        finally:
            del self.stack[:]
            self.stack.extend([*self.low, *self.high])

    def _from(self, states: Tensor) -> list[nn.Module]:
        """Return the layers for known states: [C, C, 2, 3] in the table above."""
        return [*(CachedLayer(states, self._others, layer) for layer in self.low), *self.high]

    def _state_after(self, layer: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Run the model, and return a layer's own output, before any norm after it."""
        kept: list[Any] = []
        hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            self.module(**inputs)
        finally:
            hook.remove()
        self._others = (None,) * (len(kept[0]) - 1) if isinstance(kept[0], tuple) else None
        state: Tensor = kept[0] if self._others is None else kept[0][0]
        return state

    @torch.inference_mode()
    def _can_split(self) -> bool:
        """Return whether two short sentences get the same logits from the whole model and in two parts."""
        self.module.eval()
        whole = self.module(**self._probe).logits
        try:
            with self._only(self.low):
                state = self._state_after(self.low[-1], self._probe)
            with self._only(self._from(state)):
                parts = self.module(**self._probe).logits
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False
        real = self._probe["attention_mask"].bool()
        return bool(torch.allclose(whole[real], parts[real], rtol=1e-4, atol=1e-5))


class CachedLayer(nn.Module):
    """A layer that returns known states; all other attributes are those of the layer that it replaces."""

    def __init__(self, states: Tensor, others: tuple[None, ...] | None, layer: nn.Module) -> None:
        """others: the items after the state, if layers return a tuple (attention weights, for example); else None."""
        super().__init__()
        self.states, self.others = states, others
        self.instead_of = (layer,)  # in a tuple, so that it is not registered as a submodule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["instead_of"][0], name)

    def forward(self, *_inputs: Any, **_named: Any) -> Any:
        return self.states if self.others is None else (self.states, *self.others)


def _stack(module: nn.Module) -> nn.ModuleList | None:
    """Return the model's list of layers; None if there is none, or several."""
    n_layers = module.config.get_text_config().num_hidden_layers  # type: ignore[operator,union-attr]
    found = [each for each in module.modules() if isinstance(each, nn.ModuleList) and len(each) == n_layers]
    return found[0] if len(found) == 1 else None


def _load(settings: Model, names: list[str], seed: int) -> tuple[Any, Any, bool]:
    """Return the tokenizer, the model, and whether the head is the encoder's own. RecipeError if it cannot be used."""
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    builtin = settings.encoder == "builtin"
    folder = str(builtin_folder() if builtin else folder_of(settings.encoder, weights=True))
    options: Any = {"trust_remote_code": False, "local_files_only": True}
    torch.manual_seed(seed)  # the new head
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            config = AutoConfig.from_pretrained(folder, **options)
            classes = [config.id2label.get(index) for index in range(config.num_labels)]
            go_on = any("TokenClassification" in each for each in config.architectures or ())
            go_on = go_on and set(names) <= set(classes)
            if not go_on:
                config.id2label = dict(enumerate(names))
                config.label2id = {label: index for index, label in enumerate(names)}
            if settings.n_layers is not None:
                if settings.n_layers > config.num_hidden_layers:
                    raise RecipeError(
                        f"model.layers is {settings.n_layers}, but {settings.encoder!r} has {config.num_hidden_layers}"
                    )
                config.num_hidden_layers = settings.n_layers
                if getattr(config, "layer_types", None):
                    config.layer_types = config.layer_types[: settings.n_layers]
            module, info = AutoModelForTokenClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=not go_on,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"model.encoder {settings.encoder!r} cannot be used: {one_line(str(error).strip())}"
        ) from error
    if not tokenizer.is_fast:
        raise RecipeError(f"model.encoder {settings.encoder!r} has no fast tokenizer; only those tell words apart")
    if tokenizer.pad_token_id is None:
        raise RecipeError(f"model.encoder {settings.encoder!r}: its tokenizer has no padding token")
    network.separate_words(tokenizer)
    for child in module.children():
        if isinstance(child, nn.Dropout):  # the dropout before the head has another key in each configuration
            child.p = settings.dropout
    inside = "" if go_on else module.base_model_prefix + "."
    others = {key for key, *_ in info["mismatched_keys"]}
    if missing := sorted(
        key for key in {*info["missing_keys"], *others} if key.startswith(inside) and "pooler" not in key
    ):
        raise RecipeError(f"model.encoder {settings.encoder!r}: {len(missing)} weights are missing, as {missing[0]}")
    return tokenizer, module, go_on
