"""`match/bounds.py` by its definitions, and the errors that it is there for, each as one sentence."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.links import Links
from xner_ray.data.row import SCALE
from xner_ray.match.batch import EntityBatch
from xner_ray.match.bounds import AGAINST, HARDLY, MISSING, Sure, cuts, edges, shared_heads, sure
from xner_ray.match.candidates import ngrams
from xner_ray.match.prior import Words


def _links(*cells: tuple[int, int, int, float, float]) -> Links:
    """Links as (row, source, target, forward, backward), sorted."""
    row, source, target, forward, backward = (np.array(column) for column in zip(*sorted(cells), strict=True))
    return Links(
        *(each.astype(np.int32) for each in (row, source, target)),
        *(each.astype(np.float32) for each in (forward, backward, forward)),
        np.zeros(len(row), dtype=np.uint8),
    )


def _words(*sentences: str) -> Words:
    return Words(pa.array([sentence.split() for sentence in sentences], pa.list_(pa.string())))


def _shared(
    source: str, target: str, entities: list[tuple[int, int]], pairs: str, labels: str = "AA"
) -> list[tuple[int, int, int]]:
    """(source word, target word, new entity) of the links that change hands. pairs: `i-j` are sure."""
    n = len(source.split()), len(target.split())
    starts, ends = zip(*entities, strict=True)
    batch = EntityBatch([n[0]], [n[1]], [0] * len(starts), starts, ends)
    cells = [(0, *map(int, pair.split("-")), 0.9, 0.8) for pair in pairs.split()]
    links = _links(*cells)
    index, entity = shared_heads(batch, links, pa.array(list(labels)))
    return [(int(links.source[i]), int(links.target[i]), int(e)) for i, e in zip(index, entity, strict=True)]


def test_the_first_name_gets_the_head_that_stands_beside_it() -> None:
    source, entities = "the Structural and Cohesion Funds", [(1, 2), (3, 5)]
    given_away = [(4, 0, 0)]
    assert _shared(source, "Fondos estructurales y de cohesión", entities, "1-1 3-4 4-0") == given_away
    assert _shared(source, "Fondos estructurales y de cohesión", entities, "1-1 3-4 4-0", labels="AB") == []
    # in this order it stands beside its own name
    assert _shared(source, "strukturella och Sammanhållnings fonder", entities, "1-0 3-2 4-3") == []
    # both names have one: each keeps its own
    own = _shared(source, "Fondos Estructurales y Fondos Cohesión", entities, "1-1 3-4 4-0 4-3")
    assert own == given_away
    assert _shared(source, "Fondos estructurales", entities, "1-1 4-0") == [], "the second name would have no word left"


def test_the_second_name_gets_the_head_of_a_language_that_puts_it_first() -> None:
    found = _shared(
        "Fondos estructurales y de cohesión", "Structural and Cohesion Funds", [(0, 2), (3, 5)], "0-3 1-0 4-2"
    )
    assert found == [(0, 3, 1)]


def test_names_apart_share_nothing() -> None:
    assert (
        _shared("Structural or the Cohesion Funds", "Fondos estructurales y cohesión", [(0, 1), (3, 5)], "0-1 3-3 4-0")
        == []
    )


def test_unsure_links_stay() -> None:
    batch = EntityBatch([4], [5], [0, 0], [0, 2], [1, 4])
    links = _links((0, 0, 1, 0.9, 0.9), (0, 2, 4, 0.9, 0.9), (0, 3, 0, 0.9, 0.49))
    assert len(shared_heads(batch, links, pa.array(["A", "A"]))[0]) == 0


def _cut(source: str, target: str, entity: tuple[int, int]) -> set[str]:
    """The candidates that split a pair of marks."""
    batch = EntityBatch([len(source.split())], [len(target.split())], [0], [entity[0]], [entity[1]])
    found = ngrams(batch)
    split = cuts(batch, found, _words(source), _words(target))
    words = target.split()
    return {" ".join(words[s:e]) for s, e in zip(found.start[split].tolist(), found.end[split].tolist(), strict=True)}


def test_half_a_bracket_or_quotation_mark_is_a_cut() -> None:
    assert _cut("x y", "Comité ( CEN )", (0, 1)) == {"Comité ( CEN", "Comité (", "( CEN", "(", "CEN )", ")"}
    for opening, closing in (('"', '"'), ("„", "“"), ("»", "«"), ("«", "»"), ("”", "”"), ("``", "''"), ("「", "」")):
        found = _cut("x y", f"{opening} Sur {closing}", (0, 1))
        assert found == {opening, f"{opening} Sur", f"Sur {closing}", closing}
    assert _cut("x ( y", "Comité ( CEN )", (0, 2)) == set(), "the entity splits one too"
    assert _cut("x y", "l' Unione dell’ Europa", (0, 1)) == set(), "apostrophes are no quotation marks"


def test_a_mark_inside_a_word_counts() -> None:
    assert _cut("x y", "Comité (CEN) y (x", (0, 1)) == {"Comité (CEN) y (x", "(CEN) y (x", "y (x", "(x"}


masses = st.integers(0, SCALE)


@given(st.lists(st.tuples(masses, masses, st.integers(-5000, 5000), st.integers(-5000, 5000)), min_size=1, max_size=6))
def test_edges_by_their_definition(words: list[tuple[int, int, int, int]]) -> None:
    n = len(words)
    batch = EntityBatch([1], [n], [0], [0], [1])
    found = ngrams(batch)
    inside, outside, left, right = (np.array(column, dtype=np.int64) for column in zip(*words, strict=True))
    left, right = left / SCALE, right / SCALE
    cut = np.arange(len(found)) % 2 == 0
    values = edges(batch, found, left, right, Sure(inside, outside), cut)
    for value, start, end, split in zip(values, found.start, found.end, cut, strict=True):
        expected = left[start] + right[end - 1] - AGAINST * split
        expected -= AGAINST * sum(max(outside[w] - inside[w], 0) for w in (start, end - 1)) / SCALE
        expected -= left[start - 1] if start > 0 else 0
        expected -= right[end] if end < n else 0
        for word in [*range(start), *range(end, n)]:
            side = left if word < start else right
            expected -= MISSING * inside[word] / SCALE if side[word] >= HARDLY else 0
        assert value == pytest.approx(expected)


def test_a_word_of_the_sentence_elsewhere_loses_to_the_name_alone() -> None:
    # "parliamentary" committee: "comisión" often begins a span, but here it is the committee
    batch = EntityBatch([2], [2], [0], [0], [1])
    links = _links((0, 0, 1, 1, 1), (0, 1, 0, 1, 1))
    found = ngrams(batch)
    owner = batch.owner[batch.source_base[links.row] + links.source]
    left, right = np.array([0.48, -0.3]), np.array([0.0, 0.3])
    values = edges(batch, found, left, right, sure(batch, links, owner), np.zeros(len(found), dtype=bool))
    by_span = dict(zip(zip(found.start.tolist(), found.end.tolist(), strict=True), values.tolist(), strict=True))
    assert by_span[1, 2] > by_span[0, 2]
    none = Sure(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64))
    without = edges(batch, found, left, right, none, np.zeros(len(found), dtype=bool))
    assert dict(zip(by_span, without.tolist(), strict=True))[1, 2] < 0.3 + 0.48, "which the words alone prefer"


def test_certainty_is_the_lesser_probability() -> None:
    batch = EntityBatch([3, 1], [2, 1], [0, 0], [0, 1], [1, 2])
    links = _links((0, 0, 0, 1.0, 0.4), (0, 1, 0, 0.3, 0.5), (0, 2, 0, 0.2, 0.1), (0, 1, 1, 0.7, 0.9), (1, 0, 0, 1, 1))
    owner = batch.owner[batch.source_base[links.row] + links.source]
    found = sure(batch, links, owner)
    assert found.inside.tolist() == [4000, 0, 3000, 7000]
    assert found.outside.tolist() == [4000, 7000, 5000, 0]
