"""The files of a model as it is published: which of them loading reads, told by their names alone.

Authors put the same weights into one commit several times over (safetensors, PyTorch's pickles, TensorFlow, Flax, ONNX,
`consolidated.safetensors`), and other models beside them. Of all these, one copy is read: `model.safetensors` or the
parts that its index names, else `pytorch_model.bin` or its parts, which `convert.py` turns into safetensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import NamedTuple

from xner_ray.errors import RecipeError, one_line

CONFIG = "config.json"
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"
SUMS = "SHA256SUMS"
# What configurations, tokenizers and chat templates are read from; at the top, where transformers looks.
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja", "*.spm", "*.bpe", "*.codes", "*.tiktoken")
_BELOW = "additional_chat_templates/*.jinja"
_PART = re.compile(r"[\w.+-]+\.(safetensors|bin)")
_WEIGHTS = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.pt", "*.pth", "*.ckpt", "*.ot")


class Weights(NamedTuple):
    """The files that hold a model's weights, each tensor once."""

    files: list[str]
    listed: str | None  # the file that names them, where there are several

    @property
    def pickled(self) -> bool:
        return self.files[0].endswith(".bin")


def small(names: Collection[str]) -> list[str]:
    """Return the files that loading reads beside weights, indexes of weights included, sorted."""
    top = [name for name in names if "/" not in name and any(fnmatchcase(name, pattern) for pattern in _SMALL)]
    top = [name for name in top if not name.endswith(INDEX) or name in (SAFE + INDEX, PICKLED + INDEX)]
    return sorted([*top, *(name for name in names if fnmatchcase(name, _BELOW) and name.count("/") == 1)])


def kept(names: Collection[str]) -> list[str]:
    """Return `small` without indexes of weights."""
    return [name for name in small(names) if not name.endswith(INDEX)]


def weights(names: Collection[str], read: Callable[[str], bytes], model: str) -> Weights:
    """Return the weights to read of a model with these files.

    read: the content of a file, asked for indexes alone. model: as messages call it. RecipeError without a
    configuration or weights that can be read, and where a part is missing.
    """
    if CONFIG not in names:
        raise RecipeError(f"model {model!r}: needs a {CONFIG} and weights as *.safetensors; it has no {CONFIG}")
    for whole in (SAFE, PICKLED):
        if whole in names:
            return Weights([whole], None)
        if whole + INDEX in names:
            return _parts(names, whole + INDEX, read(whole + INDEX), model)
    others = sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in _WEIGHTS))
    has = one_line(", ".join(others[:4])) or "no weights"
    raise RecipeError(
        f"model {model!r}: needs a {CONFIG} and weights as *.safetensors: {SAFE} or {PICKLED}, or parts with their "
        f"index; it has {has}{' and more' if len(others) > 4 else ''}; name another revision (owner/name@refs/pr/N, "
        "where a conversion is proposed), or a folder that transformers' save_pretrained has written"
    )


def _parts(names: Collection[str], index: str, content: bytes, model: str) -> Weights:
    try:
        found = sorted(set(json.loads(content)["weight_map"].values()))
        wrong = [name for name in found if not _PART.fullmatch(name)]
    except (AttributeError, KeyError, TypeError, ValueError):
        found, wrong = [], []
    if not found or wrong:
        raise RecipeError(f"model {model!r}: {index} is no index of weights; fetch or save the model again")
    if missing := [name for name in found if name not in names]:
        raise RecipeError(
            f"model {model!r}: {missing[0]}, which its {index} names, is missing "
            f"({len(found) - len(missing)} of {len(found)} parts are there); upload or fetch the model again, or name "
            "another revision"
        )
    return Weights(found, index)
