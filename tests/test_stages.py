from typing import Any

import pyarrow as pa
import pytest
from fakes import FakeEncoder, FakeTagger, FakeTranslator

from xner_ray import schema, words
from xner_ray.aligner import BatchAligner
from xner_ray.links import METHODS
from xner_ray.recipe import Labels, Recipe, load_recipe
from xner_ray.spans import Span
from xner_ray.stages import AlignStage, MatchStage, TagStage, TranslateStage, build, map_labels, stage_names


def _recipe(**sections: Any) -> Recipe:
    return load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"], **sections})


def _test_recipe(**sections: Any) -> Recipe:
    return load_recipe(
        {"direction": "test", "input": {"path": "a", "lang": "swh_Latn"}, "tag": {"engine": "spacy"}, **sections}
    )


def _side(text: str, prefix: str = "", lang: str = "eng_Latn") -> dict[str, Any]:
    offsets = words.split(text, lang)
    return {
        f"{prefix}text": text,
        f"{prefix}tokens": [text[a:b] for a, b in offsets],
        f"{prefix}offsets": schema.offset_cells(offsets),
    }


def _table(*rows: dict[str, Any]) -> pa.Table:
    base = {"source_lang": "eng_Latn", "lang": "spa_Latn", "split": "train"}
    return schema.table_from_rows([{**base, "row": n, "id": str(n), **row} for n, row in enumerate(rows)], schema.ROW)


def _spans(*spans: tuple[int, int, str]) -> list[dict[str, Any]]:
    return schema.span_cells(Span(*span) for span in spans)


def test_translate_fills_the_target_side_and_only_where_it_is_missing() -> None:
    translator = FakeTranslator()
    stage = TranslateStage(_recipe(), translator)
    table = _table(
        _side("Anna met Bob .", "source_"),
        {**_side("given source", "source_"), **_side("texto dado")},
        _side("BOOM", "source_"),
        {**_side("x", "source_"), "status": "rejected", "reason": "too_long"},
    )
    rows = stage(table).to_pylist()
    assert translator.calls == [(["Anna met Bob .", "BOOM"], "eng_Latn", "spa_Latn")]
    assert rows[0]["text"] == ". Bob met Anna"
    assert rows[0]["tokens"] == [".", "Bob", "met", "Anna"]
    assert rows[0]["translation_score"] == -0.25
    assert [rows[0]["text"][o["start"] : o["end"]] for o in rows[0]["offsets"]] == rows[0]["tokens"]
    assert rows[1]["text"] == "texto dado"
    assert rows[1]["translation_score"] is None
    assert (rows[2]["status"], rows[2]["reason"], rows[2]["detail"]) == ("rejected", "translation_truncated", "no end")
    assert rows[3]["reason"] == "too_long"
    assert stage.tokens == 5


def test_translate_fills_the_source_side_in_direction_test() -> None:
    translator = FakeTranslator()
    table = _table({**_side("habari Anna"), "lang": "swh_Latn"})
    row = TranslateStage(_test_recipe(), translator)(table).to_pylist()[0]
    assert translator.calls == [(["habari Anna"], "swh_Latn", "eng_Latn")]
    assert (row["source_text"], row["source_tokens"], row["text"]) == ("Anna habari", ["Anna", "habari"], "habari Anna")


def test_tag_fills_spans_where_they_are_missing_and_maps_labels() -> None:
    recipe = _test_recipe(
        input={"path": "a", "lang": "swh_Latn", "labels": {"rename": {"ORG": "PER"}, "keep": ["PER"]}}
    )
    table = _table(_side("Anna saw UN", "source_"), {**_side("Bob", "source_"), "source_spans": []})
    rows = TagStage(recipe, FakeTagger())(table).to_pylist()
    assert [(s["start"], s["end"], s["label"]) for s in rows[0]["source_spans"]] == [(0, 1, "PER"), (2, 3, "PER")]
    assert rows[1]["source_spans"] == []


def test_align_links_sentences_with_entities_and_rejects_overlong_words() -> None:
    spans = {"source_spans": _spans((0, 1, "PER"))}
    table = _table(
        {**_side("Anna runs", "source_"), **_side("corre Anna"), **spans},
        {**_side("nobody runs", "source_"), **_side("nadie corre"), "source_spans": []},
        {**_side("LONG name", "source_"), **_side("nombre"), **spans},
        {**_side("Anna", "source_"), **_side("LONG"), **spans},
    )
    stage = AlignStage(_recipe(), BatchAligner(FakeEncoder()))  # type: ignore[arg-type]
    rows = stage(table).to_pylist()
    assert {(link["source"], link["target"]) for link in rows[0]["links"] if link["cosine"] > 0.99} == {(0, 1)}
    assert rows[1]["links"] == []
    assert stage.tokens == 4 + 3 + 2  # the sentence without entities was not encoded
    assert (rows[2]["reason"], "source side" in rows[2]["detail"]) == ("word_too_long", True)
    assert (rows[3]["reason"], "target side" in rows[3]["detail"]) == ("word_too_long", True)


def _link(source: int, target: int, probability: float = 1.0) -> dict[str, Any]:
    bit = 1 << METHODS.index("itermax")
    return {
        "source": source,
        "target": target,
        "forward": probability,
        "backward": probability,
        "cosine": 0.9,
        "methods": bit,
    }


def test_match_places_entities_and_says_why_others_have_no_place() -> None:
    row = {
        **_side("Anna met Bob Smith", "source_"),
        **_side("Anna conoció a Bob Smith"),
        "source_spans": _spans((0, 1, "PER"), (1, 2, "ORG"), (2, 4, "PER")),
        "links": [_link(0, 0), _link(2, 3), _link(3, 4)],
    }
    result = MatchStage(_recipe())(_table(row)).to_pylist()[0]
    assert [(s["start"], s["end"], s["label"], s["score"], s["source"]) for s in result["spans"]] == [
        (0, 1, "PER", 1.0, 0),
        (3, 5, "PER", 1.0, 2),
    ]
    assert result["unprojected"] == [{"source": 1, "reason": "no_candidate"}]
    assert (result["complete"], result["objective"], result["optimal"], result["solver"]) == (
        False,
        2.0,
        True,
        "independent",
    )


@pytest.mark.parametrize("reason", ["nested", "overlapping_span"])
def test_match_skips_entities_set_aside_and_keeps_their_reason(reason: str) -> None:
    row = {
        **_side("Bank of Japan", "source_"),
        **_side("Banco de Japón"),
        "source_spans": _spans((0, 3, "ORG"), (2, 3, "LOC")),
        "unprojected": [{"source": 1, "reason": reason}],
        "links": [_link(0, 0), _link(1, 1), _link(2, 2)],
    }
    result = MatchStage(_recipe())(_table(row)).to_pylist()[0]
    assert [(s["start"], s["end"], s["source"]) for s in result["spans"]] == [(0, 3, 0)]
    assert result["unprojected"] == [{"source": 1, "reason": reason}]
    assert not result["complete"]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, ["translate", "align", "match"]),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}}}, ["align", "match"]),
        ({"tag": {"engine": "spacy"}}, ["translate", "tag", "align", "match"]),
        (
            {"targets": ["spa_Latn", "swh_Latn"], "input": {"path": "a", "parallel": {"spa_Latn": "b"}}},
            ["translate", "align", "match"],
        ),
    ],
)
def test_stage_names_are_those_that_the_recipe_needs(sections: dict[str, Any], expected: list[str]) -> None:
    assert stage_names(_recipe(**sections)) == expected


def test_map_labels_renames_first() -> None:
    labels = Labels(rename={"GPE": "LOC", "LOC": "PLACE"}, keep=["LOC"])
    assert map_labels([Span(0, 1, "GPE"), Span(1, 2, "LOC")], labels) == [Span(0, 1, "LOC")]


def test_build_makes_the_matcher_without_a_model() -> None:
    assert build("match", _recipe()).name == "match"
