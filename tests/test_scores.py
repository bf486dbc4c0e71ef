import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.candidates import Candidates, link_counts, ngrams, windows
from xner_ray.errors import RecipeError
from xner_ray.scores import SCALE, Scored, alignment, fuse
from xner_ray.spans import Span

LINKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=14)
ENTITIES = st.sampled_from(
    [[], [Span(0, 1, "PER")], [Span(1, 4, "PER")], [Span(0, 2, "PER"), Span(2, 3, "LOC"), Span(3, 6, "ORG")]]
)


def at(ranges: list[tuple[int, int]]) -> Candidates:
    start, end = np.array(ranges, dtype=np.int32).T
    return Candidates(np.zeros(len(ranges), dtype=np.int32), start, end)


def score(length: int, links: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> list[float]:
    """Of an entity that is the first `length` source words; links are (source, target)."""
    entities = [Span(0, length, "PER")]
    counts = link_counts(entities, links, n_words=9)
    return [float(value) for value in alignment(at(ranges), counts, entities)]


@pytest.mark.parametrize(
    ("number", "length", "links", "ranges", "expected"),
    [
        (9, 2, [(0, 0), (1, 2)], [(0, 3), (0, 1)], [0.8, 2 / 3]),
        (10, 2, [(0, 0), (1, 3)], [(0, 4), (0, 1)], [2 / 3, 2 / 3]),
        (11, 2, [(0, 0), (1, 0)], [(0, 1)], [4 / 3]),
        (12, 5, [(i, i) for i in range(4)], [(0, 4)], [8 / 9]),
        (13, 1, [(0, 0), (0, 2)], [(0, 1), (0, 3)], [1.0, 1.0]),
        (14, 1, [(0, 0), (0, 1)], [(0, 2)], [4 / 3]),
        (19, 2, [(0, 0), (1, 1)], [(0, 1), (0, 2), (1, 2), (0, 3)], [2 / 3, 1, 2 / 3, 0.8]),
        (
            19,
            2,
            [(i, j) for i in (0, 1) for j in (0, 1)],
            [(0, 1), (0, 2), (1, 2), (0, 3)],
            [4 / 3, 2, 4 / 3, 1.6],
        ),
    ],
)
def test_golden_scores(
    number: int,
    length: int,
    links: list[tuple[int, int]],
    ranges: list[tuple[int, int]],
    expected: list[float],
) -> None:
    """method.md 7, statements by their number."""
    assert score(length, links, ranges) == pytest.approx(expected)


@given(ENTITIES, LINKS)
def test_prefix_sums_equal_the_definition(entities: list[Span], links: list[tuple[int, int]]) -> None:
    counts = link_counts(entities, links, n_words=7)
    candidates = ngrams(len(entities), 7)
    found = alignment(candidates, counts, entities)
    cells = zip(candidates.entity, candidates.start, candidates.end, found, strict=True)
    for entity, start, end, value in cells:
        span = entities[entity]
        linked = sum(span.start <= k < span.end and start <= w < end for k, w in set(links))
        assert value == pytest.approx(2 * linked / (len(span) + end - start))


@given(LINKS, st.integers(1, 4), st.integers(0, 5), st.integers(1, 2))
def test_a_word_without_a_link_lowers_the_score(
    links: list[tuple[int, int]], length: int, start: int, words: int
) -> None:
    """method.md 7, statement 20."""
    end = start + words
    kept = [(k, w) for k, w in links if w != end]
    shorter, longer = score(length, kept, [(start, end), (start, end + 1)])
    assert longer < shorter if shorter > 0 else longer == 0


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 6))
def test_the_hull_beats_the_longer_run_across_a_small_gap(a: int, b: int, more: int, gap: int) -> None:
    """method.md 7, statement 21: runs of a >= b words, g words between: the hull wins iff g < s b / a."""
    a, b = max(a, b), min(a, b)
    length = a + b + more
    links = [(i, i) for i in range(a)] + [(a + i, a + gap + i) for i in range(b)]
    entities = [Span(0, length, "PER")]
    counts = link_counts(entities, links, n_words=a + gap + b)
    run, hull = alignment(at([(0, a), (0, a + gap + b)]), counts, entities)
    assert (hull > run) == (gap * a < length * b)
    assert math.isclose(hull, run) == (gap * a == length * b)


def test_fusion_adds_weighted_scores_rounds_and_drops_zeros() -> None:
    candidates = at([(0, 1), (0, 2), (1, 2)])
    scores = {"align": np.array([2 / 3, 0.0, 0.0]), "user": np.array([0.5, 0.00004, 1.0])}
    fused = fuse(candidates, scores, {"align": 1.0, "user": 0.5})
    assert fused.score.tolist() == [9167, 5000]
    assert list(zip(fused.start.tolist(), fused.end.tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert fuse(candidates, scores, {"align": 1.0}).score.tolist() == [6667]
    assert not len(fuse(candidates, scores, {}))


def test_fusion_does_not_depend_on_the_order_of_the_weights() -> None:
    candidates = ngrams(1, 40)
    random = np.random.default_rng(0)
    scores = {name: random.random(len(candidates)) for name in "abc"}
    first = fuse(candidates, scores, {"a": 0.1, "b": 0.2, "c": 0.3})
    assert (first.score == fuse(candidates, scores, {"c": 0.3, "b": 0.2, "a": 0.1}).score).all()


def test_bad_weights_and_scores_are_refused() -> None:
    one = at([(0, 1)])
    with pytest.raises(RecipeError, match=r"match\.scores\.algn: no such score; did you mean 'align'"):
        fuse(one, {"align": np.ones(1)}, {"algn": 1.0})
    for weight in (-1.0, math.nan):
        with pytest.raises(RecipeError, match="allowed: 0 or more"):
            fuse(one, {"align": np.ones(1)}, {"align": weight})
    for value in (math.nan, math.inf, 1e9):
        with pytest.raises(ValueError, match="not finite or above"):
            fuse(one, {"align": np.array([value])}, {"align": 1.0})
    entity = np.zeros(1, dtype=np.int32)
    with pytest.raises(ValueError, match="allowed: 1 to"):
        Scored(entity, entity, entity + 1, np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="differ in length"):
        Scored(entity, entity, entity, np.ones(2, dtype=np.int64))


def test_empty_input_gives_no_cells() -> None:
    """method.md 7, statement 18."""
    for entities in ([], [Span(0, 1, "PER")]):
        for n_words in (0, 4):
            counts = link_counts(entities, [], n_words=n_words)
            for candidates in (windows(counts), ngrams(len(entities), n_words)):
                cells = fuse(candidates, {"align": alignment(candidates, counts, entities)}, {"align": 1.0})
                assert len(cells) == 0


def test_a_long_sentence_fits() -> None:
    entities = [Span(10 * i, 10 * i + 3, "PER") for i in range(50)]
    counts = link_counts(entities, [(i, i) for i in range(1000)], n_words=1000)
    candidates = ngrams(len(entities), 1000)
    cells = fuse(candidates, {"align": alignment(candidates, counts, entities)}, {"align": 1.0})
    assert len(candidates) == 50 * 29_565
    assert cells.score.max() == SCALE and set(cells.entity.tolist()) == set(range(50))
