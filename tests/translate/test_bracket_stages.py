"""The stage over tables, with a translator that looks its answers up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from made_rows import table_from_rows

from xner_ray.data import row as data_row
from xner_ray.data import words
from xner_ray.data.spans import Span
from xner_ray.errors import Reason
from xner_ray.recipe.sections import Health
from xner_ray.stage import Stage
from xner_ray.translate.base import Translation
from xner_ray.translate.bracket_stages import BackTranslateStage, MarkerStage

FAILED = (Reason.TRANSLATION_TRUNCATED, "no end")


class Dictionary:
    """Translates what it knows; the rest is rejected."""

    model_seconds = 0.0

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = known
        self.tokens = 0
        self.micro_batch_tokens = 64
        self.calls: list[tuple[list[str], str, str]] = []

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
        self.calls.append((list(texts), source, target))
        self.tokens += len(texts)
        return [Translation(self.known[text], -0.5) if text in self.known else FAILED for text in texts]


ANNA = {
    "[Anna Lee] saw [Bob] .": "[ Bob ] fue visto por [Anna Lee].",
    "Anna Lee": "Anna Lee",
    "Bob": "Bob.",
}
ANNA_SPANS = [Span(0, 2, "PER", 0.9), Span(3, 4, "PER")]


def _row(text: str, spans: Sequence[Span] | None, **cells: Any) -> dict[str, Any]:
    offsets = words.split(text, "eng_Latn")
    return {
        "source_text": text,
        "source_tokens": [text[start:end] for start, end in offsets],
        "source_offsets": data_row.offset_cells(offsets),
        "source_spans": None if spans is None else data_row.span_cells(spans),
        "flags": [],
        **cells,
    }


def _table(*rows: dict[str, Any], lang: str = "spa_Latn") -> pa.Table:
    base = {"source_lang": "eng_Latn", "lang": lang, "split": "train"}
    return table_from_rows([{**base, "row": n, "id": str(n), **row} for n, row in enumerate(rows)], data_row.ROW)


def _run(known: Mapping[str, str], *rows: dict[str, Any], lang: str = "spa_Latn") -> list[dict[str, Any]]:
    """The rows after the stage, which may change its four columns and nothing else."""
    before = _table(*rows, lang=lang)
    after = BackTranslateStage(Dictionary(known))(before)
    writes = ["bridge_tokens", "bridge_spans", "unprojected", "flags"]
    assert after.schema == before.schema
    assert after.drop_columns(writes) == before.drop_columns(writes)
    result: list[dict[str, Any]] = after.to_pylist()
    return result


def _spans(row: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Words, label and source of each bridge span."""
    return [
        (" ".join(row["bridge_tokens"][span["start"] : span["end"]]), span["label"], span["source"])
        for span in row["bridge_spans"]
    ]


def test_entities_are_found_on_the_words_of_the_back_translation() -> None:
    (row,) = _run(ANNA, _row("Anna Lee saw Bob .", ANNA_SPANS))
    assert row["bridge_tokens"] == ["Bob", "fue", "visto", "por", "Anna", "Lee", "."]
    assert row["bridge_spans"] == [
        {"start": 0, "end": 1, "label": "PER", "score": pytest.approx(0.8571), "source": 1},  # Bob and "Bob."
        {"start": 4, "end": 6, "label": "PER", "score": 1.0, "source": 0},
    ]
    assert (row["unprojected"], row["flags"], row["status"]) == ([], [], "ok")


def test_rows_keep_their_order_and_those_without_entities_have_no_bridge() -> None:
    known = {**ANNA, "[Bob] .": "¡[Bob]!"}
    anna, bob = _row("Anna Lee saw Bob .", ANNA_SPANS), _row("Bob .", [Span(0, 1, "ORG")])
    rejected = _row("Bob .", [Span(0, 1, "ORG")], status="rejected", reason="too_long", flags=None)
    rows = _run(known, bob, _row("It rains .", []), rejected, anna, _row("It rains .", None))
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["bridge_tokens"] and row["bridge_tokens"][1] for row in rows] == ["Bob", None, None, "fue", None]
    assert [row["bridge_spans"] is None for row in rows] == [False, True, True, False, True]
    assert _spans(rows[0]) == [("Bob", "ORG", 0)]
    assert (rows[2]["status"], rows[2]["reason"], rows[2]["unprojected"], rows[2]["flags"]) == (
        "rejected",
        "too_long",
        None,
        None,
    )


def test_each_distinct_text_is_translated_once_from_source_lang_to_lang() -> None:
    translator = Dictionary(ANNA)
    stage = BackTranslateStage(translator)
    anna = _row("Anna Lee saw Bob .", ANNA_SPANS)
    rows = stage(_table(anna, anna, _row("Bob or Bob", [Span(0, 1, "PER"), Span(2, 3, "PER")]))).to_pylist()
    ((texts, source, target),) = translator.calls
    assert sorted(texts) == sorted([*ANNA, "[Bob] or [Bob]"])
    assert (source, target) == ("eng_Latn", "spa_Latn")
    assert _spans(rows[0]) == _spans(rows[1]) == [("Bob", "PER", 1), ("Anna Lee", "PER", 0)]


def test_the_stage_shows_what_the_engine_reads_and_sets() -> None:
    stage: Stage = BackTranslateStage(Dictionary(ANNA))
    stage(_table(_row("Anna Lee saw Bob .", ANNA_SPANS)))
    assert (stage.name, stage.tokens, stage.micro_batch_tokens) == ("back_translate", 3, 64)
    stage.micro_batch_tokens = 32
    assert stage.micro_batch_tokens == 32
    assert isinstance(stage, BackTranslateStage)
    assert stage.translator.micro_batch_tokens == 32


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [_row("It rains .", []), _row("It rains .", None)],
        [_row("Bob .", [Span(0, 1, "PER")], status="rejected", reason="too_long")],
        [_row("Bob .", [Span(0, 1, "PER")], unprojected=[{"source": 0, "reason": "nested"}])],
    ],
)
def test_a_unit_without_entities_is_not_translated_and_stays_as_it_is(rows: list[dict[str, Any]]) -> None:
    translator, table = Dictionary(ANNA), _table(*rows)
    assert BackTranslateStage(translator)(table) == table
    assert translator.calls == []


@pytest.mark.parametrize("reason", ["nested", "overlapping_span"])
def test_spans_that_reading_set_aside_take_no_part_and_stay_listed(reason: str) -> None:
    known = {"[Bob] met the [Bank of Japan] .": "El [Banco de Japón] vio a Bob.", "Bank of Japan": "Banco de Japón"}
    spans = [Span(0, 1, "PER"), Span(5, 6, "LOC"), Span(3, 6, "ORG")]
    aside = {"source": 1, "reason": reason}
    translator = Dictionary({**known, "Bob": "Bob"})
    table = _table(_row("Bob met the Bank of Japan .", spans, unprojected=[aside]))
    (row,) = BackTranslateStage(translator)(table).to_pylist()
    assert "Japan" not in translator.calls[0][0]
    assert _spans(row) == [("Banco de Japón", "ORG", 2)]
    assert row["unprojected"] == [{"source": 0, "reason": "marker_lost"}, aside]


def test_spans_out_of_order_keep_their_number() -> None:
    (row,) = _run(ANNA, _row("Anna Lee saw Bob .", [Span(3, 4, "LOC"), Span(0, 2, "PER")]))
    assert _spans(row) == [("Bob", "LOC", 0), ("Anna Lee", "PER", 1)]


@pytest.mark.parametrize("translation", [None, "", " \n"])
def test_a_sentence_without_a_translation_loses_its_entities_and_is_not_rejected(translation: str | None) -> None:
    known = {"Bob": "Bob", "Anna Lee": "Anna Lee"}
    if translation is not None:
        known["[Anna Lee] saw [Bob] ."] = translation
    (row,) = _run(known, _row("Anna Lee saw Bob .", ANNA_SPANS, flags=["snapped"]))
    assert (row["bridge_tokens"], row["bridge_spans"], row["status"]) == (None, [], "ok")
    assert row["unprojected"] == [{"source": source, "reason": "marker_not_translated"} for source in (0, 1)]
    assert row["flags"] == ["snapped"]


def test_a_translation_of_markers_alone_has_no_word_so_there_is_no_bridge() -> None:
    (row,) = _run({"[Bob] .": "[ ]", "Bob": "Bob"}, _row("Bob .", [Span(0, 1, "PER")]))
    assert (row["bridge_tokens"], row["bridge_spans"], row["flags"]) == (None, [], ["marker_empty"])
    assert row["unprojected"] == [{"source": 0, "reason": "marker_lost"}]


@pytest.mark.parametrize(
    ("sentence", "alone", "reason"),
    [
        ("vio a [Bob].", None, "marker_not_translated"),
        ("vio a [Bob].", " ", "marker_not_translated"),
        ("vio a Bob.", "Bob", "marker_lost"),
        ("vio al [perro].", "Bob", "marker_not_similar"),
    ],
)
def test_an_entity_that_is_not_recovered_says_why(sentence: str, alone: str | None, reason: str) -> None:
    known = {"saw [Bob] .": sentence} | ({} if alone is None else {"Bob": alone})
    (row,) = _run(known, _row("saw Bob .", [Span(1, 2, "PER")]))
    text = sentence.replace("[", "").replace("]", "")
    assert row["bridge_tokens"] == [text[start:end] for start, end in words.split(text, "spa_Latn")]
    assert (row["bridge_spans"], row["unprojected"]) == ([], [{"source": 0, "reason": reason}])


def test_of_two_entities_on_one_word_the_shorter_is_lost() -> None:
    known = {"[Bank of] [Japan]": "[Banco del [Japón]]", "Bank of": "Banco del", "Japan": "Japón"}
    (row,) = _run(known, _row("Bank of Japan", [Span(0, 2, "ORG"), Span(2, 3, "LOC")]))
    assert _spans(row) == [("Banco del Japón", "ORG", 0)]
    assert row["unprojected"] == [{"source": 1, "reason": "marker_overlap"}]


def test_faults_join_the_flags_once_a_row() -> None:
    known = {"[Bob] .": "] [Bob] ] [ [] [Bob]", "Bob": "Bob"}
    (row,) = _run(known, _row("Bob .", [Span(0, 1, "PER")], flags=["snapped"]))
    assert row["flags"] == ["snapped", "marker_empty", "marker_invented", "marker_unclosed", "marker_unopened"]
    assert _spans(row) == [("Bob", "PER", 0)]


def test_literal_brackets_go_through_as_round_ones_and_come_back() -> None:
    known = {"[Bob (b)] (sic)": "[Bob (b)] (sic)", "Bob (b)": "Bob (b)"}
    (row,) = _run(known, _row("Bob [b] [sic]", [Span(0, 4, "PER")]))
    assert row["bridge_tokens"] == ["Bob", "[", "b", "]", "[", "sic", "]"]
    assert _spans(row) == [("Bob [ b ]", "PER", 0)]


def test_words_are_those_of_the_target_language() -> None:
    known = {"[Anna] came to [China] .": "[安娜]来到[中国]。", "Anna": "安娜", "China": "中国"}
    (row,) = _run(known, _row("Anna came to China .", [Span(0, 1, "PER"), Span(3, 4, "LOC")]), lang="zho_Hans")
    assert row["bridge_tokens"] == ["安娜", "来到", "中国", "。"]
    assert _spans(row) == [("安娜", "PER", 0), ("中国", "LOC", 1)]
    union = _row("the Union .", [Span(1, 2, "ORG")])
    (row,) = _run({"the [Union] .": "l'[Union].", "Union": "Union"}, union, lang="fra_Latn")
    assert row["bridge_tokens"] == ["l'", "Union", "."]
    assert _spans(row) == [("Union", "ORG", 0)]


def test_min_similarity_decides_what_is_similar_enough() -> None:
    table = _table(_row("saw Bob .", [Span(1, 2, "PER")]))
    translator = Dictionary({"saw [Bob] .": "vio a [Bobby].", "Bob": "Bob"})  # 2 * 3 / 8 = 0.75
    assert [
        len(BackTranslateStage(translator, least)(table).column("bridge_spans")[0]) for least in (0.5, 0.74, 0.75)
    ] == [1, 1, 0]


def _marked(known: Mapping[str, str], *rows: dict[str, Any]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = MarkerStage(Dictionary(known), 0.5, Health())(_table(*rows)).to_pylist()
    return result


def test_easyproject_takes_text_and_labels_from_one_translation() -> None:
    (row,) = _marked(ANNA, _row("Anna Lee saw Bob .", ANNA_SPANS, unprojected=[]))
    assert row["text"] == "Bob fue visto por Anna Lee."
    assert [row["text"][o["start"] : o["end"]] for o in row["offsets"]] == row["tokens"]
    assert [(row["tokens"][s["start"] : s["end"]], s["label"], s["source"]) for s in row["spans"]] == [
        (["Bob"], "PER", 1),
        (["Anna", "Lee"], "PER", 0),
    ]
    assert (row["complete"], row["optimal"], row["solver"], row["translation_score"]) == (True, False, "marker", -0.5)
    assert row["objective"] == pytest.approx(1.8571)


def test_easyproject_translates_sentences_without_entities_as_they_stand() -> None:
    known = {"It [really] rains .": "Llueve [de veras] ."}
    (row,) = _marked(known, _row("It [really] rains .", [], unprojected=[]))
    assert (row["text"], row["spans"], row["complete"], row["solver"]) == ("Llueve [de veras] .", [], True, "none")


def test_easyproject_says_which_entity_a_translator_lost_and_rejects_what_has_no_text() -> None:
    anna = _row("Anna Lee saw Bob .", ANNA_SPANS, unprojected=[])
    lost, failed, bare = _marked(
        {**ANNA, "[Anna Lee] saw [Bob] .": "Bob vio a [Anna Lee].", "[Eve]": "[]", "Eve": "Eva"},
        anna,
        _row("Bob saw Anna", [Span(0, 1, "PER")]),
        _row("Eve", [Span(0, 1, "PER")]),
    )
    assert (lost["complete"], lost["unprojected"]) == (False, [{"source": 1, "reason": "marker_lost"}])
    assert [s["source"] for s in lost["spans"]] == [0]
    assert (failed["status"], failed["reason"], failed["detail"]) == ("rejected", *FAILED)
    assert (failed["spans"], failed["text"]) == (None, None)
    assert (bare["status"], bare["reason"]) == ("rejected", "translation_empty")


def test_easyproject_keeps_what_reading_set_aside_listed_and_unmarked() -> None:
    known = {"[Anna Lee] saw Bob .": "[Anna Lee] vio a Bob.", "Anna Lee": "Anna Lee"}
    aside = [{"source": 1, "reason": "nested"}]
    (row,) = _marked(known, _row("Anna Lee saw Bob .", [Span(0, 2, "PER"), Span(1, 2, "PER")], unprojected=aside))
    assert (row["unprojected"], [s["source"] for s in row["spans"]]) == (aside, [0])
