from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fakes import FakeEncoder, FakeTagger, FakeTranslator
from made_rows import table_from_rows
from numpy.typing import NDArray

from xner_ray.align.aligner import BatchAligner
from xner_ray.align.stage import AlignStage
from xner_ray.data import row as data_row
from xner_ray.data import words
from xner_ray.data.links import METHODS
from xner_ray.data.spans import Span
from xner_ray.engine.stages import build
from xner_ray.errors import Reason
from xner_ray.match.stage import LikelihoodStage, MatchStage
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.stage import forget
from xner_ray.tag.stage import TagStage, TargetTagStage
from xner_ray.translate.base import Translation
from xner_ray.translate.stage import TranslateStage


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
        f"{prefix}offsets": data_row.offset_cells(offsets),
    }


def _table(*rows: dict[str, Any]) -> pa.Table:
    base = {"source_lang": "eng_Latn", "lang": "spa_Latn", "split": "train"}
    return table_from_rows([{**base, "row": n, "id": str(n), **row} for n, row in enumerate(rows)], data_row.ROW)


def _spans(*spans: tuple[int, int, str]) -> list[dict[str, Any]]:
    return data_row.span_cells(Span(*span) for span in spans)


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


def _translated(text: str, answer: str, **health: str) -> dict[str, Any]:
    class One(FakeTranslator):
        def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation | tuple[Reason, str]]:
            return [Translation(answer, None) for _ in texts]

    recipe = _recipe(translate={"health": health})
    table = TranslateStage(recipe, One())(_table({**_side(text, "source_"), "flags": ["x"]}))
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def test_what_is_wrong_with_a_translation_is_flagged_or_rejected_as_the_recipe_says() -> None:
    source, good, loop = "They met in Paris in 1987 .", "Se conocieron en París en 1987 .", "París " * 40
    row = _translated(source, good)
    assert (row["flags"], row["status"], row["translation_score"]) == (["x"], "ok", None)
    flagged = _translated(source, loop, length="off")
    assert (flagged["flags"], flagged["status"]) == (["x", "translation_repeats", "translation_lost_digits"], "ok")
    rejected = _translated(source, "Se conocieron en París .", lost_digits="reject")
    assert (rejected["status"], rejected["reason"]) == ("rejected", "translation_lost_digits")
    assert rejected["detail"] == "1987 missing in 'Se conocieron en París .'"
    both = _translated(source, loop, repeats="reject", length="off")
    assert (both["reason"], both["flags"]) == ("translation_repeats", ["x", "translation_lost_digits"])


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


def test_a_source_side_is_read_once_for_all_languages() -> None:
    """Also where a language has lost rows: links are those of a run of that language alone."""
    spans = {"source_spans": _spans((0, 1, "PER"))}
    source = [{**_side(text, "source_"), **spans} for text in ("Anna runs", "LONG name", "Bob met Anna")]
    lost = {"status": "rejected", "reason": "translation_empty", "detail": ""}
    langs = {
        "spa_Latn": [
            {**row, **_side(text)} for row, text in zip(source, ("corre Anna", "nombre", "Bob Anna"), strict=True)
        ],
        "swh_Latn": [{**source[0], **lost}, {**source[1], **_side("jina")}, {**source[2], **_side("Bob na Anna")}],
    }
    tables = {lang: _table(*({**row, "lang": lang} for row in rows)) for lang, rows in langs.items()}
    alone = {lang: AlignStage(_recipe(), BatchAligner(FakeEncoder())) for lang in langs}  # type: ignore[arg-type]
    together = AlignStage(_recipe(), BatchAligner(FakeEncoder()))  # type: ignore[arg-type]
    for lang, table in tables.items():
        assert together(table).equals(alone[lang](table))
    n_source, n_target = 2 + 2 + 3, (2 + 1 + 2) + (1 + 3)
    assert sum(stage.tokens for stage in alone.values()) == 2 * n_source + n_target
    assert together.tokens == n_source + n_target


def test_a_source_side_is_tagged_once_for_all_languages() -> None:
    source = [_side(text, "source_") for text in ("Anna saw UN", "Bob")]
    lost = {"status": "rejected", "reason": "translation_empty", "detail": ""}
    tagger = FakeTagger()
    stage = TagStage(_test_recipe(), tagger)
    first = stage(_table(*source)).to_pylist()
    tokens = tagger.tokens
    second = stage(_table({**source[0], **lost, "lang": "swh_Latn"}, {**source[1], "lang": "swh_Latn"})).to_pylist()
    assert tagger.tokens == tokens > 0
    assert second[0]["source_spans"] is None and second[1]["source_spans"] == first[1]["source_spans"]


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
    result = MatchStage(_recipe(match={"confidence": "none"}))(_table(row)).to_pylist()[0]
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
        ({}, ["translate", "target_tag", "align", "match"]),
        ({"input": {"path": "a", "parallel": {"spa_Latn": "b"}}}, ["target_tag", "align", "match"]),
        ({"tag": {"engine": "spacy"}}, ["translate", "tag", "target_tag", "align", "match"]),
        (
            {"targets": ["spa_Latn", "swh_Latn"], "input": {"path": "a", "parallel": {"spa_Latn": "b"}}},
            ["translate", "target_tag", "align", "match"],
        ),
        ({"target_tag": {"engine": "none"}}, ["translate", "align", "match"]),
        ({"match": {"confidence": "none"}}, ["translate", "target_tag", "align", "match"]),
        ({"align": {"encoder": "bert-base-multilingual-cased"}}, ["translate", "align", "match"]),
        (
            {"align": {"encoder": "bert-base-multilingual-cased"}, "tag": {"engine": "builtin"}},
            ["translate", "tag", "target_tag", "align", "match"],
        ),
        (
            {
                "back_translate": {"engine": "nllb"},
                "target_tag": {"engine": "hf", "model": "x"},
                "likelihood": {"engine": "nllb"},
                "match": {"scores": {"soft": 1, "likelihood": 0.5}, "candidates": "window+tagger", "prior": "none"},
            },
            ["translate", "back_translate", "target_tag", "align", "likelihood", "match"],
        ),
        ({"projector": "marker", "tag": {"engine": "spacy"}}, ["tag", "translate"]),
        ({"projector": "constrained"}, ["translate", "constrained", "match"]),
        ({"projector": "transfer", "target_tag": {"engine": "spacy"}}, ["translate", "target_tag", "match"]),
    ],
)
def test_stages_are_those_that_the_recipe_needs(sections: dict[str, Any], expected: list[str]) -> None:
    assert _recipe(**sections).stages == expected


def test_target_words_are_tagged_where_there_is_an_entity_to_place() -> None:
    sides = {**_side("Anna met", "source_"), **_side("conoció Anna")}
    table = _table(
        {**sides, "source_spans": _spans((0, 1, "PER"))},
        {**sides, "source_spans": []},
        {**sides, "source_spans": _spans((0, 1, "PER")), "status": "rejected", "reason": "too_long"},
    )
    stage = TargetTagStage(_recipe(), FakeTagger())
    first, second, third = stage(table).column("target_tags").to_pylist()
    assert [(cell["word"], cell["tag"]) for cell in first] == [(0, "O"), (1, "O"), (1, "B-PER")]
    assert (second, third) == (None, None)
    assert stage.tokens == 2 + 4  # the sources too, of all rows that may be read in some language


class FakeScorer:
    """1 for the same letters in upper or lower case, else 0."""

    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 64

    def __init__(self) -> None:
        self.calls: list[tuple[list[tuple[str, str]], str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]], source: str, target: str) -> NDArray[np.float64]:
        self.calls.append((list(pairs), source, target))
        return np.array([float(s.lower() == t.lower()) for s, t in pairs])


def _likely(
    links: list[dict[str, Any]], weight: float, min_score: float = 0, **cells: Any
) -> tuple[list[dict[str, Any]], FakeScorer]:
    recipe = _recipe(
        likelihood={"engine": "nllb"},
        match={
            "scores": {"align": 1, "likelihood": weight},
            "candidates": "ngram",
            "min_score": min_score,
            "prior": "none",
        },
    )
    row = {
        **_side("ANNA met Bob .", "source_"),
        **_side("«anna» conoció a bob."),
        "source_spans": _spans((0, 1, "PER"), (2, 3, "PER")),
        "links": links,
    }
    scorer = FakeScorer()
    table = LikelihoodStage(recipe, scorer)(_table({**row, "source_spans": []}, {**row, **cells}))  # type: ignore[arg-type]
    rows = MatchStage(recipe)(table).to_pylist()
    assert rows[0]["evidence"] == []
    return rows[1], scorer


def test_likelihood_finds_what_no_link_says() -> None:
    row, scorer = _likely([], 1.0)
    assert [(row["text"][_at(row, s) : _at(row, s, "end")], s["source"]) for s in row["spans"]] == [
        ("anna", 0),
        ("bob", 1),
    ]
    assert {(source, target) for _, source, target in scorer.calls} == {("eng_Latn", "spa_Latn")}
    asked = {pair for pairs, _, _ in scorer.calls for pair in pairs}
    assert ("ANNA", "«anna» conoció") in asked  # as it stands in the sentence


def _at(row: dict[str, Any], span: dict[str, Any], side: str = "start") -> int:
    place = span["start"] if side == "start" else span["end"] - 1
    offset: int = row["offsets"][place][side]
    return offset


def test_likelihood_is_computed_only_where_it_can_win() -> None:
    """Links settle all but what has nearly as many of them."""
    few, scorer = _likely([_link(0, 1), _link(2, 5)], 0.1, min_score=0.2)
    everything, all_scorer = _likely([], 1.0)
    asked, all_asked = (sum(len(pairs) for pairs, _, _ in s.calls) for s in (scorer, all_scorer))
    assert 2 <= asked < all_asked / 4
    assert [(s["start"], s["end"]) for s in few["spans"]] == [(s["start"], s["end"]) for s in everything["spans"]]


def test_likelihood_reads_the_entity_of_the_source_also_over_a_bridge() -> None:
    bridge = {
        "bridge_tokens": ["puente"],
        "bridge_spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 1}],
    }
    row, scorer = _likely([], 1.0, **bridge)
    assert {source for pairs, _, _ in scorer.calls for source, _ in pairs} == {"Bob"}
    assert [s["source"] for s in row["spans"]] == [1]


def test_align_links_the_words_of_the_bridge() -> None:
    sides = {**_side("Anna met", "source_"), **_side("vio Anna")}
    spans = {"source_spans": _spans((0, 1, "PER"))}
    bridge = {"start": 1, "end": 2, "label": "PER", "score": 1.0, "source": 0}
    table = _table(
        {**sides, **spans},
        {**sides, **spans, "bridge_tokens": ["x", "Anna", "y"], "bridge_spans": [bridge]},
        {**sides, **spans, "bridge_tokens": ["x"], "bridge_spans": []},
    )
    encoder = FakeEncoder()
    stage = AlignStage(_recipe(), BatchAligner(encoder, methods=["itermax"]))  # type: ignore[arg-type]
    direct, bridged, empty = stage(table).column("links").to_pylist()
    hard = 1 << METHODS.index("itermax")
    assert [(x["source"], x["target"]) for x in direct if x["methods"] & hard and x["cosine"] > 0.9] == [(0, 1)]
    assert [(x["source"], x["target"]) for x in bridged if x["methods"] & hard and x["cosine"] > 0.9] == [(1, 1)]
    assert empty == []
    assert stage.tokens == 2 + 2 + 3 + 2


def test_build_makes_the_matcher_without_a_model() -> None:
    assert build("match", _recipe()).name == "match"


def test_align_forgets_what_it_read() -> None:
    """Where flags depend on what was read, and before another range of rows."""
    row = {**_side("Anna runs", "source_"), **_side("corre Anna"), "source_spans": _spans((0, 1, "PER"))}
    stage = AlignStage(_recipe(), BatchAligner(FakeEncoder()))  # type: ignore[arg-type]
    tokens = []
    for forgets in (False, False, True):
        if forgets:
            forget(stage)
        before = stage.tokens
        stage(_table(row))
        tokens.append(stage.tokens - before)
    assert tokens == [2 + 2, 2, 2 + 2]
