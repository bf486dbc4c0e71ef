"""A detector that is asked in words: OWL-ViT, OWLv2. It says what a picture shows, and where.

The classes' own post-processing gives each patch to one query; here each query gets its best region. What a patch says
does not depend on the query, so a picture is encoded once, as regions (`vision.regions`), and each query is a product
with them. Regions are ranked by the recipe's prompts without a mention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.errors import FatalError, RecipeError
from xner_ray.models.hub import pinned, pretrained
from xner_ray.recipe.images import Image
from xner_ray.recipe.sections import Resolved
from xner_ray.vision import regions
from xner_ray.vision.formula import Floats, unit_length
from xner_ray.vision.towers import DETECTORS, Towers, identified, vectors_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def resolve(section: Image, key: str) -> Resolved:
    """Pin the model; RecipeError if it is no detector of the two kinds. Reads its configuration, no weights."""
    section, identity = pinned(section)
    _configuration(section, f"{key}.model")
    return Resolved(section, identified(identity))


def _configuration(section: Image, key: str) -> Any:
    from transformers import AutoConfig

    config = pretrained(AutoConfig, str(section.model), key)
    if config.model_type not in DETECTORS:
        raise RecipeError(
            f"{key} {section.model!r} is no detector that image.engine: owl reads (model_type {config.model_type}); "
            "give an OWL-ViT or an OWLv2, or set image.engine: clip"
        )
    return config


class Grounder(Towers):
    """A detector, its processors and a device; the numbers of a picture are its regions."""

    _configuration = staticmethod(_configuration)

    def __init__(self, section: Image, key: str = "image") -> None:
        """Load the model, as `Towers` does. RecipeError too for a processor that cuts pictures: boxes would be off."""
        self.anchors = sorted({prompt.replace("{}", "") for own in section.prompts.values() for prompt in own})
        super().__init__(section, key)
        if getattr(self.processor, "do_center_crop", False):
            raise RecipeError(
                f"{key}.model {section.model!r} cuts pictures (do_center_crop in preprocessor_config.json); a detector "
                "must see all of them: set it to false"
            )
        self.squared = bool(getattr(self.processor, "do_pad", False))
        self._ranks = unit_length(self.of_texts(self.anchors))
        self.tokens, self.model_seconds = 0, 0.0

    def _loader(self) -> Any:
        from transformers import AutoModelForZeroShotObjectDetection

        return AutoModelForZeroShotObjectDetection

    def _numbers(self, dim: int) -> int:
        return regions.REGIONS * (dim + regions.NUMBERS)

    @property
    def cache_parts(self) -> tuple[str, ...]:
        return f"{regions.REGIONS} regions", *self.anchors

    def ready(self, vector: NDArray[np.float16]) -> NDArray[np.floating]:
        found: NDArray[np.float32] = vector.astype(np.float32)
        return found

    def log_ratios(self, pictures: Sequence[NDArray[np.floating]], *given: Any) -> Floats:
        return regions.log_ratios(pictures, *given)

    def boxes(self, pictures: Sequence[NDArray[np.floating]], queries: Floats) -> Floats | None:
        return regions.boxes(pictures, queries)

    @torch.inference_mode()
    def patches_of(self, pictures: Sequence[Picture]) -> tuple[Floats, Floats, Floats, Floats]:
        """Return what each patch of pictures says: vectors of length 1 (n, patches, dim), shifts, scales, boxes."""
        fitted = [self._fitted(one) for one in pictures]
        inputs = self.processor(fitted, return_tensors="pt")
        with self.in_model():
            return self._patches(inputs["pixel_values"].to(self.device, self.network.dtype), fitted)

    def _fitted(self, picture: Picture) -> Picture:
        """Return a picture whose long side is at most thrice the model's, for a processor that makes it a square.

        Of a picture of 20 to 1 that would have 400 times the pixels, as numbers of 4 bytes.
        """
        most = 3 * self.side
        if not self.squared or max(picture.size) <= most:
            return picture
        smaller = picture.copy()
        smaller.thumbnail((most, most))
        return smaller

    def _of_inputs(self, inputs: Mapping[str, Any], pictures: Sequence[Picture]) -> NDArray[np.float32]:
        vectors, shifts, scales, boxes = self._patches(inputs["pixel_values"], pictures)
        ranks = ((vectors @ self._ranks.T + shifts[..., None]) * scales[..., None]).max(axis=2)
        if not np.isfinite(ranks).all():
            raise FatalError("what patches of pictures say is not finite; set image.dtype: float32")
        each = zip(vectors, ranks, shifts, scales, boxes, strict=True)
        return np.array([regions.pack(*one) for one in each]).astype(np.float32)

    def _patches(self, pixels: torch.Tensor, pictures: Sequence[Picture]) -> tuple[Floats, Floats, Floats, Floats]:
        network = self.network
        grid, _ = network.image_embedder(pixel_values=pixels)
        seen = grid.flatten(1, 2)
        head = network.class_head
        vectors = unit_length(_numpy(head.dense0(seen)))
        shifts, scales = _numpy(head.logit_shift(seen))[..., 0], _numpy(head.elu(head.logit_scale(seen)) + 1)[..., 0]
        places = _numpy(network.box_predictor(seen, grid))
        boxes = np.concatenate([places[..., :2] - places[..., 2:] / 2, places[..., :2] + places[..., 2:] / 2], axis=-1)
        if self.squared:  # the picture is the upper left part of a square
            sizes = np.array([one.size for one in pictures], dtype=np.float64)
            boxes *= np.tile(sizes.max(axis=1, keepdims=True) / sizes, 2)[:, None]
        return vectors, shifts, scales, np.clip(boxes, 0, 1)

    def _of_queries(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        towers = self.network.owlvit if self.network.config.model_type == "owlvit" else self.network.owlv2
        return vectors_of(towers.get_text_features(**inputs))


def _numpy(found: torch.Tensor) -> Floats:
    result: Floats = found.double().cpu().numpy()
    return result
