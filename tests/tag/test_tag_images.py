"""The stage `tag` keeps tags with probabilities where a picture weighs the labels, and the stage `image` reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ambiguous import IMAGE
from tiny_taggers import IOB2, table_model

from xner_ray.read.index.build import build_index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.tag.hf import HfTagger
from xner_ray.tag.stage import TagStage
from xner_ray.vision.formula import Background
from xner_ray.vision.reader import Seen
from xner_ray.vision.stage import ImageStage
from xner_ray.vision.towers import Towers

TABLE = {"a": {"B-PER": 0.6, "B-LOC": 0.3}, "b": {"I-PER": 0.5, "I-LOC": 0.4}, "c": {"B-LOC": 0.9}}
PROMPTS = {"WHO": ["{}"], "LOC": ["a place {}"]}


def _recipe(folder: Path, image: dict[str, Any]) -> Recipe:
    (folder / "a.jsonl").write_text('{"text": "a b d c", "photo": "x.png"}\n')
    given = {"path": str(folder / "a.jsonl"), "columns": {"image": "photo"}, "labels": {"rename": {"PER": "WHO"}}}
    tag = {"engine": "hf", "model": table_model(folder / "m", IOB2, TABLE)}
    return Recipe.model_validate({"input": given, "targets": ["spa_Latn"], "tag": tag, "image": image})


def _tagged(recipe: Recipe) -> pa.Table:
    index = build_index(recipe)
    return TagStage(recipe, HfTagger(recipe.tag))(read_unit(index.units[0], ReadPlan(recipe, index.extra)))


def test_without_a_stage_that_weighs_them_no_tags_are_kept(tmp_path: Path) -> None:
    (row,) = _tagged(_recipe(tmp_path, {})).to_pylist()
    assert row["source_spans"] and row["source_tags"] is None and row["image"] == "x.png"


def test_tags_of_entities_are_kept_and_weighed_against_the_picture(tmp_path: Path) -> None:
    """The product over words says 0.3 * 0.4 against 0.6 * 0.5; a picture that speaks for LOC turns that."""
    recipe = _recipe(tmp_path, {**IMAGE, "prompts": PROMPTS, "depicted": {"LOC": 0.5, "PER": 0.5}, "weight": 1})
    table = _tagged(recipe)
    (row,) = table.to_pylist()
    assert [(s["start"], s["end"], s["label"]) for s in row["source_spans"]] == [(0, 2, "WHO"), (3, 4, "LOC")]
    assert {cell["word"] for cell in row["source_tags"]} == {0, 1, 3}

    class FakeTowers(Towers):
        """Text vectors that tell labels apart, whatever the mention."""

        dim = 2
        tokens, model_seconds, micro_batch_tokens = 0, 0.0, 0

        def __init__(self) -> None:
            """Load nothing."""

        def of_texts(self, texts: Any) -> np.ndarray:
            return np.array([[0.0, 1.0] if text.startswith("a place") else [1.0, 0.0] for text in texts])

    class Reader:
        def __init__(self, picture: list[float]) -> None:
            self.picture = picture

        def language(self, lang: str) -> str:
            return lang

        def read(self, references: Any, lang: str) -> Seen:
            return Seen(dict.fromkeys(references, "ab"), {"ab": np.array(self.picture)})

    turns = np.linspace(0, np.pi / 2, 9)
    background = Background(np.stack([np.cos(turns), np.sin(turns)], axis=1))
    shares = {"WHO": 0.3 / 0.42, "LOC": 0.12 / 0.42}
    for picture, wanted in (([0.0, 1.0], "LOC"), ([1.0, 0.0], "WHO"), (list(background.mean), "WHO")):
        stage = ImageStage(recipe, FakeTowers(), Reader(picture), background)  # type: ignore[arg-type]
        (found,) = stage(table).to_pylist()
        assert found["source_spans"][0]["label"] == wanted
        assert found["image_labels"][0] == {"source": 0, "text": "WHO", "image": wanted, "exchanged": None}
        assert (found["flags"] == ["image_relabelled"]) == (wanted == "LOC")
        for cell in found["image_evidence"][:2]:
            assert cell["text"] == pytest.approx(shares[cell["label"]], abs=1e-3)
