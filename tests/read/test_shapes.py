"""Shapes of objects: which keys, forms and tools are read as their users mean them, and which are refused and why."""

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_files import document_of, entities, lines_of, read, settled

from xner_ray.errors import InputError
from xner_ray.read.record import START, File, Reading
from xner_ray.read.records import FORMATS, read_raws, records_of
from xner_ray.read.shapes import evidence as module
from xner_ray.read.shapes.keys import choose
from xner_ray.recipe.columns import Columns

TEXT, PER, LOC = "Nora Falk went to Oslo.", ("Nora Falk", "PER"), ("Oslo", "LOC")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": TEXT, "spans": [[0, 9, "PER"], [18, 22, "LOC"]]}, []),
        ({"text": TEXT, "label": [[0, 9, "PER"], [18, 22, "LOC"]]}, ["spans under 'label' as [start, end, label]"]),
        ({"data": TEXT, "labels": [[0, 9, "PER"], [18, 22, "LOC"]]}, ["text under 'data'", "spans under 'labels' as"]),
        ({"sentence": TEXT, "ner": [["PER", 0, 9], ["LOC", 18, 22]]}, ["text under 'sentence'", "[label, start, end]"]),
        ({"text": TEXT, "spans": [[0, 9, "PER", "Nora Falk"], [18, 22, "LOC", "Oslo"]]}, ["[start, end, label, text]"]),
        ({"text": TEXT, "spans": [[0, 9, "Nora Falk", "PER"], [18, 22, "Oslo", "LOC"]]}, ["[start, end, label, text]"]),
        ({"text": TEXT, "x": {"entities": [[0, 9, "PER"], [18, 22, "LOC"]]}}, ["spans under 'x.entities'"]),
        ({"text": TEXT, "label": {"PER": [[0, 9]], "LOC": [[18, 22]]}}, ["spans under 'label' as {label: [[start"]),
        (
            {"text": TEXT, "label": {"PER": {"Nora Falk": [[0, 8]]}, "LOC": {"Oslo": [[18, 21]]}}},
            ["as {label: {text: [[start, end]]}}", "ends inclusive (the text of 2 of 2 spans fits)"],
        ),
        ({"text": TEXT, "spans": {"start": [0, 18], "end": [9, 22], "label": ["PER", "LOC"]}}, []),
    ],
)
def test_lists_and_objects_of_spans(tmp_path: Path, row: dict[str, Any], said: list[str]) -> None:
    (record,), found = read(lines_of(tmp_path, row))
    assert entities(record) == [PER, LOC]
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("start", "end", "label"),
    [
        *[("start", "end", "type"), ("start_offset", "end_offset", "label"), ("start_char", "end_char", "label_")],
        *[("begin", "end", "tag"), ("startOffset", "endOffset", "class"), ("char_start", "char_end", "entity_type")],
        *[("offset", "length", "label"), ("start", "stop", "category"), ("start", "end", "entity_group")],
        *[("startOffset", "endOffset", "displayName"), ("start_pos", "end_pos", "labels")],
    ],
)
@pytest.mark.parametrize("own", [None, "text", "value", "word", "surface", "mention"])
def test_keys_of_spans(tmp_path: Path, start: str, end: str, label: str, own: str | None) -> None:
    label = label.rstrip("_")
    second = (lambda begin, stop: stop - begin) if end == "length" else (lambda begin, stop: stop)
    spans = [
        {
            "id": 7,
            start: begin,
            end: second(begin, stop),
            label: name if label != "labels" else [{"value": name, "p": 1}],
        }
        | ({own: TEXT[begin:stop]} if own else {})
        for begin, stop, name in ((0, 9, "PER"), (18, 22, "LOC"))
    ]
    (record,), _ = read(lines_of(tmp_path, {"text": TEXT, "entities": spans}))
    assert entities(record) == [PER, LOC]


@pytest.mark.parametrize(
    ("row", "keys"),
    [
        ({"words": ["Nora", "left"], "ner": ["B-PER", "O"]}, {"tokens": "words", "tags": "ner"}),
        ({"tokens": ["Nora", "left"], "labels": ["B-PER", "O"]}, {"tags": "labels"}),
        ({"sentence": ["Nora", "left"], "bio": ["B-PER", "O"]}, {"tokens": "sentence", "tags": "bio"}),
        ({"text": ["Nora", "left"], "tags": ["B-PER", "O"]}, {"tokens": "text", "tags": "tags", "text": ""}),
        ({"tokens": ["Nora", "left"], "x": ["B-PER", "O"], "document_id": 3}, {"tags": "x", "doc_id": "document_id"}),
        ({"a": ["Nora", "left"], "x": ["B-PER", "O"], "lang": "en"}, {"tokens": "a", "tags": "x"}),
    ],
)
def test_keys_of_tokens_and_tags(tmp_path: Path, row: dict[str, Any], keys: dict[str, str]) -> None:
    file = lines_of(tmp_path, row)
    assert dict(settled(file).reading.keys) == keys
    assert [entities(record) for record in read(file)[0]] == [[("Nora", "PER")]]


def test_tags_of_other_schemes(tmp_path: Path) -> None:
    rows = [{"tokens": ["Nora", "Falk", "left"], "ner_tags": ["PERSON", "PERSON", "O"]}] * 3
    (record, *_), said = read(lines_of(tmp_path, *rows))
    assert (entities(record), said) == ([("Nora Falk", "PERSON")], ["scheme IO"])
    rows = [{"tokens": list("abc"), "ner_tags": ["B-LOC", "M-LOC", "E-LOC"]}, {"tokens": ["x"], "ner_tags": ["O"]}]
    (record, _), said = read(lines_of(tmp_path, *rows))
    assert (entities(record), said) == ([("a b c", "LOC")], ["scheme BMES"])


@pytest.mark.parametrize("names", [None, ("O", "B-PER", "I-PER")])
def test_numbers_need_names(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    file = lines_of(tmp_path, {"tokens": ["Nora", "Falk", "left"], "ner_tags": [1, 2, 0]}, names=names)
    if names is None:
        with pytest.raises(InputError, match=r"'ner_tags' are numbers from 0 to 2.*input\.labels\.names to their 3"):
            read(file)
        return
    assert entities(read(file)[0][0]) == [("Nora Falk", "PER")]
    with pytest.raises(InputError, match="has 2 names, and the tags under 'ner_tags' go up to 2"):
        read(replace(file, stated=replace(file.stated, names=("O", "B-PER"))))


def test_numbers_of_spans_need_names(tmp_path: Path) -> None:
    row = {"text": TEXT, "spans": [[0, 9, 0], [18, 22, 1]]}
    with pytest.raises(InputError, match=r"labels of the spans under 'spans' are numbers from 0 to 1.*labels\.names"):
        read(lines_of(tmp_path, row))
    assert entities(read(lines_of(tmp_path, row, names=("PER", "LOC")))[0][0]) == [PER, LOC]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": TEXT, "entities": [[0, 9, "PER"]], "ner": [[18, 22, "LOC"]]}], "columns: {spans: entities} or"),
        (
            [{"text": TEXT, "spans": [], "entities": [[0, 9, "PER"]]}],
            r"spans may be under 'spans' \(empty\), 'entities'",
        ),
        ([{"content": TEXT, "sentence": "Or this.", "spans": [[0, 4, "X"]]}], "text may be under 'sentence'"),
        ([{"tokens": ["a", "b"], "tags": ["B-X", "O"], "ner": ["O", "B-Y"]}], r"tags may be under 'tags' \(tags\)"),
        ([{"txt": "a"}, {"n": 1}], r"no key holds text or tokens; keys: txt \(a word\), n \(int\); set input.columns"),
    ],
)
def test_several_keys_are_refused_with_the_key_to_copy(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read(lines_of(tmp_path, *rows))
    assert "a.jsonl" in str(error.value) and "input.columns: {" in str(error.value)


def test_stated_keys_win_also_along_a_path(tmp_path: Path) -> None:
    row = {"x": {"body": TEXT}, "entities": [[0, 9, "PER"]], "ner": [[18, 22, "LOC"]], "text": "no"}
    (record,), _ = read(lines_of(tmp_path, row, columns=Columns(text="x.body", spans="ner")))
    assert entities(record) == [LOC]


def test_what_is_there_instead_of_labels(tmp_path: Path) -> None:
    found = settled(lines_of(tmp_path, {"text": TEXT, "label": "positive", "score": 0.5}))
    assert found.reading == Reading()
    assert "the keys text (text), label (a word), score (float)" in found.unlabelled
    assert "input.columns: {spans: KEY}" in found.unlabelled


def test_labels_that_are_tags_are_joined(tmp_path: Path) -> None:
    text = "Nora Falk met Ada, Bo Li."
    spans = [[0, 4, "B-PER"], [5, 9, "I-PER"], [14, 17, "B-PER"], [19, 21, "B-PER"], [22, 24, "I-PER"]]
    (record, _), said = read(lines_of(tmp_path, {"text": text, "spans": spans}, {"text": "x", "spans": []}))
    assert entities(record) == [("Nora Falk", "PER"), ("Ada", "PER"), ("Bo Li", "PER")]
    assert said == ["labels of spans are tags (B-, I-), joined into entities"]
    (record,), said = read(lines_of(tmp_path, {"text": text, "spans": [[0, 4, "E-mail"], [5, 9, "I-Phone"]]}))
    assert (entities(record), said) == ([("Nora", "E-mail"), ("Falk", "I-Phone")], [])


def test_prodigy_counts_what_was_accepted(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 9, "label": "PER", "token_start": 0, "token_end": 1}]
    rows = [{"text": TEXT, "_input_hash": 1, "spans": spans, "answer": answer} for answer in ("accept", "reject")]
    rows += [{"text": "Nobody.", "answer": "accept"}, {"text": "Skipped.", "answer": "ignore"}]
    records, said = read(lines_of(tmp_path, *rows))
    assert [r.reason and str(r.reason) for r in records] == [None, "left_out", None, "left_out"]
    assert entities(records[0]) == [PER]
    assert records[2].labelled and entities(records[2]) == []
    assert "'reject'; input.answers: accept" in records[1].detail
    assert said == ["objects as Prodigy writes them"]
    records, _ = read(lines_of(tmp_path, *rows, answers=("accept", "reject")))
    assert [r.reason and str(r.reason) for r in records] == [None, None, None, "left_out"]
    with pytest.raises(InputError, match=r"input\.answers is for Prodigy's files"):
        read(lines_of(tmp_path, {"text": TEXT, "spans": []}, answers=("reject",)))


def _task(number: int, text: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"text": text, "page": 3}, "annotations": list(annotations), **more}


def _annotation(*spans: tuple[int, int, str, str], **more: Any) -> dict[str, Any]:
    values = [{"start": start, "end": end, "text": text, "labels": [label]} for start, end, text, label in spans]
    result = [{"type": "labels", "from_name": "label", "to_name": "text", "value": value} for value in values]
    choice = {"type": "choices", "value": {"choices": ["news"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": [*result, choice, relation], **more}


def test_label_studio(tmp_path: Path) -> None:
    per, loc = (0, 9, "Nora Falk", "PER"), (18, 22, "Oslo", "LOC")
    tasks = [
        _task(1, TEXT, _annotation(per, loc)),
        _task(2, TEXT, _annotation(per), _annotation(per, was_cancelled=True), _annotation(per)),
        _task(3, TEXT, _annotation(per), _annotation(loc)),
        _task(4, TEXT, _annotation(per), _annotation(loc, ground_truth=True)),
        _task(5, TEXT, predictions=[{"result": []}]),
        _task(6, TEXT, _annotation(per, was_cancelled=True)),
        _task(7, "😀😀 Nora Falk went.", _annotation((5, 14, "Nora Falk", "PER"))),
        _task(8, TEXT, _annotation()),
    ]
    records, said = read(document_of(tmp_path, tasks))
    assert [record.id for record in records] == list("12345678")
    assert [record.text for record in records][:2] == [TEXT, TEXT]
    assert [entities(records[at]) for at in (0, 1, 3, 6, 7)] == [[PER, LOC], [PER], [LOC], [PER], []]
    assert [str(records[at].reason) for at in (2, 4, 5)] == ["left_out"] * 3
    assert "2 annotations of the task differ" in records[2].detail
    assert "predictions are no gold" in records[4].detail
    assert json.loads(str(records[0].extra)) == {"page": 3}
    assert said[0] == "objects as Label Studio writes them" and "UTF-16" in said[-1]


def test_label_studio_min_and_annotators_of_spacy(tmp_path: Path) -> None:
    label = [{"start": 0, "end": 9, "text": "Nora Falk", "labels": ["PER"]}]
    rows = [
        {"text": TEXT, "id": 1, "label": label, "annotator": 1, "annotation_id": 5},
        {"text": "x y", "annotation_id": 6},
    ]
    records, _ = read(document_of(tmp_path, rows))
    assert ([entities(record) for record in records], records[1].labelled) == ([[PER], []], True)
    pairs = [[TEXT, {"entities": [[0, 9, "PER"]]}], None, ["x", {"entities": []}]]
    for value in (pairs, {"classes": ["PER"], "annotations": pairs}):
        records, said = read(document_of(tmp_path, value))
        assert [entities(record) for record in records] == [[PER], []]
        assert said[0] == "objects as spaCy writes them"


def test_bigbio(tmp_path: Path) -> None:
    def row(*entities: tuple[list[list[int]], str]) -> dict[str, Any]:
        passages = [("Nora Falk went", [0, 14]), ("to Oslo.", [15, 23])]
        return {
            "id": "1",
            "document_id": "d",
            "passages": [{"id": "p", "type": "t", "text": [text], "offsets": [place]} for text, place in passages],
            "entities": [
                {"id": "e", "type": kind, "text": [TEXT[s:e] for s, e in at], "offsets": at, "normalized": []}
                for at, kind in entities
            ],
            "events": [],
        }

    rows = [row(([[0, 9]], "PER"), ([[18, 22]], "LOC")), row(([[0, 4], [18, 22]], "X"))]
    records, _ = read(lines_of(tmp_path, *rows))
    assert (entities(records[0]), records[0].doc_id) == ([PER, LOC], "d")
    assert records[1].reason == "bad_span" and "is discontinuous" in records[1].detail


ROWS = [
    {"text": TEXT, "label": [[0, 9, "PER"], [18, 22, "LOC"]]},
    {"text": "😀 Ada in Kyiv", "label": [[2, 5, "PER"]], "entities": []},
    {"text": "😀 Ada in Kyiv", "label": [[3, 6, "PER"]], "id": 1},
    {"text": "ناديا", "label": [], "answer": "accept"},
    {"words": ["a", "O"], "tags": ["B-X", "O"], "label": [[0, 1, 3]]},
    {"text": "Al", "spans": [{"start": 0, "end": 2, "label": "B-X", "text": "Al"}], "meta": {"k": [1]}},
    ["Al x", {"entities": [[0, 2, "PER"]]}],
    {"data": {"text": "Al"}, "annotations": []},
    "broken",
]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(range(len(ROWS))), max_size=14), st.data(), st.sampled_from([1, 2, 3, 4096]))
def test_any_cut_of_a_file_settles_alike(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], data: Any, most: int
) -> None:
    file = lines_of(tmp_path_factory.mktemp("cut"), *(ROWS[number] for number in numbers))
    raws = list(read_raws(file))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raws)), max_size=3)))
    before, module.MOST = module.MOST, most
    try:
        whole = _outcome(file, [raws])
        parts = [raws[a:b] for a, b in zip([0, *cuts], [*cuts, len(raws)], strict=True)]
        assert _outcome(file, parts) == whole
    finally:
        module.MOST = before


def _outcome(file: File, parts: list[list[Any]]) -> Any:
    found = []
    for part in parts:
        evidence = FORMATS["jsonl"].evidence(file)
        for raw in part:
            evidence.add(raw)
        found.append(pickle.loads(pickle.dumps(evidence)))
    first, *rest = found
    for later in rest:
        first.merge(later)
    try:
        return first.settle(file)
    except InputError as error:
        return str(error)


def test_pieces_of_lines_are_settled_and_read_alike(tmp_path: Path) -> None:
    names = random.Random(5)
    rows = [{"text": f"{names.choice('😀🙂é')} Ada {n} in Kyiv", "label": [[2, 5, "PER"]]} for n in range(200)]
    file = lines_of(tmp_path, *rows)
    cuts = FORMATS["jsonl"].pieces(file, [1000, 5000])
    raws = [
        raw
        for a, b in zip([0, *cuts], [*cuts, None], strict=True)
        for raw in FORMATS["jsonl"].raws(file, START._replace(offset=a), b)
    ]
    assert [raw.data for raw in raws] == rows
    records = [one for raw in raws for one in records_of(raw, replace(file, reading=settled(file).reading))]
    assert all(entities(record) == [("Ada", "PER")] for record in records)


def test_choose_prefers_what_is_stated() -> None:
    assert choose({"text": ["text"], "b": ["text"]}, Columns(text="b").names()).found["text"] == "b"
