"""References of two languages may be the same, and mean other pictures."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from ambiguous import FOLDER, IMAGE

from xner_ray.read.index.build import build_index
from xner_ray.read.inputs import shared_folders
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.vision import background, load
from xner_ray.vision.formula import Background

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_same_reference_in_two_languages(tmp_path: Path) -> None:
    """A worker that makes one after the other remembers the pictures of one for its own language alone."""
    for lang, name in (("spa_Latn", "jordan-per.png"), ("fra_Latn", "jordan-org.png")):
        (tmp_path / lang).mkdir()
        (tmp_path / lang / "x.png").write_bytes((FOLDER / name).read_bytes())
        (tmp_path / lang / "a.jsonl").write_text(json.dumps({"text": "Jordan saluda .", "photo": "x.png"}) + "\n")
        spans = [{"start": 0, "end": 6, "label": "LOC"}]
        (tmp_path / lang / "en.jsonl").write_text(json.dumps({"text": "Jordan waves .", "spans": spans}) + "\n")
    recipe = Recipe.model_validate(
        {
            "direction": "test",
            "input": {
                "path": str(tmp_path / "{lang}" / "a.jsonl"),
                "lang": ["spa_Latn", "fra_Latn"],
                "columns": {"image": "photo"},
                "parallel": {"eng_Latn": str(tmp_path / "{lang}" / "en.jsonl")},
            },
            "tag": {"engine": "provided"},
            "image": {**IMAGE, "background_file": str(tmp_path / "background")},
        }
    )
    reader = load.load_reader(recipe)
    (tmp_path / "background").write_bytes(background.dump(Background(reader.towers.of_texts(["a"] * 8))))
    stage, index = load.load_stage(recipe), build_index(recipe)
    plan = ReadPlan(recipe, index.extra, shared_folders(recipe))
    tables = [stage(read_unit(unit, plan)) for unit in index.units]
    table = pa.concat_tables(tables)
    assert table.column("image").to_pylist() == ["x.png"] * 2
    assert len(set(table.column("image_id").to_pylist())) == 2
    again = stage(read_unit(index.units[1], plan))
    assert stage.tokens > 0 and again.equals(tables[1])
