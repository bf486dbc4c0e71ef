"""What a model's name in a recipe stands for: its files, and the identity that enters the fingerprint.

A name is a folder, `tiny-nllb` (the test model in this package), or a hub id with an optional `@revision`.
`builtin` is the encoder's own word; `encode.py` knows it. Weights are safetensors, and no code comes with a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from xner_ray.errors import RecipeError
from xner_ray.sections import TINY_NLLB


def local_folder(name: str) -> Path | None:
    """The folder that a name stands for, or None if it is a hub id."""
    if name == TINY_NLLB:
        return Path(__file__).parent / "models" / TINY_NLLB
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith(("/", "~", ".")) or name.count("/") > 1:
        raise RecipeError(f"model {name!r}: no such folder; give a folder, or a hub id such as owner/name@revision")
    return None


def load_arguments(name: str) -> tuple[str, dict[str, Any]]:
    """First argument and options of a `from_pretrained` call."""
    folder = local_folder(name)
    if folder is not None:
        return str(folder), {"local_files_only": True}
    repository, _, revision = name.partition("@")
    return repository, {"revision": revision or None}


def pin(name: str) -> tuple[str, str]:
    """The name with its revision fixed, and its identity: a tree hash, or the commit on the hub.

    A hub that cannot be reached is no error while the model is in the local hub cache.
    """
    folder = local_folder(name)
    if folder is not None:
        _refuse_half(folder)
        return name, tree_hash(folder)
    from huggingface_hub import HfApi, errors, snapshot_download

    # The base class of whichever HTTP library the hub's client uses: nobody answers, or the hub says no.
    unreachable = getattr(errors, "HTTPError", errors.HfHubHTTPError)
    repository, _, revision = name.partition("@")
    try:
        commit = str(HfApi().model_info(repository, revision=revision or None, timeout=10).sha)
    except errors.RepositoryNotFoundError:
        raise RecipeError(f"model {name!r}: neither a folder here nor a model on the hub") from None
    except (unreachable, OSError):
        try:
            cached = snapshot_download(
                repository, revision=revision or None, local_files_only=True, allow_patterns=["config.json"]
            )
        except (errors.LocalEntryNotFoundError, OSError):
            raise RecipeError(
                f"model {name!r}: no such folder, the hub cannot be reached, and it is not in the local hub cache; "
                "give a folder, or fetch the model where there is a network"
            ) from None
        commit = Path(cached).name
    return f"{repository}@{commit}", commit


def _refuse_half(folder: Path) -> None:
    """RecipeError unless the folder has a configuration and whole safetensors files. Reads headers only."""
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise RecipeError(f"model {str(folder)!r}: needs a config.json and weights as *.safetensors")
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise RecipeError(f"model {str(folder)!r}: {path.name} is no whole safetensors file ({error})") from None


def tree_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def pick_dtype(name: Literal["auto", "float32", "bfloat16", "float16"], device: str) -> torch.dtype:
    """`auto` is float32 on a CPU and bfloat16 on a GPU."""
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
