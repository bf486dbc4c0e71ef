"""JSON documents in the ways that tools and libraries write data sets: one level deeper, by id, by split, by column."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from format_files import file_of
from object_files import document_of, entities, lines_of, read

from xner_ray.data.spans import Span
from xner_ray.errors import InputError
from xner_ray.read.shapes.documents import records_in

TEXTS: list[dict[str, Any]] = [
    {
        "text": f"{name} went to {place}.",
        "spans": [[0, len(name), "PER"], [len(name) + 9, len(name) + 9 + len(place), "LOC"]],
    }
    for name in ("Nora Falk", "Жанна", "Ọlá", "O'Brien")
    for place in ("Oslo", "Київ", "東京", "São Tomé", "İzmir")
]
NAMES = [[(one["text"][a:b], label) for a, b, label in one["spans"]] for one in TEXTS]
WORDS: list[dict[str, Any]] = [
    {"tokens": ["Nora", "Falk", "in", place, "."], "ner_tags": ["B-PER", "I-PER", "O", "B-LOC", "O"]}
    for place in ("Oslo", "Київ", "東京", "O", "İzmir")
] + [{"tokens": ["What", "?"], "ner_tags": ["O", "O"]}, {"tokens": ["Ada", "o"], "ner_tags": ["B-PER", "O"]}]
TAGGED = [*[[Span(0, 2, "PER"), Span(3, 4, "LOC")]] * 5, [], [Span(0, 1, "PER")]]


def _rasa(rows: list[dict[str, Any]]) -> Any:
    examples = [
        {
            "text": row["text"],
            "intent": "go",
            "entities": [
                {"start": a, "end": b, "value": row["text"][a:b], "entity": label} for a, b, label in row["spans"]
            ],
        }
        for row in rows
    ]
    return {"rasa_nlu_data": {"common_examples": examples, "regex_features": [], "entity_synonyms": []}}


@pytest.mark.parametrize(
    "wrap",
    [
        _rasa,
        lambda rows: {"dataset": {"name": "x", "sentences": rows}, "version": 3},
        lambda rows: {f"id-{n}": row for n, row in enumerate(rows)},
        lambda rows: {"train": rows[:12], "dev": rows[12:]},
        lambda rows: {"text": [row["text"] for row in rows], "spans": [row["spans"] for row in rows]},
        lambda rows: json.loads(pd.DataFrame(rows).to_json()),
        lambda rows: json.loads(pd.DataFrame(rows).to_json(orient="index")),
        lambda rows: json.loads(pd.DataFrame(rows).to_json(orient="records")),
        lambda rows: {"data": rows},
    ],
    ids=["rasa", "deeper", "by id", "by split", "columns", "pandas", "pandas by index", "pandas records", "data"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_texts_in_documents(tmp_path: Path, wrap: Any, indent: int | None) -> None:
    content = json.dumps(wrap(TEXTS), indent=indent, ensure_ascii=indent is None)
    records, _ = read(file_of(tmp_path, content, "json", "a.json"))
    assert [entities(record) for record in records] == NAMES


def test_ids_and_splits_of_documents_come_along(tmp_path: Path) -> None:
    records, _ = read(document_of(tmp_path, {f"id-{n}": row for n, row in enumerate(TEXTS)}))
    assert [record.id for record in records] == [f"id-{n}" for n in range(20)]
    records, _ = read(document_of(tmp_path, {"train": TEXTS[:12], "dev": TEXTS[12:15], "test": TEXTS[15:]}))
    assert [record.split for record in records] == ["train"] * 12 + ["validation"] * 3 + ["test"] * 5


def _spacy(rows: list[dict[str, Any]]) -> Any:
    """As `spacy train` before version 3 took it, and `spacy convert` wrote it."""
    sentences = [
        {
            "tokens": [
                {"id": n, "orth": w, "tag": "NN", "ner": t} for n, (w, t) in enumerate(zip(*row.values(), strict=True))
            ],
            "brackets": [],
        }
        for row in rows
    ]
    return [{"id": n, "paragraphs": [{"raw": None, "sentences": sentences[n * 2 : n * 2 + 2]}]} for n in range(4)]


def _corenlp(rows: list[dict[str, Any]]) -> Any:
    sentences = [
        {
            "index": n,
            "tokens": [
                {"index": i, "word": w, "lemma": w, "pos": "X", "ner": t}
                for i, (w, t) in enumerate(zip(*row.values(), strict=True), start=1)
            ],
        }
        for n, row in enumerate(rows)
    ]
    return {"docId": "d", "sentences": sentences}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: {name: [row[name] for row in rows] for name in ("tokens", "ner_tags")},
        lambda rows: json.loads(pd.DataFrame(rows).to_json()),
        lambda rows: [list(row.values()) for row in rows],
        lambda rows: [[list(pair) for pair in zip(*row.values(), strict=True)] for row in rows],
        lambda rows: [[[w, "NN", t] for w, t in zip(*row.values(), strict=True)] for row in rows],
        lambda rows: [{"tokens": [{"text": w, "ner": t} for w, t in zip(*row.values(), strict=True)]} for row in rows],
        _spacy,
        _corenlp,
    ],
    ids=["columns", "pandas", "words and tags", "pairs", "triples", "objects", "spaCy", "CoreNLP"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_words_in_documents(tmp_path: Path, wrap: Any, indent: int | None) -> None:
    records, _ = read(file_of(tmp_path, json.dumps(wrap(WORDS), indent=indent), "json", "a.json"))
    assert [record.reason for record in records] == [None] * 7
    assert [record.tokens for record in records] == [row["tokens"] for row in WORDS]
    assert [record.spans for record in records] == TAGGED


def test_words_and_tags_a_line(tmp_path: Path) -> None:
    for rows in ([list(row.values()) for row in WORDS], [list(zip(*row.values(), strict=True)) for row in WORDS]):
        records, _ = read(lines_of(tmp_path, *rows))
        assert [(record.tokens, record.spans) for record in records] == [
            (row["tokens"], spans) for row, spans in zip(WORDS, TAGGED, strict=True)
        ]


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": ["Nora", "left"], "ner_tags": ["B-PER", "O"]},
        {"text": "Nora left", "spans": [{"start": 0, "end": 4, "label": "PER"}]},
        {"content": "Nora left", "label": {"PER": {"Nora": [[0, 3]]}}},
        {"text": "Nora left", "meta": {"notes": [{"by": "x"}]}, "spans": []},
    ],
)
def test_one_record_stays_one(value: Any) -> None:
    assert records_in(value) == [value]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"text": "a"}\n{"text": "b"}\n'.replace(": ", ":\n"), r"several values; write each on a line, .*jq -c \. IN"),
        (
            "{'text': 'a', 'spans': []}\n{'text': 'b', 'spans': []}\n",
            "Python's literals; write them as JSON, .*python -c",
        ),
        ("[('Nora left', {'entities': [(0, 4, 'PER')]})]", "Python's literals; write them as JSON"),
    ],
)
def test_what_is_nearly_json_is_refused_with_the_cure(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read(file_of(tmp_path, content, "json", "a.json"))
    assert "\n" not in str(caught.value)


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    (record,), _ = read(lines_of(tmp_path, '{"text": "Nora left", "spans": [[0, 4, "PER"]], "score": NaN}'))
    assert (entities(record), record.extra) == ([("Nora", "PER")], '{"score": null}')
