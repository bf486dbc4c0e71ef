"""The pages of docs/ become a site in which every link, anchor and name leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.long
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    start = (tmp_path / "site/index.html").read_text("utf-8")
    assert 'href="tutorial.html"' in start and "pair.svg" in start
    assert "llm" in (tmp_path / "site/repository/jobs/llm_teacher.yaml.txt").read_text("utf-8")
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert not [page.name for page in pages if 'src="http' in page.read_text("utf-8")]  # nothing from other hosts


@pytest.mark.parametrize("page", ["README.md", "cluster/README.md"])
def test_links_of_pages_outside_docs_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text) if "://" not in link]
    assert links and [link for link in links if not ((ROOT / page).parent / link).exists()] == []
