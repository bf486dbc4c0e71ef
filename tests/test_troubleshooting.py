"""docs/troubleshooting.md quotes messages that the code still says, and has every reason, flag and loss."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from xner_ray.errors import Flag, Loss, Reason
from xner_ray.report.cures import FLAGS, LOSSES, REASONS, cure, told

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
QUOTES = re.findall(r"^### (`+) ?(.+?) ?\1$", PAGE, re.M)


@cache
def _literals() -> str:
    """Return all text of string literals of the package, a literal a line; what is formatted into one is NUL."""
    found = []
    for path in sorted((ROOT / "xner_ray").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in found)


def _is_said(quote: str) -> bool:
    """Tell whether one literal has the pieces of a quote in their order, with `...` for what lies between."""
    pieces = [piece for piece in quote.split("...") if piece]
    return re.search("[^\n]*".join(map(re.escape, pieces)), _literals()) is not None


def test_every_heading_of_a_message_is_a_quote() -> None:
    assert len(QUOTES) == len(re.findall("^### ", PAGE, re.M)) > 50


@pytest.mark.parametrize("quote", [quote for _, quote in QUOTES])
def test_a_quoted_message_is_one_of_the_code(quote: str) -> None:
    assert _is_said(quote)
    assert len(max(quote.split("..."), key=len)) > 8  # enough to search for


def test_a_message_that_nobody_says_is_found_out() -> None:
    assert not _is_said("unknown key ... (worth ...)")
    assert not _is_said("(value ...) unknown key")


@pytest.mark.parametrize("kind", [Reason, Flag, Loss])
def test_every_code_is_in_the_tables(kind: type[Reason | Flag | Loss]) -> None:
    title = {Reason: "Reasons to reject", Flag: "Flags", Loss: "Losses"}[kind]
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.M)
    table = {Reason: REASONS, Flag: FLAGS, Loss: LOSSES}[kind]
    assert rows == [(str(code), *table[code]) for code in kind], "as commands and the page say it"


def test_a_code_of_a_later_version_has_no_words() -> None:
    assert told("loss", "of_tomorrow") is None and cure("of_tomorrow") == ""
    assert cure("malformed") == told("reason", "malformed").cure  # type: ignore[union-attr]
