"""The second matching, on synthetic parts, with tasks that run here one by one: no Ray, no model."""

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from synthetic_runs import (
    NONE,
    ROWS,
    SPANISH,
    digests,
    make_run,
    one_by_one,
)

from xner_ray.commands import inspect
from xner_ray.commands.export import export
from xner_ray.commands.rematch import rematch
from xner_ray.engine import second_pass
from xner_ray.engine.inline import InlineExecutor
from xner_ray.errors import RunFolderError
from xner_ray.match.prior import LEAST_ROWS
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage


@pytest.mark.slow
def test_order_and_grouping_of_tasks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_run(tmp_path / "source", unit_rows=16)
    rematch(source, tmp_path / "one")

    def twice_backwards(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        calls = list(zip(*arguments, strict=True))
        for call in reversed(calls):
            function(*call)
        return [function(*call) for call in calls]

    monkeypatch.setattr(second_pass, "_TASKS", 2)  # several units a task
    monkeypatch.setattr(second_pass, "_FAN_IN", 2)
    monkeypatch.setattr(InlineExecutor, "map", lambda _, *call: twice_backwards(*call))
    rematch(source, tmp_path / "other")
    assert digests(tmp_path / "other") == digests(tmp_path / "one")


def test_a_tree_of_merges_equals_one_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms that stand in one row of every part are frequent in the whole: nothing may be left out on the way."""
    folder = RunFolder(str(make_run(tmp_path / "run", unit_rows=5)))
    parts, units = folder.parts(), inspect.read_index(folder).units
    steps: list[int] = []

    def map_tasks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        steps.append(len(arguments[0]))
        return one_by_one(function, *arguments)

    def priors() -> dict[str, bytes]:
        storage.delete(folder.path("_run", "priors"))
        second_pass.make_priors(folder, units, parts, map_tasks)
        return {lang: storage.read_bytes(f"{folder.priors_folder}/{lang}.parquet") for lang in ROWS}

    whole = priors()
    monkeypatch.setattr(second_pass, "_FAN_IN", 3)
    assert priors() == whole
    assert steps == [2, 5 + 2, 2 + 1, 1]  # of 13 and 6 parts, both languages in every step
    units = units[::-1]
    assert priors() == whole
    table = pq.read_table(pa.BufferReader(whole["spa_Latn"])).to_pylist()
    forms = {(row["kind"], row["form"]): row["rows"] for row in table}
    assert ("target", "rin") not in forms  # of one row
    assert forms["target", "de"] == len(ROWS["spa_Latn"]) - 2
    assert forms["source", "bob6"] == sum(n % 7 == 6 for n in range(len(ROWS["spa_Latn"]) - 4))


def test_the_driver_reads_no_file_for_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, reads = RunFolder(str(make_run(tmp_path / "run", rows=SPANISH))), []
    unit, read = inspect.read_index(folder).units[0], storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda path: reads.append(path) or read(path))
    units = [replace(unit, name=f"u{n}") for n in range(100)]
    second_pass.refine_units(folder, units, {unit.name: "" for unit in units}, folder.recipe(), ["PER"], lambda *_: [])
    assert len(reads) < 10


def test_a_language_of_few_rows_has_no_prior_and_says_so(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    rows = {**ROWS, "deu_Latn": ROWS["spa_Latn"][-1:] * 3}  # all rejected
    report = rematch(make_run(tmp_path / "source", rows=rows), tmp_path / "new", console=console)
    assert report["rows"] == {"read": 64 + 30 + 3, "emitted": 63 + 29, "rejected": 5}
    assert [tuple(prior.values()) for prior in report["priors"].values()] == [(63, True), (29, False), (0, False)]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        f"swh_Latn: 29 sentences are too few to learn from all how words translate (that takes {LEAST_ROWS}): " in said
    )
    parts, refined = RunFolder(str(tmp_path / "new")).parts(), RunFolder(str(tmp_path / "new")).refined()
    same = {name: part_files.read_part(parts[name]).equals(part_files.read_part(refined[name])) for name in parts}
    assert [same[f"{lang}-000000000000"] for lang in rows] == [False, True, True]


@pytest.mark.slow
def test_rows_are_rejected_as_incomplete_by_the_last_matching_alone(tmp_path: Path) -> None:
    """With a prior the Rhine finds its place and Y loses it; without one it is the other way round."""
    runs = {name: make_run(tmp_path / name, [*NONE, f"output.incomplete={name}"]) for name in ("reject", "keep")}
    for name, run in runs.items():
        new, total = tmp_path / f"new-{name}", sum(map(len, ROWS.values()))
        report = rematch(run, new, overrides=["match.prior=auto", "output.incomplete=reject"])
        (file,), (rejects,) = new.glob("data/spa_Latn/*"), new.glob("rejects/spa_Latn/*")
        tags = {" ".join(row["tokens"]): row["ner_tags"] for row in part_files.read_part(str(file)).to_pylist()}
        lost = part_files.read_part(str(rejects)).to_pylist()[0]
        assert (tags["Rin"], "de Ypsilon" in tags) == ([1], False)
        assert (lost["tokens"], lost["reason"], lost["spans"]) == (["de", "Ypsilon"], "incomplete", [])
        assert lost["ner_tags"] is None, "tags of the first matching"
        # Counters are of the last matching, every row once
        assert report["rows"] == {"read": total, "emitted": total - 4, "rejected": 4}
        assert [of["rejects"] for of in report["languages"].values()] == [{"illegal_tag": 1, "incomplete": 1}] * 2
        of_stage = {stage: counters["rows"] for stage, counters in report["stages"].items()}
        assert of_stage == {"align": total, "match": total - 2, "refine": total - 2}
        assert (report["stages"]["align"]["tokens"], report["priors"]["spa_Latn"]["rows"]) == (5 * 3, 63)
        assert report["entities"]["source"] == report["entities"]["projected"] == total - 4
    report = rematch(runs["reject"], tmp_path / "again")
    assert report["rejects"] == {"illegal_tag": 2, "incomplete": 2}
    (rejects,) = (tmp_path / "again").glob("rejects/spa_Latn/*")
    assert part_files.read_part(str(rejects), ["tokens"]).to_pylist()[0] == {"tokens": ["Rin"]}
    assert "refine" not in report["stages"]


def test_what_a_dead_driver_still_writes_after_fresh_is_not_looked_at(tmp_path: Path) -> None:
    folder = RunFolder(str(make_run(tmp_path / "run", rows=SPANISH)))
    folder.next_attempt()
    late, late_prior = f"{folder.refined_folder}/a.parquet", f"{folder.priors_folder}/spa_Latn.parquet"
    recipe = folder.recipe()
    folder.discard()
    folder.begin(recipe, {}, b"listed", 10)
    storage.publish(late, b"late, and long enough")
    storage.publish(f"{folder.refined_folder}/b.parquet", b"now, and long enough")
    assert list(folder.refined()) == ["b"]
    assert f"{folder.priors_folder}/spa_Latn.parquet" != late_prior


def test_a_run_between_both_matchings_can_be_looked_at(tmp_path: Path) -> None:
    rematch(make_run(tmp_path / "source"), new := tmp_path / "new")
    os.unlink(new / "_run/SEALED")
    os.unlink(new / "_run/refined/0001/swh_Latn-000000000000.parquet")
    console = Console(file=io.StringIO(), width=150)
    console.print(inspect.status(new))
    for lang in ROWS:
        console.print(inspect.explain(new, "s3", lang))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not sealed" in said and "3 done, 0 left" in said and "second matching: 2 done, 1 left" in said
    assert said.count("target  Rin") == 2 and said.count("target  Rin[PER]") == 1
    for reads in (export, inspect.evaluate):
        with pytest.raises(RunFolderError, match="not sealed yet"):
            reads(new)
