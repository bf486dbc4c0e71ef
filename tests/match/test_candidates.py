from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_pairs import BATCH, Pair, batch_of, counts_of, links_of, pair

from xner_ray.data.row import SCALE
from xner_ray.match import candidates
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates, ngrams, runs, union, windows
from xner_ray.match.scores import Scored, alignment, fuse, soft

Ranges = list[tuple[int, int, int]]


def rows(found: Candidates) -> Ranges:
    columns = (found.entity, found.start, found.end)
    assert all(column.dtype == np.int32 for column in columns)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def by_entity(batch: EntityBatch, values: np.ndarray) -> list[list[int]]:
    """Values by cell as one list per entity."""
    return [part.tolist() for part in np.split(values, batch.cell_base[1:-1])][: len(batch)]


def short_ranges(low: int, high: int, max_words: int) -> list[tuple[int, int]]:
    return [(s, e) for s in range(low, high) for e in range(s + 1, min(high, s + max_words) + 1)]


@pytest.mark.parametrize(
    ("n_words", "max_words", "count"),
    [(25, 10, 205), (40, 10, 355), (10, 30, 55), (40, 40, 820), (0, 5, 0), (1000, 30, 29_565)],
)
def test_golden_30_number_of_ngrams(n_words: int, max_words: int, count: int) -> None:
    """The last three: all ranges, none, and a long sentence."""
    found = ngrams(batch_of([Pair(3, n_words, [(0, 1), (2, 3)], [])] * 2), max_words=max_words)
    assert np.bincount(found.entity, minlength=4).tolist() == [count] * 4


@given(BATCH, st.integers(1, 9))
def test_ngrams_are_all_short_ranges_in_order(pairs: list[Pair], max_words: int) -> None:
    batch = batch_of(pairs)
    assert rows(ngrams(batch, max_words=max_words)) == [
        (entity, *span) for entity, words in enumerate(batch.words) for span in short_ranges(0, words, max_words)
    ]


@given(BATCH, st.integers(1, 8), st.integers(0, 3))
def test_windows_are_the_ngrams_near_the_linked_words(pairs: list[Pair], max_words: int, margin: int) -> None:
    batch, counts = batch_of(pairs), counts_of(pairs)
    expected: Ranges = []
    for entity, mass in enumerate(by_entity(batch, counts)):
        linked = [word for word, links in enumerate(mass) if links]
        if linked:
            low, high = max(0, linked[0] - margin), min(len(mass), linked[-1] + 1 + margin)
            expected += [(entity, *span) for span in short_ranges(low, high, max_words)]
    assert rows(windows(batch, counts, max_words=max_words, margin=margin)) == expected


@given(BATCH, st.integers(1, 8))
def test_runs_are_sub_ranges_of_runs_and_their_hulls(pairs: list[Pair], max_words: int) -> None:
    batch, counts = batch_of(pairs), counts_of(pairs)
    expected: Ranges = []
    for entity, mass in enumerate(by_entity(batch, counts)):
        padded = [0, *mass, 0]
        starts = [w for w in range(len(mass)) if padded[w + 1] and not padded[w]]
        ends = [w + 1 for w in range(len(mass)) if padded[w + 1] and not padded[w + 2]]
        found = {span for low, high in zip(starts, ends, strict=True) for span in short_ranges(low, high, max_words)}
        found |= {(low, high) for low in starts for high in ends if low < high <= low + max_words}
        expected += [(entity, *span) for span in sorted(found)]
    assert rows(runs(batch, counts, max_words=max_words)) == expected


@given(BATCH, st.data(), st.booleans(), st.integers(1, 5))
def test_given_spans_are_offered_to_every_entity_of_their_pair(
    pairs: list[Pair], data: st.DataObject, sub_ranges: bool, max_words: int
) -> None:
    batch = batch_of(pairs)
    allowed = [(row, s, e) for row, p in enumerate(pairs) for s, e in combinations(range(p.n_target + 1), 2)]
    spans = data.draw(st.lists(st.sampled_from(allowed), max_size=6)) if allowed else []
    expected = set()
    for entity, row in enumerate(batch.row):
        for start, end in [(s, e) for r, s, e in spans if r == row]:
            parts = short_ranges(start, end, max_words) if sub_ranges else [(start, end)]
            expected |= {(entity, s, e) for s, e in parts if e - s <= max_words}
    columns = tuple(np.array(spans, dtype=np.int64).reshape(-1, 3).T)
    found = candidates.given(batch, columns, sub_ranges=sub_ranges, max_words=max_words)
    assert rows(found) == sorted(expected)


CELLS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(4, 6)), max_size=8)


@given(st.lists(CELLS, max_size=3))
def test_union_sorts_and_drops_repetitions(sets: list[Ranges]) -> None:
    columns = [np.array(cells, dtype=np.int32).reshape(-1, 3).T for cells in sets]
    assert rows(union(*(Candidates(*c) for c in columns))) == sorted({cell for cells in sets for cell in cells})


def largest_sum(scored: Scored, n_entities: int, n_words: int, least: int, most: int) -> int | None:
    """The optimum of one sentence by trying, word by word, every cell that starts there; None if infeasible.

    Entities without a cell do not bind, as in method.md 4.1. Ten-thousandths.
    """
    columns = (scored.entity, scored.start, scored.end, scored.score)
    cells = list(zip(*(c.tolist() for c in columns), strict=True))
    with_cells = {cell[0] for cell in cells}

    @cache
    def best(word: int, places: tuple[int, ...]) -> int | None:
        if word >= n_words:
            return 0 if all(places[e] >= least for e in with_cells) else None
        options = [best(word + 1, places)]
        for entity, start, end, score in cells:
            if start == word and places[entity] < most:
                rest = best(end, tuple(n + (e == entity) for e, n in enumerate(places)))
                options.append(None if rest is None else rest + score)
        return max((o for o in options if o is not None), default=None)

    return best(0, (0,) * n_entities)


LIMITS = [(0, 1), (0, 2), (0, 9), (1, 1), (2, 2), (1, 9), (2, 9)]  # <= 1, <= 2, none, = 1, = 2, >= 1, >= 2


@pytest.mark.parametrize(("least", "most"), LIMITS)
@settings(max_examples=150)
@given(pair(max_target=6, max_entities=2), st.integers(1, 6))
def test_golden_22_windows_lose_nothing(least: int, most: int, each: Pair, max_words: int) -> None:
    """Under lower limits too, for cells without a positive score are not offered: clipping keeps a linked word."""
    batch, counts = batch_of([each]), counts_of([each])
    optimum = []
    for found in (windows(batch, counts, max_words=max_words), ngrams(batch, max_words=max_words)):
        scored = fuse(found, {"align": alignment(batch, found, counts)}, {"align": 1.0})
        optimum.append(largest_sum(scored, len(batch), each.n_target, least, most))
    assert optimum[0] == optimum[1]


@settings(max_examples=150)
@given(pair(max_target=6, max_entities=2), st.data())
def test_windows_of_the_soft_mass_lose_nothing_for_the_soft_score(each: Pair, data: st.DataObject) -> None:
    batch, links = batch_of([each]), links_of([each])
    values = st.lists(st.integers(0, SCALE // 5), min_size=len(links), max_size=len(links))
    forward, backward = (batch.spread(links, np.array(data.draw(values), dtype=np.int64)) for _ in range(2))
    optimum = []
    for found in (windows(batch, forward + backward), ngrams(batch)):
        scored = fuse(found, {"soft": soft(batch, found, forward + backward)}, {"soft": 1.0})
        optimum.append(largest_sum(scored, len(batch), each.n_target, 0, 1))
    assert optimum[0] == optimum[1]


def test_windows_of_hard_links_can_lose_for_the_soft_score() -> None:
    """A likely word that the hard method left out is outside the window; a margin brings it back."""
    each = Pair(2, 3, [(0, 2)], [(0, 0)])
    batch, counts = batch_of([each]), counts_of([each])
    forward, backward = np.array([6000, 9000, 0]), np.array([6000, 9000, 0])
    optimum = []
    for found in (windows(batch, counts), windows(batch, counts, margin=1), ngrams(batch)):
        scored = fuse(found, {"soft": soft(batch, found, forward + backward)}, {"soft": 1.0})
        optimum.append(largest_sum(scored, 1, 3, 0, 1))
    assert optimum == [4000, 7500, 7500]


def test_windows_can_lose_where_a_score_is_negative() -> None:
    """A score that dislikes the clipped candidate's edge makes the longer one better."""
    each = Pair(1, 2, [(0, 1)], [(0, 1)])
    batch, counts = batch_of([each]), counts_of([each])
    optimum = []
    for found in (windows(batch, counts), ngrams(batch)):
        edges = np.where(found.start == 1, -0.6, 0.0)
        scores = {"align": alignment(batch, found, counts), "edges": edges}
        optimum.append(largest_sum(fuse(found, scores, {"align": 1.0, "edges": 1.0}), 1, 2, 0, 1))
    assert optimum == [4000, 6667]


@pytest.mark.parametrize("pairs", [[], [Pair(0, 0, [], [])], [Pair(2, 0, [(0, 1)], [])], [Pair(2, 3, [], [(0, 0)])]])
def test_nothing_in_nothing_out(pairs: list[Pair]) -> None:
    """method.md 7, statement 18."""
    batch, counts = batch_of(pairs), counts_of(pairs)
    none: tuple[list[int], list[int], list[int]] = ([], [], [])
    for found in (
        ngrams(batch),
        windows(batch, counts, margin=2),
        runs(batch, counts),
        candidates.given(batch, none),
        union(),
    ):
        assert rows(found) == []


def test_bad_input_is_refused_with_the_value() -> None:
    batch = batch_of([Pair(1, 3, [(0, 1)], [])] * 2)
    mass = np.ones(6, dtype=np.int64)
    for make in (
        lambda: ngrams(batch, max_words=0),
        lambda: windows(batch, mass, max_words=0),
        lambda: runs(batch, mass, max_words=0),
        lambda: candidates.given(batch, ([0], [0], [1]), max_words=0),
        lambda: candidates.given(batch, ([0], [0], [1]), max_words=0, sub_ranges=True),
    ):
        with pytest.raises(ValueError, match="max_words is 0; allowed: 1 or more"):
            make()
    with pytest.raises(ValueError, match="margin is -1"):
        windows(batch, mass, margin=-1)
    for make_runs in (windows, runs):
        with pytest.raises(ValueError, match=r"mass has the shape \(5,\); allowed: one value by cell, \(6,\)"):
            make_runs(batch, mass[:5])
    for span in [(1, 0, 4), (1, -1, 1), (1, 2, 2)]:
        with pytest.raises(ValueError, match=rf"span \[{span[1]}, {span[2]}\) of row 1 is not inside its 3 words"):
            candidates.given(batch, ([span[0]], [span[1]], [span[2]]))
    with pytest.raises(ValueError, match="spans of rows 2 to 2; allowed: 0 to 1"):
        candidates.given(batch, ([2], [0], [1]))
    with pytest.raises(ValueError, match="differ in length: 1, 2, 1"):
        candidates.given(batch, ([0], [0, 1], [1]))
