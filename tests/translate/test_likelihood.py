"""The translation score on the tiny model of NLLB's own architecture, against a plain loop, and what it means."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from xner_ray.errors import RecipeError
from xner_ray.recipe.sections import Translate
from xner_ray.translate import nllb
from xner_ray.translate.likelihood import LikelihoodScorer

ENGLISH, SPANISH, SWAHILI = "eng_Latn", "spa_Latn", "swh_Latn"
NAMES = [("France", "Francia"), ("The Red Cross", "La Cruz Roja"), ("Nairobi", "Nairobi"), ("Germany", "Alemania")]
WRONG = [("France", "Alemania"), ("The Red Cross", "Nairobi"), ("Nairobi", "La Cruz Roja"), ("Germany", "Francia")]


def _scorer(**options: object) -> LikelihoodScorer:
    return LikelihoodScorer(Translate.model_validate({"model": "tiny-nllb", **options}))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scorer() -> LikelihoodScorer:
    return _scorer()


def _by_hand(scorer: LikelihoodScorer, pair: tuple[str, str], languages: tuple[str, str]) -> float:
    """The formula of method.md 4.3, one pair and one token at a time, nothing padded."""
    tokenizer, model = scorer.tokenizer, scorer.model

    @cache
    def likelihood(output: tuple[str, str], condition: tuple[str, str]) -> float:
        tokenizer.src_lang = condition[1]
        read = tokenizer([condition[0]], return_tensors="pt")
        given = [model.config.decoder_start_token_id, tokenizer.convert_tokens_to_ids(output[1])]
        product, tokens = 1.0, [*tokenizer.encode(output[0], add_special_tokens=False), tokenizer.eos_token_id]
        for token in tokens:
            with torch.inference_mode():
                logits = model(**read, decoder_input_ids=torch.tensor([given])).logits[0, -1]
            product *= float(torch.softmax(logits.double(), -1)[token])
            given.append(token)
        return product ** (1 / len(tokens))

    s, t = zip(pair, languages, strict=True)
    return (min(1, likelihood(s, t) / likelihood(s, s)) + min(1, likelihood(t, s) / likelihood(t, t))) / 2


@pytest.mark.parametrize("pair", [*NAMES[:2], WRONG[2], ("Red Cross", "Cruz"), ("a", "b c d e")])
def test_the_formula(scorer: LikelihoodScorer, pair: tuple[str, str]) -> None:
    for languages in ((ENGLISH, SPANISH), (SWAHILI, ENGLISH)):
        (score,) = scorer.score([pair], *languages)
        assert score == pytest.approx(_by_hand(scorer, pair, languages), abs=6e-5)


def test_batches_and_order_change_no_score(scorer: LikelihoodScorer) -> None:
    pairs = [(s, t) for s, _ in NAMES + WRONG for _, t in NAMES] + [("in " * 30 + "Kenya", "Kenia")]
    whole = scorer.score(pairs, ENGLISH, SPANISH)
    for other in (_scorer(micro_batch_tokens=16), _scorer(micro_batch_tokens=100)):
        assert other.score(pairs[::-1], ENGLISH, SPANISH)[::-1] == pytest.approx(whole, abs=1.01e-4)
    alone = [scorer.score([pair], ENGLISH, SPANISH)[0] for pair in pairs[:6]]
    assert alone == pytest.approx(whole[:6].tolist(), abs=1.01e-4)


def test_logits_and_tokens_of_a_pass_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(s, t) for s, _ in NAMES for _, t in NAMES]
    scorer = _scorer(micro_batch_tokens=64)
    expected = scorer.score(pairs, ENGLISH, SPANISH)
    passes: list[tuple[int, int, int]] = []
    logits: list[int] = []
    decoder, head = scorer.model.get_decoder(), scorer.model.lm_head
    decode, project = decoder.forward, head.forward

    def decoded(**inputs: torch.Tensor) -> object:
        passes.append((*inputs["input_ids"].shape, inputs["encoder_hidden_states"].shape[1]))
        return decode(**inputs)

    def projected(states: torch.Tensor) -> torch.Tensor:
        logits.append(len(states))
        found: torch.Tensor = project(states)
        return found

    monkeypatch.setattr(decoder, "forward", decoded)
    monkeypatch.setattr(head, "forward", projected)
    scorer.score(pairs, ENGLISH, SPANISH)
    assert max(rows for rows, _, _ in passes) > 3
    assert all(rows * (output + condition) <= 64 for rows, output, condition in passes)
    n_passes = len(passes)
    # 20 places over the whole vocabulary are all there is room for: more chunks, and no more passes
    monkeypatch.setattr(nllb, "SCORING_ELEMENTS", 20 * scorer.model.config.vocab_size)
    logits.clear()
    assert scorer.score(pairs, ENGLISH, SPANISH) == pytest.approx(expected, abs=1.01e-4)
    assert len(passes) == 2 * n_passes and max(logits) == 20


def test_both_directions_count_alike(scorer: LikelihoodScorer) -> None:
    pairs = NAMES + WRONG
    forward = scorer.score(pairs, ENGLISH, SPANISH)
    assert scorer.score([(t, s) for s, t in pairs], SPANISH, ENGLISH).tolist() == forward.tolist()


def test_a_phrase_and_itself_in_one_language_score_1(scorer: LikelihoodScorer) -> None:
    assert scorer.score([(s, s) for s, _ in NAMES], ENGLISH, ENGLISH).tolist() == [1.0] * len(NAMES)
    assert scorer.score([("Kenya", "France")], ENGLISH, ENGLISH)[0] < 0.1


def test_each_likelihood_is_computed_once(scorer: LikelihoodScorer) -> None:
    def tokens(pairs: list[tuple[str, str]], source: str = ENGLISH, target: str = SPANISH) -> int:
        before = scorer.tokens
        scorer.score(pairs, source, target)
        return scorer.tokens - before

    # Of n subwords each side: both are read as n + 2 and written as n + 2, each from the other and from itself
    first, second = tokens(NAMES[:1]), tokens(NAMES[1:2])
    sizes = [len(scorer.tokenizer.encode(phrase, add_special_tokens=False)) + 2 for phrase in NAMES[0]]
    assert first == 4 * sum(sizes)
    assert tokens(NAMES[:1] * 7) == first
    assert tokens(NAMES[:2]) == first + second
    # Another target for the same source: P(source|source) is there already
    other = tokens([("France", "Nairobi")])
    assert tokens([NAMES[0], ("France", "Nairobi")]) == first + other - 2 * sizes[0]
    # One language and one phrase: a single likelihood; the same words in two languages: four
    assert tokens([("France", "France")], ENGLISH, ENGLISH) == 2 * sizes[0]
    assert tokens([("France", "France")]) == 8 * sizes[0]


def test_translations_score_above_other_phrases(scorer: LikelihoodScorer) -> None:
    right, wrong = scorer.score(NAMES, ENGLISH, SPANISH), scorer.score(WRONG, ENGLISH, SPANISH)
    assert right.min() > 0.3
    assert wrong.max() < 0.1
    # Copied names that the model has not seen, whole and in part
    spans = ["Jacobo Trincavelli", "Jacobo", "Trincavelli por", "Pisani Cement"]
    copied = scorer.score([("Jacobo Trincavelli", span) for span in spans], ENGLISH, SPANISH)
    assert copied[0] > 0.9
    assert copied[1:].max() < 0.5


def test_the_end_counts(scorer: LikelihoodScorer) -> None:
    """A beginning is a poor translation, though each of its subwords is certain."""
    whole, beginning = scorer.score([("The Red Cross", "La Cruz Roja"), ("The Red Cross", "La Cruz")], ENGLISH, SPANISH)
    assert whole > 0.9 > 0.6 > beginning


def test_scores_are_shares_in_ten_thousandths(scorer: LikelihoodScorer) -> None:
    pairs = [(s, t) for s in ("France", "Nairobi", "x", "63", "。") for t in ("Francia", "Nairobi", "y z", "?!", "的")]
    scores = scorer.score(pairs, ENGLISH, SPANISH)
    assert scores.dtype == np.float64 and scores.shape == (25,)
    assert scores.min() >= 0 and scores.max() <= 1
    assert scores.tolist() == [round(score, 4) for score in scores.tolist()]
    # France is likelier from Francia than from itself, and this is the cut
    assert math.isclose(scores[0], 1.0)


def test_empty_and_overlong_phrases_cost_their_pair_alone(scorer: LikelihoodScorer) -> None:
    size = scorer.positions - 2
    fits, long = " ".join(["y"] * size), " ".join(["y"] * (size + 1))
    pieces = [len(scorer.tokenizer.encode(text, add_special_tokens=False)) for text in (fits, long)]
    assert pieces == [size, size + 1]
    pairs = [NAMES[0], ("", "Francia"), ("France", " \t"), ("", ""), (long, "Francia"), ("France", long), (fits, fits)]
    scores = scorer.score(pairs, ENGLISH, SPANISH)
    assert scores[1:6].tolist() == [0.0] * 5
    assert scores[0] == scorer.score(NAMES[:1], ENGLISH, SPANISH)[0] > 0
    assert scores[6] > 0
    before = scorer.tokens
    assert scorer.score(pairs[1:6], ENGLISH, SPANISH).tolist() == [0.0] * 5
    assert scorer.score([], ENGLISH, SPANISH).shape == (0,)
    assert scorer.tokens == before


def test_a_phrase_that_spells_a_special_token_stays_text(scorer: LikelihoodScorer) -> None:
    """A literal "</s>" would end the phrase, "spa_Latn" change its language."""
    phrase = (ENGLISH, "a </s> spa_Latn b")
    special = set(scorer.tokenizer.all_special_ids)
    for ids in scorer._subwords([phrase], {ENGLISH})[phrase]:
        assert [identifier in special for identifier in ids] == [True] + [False] * (len(ids) - 2) + [True]


def test_languages_must_be_known(scorer: LikelihoodScorer) -> None:
    for languages in ((ENGLISH, "yor_Latn"), ("yor_Latn", ENGLISH)):
        for pairs in (NAMES, []):
            with pytest.raises(RecipeError, match="no language token 'yor_Latn'"):
                scorer.score(pairs, *languages)


def test_what_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = _scorer()
    with torch.no_grad():
        scorer.model.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not a number"):
        scorer.score(NAMES, ENGLISH, SPANISH)


@pytest.mark.gpu
def test_on_a_gpu_the_same_in_float32_and_nearly_so_in_bf16(scorer: LikelihoodScorer) -> None:
    expected = scorer.score(NAMES + WRONG, ENGLISH, SPANISH)
    for dtype, tolerance in (("float32", 2e-3), ("bfloat16", 0.15)):
        found = _scorer(gpus=1, dtype=dtype).score(NAMES + WRONG, ENGLISH, SPANISH)
        assert found == pytest.approx(expected, abs=tolerance)
