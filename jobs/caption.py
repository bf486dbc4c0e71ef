"""Add a column of captions that a vision-language model writes of each row's picture, for `tag.context` to read.

    python jobs/caption.py tweets.jsonl captioned.jsonl --model Qwen/Qwen3-VL-8B-Instruct --column photo --gpus 1

Needs vLLM (extra llm) and Pillow. References begin at the input's folder, and are trusted as little as those of a run.
A row whose picture cannot be used, or whose caption does not end, gets null; how many did is printed. What a model
writes is data, not truth: `python jobs/shuffled_column.py` makes the control.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from xner_ray.models import vllm
from xner_ray.models.vllm import Chat, ChatModel
from xner_ray.read.record import SURROGATES
from xner_ray.recipe.sections import Tag
from xner_ray.vision.loader import Loader
from xner_ray.vision.references import References

PROMPT = (
    "Say in one short sentence what the picture shows: persons, a place, a building, a map, a flag, a logo, a product. "
    "Give no name that cannot be read in it."
)
MOST_TOKENS = 96
_AT_ONCE = 64


def captions(
    chat: Chat, references: list[str | None], folder: Path, side: int, counted: Counter[str]
) -> list[str | None]:
    """Return a caption for each reference, in one line; counted gets what became of how many."""
    loader = Loader(References(str(folder), [str(folder)], []), max_mb=20, max_pixels=50_000_000, side=side, column="")
    said: dict[str, str | None] = {}
    distinct = sorted({one for one in references if one})
    for first in range(0, len(distinct), _AT_ONCE):
        of_id: dict[str, list[str]] = {}
        pictures: dict[str, Any] = {}
        for found in loader.load(distinct[first : first + _AT_ONCE]):
            if found.id is None:
                counted[str(found.fault and found.fault.flag)] += 1
                continue
            of_id.setdefault(found.id, []).append(found.reference)
            if found.image is not None:
                found.image.thumbnail((side, side))
                pictures[found.id] = found.image
        messages = [{"role": "user", "content": PROMPT}]
        shown = [(identity, pictures[identity]) for identity in of_id]
        for identity, reply in zip(
            of_id, chat.chat([messages] * len(shown), [MOST_TOKENS] * len(shown), None, shown), strict=True
        ):
            text = " ".join(reply.text.split()) if reply.finished == "stop" else ""
            counted["captioned" if text else f"no caption ({reply.finished})"] += len(of_id[identity])
            said |= dict.fromkeys(of_id[identity], text or None)
    return [said.get(one) if one else None for one in references]


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
    parser.add_argument("--model", required=True)
    parser.add_argument("--column", default="photo")
    parser.add_argument("--name", default="caption")
    parser.add_argument("--gpus", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=896)
    given = parser.parse_args()
    try:
        rows = read(given.source)
    except ValueError as error:
        parser.error(f"{given.source}: {error}")
    references = [row.get(given.column) for row in rows]
    if odd := [number for number, one in enumerate(references, start=1) if not isinstance(one, str | None)]:
        parser.error(
            f"{given.source}: {given.column!r} of object {odd[0]} is no text; give the path of a picture, or null"
        )
    if not any(references):
        parser.error(f"{given.source}: no row has a reference under {given.column!r}; name the column with --column")
    if any(given.name in row for row in rows):
        parser.error(f"{given.source}: has a column {given.name!r} already; give another --name")
    llm = {"image_side": given.side, "context_tokens": 4096}
    section = Tag.model_validate(
        {"engine": "llm", "model": given.model, "labels": {"-": None}, "images": True, "gpus": given.gpus, "llm": llm}
    )
    counted = Counter[str]()
    resolved = vllm.resolve(section, "caption", PROMPT).section
    assert isinstance(resolved, Tag)
    found = captions(ChatModel(resolved, "caption"), references, given.source.resolve().parent, given.side, counted)
    made = [{**row, given.name: text} for row, text in zip(rows, found, strict=True)]
    given.out.write_text("".join(map(line_of, made)), encoding="utf-8")
    print(", ".join(f"{name}: {n}" for name, n in sorted(counted.items())) or "no picture")


if __name__ == "__main__":
    main()
