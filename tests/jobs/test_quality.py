"""What the one default setting reaches on real text, end to end; docs/quality.md has the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ortools.sat.python import cp_model

import xner_ray
from xner_ray.data.row import SCALE
from xner_ray.match import projection
from xner_ray.match import rows as rows_of
from xner_ray.run.folder import RunFolder
from xner_ray.run.parts import read_part

pytestmark = pytest.mark.long
ONE_POOL = ["align.method=mwmf"]  # so that every hard method can be had by rematching


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> dict[str, Path]:
    """Europarl (es) and PUD (pt, sv): gold English entities onto human translations."""
    folder = tmp_path_factory.mktemp("quality")
    europarl, pud = shared_data / "europarl-ner", shared_data / "uner-pud"
    recipes: dict[str, dict[str, Any]] = {
        "europarl": {
            "input": {
                "path": str(europarl / "en-europarl.test.conll02"),
                "format": "conll",
                "parallel": {"spa_Latn": str(europarl / "es-europarl.test.conll02")},
            },
            "targets": ["spa_Latn"],
        },
        "pud": {
            "input": {
                "path": str(pud / "en_pud-ud-test.iob2"),
                "format": "uner",
                "parallel": {
                    "por_Latn": str(pud / "pt_pud-ud-test.iob2"),
                    "swe_Latn": str(pud / "sv_pud-ud-test.iob2"),
                },
            },
            "targets": ["por_Latn", "swe_Latn"],
        },
    }
    for name, recipe in recipes.items():
        xner_ray.project(recipe, folder / name, overrides=ONE_POOL)
    return {name: folder / name for name in recipes}


def _f1(run: Path) -> dict[str, float]:
    return {found.lang: found.overall.f1 for found in xner_ray.evaluate(run)}


def test_strict_span_f1_of_the_default(runs: dict[str, Path]) -> None:
    found = {**_f1(runs["europarl"]), **_f1(runs["pud"])}
    print(found)
    floors = {"spa_Latn": 0.95, "por_Latn": 0.825, "swe_Latn": 0.85}
    assert {lang: f1 for lang, f1 in found.items() if f1 < floors[lang]} == {}


def test_scores_are_probabilities(runs: dict[str, Path]) -> None:
    """By maps that have seen these sets too; docs/quality.md has what others reach."""
    most = {"spa_Latn": 0.15, "por_Latn": 0.06, "swe_Latn": 0.06}
    for run in runs.values():
        for found in xner_ray.evaluate(run):
            figures = found.calibration
            print(found.lang, figures)
            assert figures is not None and figures.auroc is not None
            assert figures.entities == found.projected
            assert figures.error <= most[found.lang]
            assert figures.auroc >= 0.78


@pytest.mark.parametrize("scores", [{"soft": 1.0}, {"align": 1.0}])
def test_exact_equals_cp_sat_on_every_sentence(runs: dict[str, Path], scores: dict[str, float]) -> None:
    clashes = 0
    for run in runs.values():
        folder = RunFolder(str(run))
        settings = folder.recipe().match.model_copy(update={"scores": scores, "min_score": 0.0})
        for part in folder.parts().values():
            rows = rows_of.read(read_part(part))
            scored, found = projection.matched(rows, settings, "itermax", None)
            assert found.optimal.all()
            clashes += sum(name not in ("none", "independent") for name in found.solver)
            columns = (scored.entity, scored.start, scored.end, scored.score)
            cells: dict[int, list[tuple[int, int, int, int]]] = {}
            for cell in zip(*(column.tolist() for column in columns), strict=True):
                cells.setdefault(int(rows.batch.row[cell[0]]), []).append(cell)
            for row, own in cells.items():
                assert _cp_sat(own) == round(found.objective[row] * SCALE)
    assert clashes > 10


def _cp_sat(cells: list[tuple[int, int, int, int]]) -> int:
    """The optimum of the problem as method.md 4.1 writes it, form 2c."""
    model = cp_model.CpModel()
    x = [model.new_bool_var("") for _ in cells]
    for entity in {cell[0] for cell in cells}:
        model.add_at_most_one(x[i] for i, cell in enumerate(cells) if cell[0] == entity)
    for word in range(max(cell[2] for cell in cells)):
        model.add_at_most_one(x[i] for i, cell in enumerate(cells) if cell[1] <= word < cell[2])
    model.maximize(sum(cell[3] * x[i] for i, cell in enumerate(cells)))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    return round(solver.objective_value)


def test_the_builtin_tagger_on_text_that_chose_nothing(tmp_path: Path) -> None:
    """PUD is in none of its training data, and no setting was chosen on it."""
    path = Path(__file__).parents[2] / "jobs/data/uner-pud/en_pud-ud-test.iob2"
    given = {"path": str(path), "labels": {"keep": ["PER", "LOC", "ORG"]}}
    recipe = {"direction": "test", "projector": "transfer"}
    xner_ray.project({**recipe, "input": given, "target_tag": {"engine": "builtin"}}, tmp_path / "run")
    found = _f1(tmp_path / "run")
    print(found)
    assert found["eng_Latn"] >= 0.72
