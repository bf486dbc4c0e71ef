import json

from exported import ROW, TEXT

from xner_ray.write import jsonl


def test_spans_count_characters_and_words() -> None:
    (line,) = jsonl.write([ROW])
    record = json.loads(line)
    assert [TEXT[span["start"] : span["end"]] for span in record["spans"]] == ["Ana  María", "Málaga"]
    expected = {"start": 23, "end": 29, "label": "LOC", "text": "Málaga", "score": 0.8765, "words": [6, 7]}
    assert record["spans"][1] == expected
    assert record["tags"] == ["O", "B-PER", "I-PER", "O", "O", "O", "B-LOC", "O"]
