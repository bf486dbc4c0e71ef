"""Scanning and reading an input: CPU time a row, for each format; reading by whole columns against row by row.

Baseline: `read_rows`, which reads every unit from its records, one by one, as files of all formats can be.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xner_ray.read.formats.conll import CONLL
from xner_ray.read.index.build import build_index
from xner_ray.read.record import START, File
from xner_ray.read.rows import ReadPlan, read_rows, read_unit
from xner_ray.recipe.load import load_recipe

SOURCE = Path(__file__).parents[2] / "jobs/data/europarl"
N_ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000


def sentences() -> Iterator[tuple[list[str], list[str]]]:
    """Yield words and tags of the English quick start, again and again."""
    path = next(path for path in sorted(SOURCE.parent.rglob("*.conll")) if "en" in path.name)
    file = File(str(path), path.name, "conll", "eng_Latn")
    rows = [[line.split("\t") for line in raw.data.lines] for raw in CONLL.raws(file, START, None)]
    for number in range(N_ROWS):
        cells = rows[number % len(rows)]
        yield [row[0] for row in cells], [row[-1] for row in cells]


def spans_of(words: list[str], tags: list[str]) -> dict[str, Any]:
    """Return a sentence as text and spans of characters."""
    text, spans = "", []
    for word, tag in zip(words, tags, strict=True):
        text += " " * bool(text) + word
        if tag.startswith("B-"):
            spans.append({"start": len(text) - len(word), "end": len(text), "label": tag[2:]})
        elif tag.startswith("I-"):
            spans[-1]["end"] = len(text)
    return {"text": text, "spans": spans}


def write(folder: Path) -> list[Path]:
    """Write the same sentences in each format."""
    rows = list(sentences())
    (folder / "words.conll").write_text(
        "".join("".join(f"{w}\t{t}\n" for w, t in zip(*row, strict=True)) + "\n" for row in rows)
    )
    objects = [{"tokens": words, "ner_tags": tags} for words, tags in rows]
    (folder / "words.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects))
    texts = [spans_of(*row) for row in rows]
    (folder / "spans.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in texts))
    pq.write_table(pa.Table.from_pylist(objects), folder / "words.parquet")
    return [folder / name for name in ("words.conll", "words.jsonl", "spans.jsonl", "words.parquet")]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for path in write(Path(name)):
            recipe = load_recipe({"input": {"path": str(path)}, "targets": ["deu_Latn"]})
            begun = time.process_time()
            index = build_index(recipe)
            plan = ReadPlan(recipe, index.extra)
            times = [time.process_time() - begun]
            for read in (read_unit, read_rows):
                begun = time.process_time()
                n_rows = sum(read(unit, plan).num_rows for unit in index.units)
                times.append(time.process_time() - begun)
                assert n_rows == N_ROWS
            scan, columns, rows = (seconds / N_ROWS * 1e6 for seconds in times)
            print(
                f"{path.name:14} scan {scan:5.1f} us a row, read {columns:5.1f}; row by row {rows:5.1f}: "
                f"ratio {columns / rows:.2f}"
            )


if __name__ == "__main__":
    main()
