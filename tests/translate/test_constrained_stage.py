"""Places of markers by the tiny model of NLLB's architecture, against a plain loop; and the stage over tables.

The shipped model has never seen a bracket, so nothing is asked of quality here: `test_constrained_runs.py` trains one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from made_rows import table_from_rows
from tiny_nllb import FOLDER

from xner_ray.data import words
from xner_ray.data.row import ROW, offset_cells, span_cells
from xner_ray.data.spans import Span
from xner_ray.engine.guard import run_stage
from xner_ray.errors import RecipeError
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Constrained
from xner_ray.translate import constrained_stage
from xner_ray.translate.constrained_stage import ConstrainedStage, Entity, MarkerScorer

ENGLISH, SPANISH, SWAHILI = "eng_Latn", "spa_Latn", "swh_Latn"
PAIRS = [
    ("[Amina Otieno] travelled to Germany on Monday.", "Amina Otieno viajó a Alemania el lunes."),
    ("Amina Otieno travelled to [Germany] on Monday.", "Amina Otieno viajó a Alemania el lunes."),
    ("[The Red Cross] thanked Chege Chana.", "La Cruz Roja agradeció a Chege Chana (gracias)."),
    ("[Lima] is in Peru, and Ana lives in Lima.", "Lima está en Perú, y Ana vive en Lima."),
]

pytestmark = pytest.mark.usefixtures("one_thread")


def _section(**options: Any) -> Constrained:
    return Constrained.model_validate({"model": "tiny-nllb", "min_ratio": 0, **options})


@pytest.fixture(scope="module")
def scorer() -> MarkerScorer:
    return MarkerScorer(_section())


def _entities(scorer: MarkerScorer, pairs: list[tuple[str, str]] = PAIRS, lang: str = SPANISH) -> list[Entity]:
    return [Entity(marked, scorer.target(text, words.split(text, lang), ENGLISH, lang, 60)) for marked, text in pairs]


def _by_hand(scorer: MarkerScorer, marked: str, text: str) -> float:
    """log P(text | marked), one pair and one token at a time, nothing padded."""
    tokenizer, model = scorer.tokenizer, scorer.model
    tokenizer.src_lang = ENGLISH
    read = tokenizer([marked], return_tensors="pt")
    given = [model.config.decoder_start_token_id, tokenizer.convert_tokens_to_ids(SPANISH)]
    total = 0.0
    for token in [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]:
        with torch.inference_mode():
            logits = model(**read, decoder_input_ids=torch.tensor([given])).logits[0, -1]
        total += float(torch.log_softmax(logits.double(), -1)[token])
        given.append(token)
    return total


def test_a_place_has_the_probability_of_its_text(scorer: MarkerScorer) -> None:
    for (marked, text), entity, found in zip(
        PAIRS, entities := _entities(scorer), scorer.find(entities, ENGLISH, SPANISH), strict=True
    ):
        assert found.bare == pytest.approx(_by_hand(scorer, marked, text), abs=2e-3)
        assert 1 <= len(found.places) <= 8
        for (first, end), value in list(found.places.items())[:2]:
            start, stop = entity.target.offsets[first][0], entity.target.offsets[end - 1][1]
            with_markers = f"{text[:start]}[{text[start:stop]}]{text[stop:]}"
            assert value == pytest.approx(_by_hand(scorer, marked, with_markers), abs=5e-3)


def test_batches_waves_and_order_change_nothing(scorer: MarkerScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scorer.find(_entities(scorer), ENGLISH, SPANISH)
    for budget in (16, 60):
        other = MarkerScorer(_section(micro_batch_tokens=budget))
        found = other.find(_entities(other)[::-1], ENGLISH, SPANISH)[::-1]
        assert [each.shares() for each in found] == [pytest.approx(each.shares(), abs=1.01e-4) for each in whole]
        assert [each.bare for each in found] == pytest.approx([each.bare for each in whole], abs=1e-3)
    monkeypatch.setattr(constrained_stage, "_WAVE", 1)
    found = other.find(_entities(other), ENGLISH, SPANISH)
    assert [each.shares() for each in found] == [pytest.approx(each.shares(), abs=1.01e-4) for each in whole]
    assert scorer.find([], ENGLISH, SPANISH) == []


def test_tokens_of_a_pass_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = MarkerScorer(_section(micro_batch_tokens=150))
    passes: list[tuple[int, int]] = []
    encoded: list[tuple[int, int]] = []
    decoder, encoder = scorer.model.get_decoder(), scorer.model.get_encoder()
    decode, encode = decoder.forward, encoder.forward

    def decoded(**inputs: torch.Tensor) -> object:
        assert inputs["encoder_hidden_states"].shape[:2] == inputs["encoder_attention_mask"].shape
        passes.append(
            (len(inputs["input_ids"]), inputs["input_ids"].shape[1] + inputs["encoder_hidden_states"].shape[1])
        )
        return decode(**inputs)

    def read(**inputs: torch.Tensor) -> object:
        encoded.append(tuple(inputs["input_ids"].shape))  # type: ignore[arg-type]
        return encode(**inputs)

    monkeypatch.setattr(decoder, "forward", decoded)
    monkeypatch.setattr(encoder, "forward", read)
    scorer.find(_entities(scorer), ENGLISH, SPANISH)
    assert max(rows for rows, _ in passes) > 1 and max(rows for rows, _ in encoded) > 1
    assert all(rows * width <= 150 for rows, width in passes + encoded)


def test_a_literal_bracket_is_no_marker(scorer: MarkerScorer) -> None:
    target = scorer.target("Lima [sic] ［1］", [(0, 4), (5, 10), (11, 14)], ENGLISH, SPANISH, 60)
    assert target.text == "Lima (sic) (1)"
    marker = scorer.tokenizer.convert_tokens_to_ids("[")
    assert marker not in target.bare and all(text.count(marker) == 1 for text in target.opened.tokens)


@pytest.mark.parametrize("text", ["Ana</s> vive en Lima.", "Ana spa_Latn vive"])
def test_text_that_spells_a_special_token_stays_text(scorer: MarkerScorer, text: str) -> None:
    target = scorer.target(text, words.split(text, SPANISH), ENGLISH, SPANISH, 60)
    special = set(scorer.tokenizer.all_special_ids)
    for tokens in (target.bare, *target.opened.tokens, *target.closed(0).tokens):
        assert [token in special for token in tokens] == [False] * (len(tokens) - 1) + [True]


def test_what_is_no_number_is_an_error() -> None:
    scorer = MarkerScorer(_section())
    with torch.no_grad():
        scorer.model.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not a number; set dtype"):
        scorer.find(_entities(scorer), ENGLISH, SPANISH)


def test_languages_must_be_known(scorer: MarkerScorer) -> None:
    for languages in ((ENGLISH, "yor_Latn"), ("yor_Latn", ENGLISH)):
        with pytest.raises(RecipeError, match=r"constrained\.model: .*no language token 'yor_Latn'"):
            scorer.find(_entities(scorer), *languages)


def test_a_model_without_brackets_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["no bracket"] = vocabulary.pop("[")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    directions = {SPANISH: (ENGLISH, SPANISH)}
    with pytest.raises(RecipeError) as refused:
        constrained_stage.resolve(_section(model=str(folder)), "constrained", directions)
    assert str(refused.value) == (
        f"constrained.model: {folder} has no subwords for the markers [ and ]; choose a model that has seen square "
        "brackets, or projector: match"
    )
    assert constrained_stage.resolve(_section(), "constrained", directions).identities.keys() == {"model"}


def _row(source: str, text: str, spans: list[Span], **cells: Any) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side, own, lang in (("source_", source, ENGLISH), ("", text, SPANISH)):
        offsets = words.split(own, lang)
        sides |= {f"{side}text": own, f"{side}offsets": offset_cells(offsets)}
        sides[f"{side}tokens"] = [own[start:end] for start, end in offsets]
    return {**sides, "source_spans": span_cells(spans), "flags": [], "source_lang": ENGLISH, "lang": SPANISH, **cells}


def _table(*rows: dict[str, Any]) -> pa.Table:
    return table_from_rows([{"row": number, "id": str(number), **row} for number, row in enumerate(rows)], ROW)


def _stage(scorer: MarkerScorer, **match: Any) -> ConstrainedStage:
    recipe = {"input": {"path": "a"}, "targets": [SPANISH], "projector": "constrained", "match": match}
    return ConstrainedStage(Recipe.model_validate(recipe), scorer)


AMINA = _row(
    "Amina Otieno travelled to Germany.", "Amina Otieno viajó a Alemania.", [Span(0, 2, "PER"), Span(4, 5, "LOC")]
)


def test_the_stage_gives_shares_to_places_and_changes_nothing_else(scorer: MarkerScorer) -> None:
    rejected = {**AMINA, "status": "rejected", "reason": "too_long", "text": None, "tokens": None, "offsets": None}
    aside = [{"source": 1, "reason": "nested"}]
    nested = {**AMINA, "source_spans": span_cells([Span(0, 2, "PER"), Span(0, 1, "LOC")]), "unprojected": aside}
    given = [{"score": "own", "source": 0, "start": 0, "end": 1, "value": 0.5}]
    before = _table({**AMINA, "evidence": given}, rejected, _row("It rains.", "Llueve.", []), nested)
    stage = _stage(scorer, max_words=2)
    after = stage(before)
    assert after.schema == before.schema
    writes = ["evidence", "unprojected", "flags"]
    assert after.drop_columns(writes) == before.drop_columns(writes)
    assert all(set(flags) <= {"beam_full"} for flags in after.column("flags").to_pylist())
    first, second, third, fourth = after.column("evidence").to_pylist()
    assert first[0] == given[0] and second is None and third is None
    for cells, sources in ((first[1:], {0, 1}), (fourth, {0})):
        assert {cell["source"] for cell in cells} == sources and {cell["score"] for cell in cells} == {"constrained"}
        assert all(0 <= cell["start"] < cell["end"] <= min(6, cell["start"] + 2) for cell in cells)
        for source in sources:
            assert sum(cell["value"] for cell in cells if cell["source"] == source) == pytest.approx(1, abs=1e-3)
    assert after.column("unprojected").to_pylist() == [[], None, None, aside]
    assert stage(empty := _table(_row("It rains.", "Llueve.", []))) is empty


def test_a_search_that_the_beam_ends_is_flagged() -> None:
    narrow, wide = (MarkerScorer(_section(beams=beams)) for beams in (1, 10_000))
    table = _table({**AMINA, "flags": ["snapped"]}, _row("It rains.", "Llueve.", []))
    assert _stage(narrow)(table).column("flags").to_pylist() == [["snapped", "beam_full"], []]
    assert _stage(wide)(table).column("flags").to_pylist() == [["snapped"], []]


def test_entities_without_a_likely_place_and_those_that_are_too_long_say_so(scorer: MarkerScorer) -> None:
    long = " ".join(["y"] * 254)
    table = _table(
        AMINA,
        _row("Ana " + long, "Ana vive.", [Span(0, 1, "PER")]),
        _row("Ana lives.", "Ana " + long, [Span(0, 1, "PER")]),
    )
    hopeless = MarkerScorer(_section(min_ratio=1e200))
    assert [
        [each["reason"] for each in lost] for lost in _stage(hopeless)(table).column("unprojected").to_pylist()
    ] == [
        ["marker_unlikely"] * 2,
        ["marker_too_long"],
        ["marker_too_long"],
    ]
    kept = _stage(scorer)(table)
    assert kept.column("unprojected").to_pylist()[0] == []  # min_ratio: 0 places all
    assert kept.column("evidence").to_pylist()[1:] == [[], []]


def test_when_memory_runs_out_the_passes_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run_stage(_stage(MarkerScorer(_section())), _table(AMINA, AMINA))
    scorer = MarkerScorer(_section(micro_batch_tokens=400))
    decoder = scorer.model.get_decoder()
    decode = decoder.forward

    def decoded(**inputs: torch.Tensor) -> object:
        if inputs["input_ids"].numel() > 60:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(**inputs)

    monkeypatch.setattr(decoder, "forward", decoded)
    stage = _stage(scorer)
    found, stats = run_stage(stage, _table(AMINA, AMINA))
    assert 16 <= stage.micro_batch_tokens < 400
    assert all("memory_halved" in flags for flags in found.column("flags").to_pylist())
    assert stats.tokens > 0 and not stats.rejects
    for ours, theirs in zip(found.column("evidence").to_pylist(), expected.column("evidence").to_pylist(), strict=True):
        values = {(cell["source"], cell["start"], cell["end"]): cell["value"] for cell in theirs}
        own = {(cell["source"], cell["start"], cell["end"]): cell["value"] for cell in ours}
        assert own == pytest.approx(values, abs=1e-3)


@pytest.mark.gpu
def test_on_a_gpu_nearly_the_same_shares(scorer: MarkerScorer) -> None:
    expected = [each.shares() for each in scorer.find(_entities(scorer), ENGLISH, SPANISH)]
    for dtype, tolerance in (("float32", 2e-2), ("float16", 0.15)):
        other = MarkerScorer(_section(gpus=1, dtype=dtype))
        for ours, theirs in zip(other.find(_entities(other), ENGLISH, SPANISH), expected, strict=True):
            best = max(theirs, key=lambda place: theirs[place])
            assert ours.shares().get(best, 0.0) == pytest.approx(theirs[best], abs=tolerance)
