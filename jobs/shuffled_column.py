"""Add a column whose texts are those of another one, exchanged between rows: the control of a context.

    python jobs/shuffled_column.py tweets.jsonl with_control.jsonl --column caption --name shuffled --seed 0

A student with `model: {context: shuffled}` beside one with `context: caption` and one without says whether captions
help, or any text beside the words would. Every row with a text gets that of another such row; others keep what they
have. Do it to each split by itself, so that no text of one comes into another.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

SURROGATES = re.compile("[\ud800-\udfff]")


def exchanged(texts: list[Any], seed: int) -> list[Any]:
    """Return the texts, each that is not blank in the place of another: in one circle, which the seed draws.

    >>> exchanged(["a", None, "b", " "], seed=0)
    ['b', None, 'a', ' ']
    """
    circle = [place for place, text in enumerate(texts) if isinstance(text, str) and text.strip()]
    random.Random(seed).shuffle(circle)
    result = list(texts)
    for place, other in zip(circle, circle[1:] + circle[:1], strict=True):
        result[place] = texts[other]
    return result


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, which end with line feeds alone. ValueError: what is wrong where."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON ({error}); mend or remove it") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object; give a JSON object a line")
        rows.append(row)
    return rows


def line_of(row: dict[str, Any]) -> str:
    """Return a row as a line; escaped if it has half a surrogate pair, which no file of UTF-8 can have."""
    line = json.dumps(row, ensure_ascii=False)
    return (json.dumps(row) if SURROGATES.search(line) else line) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--column", default="caption")
    parser.add_argument("--name", default="shuffled")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        rows = read(given.source)
    except ValueError as error:
        parser.error(f"{given.source}: {error}")
    texts = [row.get(given.column) for row in rows]
    if not any(isinstance(text, str) and text.strip() for text in texts):
        parser.error(f"{given.source}: no row has a text under {given.column!r}; name the column with --column")
    if any(given.name in row for row in rows):
        parser.error(f"{given.source}: has a column {given.name!r} already; give another --name")
    made = [{**row, given.name: text} for row, text in zip(rows, exchanged(texts, given.seed), strict=True)]
    given.out.write_text("".join(map(line_of, made)), encoding="utf-8")


if __name__ == "__main__":
    main()
