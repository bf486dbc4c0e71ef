"""A hook of mkdocs: files of the repository that pages link to, such as ../jobs/nllb.yaml, come along with the site.

So a link reads the same in a checkout and on the site, and one that leads to no file is an error of the strict build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
_PLACE = "repository"  # their folder on the site
_TEXTS = (".py", ".yaml", ".yml", ".toml", ".txt", ".sh", ".md", "Makefile", "Dockerfile")


def on_files(files: Files, config: Any) -> Files:
    """Add each file that a page links to outside docs/; texts get the ending .txt, so that browsers show them."""
    wanted: set[str] = set()
    for file in files.documentation_pages():
        for match in _LINK.finditer(file.content_string):
            if (inner := _outside(file.src_uri, match[1])) is not None:
                wanted |= {inner}
    for inner in sorted(wanted):
        files.append(File.generated(config, _shown(inner), content=(_ROOT / inner).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that lead outside docs/ lead to the copies."""

    def moved(match: re.Match[str]) -> str:
        inner = _outside(page.file.src_uri, match[1])
        if inner is None:
            return match[0]
        return f"]({posixpath.relpath(_shown(inner), posixpath.dirname(page.file.src_uri) or '.')})"

    return _LINK.sub(moved, markdown)


def _outside(page: str, link: str) -> str | None:
    """Return the file of the repository, outside docs/, that a link of a page leads to; None if it leads to none."""
    inner = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    path = _ROOT / inner
    if path.is_dir() and (path / "README.md").is_file():
        inner = f"{inner}/README.md"
    return inner if not inner.startswith(("docs/", "..")) and (_ROOT / inner).is_file() else None


def _shown(inner: str) -> str:
    return f"{_PLACE}/{inner}" + (".txt" if inner.endswith(_TEXTS) else "")
