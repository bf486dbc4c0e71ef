"""Files that are one JSON document -> records, whatever they are called."""

import gzip
import json
from pathlib import Path

import pytest
from format_files import file_of
from object_files import document_of, entities, lines_of, read

from xner_ray.errors import InputError
from xner_ray.read.formats import json as documents
from xner_ray.read.record import Place
from xner_ray.read.records import FORMATS, read_raws

ROWS = [
    {"text": "Nora went to Oslo.", "spans": [[0, 4, "PER"], [13, 17, "LOC"]]},
    {"text": "Ada left Kyiv.", "spans": [[9, 13, "LOC"]]},
]
FOUND = [[("Nora", "PER"), ("Oslo", "LOC")], [("Kyiv", "LOC")]]


@pytest.mark.parametrize("indent", [None, 0, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "wrap", [lambda rows: rows, lambda rows: {"version": "1", "examples": rows, "classes": ["PER"]}]
)
def test_a_document_is_read_under_any_name(tmp_path: Path, indent: int | None, name: str, wrap) -> None:
    file = file_of(tmp_path, json.dumps(wrap(ROWS), indent=indent), "jsonl" if name.endswith("l") else "json", name)
    records, _ = read(file)
    assert [entities(record) for record in records] == FOUND
    assert [record.line for record in records] == [1, 2]


def test_lines_named_json_and_objects_a_line_inside_an_array(tmp_path: Path) -> None:
    assert [entities(r) for r in read(lines_of(tmp_path, *ROWS, name="a.json"))[0]] == FOUND
    text = "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n"
    assert [entities(r) for r in read(file_of(tmp_path, text, "json", "b.json"))[0]] == FOUND
    text = "[" + ",\n".join(map(json.dumps, ROWS)) + "]"
    assert [entities(r) for r in read(file_of(tmp_path, text, "json", "c.json"))[0]] == FOUND
    zipped = gzip.compress(json.dumps(ROWS).encode())
    assert [entities(r) for r in read(file_of(tmp_path, zipped, "json", "d.json.gz"))[0]] == FOUND


def test_a_document_is_parsed_once_and_read_from_any_object(tmp_path: Path) -> None:
    documents._objects.cache_clear()
    file = document_of(tmp_path, ROWS)
    places = [raw.place for raw in read_raws(file)]
    assert [raw.data for raw in read_raws(file, places[1])] == ROWS[1:]
    assert documents._objects.cache_info().misses == 1
    assert places == [Place(0, 0), Place(1, 1)]
    assert FORMATS["json"].pieces(file, [10]) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[\n {"text": "a"},\n {"text": \n]', "neither an object a line nor one JSON document.*jq"),
        (
            '{"one": [{"text": "a"}],\n "two": [{"text": "b"}]}',
            r"several lists of objects: one, two;.*jq -c '.one\[\]'",
        ),
        ('[\n{"text": "\xff"}\n]'.encode("latin-1"), "not UTF-8.*iconv"),
    ],
)
def test_documents_that_cannot_be_read(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read(file_of(tmp_path, content, "json", "a.json"))
    assert "a.json" in str(error.value)


def test_a_document_too_large_is_refused_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_BYTES", 64)
    with pytest.raises(InputError, match=r"more than 0 MiB.*jq -c '\.\[\]' IN\.json > OUT\.jsonl"):
        read(document_of(tmp_path, ROWS))


def test_one_object_is_one_record(tmp_path: Path) -> None:
    for indent in (None, 1):
        text = json.dumps(
            {"content": "Nora left.", "entities": [{"start": 0, "end": 4, "label": "PER"}]}, indent=indent
        )
        assert [entities(r) for r in read(file_of(tmp_path, text, "jsonl", f"{indent}.jsonl"))[0]] == [
            [("Nora", "PER")]
        ]


def test_bad_lines_stay_rows(tmp_path: Path) -> None:
    records, _ = read(lines_of(tmp_path, "{", ROWS[0], "[1]", '"x"'))
    assert [record.reason and str(record.reason) for record in records] == ["malformed", None, "malformed", "malformed"]
