"""References of a unit -> vectors of their pictures: loaded, looked up in the cache, encoded in micro-batches.

Pictures are encoded in the order of their places, as soon as a micro-batch is full, or long pictures would fill memory:
so that does not grow with the unit. Vectors are rounded to float16, cached or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xner_ray.vision.background import Drawn
from xner_ray.vision.cache import VectorCache
from xner_ray.vision.formula import Background
from xner_ray.vision.pixels import Fault

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from xner_ray.vision.loader import Loader
    from xner_ray.vision.towers import Towers


_PIXELS = 16
"""Of a picture in a full micro-batch, in the mean, over those that the model reads: photographs have 4 to 14."""


@dataclass(frozen=True)
class Seen:
    """What is known of references. found: the id of each picture, or its fault. vectors: as the model's `ready`
    returns them, by id."""

    found: Mapping[str, str | Fault]
    vectors: Mapping[str, NDArray[np.floating]]

    @property
    def ids(self) -> list[str]:
        """The ids of all pictures, sorted."""
        return sorted(self.vectors)


class PictureReader:
    """Reads pictures with a model; cache: of earlier vectors, if there is one."""

    def __init__(self, towers: Towers, of_language: Mapping[str, Loader], cache: VectorCache | None = None) -> None:
        self.towers, self.of_language, self.cache = towers, of_language, cache

    def read(self, references: Iterable[str], lang: str) -> Seen:
        """Return what is known of references in the input of a language."""
        found: dict[str, str | Fault] = {}
        kept: dict[str, NDArray[np.float16]] = {}
        new: dict[str, NDArray[np.float16]] = {}
        waiting: list[tuple[str, Picture]] = []
        pixels = 0
        most = _PIXELS * self.towers.side**2 * self.towers.at_once

        def encode() -> None:
            if waiting:
                vectors = self.towers.of_pictures([picture for _, picture in waiting]).astype(np.float16)
                new.update(zip((one for one, _ in waiting), vectors, strict=True))
                waiting.clear()

        def is_known(identity: str) -> bool:
            vector = self.cache.find(identity) if self.cache is not None else None
            if vector is None or vector.shape != (self.towers.dim,):
                return False
            kept[identity] = vector
            return True

        if self.cache is not None:
            self.cache.look()
        for one in self.of_language[self.language(lang)].load(references, is_known):
            found[one.reference] = one.fault or str(one.id)
            if one.image is not None and one.id is not None:
                size = one.image.width * one.image.height
                if len(waiting) == self.towers.at_once or pixels + size > most:
                    encode()
                    pixels = 0
                waiting.append((one.id, one.image))
                pixels += size
        encode()
        if self.cache is not None:
            self.cache.add(new)
        vectors = {**kept, **new}
        used = {one for one in found.values() if isinstance(one, str)}
        return Seen(found, {one: self.towers.ready(vectors[one]) for one in sorted(used)})

    def language(self, lang: str) -> str:
        """Return the language of the input that the rows of a run's language come from: that, or the only one."""
        return lang if lang in self.of_language else next(iter(self.of_language))

    def background(self, drawn: Sequence[tuple[str, Sequence[Drawn]]], most: int) -> Background:
        """Return the background of the first pictures that can be used, each content once. drawn: by language."""
        found: dict[tuple[str, str], NDArray[np.floating]] = {}  # by hash and id
        for lang, rows in drawn:
            seen = self.read((reference for _, reference in rows), lang)
            usable = ((name, one) for name, reference in rows if isinstance(one := seen.found[reference], str))
            found |= {(name, one): seen.vectors[one] for name, one in usable}
        once: dict[str, NDArray[np.floating]] = {}
        for (_, one), vector in sorted(found.items(), key=lambda item: item[0]):
            once.setdefault(one, vector)
        vectors = list(once.values())[:most]
        return Background(np.array(vectors) if vectors else np.zeros((0, 1)))
