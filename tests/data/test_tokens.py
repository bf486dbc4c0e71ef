"""Tokens that are no words, made words, with their spans."""

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.data.spans import Span, spans_to_tags, tags_to_spans
from xner_ray.data.tokens import UNSEEN, leaning, mend, sound

ZWSP, BOM, ACUTE, NBSP = "\u200b", "\ufeff", "\u0301", "\u00a0"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", ""),
        (f"|{ZWSP}| |\n|\u3000|{BOM}|{NBSP}|\u200e|\u3164|\u2800", ""),
        ("a||b", "a|b"),
        ("salah satu|5 000|a\u00a0b|c\u3000d|e\u2028f", "salah|satu|5|000|a|b|c|d|e|f"),
        (" a |\tb", "a|b"),
        (f"ខ្មែរ{ZWSP}ភាសា|x{ZWSP}|{ZWSP}y", "ខ្មែរ|ភាសា|x|y"),
        (f"{BOM}Al|f{BOM}oo", "Al|foo"),
        (f"lọ|{ACUTE}|jọ|{ACUTE}|kejì", f"lọ{ACUTE}|jọ{ACUTE}|kejì"),
        (f"lọ {ACUTE} jọ", f"lọ{ACUTE}|jọ"),
        (f"{ACUTE}|a", f"{ACUTE}|a"),
        (f"|{ACUTE}|\u0300|a", f"{ACUTE}\u0300|a"),
        (f"a| {ACUTE} b|c", f"a{ACUTE}|b|c"),
        ("क|ा|म", "का|म"),
        ("❤|\ufe0f|1|\u20e3", "❤\ufe0f|1\u20e3"),
        (f"a|{ZWSP}|{ACUTE}\u200d", f"a{ACUTE}\u200d"),
        ("می\u200cخواهم|ශ්\u200dරී|👨\u200d👩|soft\u00adly", "می\u200cخواهم|ශ්\u200dරී|👨\u200d👩|soft\u00adly"),
        (f"{ACUTE}a|b", f"{ACUTE}a|b"),
    ],
)
def test_each_kind(given: str, made: str) -> None:
    tokens, words = given.split("|"), made.split("|") if made else []
    mended = mend(tokens)
    assert (tokens if mended is None else mended.tokens) == words
    assert (mended is None) == (tokens == words)
    assert mend(words) is None


@pytest.mark.parametrize(
    ("given", "tags", "expected"),
    [
        ("New York|is", "B-LOC O", "B-LOC I-LOC O"),
        ("New| |York", "B-LOC I-LOC I-LOC", "B-LOC I-LOC"),
        ("New| |York", "B-LOC O B-LOC", "B-LOC B-LOC"),
        (" |New|\n", "B-LOC I-LOC I-LOC", "B-LOC"),
        (f"lọ|{ACUTE}|x", "B-LOC I-LOC O", "B-LOC O"),
        (f"lọ|{ACUTE}|x", "B-LOC O I-LOC", "B-LOC B-LOC"),
        (f"lọ|{ACUTE}|x", "O B-LOC I-LOC", "O B-LOC"),
        (f"lọ|{ACUTE}|x", "B-LOC B-LOC O", "B-LOC O"),
        (f"lọ|{ACUTE} x", "O B-LOC", "O B-LOC"),
        (f"lọ|{ACUTE} x", "B-LOC B-PER", "B-LOC B-PER"),
        (f"lọ|{ACUTE} x", "B-LOC I-LOC", "B-LOC I-LOC"),
        (f"lọ| |{ACUTE}|x", "O O B-LOC O", None),
        ("a| |x", "O B-LOC O", None),
        ("a| |x", "B-LOC B-LOC O", None),
    ],
)
def test_spans_go_with_their_words(given: str, tags: str, expected: str | None) -> None:
    mended = mend(given.split("|"))
    assert mended is not None
    spans = tags_to_spans(tags.split())[0]
    if expected is None:
        with pytest.raises(ValueError, match=r"span \[\d, \d, 'LOC'\] covers no word"):
            mended.spans(spans)
    else:
        assert spans_to_tags(mended.spans(spans), len(mended.tokens)) == expected.split()


TOKEN = st.one_of(
    st.sampled_from(["a", "B", "", " ", ZWSP, BOM, ACUTE, "a b", f"a{ZWSP}b", f"x{BOM}", f" {ACUTE} c", "\u0e31", "."]),
    st.text(st.sampled_from(f"ab ก\n{ZWSP}{BOM}{ACUTE}\u200d{NBSP}"), max_size=5),
    st.text(max_size=4),
)


@settings(max_examples=400)
@given(st.lists(TOKEN, max_size=8), st.data())
def test_all_that_is_seen_stays_in_its_place(tokens: list[str], data: st.DataObject) -> None:
    mended = mend(tokens)
    words = tokens if mended is None else mended.tokens

    def seen(token: str) -> str:
        return "".join(c for c in token if c not in UNSEEN and not c.isspace())

    for word in words:
        assert word and word.split() == [word] and ZWSP not in word and BOM not in word
        assert any(unicodedata.category(c)[0] != "M" for c in word) or word == words[0]
    assert mend(words) is None
    assert seen("".join(words)) == seen("".join(tokens))
    if mended is None:
        return
    assert len(mended.places) == len(tokens)
    reached = {word for place in mended.places for word in place}
    assert reached == set(range(len(words)))
    starts = [place.start for place in mended.places if place]
    assert starts == sorted(starts)
    for token, place in zip(tokens, mended.places, strict=True):
        assert seen(token) in seen("".join(words[place.start : place.stop]))
    start = data.draw(st.integers(0, len(tokens) - 1))
    span = Span(start, data.draw(st.integers(start + 1, len(tokens))), "PER")
    try:
        (moved,) = mended.spans([span])
    except ValueError:
        assert not any(mended._own(index) for index in range(span.start, span.end))
    else:
        assert 0 <= moved.start < moved.end <= len(words)


def test_all_marks_are_known() -> None:
    marks = {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"}
    assert marks <= leaning()


def test_most_tokens_are_sound() -> None:
    assert sound(["Ana", "l'", "北京", "。", "“", "é", "e\u0301", "👍🏽", "ก็"])
    assert not any(map(sound, [[""], ["a", " "], ["a b"], ["a", ""], [f"a{ZWSP}"], [f"{BOM}é"], ["é", ACUTE]]))
