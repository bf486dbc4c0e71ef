"""Real-shaped files of objects, 40 sentences each, read through the index as `plan` reads them; and damaged ones."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import read_all, to_train

from xner_ray.errors import InputError
from xner_ray.read.index.build import build_index

PEOPLE = ["Nora Falk", "Жанна", "नई मोहन", "山田太郎", "O'Brien", "Zoë", "الملك فاروق", "Ọlá"]
PLACES = ["Oslo", "Києві", "दिल्ली", "東京", "Łódź", "القاهرة", "São Tomé"]
FRAMES = ["{0} went to {1}.", "😀 “{0}” — {1}!", "{1}: {0} (3,5 km)", "e\u0301 {0}, {1} 🇳🇴 x", "No {0}?\n{1} it is."]


def _sentences() -> list[tuple[str, list[tuple[int, int, str]]]]:
    draw = random.Random(11)
    made = []
    for number in range(40):
        person, place, frame = draw.choice(PEOPLE), draw.choice(PLACES), FRAMES[number % len(FRAMES)]
        text = frame.format(person, place) if number % 8 else "Nobody is here."
        found = [(text.find(person), person, "PER"), (text.find(place), place, "LOC")] if number % 8 else []
        made.append((text, sorted((at, at + len(name), label) for at, name, label in found)))
    return made


SENTENCES = _sentences()


def _utf16(text: str, at: int) -> int:
    return len(text[:at].encode("utf-16-le")) // 2


def _doccano(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    return {"id": n, "text": text, "label": [list(span) for span in spans], "Comments": []}


def _doccano_relations(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    entities = [{"id": i, "label": name, "start_offset": s, "end_offset": e} for i, (s, e, name) in enumerate(spans)]
    return {"id": n, "text": text, "entities": entities, "relations": [], "Comments": []}


def _prodigy(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    marked = [{"start": s, "end": e, "label": label} for s, e, label in spans]
    return {"text": text, "_input_hash": n, "_task_hash": -n, "spans": marked, "answer": "accept", "_view_id": "ner"}


def _label_studio(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    values = [
        {"start": _utf16(text, s), "end": _utf16(text, e), "text": text[s:e], "labels": [label]}
        for s, e, label in spans
    ]
    result = [{"id": "x", "from_name": "label", "to_name": "t", "type": "labels", "value": value} for value in values]
    annotation = {"id": n, "was_cancelled": False, "ground_truth": False, "result": result, "lead_time": 1.5}
    return {"id": n, "annotations": [annotation], "predictions": [], "data": {"text": text}, "project": 1}


def _label_studio_min(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    task = _label_studio(text, spans, n)
    label = [one["value"] for one in task["annotations"][0]["result"]]
    return {"text": text, "id": n, "annotator": 1, "annotation_id": n} | ({"label": label} if label else {})


def _spacy(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    return [text, {"entities": [list(span) for span in spans]}]


def _cluener(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    label: dict[str, Any] = {}
    for start, end, name in spans:
        label.setdefault(name, {}).setdefault(text[start:end], []).append([start, end - 1])
    return {"text": text, "label": label}


def _bigbio(text: str, spans: list[tuple[int, int, str]], n: int) -> Any:
    entities = [
        {"id": f"{n}_{s}", "type": label, "text": [text[s:e]], "offsets": [[s, e]], "normalized": []}
        for s, e, label in spans
    ]
    passage = {"id": f"{n}_p", "type": "abstract", "text": [text], "offsets": [[0, len(text)]]}
    return {"id": str(n), "document_id": f"d{n}", "passages": [passage], "entities": entities, "relations": []}


WRITERS = [_doccano, _doccano_relations, _prodigy, _label_studio, _label_studio_min, _spacy, _cluener, _bigbio]


def _found(table: pa.Table) -> list[list[tuple[str, str]]]:
    rows = table.to_pylist()
    assert [row["reason"] for row in rows] == [None] * len(rows)
    return [
        [
            (row["source_text"][offsets[one["start"]]["start"] : offsets[one["end"] - 1]["end"]], one["label"])
            for one in row["source_spans"]
        ]
        for row in rows
        for offsets in [row["source_offsets"]]
    ]


@pytest.mark.parametrize("container", [".jsonl", ".json"])
@pytest.mark.parametrize("write", WRITERS)
def test_forty_sentences(tmp_path: Path, write: Callable[..., Any], container: str) -> None:
    rows = [write(text, spans, number) for number, (text, spans) in enumerate(SENTENCES, start=1)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / f"a{container}"
    path.write_text(lines if container == ".jsonl" else json.dumps(rows, indent=2, ensure_ascii=False))
    table = read_all(to_train(path))
    expected = [[(text[s:e], label) for s, e, label in spans] for text, spans in SENTENCES]
    assert [[(name.strip("“”"), label) for name, label in found] for found in _found(table)] == expected
    assert len(set(table.column("id").to_pylist())) == 40


@pytest.mark.parametrize("write", [_bigbio, _prodigy, _doccano_relations])
def test_forty_sentences_in_parquet(tmp_path: Path, write: Callable[..., Any]) -> None:
    rows = [write(text, spans, number) for number, (text, spans) in enumerate(SENTENCES, start=1)]
    for row in rows:
        for key in ("relations", "Comments"):
            row.pop(key, None)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = [[(text[s:e], label) for s, e, label in spans] for text, spans in SENTENCES]
    assert [
        [(name.strip("“”"), label) for name, label in found]
        for found in _found(read_all(to_train(tmp_path / "a.parquet")))
    ] == expected


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda row: {"id": 1, "body_of": 2}, r"no key holds text or tokens; keys: id .*; set input\.columns"),
        (
            lambda row: {"text": row["text"], "label": [[s + 1, e + 1, x] for s, e, x in row["label"]]},
            "set input.offsets",
        ),
        (
            lambda row: row | {"entities": row["label"]},
            r"input\.columns: \{spans: entities\}|columns: \{spans: label\}",
        ),
    ],
)
def test_damaged_files_are_refused_with_the_cure(tmp_path: Path, damage: Callable[..., Any], words: str) -> None:
    rows = [damage(_doccano(*sentence, n)) for n, sentence in enumerate(SENTENCES)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=words):
        build_index(to_train(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("odd", [None, 3, {}])
def test_a_tag_that_is_no_text_rejects_its_row(tmp_path: Path, odd: Any) -> None:
    rows = [{"tokens": ["Nora", "left"], "ner_tags": ["B-PER", "O"]}, {"tokens": ["Oslo", "x"], "ner_tags": ["O", odd]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [row["reason"] is None for row in read_all(to_train(tmp_path / "a.jsonl")).to_pylist()] == [True, False]


def test_spans_under_our_own_name_are_read_beside_tags_under_another(tmp_path: Path) -> None:
    row = {"text": "Nora left", "tokens": ["Nora", "left"], "tags": ["O", "O"], "spans": [[0, 4, "PER"]]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    index = build_index(to_train(tmp_path / "a.jsonl"))
    assert index.said == ["a.jsonl: spans under 'spans' are read, not the tags under 'tags'"]
    assert _found(read_all(to_train(tmp_path / "a.jsonl"), index)) == [[("Nora", "PER")]]
