import json

from exported import PLAIN, ROW, TEXT

from xner_ray.write import doccano


def test_offsets_are_those_of_a_text_in_a_browser() -> None:
    (line, other) = doccano.write([ROW, PLAIN])
    record = json.loads(line)
    units = TEXT.encode("utf-16-le")  # two bytes a unit of JavaScript's strings
    found = [units[2 * start : 2 * end].decode("utf-16-le") for start, end, _ in record["label"]]
    assert found == ["Ana  María", "Málaga"]
    assert [label for *_, label in record["label"]] == ["PER", "LOC"]
    assert record["label"][1][:2] == [27, 33]  # 23, 29 in characters
    assert json.loads(other)["label"] == []


def test_the_import_takes_a_line() -> None:
    """By doccano's checks: text, start below end, a name; any other key is metadata, which may not take its names."""
    for line in doccano.write([ROW, PLAIN]):
        assert line.isascii() and line.count("\n") == 1
        record = json.loads(line)
        assert record["text"]
        assert all(0 <= start < end and label for start, end, label in record["label"])
        meta = record.keys() - {"text", "label"}
        assert meta.isdisjoint({"filename", "upload_name", "example_uuid", "#line_number", "data", "entities"})
        # What its export writes: {"id": its number, "data": text, **meta}, so that ours wins
        assert "id" in meta
