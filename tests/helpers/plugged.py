"""A recipe with a user's own score function, and the stage that calls it."""

import pickle
from pathlib import Path
from typing import Any

from xner_ray.engine.resolve import resolve
from xner_ray.engine.stages import build
from xner_ray.match.stage import EvidenceStage
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe

SAME = """
def same(row, entity, candidates):
    return [float(row["image"] == each["text"]) for each in candidates]
"""


def with_plugin(folder: Path, source: str = SAME, name: str = "same.py", **sections: Any) -> Recipe:
    (folder / name).write_text(source)
    match = {"scores": {"soft": 1.0, "same": 1.0}, "min_score": 0.0, "candidates": "ngram"}
    return load_recipe(
        {
            "input": {"path": "a", "parallel": {"spa_Latn": "b"}, "links": "c"},
            "targets": ["spa_Latn"],
            "align": {"backend": "provided"},
            "evidence": {"plugin": str(folder / name)},
            "match": match | sections.pop("match", {}),
            **sections,
        }
    )


def stage_of(recipe: Recipe) -> EvidenceStage:
    stage = build("evidence", pickle.loads(pickle.dumps(resolve(recipe)[0])))
    assert isinstance(stage, EvidenceStage)
    return stage
