"""tiny-nllb trained further on brackets, and template sentences by which places of entities can be told right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tiny_nllb import CODES, ROOT, generate

TRAIN = ROOT / "jobs" / "tiny_nllb" / "train.py"
LANGUAGES = ("sw", "es")


def trained(folder: Path, *options: str) -> Path:
    """Train the model into a folder, unless it is there. About two minutes of CPU time, on one thread."""
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.tmp")
        command = [sys.executable, str(TRAIN), str(fresh), "--brackets", "--threads", "1", *options]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        fresh.rename(folder)
    return folder


@dataclass(frozen=True)
class Wanted:
    """An entity of a sentence: the code points where it belongs in a right translation.

    reordered: another entity stands on its other side there. repeated: another one has the same text.
    """

    place: tuple[int, int]
    reordered: bool
    repeated: bool


def wanted(sentence: Any, lang: str) -> list[Wanted]:
    """Return the entities of a template sentence, in the order of the English one."""
    here, there = generate.entities(sentence, "en"), generate.entities(sentence, lang)
    text = sentence.sides["en"].text
    names = [text[start:end] for start, end in here]
    return [
        Wanted(
            place,
            any((other < place) != (second < first) for second, other in enumerate(there) if second != first),
            names.count(names[first]) > 1,
        )
        for first, place in enumerate(there)
    ]


def write_sentences(folder: Path, drawn: Sequence[Any]) -> Path:
    """Write the English sentences with their entities, and their translations as plain text; return the first file."""
    folder.mkdir(parents=True, exist_ok=True)
    for lang in LANGUAGES:
        (folder / f"{CODES[lang]}.txt").write_text("".join(f"{s.sides[lang].text}\n" for s in drawn), encoding="utf-8")
    with (folder / "en.jsonl").open("w", encoding="utf-8") as out:
        for number, sentence in enumerate(drawn):
            labels = [tag[2:] for tag in sentence.sides["en"].tags if tag[0] == "B"]
            places = zip(generate.entities(sentence, "en"), labels, strict=True)
            spans = [{"start": start, "end": end, "label": label} for (start, end), label in places]
            out.write(json.dumps({"id": str(number), "text": sentence.sides["en"].text, "spans": spans}) + "\n")
    return folder / "en.jsonl"


def rows(run: Path, lang: str) -> Iterator[dict[str, Any]]:
    """Yield the published rows of a run."""
    for path in sorted((run / "data" / CODES[lang]).glob("*.parquet")):
        yield from pq.read_table(path, columns=["id", "text", "offsets", "spans"]).to_pylist()


def right_texts(run: Path, lang: str, drawn: Sequence[Any]) -> set[int]:
    """Return the sentences whose translation is the generator's own."""
    return {int(row["id"]) for row in rows(run, lang) if row["text"] == drawn[int(row["id"])].sides[lang].text}


def places(run: Path, lang: str) -> dict[int, dict[int, tuple[int, int]]]:
    """Return the code points of every projected entity, by sentence and number of the entity."""
    return {
        int(row["id"]): {
            span["source"]: (row["offsets"][span["start"]]["start"], row["offsets"][span["end"] - 1]["end"])
            for span in row["spans"]
        }
        for row in rows(run, lang)
    }
