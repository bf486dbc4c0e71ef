"""The NLLB engine on the tiny model of NLLB's own architecture: the production code, on the CPU."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_nllb import FOLDER

from xner_ray.errors import Reason, RecipeError
from xner_ray.recipe.sections import Translate
from xner_ray.translate import nllb
from xner_ray.translate.base import Translation
from xner_ray.translate.nllb import NllbTranslator, resolve

TEXTS = [
    "Amina Otieno travelled to Nairobi on Monday .",
    "Grace Mwangi was appointed by Peter Kamau to lead the Ministry of Health .",
    "In Kenya , the Ministry of Agriculture employs 63 people .",
    "Brian Otieno travelled to Madrid on Friday .",
]


def _translator(**options: object) -> NllbTranslator:
    return NllbTranslator(Translate.model_validate({"model": "tiny-nllb", **options}))


@pytest.fixture(scope="module")
def translator() -> NllbTranslator:
    return _translator()


def _texts(results: list[Translation | tuple[Reason, str]]) -> list[str]:
    assert all(isinstance(result, Translation) for result in results), results
    return [result.text for result in results if isinstance(result, Translation)]


def test_languages_differ_and_names_survive(translator: NllbTranslator) -> None:
    swahili = _texts(translator.translate(TEXTS, "eng_Latn", "swh_Latn"))
    spanish = _texts(translator.translate(TEXTS, "eng_Latn", "spa_Latn"))
    assert "alisafiri" in swahili[0]
    assert "viajó" in spanish[0]
    assert "Nairobi" in swahili[0]
    assert "Nairobi" in spanish[0]


@pytest.mark.parametrize("beams", [1, 4])
def test_order_and_micro_batches_change_no_text(beams: int) -> None:
    whole = _translator(beams=beams).translate(TEXTS, "eng_Latn", "spa_Latn")
    alone = _translator(beams=beams, micro_batch_tokens=16).translate(TEXTS[::-1], "eng_Latn", "spa_Latn")[::-1]
    assert _texts(whole) == _texts(alone)
    for one, other in zip(whole, alone, strict=True):
        assert isinstance(one, Translation)
        assert isinstance(other, Translation)
        assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_score_is_the_mean_log_probability_of_the_tokens(beams: int) -> None:
    translator = _translator(beams=beams)
    (result,) = translator.translate(TEXTS[:1], "eng_Latn", "spa_Latn")
    assert isinstance(result, Translation)
    tokenizer, model = translator.tokenizer, translator.model
    tokenizer.src_lang = "eng_Latn"
    source = tokenizer(TEXTS[:1], return_tensors="pt")
    target = tokenizer.convert_tokens_to_ids("spa_Latn")
    with torch.inference_mode():
        tokens = model.generate(
            **source, forced_bos_token_id=target, num_beams=beams, do_sample=False, max_new_tokens=60
        )
        assert tokenizer.batch_decode(tokens, skip_special_tokens=True)[0] == result.text
        total, count = 0.0, 0
        for place in range(2, tokens.shape[1]):  # one token at a time, from what stands before it
            logits = model(**source, decoder_input_ids=tokens[:, :place]).logits[0, -1]
            total += float(torch.log_softmax(logits, -1)[tokens[0, place]])
            count += 1
    assert result.score == pytest.approx(total / count, abs=1e-4)


def test_too_long_sources_and_cut_translations_are_rejects(translator: NllbTranslator) -> None:
    long = " ".join(["Nairobi"] * 400)
    results = translator.translate([TEXTS[0], long, TEXTS[1]], "eng_Latn", "spa_Latn")
    assert isinstance(results[0], Translation)
    assert isinstance(results[2], Translation)
    assert isinstance(results[1], tuple)
    assert results[1][0] is Reason.SOURCE_TOO_LONG
    assert f"the translator reads {translator.positions}" in results[1][1]
    (cut,) = _translator(max_new_tokens=3).translate(TEXTS[:1], "eng_Latn", "spa_Latn")
    assert isinstance(cut, tuple)
    assert cut[0] is Reason.TRANSLATION_TRUNCATED


def test_text_that_spells_a_special_token_stays_text(translator: NllbTranslator) -> None:
    """A literal "</s>" in the input would end the source, "spa_Latn" change its language."""
    translator.tokenizer.src_lang = "eng_Latn"
    ids = translator.tokenizer(["a </s> spa_Latn b"], split_special_tokens=True)["input_ids"][0]
    special = set(translator.tokenizer.all_special_ids)
    assert [identifier in special for identifier in ids] == [True] + [False] * (len(ids) - 2) + [True]


def test_nothing_to_translate(translator: NllbTranslator) -> None:
    assert translator.translate([], "eng_Latn", "spa_Latn") == []


def test_unknown_languages_never_become_unk(translator: NllbTranslator) -> None:
    section = Translate(model="tiny-nllb")
    directions = {code: ("eng_Latn", code) for code in ("swh_Latn", "spa_Latn")}
    found, identities = resolve(section, "translate", directions)
    assert (found, len(identities["model"])) == (section, 64)
    with pytest.raises(RecipeError, match=r"tiny-nllb has no language token 'yor_Latn'; .*'swh_Latn'"):
        resolve(section, "translate", {"yor_Latn": ("eng_Latn", "yor_Latn")})
    with pytest.raises(RecipeError, match="no language token 'yor_Latn'"):
        translator.translate(TEXTS[:1], "eng_Latn", "yor_Latn")
    with pytest.raises(RecipeError, match="no language token 'yor_Latn'"):
        translator.translate(TEXTS[:1], "yor_Latn", "spa_Latn")


def test_tokens_are_counted(translator: NllbTranslator) -> None:
    before = translator.tokens
    translator.translate(TEXTS[:1], "eng_Latn", "spa_Latn")
    assert 10 < translator.tokens - before < 200


@pytest.mark.gpu
def test_bf16_on_a_gpu_gives_the_same_templates() -> None:
    on_gpu = _translator(gpus=1).translate(TEXTS, "eng_Latn", "spa_Latn")
    assert _texts(on_gpu) == _texts(_translator().translate(TEXTS, "eng_Latn", "spa_Latn"))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    """As of a training that saved its layers under other names: random ones would translate, and nobody would see."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    tensors = load_file(FOLDER / "model.safetensors")
    renamed = {name.replace("model.decoder.layers.0", "module.decoder.layers.0"): one for name, one in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"translate.model '.*weights are missing, as model.decoder.layers.0"):
        _translator(model=str(tmp_path))


@pytest.mark.parametrize("beams", [1, 2])
def test_probabilities_that_are_no_numbers_are_named(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a model that overflows in half precision: where tokens are chosen, and where beams are scored."""
    translator = _translator(beams=beams)
    head = translator.model.lm_head
    project, calls = head.forward, []

    def overflows(states: torch.Tensor) -> torch.Tensor:
        calls.append(states.dim())
        found: torch.Tensor = project(states)
        return found * float("inf") if beams == 1 or states.dim() == 2 else found  # 3 in generation

    monkeypatch.setattr(head, "forward", overflows)
    with pytest.raises(ValueError, match=r"no finite numbers in float32; set dtype: float32, or bfloat16"):
        translator.translate(TEXTS[:1], "eng_Latn", "spa_Latn")
    assert set(calls) == ({3} if beams == 1 else {2, 3})


def test_beams_and_vocabulary_bound_the_rows_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of short sentences, which a budget of tokens alone would take by the thousand; less so once memory ran out."""
    translator = _translator(beams=3)
    expected = _texts(translator.translate(TEXTS * 4, "eng_Latn", "spa_Latn"))
    rows: list[int] = []
    generate = translator.model.generate

    def watched(**options: Any) -> torch.Tensor:
        rows.append(len(options["attention_mask"]))
        found: torch.Tensor = generate(**options)
        return found

    monkeypatch.setattr(translator.model, "generate", watched)
    monkeypatch.setattr(nllb, "STEP_ELEMENTS", 12 * len(translator.tokenizer))
    assert _texts(translator.translate(TEXTS * 4, "eng_Latn", "spa_Latn")) == expected
    assert max(rows) == 4
    rows.clear()
    translator.micro_batch_tokens //= 2
    translator.translate(TEXTS * 4, "eng_Latn", "spa_Latn")
    assert max(rows) == 2


@pytest.mark.parametrize("beams", [1, 4])
def test_what_does_not_end_soon_is_made_again_by_itself(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are those of one round in which all rows wait for the longest."""
    translator = _translator(beams=beams, max_new_tokens=40)
    expected = translator.translate(TEXTS, "eng_Latn", "spa_Latn")
    run, rounds = translator._run, []

    def slow(ids: list[list[int]], first: int, limit: int) -> Any:
        """The shortest row of the first round does not end."""
        sequences, found = run(ids, first, limit)
        if limit < 40:
            sequences[-1][sequences[-1] == translator.tokenizer.eos_token_id] = translator.tokenizer.pad_token_id
        rounds.append((len(ids), limit))
        return sequences, found

    monkeypatch.setattr(translator, "_run", slow)
    found = translator.translate(TEXTS, "eng_Latn", "spa_Latn")
    assert rounds == [(len(TEXTS), 36), (1, 40)]
    assert _texts(found) == _texts(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, Translation) and isinstance(other, Translation)
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_greedy_scores_are_those_of_a_second_pass(translator: NllbTranslator, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are noted while tokens are chosen; with a penalty in generation_config.json they would be others."""
    noted = translator.translate(TEXTS, "eng_Latn", "swh_Latn")
    assert translator.plain
    passes: list[int] = []
    second = nllb.log_probabilities

    def counted(*given: Any) -> torch.Tensor:
        passes.append(1)
        return second(*given)

    monkeypatch.setattr(nllb, "log_probabilities", counted)
    assert translator.translate(TEXTS, "eng_Latn", "swh_Latn") == noted and not passes
    monkeypatch.setattr(translator, "plain", False)
    scored = translator.translate(TEXTS, "eng_Latn", "swh_Latn")
    assert passes and _texts(scored) == _texts(noted)
    for one, other in zip(scored, noted, strict=True):
        assert isinstance(one, Translation) and isinstance(other, Translation)
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_penalties_of_a_model_are_no_probabilities(tmp_path: Path) -> None:
    import shutil

    import xner_ray

    shutil.copytree(Path(xner_ray.__file__).parent / "models" / "tiny-nllb", tmp_path / "model")
    given = tmp_path / "model" / "generation_config.json"
    settings = json.loads(given.read_text()) if given.exists() else {}
    given.write_text(json.dumps({**settings, "no_repeat_ngram_size": 3}))
    assert not _translator(model=str(tmp_path / "model")).plain
