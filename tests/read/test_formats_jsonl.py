"""JSONL files -> records."""

import json
from pathlib import Path

import pytest
from format_files import file_of, records_of

from xner_ray.data.spans import Span
from xner_ray.errors import Reason
from xner_ray.read.record import Record
from xner_ray.recipe.columns import Columns


def _jsonl(tmp_path: Path, *rows: object, columns: Columns | None = None) -> list[Record]:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return records_of(file_of(tmp_path, "\n".join(lines), "jsonl", columns=columns or Columns()))


def test_jsonl_tokens_and_tags(tmp_path: Path) -> None:
    (record,) = _jsonl(tmp_path, {"id": 7, "tokens": ["A", "b"], "ner_tags": ["B-PER", "O"], "z": [1], "a": "é"})
    assert (record.id, record.tokens, record.spans) == ("7", ["A", "b"], [Span(0, 1, "PER")])
    assert record.extra == '{"a": "é", "z": [1]}'


@pytest.mark.parametrize(
    "span",
    [{"start": 0, "end": 2, "label": "PER"}, [0, 2, "PER"], {"start": 0, "end": 2, "labels": ["PER"], "text": "Al"}],
)
def test_jsonl_character_spans(tmp_path: Path, span: object) -> None:
    (record,) = _jsonl(tmp_path, {"text": "Al x", "spans": [span]})
    assert record.chars == [(0, 2, "PER")]


def test_jsonl_other_names_of_columns(tmp_path: Path) -> None:
    columns = Columns(text="data", spans="label", id="nr")
    (record,) = _jsonl(
        tmp_path, {"nr": "x", "data": "Al x", "label": [[0, 2, "PER"]], "text": "other"}, columns=columns
    )
    assert (record.id, record.text, record.chars, record.extra) == ("x", "Al x", [(0, 2, "PER")], '{"text": "other"}')


def test_jsonl_prodigy_tokens(tmp_path: Path) -> None:
    tokens = [{"text": "Al", "start": 0, "end": 2, "id": 0}, {"text": "x", "start": 3, "end": 4, "id": 1}]
    (record,) = _jsonl(tmp_path, {"text": "Al x", "tokens": tokens, "spans": [{"start": 0, "end": 2, "label": "PER"}]})
    assert (record.tokens, record.chars) == (["Al", "x"], [(0, 2, "PER")])


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ("{", Reason.MALFORMED, "not JSON"),
        ("[" * 100_000, Reason.MALFORMED, "not JSON"),
        ("[1]", Reason.MALFORMED, "object"),
        ('{"text": NaN}', Reason.MALFORMED, "neither"),
        ({"txt": "a"}, Reason.MALFORMED, "keys: txt"),
        ({"tokens": "a"}, Reason.MALFORMED, "list"),
        ({"tokens": [1]}, Reason.MALFORMED, "list"),
        ({"text": 5}, Reason.MALFORMED, "text is 5"),
        ({"text": "a", "id": [1]}, Reason.MALFORMED, "id is"),
        ({"text": "a", "split": "other"}, Reason.MALFORMED, "train, validation, test"),
        ({"tokens": ["a"], "ner_tags": []}, Reason.MALFORMED, "1 tokens but 0"),
        ({"tokens": ["a"], "ner_tags": [3]}, Reason.MALFORMED, "ClassLabel"),
        ({"tokens": ["a"], "ner_tags": ["PER"]}, Reason.ILLEGAL_TAG, "'PER'"),
        ({"tokens": ["a"], "ner_tags": [None]}, Reason.ILLEGAL_TAG, "None"),
        ({"text": "abc", "ner_tags": ["O"]}, Reason.MALFORMED, "but no 'tokens'"),
        ({"tokens": ["a"], "spans": [[0, 1, "PER"]]}, Reason.MALFORMED, "but no 'text'"),
        ({"text": "abc", "spans": [[0, 4, "PER"]]}, Reason.BAD_SPAN, "leaves"),
        ({"text": "abc", "spans": [[-1, 2, "PER"]]}, Reason.BAD_SPAN, "leaves"),
        ({"text": "abc", "spans": [[1, 1, "PER"]]}, Reason.BAD_SPAN, "empty"),
        ({"text": "abc", "spans": [{"start": [0, 2], "end": [1, 3], "label": "PER"}]}, Reason.BAD_SPAN, "not a range"),
        ({"text": "abc", "spans": [[[0, 1], [2, 3], "PER"]]}, Reason.BAD_SPAN, "not a range"),
        ({"text": "abc", "spans": [[True, 2, "PER"]]}, Reason.BAD_SPAN, "not a range"),
        ({"text": "abc", "spans": [[0, 1, " "]]}, Reason.BAD_SPAN, "label"),
        ({"text": "abc", "spans": [[0, 1, None]]}, Reason.BAD_SPAN, "not a tag or label"),
        ({"text": "abc", "spans": 5}, Reason.BAD_SPAN, "allowed: a list"),
    ],
)
def test_jsonl_bad_rows_are_rows(tmp_path: Path, row: object, reason: Reason, words: str) -> None:
    records = _jsonl(tmp_path, row, {"text": "good"})
    assert [r.reason for r in records] == [reason, None]
    assert words in records[0].detail


def test_jsonl_bad_utf8_and_blank_lines(tmp_path: Path) -> None:
    records = records_of(file_of(tmp_path, b'{"text": "a\xff"}\r\n\r\n{"text": "b"}', "jsonl"))
    assert [(r.line, r.reason, r.text) for r in records] == [(1, Reason.BAD_UTF8, "a\ufffd"), (3, None, "b")]
