import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.candidates import Candidates, link_counts, ngrams, windows
from xner_ray.spans import Span


def rows(candidates: Candidates) -> list[tuple[int, int, int]]:
    columns = (candidates.entity, candidates.start, candidates.end)
    return list(zip(*(c.tolist() for c in columns), strict=True))


@pytest.mark.parametrize(
    ("n_words", "max_words", "count"),
    [(25, 10, 205), (40, 10, 355), (10, 30, 55), (40, 40, 820), (0, 5, 0), (1000, 30, 29_565)],
)
def test_number_of_ngrams(n_words: int, max_words: int, count: int) -> None:
    """method.md 7, statement 30; the last is a long sentence."""
    assert len(ngrams(1, n_words, max_words=max_words)) == count
    assert len(ngrams(3, n_words, max_words=max_words)) == 3 * count


@given(st.integers(0, 3), st.integers(0, 9), st.integers(1, 12))
def test_ngrams_are_all_short_ranges_in_order(n_entities: int, n_words: int, max_words: int) -> None:
    found = ngrams(n_entities, n_words, max_words=max_words)
    assert rows(found) == [
        (entity, start, end)
        for entity in range(n_entities)
        for start in range(n_words)
        for end in range(start + 1, min(n_words, start + max_words) + 1)
    ]
    assert found.entity.dtype == found.start.dtype == found.end.dtype == np.int32


@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), max_size=4), st.integers(1, 6))
def test_windows_are_the_ngrams_between_the_outermost_linked_words(table: list[list[int]], max_words: int) -> None:
    counts = np.array(table, dtype=np.int64).reshape(-1, 6)
    expected = []
    for entity, start, end in rows(ngrams(len(counts), 6, max_words=max_words)):
        linked = np.flatnonzero(counts[entity])
        if len(linked) and linked[0] <= start and end <= linked[-1] + 1:
            expected.append((entity, start, end))
    assert rows(windows(counts, max_words=max_words)) == expected


def test_link_counts_are_sums_over_the_words_of_the_entity() -> None:
    links = [(0, 0), (1, 0), (2, 1), (1, 3), (9, 2), (1, 3)]  # one repeated, one outside every entity
    assert link_counts([Span(0, 2, "PER"), Span(2, 3, "LOC")], links, n_words=4).tolist() == [
        [2, 0, 0, 1],
        [0, 1, 0, 0],
    ]


def test_nested_entities_count_their_links_each() -> None:
    assert link_counts([Span(0, 3, "ORG"), Span(1, 2, "LOC")], [(1, 0)], n_words=1).tolist() == [[1], [1]]


@pytest.mark.parametrize("n_words", [0, 3])
def test_nothing_in_nothing_out(n_words: int) -> None:
    """method.md 7, statement 18."""
    assert link_counts([], [], n_words=n_words).shape == (0, n_words)
    assert link_counts([Span(0, 1, "PER")], [], n_words=n_words).shape == (1, n_words)
    assert not len(windows(link_counts([], [], n_words=n_words)))
    assert not len(windows(link_counts([Span(0, 1, "PER")], [], n_words=n_words)))
    assert not len(ngrams(0, n_words))


def test_bad_input_is_refused_with_the_data() -> None:
    with pytest.raises(ValueError, match="leaves the 2 target words"):
        link_counts([Span(0, 1, "PER")], [(0, 2)], n_words=2)
    with pytest.raises(ValueError, match="leaves the 2 target words"):
        link_counts([Span(0, 1, "PER")], [(-1, 0)], n_words=2)
    with pytest.raises(ValueError, match="covers no word"):
        link_counts([Span(1, 1, "PER")], [], n_words=2)
    with pytest.raises(ValueError, match="max_words is 0"):
        ngrams(1, 2, max_words=0)
