"""The page about students says what the kept cells say."""

import json
from pathlib import Path

import pytest
import students_page
from students_page import CELLS, LANGUAGES, PAGE, STUDENTS, page, table, take


def test_the_table_is_that_of_the_cells() -> None:
    found = page(PAGE.read_text("utf-8"), json.loads(CELLS.read_text("utf-8")))
    assert PAGE.read_text("utf-8") == found, "write it anew: python tests/helpers/students_page.py --write"


def test_cells_add_up() -> None:
    cells = json.loads(CELLS.read_text("utf-8"))
    places = [(cell["student"], cell["lang"], cell["seed"]) for cell in cells]
    assert len(set(places)) == len(places) and {lang for _, lang, _ in places} == set(LANGUAGES)
    for cell in cells:
        assert cell["student"] in STUDENTS
        assert cell["precision"] == pytest.approx(cell["exact"] / cell["predicted"])
        assert cell["f1"] == pytest.approx(2 * cell["exact"] / (cell["predicted"] + cell["gold"]))


def test_cells_of_an_experiment_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students_page, "CELLS", tmp_path / "kept.json")
    for student, f1 in (("projected", 0.5), ("english", 0.25), ("english", 0.35)):
        cell = {"student": student, "lang": "nya_Latn", "seed": 0, "f1": f1}
        (tmp_path / "cells").mkdir(exist_ok=True)
        (tmp_path / "cells" / f"{student}.json").write_text(json.dumps(cell))
        take(tmp_path / "cells")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [(cell["student"], cell["f1"]) for cell in kept] == [("english", 0.35), ("projected", 0.5)]
    assert "| (a) English gold alone | 35.0 (35.0) |  |  |  |\n" in table(kept)
