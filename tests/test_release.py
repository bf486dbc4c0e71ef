"""What a release says of itself in several files agrees."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from xner_ray.version import __version__

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_one_version() -> None:
    """Those of the files in cluster/ are held by test_cluster.py."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", CHANGELOG, re.M)
    assert released[0] == (__version__, str(citation["date-released"]))


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: versions in falling order, each with kinds of change that it knows, each once."""
    parts = re.split(r"^## (.+)$", CHANGELOG, flags=re.M)[1:]
    versions = [tuple(map(int, head.split()[0].split("."))) for head in parts[::2] if head != "Unreleased"]
    assert versions == sorted(versions, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        found = re.findall(r"^### (.+)$", body, re.M)
        assert set(found) <= kinds and len(found) == len(set(found)), head
