"""A finished run of three units in a folder of its own, to be damaged and mended, and the same with retries."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from faults import in_stage
from given_files import write_recipe, write_sentences
from rich.console import Console

import xner_ray
from xner_ray.run.folder import RunFolder


def finished(folder: Path) -> Path:
    """Make a recipe and a finished run of three units in a folder; return the folder."""
    write_sentences(folder, 30, ids=False)
    project(folder)
    return folder


def project(home: Path, run: str = "run", **options: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    recipe = write_recipe(home / "recipe.yaml", match={"prior": "none"}, engine={"unit_rows": 10, "executor": "inline"})
    xner_ray.project(recipe, home / run, console=console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


def failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run with a rejected row in its second unit."""

    def check(row: Mapping[str, Any]) -> None:
        if row["row"] == 12:
            raise OSError("no word list")

    with monkeypatch.context() as patch:
        in_stage(patch, "match", check)
        project(home, fresh=True, overrides=["output.max_reject_rate=0.5"])


def retried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run whose second unit was tried again."""
    failed(home, monkeypatch)
    project(home, retry_rejects=["stage_error"])
    assert len(RunFolder(str(home / "run")).retried()) == 1
