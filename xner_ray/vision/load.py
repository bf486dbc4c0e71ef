"""Load what the stage `image` needs: model, loaders of pictures, cache, and the background of the run."""

from __future__ import annotations

from collections.abc import Collection
from importlib import metadata

from xner_ray.models import hub
from xner_ray.read.inputs import picture_folders
from xner_ray.recipe.model import Recipe
from xner_ray.tag.base import Seen
from xner_ray.vision import background
from xner_ray.vision.cache import VectorCache
from xner_ray.vision.grounder import Grounder
from xner_ray.vision.loader import Loader
from xner_ray.vision.reader import PictureReader
from xner_ray.vision.stage import ImageStage
from xner_ray.vision.towers import Towers


class InputPictures:
    """Pictures of a run's input as a language model is shown them: upright, in RGB, no side above the recipe's."""

    def __init__(self, recipe: Recipe) -> None:
        self.side = recipe.tag.llm.image_side
        folders = picture_folders(recipe).items()
        self._loaders = {lang: Loader.of(recipe.input, *places, self.side) for lang, places in folders}

    def load(self, references: Collection[str], lang: str) -> dict[str, Seen]:
        """Return what came of each reference; see `tag.base.Pictures`."""
        loader = self._loaders.get(lang) or next(iter(self._loaders.values()))
        found, images = {}, {}
        for one in loader.load(references):
            if one.fault is not None:
                found[one.reference] = Seen(None, one.fault.flag, one.fault.detail)
                continue
            if one.image is not None:
                one.image.thumbnail((self.side, self.side))
                images[one.id] = one.image
            found[one.reference] = Seen((str(one.id), images[one.id]))
        return found


def load_stage(recipe: Recipe) -> ImageStage:
    """Return the stage; the recipe names the file of the background. DamageError if that is not what was written."""
    reader = load_reader(recipe)
    return ImageStage(recipe, reader.towers, reader, background.read(str(recipe.image.background_file)))


def load_reader(recipe: Recipe) -> PictureReader:
    """Return what reads pictures, with its model."""
    section = recipe.image
    towers = Grounder(section) if section.engine == "owl" else Towers(section)
    cache = None
    if section.cache is not None:
        identity, dtype = hub.pin(str(section.model))[1], str(towers.network.dtype)
        cache = VectorCache(section.cache, identity, metadata.version("pillow"), dtype, *towers.cache_parts)
    folders = picture_folders(recipe).items()
    of_language = {lang: Loader.of(recipe.input, *places, towers.side) for lang, places in folders}
    return PictureReader(towers, of_language, cache)
