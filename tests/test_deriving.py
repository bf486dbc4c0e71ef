"""The command combine on synthetic runs, with tasks that run here. `test_refining.py` has rematch."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_refining import ROWS, SPANISH, _digests, _kills, _make, serial  # noqa: F401, a fixture

from xner_ray import inspecting
from xner_ray.deriving import combine, rematch
from xner_ray.errors import RecipeError, RunFolderError
from xner_ray.write import read_part


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """One run matched in two ways: by the default, and without a prior, where the Rhine finds no place."""
    source = _make(tmp_path / "source", ["match.min_score=0.6"])
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
    assert [e.lang for e in inspecting.evaluate(tmp_path / "union")] == ["spa_Latn", "swh_Latn"]
    card = (tmp_path / "union" / "README.md").read_text()
    assert "union of the runs 1 with, 1 without" in card
    assert "multilingual-e5-small" in card  # the licence of a model that the runs used
    assert inspecting.sample(tmp_path / "union", "spa_Latn", 3)
    inspecting.explain(tmp_path / "union", "s3")


def test_killed_and_run_again_a_combined_run_is_the_undisturbed_one(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine(runs, tmp_path / "whole")
    kills = sum(1 for _ in _kills(monkeypatch, lambda: combine(runs, tmp_path / "killed")))
    assert kills > 5
    assert _digests(tmp_path / "killed") == _digests(tmp_path / "whole")
    again = combine(runs, tmp_path / "killed")
    assert again == json.loads((tmp_path / "killed" / "report.json").read_text()) | {"max_reject_rate": 0.01}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0]}, "2 runs and the weights"),
        ({"weights": [1.0, 0.0]}, "one above 0"),
        ({"weights": [1.0, float("nan")]}, "one above 0"),
    ],
)
def test_weights_are_checked(runs: list[Path], tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        combine(runs, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


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
    rematch(_make(tmp_path / "other", rows=SPANISH), tmp_path / "spanish")
    with pytest.raises(RunFolderError, match="has other units than"):
        combine([runs[0], tmp_path / "spanish"], tmp_path / "new")


def test_a_combined_run_is_not_rematched(runs: list[Path], tmp_path: Path) -> None:
    combine(runs, tmp_path / "new")
    with pytest.raises(RunFolderError, match="was not matched"):
        rematch(tmp_path / "new", tmp_path / "newer")
