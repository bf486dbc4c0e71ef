"""PyTorch's pickled weights, made safetensors without running what a pickle may ask for.

`torch.load(weights_only=True)` builds tensors and plain containers and refuses all else. A file is mapped, not read,
and the parts come one after the other, so that memory holds at most one of them. Names, shapes, dtypes and order stay.
A tensor that several names share is kept under its first one, which in a checkpoint is its owner's: safetensors cannot
share, and transformers ties it to the others again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from xner_ray.errors import RecipeError, one_line
from xner_ray.models.published import INDEX, SAFE

_ZIP = b"PK\x03\x04"  # torch.save's format since 1.6; older files cannot be mapped


def to_safetensors(parts: Iterable[Path], count: int, folder: Path, model: str) -> None:
    """Write pickled weights into a folder: `model.safetensors`, or `count` parts and their index.

    parts: asked for one after the other. model: as messages call it. RecipeError for a file that holds anything but
    tensors, is damaged, or has a name that an earlier one has.
    """
    place: dict[str, str] = {}
    size = 0
    for number, path in enumerate(parts, start=1):
        name = SAFE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
        tensors = _tensors(path, model)
        if twice := sorted(place.keys() & tensors.keys()):
            raise RecipeError(f"model {model!r}: {twice[0]} is in {path.name} and in an earlier part; fetch it again")
        save_file(tensors, folder / name, metadata={"format": "pt"})
        _check(folder / name, tensors, model)
        place |= dict.fromkeys(tensors, name)
        size += sum(each.nbytes for each in tensors.values())
        del tensors
    if count > 1:
        index = {"metadata": {"total_size": size}, "weight_map": place}
        (folder / f"{SAFE}{INDEX}").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensors(path: Path, model: str) -> dict[str, Tensor]:
    """Return the tensors of a pickled file by name, each once and dense."""
    with path.open("rb") as stream:
        mapped = stream.read(len(_ZIP)) == _ZIP
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or hostile pickle makes the unpickler raise
        raise RecipeError(
            f"model {model!r}: {path.name} is damaged, or holds something other than tensors, which could run code "
            f"and is not loaded ({one_line(str(error).strip(), 300)}); fetch it again, or name a revision with "
            "safetensors"
        ) from None
    if not isinstance(state, dict) or not state:
        raise RecipeError(f"model {model!r}: {path.name} holds no tensors by name; name a revision with safetensors")
    for name, each in state.items():
        if not isinstance(name, str) or not isinstance(each, Tensor) or each.layout != torch.strided:
            raise RecipeError(
                f"model {model!r}: {path.name} holds {name!r}, which is no dense tensor; name a revision with "
                "safetensors"
            )
    return _once(state)


def _once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the second name of a tensor; copy tensors that share memory in another way."""
    result: dict[str, Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    storages: set[int] = set()
    for name, each in state.items():
        place = each.untyped_storage().data_ptr()
        same = (place, each.storage_offset(), each.shape, each.stride(), each.dtype)
        if each.numel() and same in seen:
            continue
        seen.add(same)
        each = each.detach()
        result[name] = each.clone(memory_format=torch.contiguous_format) if place in storages else each.contiguous()
        storages.add(place)
    return result


def _check(path: Path, tensors: dict[str, Tensor], model: str) -> None:
    """Raise RecipeError unless a written file has the names and shapes that it should have."""
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    wanted = {name: list(each.shape) for name, each in tensors.items()}
    if found != wanted:
        raise RecipeError(f"model {model!r}: {path.name} could not be written as it was read; run the command again")
