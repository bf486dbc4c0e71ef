"""The experiment of translate-train, on invented sentences in the layout that its files have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from xner_ray.commands.validation.command import cross_validate
from xner_ray.commands.validation.recipe import load_experiment

JOBS = Path(__file__).parents[2] / "jobs"
LANGS = ("nya_Latn", "swh_Latn", "hau_Latn")
FILES = ("students_translate.yaml", "translate_train.yaml", "translate_train_test.yaml")
NAMES = [
    ("Nora", "PER"),
    ("Nairobi", "LOC"),
    ("Unesco", "ORG"),
    ("Amina", "PER"),
    ("Lilongwe", "LOC"),
    ("Simba", "ORG"),
]


def _conll(sentences: list[list[tuple[str, str]]], between: str) -> str:
    return "\n".join("".join(f"{word}{between}{tag}\n" for word, tag in sentence) for sentence in sentences)


def _house(folder: Path) -> Path:
    """Lay the recipes beside a folder runs/ with the data that they name."""
    (folder / "jobs").mkdir()
    for name in FILES:
        shutil.copy(JOBS / name, folder / "jobs" / name)
    given, tests = folder / "runs/translate_train_input", folder / "runs/masakhaner2_test"
    given.mkdir(parents=True)
    tests.mkdir()
    english = [[("We", "O"), ("saw", "O"), (name, f"B-{label}"), (".", "O")] for name, label in NAMES * 2]
    other = [[(name, f"B-{label}"), ("tinaona", "O"), (".", "O")] for name, label in NAMES * 2]
    dated = [[*sentence[:-1], ("lero", "B-DATE"), (".", "O")] for sentence in other[:6]]
    for short, code in (("nya", "nya_Latn"), ("swa", "swh_Latn"), ("hau", "hau_Latn")):
        (given / f"{short}.en.conll").write_text(_conll(english, "\t"))
        (given / f"{short}.mt.conll").write_text(_conll(other, "\t"))
        (tests / f"{code}.txt").write_text(_conll(dated, " "))
    return folder / "jobs/students_translate.yaml"


def test_the_experiment_has_the_arms_that_its_page_compares() -> None:
    experiment = load_experiment(JOBS / "students_translate.yaml")
    arms = ["english", "tagged", "projected", "soft", "both", "taught", "silver", "masked", "disputed", "weighted"]
    assert list(experiment.students) == [*arms, "everyone"]
    assert (experiment.folds, experiment.seeds, experiment.against) == (None, [0, 1, 2], "english")


@pytest.mark.long
def test_every_arm_is_trained_and_scored(tmp_path: Path, ray_here: None) -> None:
    changed = ["seeds=[0]", "student.fit.epochs=1"]
    cross_validate(_house(tmp_path), tmp_path / "out", overrides=changed, samples=0)
    cells = json.loads((tmp_path / "out/compare.json").read_text())["cells"]
    assert {(cell["student"], cell["lang"]) for cell in cells} == {
        (student, lang) for student in load_experiment(JOBS / FILES[0]).students for lang in LANGS
    }
    assert next(cell["f1"] for cell in cells if cell["student"] == "tagged" and cell["lang"] == "swh_Latn") > 0.5
    projected = json.loads((tmp_path / "out/runs/projected_nya_Latn/report.json").read_text())
    assert projected["rows"] == {"read": 12, "emitted": 12, "rejected": 0}
