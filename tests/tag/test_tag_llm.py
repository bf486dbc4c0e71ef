"""Prompts, answers and rejects of the tagger by a language model; the model is a fake."""

import json
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fakes import FakeChat
from hypothesis import given
from hypothesis import strategies as st
from made_rows import table_from_rows

from xner_ray.data import row as data_row
from xner_ray.data import words
from xner_ray.data.spans import Span
from xner_ray.engine.guard import run_stage
from xner_ray.errors import Flag, Reason
from xner_ray.models.vllm import Reply
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import Tag
from xner_ray.tag import llm
from xner_ray.tag.llm import LlmTagger, conversation, read
from xner_ray.tag.stage import TagStage, TargetTagStage

LABELS = ("LOC", "ORG", "PER")
MEANINGS: dict[str, str | None] = {"PER": "a person's name", "ORG": None, "LOC": "a place {or country}"}
SECTION = Tag(engine="llm", model="owner/name", gpus=1, labels=MEANINGS)
SENTENCE = ["Anna", "Otieno", "met", "Bob", "in", "Paris", ",", "and", "Anna", "left", "Paris", "."]
UNNORMALISED = ["Ame\u0301lie", "Bobs"]


def _answer(*entities: tuple[str, str, int]) -> str:
    keys = ("text", "label", "occurrence")
    return json.dumps({"entities": [dict(zip(keys, entity, strict=True)) for entity in entities]})


def test_the_prompt() -> None:
    """Any change of it changes every tag; the hash in the fingerprint then refuses to go on with a run."""
    system, user = conversation("Anna {left}.", MEANINGS)
    assert system == {
        "role": "system",
        "content": (
            "You find the named entities of a sentence. The labels:\n"
            "- LOC: a place {or country}\n"
            "- ORG\n"
            "- PER: a person's name\n"
            'Answer in JSON, in their order: {"entities": [{"text": "...", "label": "...", "occurrence": 1}]}.\n'
            "text: the words of the entity, copied exactly as they stand in the sentence.\n"
            "label: one of the labels above.\n"
            "occurrence: 1 where the text stands in the sentence for the first time, 2 for the second time, and so "
            "on.\n"
            'Entities do not overlap. A sentence without entities is {"entities": []}.'
        ),
    }
    assert user == {"role": "user", "content": "The sentence:\nAnna {left}."}


@pytest.mark.parametrize(
    ("sentence", "entities", "expected"),
    [
        (SENTENCE, [], []),
        (SENTENCE, [("Anna Otieno", "PER", 1), ("Bob", "PER", 1)], [Span(0, 2, "PER"), Span(3, 4, "PER")]),
        (SENTENCE, [("Anna", "PER", 2), ("Paris", "LOC", 1)], [Span(5, 6, "LOC"), Span(8, 9, "PER")]),
        (SENTENCE, [("Paris", "LOC", 2), ("Paris", "LOC", 1)], [Span(5, 6, "LOC"), Span(10, 11, "LOC")]),
        (SENTENCE, [("Bob", "PER", 3)], [Span(3, 4, "PER")]),  # stands once, so the number does not matter
        (SENTENCE, [("Bob", "PER", 1), ("Bob", "PER", 1)], [Span(3, 4, "PER")]),
        (SENTENCE, [("Anna  Otieno ", "PER", 1)], [Span(0, 2, "PER")]),
        (
            ["O'Neil", "'s", "U.S", "."],
            [("U.S.", "LOC", 1), ("O'Neil", "PER", 1)],
            [Span(0, 1, "PER"), Span(2, 4, "LOC")],
        ),
        (["ana", "na", "na"], [("na na", "PER", 1)], [Span(1, 3, "PER")]),  # not inside "ana"
        (["na", "na", "na"], [("na na", "PER", 2)], [Span(1, 3, "PER")]),  # places may overlap
        (UNNORMALISED, [("Am\u00e9lie", "PER", 1)], [Span(0, 1, "PER")]),
        (["Am\u00e9lie"], [("Ame\u0301lie", "PER", 1)], [Span(0, 1, "PER")]),
        (["גרה", "בתל", "אביב", "."], [("בתל אביב", "LOC", 1)], [Span(1, 3, "LOC")]),
        (["安娜", "在", "巴黎"], [("巴黎", "LOC", 1)], [Span(2, 3, "LOC")]),
    ],
)
def test_entities_are_found_in_the_words(
    sentence: list[str], entities: list[tuple[str, str, int]], expected: list[Span]
) -> None:
    assert read(_answer(*entities), sentence, LABELS) == expected


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("", "not JSON of the schema"),
        ('{"entities": [', "not JSON of the schema"),
        ("Here are the entities: []", "not JSON of the schema"),
        ('{"entities": [{"text": "Bob", "label": "PER"}]}', "not JSON of the schema (Field required)"),
        ('{"entities": [{"text": "Bob", "label": "PER", "occurrence": "1"}]}', "should be a valid integer"),
        ('{"entities": [], "note": "none"}', "Extra inputs are not permitted"),
        (r'{"entities": [{"text": "\ud83d", "label": "PER", "occurrence": 1}]}', "not JSON of the schema"),
        ("[" * 100_000, "not JSON of the schema"),
        (_answer(("Bob", "PER", 0)), "greater than or equal to 1"),
        (_answer(("Bob", "DOG", 1)), "label 'DOG' is not one of LOC, ORG, PER"),
        (_answer(("Robert", "PER", 1)), "'Robert' is not in the sentence as whole words"),
        (_answer(("bob", "PER", 1)), "'bob' is not in the sentence as whole words"),
        (_answer(("Par", "LOC", 1)), "'Par' is not in the sentence as whole words"),
        (_answer(("Bob Paris", "PER", 1)), "'Bob Paris' is not in the sentence as whole words"),
        (_answer((" ", "PER", 1)), "' ' is not in the sentence as whole words"),
        (_answer(("Paris", "LOC", 3)), "'Paris' is 2 times in the sentence, not 3"),
        (_answer(("Bob", "PER", 1), ("Rome", "LOC", 1)), "'Rome' is not in the sentence as whole words"),
    ],
)
def test_an_answer_that_is_not_about_the_sentence_is_a_reject(answer: str, detail: str) -> None:
    result = read(answer, SENTENCE, LABELS)
    assert isinstance(result, tuple)
    assert result[0] == Reason.TAGGING_FAILED
    assert detail in result[1]


@given(st.lists(st.text("ab\u0301é", min_size=1, max_size=3), min_size=1, max_size=6), st.data())
def test_whatever_stands_in_the_words_is_found_there(sentence: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(sentence) - 1))
    end = data.draw(st.integers(start + 1, len(sentence)))
    text = " ".join(sentence[start:end])
    same = [
        (a, b)
        for a in range(len(sentence))
        for b in range(a + 1, len(sentence) + 1)
        if _plain(sentence[a:b]) == _plain(sentence[start:end])
    ]
    number = same.index((start, end)) + 1
    assert read(_answer((text, "PER", number)), sentence, LABELS) == [Span(start, end, "PER")]


def _plain(part: list[str]) -> str:
    return "".join(unicodedata.normalize("NFC", word) for word in part)


def test_the_schema_allows_the_labels_and_nothing_else() -> None:
    entity = llm.schema(LABELS)["properties"]["entities"]["items"]
    assert entity["properties"]["label"]["enum"] == list(LABELS)
    assert sorted(entity["required"]) == sorted(entity["properties"]) == sorted(llm._Entity.model_fields)
    assert not entity["additionalProperties"]


def _sentence(text: str) -> tuple[list[str], list[bool]]:
    parts = text.split()
    return parts, [True] * (len(parts) - 1) + [False]


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (Reply('{"entities": [{"te', "length", -0.1, 99), Reason.TAGGING_FAILED, "the answer does not end: '{"),
        (Reply("9 tokens", "prompt", None, 0), Reason.TAGGING_FAILED, "9 tokens; split the sentence, or raise tag.llm"),
        (Reply("spells <s>", "control", None, 0), Reason.CONTROL_CHARACTER, "spells <s>"),
        ("none", Reason.TAGGING_FAILED, "not JSON"),
    ],
)
def test_what_is_no_answer_is_a_reject(answer: str | Reply, reason: Reason, detail: str) -> None:
    (result,) = LlmTagger(SECTION, model=FakeChat(lambda text: answer)).tag([_sentence("Anna left")])
    assert isinstance(result, tuple)
    assert result[0] == reason
    assert detail in result[1]


def test_one_call_a_unit_with_the_sentences_as_they_are_written() -> None:
    chat = FakeChat(lambda text: _answer())
    tagger = LlmTagger(SECTION, model=chat)
    assert tagger.labels == LABELS
    assert tagger.tag([(["Anna", "'s", "dog"], [False, True, False]), (["No"], [True])]) == [[], []]
    ((asked, limits, given_schema),) = chat.calls
    assert [messages[-1]["content"] for messages in asked] == ["The sentence:\nAnna's dog", "The sentence:\nNo"]
    assert limits == [64 + 2 * 10 + 32 * 3, 64 + 2 * 2 + 32]
    assert given_schema == llm.schema(LABELS)
    assert (tagger.tokens, tagger.micro_batch_tokens) == (chat.tokens, 0)


def test_probabilities_are_those_of_certain_tags_of_the_longest_spans() -> None:
    answers = {"Anna Otieno left": _answer(("Anna Otieno", "PER", 1), ("Otieno", "LOC", 1)), "x": "no"}
    rows, reject = LlmTagger(SECTION, "target_tag", FakeChat(lambda text: answers[text])).probabilities(
        [["Anna", "Otieno", "left"], ["x"]]
    )
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.float32
    assert rows.argmax(axis=1).tolist() == [5, 6, 0]  # O, B-LOC, I-LOC, B-ORG, I-ORG, B-PER, I-PER
    assert rows.sum(axis=1).tolist() == [1, 1, 1]
    assert isinstance(reject, tuple)


def _table(*texts: str, **cells: Any) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        offsets = words.split(text, "eng_Latn")
        tokens = [text[a:b] for a, b in offsets]
        source = {"source_tokens": tokens, "source_offsets": data_row.offset_cells(offsets), "source_text": text}
        langs = {"source_lang": "eng_Latn", "lang": "swh_Latn", "split": "train"}
        rows.append({"row": number, "id": str(number), "tokens": tokens, **source, **langs, **cells})
    return table_from_rows(rows, data_row.ROW)


ANSWERS: dict[str, str | Reply] = {
    "Bank of Japan rose": _answer(("Bank of Japan", "ORG", 1), ("Japan", "LOC", 1)),
    "Anna left": _answer(("Anna", "PER", 1)),
    "Nobody came": _answer(),
    "Bob left": _answer(("Robert", "PER", 1)),
    "Carl left": Reply("{", "length", -0.1, 50),
}
TAG = {"engine": "llm", "model": "m", "gpus": 1, "labels": MEANINGS}


def test_through_the_stage_every_row_is_tagged_or_a_reject_and_overlaps_are_counted() -> None:
    recipe = load_recipe(
        {"input": {"path": "a", "labels": {"rename": {"PER": "PERSON"}}}, "targets": ["swh_Latn"], "tag": TAG}
    )
    stage = TagStage(recipe, LlmTagger(SECTION, model=FakeChat(lambda text: ANSWERS[text])))
    table, stats = run_stage(stage, _table(*ANSWERS, flags=["x"]))
    rows = table.to_pylist()
    assert [row["reason"] for row in rows] == [None, None, None, "tagging_failed", "tagging_failed"]
    assert [(s["start"], s["end"], s["label"]) for s in rows[0]["source_spans"]] == [(0, 3, "ORG"), (2, 3, "LOC")]
    assert rows[0]["unprojected"] == [{"source": 1, "reason": "nested"}]
    assert [(s["label"], s["score"]) for s in rows[1]["source_spans"]] == [("PERSON", 1.0)]
    assert rows[1]["unprojected"] is None
    assert (rows[2]["source_spans"], rows[2]["flags"]) == ([], ["x", Flag.BY_LLM])
    assert rows[3]["detail"] == "'Robert' is not in the sentence as whole words"
    assert stats.rejects == {"tagging_failed": 2}
    again, _ = run_stage(stage, _table(*ANSWERS, flags=["x"]))
    assert again.equals(table)


def test_on_the_target_side_too() -> None:
    recipe = load_recipe({"input": {"path": "a"}, "targets": ["swh_Latn"], "projector": "transfer", "target_tag": TAG})
    stage = TargetTagStage(recipe, LlmTagger(SECTION, "target_tag", FakeChat(lambda text: ANSWERS[text])))
    rows = run_stage(stage, _table(*ANSWERS))[0].to_pylist()
    assert [row["reason"] for row in rows] == [None, None, None, "tagging_failed", "tagging_failed"]
    assert [(cell["word"], cell["tag"]) for cell in rows[1]["target_tags"]] == [(0, "B-PER"), (1, "O")]
    assert (rows[1]["flags"], rows[3]["target_tags"]) == ([Flag.BY_LLM], None)
