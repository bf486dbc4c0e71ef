"""Probabilities of tag/hf.py: random models against a plain forward pass, and ones that map a letter to a known row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders  # noqa: F401, sets torch's threads
import torch
from tiny_taggers import ALPHABET, IOB2, POSITIONS, random_model, table_model, tagger

from xner_ray.errors import FatalError
from xner_ray.models.windows import windows
from xner_ray.tag.hf import HfTagger

SENTENCES = [["the", "cat", "sat"], ["x"], ["one", "two", "three", "four", "five", "six"], ["ab", "ba"]]


def plain(model: str, words: Sequence[str], pooling: str, temperature: float = 1.0) -> np.ndarray:
    """(n_words, classes of the model) by one forward pass over one sentence and a loop over its words."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = tokenizer([list(words)], is_split_into_words=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        logits = AutoModelForTokenClassification.from_pretrained(model).eval()(**tokens).logits[0]
    rows = torch.softmax(logits / temperature, dim=-1).numpy()
    word_ids = np.array([-1 if word is None else word for word in tokens.word_ids(0)])
    result = []
    for word in range(len(words)):
        own = rows[word_ids == word]
        pooled = {"first": own[0], "mean": own.mean(0), "max": own.max(0) / own.max(0).sum()}[pooling]
        result.append(pooled)
    return np.stack(result)


# As columns O, B-LOC, I-LOC, B-PER, I-PER
IOB2_ORDER = [IOB2.index(name) for name in ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return random_model(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "deberta-v2"])
def test_probabilities_are_those_of_a_plain_forward_pass(kind: str, pooling: Any, tmp_path: Path) -> None:
    model = random_model(tmp_path, kind)
    found = tagger(model, pooling=pooling, temperature=2.0)
    assert found.labels == ("LOC", "PER")
    for words, rows in zip(SENTENCES, found.probabilities(SENTENCES), strict=True):
        expected = plain(model, words, pooling, temperature=2.0)[:, IOB2_ORDER]
        assert rows.dtype == np.float32 and rows.shape == (len(words), 5)
        np.testing.assert_allclose(rows, expected, atol=6e-5)
        np.testing.assert_allclose(rows.sum(1), 1, atol=3e-4)
        np.testing.assert_array_equal(rows, np.rint(rows.astype(np.float64) * 1e4).astype(np.float32) / np.float32(1e4))


def test_pooling_and_temperature_change_something(bert: str) -> None:
    """Or the test above would not tell them apart."""
    found = [
        tagger(bert, **options).probabilities([["one", "three"]])[0]
        for options in ({}, {"pooling": "mean"}, {"pooling": "max"}, {"temperature": 2.0})
    ]
    for index, rows in enumerate(found):
        assert all(np.abs(rows - other).max() > 0.01 for other in found[:index])


def test_order_is_restored_and_batches_do_not_matter(bert: str) -> None:
    rng = np.random.default_rng(0)
    letters = list(ALPHABET)
    sentences = [
        ["".join(rng.choice(letters, rng.integers(1, 5))) for _ in range(rng.integers(0, 20))] for _ in range(60)
    ]
    found = tagger(bert)
    together = found.probabilities(sentences)
    for budget in (16, 100, 100_000):
        found.micro_batch_tokens = budget
        for expected, rows in zip(together, found.probabilities(sentences), strict=True):
            np.testing.assert_allclose(rows, expected, atol=1.1e-4)
    for expected, rows in zip(together, found.probabilities(sentences[::-1])[::-1], strict=True):
        np.testing.assert_allclose(rows, expected, atol=1.1e-4)


def _record(found: HfTagger, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and mask of every forward pass from now on."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward = found.network.forward

    def recorder(**inputs: torch.Tensor) -> Any:
        seen.append((inputs["input_ids"], inputs["attention_mask"]))
        return forward(**inputs)

    monkeypatch.setattr(found.network, "forward", recorder)
    return seen


def test_micro_batches_keep_the_budget_and_tokens_are_counted(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tagger(bert, micro_batch_tokens=40)
    seen = _record(found, monkeypatch)
    sentences = [*SENTENCES, ["abc"] * 20]
    found.probabilities(sentences)
    shapes = [tuple(ids.shape) for ids, _ in seen]
    assert shapes == sorted(shapes, key=lambda shape: -shape[1])
    assert shapes[0][1] <= POSITIONS and len(shapes) > 3
    assert all(rows == 1 or rows * length <= 40 for rows, length in shapes)
    assert found.tokens == sum(int(mask.sum()) for _, mask in seen)
    letters = sum(len(word) for words in sentences for word in words)
    assert found.tokens > letters + 2 * len(sentences)  # windows overlap
    assert len(shapes) < sum(rows for rows, _ in shapes)
    seen.clear()
    found.micro_batch_tokens = 16
    found.probabilities(sentences)
    assert {ids.shape[0] for ids, _ in seen if ids.shape[1] > 8} == {1}


def test_memory_that_runs_out_is_reported_and_counts_nothing(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tagger(bert)

    def no_memory(**_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(found.network, "forward", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        found.probabilities(SENTENCES)
    assert found.tokens == 0


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_long_sentences_are_windowed(kind: str, tmp_path: Path) -> None:
    """Each word as by a plain pass over the window where it has most context, as `models.windows.windows` says."""
    model = random_model(tmp_path, kind)
    words = [ALPHABET[i % 26] + ALPHABET[i % 7] * (i % 4) for i in range(40)]
    rows = tagger(model, pooling="mean").probabilities([["x"], words])[1]
    found = windows([len(word) for word in words], POSITIONS - 2)
    assert len(found) > 4
    for start, end, first, last in found:
        expected = plain(model, words[start:end], "mean")[first - start : last - start, IOB2_ORDER]
        np.testing.assert_allclose(rows[first:last], expected, atol=6e-5)


@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
def test_nothing_is_cut_where_a_word_alone_is_longer_than_the_model_reads(pooling: Any, tmp_path: Path) -> None:
    """The table's model has no context, so windows must give what one pass over everything would."""
    table = {"p": {"B-PER": 0.9}, "q": {"B-PER": 0.1, "I-PER": 0.3}, "l": {"I-LOC": 0.8}}
    found = tagger(table_model(tmp_path, IOB2, table), pooling=pooling)
    assert found.positions == POSITIONS
    long = "p" + "q" * 98 + "l"  # its last subword alone says LOC
    words = ["q", *"lplqp" * 30, long, "p", "q" * (POSITIONS - 2), "q" * (POSITIONS - 1), "l"]
    pieces = {"p": [0.1, 0, 0, 0.9, 0], "q": [0.6, 0, 0, 0.1, 0.3], "l": [0.2, 0, 0.8, 0, 0]}
    expected = []
    for word in words:
        own = np.array([pieces[letter] for letter in word])
        expected.append({"first": own[0], "mean": own.mean(0), "max": own.max(0) / own.max(0).sum()}[pooling])
    rows = found.probabilities([["p"], words, ["q"]])[1]
    np.testing.assert_allclose(rows, np.array(expected), atol=6e-5)
    alone = found.probabilities([[word] for word in words])
    np.testing.assert_array_equal(rows, np.concatenate(alone))


def test_the_first_subword_of_a_longer_word_has_its_context(bert: str) -> None:
    words = ["ab", "c" * 50]
    rows = tagger(bert).probabilities([words])[0]
    expected = plain(bert, ["ab", "c" * (POSITIONS - 4)], "first")[:, IOB2_ORDER]
    np.testing.assert_allclose(rows, expected, atol=6e-5)


def test_words_without_subwords_are_outside(bert: str) -> None:
    found = tagger(bert)
    with_joiner, nothing, empty, without = found.probabilities(
        [["ab", "\u200d", "", "cd", ""], ["\u200d"], [], ["ab", "cd"]]
    )
    np.testing.assert_allclose(with_joiner[[0, 3]], without, atol=1.1e-4)
    assert with_joiner[[1, 2, 4]].tolist() == [[1, 0, 0, 0, 0]] * 3
    assert nothing.tolist() == [[1, 0, 0, 0, 0]]
    assert empty.shape == (0, 5)
    assert found.tag([(["\u200d"], [False]), ([], [])]) == [[], []]
    assert found.probabilities([]) == [] and found.tag([]) == []


def test_text_that_spells_a_special_token_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"</s>": {"B-PER": 0.9}, "<pad>": {"B-PER": 0.9}, "<unk>": {"B-LOC": 0.6}}
    found = tagger(table_model(tmp_path, IOB2, names), pooling="max")
    seen = _record(found, monkeypatch)
    rows = found.probabilities([["a", "</s>", "<pad>", "b</s>", "c"]])[0]
    assert seen[0][0].tolist()[0] == [0, 4, 3, 3, 5, 3, 6, 2]
    assert rows[:, 3].max() == 0
    np.testing.assert_allclose(rows[1:3, 1], 0.6, atol=1e-4)


def test_the_pieces_of_such_text_are_used_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WordPiece, as BERT's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = random_model(tmp_path)
    pieces = ["[PAD]", "[UNK]", "[SEP]", "[", "]", "SEP", "a"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(model)
    found = tagger(model)
    seen = _record(found, monkeypatch)
    found.probabilities([["a", "[SEP]", "a"]])
    assert [pieces[piece] for piece in seen[0][0].tolist()[0]] == ["a", "[", "SEP", "]", "a"]


def test_probabilities_that_are_no_numbers_end_the_run(bert: str) -> None:
    found = tagger(bert)
    found.network.classifier.bias.data[0] = float("nan")
    with pytest.raises(FatalError, match=r"not finite; set dtype: float32 in its section"):
        found.probabilities(SENTENCES)


def test_words_stay_apart_where_the_space_belongs_to_the_next_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte-level BPE, as RoBERTa's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = random_model(tmp_path)
    pieces = ["<pad>", "<unk>", "Ġ", *"catso"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(model)
    found = tagger(model)
    seen = _record(found, monkeypatch)
    found.probabilities([["cat", "so"]])
    assert [pieces[piece] for piece in seen[0][0].tolist()[0]] == ["Ġ", *"cat", "Ġ", *"so"]


def test_threads_and_precision(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    found = tagger(bert, threads=3, dtype="bfloat16")
    assert asked == [3]
    assert found.network.dtype == torch.bfloat16 and tagger(bert).network.dtype == torch.float32
    for half, exact in zip(found.probabilities(SENTENCES), tagger(bert).probabilities(SENTENCES), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, exact, atol=0.1)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_probabilities(bert: str) -> None:
    found = tagger(bert, gpus=1, dtype="float32").probabilities(SENTENCES)
    for rows, exact in zip(found, tagger(bert).probabilities(SENTENCES), strict=True):
        np.testing.assert_allclose(rows, exact, atol=2e-4)
