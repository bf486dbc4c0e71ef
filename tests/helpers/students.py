"""What tests of `xner_ray.train` share: sentences by hand, finished runs without models, tiny students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from entities import cells, table
from tiny_encoders import tiny

from xner_ray.models.trainer import Group
from xner_ray.read.index.units import unit_name
from xner_ray.recipe.load import load_recipe
from xner_ray.run import parts as part_files
from xner_ray.run import publish
from xner_ray.run.folder import RunFolder
from xner_ray.train.loop import Held, Pool
from xner_ray.train.network import Student
from xner_ray.train.recipe import Fit, Model, Training
from xner_ray.train.sentences import SENTENCES
from xner_ray.train.windows import encode, goal

Row = dict[str, Any]
CPU = torch.device("cpu")


def sentences(rows: Sequence[Row]) -> pa.Table:
    """A table of `SENTENCES`; spans are given as (start, end, label), tags as (word, tag, probability)."""
    names = ("word", "tag", "probability")
    made = [
        {
            **{"source": 0, "lang": "spa_Latn", "row": number, "id": f"s{number}", "doc_id": None, "weight": 1.0},
            **{"masked": False, "tags": None, "unknown": None, "uncertain": False},
            **row,
            "doubtful": cells(row.get("doubtful", [])),
            "spans": None if row.get("spans") is None else cells(row["spans"]),
            **({"tags": [dict(zip(names, tag, strict=True)) for tag in row["tags"]]} if row.get("tags") else {}),
        }
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=SENTENCES)


class _Unit(NamedTuple):
    name: str
    lang: str
    split: str
    n_rows: int


def run(
    path: Path | str,
    rows: Mapping[str, Sequence[Row]],
    *,
    aside: bool = False,
    direction: str = "train",
    unit_rows: int = 1000,
    rows_per_file: int = 100,
    sections: Row | None = None,
) -> str:
    """A finished run with these rows of each language, sealed as any; aside: output.incomplete is split.

    sections: more of its recipe.
    """
    if direction == "train":
        given: Row = {"input": {"path": "/nowhere"}, "targets": list(rows)}
    else:
        given = {
            "direction": "test",
            "input": {"path": "/nowhere/{lang}", "lang": list(rows)},
            "tag": {"engine": "spacy"},
        }
    recipe = load_recipe(given | (sections or {}) | {"output": {"incomplete": "split" if aside else "keep"}})
    folder = RunFolder(str(path))
    folder.begin(recipe, {}, b"", 100)  # of its units only that they are there is asked for
    units, paths = [], {}
    for lang, some in rows.items():
        filled = [
            {"id": f"s{n}", "split": "train", "flags": [], "complete": True, "source_lang": recipe.source_side, **row}
            for n, row in enumerate(some)
        ]
        for start in range(0, max(len(some), 1), unit_rows):
            own = filled[start : start + unit_rows]
            unit = _Unit(unit_name(lang, start), lang, "train", len(own))
            paths[unit.name] = folder.path("_run", "parts", "0001", f"{unit.name}.parquet")
            part_files.write_part(paths[unit.name], table(own, lang, start), {})
            units.append(unit)
    files = publish.plan_files(units, paths, ["PER"], rows_per_file=rows_per_file, split_incomplete=aside)
    publish.seal(folder.root, files, {})
    return str(path)


def row(words: str, *spans: tuple[int, int, str], score: float = 1.0, **others: Any) -> Row:
    """A row of a run: its target side, projected entities, gold of the same, and a source side x y z with one PER."""
    found = [{**cell, "score": score, "source": n} for n, cell in enumerate(cells(spans))]
    source = [{"start": 0, "end": 1, "label": "PER", "score": 1.0}]
    made = {"tokens": words.split(), "spans": found, "gold_spans": cells(spans)}
    return {**made, "source_tokens": ["x", "y", "z"], "source_spans": source, "unprojected": [], **others}


def training(*data: Row, **others: Any) -> Training:
    return Training.model_validate({"data": list(data), **others})


def student(folder: Path, kind: str = "bert", labels: Sequence[str] = ("LOC", "PER"), **options: Any) -> Student:
    """Over a tiny random encoder of 4 layers, which reads 32 subwords: a letter and a word's beginning are one each."""
    encoder = options.pop("encoder", None) or tiny(folder, kind)
    return Student(Model(encoder=encoder, **{"dropout": 0.0, **options}), labels, seed=0, device=CPU)


def held(found: Student, table: pa.Table, settings: Fit, group: Group | None = None) -> Held:
    windows = encode(table, found.tokenizer, found.positions)
    return Held(Pool(windows, goal(table, windows, found.names)), settings, group)


def fitting(**options: Any) -> Fit:
    return Fit(**{"epochs": 2, "batch_sentences": 4, "learning_rate": 1e-3, "head_learning_rate": 1e-2, **options})


# A toy language: names begin with a, places with b, and nothing else does
TOY = [
    ("ann saw bonn", [(0, 1, "PER"), (2, 3, "LOC")]),
    ("the cat sat", []),
    ("in basel sits amy", [(1, 2, "LOC"), (3, 4, "PER")]),
    ("amy alda ran", [(0, 2, "PER")]),
    ("go to bonn bay", [(2, 4, "LOC")]),
    ("we like alda", [(2, 3, "PER")]),
    ("x", []),
    ("ann in basel", [(0, 1, "PER"), (2, 3, "LOC")]),
]


def toy(**others: Any) -> pa.Table:
    return sentences([{"tokens": words.split(), "spans": spans, **others} for words, spans in TOY])
