"""The committed test translator, and the generator of the template sentences that it was trained on."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "xner_ray" / "models" / "tiny-nllb"
CODES = {"en": "eng_Latn", "sw": "swh_Latn", "es": "spa_Latn"}


def load_generator() -> ModuleType:
    """jobs/ is no package, so the script is loaded from its path."""
    spec = importlib.util.spec_from_file_location("tiny_nllb_generate", ROOT / "jobs" / "tiny_nllb" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


generate = load_generator()
