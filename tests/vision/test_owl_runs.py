"""Whole runs with a detector: evidence for labels, boxes of entities, the control, the cache, the page."""

import json
import re
from pathlib import Path

import pytest
import yaml
from ambiguous import (
    LANG,
    OWL,
    assert_true_pictures_help,
    encodings,
    finished,
    parts,
    right,
    rows,
    shown,
    written,
)
from faults import ended_after_first_of_three

import xner_ray
from xner_ray.errors import RecipeError
from xner_ray.run.folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the ambiguous set with true, plain, no and wrong pictures, in three units."""
    return finished(tmp_path_factory.mktemp("owl"), OWL)


def test_true_pictures_help_plain_ones_do_no_harm_and_wrong_ones_do(house: Path) -> None:
    assert_true_pictures_help(house / "run")


def test_boxes_stand_in_the_picture_and_their_scores_are_high_enough(house: Path) -> None:
    boxes = {"true": 0, "plain": 0}
    for row in parts(house / "run").to_pylist():
        if row["image_id"] is None:
            assert row["image_boxes"] is None
            continue
        for box in row["image_boxes"]:
            assert 0 <= box["x0"] <= box["x1"] <= 1 and 0 <= box["y0"] <= box["y1"] <= 1
            assert 0.1 <= box["score"] <= 1 and box["source"] == 0
        way = row["id"].partition("/")[2]
        boxes[way] = boxes.get(way, 0) + sum(box["score"] >= 0.5 for box in row["image_boxes"])
    assert boxes["true"] >= 35 and boxes["plain"] <= 10, boxes


def test_the_control_judges_with_exchanged_pictures(house: Path, tmp_path: Path) -> None:
    images = json.loads((house / "run/report.json").read_text())["images"]
    assert images["compared"] == 180 and images["relabelled"] > 0 and images["relabelled_by_exchanged"] > 0
    recipe = written(tmp_path, rows(), image=OWL, input={"images": {"ablation": "shuffled"}})
    xner_ray.project(recipe, tmp_path / "run")
    table = parts(tmp_path / "run")
    assert right(table)[0][""] < 30
    assert table.column("image_boxes").null_count == table.num_rows, "they would be those of another picture"


def test_explain_and_the_page_show_boxes(house: Path) -> None:
    row = next(row for row in parts(house / "run").to_pylist() if row["image_boxes"])
    (box,) = row["image_boxes"]
    said = shown(xner_ray.explain(house / "run", row["id"]))
    assert f"box [{box['x0']:.2f} {box['y0']:.2f} {box['x1']:.2f} {box['y1']:.2f}] of the picture" in said
    assert f"score {box['score']:.4f}" in said
    html = (house / "run/report.html").read_text()
    sides = r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    found = re.findall(rf'<rect class="c\d+(?: k\d)?" {sides}><title>', html)
    n_boxes = sum(len(row["image_boxes"] or ()) for row in parts(house / "run").to_pylist())
    assert len(found) == n_boxes > 60
    assert all(float(x) + float(w) <= 100.02 and float(y) + float(h) <= 100.02 for x, y, w, h in found)


def test_a_box_that_is_not_good_enough_is_left_out(house: Path, tmp_path: Path) -> None:
    xner_ray.project(house / "recipe.yaml", tmp_path / "run", overrides=["image.min_score=0.6"])
    few, all_of = (parts(run).to_pylist() for run in (tmp_path / "run", house / "run"))
    for one, other in zip(few, all_of, strict=True):
        assert (one["image_boxes"] or []) == [box for box in other["image_boxes"] or () if box["score"] >= 0.6]
    assert {"image.min_score", "image.engine"} <= RunFolder(str(tmp_path / "run")).keys().keys()


def test_a_resume_gives_the_same_rows(house: Path, tmp_path: Path) -> None:
    with ended_after_first_of_three(tmp_path / "run"):
        xner_ray.project(house / "recipe.yaml", tmp_path / "run")
    xner_ray.project(house / "recipe.yaml", tmp_path / "run")
    assert parts(tmp_path / "run").equals(parts(house / "run"))


def test_regions_are_kept_for_other_runs(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = encodings(monkeypatch)
    own = [f"image.cache={tmp_path / 'cache'}"]
    distinct = len({one for one in parts(house / "run").column("image_id").to_pylist() if one})
    for name in ("one", "two"):
        xner_ray.project(house / "recipe.yaml", tmp_path / name, overrides=own)
        assert sum(calls) == distinct and parts(tmp_path / name).equals(parts(house / "run"))
    xner_ray.project(house / "recipe.yaml", tmp_path / "x", overrides=[*own, "image.prompts.PER=['{}, a king']"])
    assert sum(calls) == 2 * distinct, "other prompts rank regions otherwise"


def test_equal_pictures_are_as_the_text_alone(tmp_path: Path) -> None:
    recipe = written(tmp_path, [{**row, "photo": "jordan-per.png"} for row in rows()], image=OWL)
    assert xner_ray.project(recipe, tmp_path / "run")["images"]["relabelled"] == 0


def test_runs_with_pictures_are_compared_with_those_without(house: Path, tmp_path: Path) -> None:
    """A sweep over teachers, with a control: what they differ in is said, and the verdict is there."""
    sweep = {
        "data": {"set": {"recipe": str(house / "recipe.yaml"), "settings": {"tag.engine": "none"}}},
        "methods": {
            "text": {"input.images.ablation": "none"},
            "owl": {},
            "owl_shuffled": {"input.images.ablation": "shuffled"},
        },
        "against": "text",
        "controls": {"owl": "owl_shuffled"},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    lines = [json.loads(line) for line in (house / "a.jsonl").read_text().splitlines()]
    gold = [{"text": row["text"], "spans": [{**row["spans"][0], "label": row["kind"]}]} for row in lines]
    (house / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gold))
    own = [f"input.parallel.{LANG}={house / 'gold.jsonl'}", "input.limit=60"]
    found = xner_ray.sweep(tmp_path / "sweep.yaml", tmp_path / "out", overrides=own, samples=500)
    methods = {run.name: run.method for run in found.comparisons["set"].runs}
    assert "input.images.ablation=shuffled" in methods["owl_shuffled"] and "pillow" not in "".join(methods.values())
    (verdict,) = found.verdicts["set"]
    assert verdict.better and verdict.beats_text == verdict.beats_control == "yes"
    assert "beats its control?" in (tmp_path / "out/compare.md").read_text()
    assert json.loads((tmp_path / "out/compare.json").read_text())["set"]["teachers"][0]["better"] is True


def test_a_model_of_towers_is_none_of_boxes(house: Path) -> None:
    with pytest.raises(RecipeError, match="'tiny-clip' is no detector") as found:
        xner_ray.project(house / "recipe.yaml", house / "nothing", overrides=["image.model=tiny-clip"])
    assert "\n" not in str(found.value)
    with pytest.raises(RecipeError, match=r"'tiny-owl' is a detector .model_type owlvit.; set image.engine: owl"):
        xner_ray.project(house / "recipe.yaml", house / "nothing", overrides=["image.engine=clip"])
