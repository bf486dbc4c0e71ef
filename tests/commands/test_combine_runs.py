"""The command combine on synthetic runs, with tasks that run here. `test_rematch.py` has rematch."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_rows import table_from_rows
from synthetic_runs import ROWS, SPANISH, digests, killed_again, make_run

from xner_ray.commands import inspect
from xner_ray.commands.combine import combine
from xner_ray.commands.export import export
from xner_ray.commands.rematch import rematch
from xner_ray.data.row import row_schema
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.recipe.model import Recipe
from xner_ray.run import publish
from xner_ray.run.folder import RunFolder
from xner_ray.run.parts import read_part, write_part
from xner_ray.run.whole import counters as part_counters


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """One run matched in two ways: by the default, and without a prior, where the Rhine finds no place."""
    source = make_run(tmp_path / "source", ["match.min_score=0.6"])
    made = []
    for name, prior in (("with", "auto"), ("without", "none")):
        made.append(tmp_path / name)
        rematch(source, made[-1], overrides=[f"match.prior={prior}"])
    return made


def _projected(run: Path) -> dict[tuple[str, int], set[tuple[int, int, str]]]:
    found: dict[tuple[str, int], set[tuple[int, int, str]]] = {}
    for file in sorted(run.glob("data/*/*.parquet")):
        for row in read_part(str(file)).to_pylist():
            found[row["lang"], row["row"]] = {(s["start"], s["end"], s["label"]) for s in row["spans"]}
    return found


def test_union_and_vote_of_two_runs(runs: list[Path], tmp_path: Path) -> None:
    first, second = map(_projected, runs)
    assert first != second
    report = combine(runs, tmp_path / "union")
    combine(runs, tmp_path / "vote", method="vote")
    rows = report["rows"]
    assert rows["read"] == rows["emitted"] + rows["rejected"] == sum(map(len, ROWS.values()))
    union, vote = _projected(tmp_path / "union"), _projected(tmp_path / "vote")
    clash = ("spa_Latn", 7)  # "de Ruhr" and "Ruhr"
    assert union == {key: first[key] | second[key] for key in first} | {clash: {(1, 2, "PER")}}
    assert vote == {key: first[key] & second[key] for key in first} | {clash: {(1, 2, "PER")}}
    assert [e.lang for e in inspect.evaluate(tmp_path / "union")] == ["spa_Latn", "swh_Latn"]
    card = (tmp_path / "union" / "README.md").read_text()
    assert "union of the runs 1 with, 1 without" in card
    assert "multilingual-e5-small" in card  # the licence of a model that the runs used
    assert inspect.sample(tmp_path / "union", "spa_Latn", 3)
    inspect.explain(tmp_path / "union", "s3")


@pytest.mark.slow
def test_killed_and_run_again_a_combined_run_is_the_undisturbed_one(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine(runs, tmp_path / "whole")
    kills = sum(1 for _ in killed_again(monkeypatch, lambda: combine(runs, tmp_path / "killed")))
    assert kills > 5
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    again = combine(runs, tmp_path / "killed")
    assert again.to_dict() == json.loads((tmp_path / "killed" / "report.json").read_text()) | {"max_reject_rate": 0.01}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0]}, "2 runs and the weights"),
        ({"weights": [1.0, 0.0]}, "one above 0"),
        ({"weights": [1.0, float("nan")]}, "one above 0"),
        ({"method": "mean"}, "method is 'mean'; allowed: union, vote"),
    ],
)
def test_method_and_weights_are_checked(
    runs: list[Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        combine(runs, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_other_weights_are_another_run(runs: list[Path], tmp_path: Path) -> None:
    combine(runs, tmp_path / "new")
    with pytest.raises(RunFolderError, match="weights"):
        combine(runs, tmp_path / "new", weights=[2.0, 1.0])


def test_runs_that_cannot_be_joined_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two or more"):
        combine(runs[:1], tmp_path / "new")
    with pytest.raises(RunFolderError, match="fills another folder"):
        combine(runs, runs[0])
    with pytest.raises(RunFolderError, match="not sealed yet"):
        combine([runs[0], tmp_path / "source"], tmp_path / "new")
    rematch(make_run(tmp_path / "other", rows=SPANISH), tmp_path / "spanish")
    with pytest.raises(RunFolderError, match="has other units than"):
        combine([runs[0], tmp_path / "spanish"], tmp_path / "new")


@pytest.mark.slow
def test_a_combined_run_is_not_rematched(runs: list[Path], tmp_path: Path) -> None:
    combine(runs, tmp_path / "new")
    with pytest.raises(RunFolderError, match="was not matched"):
        rematch(tmp_path / "new", tmp_path / "newer")


@pytest.mark.slow
def test_a_combined_run_grows_with_its_runs(tmp_path: Path) -> None:
    for name, rows in (("source", SPANISH), ("source", ROWS)):
        source = make_run(tmp_path / name, ["match.min_score=0.6"], rows=rows)
        made = []
        for new, prior in (("with", "auto"), ("without", "none")):
            made.append(tmp_path / new)
            rematch(source, made[-1], overrides=[f"match.prior={prior}"])
        combine(made, tmp_path / "both")
    assert RunFolder(str(tmp_path / "both")).recipe().languages == list(ROWS)
    combine(made, tmp_path / "once")
    assert digests(tmp_path / "both") == digests(tmp_path / "once")
    assert len(inspect.evaluate(tmp_path / "both")) == 2


def _as_transfer(run: Path, path: Path) -> Path:
    """The same rows as model transfer would leave them: spans without a source, no source side."""
    shutil.copytree(run, path)
    folder = RunFolder(str(path))
    sections = {"direction": "test", "projector": "transfer", "target_tag": {"engine": "spacy"}}
    given = {"path": "/nowhere/{lang}", "lang": list(ROWS), "labels": {"keep": ["LOC", "PER"]}}
    recipe = Recipe.model_validate({**sections, "input": given})
    folder.begin(recipe, folder.keys(), folder.read_record("units.parquet"), 10)
    for part in {**folder.parts(), **folder.refined()}.values():
        table, counters = read_part(part), part_counters(part)
        rows = table.to_pylist()
        for row in rows:
            row |= dict.fromkeys(("source_text", "source_tokens", "source_spans", "unprojected"))
            row["spans"] = row["spans"] and [{**span, "source": None} for span in row["spans"]]
        write_part(part, table_from_rows(rows, row_schema()), counters)
    publish.seal(folder.root, [], {})
    return path


@pytest.mark.slow
def test_a_run_without_a_source_side_may_come_first(runs: list[Path], tmp_path: Path) -> None:
    """As `combine TRANSFER TRANSLATE_TEST NEW`: rows, languages and labels are those of the transfer."""
    transfer = _as_transfer(runs[1], tmp_path / "transfer")
    new = tmp_path / "new"
    report = combine([transfer, runs[0]], new)
    assert report["entities"]["source"] == 0
    assert _projected(new) == _projected_union(transfer, runs[0])
    recipe = RunFolder(str(new)).recipe()  # status, explain and the others begin with it
    assert (recipe.translate_engine, recipe.languages) == ("provided", list(ROWS))
    assert report["labels"]["kept"] == ["LOC", "PER"]
    assert len(inspect.evaluate(new)) == 2
    assert inspect.explain(new, "s3")
    assert inspect.status(new)
    (conll, *_) = export(new, output=tmp_path / "conll")
    assert "B-PER" in Path(conll).read_text()
    assert "text: given" in (new / "README.md").read_text()
    report = combine([new, runs[0]], tmp_path / "again")  # a combined run is a run
    assert report["entities"]["projected"] > 0
    RunFolder(str(tmp_path / "again")).recipe()


def _projected_union(*runs: Path) -> dict[tuple[str, int], set[tuple[int, int, str]]]:
    first, second = map(_projected, runs)
    clash = ("spa_Latn", 7)
    return {key: first[key] | second[key] for key in first} | {clash: {(1, 2, "PER")}}


def test_no_score_of_a_combined_run_is_a_doubtful_probability(runs: list[Path], tmp_path: Path) -> None:
    doubting = tmp_path / "doubting"
    rematch(tmp_path / "source", doubting, overrides=["output.doubtful=1.0"])
    combine([doubting, runs[0]], tmp_path / "union")
    assert RunFolder(str(tmp_path / "union")).recipe().output.doubtful == 0
    assert "score below 1" in (doubting / "README.md").read_text(encoding="utf-8")
    assert "score below" not in (tmp_path / "union" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_incomplete_rows_of_a_combined_run_are_what_the_first_run_says(tmp_path: Path) -> None:
    source = make_run(tmp_path / "source", ["match.min_score=0.6"])
    made = [tmp_path / "with", tmp_path / "without"]
    for new, prior in zip(made, ("auto", "none"), strict=True):
        rematch(source, new, overrides=[f"match.prior={prior}", "output.incomplete=split"])
    combine(made, tmp_path / "vote", method="vote")
    (file,) = (tmp_path / "vote").glob("data/spa_Latn/incomplete-*")
    lost = {" ".join(row["source_tokens"]): row["unprojected"] for row in read_part(str(file)).to_pylist()}
    assert {loss["reason"] for loss in lost["of the Rhine"]} == {"low_score"}  # a run says why
    folder = RunFolder(str(made[0]))
    recipe = folder.recipe()
    changed = recipe.model_copy(update={"output": recipe.output.model_copy(update={"incomplete": "reject"})})
    folder.begin(changed, folder.keys(), folder.read_record("units.parquet"), 10)
    publish.seal(folder.root, [], {})
    report = combine(made, tmp_path / "rejected", method="vote")
    assert report["incomplete_rows"] == 0
    assert report["rejects"]["incomplete"] > 0


@pytest.mark.slow
def test_runs_with_other_columns_are_refused(runs: list[Path], tmp_path: Path) -> None:
    folder = RunFolder(str(runs[1]))
    sink = io.BytesIO()
    index = replace(inspect.read_index(folder), extra=[pa.field("extra", pa.string())])
    pq.write_table(index.to_table(), sink)
    folder.begin(folder.recipe(), folder.keys(), sink.getvalue(), 10)
    publish.seal(folder.root, [], {})
    with pytest.raises(RunFolderError, match="carries other columns"):
        combine(runs, tmp_path / "new")
    assert not (tmp_path / "new").exists()
