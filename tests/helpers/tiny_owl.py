"""Detectors of both classes with the trained weights of tiny-owl, and collages that they were not trained on."""

from __future__ import annotations

import importlib
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from xner_ray.models.hub import local_folder

_SCRIPTS = Path(__file__).parents[2] / "jobs" / "tiny_clip"


@lru_cache(maxsize=1)
def script() -> Any:
    """Return the module jobs/tiny_clip/make_owl.py, which draws collages."""
    sys.path.insert(0, str(_SCRIPTS))
    try:
        return importlib.import_module("make_owl")
    finally:
        sys.path.remove(str(_SCRIPTS))


def scenes(n: int, wide: int = 64, high: int = 64) -> list[Any]:
    rng = random.Random(90)
    return [script().scene(rng, wide, high) for _ in range(n)]


def owlv2(folder: Path) -> str:
    """Save an OWLv2 with the weights of tiny-owl, whose head of objectness alone is random."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    source = str(local_folder("tiny-owl"))
    old = t.OwlViTForObjectDetection.from_pretrained(source, dtype=torch.float32)
    text, vision = old.config.text_config.to_dict(), old.config.vision_config.to_dict()
    for own in (text, vision):
        own.pop("model_type")
    config = t.Owlv2Config(text_config=text, vision_config=vision, projection_dim=old.config.projection_dim)
    new = t.Owlv2ForObjectDetection(config)
    weights = {name.replace("owlvit.", "owlv2.", 1): value for name, value in old.state_dict().items()}
    lost = new.load_state_dict(weights, strict=False)
    assert not lost.unexpected_keys and all(name.startswith("objectness") for name in lost.missing_keys)
    new.save_pretrained(folder)
    t.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    t.Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return str(folder)
