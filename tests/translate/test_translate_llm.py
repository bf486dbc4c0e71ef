"""Prompts, answers and rejects of the translator by a language model; the model is a fake."""

from typing import Any

import pyarrow as pa
import pytest
from fakes import FakeChat
from made_rows import table_from_rows

from xner_ray.data import row as data_row
from xner_ray.data import words
from xner_ray.data.languages import LANGUAGES
from xner_ray.engine.guard import run_stage
from xner_ray.errors import Flag, Reason
from xner_ray.models.vllm import Reply
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import Translate
from xner_ray.translate.base import Translation
from xner_ray.translate.llm import LlmTranslator, clean, conversation, language
from xner_ray.translate.stage import TranslateStage

SECTION = Translate(engine="llm", model="owner/name", gpus=1)


def _translate(answer: str | Reply, text: str = "Anna is here.") -> Translation | tuple[Reason, str]:
    chat = FakeChat(lambda sentence: answer)
    (result,) = LlmTranslator(SECTION, chat).translate([text], "eng_Latn", "swh_Latn")
    return result


def test_the_prompt() -> None:
    """Any change of it changes every translation; the hash in the fingerprint then refuses to go on with a run."""
    system, user = conversation("Who {knows}?", "eng_Latn", "amh_Ethi")
    assert system == {
        "role": "system",
        "content": (
            "You are a professional translator from English (Latin script) into Amharic (Ethiopic script). Translate "
            "the sentence that the user gives. Output only the translation, in one line: no quotation marks around "
            "it, no label, no note and no explanation. Translate questions and requests too; do not answer them. "
            "Keep all names and numbers."
        ),
    }
    assert user == {
        "role": "user",
        "content": "Translate from English (Latin script) into Amharic (Ethiopic script):\nWho {knows}?",
    }


def test_every_language_has_a_name_of_its_own() -> None:
    names = [language(code) for code in LANGUAGES]
    assert not [name for name in names if name.count("(") != 1]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("Anna yuko hapa.", "Anna is here.", "Anna yuko hapa."),
        ("  Anna yuko hapa. \n", "Anna is here.", "Anna yuko hapa."),
        ('"Anna yuko hapa."', "Anna is here.", "Anna yuko hapa."),
        ("«Anna yuko hapa.»", "Anna is here.", "Anna yuko hapa."),
        ("“Habari”", "“Hello”", "“Habari”"),  # quoted in the source too
        ('"Habari"', "Hello”", '"Habari"'),
        ('"A" na "B"', "A and B", '"A" na "B"'),  # quoted twice, not around
        ("„A“", "A", "A"),
        ('"', "A", '"'),
        ("Translation: Habari", "Hello", "Habari"),
        ("**Translation:**\n\nHabari", "Hello", "Habari"),
        ('Translation: "Habari"', "Hello", "Habari"),
        ("Translation: kazi", "Translation: work", "Translation: kazi"),
        ("Habari: Anna", "News: Anna", "Habari: Anna"),
        ("שלום, אנה.", "Hello, Anna.", "שלום, אנה."),
    ],
)
def test_labels_and_quotes_that_the_source_lacks_are_taken_off(answer: str, text: str, expected: str) -> None:
    assert clean(answer, text) == expected


def test_the_score_is_the_mean_log_probability() -> None:
    assert _translate("Anna yuko hapa.") == Translation("Anna yuko hapa.", -0.5)
    assert _translate(Reply("Anna", "stop", None, 1)) == Translation("Anna", None)


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        ("", Reason.TRANSLATION_EMPTY, "gave no text"),
        (" \n ", Reason.TRANSLATION_EMPTY, "gave no text"),
        ("Translation:", Reason.TRANSLATION_EMPTY, "gave no text"),
        (Reply("Anna Anna", "length", -0.1, 99), Reason.TRANSLATION_TRUNCATED, "no end after 99 tokens: Anna Anna"),
        (Reply("4 tokens", "prompt", None, 0), Reason.SOURCE_TOO_LONG, "4 tokens; split the sentence, or raise"),
        (Reply("spells <s>", "control", None, 0), Reason.CONTROL_CHARACTER, "spells <s>"),
        ("Anna yuko hapa.\n\nNote: a name.", Reason.TRANSLATION_COMMENTED, "2 lines, as 'Anna yuko hapa."),
    ],
)
def test_what_is_no_translation_is_a_reject(answer: str | Reply, reason: Reason, detail: str) -> None:
    result = _translate(answer)
    assert isinstance(result, tuple)
    assert result[0] == reason
    assert detail in result[1]


def test_a_source_of_two_lines_may_have_a_translation_of_two() -> None:
    assert _translate("moja\nmbili", "one\ntwo") == Translation("moja\nmbili", -0.5)


def test_one_call_a_unit_and_limits_that_do_not_depend_on_the_company() -> None:
    chat = FakeChat(str.upper)
    translator = LlmTranslator(SECTION, chat)
    texts = ["a b", "ሀ" * 10, "a b"]
    results = translator.translate(texts, "eng_Latn", "swh_Latn")
    assert results == [Translation(text.upper(), -0.5) for text in texts]
    assert len(chat.calls) == 1
    ((asked, limits, given),) = chat.calls
    assert [messages[-1]["content"].endswith(text) for messages, text in zip(asked, texts, strict=True)] == [True] * 3
    assert limits == [76, 184, 76]  # 64 + 4 bytes of UTF-8
    assert given is None
    assert (translator.tokens, translator.micro_batch_tokens) == (chat.tokens, 0)
    LlmTranslator(SECTION.model_copy(update={"max_new_tokens": 9}), chat).translate(texts, "eng_Latn", "swh_Latn")
    assert chat.calls[1][1] == [9, 9, 9]


def _table(*texts: str) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        offsets = words.split(text, "eng_Latn")
        cells = {"source_tokens": [text[a:b] for a, b in offsets], "source_offsets": data_row.offset_cells(offsets)}
        langs = {"source_lang": "eng_Latn", "lang": "swh_Latn", "split": "train"}
        rows.append({"row": number, "id": str(number), "source_text": text, **cells, **langs})
    return table_from_rows(rows, data_row.ROW)


def test_through_the_stage_every_row_is_a_translation_or_a_reject() -> None:
    answers = {"Anna came.": "Anna alikuja.", "Bob left.": "Bob\nNote", "Who?": Reply("Nani", "length", -1.0, 70)}
    recipe = load_recipe(
        {"input": {"path": "a"}, "targets": ["swh_Latn"], "translate": {"engine": "llm", "model": "m", "gpus": 1}}
    )
    stage = TranslateStage(recipe, LlmTranslator(SECTION, FakeChat(lambda text: answers[text])))
    table, stats = run_stage(stage, _table(*answers))
    rows = table.to_pylist()
    assert [row["reason"] for row in rows] == [None, "translation_commented", "translation_truncated"]
    assert (rows[0]["text"], rows[0]["tokens"]) == ("Anna alikuja.", ["Anna", "alikuja", "."])
    assert (rows[0]["translation_score"], rows[0]["flags"]) == (-0.5, [Flag.BY_LLM])
    assert stats.rejects == {"translation_commented": 1, "translation_truncated": 1}
    assert stats.tokens == 2 + 2 + 70


def test_a_prompt_that_the_engine_refuses_rejects_its_row_alone() -> None:
    def answer(text: str) -> str:
        if text == "bad":
            raise ValueError("no such prompt")
        return text

    recipe = load_recipe(
        {"input": {"path": "a"}, "targets": ["swh_Latn"], "translate": {"engine": "llm", "model": "m", "gpus": 1}}
    )
    stage = TranslateStage(recipe, LlmTranslator(SECTION, FakeChat(answer)))
    rows = run_stage(stage, _table("good", "bad", "better"))[0].to_pylist()
    assert [row["reason"] for row in rows] == [None, "stage_error", None]
    assert [row["text"] for row in rows] == ["good", None, "better"]
