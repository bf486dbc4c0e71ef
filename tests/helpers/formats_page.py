"""Read each kind of file, and damaged; and write what came of it into docs/formats.md.

    python tests/helpers/formats_page.py --write

Two rows a kind: how it is read, and what is said of a damaged one. The tests compare these rows with the page.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kinds import SENTENCES, Files, Kind, Sentence
from kinds_of_objects import OBJECTS
from kinds_of_texts import TEXTS
from kinds_of_words import WORDS
from reading import read_all, to_train

from xner_ray.errors import InputError
from xner_ray.read.index.build import build_index

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
KINDS: Sequence[Kind] = sorted([*WORDS, *OBJECTS, *TEXTS], key=lambda kind: kind.number)
_KEY = re.compile(r"input\.([a-z._]+): (\{[^{}]*\}|\[[^\[\]]*\]|[^\s,;()]+)")
_HEADS = {"read": ("C", "files", "keys", "`plan` says"), "damaged": ("files", "damage", "message", "cure")}


class Cured(NamedTuple):
    """What is said of damaged files, and what cured them."""

    message: str
    cure: str


def put(files: Files, folder: Path) -> Path:
    """Write files into a new folder; return the path that a recipe would name."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder if len(files) > 1 else folder / next(iter(files))


def read(kind: Kind, files: Files, folder: Path, keys: dict[str, Any], expected: Sequence[Sentence]) -> list[str]:
    """Read files by the keys, check that they hold the sentences, and return what is said of them."""
    path = put(files, folder)
    recipe = to_train(path, input=keys)
    index = build_index(recipe)
    assert index.problems() == []
    rows = read_all(recipe, index).to_pylist()
    assert [row["reason"] for row in rows] == [None] * len(expected)
    if kind.texts:
        assert [row["source_text"] for row in rows] == [one.text for one in expected]
        assert [_names(row) for row in rows] == [one.names for one in expected]
    else:
        assert [row["source_tokens"] for row in rows] == [one.tokens for one in expected]
        spans = [[(span["start"], span["end"], span["label"]) for span in row["source_spans"]] for row in rows]
        assert spans == [one.spans for one in expected]
    assert index.repaired == 0
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)
    return [line.partition(": ")[2] for line in index.said]


def _names(row: dict[str, Any]) -> list[tuple[str, str]]:
    text, offsets = row["source_text"], row["source_offsets"]
    return [
        (text[offsets[span["start"]]["start"] : offsets[span["end"] - 1]["end"]], span["label"])
        for span in row["source_spans"]
    ]


def cured(kind: Kind, folder: Path) -> Cured:
    """Read damaged files, do what the one message says, and check that they are read then."""
    files = (kind.damaged or kind.write)(SENTENCES)
    message = _message(put(files, folder / "damaged"), kind.given)
    keys = dict(kind.given)
    if kind.cure == "key":
        keys, cure = _with_key(message, keys, kind.names)
    elif kind.cure == "without":
        assert "leave" in message and all(f"input.{key}" in message for key in keys)
        cure = f"without `{_yaml(keys)}`"
        keys = {}
    elif kind.cure == "line":
        files, number = _with_line_of(message, files, kind.write(SENTENCES))
        cure = f"line {number} mended"
    else:
        assert kind.mended is not None
        files, cure = kind.mended(message, files), "done as it says"
    read(kind, files, folder / "cured", keys, kind.cured)
    return Cured(message.replace(f"{folder / 'damaged'}/", "").replace(str(folder / "damaged"), "FOLDER"), cure)


def _message(path: Path, keys: dict[str, Any]) -> str:
    """Return the one message about damaged files: a refusal, or the only line on rows, too many to go on."""
    recipe = to_train(path, input=keys)
    try:
        index = build_index(recipe)
    except InputError as error:
        return str(error)
    (problem,) = index.problems()
    assert index.reject_rate > recipe.output.max_reject_rate
    return problem


def _with_key(message: str, keys: dict[str, Any], names: list[str] | None) -> tuple[dict[str, Any], str]:
    """Return the keys with the first one that the message offers, and how that is written."""
    if names is not None:
        assert "input.labels.names" in message
        return {**keys, "labels": {"names": names}}, f"`labels: {{names: [{', '.join(names)}]}}`"
    offered = _KEY.search(message)
    assert offered, message
    made = yaml.safe_load(offered[2])
    for part in reversed(offered[1].split(".")):
        made = {part: made}
    return {**keys, **made}, f"`{_yaml(made)}`"


def _yaml(keys: dict[str, Any]) -> str:
    return yaml.safe_dump(keys, default_flow_style=True, width=1000).strip()[1:-1]


def _with_line_of(message: str, files: Files, good: Files) -> tuple[Files, int]:
    """Return the files with the line that the message names as it was before the damage; its number."""
    ((name, content),) = files.items()
    whole = good[name]
    assert isinstance(content, str) and isinstance(whole, str)
    found = re.findall(r"\bline (\d+)", message) or re.findall(rf"{re.escape(name)}:(\d+)", message)
    number = int(found[0])
    if name.endswith(".json"):  # it counts objects
        rows = json.loads(content)
        rows[number - 1] = json.loads(whole)[number - 1]
        return {name: json.dumps(rows)}, number
    lines = content.split("\n")
    lines[number - 1] = whole.split("\n")[number - 1]
    return {name: "\n".join(lines)}, number


def rows_of(kind: Kind, folder: Path) -> dict[str, str]:
    """Return the rows of the page about a kind, by table; everything about it is checked on the way."""
    said = read(kind, kind.write(SENTENCES), folder / "whole", kind.keys, SENTENCES)
    found = cured(kind, folder)
    keys = f"`{_yaml(kind.keys)}`" if kind.keys else "-"
    return {
        "read": _row(str(kind.number), kind.name, keys, "; ".join(said) or "-"),
        "damaged": _row(kind.name, kind.damage, found.message, found.cure),
    }


def _row(*cells: str) -> str:
    escaped = [cell.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*") for cell in cells]
    code = [cell if "`" in cell else shown for cell, shown in zip(cells, escaped, strict=True)]
    return f"| {' | '.join(code)} |"


def table_in(page: str, name: str) -> list[str]:
    """Return the rows of one table of the page."""
    inner = page.split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]
    return [line for line in inner.split("\n")[2:] if line]


def write() -> None:
    """Write both tables into the page."""
    found: dict[str, list[str]] = {name: [] for name in _HEADS}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            for name, row in rows_of(kind, Path(folder)).items():
                found[name].append(row)
    page = PAGE.read_text("utf-8")
    for name, rows in found.items():
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition("<!-- end -->")
        head = [f"| {' | '.join(_HEADS[name])} |", "|---" * len(_HEADS[name]) + "|"]
        page = before + f"<!-- {name} -->\n" + "\n".join([*head, *rows]) + "\n<!-- end -->" + after
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
