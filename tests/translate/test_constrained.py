"""The search for an entity's markers, against a search through all places of toy models that a loop can score."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from itertools import accumulate, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.translate.constrained import FLOOR, Answer, Found, Pass, Place, Search, Target, search, together

END = 0


class Pieces:
    """A tokenizer whose words look different after a blank: "▁Anna", but "▁", "[", "Anna"; it counts its texts."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.texts = 0

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        self.texts += len(texts)
        return [[*(self._number(piece) for piece in self._cut(text)), END] for text in texts]

    def _cut(self, text: str) -> list[str]:
        pieces = [""]
        for character in "▁" + text.replace(" ", "▁"):
            if character == "▁":
                pieces.append(character)
            elif character in "[].":
                pieces += [character, ""]
            else:
                pieces[-1] += character
        return [piece for piece in pieces if piece]

    def _number(self, piece: str) -> int:
        return self.known.setdefault(piece, len(self.known) + 1)


class Toy:
    """A model of subwords by what stands before them: any numbers, but the same for the same beginning."""

    def __init__(self, seed: int, spread: float = 4.0) -> None:
        self.seed, self.spread = seed, spread
        self.passes: list[Pass] = []

    def one(self, before: Sequence[int], token: int) -> float:
        """A log-probability: some are close to 0, so that places differ in much or in little."""
        return -self.spread * random.Random(f"{self.seed} {list(before)} {token}").random() ** 3

    def total(self, tokens: Sequence[int]) -> float:
        return sum(self.one(tokens[:index], token) for index, token in enumerate(tokens))

    def read(self, each: Pass) -> Answer:
        self.passes.append(each)
        own = [self.one(each.tokens[:index], token) for index, token in enumerate(each.tokens)]
        return Answer(own, [self.one(each.tokens[:index], token) for index, token in each.others])


def run(one: Search, toy: Toy) -> Found:
    (found,) = together([one], lambda passes: [toy.read(each) for _, each in passes])
    return found


def words_of(text: str) -> list[tuple[int, int]]:
    offsets, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        offsets.append((start, at))
    return offsets


def every_place(target: Target, toy: Toy) -> dict[Place, float]:
    """All places by brute force, from the texts themselves."""
    found = {}
    for first, end in combinations(range(len(target.offsets) + 1), 2):
        if end - first <= target.max_words:
            start, stop = target.offsets[first][0], target.offsets[end - 1][1]
            text = f"{target.text[:start]}[{target.text[start:stop]}]{target.text[stop:]}"
            found[first, end] = toy.total(target._tokenise([text])[0])
    return found


SENTENCES = st.lists(st.sampled_from(["a", "b", "ba", "anna", "a."]), min_size=1, max_size=7).map(" ".join)


@given(SENTENCES, st.integers(0, 10_000), st.sampled_from([0.5, 4.0, 30.0]), st.integers(1, 7))
def test_the_pruned_search_finds_what_a_search_through_all_places_finds(
    text: str, seed: int, spread: float, max_words: int
) -> None:
    toy, target = Toy(seed, spread), Target(text, words_of(text), Pieces(), max_words)
    everywhere = every_place(target, toy)
    found = run(search(target, beams=10_000, room=10_000), toy)
    best = max(everywhere.values())
    assert found.proven and not found.too_long
    assert found.bare == pytest.approx(toy.total(target.bare))
    wanted = {place: value for place, value in everywhere.items() if value >= best + FLOOR}
    # What it read beyond these is right too
    assert wanted.keys() <= found.places.keys()
    assert found.places == pytest.approx({place: everywhere[place] for place in found.places})
    total = sum(math.exp(value - best) for value in everywhere.values())
    shares = {place: math.exp(value - best) / total for place, value in everywhere.items()}
    assert max(abs(found.shares().get(place, 0.0) - share) for place, share in shares.items()) < 2e-3


@given(SENTENCES, st.integers(0, 10_000), st.integers(1, 4))
def test_a_narrow_beam_bounds_the_passes_and_says_that_it_may_have_missed_places(
    text: str, seed: int, beams: int
) -> None:
    toy, target = Toy(seed), Target(text, words_of(text), Pieces(), 60)
    found = run(search(target, beams=beams, room=10_000), toy)
    assert 1 <= len(found.places) <= beams and len(toy.passes) <= 1 + 2 * beams
    everywhere = every_place(target, toy)
    assert all(found.places[place] == pytest.approx(everywhere[place]) for place in found.places)
    if found.proven:
        assert max(found.places.values()) == pytest.approx(max(everywhere.values()))


class Straddling:
    """A tokenizer without blanks that takes letters in twos from the left, over the borders of words."""

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        cut = (re.findall(r"[\[\]]|[^\[\]]{1,2}", text) for text in texts)
        return [
            [*(1 + sum(ord(letter) << 8 * n for n, letter in enumerate(piece)) for piece in own), END] for own in cut
        ]


@given(st.lists(st.sampled_from(["a", "ab", "bab"]), min_size=1, max_size=6), st.integers(0, 10_000))
def test_words_without_blanks_whose_subwords_all_change_at_a_marker(parts: list[str], seed: int) -> None:
    """Places are between words, whatever the subwords are; each text is cut anew."""
    ends = list(accumulate(map(len, parts)))
    offsets = list(zip([0, *ends], ends, strict=False))
    toy, target = Toy(seed), Target("".join(parts), offsets, Straddling(), 60)
    everywhere = every_place(target, toy)
    found = run(search(target, beams=10_000, room=10_000), toy)
    assert found.proven and found.places == pytest.approx({place: everywhere[place] for place in found.places})
    assert {place for place, value in everywhere.items() if value >= max(everywhere.values()) + FLOOR} <= set(
        found.places
    )


class Sure(Toy):
    """Wants markers around one word, and nothing else."""

    def __init__(self, wanted: list[int]) -> None:
        super().__init__(0)
        self.wanted = wanted

    def one(self, before: Sequence[int], token: int) -> float:
        if list(before) != self.wanted[: len(before)]:
            return -3.0
        return -0.01 if token == self.wanted[len(before)] else -12.0


def test_a_sure_model_reads_three_texts_and_tells_repeated_words_apart() -> None:
    pieces = Pieces()
    target = Target("anna saw anna", words_of("anna saw anna"), pieces, 60)
    for place, text in {(0, 1): "[anna] saw anna", (2, 3): "anna saw [anna]", (1, 3): "anna [saw anna]"}.items():
        toy = Sure(pieces([text])[0])
        found = run(search(target, beams=8, room=100), toy)
        assert found.proven and found.shares() == {place: 1.0}
        assert len(toy.passes) == 3
        assert found.ratio > 1000


def test_subwords_are_those_of_the_text_with_markers() -> None:
    pieces = Pieces()
    target = Target("vio a anna.", [(0, 3), (4, 5), (6, 10), (10, 11)], pieces, 60)
    assert len(target.bare) == len(target.opened.tokens) + 1 == 5 and len(target.closed(2).tokens) == 2
    names = {number: piece for piece, number in pieces.known.items()} | {END: "</s>"}
    assert [names[n] for n in target.bare] == ["▁vio", "▁a", "▁anna", ".", "</s>"]
    assert [names[n] for n in target.opened.tokens[2]] == ["▁vio", "▁a", "▁", "[", "anna", ".", "</s>"]
    assert [names[n] for n in target.closed(2).tokens[0]] == ["▁vio", "▁a", "▁", "[", "anna", "]", ".", "</s>"]
    assert [names[n] for n in target.closed(2).tokens[1]] == ["▁vio", "▁a", "▁", "[", "anna", ".", "]", "</s>"]
    texts = pieces.texts
    run(search(target, beams=8, room=100), Sure(list(target.closed(2).tokens[0])))
    assert pieces.texts == texts  # nothing is cut twice
    target.forget()
    assert len(target.bare) == 5 and pieces.texts > texts


def test_without_a_hope_for_the_ratio_a_search_ends_with_its_first_pass() -> None:
    text = "anna saw bob"
    pieces = Pieces()
    target = Target(text, words_of(text), pieces, 60)
    toy = Sure(list(target.bare))  # wants no marker
    found = run(search(target, beams=8, room=100, min_ratio=0.01), toy)
    assert (found.places, found.ratio, len(toy.passes)) == ({}, 0.0, 1)
    assert run(search(target, beams=8, room=100), toy).places  # 0 wants them all the same


def test_a_text_that_the_model_cannot_read_with_markers_has_no_place() -> None:
    pieces = Pieces()
    target = Target("anna saw bob", words_of("anna saw bob"), pieces, 60)
    longest = target.closed(0).longest
    toy = Sure(list(target.closed(0).tokens[0]))
    assert not run(search(target, beams=8, room=longest), toy).too_long
    for room in range(len(target.bare) - 1, longest):
        found = run(search(target, beams=8, room=room), toy)
        assert found.too_long and not found.places and found.shares() == {}


def test_searches_go_in_step_and_each_gets_its_own_answers() -> None:
    pieces = Pieces()
    texts = ["anna saw bob", "a", "b a b a"]
    toys = [Toy(seed) for seed in range(3)]
    targets = [Target(text, words_of(text), pieces, 60) for text in texts]
    rounds: list[list[int]] = []

    def read(passes: list[tuple[int, Pass]]) -> list[Answer]:
        rounds.append([index for index, _ in passes])
        return [toys[index].read(each) for index, each in passes]

    found = together([search(target, beams=9, room=99) for target in targets], read)
    assert rounds[0] == [0, 1, 2] and all(len(set(each)) == len(each) for each in rounds)
    assert found == [run(search(t, beams=9, room=99), toy) for t, toy in zip(targets, toys, strict=True)]
    assert together([], read) == []


def test_shares_without_a_place_and_of_the_least_probable() -> None:
    assert Found().shares() == {} and Found().ratio == 0.0
    assert Found(bare=-5000.0, places={(0, 1): -4000.0}).ratio > 1e300  # and no overflow
    assert Found(places={(0, 1): -1e5, (1, 2): -1e5 - 1e-9}).shares() == {(0, 1): 0.5, (1, 2): 0.5}
