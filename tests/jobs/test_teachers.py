"""The teachers set, and the experiments over it: what a teacher sees reaches a student in another language."""

import json
import runpy
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import xner_ray
from xner_ray.commands.validation.command import cross_validate
from xner_ray.commands.validation.recipe import load_experiment
from xner_ray.recipe.load import load_recipe

JOBS = Path(__file__).parents[2] / "jobs"
SET = JOBS / "data" / "teachers"


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SET / f"{name}.jsonl").read_text("utf-8").splitlines()]


def test_the_set_is_what_its_script_writes_and_no_sentence_tells(tmp_path: Path) -> None:
    """Drawings may differ in a bit with another Pillow, so the sentences alone are compared."""
    for name in ("data/teachers/make.py", "data/captions/make.py", "tiny_clip/draw.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(JOBS / name, tmp_path / name)
    runpy.run_path(str(tmp_path / "data/teachers/make.py"), run_name="__main__")
    for name in ("en", "es", "sw"):
        assert (tmp_path / f"data/teachers/{name}.jsonl").read_bytes() == (SET / f"{name}.jsonl").read_bytes()
    pictures = {path.name for path in SET.glob("*.png")}
    assert {path.name for path in (tmp_path / "data/teachers").glob("*.png")} == pictures and len(pictures) == 48
    english = _rows("en")
    assert {row["photo"] for row in english} - {None} <= pictures
    for name in ("en", "es", "sw"):
        labels: dict[str, set[str]] = {}
        for row in _rows(name):
            (at,) = (n for n, tag in enumerate(row["ner_tags"]) if tag != "O")
            sentence = " ".join("_" if n == at else word for n, word in enumerate(row["tokens"]))
            labels.setdefault(sentence, set()).add(row["ner_tags"][at])
        assert len(labels) == 6 and all(len(found) == 3 for found in labels.values())
    assert Counter(row["caption"] for row in english) == Counter(row["shuffled"] for row in english)
    captions = (JOBS / "data" / "captions" / "train.jsonl").read_text("utf-8")
    taught = {word for line in captions.splitlines() for word in json.loads(line)["tokens"]}
    assert not taught & {row["tokens"][n] for row in english for n, tag in enumerate(row["ner_tags"]) if tag != "O"}


@pytest.mark.parametrize("name", ["teachers", "teachers_domains"])
def test_experiments_name_what_is_there(name: str) -> None:
    experiment = load_experiment(JOBS / f"{name}.yaml")
    assert experiment.controls and set(experiment.domains) == {"press", "chat"}
    for data in experiment.runs.values():
        load_recipe(data.file(JOBS), [f"{key}={json.dumps(value)}" for key, value in data.settings.items()])


@pytest.mark.long
@pytest.mark.usefixtures("ray_here")
def test_a_teacher_with_pictures_beats_the_text_and_its_control(tmp_path: Path) -> None:
    """teachers.yaml with one language, two folds and one teacher, short trainings."""
    for name in ("teachers.yaml", "teachers_run.yaml", "teacher.yaml"):
        shutil.copy(JOBS / name, tmp_path)
    shutil.copytree(JOBS / "data", tmp_path / "data", ignore=shutil.ignore_patterns("*.conll", "uner-pud"))
    text = str(tmp_path / "teacher_text")
    xner_ray.train(tmp_path / "teacher.yaml", text, overrides=["model.context=null", "fit.epochs=2"])
    whole = load_experiment(tmp_path / "teachers.yaml")
    chosen = ("text", "clip", "clip_shuffled")
    runs = {name: whole.runs[name].model_dump() for name in chosen}
    for data in runs.values():
        data["settings"] |= {"tag.model": text, "targets": ["spa_Latn"], "target_tag.engine": "none"}
        data["settings"]["input.parallel"] = {"spa_Latn": str(tmp_path / "data/teachers/es.jsonl")}
    students = {name: whole.students[name] for name in chosen}
    settings = {"runs": runs, "students": students, "languages": ["spa_Latn"], "folds": 2}
    settings |= {"controls": {"clip": "clip_shuffled"}, "student.fit.epochs": 4}
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    found = cross_validate(tmp_path / "teachers.yaml", tmp_path / "out", overrides=overrides, samples=500)
    assert [one.lang for one in found.verdicts] == ["spa_Latn chat", "spa_Latn press", None]
    assert found.verdicts[-1].better, found.verdicts
    assert "| clip |" in (tmp_path / "out/compare.md").read_text()
