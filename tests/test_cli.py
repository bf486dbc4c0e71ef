import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.errors import InputError, RecipeError, RunFolderError
from xner_ray.models.e5 import builtin_folder


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


def _main(*arguments: str) -> Ended:
    """Run the command line in this process, which has imported torch already."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["xner-ray", *arguments]),
        patch.dict(os.environ, {"COLUMNS": "160"}),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    return Ended(int(end.value.code or 0), out.getvalue(), err.getvalue())


def _recipe(folder: Path, text: str, **sections: Any) -> Path:
    """A recipe over `text` as CoNLL, with the same text as its parallel side: no translation, quick."""
    (folder / "in.conll").write_text(text, encoding="utf-8")
    source = {"path": "in.conll", "parallel": {"spa_Latn": "in.conll"}, **sections.pop("input", {})}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"input": source, "targets": ["spa_Latn"], **sections}))
    return path


TEXT = "# id = one\nAnna B-PER\nruns O\n. O\n\n# id = two\nIn O\nNew B-LOC\nYork I-LOC\n\n# id = three\nnothing O\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    text = TEXT + "\n# id = four\nBad X-TAG\n"
    xner_ray.project(_recipe(folder, text), folder / "run", allow_rejects=True)
    return folder / "run"


def test_version_and_help() -> None:
    runner = CliRunner()
    assert runner.invoke(cli.app, ["--version"]).output.strip() == xner_ray.__version__
    commands = runner.invoke(cli.app, ["--help"]).output
    for command in ("project", "plan", "status", "evaluate", "explain", "export", "languages"):
        assert command in commands


# Each takes a good part of a second to import, or more
SLOW = {"icu4py", "jinja2", "numpy", "ortools", "pandas", "pyarrow", "ray", "scipy", "torch", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["project", "--help"], ["languages"]], ids=" ".join)
def test_what_needs_no_run_imports_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import atexit, sys; from xner_ray.cli import main; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "xner_ray.cli" in ended.stderr.split()
    assert SLOW.isdisjoint(ended.stderr.split())


def test_an_interrupted_command_says_so(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    os.mkfifo(recipe)  # reading it waits for us
    command = [sys.executable, "-m", "xner_ray", "plan", str(recipe)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with recipe.open("w"):  # opens when the command reads
        while started.poll() is None:  # a signal that meets Python between two instructions may be lost
            started.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = started.communicate(timeout=10)
    assert (started.returncode, out, err.splitlines()[-1]) == (130, "", "xner-ray: interrupted")


def test_languages_are_searched() -> None:
    result = CliRunner().invoke(cli.app, ["languages", "--search", "swahili"], env={"COLUMNS": "200"})
    assert "swh_Latn" in result.output
    assert "zul_Latn" not in result.output
    assert (
        "a word is a syllable"
        in CliRunner().invoke(cli.app, ["languages", "--search", "vietn"], env={"COLUMNS": "200"}).output
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--set=algn.x=1", "unknown key 'algn'"),
        ("--set=align.layer=40", "align.layer is 40, but builtin has layers 0..12"),
        ("--set=targets=[swa_Latn]", "'swa_Latn'"),
        ("--set=input.path=nowhere.conll", "nowhere.conll"),
        ("--set=align.gpus=64", "need at least 64 GPUs"),
        ("--set=align.memory_gb=100000", "memory_gb"),
    ],
)
def test_bad_recipes_end_with_2_and_one_message(tmp_path: Path, option: str, message: str) -> None:
    result = _main("project", str(_recipe(tmp_path, TEXT)), str(tmp_path / "run"), option)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "_run" / "parts").exists()


@pytest.mark.slow
def test_too_many_rejects_stop_before_the_work_or_end_with_3_and_a_finished_run(tmp_path: Path) -> None:
    path = _recipe(tmp_path, TEXT + "\nBad X-TAG\n")
    planned = " ".join(_main("plan", str(path)).stdout.split())
    assert "1 of 4 rows will be rejected: illegal_tag; the first: " in planned
    assert "project stops: 25.00% of the rows" in planned
    stopped = _main("project", str(path), str(tmp_path / "run"))
    assert stopped.returncode == 2 and "give --allow-rejects to go on" in stopped.stderr
    assert "illegal tag 'X-TAG'" in stopped.stderr and not (tmp_path / "run").exists()
    result = _main("project", str(path), str(tmp_path / "run"), "--allow-rejects")
    assert result.returncode == 3, result.stderr
    assert "1 of 4 rows were rejected (25.00%), more than output.max_reject_rate (1.00%)" in " ".join(
        result.stdout.split()
    )
    assert (tmp_path / "run/_run/SEALED").exists()
    again = _main("project", str(path), str(tmp_path / "run"), "--set=output.max_reject_rate=0.5")
    assert again.returncode == 0, again.stderr


def test_project_fills_the_run_folder(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        *("README.md", "report.json", "report.html", "data", "rejects", "_run")
    }
    report = json.loads((run / "report.json").read_text())
    assert report["rows"] == {"read": 4, "emitted": 3, "rejected": 1}
    assert report["labels"]["kept"] == ["LOC", "PER"]
    assert list(report["stages"]) == ["read", "target_tag", "align", "match", "refine"]
    rows = pq.ParquetFile(run / "data/spa_Latn/train-00000-of-00001.parquet").read().to_pylist()
    assert [(row["id"], row["ner_tags"]) for row in rows] == [("one", [3, 0, 0]), ("two", [0, 1, 2]), ("three", [0])]
    rejected = pq.ParquetFile(run / "rejects/spa_Latn/train-00000-of-00001.parquet").read().to_pylist()
    assert [(row["id"], row["reason"]) for row in rejected] == [("four", "illegal_tag")]
    assert "in.conll:" in rejected[0]["detail"]
    assert "X-TAG" in rejected[0]["detail"]


def test_nothing_but_the_report_holds_times_or_places(run: Path) -> None:
    text = (run / "README.md").read_text()
    assert str(run.parent) not in text
    assert "seconds" not in text


def test_load_dataset_has_class_labels(run: Path, tmp_path: Path) -> None:
    import datasets

    data = datasets.load_dataset(str(run), "spa_Latn", cache_dir=str(tmp_path))
    names = data["train"].features["ner_tags"].feature.names
    assert names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert data["train"][0]["tokens"] == ["Anna", "runs", "."]
    assert data["train"].features["ner_tags"].feature.int2str(3) == "B-PER"


def test_status_and_evaluate_read_the_folder_alone(run: Path) -> None:
    status = _main("status", str(run))
    assert "sealed: the data set is complete" in status.stdout
    assert "1 done, 0 left" in status.stdout
    scores = json.loads(_main("evaluate", str(run), "--json", "--samples", "50", "--seed", "3").stdout)
    assert (scores["samples"], scores["seed"], scores["by"]) == (50, 3, "sentence")
    (spanish,) = scores["languages"]
    assert (spanish["lang"], spanish["overall"]["f1"], spanish["rows"]) == ("spa_Latn", 1.0, 3)
    shown = _main("evaluate", str(run), "--samples", "0").stdout
    for part in ("seqeval strict (IOB2)", "What became of each entity", "What the annotations allow", "100.00"):
        assert part in shown
    refused = _main("evaluate", str(run), "--by", "doc")
    assert refused.returncode == 2
    assert "no doc_id" in refused.stderr


def test_explain_names_links_candidates_and_fate(run: Path) -> None:
    shown = _main("explain", str(run), "--id", "two").stdout
    for part in (
        "New York[LOC]",
        "links: forward and backward",
        "*1.00 1.00",
        "[1, 3)",
        "chosen",
        "lower score",
        "objective 1.0000",
    ):
        assert part in shown
    assert "illegal_tag" in _main("explain", str(run), "--id", "four").stdout
    missing = _main("explain", str(run), "--id", "five")
    assert missing.returncode == 2
    assert "no sentence has the id 'five'; ids look like 'one'" in missing.stderr


def test_export_writes_what_readers_take_back(run: Path, tmp_path: Path) -> None:
    (conll,) = xner_ray.export(run, to="conll", output=tmp_path)
    assert Path(conll).read_text() == "Anna\tB-PER\nruns\tO\n.\tO\n\nIn\tO\nNew\tB-LOC\nYork\tI-LOC\n\nnothing\tO\n\n"
    (with_ids,) = xner_ray.export(run, to="conll", output=tmp_path, ids=True)
    assert Path(with_ids).read_text().startswith("# id = one\nAnna\tB-PER\n")
    (jsonl,) = xner_ray.export(run, to="jsonl", output=tmp_path)
    rows = [json.loads(line) for line in Path(jsonl).read_text().splitlines()]
    assert [rows[1]["text"][s["start"] : s["end"]] for s in rows[1]["spans"]] == ["New York"]


def test_plan_loads_no_model_and_writes_nothing(tmp_path: Path) -> None:
    result = _main("plan", str(_recipe(tmp_path, TEXT)))
    assert result.returncode == 0, result.stderr
    for part in ("align + match", "hidden state 7", "spa_Latn", "columns: row, id"):
        assert part in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"in.conll", "recipe.yaml"}


@pytest.mark.slow
def test_labels_and_paths_are_no_markup(tmp_path: Path) -> None:
    path = _recipe(tmp_path, "Anna B-[/x]\nruns O\n")
    run = tmp_path / "run[/y]"
    assert "labels: [/x]" in _main("plan", str(path)).stdout
    for _ in range(2):
        result = _main("project", str(path), str(run))
        assert result.returncode == 0, result.stderr
    assert "run[/y]" in _main("status", str(run)).stdout


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_one_message(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_folder(), model, ignore=shutil.ignore_patterns("model.safetensors"))
    save_file({"unknown": torch.zeros(1)}, model / "model.safetensors", metadata={"format": "pt"})
    result = _main("project", str(_recipe(tmp_path, TEXT)), str(tmp_path / "run"), f"--set=align.encoder={model}")
    assert result.returncode in (1, 2)
    assert str(model) in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 6


@pytest.mark.slow
def test_no_cluster_at_the_address_is_one_message(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "xner_ray",
        "plan",
        str(_recipe(tmp_path, TEXT)),
        "--set=engine.address=garbage",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "engine.address (or RAY_ADDRESS) is 'garbage'" in result.stderr
    assert "Traceback" not in result.stderr


def test_commands_on_a_folder_without_a_run(tmp_path: Path) -> None:
    for command in (["status"], ["evaluate"], ["explain", "--id", "x"], ["export"]):
        result = _main(command[0], str(tmp_path), *command[1:])
        assert result.returncode == 2
        assert "no run here" in result.stderr


def test_python_raises_what_the_command_line_prints(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        xner_ray.project({"input": {"path": "x"}}, tmp_path)
    with pytest.raises(RunFolderError):
        xner_ray.status(tmp_path)
    with pytest.raises(InputError, match=r"nowhere\.conll"):
        xner_ray.project(_recipe(tmp_path, TEXT), tmp_path / "r", overrides=["input.path=nowhere.conll"])


def test_a_column_that_would_run_code_is_refused(tmp_path: Path) -> None:
    field = pa.field("x", pa.binary(), metadata={"ARROW:extension:name": "ray.data.arrow_pickled_object"})
    tokens = pa.field("tokens", pa.list_(pa.string()))
    table = pa.table([pa.array([b"code"]), pa.array([["a"]])], schema=pa.schema([field, tokens]))
    pq.write_table(table, tmp_path / "in.parquet")
    path = tmp_path / "recipe.yaml"
    path.write_text("input: {path: in.parquet, parallel: {spa_Latn: in.parquet}}\ntargets: [spa_Latn]\n")
    result = _main("project", str(path), str(tmp_path / "run"))
    assert result.returncode == 2
    assert "extension type 'ray.data.arrow_pickled_object', which can run code" in result.stderr
