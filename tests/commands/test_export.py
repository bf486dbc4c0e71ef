import pytest

from xner_ray.commands import export
from xner_ray.errors import InputError

ROW = {
    "id": "x",
    "lang": "spa_Latn",
    "text": "Ana María va",
    "source_text": "Ana María goes",
    "tokens": ["Ana", "María", "va"],
    "offsets": [{"start": 0, "end": 3}, {"start": 4, "end": 9}, {"start": 10, "end": 12}],
    "spans": [{"start": 0, "end": 2, "label": "PER", "score": 0.5, "source": 0}],
}


def test_conll_refuses_a_token_that_no_reader_could_take_back() -> None:
    with pytest.raises(InputError, match="row x: token 'a b' holds white space"):
        list(export.conll([{**ROW, "tokens": ["Ana", "María", "a b"]}]))


def test_jsonl_has_character_spans() -> None:
    import json

    (line,) = export.jsonl([ROW])
    record = json.loads(line)
    assert record["spans"] == [{"start": 0, "end": 9, "label": "PER", "score": 0.5, "words": [0, 2]}]
    assert record["tags"] == ["B-PER", "I-PER", "O"]
