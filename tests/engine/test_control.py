"""The row that tells a sick device from a row that breaks one: stages take it as any other."""

import pytest

from xner_ray.data.row import OK, row_schema
from xner_ray.engine.control import control
from xner_ray.engine.guard import run_stage
from xner_ray.engine.stages import build
from xner_ray.recipe.load import load_recipe


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["train", "test"])
def test_every_stage_takes_the_control_row(direction: str) -> None:
    given = {"targets": ["deu_Latn"]} if direction == "train" else {"direction": "test", "tag": {"engine": "spacy"}}
    lang = "eng_Latn" if direction == "train" else "deu_Latn"
    recipe = load_recipe({"input": {"path": "a.conll", "lang": lang}, **given})
    table = control(recipe)
    assert table.schema.equals(row_schema()) and table.num_rows == 1
    for name in ["tag", "align", "match"] if direction == "test" else ["align", "match"]:
        table, stats = run_stage(build(name, recipe), table)
        assert (stats.rows, stats.rejects, table.column("status").to_pylist()) == (1, {}, [OK]), name
