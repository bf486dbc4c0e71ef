"""Small copies of pictures for the page: decoded as for a model, and encoded anew, so that nothing of a file is shown.

Metadata, such as where a photograph was taken, stays behind.
"""

from __future__ import annotations

import base64
from io import BytesIO

from xner_ray.read.inputs import picture_folders
from xner_ray.recipe.model import Recipe
from xner_ray.vision.loader import Loader

SIDE = 96


class Thumbnails:
    """Makes thumbnails of the pictures of a run's input, each once."""

    def __init__(self, recipe: Recipe) -> None:
        folders = picture_folders(recipe).items()
        self._loaders = {lang: Loader.of(recipe.input, *places, SIDE) for lang, places in folders}
        self._made: dict[tuple[str, str], str | None] = {}

    def of(self, lang: str, reference: str, identity: str) -> str | None:
        """Return the address `data:` of a small JPEG; None if the picture is not any more the one with this id."""
        key = reference, identity
        if key not in self._made:
            loader = self._loaders[lang] if lang in self._loaders else next(iter(self._loaders.values()))
            (found,) = loader.load([reference])
            self._made[key] = None
            if found.image is not None and found.id == identity:
                found.image.thumbnail((SIDE, SIDE))
                sink = BytesIO()
                found.image.save(sink, "JPEG", quality=70)
                self._made[key] = "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
        return self._made[key]
