"""Small inputs of kinds that went wrong in silence (A) or lost data loudly (B), read through the index as runs do.

Each is as it was reported; what it must become stands beside it: entities, or the words of the one message.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from reading import read_all, reasons, to_test, to_train, write

from xner_ray.errors import InputError, RecipeError
from xner_ray.read.index.build import build_index
from xner_ray.recipe.load import load_recipe

Entities = list[list[tuple[str, str]]]  # of each sentence: text, label


def _entities(path: Path, lang: str = "eng_Latn", **given: Any) -> Entities:
    table = read_all(to_train(path, input={"lang": lang, **given}))
    assert set(reasons(table)) <= {None, "left_out"}, table.column("detail").to_pylist()
    rows = [row for row in table.to_pylist() if row["reason"] is None]
    return [
        [(" ".join(row["source_tokens"][s["start"] : s["end"]]), s["label"]) for s in row["source_spans"]]
        for row in rows
    ]


NUMBERED = "1 Nora NNP I-NP B-PER\n2 Falk NNP I-NP I-PER\n\n1 Oslo NNP I-NP B-LOC\n2 . . O O\n\n"
LEVELS = "Oslo\tB-ORG\tB-LOC\nTimes\tI-ORG\tO\n\n"
PREFIXED = "en:Nora\tB-PER\nen:moved\tO\n\nen:Oslo\tB-LOC\n\n"
UTF16 = '{"text":"😀😀 Nora went to Oslo with Ada.","label":[{"start":18,"end":22,"text":"Oslo","labels":["LOC"]}]}\n'
GLINER = '{"text":"Nora Falk moved.","tokenized_text":["Nora","Falk","moved","."],"ner":[[0,1,"PER"]]}\n'
PLAIN = {"text": "Nora went to Oslo.", "id": "1"}
FOUND = [[("Nora", "PER"), ("Oslo", "LOC")]]
DOCUMENT = {
    "id": "doc1",
    "text": "Nora Falk left Oslo. Ada stayed.",
    "spans": [[0, 9, "PER"], [15, 19, "LOC"], [21, 24, "PER"]],
}
TAGGED = [{"start": 0, "end": 4, "label": "B-PER"}, {"start": 5, "end": 9, "label": "I-PER"}]
CUT = [[("Nora Falk", "PER"), ("Oslo", "LOC")], [("Ada", "PER")]]


def _lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def _answers(*answers: str) -> str:
    return _lines(*({**PLAIN, "spans": [[0, 4, "PER"]], "id": n, "answer": x} for n, x in enumerate(answers)))


@pytest.mark.parametrize(
    ("name", "content", "given", "expected"),
    [
        # A1: columns
        ("a.conll", NUMBERED, {}, [[("Nora Falk", "PER")], [("Oslo", "LOC")]]),
        ("a.conll", NUMBERED, {"columns": {"tokens": 2, "tags": 5}}, [[("Nora Falk", "PER")], [("Oslo", "LOC")]]),
        ("a.conll", LEVELS, {"columns": {"tags": 2}}, [[("Oslo Times", "ORG")]]),
        ("a.conll", LEVELS, {"columns": {"tags": 3}}, [[("Oslo", "LOC")]]),
        ("a.conll", PREFIXED, {}, [[("Nora", "PER")], [("Oslo", "LOC")]]),
        # A3: offsets
        ("a.jsonl", UTF16, {}, [[("Oslo", "LOC")]]),
        ("a.jsonl", GLINER, {}, [[("Nora Falk", "PER")]]),
        # A4: labelled documents
        ("a.jsonl", _lines(DOCUMENT), {"split": "sentences"}, CUT),
        # A5: fields that say "not gold"
        ("a.jsonl", _answers("accept", "reject", "ignore"), {}, [[("Nora", "PER")]]),
        ("a.jsonl", _answers("accept", "reject"), {"answers": ["accept", "reject"]}, [[("Nora", "PER")]] * 2),
        # A7: labels that are tags
        ("a.jsonl", _lines({"text": "Nora Falk moved.", "spans": TAGGED}), {}, [[("Nora Falk", "PER")]]),
        # B2: tokens that are none
        (
            "a.jsonl",
            _lines({"tokens": ["Nora", "\n", " ", "Falk"], "ner_tags": ["B-PER", "O", "O", "O"]}),
            {},
            [[("Nora", "PER")]],
        ),
        (
            "a.jsonl",
            _lines({"tokens": ["Nora", "5\u00a0000", "salah satu"], "ner_tags": ["O", "B-N", "B-X"]}),
            {},
            [[("5 000", "N"), ("salah satu", "X")]],
        ),
        ("a.conll", "Nora\tB-PER\n\u3000\tI-PER\nFalk\tI-PER\n\n", {}, [[("Nora Falk", "PER")]]),
        (
            "a.conll",
            "lọ\tB-X\n\u0301\tI-X\njọ\tI-X\n\u0301\tI-X\nkejì\tO\n\n",
            {"lang": "yor_Latn"},
            [[("lọ\u0301 jọ\u0301", "X")]],
        ),
        # B3: objects of every shape
        ("a.jsonl", _lines({**PLAIN, "label": [[0, 4, "PER"], [13, 17, "LOC"]]}), {}, FOUND),
        (
            "a.jsonl",
            _lines(
                {
                    **PLAIN,
                    "entities": [
                        {"id": 1, "start_offset": 0, "end_offset": 4, "label": "PER"},
                        {"id": 2, "start_offset": 13, "end_offset": 17, "label": "LOC"},
                    ],
                }
            ),
            {},
            FOUND,
        ),
        ("a.jsonl", _lines({**PLAIN, "spans": [[0, 4, "PER", "Nora"], [13, 17, "LOC", "Oslo"]]}), {}, FOUND),
        (
            "a.jsonl",
            _lines(
                {**PLAIN, "entities": [{"start": 0, "end": 4, "type": "PER"}, {"start": 13, "end": 17, "type": "LOC"}]}
            ),
            {},
            FOUND,
        ),
        ("a.json", json.dumps([{**PLAIN, "spans": [[0, 4, "PER"], [13, 17, "LOC"]]}]), {}, FOUND),
        ("a.jsonl", _lines(["Nora went to Oslo.", {"entities": [[0, 4, "PER"], [13, 17, "LOC"]]}]), {}, FOUND),
        # B4: spellings of tags
        (
            "a.conll",
            "Nora PERSON\nFalk PERSON\nleft O\nOslo GPE\n. O\n. O\n\n",
            {},
            [[("Nora Falk", "PERSON"), ("Oslo", "GPE")]],
        ),
        (
            "a.conll",
            "Nora B-PER\nvan M-PER\nFalk E-PER\nin O\nOslo S-LOC\n\n",
            {},
            [[("Nora van Falk", "PER"), ("Oslo", "LOC")]],
        ),
        ("a.conll", "Nora B_PER\nFalk I_PER\nleft O\n\n", {}, [[("Nora Falk", "PER")]]),
        ("a.conll", "Nora PER-B\nFalk PER-I\nleft O\n\n", {}, [[("Nora Falk", "PER")]]),
        ("a.conll", "Nora B-PER\nleft o\nnow o\n\n", {}, [[("Nora", "PER")]]),
        ("a.conll", "Nora B-PER\nleft 0\nnow 0\n\n", {}, [[("Nora", "PER")]]),
        # B6: comments
        ("a.conll", "# id 5f3c\tdomain=en\nNora _ _ B-PER\nleft _ _ O\n\n", {}, [[("Nora", "PER")]]),
        ("a.conll", "#\thttp://a.b\t[2009-10-17]\n1\tNora\tB-PER\tO\n2\tleft\tO\tO\n\n", {}, [[("Nora", "PER")]]),
        ("a.conll", "word\ttag\nNora\tB-PER\nleft\tO\n\n", {}, [[("Nora", "PER")]]),
        ("a.conll", "% a comment\nNora\tB-PER\nleft\tO\n\n", {}, [[("Nora", "PER")]]),
        # B7: no blank lines
        ("a.conll", "Nora\tB-PER\nleft\tO\n.\tO\n" * 300, {"split": "sentences"}, [[("Nora", "PER")]] * 300),
        # B8: tasks that nobody has labelled
        (
            "a.json",
            json.dumps(
                [
                    {"id": 1, "data": {"text": "Oslo."}, "annotations": []},
                    {
                        "id": 2,
                        "data": {"text": "Oslo."},
                        "annotations": [
                            {"result": [{"type": "labels", "value": {"start": 0, "end": 4, "labels": ["LOC"]}}]}
                        ],
                    },
                ]
            ),
            {},
            [[("Oslo", "LOC")]],
        ),
    ],
)
def test_examples_are_read_as_meant(
    tmp_path: Path, name: str, content: str, given: dict[str, Any], expected: Entities
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    found = _entities(tmp_path / name, **given)
    joined = [
        [(text.replace("5 000", "5\u00a0000").replace("\u00a0", " "), label) for text, label in one] for one in found
    ]
    assert joined == expected


@pytest.mark.parametrize(
    ("name", "content", "given", "words"),
    [
        ("a.conll", LEVELS, {}, r"several columns hold tags.*ORG.*LOC.*input\.columns: \{tokens: 1, tags: 2\}"),
        ("a.conll", "Nora\tB-PER,B-LOC\nleft\tO\n\n" * 3, {}, r"two tags, as B-PER,B-LOC"),
        ("a.conll", NUMBERED, {"split": "sentences"}, r"in sentences already; leave input\.split out"),
        (
            "a.conll",
            "Nora PERSON\nin O\nOslo GPE\n. O\n\n",
            {"labels": {"keep": ["PER", "LOC"]}},
            r"none of these occurs; labels found: (GPE 1, PERSON 1|PERSON 1, GPE 1)",
        ),
        (
            "a.conll",
            NUMBERED,
            {"labels": {"rename": {"PERS": "PER"}}},
            r"input\.labels\.rename: PERS: none of these occurs",
        ),
        (
            "a.jsonl",
            _lines({"text": "Nora.", "tagged": {"a": 1}}),
            {},
            r"has no labels.*its objects have the keys text.*tagged.*input\.columns",
        ),
        ("a.conll", "Nora\tB-PER\nleft\tO\n.\tO\n" * 300, {}, r"no blank line in 900 lines.*input\.split: sentences"),
        ("a.conll", "Élan\tB-ORG\nété\tO\n\n".encode("latin-1") * 9, {}, "iconv -f latin1 -t utf-8"),
        ("a.txt", "Élan à été\n".encode("latin-1") * 9, {}, "iconv -f latin1 -t utf-8"),
    ],
)
def test_examples_that_are_refused_name_the_cure(
    tmp_path: Path, name: str, content: str | bytes, given: dict[str, Any], words: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words):
        build_index(to_train(tmp_path / name, input=given))


def test_a2_words_with_tags_under_a_name_of_text(tmp_path: Path) -> None:
    path = write(tmp_path / "test.txt", "kuongezeka O\nkwa O\nJuma B-PER\n\n" * 4)
    index = build_index(recipe := to_test(path))
    assert "test.txt: read as conll: it has a word and its tag on each line" in index.said
    assert read_all(recipe, index).column("tokens").to_pylist() == [["kuongezeka", "kwa", "Juma"]] * 4


def test_a4_sentences_of_a_document_are_numbered_and_keep_their_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", DOCUMENT)
    table = read_all(to_train(path, input={"split": "sentences"}))
    assert table.column("id").to_pylist() == ["doc1#0", "doc1#1"]
    assert table.column("document_start").to_pylist() == [0, 21]


def test_a5_what_is_no_gold_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", _answers("accept", "reject", "ignore"))
    index = build_index(to_train(path))
    assert [(one.reason, one.rows) for one in index.rejects] == [("left_out", 2)]
    assert index.reject_rate == 0


def test_b1_ids_that_restart_in_each_split(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", {**PLAIN, "spans": [[0, 4, "PER"]]})
    table = read_all(to_train(tmp_path))
    assert reasons(table) == [None] * 3
    assert sorted(table.column("split").to_pylist()) == ["test", "train", "validation"]


def test_b5_rejects_are_known_before_models_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "Nora B-PER\nleft O\n\n" * 20 + "Nora\nleft O\n. O\n\n")
    index = build_index(recipe := to_train(path))
    (problem,) = index.problems()
    assert "1 of 21 rows will be rejected: malformed; the first: a.conll:61: line 61" in problem
    assert index.reject_rate > recipe.output.max_reject_rate


def test_b8_no_is_a_language(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "input: {path: a.conll}\ntargets: [no]\n")
    with pytest.raises(
        RecipeError, match=r"targets.0 is False: YAML reads no, off and false as false: write the whole code"
    ):
        load_recipe(str(path))


def test_b8_numbers_before_parallel_lines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.conll", "Nora B-PER\nleft O\n\nOslo B-LOC\n\nIt O\nrains O\n")
    lines = write(tmp_path / "es.txt", "0\tNora se fue\n1\tOslo\n2\tLlueve\n")
    table = read_all(to_train(source, input={"parallel": {"spa_Latn": str(lines)}}))
    assert table.column("text").to_pylist() == ["Nora se fue", "Oslo", "Llueve"]
