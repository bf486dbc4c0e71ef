"""The background of a run: vectors of some of its pictures, drawn once, whose mean says nothing of any label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xner_ray.errors import DamageError
from xner_ray.storage import files as storage
from xner_ray.vision.formula import Background

Drawn = tuple[str, str]
"""The hash of a row's id, and the reference of its picture."""


def drawn(ids: Iterable[str], references: Iterable[str | None], most: int) -> list[Drawn]:
    """Return the first `most` rows with a picture, by the hashes of their ids."""
    pairs = zip(ids, references, strict=True)
    return sorted({(_hash(name), reference) for name, reference in pairs if reference is not None})[:most]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def dump(background: Background) -> bytes:
    """Return the bytes of the file of a background, with the sum of its vectors."""
    vectors = background.vectors.astype("<f4")
    return save({"vectors": vectors}, {"sha256": hashlib.sha256(vectors.tobytes()).hexdigest()})


def read(path: str) -> Background:
    """Return the background that `dump` made. DamageError if the file is not what was written."""
    data = storage.read_if_there(path)
    if data is None:
        raise DamageError(path, "is missing")
    try:
        vectors = load(data)["vectors"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamageError(path, f"is no whole safetensors file ({error})") from None
    if hashlib.sha256(vectors.tobytes()).hexdigest().encode() not in data:
        raise DamageError(path, "was altered: its sum is another")
    return Background(vectors.astype(np.float64))
