"""Students by cross-validation: what an experiment file may say, and a small one for real."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from given_files import write_recipe
from rich.console import Console
from tiny_encoders import tiny
from typer.testing import CliRunner

from xner_ray import cli
from xner_ray.commands.validation.command import _is_one_document, _resampled, cross_validate
from xner_ray.commands.validation.recipe import load_experiment
from xner_ray.commands.validation.trainings import trainings
from xner_ray.data.row import ROW
from xner_ray.errors import RecipeError, XnerError
from xner_ray.models import hub

STUDENTS: dict[str, Any] = {
    "english": {"data": [{"run": "toy", "side": "source"}]},
    "gold": {"data": [{"run": "toy", "langs": ["{lang}"], "labels": "gold"}]},
}


def _written(folder: Path, **changes: Any) -> Path:
    lines, target, links = [], [], []
    for number in range(40):
        name, label = ("zz", "PER") if number % 2 else ("qq", "LOC")
        words = [("a", "O"), (name, f"B-{label}"), ("bee"[: 1 + number % 3], "O")]
        words = words[number % 3 :] + words[: number % 3]
        lines += [f"{word}\t{tag}" for word, tag in words] + [""]
        target += [f"{word}\t{tag}" for word, tag in reversed(words)] + [""]
        links.append("0-2 1-1 2-0")
    for name, text in (("en.conll", lines), ("es.conll", target), ("links", links)):
        (folder / name).write_text("\n".join(text) + "\n")
    given = {"path": "en.conll", "parallel": {"spa_Latn": "es.conll"}, "links": "links"}
    match = {"scores": {"align": 1}, "prior": "none"}
    write_recipe(folder / "toy.yaml", input=given, targets=["spa_Latn"], match=match)
    experiment: dict[str, Any] = {
        "runs": {"toy": "toy.yaml"},
        "languages": ["spa_Latn"],
        "evaluate": [{"run": "toy"}],
        "folds": 2,
        "seeds": [0, 1],
        "students": STUDENTS,
        "student": {
            "model": {"encoder": "encoder", "frozen": 1},
            "fit": {"epochs": 40, "learning_rate": 0.01, "head_learning_rate": 0.02, "batch_sentences": 8},
        },
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**experiment, **changes}, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "englich"}, "against: 'englich' is no student.*did you mean 'english'"),
        ({"students": {**STUDENTS, "../x": STUDENTS["gold"]}}, "cannot be a folder's name"),
        ({"seeds": [1, 1]}, "seeds: 1 is listed twice"),
        ({"languages": ["spa_Latn", "spa_Latn"]}, "languages: spa_Latn is listed twice"),
        ({"student": {"fit": {"seed": 3}}}, "students.english: seed: the experiment has seeds"),
        ({"students": {**STUDENTS, "other": {"resources": {"gpus": 1}}}}, "is trained on one core of a CPU"),
        (
            {"students": {**STUDENTS, "other": {"folds": {"n": 3}}}},
            "students.other: folds: is given once, for the whole experiment",
        ),
        ({"controls": {"gold": "silver"}}, "controls: 'silver' is no student"),
        ({"controls": {"gold": "english"}}, r"its control are two, and neither is the reference .english."),
        (
            {"students": {**STUDENTS, "t": {"tagged": "toy", "fit": {}}}},
            "students.t: fit: what is tagged is not trained",
        ),
        ({"students": {**STUDENTS, "t": {"tagged": ["toy"]}}}, "students.t.tagged: a run, by its name or folder"),
        ({"fold": 3}, "unknown key 'fold'.*did you mean 'folds'"),
    ],
)
def test_wrong_experiments_are_refused(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_experiment(_written(tmp_path, **changes))


def test_a_wrong_student_is_named_before_any_work(tmp_path: Path) -> None:
    tiny(tmp_path / "encoder", "bert")
    path = _written(tmp_path, students={**STUDENTS, "odd": {"data": [{"run": "toy", "sides": "source"}]}})
    with pytest.raises(RecipeError, match=r"students.odd: .*unknown key 'data.0.sides'"):
        cross_validate(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students": {**STUDENTS, "odd": {"data": [{"run": "toi"}]}}}, "students.odd: run: 'toi' is neither .*'toy'"),
        ({"evaluate": [{"run": "toy", "langs": ["por_Latn"]}]}, "no source has gold of spa_Latn"),
        ({"evaluate": [{"run": "toy"}, {"run": "toy"}]}, "spa_Latn is in two sources"),
        ({"student": {"fit": None, "model": None}}, r"students.english: .*model"),
        (
            {"folds": None},
            "students.english: it would learn from .*out/runs/toy, which evaluate scores it on; give folds",
        ),
        (
            {"folds": None, "evaluate": [{"input": {"path": "./es.conll", "lang": "spa_Latn"}}]}
            | {
                "students": {
                    **STUDENTS,
                    "odd": {
                        "data": [{"run": "toy"}],
                        "validation": [{"input": {"path": "es.conll", "lang": "spa_Latn"}}],
                    },
                }
            },
            "students.odd: it would learn from .*es.conll, which evaluate scores it on",
        ),
    ],
)
def test_what_cannot_be_is_said_before_any_work(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    tiny(tmp_path / "encoder", "bert")
    with pytest.raises(RecipeError, match=message):
        cross_validate(_written(tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_student_of_one_language_is_scored_on_it_alone(tmp_path: Path) -> None:
    gold = {"input": {"path": "es.conll", "lang": "spa_Latn"}}
    path = _written(
        tmp_path,
        languages=["spa_Latn", "por_Latn", "glg_Latn"],
        evaluate=[gold, {"run": "toy", "langs": ["glg_Latn", "por_Latn", "swh_Latn"]}],
        student={"model": {"encoder": "encoder", "frozen": 1}, "fit": {"epochs": 40, "learning_rate": 0.01}},
        students={**STUDENTS, "short": {**STUDENTS["gold"], "fit": {"epochs": 3}, "model": {"layers": 2}}},
    )
    tiny(tmp_path / "encoder", "bert")
    items = trainings(load_experiment(path), tmp_path, "/out", print)
    assert len(items) == 2 * 2 * 7 and len({each.path for each in items}) == len(items)
    for item in items:
        found = [
            lang for source in item.training.evaluate for lang in source.langs or [source.input and source.input.lang]
        ]
        lang = next((name for name in ("spa_Latn", "por_Latn", "glg_Latn") if f"/{name}/" in item.path), None)
        assert found == ([lang] if lang else ["spa_Latn", "por_Latn", "glg_Latn"])
        short = item.student == "short"
        fit, model = item.training.fit, item.training.model
        assert (fit.epochs, fit.learning_rate) == (
            3 if short else 40,
            0.01,
        )  # what is its own is added to what all have
        assert (model.layers, model.frozen, model.encoder) == (2 if short else None, 1, str(tmp_path / "encoder"))


def test_the_entities_of_a_run_are_read_of_the_language_alone(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        runs={"toy": "toy.yaml", "direct_spa_Latn": "toy.yaml", "direct_por_Latn": "toy.yaml"},
        languages=["spa_Latn", "por_Latn"],
        students={**STUDENTS, "direct": {"tagged": "direct_{lang}"}},
    )
    tiny(tmp_path / "encoder", "bert")
    items = [item for item in trainings(load_experiment(path), tmp_path, "/out", print) if item.student == "direct"]
    found = {(item.lang, source.run, *source.langs) for item in items for source in item.training.data}
    assert found == {(lang, f"/out/runs/direct_{lang}", lang) for lang in ("spa_Latn", "por_Latn")}


def test_sentences_are_drawn_where_all_are_of_one_document() -> None:
    def table(lang: str, docs: list[str]) -> pa.Table:
        rows = [{"lang": lang, "doc_id": doc, "id": f"{n}", "gold_spans": []} for n, doc in enumerate(docs)]
        return pa.Table.from_pylist(rows, schema=pa.schema([ROW.field(name) for name in rows[0]]))

    given = [table("spa_Latn", ["a", "a"]), table("swh_Latn", ["a", "b"])]
    first, second = _resampled(given)
    assert first.column("doc_id").to_pylist() == ["0", "1"] and second.column("doc_id").to_pylist() == ["a", "b"]
    assert [_is_one_document(each) for each in given] == [True, False]


@pytest.mark.long
def test_students_are_trained_without_what_they_are_scored_on(
    tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an encoder of the hub, which the driver alone asks: workers find a copy in the experiment's folder."""
    pinned = f"org/encoder@{'a' * 40}"
    monkeypatch.setattr(hub, "pin", lambda name, say: (pinned, "a" * 40))
    path, out = _written(tmp_path), tmp_path / "out"
    monkeypatch.setattr(hub, "mirror", lambda name, models: {pinned: f"{models}/a"}.get(name, name))
    tiny(out / "models" / "a", "bert")
    text = path.read_text()
    path.write_text(text.replace("encoder: encoder", "encoder: org/encoder"))
    assert path.read_text() != text
    found = cross_validate(path, out, samples=200, console=(told := Console(file=io.StringIO(), width=200)))
    lines = told.file.getvalue().splitlines()
    told_of = [line for line in lines if "of 8 trained" in line]
    assert [line.partition("; ")[2].split(",")[0] for line in told_of] == [f"{n} of 8 trained" for n in range(1, 9)]
    assert sum(": F1 spa_Latn " in line for line in told_of) == 4, "where a cell has all its folds"
    files = sorted((out / "predictions").rglob("*.parquet"))
    assert len(files) == 2 * 2 * 2
    rows = [pq.read_table(file).column("row").to_pylist() for file in files[:2]]
    assert sorted(rows[0] + rows[1]) == list(range(40))
    assert [run.name for run in found.comparison.runs] == ["english", "gold"]
    (language,) = found.comparison.languages
    assert language.items == 40
    assert language.results[1].rates.f1 > 0.8
    assert found.pooled["gold"].items == 40
    pooled = found.pooled["gold"].second
    assert pooled == pytest.approx(sum(found.scores["gold"].values()) / 2, abs=0.02)
    text = (out / "compare.md").read_text()
    assert "| english |" in text
    written = json.loads((out / "compare.json").read_text())
    assert written["seeds"]["gold"].keys() == {"0", "1"}
    kept = {file: json.loads(file.read_text()) for file in sorted((out / "cells").rglob("*.json"))}
    assert [str(file.relative_to(out / "cells")) for file in kept] == [
        f"{student}/spa_Latn/seed-{seed}.json" for student in ("english", "gold") for seed in (0, 1)
    ]
    assert list(kept.values()) == written["cells"]
    assert all(cell["exact"] / cell["gold"] == cell["recall"] and cell["gold"] == 40 for cell in kept.values())

    # the same command trains only what is missing: one that was lost, none for a new sample of the bootstrap
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    before = found.scores
    lost = out / "cells/english/spa_Latn/seed-0.json"
    lost.write_text("{}")
    (out / "cells/gone").mkdir()
    (out / "cells/gone/seed-0.json").write_text("{}")
    result = CliRunner().invoke(cli.app, ["cross-validate", str(path), str(out), "--samples", "100"])
    assert result.exit_code == 0, result.output
    assert "1 of 8 students to train" in result.output
    f1 = 100 * kept[lost]["f1"]
    assert f"english, seed 0, fold 0: F1 spa_Latn {f1:.1f}; 1 of 1 trained\n" in result.output.replace(
        "\n1 of", " 1 of"
    )
    assert {file: json.loads(file.read_text()) for file in (out / "cells").rglob("*.json")} == kept
    assert {file for file in files if file.stat().st_mtime_ns != times[file]} == {files[0]}
    again = cross_validate(path, out, samples=100)
    assert again.scores == before

    # by domain, and with a control: nothing is trained for that, but the control
    changed = ["domains={most: '*[159]', others: '*[37]'}", "controls={gold: plain}"]
    changed.append(f"students.plain={json.dumps(STUDENTS['english'])}")
    judged = cross_validate(path, out, overrides=changed, samples=200)
    assert [one.lang for one in judged.comparison.languages] == ["spa_Latn most", "spa_Latn others"]
    assert [one.items for one in judged.comparison.languages] == [24, 16]
    assert [(one.lang, one.run, one.control_run) for one in judged.verdicts] == [
        ("spa_Latn most", "gold", "plain"), ("spa_Latn others", "gold", "plain"), (None, "gold", "plain")
    ]  # fmt: skip
    assert all(one.text.difference == pytest.approx(one.control.difference) for one in judged.verdicts)
    assert "beats english?" in (out / "compare.md").read_text()
    assert len(json.loads((out / "compare.json").read_text())["teachers"]) == 3
    with pytest.raises(RecipeError, match=r"domains\.none: 'x-\*' matches no document; their ids are as "):
        cross_validate(path, out, overrides=["domains={none: 'x-*'}"], samples=0)

    # a test set of its own: no folds, one training a seed, and beside it a run's own entities, which nobody trains
    changed = [
        "folds=null",
        f"runs.test={tmp_path}/toy.yaml",
        "evaluate=[{run: test}]",
        "students.tagged={tagged: test}",
    ]
    tiny(tmp_path / "alone" / "models" / "a", "bert")
    alone = cross_validate(path, tmp_path / "alone", overrides=[*changed, "student.fit.epochs=2"], samples=0)
    assert len(list((tmp_path / "alone" / "predictions").rglob("*.parquet"))) == 3 * 2
    cells = [cell for cell in alone.cells if cell.student == "tagged"]
    assert [(cell.lang, cell.seed, cell.f1) for cell in cells] == [("spa_Latn", 0, 1.0), ("spa_Latn", 1, 1.0)]
    assert "| tagged | spa_Latn | 100.0 | 100.0 | 100.0, 100.0 | 100.0 |" in (tmp_path / "alone/compare.md").read_text()

    with pytest.raises(XnerError, match=r"8 of 8 students(?s:.*)seed 0, fold 0: data: no sentence(?s:.*)and 3 more$"):
        cross_validate(path, out, overrides=["student={labels: {keep: [X]}}"])
