import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from exported import PLAIN, ROW, TEXT

from xner_ray.write import label_studio


def test_tasks_are_an_array_whose_regions_name_the_tags_of_the_configuration() -> None:
    tasks = json.loads("".join(label_studio.write([ROW, PLAIN])))
    view = ET.fromstring(label_studio.config(["PER", "LOC"]))
    labels, text, headline = view.find("Labels"), view.find("Text"), view.find("Header")
    assert labels is not None and text is not None and headline is not None
    assert [label.attrib["value"] for label in labels] == ["PER", "LOC"]
    shown = [
        element.attrib["value"].removeprefix("$") for element in (text, view.find("Header")) if element is not None
    ]
    for task in tasks:
        assert set(shown) <= set(task["data"])  # the import refuses a task without a variable of the configuration
        (annotation,) = task["annotations"]
        for region in annotation["result"]:
            assert (region["type"], region["from_name"]) == ("labels", labels.attrib["name"])
            assert region["to_name"] == labels.attrib["toName"] == text.attrib["name"]
            assert " " not in region["id"]
            value = region["value"]
            # Its editor spreads a text into code points: [...text].slice(start, end)
            assert "".join(list(task["data"]["text"])[value["start"] : value["end"]]) == value["text"]
            assert {*value["labels"]} <= {"PER", "LOC"}
    assert tasks[0]["data"]["id"] == "doc 1/ö" and tasks[0]["data"]["text"] == TEXT
    assert [region["value"]["text"] for region in tasks[0]["annotations"][0]["result"]] == ["Ana  María", "Málaga"]
    assert tasks[0]["annotations"][0]["result"][0]["score"] == 0.8765
    assert tasks[1]["annotations"] == [{"result": []}]


def test_labels_are_escaped_in_the_configuration() -> None:
    view = ET.fromstring(label_studio.config(['"A&B" <x>', "it's"]))
    assert [label.attrib["value"] for label in view.iter("Label")] == ['"A&B" <x>', "it's"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_array_is_written_piece_by_piece(count: int) -> None:
    taken = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            yield PLAIN

    pieces = []
    for piece in label_studio.write(rows()):
        pieces.append(piece)
        assert len(pieces) in (taken, count + 1)  # a row is written before the next one is asked for
    assert len(json.loads("".join(pieces))) == count
