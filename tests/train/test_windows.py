"""Rows of subwords and goals, against plain loops over sentences and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from students import Row, sentences
from tiny_encoders import ALPHABET, POSITIONS, save_tokenizer

from xner_ray.models.windows import Windows
from xner_ray.train.windows import IGNORED, Goal, encode, goal

NAMES = ["B-PER", "O", "I-PER", "B-LOC", "I-LOC"]  # in no order on purpose
GONE = "\u200d"  # gives no subword


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


# Some words are longer than a row of 32 subwords
WORD = st.one_of(st.text(ALPHABET, min_size=1, max_size=6), st.just(GONE), st.text("ab", min_size=29, max_size=70))


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        tokens = draw(st.lists(WORD, min_size=1, max_size=20))
        row: Row = {"tokens": tokens, "weight": draw(st.sampled_from([0.5, 1.0, 2.0])), "masked": draw(st.booleans())}
        if draw(st.integers(0, 2)):
            spans, end = [], 0
            while end < len(tokens) and draw(st.booleans()):
                start = draw(st.integers(end, len(tokens) - 1))
                end = draw(st.integers(start + 1, len(tokens)))
                spans.append((start, end, draw(st.sampled_from(["PER", "LOC"]))))
            row["spans"] = spans
        else:
            tags = st.tuples(st.integers(0, len(tokens) - 1), st.sampled_from([*NAMES, "B-ODD"]), st.floats(0.0, 0.25))
            row |= {"spans": None, "tags": draw(st.lists(tags, min_size=1, max_size=8, unique_by=lambda t: t[:2]))}
        rows.append(row)
    return rows


def _subwords(word: str) -> list[str]:
    return [] if word == GONE else ["▁", *word]


@settings(max_examples=150)
@given(_rows())
def test_each_word_is_read_once_at_its_first_subword(tokenizer: Any, rows: list[Row]) -> None:
    pieces = encode(sentences(rows), tokenizer, POSITIONS)
    assert len(pieces) == len(rows)
    words = [(n, word) for n, row in enumerate(rows) for word in row["tokens"]]
    assert pieces.first.tolist() == [0, *np.cumsum([len(row["tokens"]) for row in rows])]
    # Any word may look like another, so its neighbours in the row are looked at too
    assert sorted(pieces.word.tolist()) == [n for n, (_, word) in enumerate(words) if word != GONE]
    assert (pieces.lengths <= POSITIONS).all() and pieces.reads[-1] == len(pieces.word)
    rows_of_words = np.repeat(np.arange(len(pieces.lengths)), np.diff(pieces.reads))
    for number, row, place in zip(pieces.word, rows_of_words, pieces.place, strict=True):
        sentence, _ = words[number]
        assert pieces.windows_of[sentence] <= row < pieces.windows_of[sentence + 1]
        ids = pieces.ids[pieces.starts[row] : pieces.starts[row + 1]]
        assert ids[0] == 0 and ids[-1] == 2
        after = tokenizer.convert_ids_to_tokens(ids[place:-1].tolist())
        expected = [piece for _, each in words[number : pieces.first[sentence + 1]] for piece in _subwords(each)]
        # A word longer than a window is taken apart: there a window may end inside it
        assert after == expected[: len(after)] and after


@settings(max_examples=50)
@given(_rows(), st.randoms(use_true_random=False))
def test_a_batch_holds_what_its_rows_hold(tokenizer: Any, rows: list[Row], random: Any) -> None:
    pieces = encode(sentences(rows), tokenizer, POSITIONS)
    chosen = [row for row in range(len(pieces.lengths)) if random.random() < 0.7]
    random.shuffle(chosen)
    if not chosen:
        return
    ids, mask = pieces.batch(chosen, 1)
    at, places, words = pieces.read_in(chosen)
    for number, row in enumerate(chosen):
        own = pieces.ids[pieces.starts[row] : pieces.starts[row + 1]]
        assert ids[number].tolist() == [*own, *[1] * (ids.shape[1] - len(own))]
        assert mask[number].tolist() == [1] * len(own) + [0] * (ids.shape[1] - len(own))
        here = slice(pieces.reads[row], pieces.reads[row + 1])
        assert words[at == number].tolist() == pieces.word[here].tolist()
        assert places[at == number].tolist() == pieces.place[here].tolist()


def test_a_special_token_as_a_word_is_text(tokenizer: Any) -> None:
    pieces = encode(sentences([{"tokens": ["</s>", "a"], "spans": []}]), tokenizer, POSITIONS)
    assert (pieces.ids == 2).sum() == 1 and pieces.word.tolist() == [0, 1]


def _plain(row: Row) -> tuple[list[list[float]], list[float]]:
    """Distribution and weight of each word of a sentence."""
    found, weights = [], []
    for number, word in enumerate(row["tokens"]):
        share = dict.fromkeys(NAMES, 0.0)
        hard = None
        if row["spans"] is None:
            for where, tag, probability in row["tags"]:
                if where == number:
                    share[tag if tag in NAMES else "O"] += probability
            total = sum(share.values())
            share["O"] += max(0.0, 1 - total)
            share = {name: value / sum(share.values()) for name, value in share.items()}
        else:
            hard = "O"
            for start, end, label in row["spans"]:
                if start <= number < end:
                    hard = ("B-" if number == start else "I-") + label
            share[hard] = 1.0
        doubted = any(start <= number < end for start, end, _ in row.get("doubtful", []))
        silent = word == GONE or (row["masked"] and hard == "O") or doubted
        found.append([0.0] * len(NAMES) if silent else list(share.values()))
        weights.append(0.0 if silent else row["weight"])
    return found, weights


def _goal(tokenizer: Any, rows: list[Row]) -> tuple[Windows, Goal]:
    table = sentences(rows)
    pieces = encode(table, tokenizer, POSITIONS)
    return pieces, goal(table, pieces, NAMES)


@settings(max_examples=150)
@given(_rows())
def test_goals_are_those_of_a_plain_loop(tokenizer: Any, rows: list[Row]) -> None:
    _, found = _goal(tokenizer, rows)
    plain = [_plain(row) for row in rows]
    expected = np.array([share for shares, _ in plain for share in shares])
    np.testing.assert_allclose(found.rows(np.arange(len(expected)), len(NAMES)), expected, atol=1e-6)
    assert found.weight.tolist() == [weight for _, weights in plain for weight in weights]
    assert ((found.classes == IGNORED) | (found.soft_row < 0)).all()


def test_goals_of_a_table_of_slices(tokenizer: Any) -> None:
    """Several chunks, the second of which does not begin where its buffers do."""
    import pyarrow as pa

    rows: list[Row] = [
        {"tokens": ["a", "b"], "spans": [(0, 2, "PER")], "weight": 1.0, "masked": False},
        {"tokens": ["c"], "spans": None, "tags": [(0, "B-LOC", 0.5)], "weight": 1.0, "masked": False},
        {"tokens": ["d", "e"], "spans": [(1, 2, "LOC")], "weight": 2.0, "masked": True},
        {
            **{"tokens": ["f", "g", "h"], "spans": [(0, 2, "LOC"), (2, 3, "PER")], "weight": 1.0, "masked": False},
            "doubtful": [(0, 2, "LOC")],
        },
    ]
    whole = sentences(rows)
    cut = pa.concat_tables([whole.slice(1, 1), whole.slice(2, 1), whole.slice(0, 1), whole.slice(3)])
    pieces = encode(cut, tokenizer, POSITIONS)
    found = goal(cut, pieces, NAMES)
    expected = [share for number in (1, 2, 0, 3) for share in _plain(rows[number])[0]]
    np.testing.assert_allclose(found.rows(np.arange(8), len(NAMES)), expected, atol=1e-6)
    assert found.weight.tolist() == [1, 0, 2, 1, 1, 0, 0, 1]


def test_no_sentence_at_all(tokenizer: Any, tmp_path: Path) -> None:
    pieces, found = _goal(tokenizer, [])
    assert len(pieces) == 0 and len(found.classes) == 0
