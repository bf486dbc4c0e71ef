"""The contracts of pyproject.toml on imports hold, and each fails for an import that breaks it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ONE_WAY = "Imports go one way"
CORES = "Cores know no recipe, no file and no model"


def _broken(folder: Path) -> tuple[set[str], str]:
    """Return the names of the broken contracts of the package in a folder, and what the linter printed."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    broken = set(re.findall(r"^(.+) BROKEN$", ended.stdout, re.MULTILINE))
    assert (ended.returncode == 0) == (not broken and " KEPT" in ended.stdout), ended.stdout + ended.stderr
    return broken, ended.stdout


def test_the_contracts_hold_without_exceptions() -> None:
    broken, printed = _broken(ROOT)
    assert not broken, printed
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("recipe/sections.py", "from xner_ray.match import solver", ONE_WAY),
        ("tag/stage.py", "from xner_ray.align import linking", ONE_WAY),
        ("train/load.py", "def f():\n    from xner_ray.adapt import recipe", ONE_WAY),
        ("sound/__init__.py", "", ONE_WAY),  # a package without a layer
        ("commands/session.py", "def f():\n    import ray", "Ray has three importers"),
        ("engine/worker.py", "from xner_ray.engine import ray_cluster", "A run in this process imports no Ray"),
        (
            "report/tables.py",
            "from xner_ray.models import network",
            "Reading, counting and reporting load no model library",
        ),
        ("align/linking.py", "from xner_ray.recipe import load", CORES),
        ("match/scores.py", "from xner_ray.run import parts", CORES),
        ("vision/pixels.py", "from xner_ray.storage import files", CORES),
    ],
)
def test_an_import_that_breaks_a_contract_is_found(tmp_path: Path, path: str, line: str, contract: str) -> None:
    shutil.copytree(
        ROOT / "xner_ray", tmp_path / "xner_ray", ignore=shutil.ignore_patterns("tiny-nllb", "tiny-clip", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changed = tmp_path / "xner_ray" / path
    changed.parent.mkdir(exist_ok=True)
    with changed.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    broken, printed = _broken(tmp_path)
    assert broken == {contract}, printed
