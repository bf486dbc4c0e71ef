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

import copy
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xner_ray.data.spans import label_list
from xner_ray.errors import RecipeError, one_line
from xner_ray.models import fast_linear, network
from xner_ray.models.e5 import builtin_folder, tagger_folder
from xner_ray.models.hub import folder_of, quiet
from xner_ray.models.windows import CPU_TOKENS, Windows, micro_batches
from xner_ray.recipe.sections import BUILTIN_TAGGER
from xner_ray.train.recipe import Model
from xner_ray.train.top_layer import at_words, can_compute_at_words

Ints = NDArray[np.int64]
_PLACES = 4  # a CPU reads a row in a multiple of so many places


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
        if settings.context is not None:
            network.require_separator(self.tokenizer, "model.encoder", settings.encoder)
            self.module.eval()
            network.require_look_behind(self._whole, self.tokenizer, "model.encoder", settings.encoder)
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
        self._readers: dict[bool, _Reader] = {}
        self._top = self.high[-1] if self.high and self._can_read_words() else None

    def other_labels(self, labels: Collection[str]) -> list[str]:
        """Return the labels of a kept head that are none of these."""
        return sorted({name.partition("-")[2] or name for name in self.names} - {*labels, "O"})

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
    def states(self, pieces: Windows, rows: Sequence[int], budget: int = CPU_TOKENS) -> list[Tensor]:
        """Return each row's output of the last frozen layer, (subwords, dim), on the CPU.

        budget: most places of a micro-batch; a CPU takes no more than `CPU_TOKENS`. A CPU reads together rows of one
        padded length alone, and the bits of a state do not depend on which others: so a training does not depend on
        what the store holds. Where a processor computes otherwise, it reads row by row.
        """
        sizes, numbers = pieces.lengths[list(rows)], np.array(rows, dtype=np.int64)
        training = self.module.training
        self.module.eval()  # `train` does not know that a dropout beside the embeddings is frozen
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        if self.device.type != "cpu":
            groups = [(own, int(sizes[own].max())) for own in micro_batches(sizes, budget)]
            layers: Sequence[nn.Module] = self.low
        else:
            reader = self._reader()
            layers, padded = reader.layers, np.minimum(-(-sizes // _PLACES) * _PLACES, self.positions)
            groups = []
            for length in np.unique(padded).tolist():
                own = np.flatnonzero(padded == length)
                n = max(1, min(budget, CPU_TOKENS) // length) if reader.together else 1
                groups += [(own[start : start + n], length) for start in range(0, len(own), n)]
        for own, length in groups:
            ids, mask = pieces.batch(numbers[own], self.tokenizer.pad_token_id, length)
            states = self._low_states(layers, self._tensor(ids), self._tensor(mask)).cpu()
            for number, state in zip(own.tolist(), states, strict=True):
                found[number] = state[: sizes[number]].clone()
        self.train(training)
        return found

    def _low_states(self, layers: Sequence[nn.Module], ids: Tensor, mask: Tensor) -> Tensor:
        with self._only(layers):
            return self._state_after(layers[-1], {"input_ids": ids, "attention_mask": mask})

    def _reader(self) -> _Reader:
        """Return the layers that compute states on a CPU, in the number format of the present context.

        They are copies of the frozen ones with packed weights, where these give the same states, else the frozen ones.
        """
        half = torch.is_autocast_enabled("cpu")
        if half in self._readers:
            return self._readers[half]
        plain, layers = self._low_states(self.low, *self._probe.values()), self.low
        packed = [copy.deepcopy(layer) for layer in self.low]
        if fast_linear.replace_linears(nn.ModuleList(packed), "bfloat16" if half else "float32") is not None:
            try:
                states = self._low_states(packed, *self._probe.values())
            except (AttributeError, RuntimeError, TypeError):  # a model that looks into its layers
                states = torch.zeros_like(plain)
            real = self._probe["attention_mask"].bool()
            off = 1e-2 if half else 1e-4
            if torch.allclose(states[real].float(), plain[real].float(), rtol=off, atol=off * float(plain.abs().max())):
                layers = packed
        found = self._readers[half] = _Reader(layers, self._is_apart(layers))
        return found

    def _is_apart(self, layers: Sequence[nn.Module]) -> bool:
        """Return whether a row's state has the same bits alone and among others, in every place of a batch."""
        drawn = torch.Generator().manual_seed(0)
        for length in {min(_PLACES * n, self.positions) for n in (2, 6)}:
            ids = torch.randint(int(self.module.config.vocab_size), (13, length), generator=drawn)
            ids[ids == self.tokenizer.pad_token_id] = self._probe["input_ids"][0, 0].cpu()
            mask = torch.ones_like(ids)
            mask[:, length - 2 :] = 0
            alone = self._low_states(layers, ids[:1], mask[:1])[0]
            for n in (2, 5, 13):
                for place in {0, n // 2, n - 1}:
                    order = [*range(1, place + 1), 0, *range(place + 1, n)]
                    if not torch.equal(self._low_states(layers, ids[order], mask[order])[place], alone):
                        return False
        return True

    def logits(self, pieces: Windows, rows: Sequence[int], states: Sequence[Tensor] | None) -> tuple[Tensor, Ints]:
        """Return the logits of the words read in these rows, (words, classes) in float32, and the words' numbers.

        states: those of the rows, if the student `splits`; None runs the whole model.
        """
        ids, mask = pieces.batch(rows, self.tokenizer.pad_token_id)
        at, places, words = pieces.read_in(rows)
        inputs = {"input_ids": self._tensor(ids), "attention_mask": self._tensor(mask)}
        where = self._tensor(at), self._tensor(places)
        with nullcontext() if self._top is None else at_words(self._top, *where):
            if states is None:
                found = self.module(**inputs).logits
            else:
                given = torch.zeros((len(rows), ids.shape[1], states[0].shape[-1]), dtype=states[0].dtype)
                for number, state in enumerate(states):
                    given[number, : len(state)] = state
                with self._only(self._from(given.to(self.device))):
                    found = self.module(**inputs).logits
        return found[where].float(), words

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

    def _whole(self, inputs: dict[str, Tensor]) -> Tensor:
        found: Tensor = self.module(**inputs).logits
        return found

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

    @torch.inference_mode()
    def _can_read_words(self) -> bool:
        """Return whether two short sentences get the same logits if the top layer computes at some places alone."""
        top = self.high[-1]
        if not can_compute_at_words(top):
            return False
        self.module.eval()
        whole = self.module(**self._probe).logits
        where = torch.tensor([0, 0, 1], device=self.device), torch.tensor([0, 1, 1], device=self.device)
        try:
            with at_words(top, *where):
                parts = self.module(**self._probe).logits
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False
        return bool(torch.allclose(whole[where], parts[where], rtol=1e-4, atol=1e-5))


class _Reader(NamedTuple):
    """The layers that compute states on a CPU, and whether they may read several rows together."""

    layers: Sequence[nn.Module]
    together: bool


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

    ours = {"builtin": builtin_folder, BUILTIN_TAGGER: tagger_folder}.get(settings.encoder)
    folder = str(ours() if ours else folder_of(settings.encoder, weights=True))
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
            if settings.context is not None:
                setattr(config, network.CONTEXT, settings.context)  # so that `tag` does not read sentences alone
            elif hasattr(config, network.CONTEXT):
                delattr(config, network.CONTEXT)
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
