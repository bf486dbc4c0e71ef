"""Sentences with gold and predicted entities, by hand and at random, as tables of rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from made_rows import table_from_rows

from xner_ray.data import row as data_row

Entities = list[tuple[int, int, str]]
Sentence = tuple[Entities, Entities]  # gold, predicted
LABELS = ("PER", "LOC", "ORG")
WORDS = 24


def cells(entities: Sequence[tuple[int, int, str]]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": label} for start, end, label in entities]


def found(entities: Sequence[tuple[int, int, str]]) -> list[dict[str, Any]]:
    return [{**cell, "score": 1.0, "source": number} for number, cell in enumerate(cells(entities))]


def row(gold: Entities | None, predicted: Entities, **others: Any) -> dict[str, Any]:
    """A row whose source side has the entities of gold."""
    mine = None if gold is None else cells(gold)
    source = [{**cell, "score": 1.0} for cell in mine or ()]
    made = {"tokens": ["w"] * WORDS, "gold_spans": mine, "spans": found(predicted), "source_spans": source}
    return {**made, "unprojected": [], **others}


def table(rows: Sequence[dict[str, Any]], lang: str = "spa_Latn", start: int = 0) -> pa.Table:
    numbered = [{"row": number, "lang": lang, **one} for number, one in enumerate(rows, start=start)]
    return table_from_rows(numbered, data_row.ROW)


@st.composite
def _side(draw: st.DrawFn) -> Entities:
    entities, end = [], 0
    for _ in range(draw(st.integers(0, 4))):
        start = end + draw(st.integers(0, 2))
        end = start + draw(st.integers(1, 4))
        entities.append((start, end, draw(st.sampled_from(LABELS))))
    return entities


def sentences(least: int = 1) -> st.SearchStrategy[list[Sentence]]:
    return st.lists(st.tuples(_side(), _side()), min_size=least, max_size=6)


def corpus(n: int, seed: int, right: float = 0.8) -> list[Sentence]:
    """`n` sentences of which about `right` of the entities are found; the others are cut, renamed or lost."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        gold: Entities = []
        predicted: Entities = []
        for place in range(rng.choice([0, 1, 1, 2, 3])):
            start, label = 6 * place + rng.randrange(2), rng.choices(LABELS, [5, 3, 2])[0]
            end = start + rng.randrange(1, 4)
            gold.append((start, end, label))
            wrong = [(start, end + 1, label), (start, end, LABELS[LABELS.index(label) - 1]), None]
            guess = (start, end, label) if rng.random() < right else rng.choice(wrong)
            predicted += [guess] if guess else []
        if rng.random() < 0.1:
            predicted.append((20, 21, "PER"))
        made.append((gold, predicted))
    return made
