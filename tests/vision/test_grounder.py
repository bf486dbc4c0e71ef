"""Detectors of both classes: what they say is the model's own, boxes are right on pictures of any shape."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ambiguous import PROMPTS
from PIL import Image as Pillow
from tiny_owl import owlv2, scenes, script

from xner_ray.errors import FatalError, RecipeError
from xner_ray.models.hub import local_folder
from xner_ray.recipe.images import Image
from xner_ray.vision import regions
from xner_ray.vision.formula import Background, unit_length
from xner_ray.vision.grounder import Grounder, resolve

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = list(PROMPTS)
OWL = {"engine": "owl", "model": "tiny-owl", "prompts": PROMPTS}


@pytest.fixture(scope="module", params=["owlvit", "owlv2"])
def grounder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grounder:
    model = "tiny-owl" if request.param == "owlvit" else owlv2(tmp_path_factory.mktemp("owlv2"))
    found = Grounder(Image(**{**OWL, "model": model}))
    assert type(found.network).__name__ == {"owlvit": "OwlViT", "owlv2": "Owlv2"}[request.param] + "ForObjectDetection"
    assert type(found.processor).__name__.endswith("Pil") and found.squared == (request.param == "owlv2")
    return found


def _queries(grounder: Grounder, name: str = "Jordan") -> tuple[list[str], np.ndarray]:
    texts = [PROMPTS[label][0].format(name) for label in LABELS]
    return texts, unit_length(grounder.of_texts(texts))


def test_patches_and_boxes_are_those_of_the_classes_own_forward_and_post_processing(grounder: Grounder) -> None:
    """On a wide picture: OWL-ViT squeezes it, OWLv2 fills it up to a square."""
    for image in (scenes(1, 128, 64)[0].image, scenes(1, 48, 90)[0].image):
        texts, queries = _queries(grounder)
        vectors, shifts, scales, boxes = (each[0] for each in grounder.patches_of([image]))
        logits = (vectors @ queries.T + shifts[:, None]) * scales[:, None]
        inputs = grounder.tokenizer(texts, padding=True, return_tensors="pt")
        pixels = grounder.processor([image], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = grounder.network(**inputs, pixel_values=pixels)
        assert logits == pytest.approx(output.logits[0].numpy(), abs=1e-3)
        sizes = [(image.height, image.width)]
        (own,) = grounder.processor.post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
        wanted = own["boxes"].numpy() / np.array([image.width, image.height] * 2)
        assert boxes == pytest.approx(np.clip(wanted, 0, 1), abs=1e-4)


@pytest.mark.parametrize(("wide", "high"), [(64, 64), (128, 64)])
def test_what_is_there_scores_more_than_what_is_not_and_boxes_are_near(
    grounder: Grounder, wide: int, high: int
) -> None:
    given = scenes(150, wide, high)
    _, queries = _queries(grounder)
    numbers = grounder.of_pictures([one.image for one in given])
    present, absent, overlap = [], [], []
    for label in range(len(LABELS)):
        found = regions.boxes(list(numbers), np.repeat(queries[label][None], len(given), axis=0))
        for one, box in zip(given, found, strict=True):
            if label not in one.labels:
                absent.append(box[4])
                continue
            present.append(box[4])
            overlap.append(regions.overlaps(box[:4], np.array([one.boxes[one.labels.index(label)]]))[0])
    higher = np.array(present)[:, None] > np.array(absent)
    said = {"auc": higher.mean(), "iou": np.mean(overlap), "half": np.mean(np.array(overlap) >= 0.5)}
    assert min(len(present), len(absent)) > 100
    filled = grounder.squared and wide != high  # it was not trained on objects that take half of the height
    assert said["auc"] >= (0.7 if filled else 0.85) and said["iou"] >= (0.4 if filled else 0.5), said
    assert said["half"] >= (0.4 if filled else 0.6), said


def test_numbers_depend_on_no_picture_beside_it(grounder: Grounder) -> None:
    pictures = [one.image for one in scenes(20, 90, 70)]
    whole = grounder.of_pictures(pictures)
    assert whole.shape == (20, grounder.dim) and grounder.dim == regions.REGIONS * (64 + regions.NUMBERS)
    order = np.random.default_rng(0).permutation(20)
    assert np.array_equal(grounder.of_pictures([pictures[at] for at in order]), whole[order])


def test_the_prompts_without_a_mention_are_in_the_key_of_a_cache() -> None:
    found = Grounder(Image(**OWL)).cache_parts
    assert "a photo of , a person" in found and f"{regions.REGIONS} regions" in found


def test_of_like_boxes_the_likelier_is_kept_and_no_region_is_made_up() -> None:
    vectors, boxes = np.eye(3), np.array([[0, 0, 1, 1.0], [0, 0, 0.95, 1], [0.5, 0.5, 1, 1]])
    numbers = regions.pack(vectors, np.array([0.1, 0.9, 0.5]), np.zeros(3), np.ones(3), boxes)
    found = numbers.reshape(regions.REGIONS, -1)
    assert found[0, -4:].tolist() == boxes[1].tolist() and found[1, -4:].tolist() == boxes[2].tolist()
    assert not found[2:].any()
    best = regions.boxes([numbers.astype(np.float32)], -np.ones((1, 3)))
    assert best[0, 4] == pytest.approx(1 / (1 + np.exp(1)), abs=1e-4), "what is not there never wins"


def test_regions_say_nothing_where_all_pictures_are_alike_or_few() -> None:
    rng = np.random.default_rng(1)
    texts = unit_length(rng.normal(size=(2, 3, 4)))

    def picture() -> np.ndarray:
        boxes = np.sort(rng.random((5, 4)), axis=1)
        return regions.pack(unit_length(rng.normal(size=(5, 4))), rng.random(5), rng.random(5), np.ones(5), boxes)

    one, depicted = picture(), np.array([0.6, 0.3, 0.1])
    same = Background(np.repeat(one[None], 20, axis=0))
    assert not regions.log_ratios([one], texts, np.array([1]), same, 5.0, depicted).any()
    few, many = (Background(np.array([picture() for _ in range(n)])) for n in (7, 30))
    assert not regions.log_ratios([one], texts, np.array([1]), few, 5.0, depicted).any()
    found = regions.log_ratios([one, picture()], texts, np.array([1, 0]), many, 5.0, depicted)
    assert found.any() and (found >= np.log(1 - depicted) - 1e-4).all() and (found <= 8).all()
    z = np.array([regions.boxes([each], texts[1, at][None])[0, 4] for each in many.vectors for at in range(3)])
    z = np.log(z / (1 - z)).reshape(-1, 3)
    beside = (z - z.mean(0)) - (z - z.mean(0)).mean(1, keepdims=True)
    own = np.array([regions.boxes([one], texts[1, at][None])[0, 4] for at in range(3)])
    own = np.log(own / (1 - own)) - z.mean(0)
    u = (own - own.mean()) / beside.std(0)
    wanted = np.log(1 - depicted + depicted * np.exp(np.clip(5 * u, -8, 8)))
    assert found[0] == pytest.approx(wanted, abs=0.02), "scores of boxes are rounded"


def test_models_that_cannot_be_asked_where_something_is(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"image\.model 'tiny-clip' is no detector that image.engine: owl reads .model_type clip.; give",
    ):
        resolve(Image(**{**OWL, "model": "tiny-clip"}), "image")
    shutil.copytree(str(local_folder("tiny-owl")), tmp_path / "cuts")
    settings = tmp_path / "cuts/preprocessor_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_center_crop": True}))
    with pytest.raises(RecipeError, match=r"cuts pictures .do_center_crop in preprocessor_config.json.; a detector"):
        Grounder(Image(**{**OWL, "model": str(tmp_path / "cuts")}))


def test_what_is_not_finite_ends_the_run() -> None:
    broken: Any = Grounder(Image(**OWL))
    with torch.no_grad():
        broken.network.class_head.logit_shift.bias.fill_(float("nan"))
    with pytest.raises(FatalError, match=r"set image\.dtype: float32"):
        broken.of_pictures([Pillow.new("RGB", (30, 20))])


def test_a_collage_has_what_its_boxes_say() -> None:
    """The script that trains draws every part inside its picture."""
    for one in scenes(50, 90, 40):
        assert len(one.boxes) == len(one.labels) <= 2 and one.image.size == (90, 40)
        assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in one.boxes)
    assert script().GRID == 8
