"""jobs/same_region.py: a plug-in over a detector's patches; its control with exchanged pictures; what it refuses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ambiguous import LANG, PROMPTS, parts
from given_files import over_links
from tiny_owl import script

import xner_ray
from xner_ray.errors import RecipeError

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "jobs" / "same_region.py"
pytestmark = pytest.mark.usefixtures("one_thread")


def _recipe(folder: Path, column: str = "photo", **plugin: str) -> dict[str, Any]:
    """Write collages of a person beside a logo whose names a sentence has, and a recipe that links say nothing in."""
    folder.mkdir(parents=True, exist_ok=True)
    source = PLUGIN.read_text("utf-8").replace('str(Path(__file__).parent / "data" / "pictures")', repr(str(folder)))
    for name, value in plugin.items():
        source = source.replace(f'{name} = "tiny-owl"', f"{name} = {value!r}")
    (folder / "same_region.py").write_text(source, "utf-8")
    lines = []
    for n, name in enumerate(("Jordan", "Austin", "Chelsea", "Lincoln")):
        drawn = script().scene(random.Random(n))
        drawn.image.save(folder / f"{n}.png")
        span = {"start": 0, "end": len(name), "label": ["PER", "LOC", "ORG"][n % 3]}
        lines.append({"text": f"{name} and Houston", "spans": [span], "photo": f"{n}.png" if n else None})
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "es.txt").write_text("".join(f"{line['text'].replace('and', 'y')}\n" for line in lines))
    (folder / "links.txt").write_text("0-0 1-1 2-2\n" * len(lines))
    recipe = over_links(targets=[LANG], engine={"executor": "inline"})
    recipe["input"] = {
        "path": str(folder / "a.jsonl"),
        "parallel": {LANG: str(folder / "es.txt")},
        "links": str(folder / "links.txt"),
        "columns": {"image": column},
    }
    recipe["evidence"] = {"plugin": str(folder / "same_region.py")}
    recipe["match"] = {
        "scores": {"soft": 1, "same_region": 1},
        "min_score": 0.1,
        "prior": "none",
        "candidates": "ngram",
    }
    return recipe


def _scores(run: Path) -> list[dict[tuple[int, int], float]]:
    rows = parts(run).to_pylist()
    return [{(c["start"], c["end"]): c["value"] for c in row["evidence"] or ()} for row in rows]


def test_the_same_words_point_at_the_same_region_and_exchanged_pictures_at_others(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path / "in")
    xner_ray.project(recipe, tmp_path / "run")
    found = _scores(tmp_path / "run")
    assert found[0] == {}, "a row without a picture has no score"
    for row in found[1:]:
        assert row and all(0 < value <= 1 for value in row.values())
        assert row[0, 1] == max(row.values()), "the copied name is where the entity is"
    xner_ray.project(recipe, tmp_path / "again")
    assert _scores(tmp_path / "again") == found
    control = ROOT / "jobs" / "shuffled_column.py"
    given = [str(tmp_path / "in/a.jsonl"), str(tmp_path / "in/b.jsonl"), "--column", "photo"]
    subprocess.run([sys.executable, str(control), *given], check=True)
    recipe["input"] |= {"path": given[1], "columns": {"image": "shuffled"}}
    xner_ray.project(recipe, tmp_path / "control")
    others = _scores(tmp_path / "control")
    assert others[0] == {} and all(row and row != own for row, own in zip(others[1:], found[1:], strict=True))


def test_the_formula(tmp_path: Path) -> None:
    space: dict[str, Any] = {"__file__": str(PLUGIN)}
    exec(compile(PLUGIN.read_text("utf-8"), str(PLUGIN), "exec"), space)
    one = space["_attention"](np.array([1.0, 0.0, -1.0, 0.0]))
    assert one.sum() == pytest.approx(1) and one[0] > 0.99
    row = {"image": None}
    assert space["same_region"](row, {"label": "PER", "text": "x"}, [{"text": "y"}] * 3) == [0, 0, 0]
    assert set(space["PROMPTS"]) == set(PROMPTS)


def test_a_model_that_is_not_declared_to_read_the_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'tiny-clip' is not declared to read the target language; add it to MULTI"):
        xner_ray.project(_recipe(tmp_path / "in", MODEL="tiny-clip"), tmp_path / "run")
