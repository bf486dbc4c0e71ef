"""Translation models of other families than NLLB: how they are told languages, their scores, and places of markers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from seq2seq_models import FAMILIES, LEARNT, PAIRS, SEVERAL, SWAHILI

from xner_ray.errors import Reason, RecipeError
from xner_ray.recipe.sections import Constrained, Translate
from xner_ray.translate import constrained_stage, ct2, nllb
from xner_ray.translate.base import Translation
from xner_ray.translate.constrained_stage import Entity, MarkerScorer
from xner_ray.translate.ct2 import Ct2Translator
from xner_ray.translate.likelihood import LikelihoodScorer
from xner_ray.translate.nllb import NllbTranslator, resolve

SPANISH = ("eng_Latn", "spa_Latn")
# transformers' advice for OPUS-MT, see docs/translation.md
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("families")
    return {name: str(make(folder / name.replace(" ", "-"))) for name, make in FAMILIES.items()}


def _translator(model: str, **options: Any) -> NllbTranslator:
    return NllbTranslator(Translate.model_validate({"model": model, **options}))


def _found(translator: NllbTranslator, texts: list[str], *direction: str) -> list[str]:
    results = translator.translate(texts, *direction)
    assert all(isinstance(result, Translation) for result in results), results
    return [result.text for result in results if isinstance(result, Translation)]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", LEARNT)
def test_each_family_is_told_its_languages(models: dict[str, str], family: str, beams: int) -> None:
    translator = _translator(models[family], beams=beams)
    assert _found(translator, [source for source, _ in PAIRS], *SPANISH) == [target for _, target in PAIRS]
    if family in SEVERAL:
        texts = [source for source, _ in SWAHILI]
        assert _found(translator, texts, "eng_Latn", "swh_Latn") == [target for _, target in SWAHILI]


@pytest.mark.parametrize("family", LEARNT)
def test_a_score_is_the_loss_that_the_model_itself_states(models: dict[str, str], family: str) -> None:
    translator = _translator(models[family])
    (result,) = translator.translate([PAIRS[0][0]], *SPANISH)
    assert isinstance(result, Translation) and result.score is not None
    told = translator.languages.told(*SPANISH)
    (source,) = translator.languages.read([PAIRS[0][0]], *SPANISH)
    (target,) = translator.languages.written([PAIRS[0][1]], *SPANISH)
    labels = torch.tensor([[*told.first, *target, translator.tokenizer.eos_token_id]])
    with torch.inference_mode():
        logits = translator.model(input_ids=torch.tensor([source]), labels=labels).logits[0]
    own = torch.log_softmax(logits, -1)[torch.arange(labels.shape[1]), labels[0]][len(told.first) :]
    assert result.score == pytest.approx(float(own.mean()), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_markers_are_placed_with_any_family(models: dict[str, str], family: str) -> None:
    """The places of a search are all places, and as probable as the model's own loss says."""
    section = Constrained.model_validate({"model": models[family], "beams": 100})
    constrained_stage.resolve(section, "constrained", {"spa_Latn": SPANISH})
    scorer = MarkerScorer(section)
    text, words = PAIRS[0][1], PAIRS[0][1].split()
    starts = [sum(len(word) + 1 for word in words[:number]) for number in range(len(words))]
    offsets = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
    target = scorer.target(text, offsets, *SPANISH, 3)
    found = scorer.find([Entity(source, target) for source in ("Bo saw [An] .", "[Bo] saw An .")], *SPANISH)
    if family in LEARNT:
        assert [max(one.places, key=one.places.__getitem__) for one in found] == [(0, 1), (3, 4)]
        assert all(one.ratio > 1 for one in found)
    for one, source in zip(found, ("Bo saw [An] .", "[Bo] saw An ."), strict=True):
        assert one.proven and one.places
        for (first, end), value in one.places.items():
            marked = [f"[{w}" if n == first else w for n, w in enumerate(words)]
            marked[end - 1] += "]"
            assert value == pytest.approx(_stated(scorer, source, " ".join(marked)), abs=1e-3)
        shares = one.shares()
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert all(a >= 0 and b >= 0 for a, b in pairwise(shares.values()))


def _stated(scorer: MarkerScorer, source: str, text: str) -> float:
    """The log-probability of a text by the loss of the model's own forward pass."""
    told = scorer.languages.told(*SPANISH)
    (read,), (written,) = scorer.languages.read([source], *SPANISH), scorer.languages.written([text], *SPANISH)
    labels = torch.tensor([[*told.first, *written, scorer.tokenizer.eos_token_id]])
    with torch.inference_mode():
        logits = scorer.model(input_ids=torch.tensor([read]), labels=labels).logits[0]
    own = torch.log_softmax(logits, -1)[torch.arange(labels.shape[1]), labels[0]][len(told.first) :]
    return math.fsum(own.tolist())


@pytest.mark.parametrize(
    ("family", "direction", "message"),
    [
        ("m2m-100", ("eng_Latn", "twi_Latn"), r"no language token 'twi_Latn'"),
        ("m2m-100", ("twi_Latn", "spa_Latn"), r"no language token 'twi_Latn'"),
        ("mbart-50", ("eng_Latn", "lug_Latn"), r"no language token 'lug_Latn'"),
        (
            "madlad-400",
            ("eng_Latn", "deu_Latn"),
            r"no language token 'deu_Latn'; allowed: <2en>, <2es>, <2iw>, <2sw>, ",
        ),
        ("opus-mt", ("eng_Latn", "deu_Latn"), r"no language token 'deu_Latn'; allowed: es "),
        ("opus-mt", ("deu_Latn", "spa_Latn"), r"no language token 'deu_Latn'; allowed: en "),
        ("opus-mt of several", ("eng_Latn", "deu_Latn"), r"no language token 'deu_Latn'; allowed: >>spa<<, >>swh<< "),
        ("opus-mt of several", ("deu_Latn", "spa_Latn"), r"no language token 'deu_Latn'; allowed: en "),
    ],
)
def test_what_a_model_is_not_told_is_refused(
    models: dict[str, str], family: str, direction: tuple[str, str], message: str
) -> None:
    section = Translate.model_validate({"model": models[family]})
    with pytest.raises(RecipeError, match=message):
        resolve(section, "translate", {direction[1]: direction})


def test_a_script_or_an_older_code_is_found(models: dict[str, str]) -> None:
    translator = _translator(models["madlad-400"])
    for code, token in (("heb_Hebr", "<2iw>"), ("swh_Latn", "<2sw>")):
        told = translator.languages.told("eng_Latn", code)
        assert told.before[-1] == translator.tokenizer.convert_tokens_to_ids(token)
    with pytest.raises(RecipeError, match="no language token 'zho_Hans'"):
        translator.languages.told("eng_Latn", "zho_Hans")


def test_a_loop_of_a_model_that_forces_an_end_is_no_translation(models: dict[str, str]) -> None:
    """OPUS-MT's generation_config.json puts an end at the longest length, so that each loop would look whole."""
    translator = _translator(models["opus-mt"], max_new_tokens=3)
    (result,) = translator.translate([PAIRS[0][0]], *SPANISH)
    assert isinstance(result, tuple) and result[0] == Reason.TRANSLATION_TRUNCATED


def test_likelihood_needs_a_token_of_each_language(models: dict[str, str]) -> None:
    section = Translate.model_validate({"model": models["madlad-400"]})
    with pytest.raises(RecipeError, match=r"likelihood.model: .* is not told the language that it reads"):
        resolve(section, "likelihood", {"spa_Latn": SPANISH})
    for family in ("m2m-100", "mbart-50"):
        section = Translate.model_validate({"model": models[family]})
        resolve(section, "likelihood", {"spa_Latn": SPANISH})
        (score,) = LikelihoodScorer(section).score([("Rome is old .", "Roma es vieja .")], *SPANISH)
        assert 0 < score <= 1


def test_ctranslate2_refuses_what_it_cannot_convert(models: dict[str, str]) -> None:
    pytest.importorskip("ctranslate2")
    for family, message in {
        "m2m-100": "does not list the tokens of its languages, .* choose engine nllb",
        "madlad-400": "is of type t5, but engine ctranslate2 takes m2m_100 alone, .* choose engine nllb",
    }.items():
        assert not ct2.reads(models[family])
        with pytest.raises(RecipeError, match=message):
            Ct2Translator(Translate.model_validate({"model": models[family], "engine": "ctranslate2"}))


def test_a_head_that_is_not_known_is_refused(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = nllb.logits_of
    monkeypatch.setattr(nllb, "logits_of", lambda model, states: 2 * real(model, states))
    with pytest.raises(RecipeError, match="of type t5, whose probabilities cannot be read here"):
        _translator(models["madlad-400"])


def test_text_that_spells_a_token_stays_text(models: dict[str, str]) -> None:
    translator = _translator(models["m2m-100"])
    ids = translator.languages.read(["__es__ Bob </s>"], *SPANISH)[0]
    special = {translator.tokenizer.eos_token_id, translator.tokenizer.convert_tokens_to_ids("__es__")}
    assert special.isdisjoint(ids[1:-1]) and ids[-1] == translator.tokenizer.eos_token_id


def test_models_are_folders_as_published(models: dict[str, str]) -> None:
    files = {family: {path.name for path in Path(folder).iterdir()} for family, folder in models.items()}
    assert {"sentencepiece.bpe.model", "vocab.json"} <= files["m2m-100"]
    assert {"source.spm", "target.spm", "vocab.json"} <= files["opus-mt"]
    assert "tokenizer.json" in files["madlad-400"] and "tokenizer.json" in files["mbart-50"]
