"""Pictures of 20 to 1 cost a processor and a batch no more than others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ambiguous import OWL
from pictures import encoded
from PIL import Image as Pillow
from tiny_owl import owlv2

from xner_ray.recipe.images import Image
from xner_ray.vision.grounder import Grounder
from xner_ray.vision.loader import Loader
from xner_ray.vision.reader import PictureReader
from xner_ray.vision.references import References

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_detector_that_makes_squares_is_given_no_huge_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor copies of a picture that fill up its micro-batch; boxes stay those of the whole picture."""
    model = Grounder(Image.model_validate({**OWL, "model": owlv2(tmp_path / "model")}))
    given: list[tuple[int, int]] = []
    process = model.processor

    def processed(pictures: Any, **options: Any) -> Any:
        given.extend(picture.size for picture in pictures)
        return process(pictures, **options)

    monkeypatch.setattr(model, "processor", processed)
    long, small = Pillow.new("RGB", (2000, 100), "red"), Pillow.new("RGB", (150, 100), "blue")
    together = model.of_pictures([long, small])
    assert model.at_once > 2 and given == [(192, 10), (150, 100)]
    assert (together[0] == model.of_pictures([long])[0]).all()
    corners = together.reshape(2, 16, -1)[..., -4:]
    assert corners.min() >= 0 and corners.max() <= 1
    model.patches_of([long])
    assert given[-1] == (192, 10)


class _Towers:
    side, at_once, dim = 24, 8, 3

    def __init__(self) -> None:
        self.batches: list[int] = []

    def of_pictures(self, pictures: list[Any]) -> Any:
        self.batches.append(len(pictures))
        return np.array([np.asarray(picture)[0, 0] for picture in pictures], dtype=np.float32)

    def ready(self, vector: Any) -> Any:
        return vector


def test_long_pictures_wait_for_no_full_batch(tmp_path: Path) -> None:
    for kind, size in (("long", (760, 40)), ("usual", (60, 40))):
        for number in range(20):
            picture = Pillow.new("RGB", size, (number + 1, 0, 0))
            (tmp_path / f"{kind}-{number:02}.png").write_bytes(encoded(picture))
    loader = Loader(
        References(str(tmp_path), [str(tmp_path)], []), max_mb=1, max_pixels=1_000_000, side=24, column="image"
    )
    for kind, batches in (("usual", [8, 8, 4]), ("long", [2] * 10)):
        towers = _Towers()
        seen = PictureReader(towers, {"eng_Latn": loader}).read(  # type: ignore[arg-type]
            [f"{kind}-{number:02}.png" for number in range(20)], "eng_Latn"
        )
        assert towers.batches == batches
        assert [seen.vectors[str(seen.found[f"{kind}-{number:02}.png"])][0] for number in range(20)] == [*range(1, 21)]
