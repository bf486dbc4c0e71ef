"""Code blocks of README and of the pages that teach are run, as they stand, in a folder of a user's own.

Before a block of `sh` or `python` stands `<!-- run -->`, or `<!-- not run: why -->`. Blocks of a page run in order, in
one folder that has `jobs` of this checkout. Every block of YAML is checked as the kind of file that it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from xner_ray.commands.start.schema import MODELS
from xner_ray.recipe.kinds import KINDS
from xner_ray.recipe.load import checked

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("install", "tutorial", "documents", "annotation-tools", "python")),
]
_BLOCK = re.compile(r"(?:<!-- (?P<mark>run|not run: [^>]+) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


def _blocks(page: str) -> list[re.Match[str]]:
    return list(_BLOCK.finditer((ROOT / page).read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_says_whether_it_runs(page: str) -> None:
    assert [block["text"] for block in _blocks(page) if block["kind"] in ("sh", "python") and not block["mark"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(block["mark"] == "run" for block in _blocks(page))])
def test_blocks_run(page: str, tmp_path: Path) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number, block in enumerate(_blocks(page)):
        if block["mark"] != "run":
            continue
        shell = ["bash", "-euo", "pipefail", "-c", block["text"]]
        command = shell if block["kind"] == "sh" else [sys.executable, "-c", block["text"]]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path, "COLUMNS": "120"}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{page}, block {number}:\n{block['text']}\n{done.stdout}\n{done.stderr}"


ALL = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [page for page in ALL if any(block["kind"] == "yaml" for block in _blocks(page))])
def test_blocks_of_yaml_are_files_that_a_command_takes(page: str) -> None:
    names = ("Recipe", "Training", "Adaptation", "Sweep", "Experiment", "Loop")
    kinds = dict(zip(names, MODELS.values(), strict=True))
    for block in _blocks(page):
        if block["kind"] != "yaml":
            continue
        data = yaml.safe_load(block["text"])
        kind = next((name for name, kind in KINDS.items() if kind.told(data)), None)
        if kind and (kind != "Recipe" or "targets" in data or data.get("direction") == "test"):
            checked(kinds[kind], data, page)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
