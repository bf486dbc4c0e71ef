"""Small files of objects as tools write them, and of tables: what fuzzing damages, beside `fuzz_seeds.TEXTS`."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_seeds import LABELS, NAMES, TEXTS, Seed, Sentence

from xner_ray.data.row import ROW
from xner_ray.data.words import locate
from xner_ray.read.formats.spacy import string_id


def _tools(one: Sentence, number: int) -> dict[str, Any]:
    """Return a sentence as the tools write it."""
    text, tokens, tags, chars = one.text, one.tokens, one.tags, one.chars
    spans = [{"start": start, "end": end, "label": label} for start, end, label in chars]
    in_utf16 = [
        {"start": len(text[:s].encode("utf-16-le")) // 2, "end": len(text[:e].encode("utf-16-le")) // 2, "labels": [x]}
        | {"text": text[s:e]}
        for s, e, x in chars
    ]
    regions = [{"from_name": "label", "to_name": "text", "type": "labels", "value": value} for value in in_utf16]
    clue: dict[str, dict[str, list[list[int]]]] = {}
    for start, end, label in chars:
        clue.setdefault(label, {}).setdefault(text[start:end], []).append([start, end - 1])
    offsets = [{"id": str(at), "start_offset": s, "end_offset": e, "label": x} for at, (s, e, x) in enumerate(chars)]
    parts = [{"text": word, "id": at} for at, word in enumerate(tokens)]
    words = [(span.start, span.end, span.label) for span in one.spans]
    return {
        "ours": {"id": f"s{number}", "tokens": tokens, "ner_tags": tags, "more": {"n": number}},
        "numbers": {"tokens": tokens, "ner_tags": [NAMES.index(tag) for tag in tags]},
        "spans": {"id": number, "text": text, "spans": spans, "split": "train"},
        "both": {"text": text, "tokens": tokens, "ner_tags": tags, "doc_id": f"d{number // 5}"},
        "doccano old": {"id": number, "text": text, "label": [list(one) for one in chars]},
        "doccano": {"id": number, "text": text, "entities": offsets, "relations": [], "Comments": []},
        "prodigy": {"text": text, "spans": spans, "tokens": parts, "answer": "accept", "_input_hash": -number},
        "label studio": {"id": number, "data": {"text": text}, "annotations": [{"id": 1, "result": regions}]},
        "json min": {"id": number, "text": text, "label": in_utf16, "annotator": 1, "annotation_id": number},
        "gliner": {"tokenized_text": tokens, "ner": [[start, end - 1, label] for start, end, label in words]},
        "spacy": [text, {"entities": [list(one) for one in chars]}],
        "cluener": {"text": text, "label": clue},
        "bigbio": {
            "id": str(number),
            "passages": [{"type": "s", "text": [text], "offsets": [[0, len(text)]]}],
            "entities": [{"text": [text[s:e]], "offsets": [[s, e]], "type": x} for s, e, x in chars],
        },
        "tokens": {"tokens": tokens, "entities": [{"start": s, "end": e, "type": x} for s, e, x in words]},
        "surface": {"sentence": text, "ner": [[x, s, e, text[s:e]] for s, e, x in chars]},
        "lists": {"text": text, "spans": {key: [span[key] for span in spans] for key in ("start", "end", "label")}},
    }


TOOLS = tuple(_tools(Sentence(["a"], []), 0))


def _objects(name: str) -> Any:
    def make(found: list[Sentence], rng: random.Random) -> Seed:
        tool = rng.choice(TOOLS)
        options: dict[str, Any] = {"labels": {"names": NAMES}} if tool == "numbers" else {}
        if tool not in ("ours", "numbers") and rng.random() < 0.2:
            options |= {"split": "sentences"}
        return Seed(name, values=[_tools(one, number)[tool] for number, one in enumerate(found)], options=options)

    return make


def _spacy(found: list[Sentence], rng: random.Random) -> Seed:
    strings = sorted({*(word for one in found for word in one.tokens), *LABELS})
    cells = []
    for one in found:
        for word, tag in zip(one.tokens, one.tags, strict=True):
            iob = {"O": 2, "B": 3, "I": 1}[tag[0]]
            cells.append([string_id(word), 1, iob, string_id(tag[2:])])
    packed = {
        "version": 0.1,
        "attrs": [65, 67, 77, 78],
        "tokens": cells,
        "spaces": [True] * len(cells),
        "lengths": [len(one.tokens) for one in found],
        "strings": strings,
        "cats": [{} for _ in found],
        "flags": [{"has_unknown_spaces": False} for _ in found],
        "span_groups": [b"\x90" for _ in found],
    }
    return Seed("a.spacy", packed=packed)


# tables


_CLASSES = {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"}


def _parquet_table(found: list[Sentence], rng: random.Random) -> pa.Table:
    spans = [[{"start": s, "end": e, "label": x} for s, e, x in one.chars] for one in found]
    kind = rng.randrange(5)
    columns: dict[str, Any] = {"id": [f"s{at}" for at in range(len(found))]}
    if kind < 3:
        columns["tokens"] = [one.tokens for one in found]
        columns["ner_tags"] = [one.tags for one in found]
    if kind == 1:
        columns["ner_tags"] = [[NAMES.index(tag) for tag in one.tags] for one in found]
    if kind >= 3:
        columns |= {"text": [one.text for one in found]}
        columns |= {"spans" if kind == 3 else "entities": pa.array(spans, _SPANS)}
    columns |= {"n": list(range(len(found))), "x": [0.5] * len(found), "who": ["a", None] * (len(found) // 2)}
    columns["who"] = (columns["who"] + [None] * len(found))[: len(found)]
    table = pa.table(columns)
    if kind == 1:
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": {"ner_tags": _CLASSES}}})}
        )
    return table


_SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))


def _parquet(found: list[Sentence], rng: random.Random) -> Seed:
    return Seed("a.parquet", table=_parquet_table(found, rng))


def _dataset(found: list[Sentence], rng: random.Random) -> Seed:
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train", "_indices_data_files": None}
    beside = {
        "state.json": json.dumps(state).encode(),
        "dataset_info.json": json.dumps({"features": {"ner_tags": _CLASSES}}).encode(),
    }
    return Seed("data-00000-of-00001.arrow", table=_parquet_table(found, rng), beside=beside)


def _run(found: list[Sentence], rng: random.Random) -> Seed:
    rows = []
    for number, one in enumerate(found):
        offsets = [{"start": start, "end": end} for start, end in locate(one.tokens, one.text) or []]
        spans = [{"start": span.start, "end": span.end, "label": span.label} for span in one.spans]
        row = {"row": number, "id": f"s{number}", "split": "train", "source_lang": "eng_Latn", "lang": "spa_Latn"}
        row |= {"source_text": one.text, "source_tokens": one.tokens, "source_offsets": offsets, "status": "ok"}
        row |= {"text": one.text, "tokens": one.tokens, "offsets": offsets, "gold_spans": spans, "flags": []}
        rows.append(row | {"source_spans": [{**span, "score": 1.0} for span in spans], "unprojected": []})
    table = pa.Table.from_pylist(rows, ROW).append_column("mine", pa.array(range(len(rows))))
    return Seed("data/spa_Latn/train-00000.parquet", table=table)


SEEDS = {
    **TEXTS,
    "jsonl": _objects("a.jsonl"),
    "json": _objects("a.json"),
    "spacy": _spacy,
    "parquet": _parquet,
    "dataset": _dataset,
    "run": _run,
}
"""By format: makes a seed of sentences."""


def table_bytes(table: pa.Table, name: str, rng: random.Random) -> bytes:
    """Return a table as a Parquet file, or as an Arrow stream."""
    out = io.BytesIO()
    size = rng.choice((3, 10, 1000))
    if Path(name).suffix == ".arrow":
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)
    else:
        pq.write_table(table, out, row_group_size=size)
    return out.getvalue()
