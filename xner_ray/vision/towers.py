"""A model of an image tower and a text tower: CLIP, SigLIP, SigLIP 2, whatever AutoModel loads with both.

Pictures go through the processor that the model comes with, always that of Pillow: so vectors do not depend on whether
torchvision is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.errors import FatalError, RecipeError
from xner_ray.models.device import Timed, budget_of, device_of, pick_dtype
from xner_ray.models.hub import complete, pinned, pretrained
from xner_ray.recipe.images import Image
from xner_ray.recipe.sections import Resolved
from xner_ray.vision import formula
from xner_ray.vision.formula import Floats, unit_length

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PICTURES = {"cpu": 32, "cuda": 256}  # of a micro-batch; a CPU is no faster with more
_LENGTHS = 1 << 20  # a tokenizer that states no limit has a larger one
DETECTORS = ("owlvit", "owlv2")
_SPARSE = ("siglip", "siglip2")  # read texts that are padded to their full length


def resolve(section: Image, key: str) -> Resolved:
    """Pin the model; RecipeError if it has not both towers. Reads its configuration, no weights."""
    section, identity = pinned(section)
    configuration(section, f"{key}.model")
    return Resolved(section, identified(identity))


def identified(identity: str) -> dict[str, str]:
    """Return what identifies a model of pictures."""
    return {"model": identity, "pillow": metadata.version("pillow")}


def configuration(section: Image, key: str) -> Any:
    """Return the configuration of a model with both towers; RecipeError for another."""
    from transformers import AutoConfig, AutoModel

    config = pretrained(AutoConfig, str(section.model), key)
    if config.model_type in DETECTORS:
        raise RecipeError(
            f"{key} {section.model!r} is a detector (model_type {config.model_type}); set image.engine: owl, or give a "
            "model that compares whole pictures with texts: CLIP, SigLIP or SigLIP 2"
        )
    kind: Any = AutoModel._model_mapping.get(type(config), None)
    lacks = [tower for tower in ("text", "vision") if not hasattr(config, f"{tower}_config")]
    if lacks or not hasattr(kind, "get_image_features") or not hasattr(kind, "get_text_features"):
        what = f"no {'image' if lacks[0] == 'vision' else 'text'} tower" if lacks else "no vectors of both towers"
        raise RecipeError(
            f"{key} {section.model!r} has {what} (model_type {config.model_type}); give a model that compares pictures "
            "with texts: CLIP, SigLIP or SigLIP 2"
        )
    return config


class Towers(Timed):
    """Both towers, their processors and a device. tokens: patches and pieces of text read since the start."""

    def __init__(self, section: Image, key: str = "image") -> None:
        """Load the model; dtype auto is float32 on a CPU and float16 on a GPU. Sets torch's threads for the process.

        RecipeError as of `resolve`, and for weights that are not safetensors or are missing.
        """
        from transformers import AutoImageProcessor, AutoTokenizer

        torch.set_num_threads(section.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        self.device = torch.device(device_of(section))
        name, key = str(section.model), f"{key}.model"
        config = self._configuration(section, key)
        self.tokenizer = pretrained(AutoTokenizer, name, key)
        self.processor = pretrained(AutoImageProcessor, name, key, backend="pil")
        self.network = complete(self._loader(), name, key, pick_dtype(section.dtype, self.device.type))
        self.network = self.network.eval().to(self.device)
        vision, text = config.vision_config, config.text_config
        side, patch = int(getattr(vision, "image_size", 0) or 384), int(getattr(vision, "patch_size", 0) or 16)
        self.side, self.patches = side, (side // patch) ** 2 + 1
        limits = (self.tokenizer.model_max_length, getattr(text, "max_position_embeddings", 77))
        self.positions = int(min(limit for limit in limits if limit < _LENGTHS))
        self.padding = "max_length" if config.model_type in _SPARSE else "longest"
        self.special = [token for token in self.tokenizer.all_special_tokens if token.strip()]
        self.micro_batch_tokens, self.tokens = budget_of(section), 0
        self.dim = self._numbers(int(self.of_texts(["a"]).shape[1]))
        self.tokens, self.model_seconds = 0, 0.0

    _configuration = staticmethod(configuration)

    def _loader(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    def _numbers(self, dim: int) -> int:
        """Return how many numbers a picture is. dim: of texts."""
        return dim

    @property
    def cache_parts(self) -> tuple[str, ...]:
        """What the numbers of a picture depend on, besides the model, Pillow and the number format."""
        return ()

    def ready(self, vector: NDArray[np.float16]) -> NDArray[np.floating]:
        """Return the numbers of a picture as evidence takes them."""
        return unit_length(vector)

    def log_ratios(self, pictures: Sequence[NDArray[np.floating]], *given: Any) -> Floats:
        """Return what pictures say of labels, see `formula.log_ratios`."""
        return formula.log_ratios(np.array(pictures).reshape(len(pictures), self.dim), *given)

    def boxes(self, pictures: Sequence[NDArray[np.floating]], queries: Floats) -> Floats | None:
        """Return where in each picture its query is, see `regions.boxes`; None: this model does not say."""
        return None

    @property
    def at_once(self) -> int:
        """Pictures of one micro-batch."""
        most = max(1, min(self.micro_batch_tokens // self.patches, _PICTURES[self.device.type]))
        return most - most % 8 if most > 8 else most

    @torch.inference_mode()
    def of_pictures(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Return a vector of each picture (n, dim), in micro-batches in the given order.

        Each micro-batch is filled up to its full size: then a vector depends on no picture beside it, and those of a
        cache are what would be computed.
        """
        step, found = self.at_once, []
        for first in range(0, len(pictures), step):
            some = [self._fitted(picture) for picture in pictures[first : first + step]]
            lacking = step - len(some)
            inputs = self.processor(some, return_tensors="pt")
            with self.in_model():
                moved = {}
                for name, value in inputs.items():
                    own = value.to(self.device, self.network.dtype if value.is_floating_point() else None)
                    moved[name] = torch.cat([own, own[:1].expand(lacking, *own.shape[1:])])
                found.append(self._of_inputs(moved, [*some, *[some[0]] * lacking])[: len(some)])
        self.tokens += len(pictures) * self.patches
        return _finite(found)

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector of each text (n, dim), in micro-batches, longest first; a long text is cut at its end."""
        plain = [self._plain(text) for text in texts]
        options = {"truncation": True, "max_length": self.positions}
        sizes = [len(ids) for ids in self.tokenizer(plain, **options).input_ids] if plain else []
        order = sorted(range(len(plain)), key=lambda index: (-sizes[index], plain[index]))
        parts, read = [], 0
        while read < len(order):
            longest = self.positions if self.padding == "max_length" else sizes[order[read]]
            batch = order[read : read + max(1, self.micro_batch_tokens // longest)]
            inputs = self.tokenizer(
                [plain[index] for index in batch], padding=self.padding, return_tensors="pt", **options
            )
            with self.in_model():
                parts.append(self._of_queries({k: v.to(self.device) for k, v in inputs.items()}))
            read += len(batch)
        self.tokens += sum(sizes)
        found = _finite(parts)
        result = np.empty_like(found)
        result[order] = found
        return result

    def _fitted(self, picture: Picture) -> Picture:
        """Return a picture of a size that the processor can bear."""
        return picture

    def _of_inputs(self, inputs: Mapping[str, Any], pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return vectors_of(self.network.get_image_features(**inputs))

    def _of_queries(self, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        return vectors_of(self.network.get_text_features(**inputs))

    def _plain(self, text: str) -> str:
        """Return a text that spells no special token: one would end it, or stand for something else."""
        for token in self.special:
            text = text.replace(token, " ")
        return text


def vectors_of(found: Any) -> NDArray[np.float32]:
    """Return the pooled vectors of a tower's output."""
    vectors = found if torch.is_tensor(found) else found.pooler_output
    result: NDArray[np.float32] = vectors.float().cpu().numpy()
    return result


def _finite(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    found = np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)
    if not np.isfinite(found).all():
        raise FatalError("the vectors of pictures or texts are not finite; set image.dtype: float32")
    return found
