"""The command loop on given links, so that no aligner runs, with students whose tags are known letter by letter.

In the toy language words of `a` are persons and words of `b` are places. Links of every fifth place scatter, so that
the first projection leaves it out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from synthetic_runs import Killed, digests
from tiny_encoders import tiny
from tiny_taggers import table_model
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands import inspect
from xner_ray.commands.loop import command, expected
from xner_ray.commands.loop.labels import read_labels
from xner_ray.commands.loop.recipe import Loop, load_loop
from xner_ray.commands.loop.report import Looped
from xner_ray.errors import InputError, RecipeError, RunFolderError, XnerError
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.train.sentences import documents, fold_of

JOBS = Path(__file__).parents[2] / "jobs"
SENTENCES = 80
NAMES = ["B-PER", "O", "I-LOC", "I-PER", "B-LOC"]
GOOD = {"a": {"B-PER": 0.9}, "b": {"B-LOC": 0.9}}
POOR = {"a": {"B-PER": 0.9}}  # knows no place
WORSE = {"b": {"B-PER": 0.9}}
# The tagger counts enough to place what has scattered links, and to drop what it does not know
REMATCH = {"match.candidates": "window+tagger", "match.scores": {"soft": 1, "tagger": 3}, "match.min_score": 0.8}


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("students")
    tables = {"good": GOOD, "poor": POOR, "worse": WORSE}
    return {name: Path(table_model(folder / name, NAMES, table)) for name, table in tables.items()}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A loop's file, and the text and links of its run."""
    monkeypatch.setattr(command.ray_cluster, "cluster", lambda address: nullcontext())
    source, target, gold, links = [], [], [], []
    for number in range(SENTENCES):
        name, place = "a" * (1 + number % 3), "b" * (1 + number % 4)
        source += [f"{word}\t{tag}" for word, tag in ((name, "B-PER"), ("saw", "O"), (place, "B-LOC"))] + [""]
        target.append((place, "x", name))
        gold += [f"{place}\tB-LOC", "x\tO", f"{name}\tB-PER", ""]
        links.append("0-2 1-1 2-0" + " 2-1" * (number % 5 == 0))
    (tmp_path / "en.conll").write_text("\n".join(source))
    (tmp_path / "xx.conll").write_text("\n".join(gold))
    (tmp_path / "links").write_text("\n".join(links) + "\n")
    recipe = {
        "input": {"path": "en.conll", "parallel": {"spa_Latn": "xx.conll"}, "links": "links"},
        "targets": ["spa_Latn"],
        "align": {"backend": "provided"},
        "match": {"prior": "none", "min_score": 0.9},
        "engine": {"executor": "inline", "unit_rows": 30},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    loop = {"recipe": "run.yaml", "rematch": REMATCH, "patience": 2, "settled": 0.0}
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(loop))
    return tmp_path


class Teacher:
    """Stands for the command train: copies a student, another in each round, and finishes its folder as train does."""

    def __init__(self, students: Mapping[str, Path], *names: str) -> None:
        self.students, self.names, self.trained = students, names, list[str]()

    def __call__(self, source: Mapping[str, Any], model_dir: str, *, console: Console | None) -> None:
        folder = Path(model_dir)
        number = int(folder.parent.name.removeprefix("round-"))
        assert source["data"][0]["run"] == str(folder.parent / "run")
        if (folder / "SHA256SUMS").exists():
            return
        self.trained.append(f"{number}/{folder.name}")
        shutil.copytree(self.students[self.names[min(number, len(self.names) - 1)]], folder, dirs_exist_ok=True)
        (folder / "SHA256SUMS").write_text(f"{self.names} {number} {source['folds']}")


def looped(toy: Path, teacher: Teacher, name: str = "out", **options: Any) -> tuple[Looped, str]:
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        found = command.loop(toy / "loop.yaml", toy / name, train=teacher, samples=200, console=console, **options)
    return found, console.export_text()


def test_a_round_that_gains_is_kept_and_fills_what_was_missing(toy: Path, students: dict[str, Path]) -> None:
    found, said = looped(toy, teacher := Teacher(students, "good"))
    assert teacher.trained == [f"{n}/{name}" for n in range(3) for name in ("first", "second", "judge")]
    assert [one.kept for one in found.rounds] == [False, True, False]  # round 2 is as good as round 1
    assert (found.best, found.stopped, found.best_run) == (1, False, str(toy / "out" / "round-1/run"))
    missing = [one.languages["spa_Latn"]["entities"]["unprojected"] for one in found.rounds]
    assert missing == [{"low_score": SENTENCES // 5}, {}, {}]
    f1 = [one.projected[0].overall.f1 for one in found.rounds]
    assert f1[0] < f1[1] == 1.0
    assert "round 1: expected F1 +" in said
    assert "a gain: it is kept" in said
    assert "| low_score 16 |" in (toy / "out" / "loop.md").read_text()
    plain = json.loads((toy / "out" / "loop.json").read_text())
    assert plain["best"] == 1
    assert plain["run"] == "round-1/run"
    assert [one["languages"]["spa_Latn"]["entities"] for one in plain["rounds"]] == [144, 160, 160]
    assert plain["rounds"][1]["change"]["expected"]["interval"]["low"] > 0
    assert plain["rounds"][2]["change"]["against"] == 1


def test_what_is_expected_of_the_first_projection_are_its_own_scores(toy: Path, students: dict[str, Path]) -> None:
    looped(toy, Teacher(students, "good"), overrides=["rounds=1"])
    folder = RunFolder(str(toy / "out" / "round-0" / "run"))
    for name, part in folder.parts().items():
        (rows,) = inspect.tables(folder, [unit for unit in inspect.read_index(folder).units if unit.name == name])
        found = expected.expect_part(part, part, None, 0.5, True, "itermax")
        scores = [[span["score"] for span in spans] for spans in rows.column("spans").to_pylist()]
        assert found.cells[:, 0].tolist() == [round(10_000 * sum(own)) for own in scores]
        assert found.cells[:, 1].tolist() == [10_000 * len(own) for own in scores]
        assert found.cells[:, 2].tolist() == [20_000] * len(scores)


def test_it_stops_where_nothing_gains(toy: Path, students: dict[str, Path]) -> None:
    found, said = looped(toy, Teacher(students, "good"), overrides=["patience=1", "rounds=5"])
    assert [one.number for one in found.rounds] == [0, 1, 2]
    assert (found.best, found.stopped) == (1, True)
    assert "no gain: round 1 stays" in said


def test_a_round_that_loses_is_never_kept(toy: Path, students: dict[str, Path]) -> None:
    """Students that know no places take them out of the next round, and judges that learn from it agree with them."""
    found, _ = looped(toy, Teacher(students, "poor"))
    assert [one.kept for one in found.rounds] == [False, False, False]
    assert found.best == 0
    assert all(one.change is not None and one.change.difference < 0 for one in found.rounds[1:])
    f1 = [one.projected[0].overall.f1 for one in found.rounds]
    assert f1[1] < f1[0]  # it would have lost


def test_a_judge_that_unlearns_forbids_a_gain(toy: Path, students: dict[str, Path]) -> None:
    """Round 1's places are likelier, but whoever learns from it labels held-out sentences worse."""
    found, _ = looped(toy, Teacher(students, "good", "worse"), overrides=["rounds=1"])
    one = found.rounds[1]
    assert one.change is not None
    assert one.held_out is not None
    assert one.change.interval is not None
    assert one.change.interval.low > 0 > one.held_out.difference
    assert found.best == 0


def test_no_student_labels_what_it_or_its_teachers_learnt_from(toy: Path, students: dict[str, Path]) -> None:
    for folds in (3, 4, 5, 8):
        loop = Loop(recipe="x", folds=folds)
        labelled = [fold for own in loop.labels.values() for fold in own]
        assert sorted(labelled) == [*range(folds)]
        learnt = {name: {*range(folds)} - {*own} for name, own in loop.parts.items()}
        assert all(learnt[name].isdisjoint(loop.labels[name]) for name in learnt)
        # The held-out fold teaches nobody, in no round
        assert all(0 not in own for own in learnt.values())
        assert learnt["first"] | learnt["second"] == learnt["judge"] == {*range(1, folds)}
    looped(toy, Teacher(students, "good"), overrides=["rounds=1"])
    folder = RunFolder(str(toy / "out" / "round-0" / "run"))
    folds = Loop(recipe="x").folds_without("judge")
    for unit in inspect.read_index(folder).units:
        (rows,) = inspect.tables(folder, [unit])
        (path,) = (toy / "out" / "round-0" / "labels").glob(f"*/{unit.name}.parquet")
        labels = read_labels(str(path))
        assert labels.num_rows == rows.num_rows
        assert labels.column("spans").null_count == 0
        assert {*fold_of(documents(rows), folds).tolist()} <= {*range(5)}


@pytest.mark.long
def test_it_goes_on_wherever_it_was_cut_to_the_same_bytes(
    toy: Path, students: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(students, "poor", "good")
    calls: Callable[[], int] = count().__next__
    real = storage.publish
    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", lambda *args: (calls(), real(*args)))
        looped(toy, teacher, overrides=["rounds=1"])
    n_changes = calls()
    assert n_changes > 25

    def bytes_of(name: str) -> list[Any]:
        runs = [digests(toy / name / f"round-{number}" / "run") for number in range(2)]
        for run in runs:  # the card names the folder of the students, as that of any model
            run.pop("README.md")
            run["sealed"] = [entry for entry in run["sealed"] if entry["file"].startswith("data/")]
        return [*((toy / name / file).read_bytes() for file in ("loop.json", "loop.md")), *runs]

    expected = bytes_of("out")
    for cut in range(0, n_changes, 4):
        left = count(-cut)

        def publish(*args: Any, left: Any = left) -> None:
            if next(left) >= 0:
                raise Killed
            real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "publish", publish)
            with pytest.raises(Killed):
                looped(toy, Teacher(students, "poor", "good"), "cut", overrides=["rounds=1"])
        looped(toy, Teacher(students, "poor", "good"), "cut", overrides=["rounds=1"])
        assert bytes_of("cut") == expected, cut
        shutil.rmtree(toy / "cut")


def test_a_second_call_has_nothing_to_do_and_may_ask_for_more_rounds(toy: Path, students: dict[str, Path]) -> None:
    looped(toy, Teacher(students, "poor", "good"), overrides=["rounds=1"])
    again = Teacher(students, "poor", "good")
    before = (toy / "out" / "loop.json").read_bytes()
    _, said = looped(toy, again, overrides=["rounds=1"])
    assert again.trained == []
    assert "is complete; nothing was left to do" in said
    assert (toy / "out" / "loop.json").read_bytes() == before
    found, said = looped(toy, again, rounds=2)
    assert again.trained == ["2/first", "2/second", "2/judge"]
    assert len(found.rounds) == 3
    assert "nothing was left to do" not in said


def test_files_of_evaluate_are_scored_and_decide_nothing(toy: Path, students: dict[str, Path]) -> None:
    loop = yaml.safe_load((toy / "loop.yaml").read_text())
    loop["evaluate"] = [{"input": {"path": "xx.conll", "lang": "spa_Latn"}}]
    (toy / "loop.yaml").write_text(yaml.safe_dump(loop))
    found, _ = looped(toy, Teacher(students, "poor", "good"), rounds=1)
    assert [round(one.files[0].overall.f1, 2) for one in found.rounds] == [0.67, 1.0]
    assert "The judge on the files of evaluate" in (toy / "out" / "loop.md").read_text()


def test_a_recipe_of_a_run_is_a_loop_with_the_defaults(toy: Path) -> None:
    planned = load_loop(toy / "run.yaml", ["settled=0", "input.limit=5"], rounds=3)
    assert planned.loop == Loop(recipe="run.yaml", settled=0, rounds=3)
    assert planned.recipe_file == str(toy / "run.yaml")
    assert planned.overrides == ["input.limit=5"]


def test_more_rounds_are_asked_for_by_the_flag_or_refused_by_its_name(toy: Path) -> None:
    assert load_loop(toy / "loop.yaml", ["rounds=5"], rounds=3).loop.rounds == 3
    with pytest.raises(RecipeError, match=r"rounds.*-1.*greater than or equal to 1"):
        load_loop(toy / "loop.yaml", rounds=-1)


@pytest.mark.parametrize("name", ["loop_lug", "loop_nya"])
def test_the_loops_in_jobs_are_read(name: str) -> None:
    planned = load_loop(JOBS / f"{name}.yaml")
    assert Path(planned.recipe_file).is_file() and planned.loop.rounds == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["round=3"], "unknown key 'round'"),
        (["folds=2"], "folds is 2"),
        (["student.data=[]"], "student: data: .*leave it out here"),
        (["student.fit.epoch=2"], "student: .*unknown key 'fit.epoch'"),
        (["rematch={align.method: argmax}"], r"rematch: align.method: allowed: match.\* and output.\*"),
        (["rematch={match.score: 1}"], "unknown key 'match.score'"),
        (
            ["rematch={match.candidates: window, match.scores: {soft: 1}}"],
            "neither match.candidates nor match.scores has tagger, so what students say would change nothing",
        ),
        (["student.model.context=caption"], "student: model.context: students of a loop read words alone"),
        (
            ["projector=marker", "align.backend=batched", "input.links=null", "input.parallel={}"],
            "takes projector: match",
        ),
    ],
)
def test_errors_come_before_any_work_in_one_line(
    toy: Path, students: dict[str, Path], overrides: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        looped(toy, Teacher(students, "good"), overrides=overrides)
    assert "\n" not in str(error.value)
    assert not (toy / "out").exists()


def test_what_a_file_gives_is_added_to_the_defaults() -> None:
    given = Loop.model_validate({"recipe": "a", "rematch": {"match.min_score": 0.7}, "filters": {"words": [3, 60]}})
    assert given.rematch == Loop(recipe="a").rematch | {"match.min_score": 0.7}
    assert (given.filters.incomplete, given.filters.mask_below, given.filters.words) == ("words", 0.5, (3, 60))


def test_students_see_the_sentences_that_were_set_aside(toy: Path, students: dict[str, Path]) -> None:
    recipe = yaml.safe_load((toy / "run.yaml").read_text())
    (toy / "run.yaml").write_text(yaml.safe_dump({**recipe, "output": {"incomplete": "reject"}}))
    found, _ = looped(toy, Teacher(students, "good"), overrides=["rounds=1"])
    emitted = [one.languages["spa_Latn"]["rows"]["emitted"] for one in found.rounds]
    assert emitted == [SENTENCES * 4 // 5, SENTENCES]
    assert [one.student[0].overall.recall for one in found.rounds] == [1.0, 1.0], "rejected rows are labelled too"


def test_a_loop_in_which_another_driver_works_is_not_discarded(toy: Path, students: dict[str, Path]) -> None:
    looped(toy, Teacher(students, "good"), overrides=["rounds=1"])
    (toy / "out" / "notes.txt").write_text("mine")
    with RunFolder(str(toy / "out/round-1/run")).claim(), pytest.raises(RunFolderError, match="works in round-1"):
        looped(toy, Teacher(students, "good"), overrides=["rounds=1"], fresh=True)
    assert (toy / "out/loop.json").exists()
    looped(toy, again := Teacher(students, "good"), overrides=["rounds=1"], fresh=True)
    assert len(again.trained) == 6
    assert (toy / "out" / "notes.txt").read_text() == "mine"


def test_other_folders_and_other_settings_are_refused(toy: Path, students: dict[str, Path]) -> None:
    (toy / "full").mkdir()
    (toy / "full" / "notes.txt").write_text("x")
    with pytest.raises(RunFolderError, match=r"holds files that are no loop \(notes.txt\)"):
        looped(toy, Teacher(students, "good"), "full")
    looped(toy, Teacher(students, "good"), overrides=["rounds=1"])
    with pytest.raises(RunFolderError, match="holds a loop with another seed; name another folder, or give --fresh"):
        looped(toy, Teacher(students, "good"), overrides=["rounds=1", "seed=3"])
    found, _ = looped(toy, again := Teacher(students, "good"), overrides=["rounds=1", "seed=3"], fresh=True)
    assert len(again.trained) == 6
    assert len(found.rounds) == 2


def test_nothing_to_measure_on_is_said_before_any_student_is_trained(toy: Path, students: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"no held-out sentence has a settled entity .* allowed: more sentences"):
        looped(toy, teacher := Teacher(students, "good"), overrides=["input.limit=1"])
    assert teacher.trained == []


def test_without_resamples_there_is_nothing_to_decide_by(toy: Path) -> None:
    result = CliRunner().invoke(cli.app, ["loop", str(toy / "loop.yaml"), str(toy / "out"), "--samples", "0"])
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "--samples is 0; a loop decides by intervals; allowed: 1 or more"
    assert not (toy / "out").exists()


def test_an_error_of_a_training_names_the_round_and_the_student(toy: Path, students: dict[str, Path]) -> None:
    class Broken(Teacher):
        def __call__(self, *args: Any, **options: Any) -> None:
            raise XnerError("no memory")

    with pytest.raises(XnerError, match=r"^round 0, student first: no memory$"):
        looped(toy, Broken(students))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
def test_a_loop_with_real_students(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train, a tiny encoder, the command line, and the function of Python on what it has made."""
    monkeypatch.undo()
    tiny(toy / "encoder", "bert")
    loop = yaml.safe_load((toy / "loop.yaml").read_text())
    fit = {"epochs": 12, "learning_rate": 0.01, "head_learning_rate": 0.02, "batch_sentences": 8}
    model = {"encoder": "encoder", "layers": 3, "frozen": 1, "dropout": 0.0}
    loop["student"] = {"model": model, "fit": fit, "resources": {"threads": 1, "cpus": 0.5}}
    (toy / "loop.yaml").write_text(yaml.safe_dump({**loop, "rounds": 1}))
    result = CliRunner().invoke(cli.app, ["loop", str(toy / "loop.yaml"), str(toy / "out"), "--samples", "200"])
    assert result.exit_code == 0, result.output
    assert "loop.md, loop.json and the rounds; keep" in " ".join(result.output.split())
    found = xner_ray.loop(toy / "loop.yaml", toy / "out", samples=200)
    assert len(found.rounds) == 2
    assert found.rounds[0].student[0].overall.f1 > 0.8
    # These students say less than the links, so that round 1 loses; what is kept does not
    f1 = [one.projected[0].overall.f1 for one in found.rounds]
    assert f1[found.best] >= f1[0]
