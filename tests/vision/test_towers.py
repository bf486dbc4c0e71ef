"""Models of two towers: any that AutoModel loads with both; a vector depends on its picture alone."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ambiguous import IMAGE
from PIL import Image as Pillow

from xner_ray.errors import FatalError, RecipeError
from xner_ray.models.hub import local_folder
from xner_ray.recipe.images import Image
from xner_ray.vision.towers import Towers, resolve

pytestmark = pytest.mark.usefixtures("one_thread")


def _pictures(n: int) -> list[Pillow.Image]:
    rng = random.Random(0)
    return [Pillow.new("RGB", (60 + one, 50), tuple(rng.randrange(256) for _ in range(3))) for one in range(n)]


@pytest.fixture(scope="module")
def towers() -> Towers:
    return Towers(Image(**IMAGE))


def test_a_vector_depends_on_no_picture_beside_it(towers: Towers) -> None:
    pictures = _pictures(45)
    whole = towers.of_pictures(pictures)
    assert towers.at_once == 32 and whole.shape == (45, 64)
    order = np.random.default_rng(0).permutation(45)
    assert np.array_equal(towers.of_pictures([pictures[at] for at in order]), whole[order])
    assert np.array_equal(towers.of_pictures(pictures[7:8]), whole[7:8])
    assert towers.tokens == (45 + 45 + 1) * 37


def test_texts_come_back_in_their_order(towers: Towers) -> None:
    texts = [
        "a photo of Al, a person",
        "the logo of a very long name indeed",
        "a map",
        "Zürich 北京 \U0001f600",
        "x " * 500,
    ]
    whole = towers.of_texts(texts)
    for text, vector in zip(texts, whole, strict=True):
        assert towers.of_texts([text])[0] == pytest.approx(vector, abs=1e-5)
    assert towers.of_texts([]).shape[0] == 0


def test_a_mention_that_spells_a_special_token_ends_no_text(towers: Towers) -> None:
    """CLIP reads the vector of a text at its first end token."""
    one, other = towers.of_texts(["the logo of <|endoftext|>Shell", "the logo of  Shell"])
    assert one == pytest.approx(other, abs=1e-6)
    assert np.abs(one - towers.of_texts(["the logo of"])[0]).max() > 1e-3


def test_vectors_that_are_not_finite_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Towers(Image(**IMAGE))
    with torch.no_grad():
        broken.network.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(FatalError, match=r"set image\.dtype: float32"):
        broken.of_pictures(_pictures(1))


def _saved(folder: Path, kind: str) -> str:
    """Save a tiny random SigLIP, or a vision tower alone, with the tokenizer of tiny-clip."""
    import transformers as t

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    clip = str(local_folder("tiny-clip"))
    tokenizer = t.AutoTokenizer.from_pretrained(clip)
    if kind == "siglip":
        text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "pad_token_id": 1}
        text |= {"projection_size": 16, "bos_token_id": 1, "eos_token_id": 2}
        t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        t.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    else:
        t.CLIPVisionModel(t.CLIPVisionConfig(**vision)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_siglip_is_read_like_clip(tmp_path: Path) -> None:
    section = Image(**{**IMAGE, "model": _saved(tmp_path / "siglip", "siglip")})
    made, identities = resolve(section, "image")
    assert made.model == section.model and len(identities["model"]) == 64 and identities["pillow"].startswith("1")
    siglip = Towers(section)
    assert (siglip.side, siglip.patches, siglip.padding, siglip.positions) == (32, 17, "max_length", 24)
    pictures = siglip.of_pictures(_pictures(3))
    texts = siglip.of_texts(["a photo of Al, a person", "the logo of Al"])
    assert pictures.shape == (3, 16) and texts.shape == (2, 16)
    assert np.abs(texts[0] - texts[1]).max() > 0 and np.abs(pictures[0] - pictures[1]).max() > 0


def test_a_model_without_both_towers_is_refused(tmp_path: Path) -> None:
    alone = _saved(tmp_path / "vision", "vision")
    with pytest.raises(
        RecipeError, match=r"image\.model .* has no .* tower .model_type clip_vision_model.; give a model"
    ):
        resolve(Image(**{**IMAGE, "model": alone}), "image")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("preprocessor_config.json", [], "has no attribute"),
        ("config.json", {"vision_config": {"image_size": "x"}}, "image_size"),
        ("config.json", {"model_type": "x", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}, "custom code"),
        (
            "preprocessor_config.json",
            {"image_processor_type": "P", "auto_map": {"AutoImageProcessor": "own.P"}},
            "custom code",
        ),
    ],
)
def test_a_hostile_model_runs_no_code_and_is_refused_in_one_line(
    tmp_path: Path, file: str, content: Any, said: str
) -> None:
    folder = shutil.copytree(local_folder("tiny-clip") or "", tmp_path / "model")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass C: pass\nM = P = C\n")
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**known, **content} if isinstance(content, dict) else content))
    with pytest.raises(RecipeError, match=r"image.model .* cannot be used") as found:
        Towers(Image.model_validate({**IMAGE, "model": str(folder)}))
    assert said in str(found.value) and "\n" not in str(found.value)
    assert not (tmp_path / "mark").exists()
