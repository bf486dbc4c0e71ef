"""The pages of docs/ become a site in which every link, anchor and name leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.long
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    start = (tmp_path / "site/index.html").read_text("utf-8")
    assert 'href="tutorial.html"' in start and "pair.svg" in start
    assert "direction: train" in (tmp_path / "site/repository/jobs/nllb.yaml.txt").read_text("utf-8")
    python = (tmp_path / "site/python.html").read_text("utf-8")
    assert "xner_ray.Projector" in python and "Return" in python  # of docstrings
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert not [page.name for page in pages if 'src="http' in page.read_text("utf-8")]  # nothing from other hosts
