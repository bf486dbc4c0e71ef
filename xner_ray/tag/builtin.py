"""The built-in tagger: two layers and a head upon the built-in encoder's state 7, trained on Universal NER.

The folder `uner` beside this file has what differs from the encoder, under a licence of its own, with a card that says
what it was trained on and what it reaches. The seven layers below are those that `align` reads too, so a process that
does both has them once, and their states (`models/kept.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xner_ray.errors import RecipeError
from xner_ray.models import e5, fast_linear, network
from xner_ray.models.device import device_of
from xner_ray.models.e5 import BUILTIN
from xner_ray.models.windows import Ints, Windows
from xner_ray.recipe.sections import Resolved, Tag
from xner_ray.storage.cache import sha256
from xner_ray.tag.classes import Classes, read_classes
from xner_ray.tag.classifier import TokenClassifier

FOLDER = e5.TAGGER
WEIGHTS = FOLDER / "tagger.safetensors"


def resolve(section: Tag, key: str) -> Resolved:
    """Complete the map of labels; the hash of the weights identifies the model.

    RecipeError, with the section's `key`, for labels that the tagger does not have, and for weights that are not those
    of this version; MissingExtraError without the built-in encoder.
    """
    e5.weights_file()
    identity, known = sha256(WEIGHTS), e5.tagger_config()["sha256"]
    if identity != known:
        raise RecipeError(
            f"{key}.engine is builtin, but {WEIGHTS} has sha256 {identity}, not {known}: install xner_ray again"
        )
    labels = dict(sorted(_classes(section, key).ours_of.items()))
    update = {"labels": labels, "model": BUILTIN}
    return Resolved(section.model_copy(update=update), {"model": e5.tagger_identity()})


class BuiltinTagger(TokenClassifier):
    """The built-in encoder's first seven layers, shared in this process, and the tagger's own two and its head."""

    def __init__(self, section: Tag, key: str = "tag") -> None:
        """Load the model; dtype auto is float32 on a CPU and float16 on a GPU. Sets torch's threads for the process.

        MissingExtraError without the built-in encoder.
        """
        torch.set_num_threads(section.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        device = torch.device(device_of(section))
        self.shared = network.shared(BUILTIN, [e5.tagger_config()["state"]], device, section.dtype)
        super().__init__(section, self.shared.tokenizer, self.shared.positions, device, _classes(section, key))
        module: Any = self.shared.network.module
        self.upper = _load(module.config).to(device, module.dtype)
        if device.type == "cpu" and module.dtype == torch.float32:
            fast_linear.replace_linears(self.upper, self.shared.precision)  # type: ignore[arg-type]

    def logits(self, inputs: dict[str, Tensor], windows: Windows, batch: Ints) -> Tensor:
        states = self.shared.network(inputs)
        self.shared.kept.leave(windows, batch, states)
        found: Tensor = self.upper(states, inputs["attention_mask"])
        return found

    def forget(self) -> None:
        """Let go of states that the aligner has not taken."""
        self.shared.kept.forget()


class _Upper(nn.Module):
    """The layers above the shared state, and the classifier."""

    def __init__(self, config: Any, n_layers: int, n_classes: int) -> None:
        from transformers.models.bert.modeling_bert import BertLayer

        super().__init__()
        layer: Any = BertLayer
        self.layers = nn.ModuleList(layer(config) for _ in range(n_layers))
        self.classifier = nn.Linear(config.hidden_size, n_classes)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the logits (B, T, classes) of states (B, T, dim); mask (B, T): 1 for what is no padding."""
        hidden = torch.zeros(mask.shape, dtype=states.dtype, device=states.device)
        hidden = hidden.masked_fill(mask == 0, torch.finfo(states.dtype).min)[:, None, None, :]
        for layer in self.layers:
            states = layer(states, hidden)
        logits: Tensor = self.classifier(states)
        return logits


def _load(config: Any) -> nn.Module:
    from copy import deepcopy

    from safetensors.torch import load_file

    config = deepcopy(config)
    config._attn_implementation = "eager"  # the fastest on a CPU for sentences, see `Network.speed_up`
    own = e5.tagger_config()
    upper = _Upper(config, own["layers"], len(own["classes"]))
    upper.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return upper.eval()


def _classes(section: Tag, key: str) -> Classes:
    return read_classes(section, key, e5.tagger_config()["classes"])
