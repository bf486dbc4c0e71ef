"""Brackets through a translator: what holds for every text, whatever comes back."""

from __future__ import annotations

import sys
import unicodedata
from difflib import SequenceMatcher
from itertools import pairwise, permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xner_ray.data import words
from xner_ray.errors import Loss
from xner_ray.translate.brackets import Placement, Recovered, escape, mark, recover, to_words

SQUARE = "[]［］﹇﹈"
# Brackets of every form, white space of every width, case, combining marks, right-to-left, no spaces, no width.
CHARACTERS = (
    st.sampled_from([*SQUARE, *"()（）﹙﹚︵︶⁽⁾₍₎", *"  \t\n\u3000aAbBeé\u0301.,'हिשלا中国\u200f\u200d"])
    | st.characters()
)
TEXT = st.text(CHARACTERS, max_size=40)
TRANSLATION = st.text(st.sampled_from("[[[[]]]]  ［］﹇﹈()\tabAé\u0301,हिश中"), max_size=30)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without the white space at its ends."""
    inside = text[start:end]
    return end - len(inside.lstrip()), start + len(inside.rstrip())


@st.composite
def sentences(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    """A text and ranges in it; neighbours may touch."""
    text = draw(TEXT)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=10)))
    ranges = [trimmed(text, *pair) for pair in pairwise(cuts) if draw(st.booleans())]
    return text, [(start, end) for start, end in ranges if start < end]


@given(sentences())
@example(("[a][a]", [(1, 2), (4, 5)]))
@example(("(a)［b］[c] d", [(0, 3), (3, 6), (7, 8)]))
def test_a_translator_that_changes_nothing_gives_everything_back(sentence: tuple[str, list[tuple[int, int]]]) -> None:
    text, spans = sentence
    marked = mark(text, spans)
    recovered = recover(marked.text, [escape(text[start:end]) for start, end in spans], brackets=marked.brackets)
    placements = [Placement(start, end, 1.0) for start, end in spans]
    assert recovered == Recovered(text, spans, placements, {})  # type: ignore[arg-type]  # lists are invariant


@given(sentences())
def test_nfkc_finds_no_square_bracket_in_a_marked_text_but_the_markers(
    sentence: tuple[str, list[tuple[int, int]]],
) -> None:
    text, spans = sentence
    normal = unicodedata.normalize("NFKC", mark(text, spans).text)
    assert [c for c in normal if c in SQUARE] == ["[", "]"] * len(spans)


@given(TRANSLATION, st.lists(st.none() | st.text("abAé", max_size=4), max_size=4), st.sampled_from([0.0, 0.5, 0.9]))
@example("[[a] b", ["a b", "a"], 0.0)
def test_whatever_comes_back_pieces_go_to_one_entity_each_and_no_marker_stays(
    translation: str, entities: list[str | None], least: float
) -> None:
    recovered = recover(translation, entities, min_similarity=least)
    assert not set(recovered.text) & set(SQUARE)
    assert "".join(recovered.text.split()) == "".join(c for c in translation if c not in SQUARE and not c.isspace())
    assert len(recovered.entities) == len(entities)
    places = [(e.start, e.end) for e in recovered.entities if isinstance(e, Placement)]
    assert len(set(places)) == len(places)
    assert set(places) <= set(recovered.pieces)
    assert all(trimmed(recovered.text, start, end) == (start, end) for start, end in recovered.pieces)
    assert all(e.similarity > least for e in recovered.entities if isinstance(e, Placement))


@given(TRANSLATION, st.lists(st.text("abAéहिश中", max_size=4), max_size=4))
@example("[aa b][b][b", ["aa b", "b", "b"])
def test_no_two_entities_share_a_word(translation: str, entities: list[str]) -> None:
    recovered = recover(translation, entities, min_similarity=0)
    offsets = words.split(recovered.text, "hin_Deva")
    placed = to_words(recovered.entities, offsets)
    covered = []
    for before, after in zip(recovered.entities, placed, strict=True):
        if isinstance(after, Placement) and isinstance(before, Placement):
            assert offsets[after.start][0] <= before.start < offsets[after.start][1]
            assert offsets[after.end - 1][0] < before.end <= offsets[after.end - 1][1]
            covered += range(after.start, after.end)
        else:
            assert after == (Loss.MARKER_OVERLAP if isinstance(before, Placement) else before)
    assert len(set(covered)) == len(covered)
    # A lost one is lost to one that stays.
    for before, after in zip(recovered.entities, placed, strict=True):
        if isinstance(before, Placement) and after is Loss.MARKER_OVERLAP:
            touched = {i for i, (start, end) in enumerate(offsets) if start < before.end and before.start < end}
            assert touched & set(covered)


NAMES = st.sampled_from(["aaa", "aab", "abb", "bb", "x", "aabb"])


@given(st.lists(NAMES, max_size=4), st.lists(NAMES, max_size=4), st.sampled_from([0.0, 0.3, 0.5, 0.8]))
def test_the_assignment_is_the_best_of_all_under_the_tie_rule(
    entities: list[str], pieces: list[str], least: float
) -> None:
    recovered = recover(" ".join(f"[{piece}]" for piece in pieces), entities, min_similarity=least)

    def units(entity: str, piece: str) -> int:
        return round(1e4 * SequenceMatcher(None, piece, entity, autojunk=False).ratio())

    def rank(pairs: dict[int, int]) -> tuple[int, int, int]:
        total = sum(units(entities[e], pieces[p]) for e, p in pairs.items())
        return total, -sum((e - p) ** 2 for e, p in pairs.items()), -sum(pairs.values())

    slots = [*range(len(pieces)), *[-1] * len(entities)]
    choices = [{e: p for e, p in enumerate(slot) if p >= 0} for slot in set(permutations(slots, len(entities)))]
    allowed = [c for c in choices if all(units(entities[e], pieces[p]) > 1e4 * least for e, p in c.items())]
    got = {
        e: recovered.pieces.index((place.start, place.end))
        for e, place in enumerate(recovered.entities)
        if isinstance(place, Placement)
    }
    assert got in allowed
    assert rank(got) == max(map(rank, allowed))


@pytest.mark.slow
def test_every_character_that_nfkc_makes_a_bracket_is_known() -> None:
    normal = {c: unicodedata.normalize("NFKC", c) for c in map(chr, range(sys.maxunicode + 1))}
    assert sorted(c for c in normal if set("[]") & set(normal[c])) == sorted(SQUARE)
    assert [normal[escape(c)] for c in SQUARE] == ["(", ")"] * 3
    for bracket in (c for c in normal if normal[c] in ("(", ")")):
        # A translator that normalises: the square brackets come back, whatever the round ones were.
        marked = mark(f"{bracket} [x]", [])
        assert recover(f"{normal[bracket]} (x)", [], brackets=marked.brackets).text == f"{normal[bracket]} [x]"
