"""EntityBatch: entities of many sentence pairs as flat arrays."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_pairs import BATCH, Pair, batch_of, counts_of, links_of

from xner_ray.match.batch import EntityBatch, stretches


@given(BATCH)
def test_spread_sums_the_links_of_every_entity_word_by_word(pairs: list[Pair]) -> None:
    batch, links = batch_of(pairs), links_of(pairs)
    values = np.arange(1, len(links) + 1)
    expected = []
    for row, start, end in zip(batch.row, batch.start, batch.end, strict=True):
        words = [0] * pairs[row].n_target
        for r, k, w, value in zip(links.row, links.source, links.target, values, strict=True):
            if r == row and start <= k < end:
                words[w] += int(value)
        expected += words
    found = batch.spread(links, values)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(BATCH)
def test_every_source_word_knows_its_entity(pairs: list[Pair]) -> None:
    batch = batch_of(pairs)
    expected, number = [], 0
    for each in pairs:
        owner = [-1] * each.n_source
        for start, end in each.entities:
            owner[start:end] = [number] * (end - start)
            number += 1
        expected += owner
    assert batch.owner.tolist() == expected
    assert len(batch) == number and batch.n_rows == len(pairs)


def test_bases_number_words_and_cells_through() -> None:
    batch = batch_of([Pair(3, 2, [(0, 1), (1, 3)], []), Pair(1, 0, [], []), Pair(2, 4, [(1, 2)], [])])
    assert batch.source_base.tolist() == [0, 3, 4, 6]
    assert batch.target_base.tolist() == [0, 2, 2, 6]
    assert batch.words.tolist() == [2, 2, 4] and batch.length.tolist() == [1, 2, 1]
    assert batch.cell_base.tolist() == [0, 2, 4, 8]


@given(st.lists(st.integers(0, 2)))
def test_stretches_are_groups_of_equal_neighbours(values: list[int]) -> None:
    first, length = stretches(np.array(values, dtype=np.int32))
    expected = [len(list(group)) for _, group in groupby(values)]
    assert length.tolist() == expected
    assert first.tolist() == [sum(expected[:n]) for n in range(len(expected))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": [1, 0]}, "must be sorted by pair"),
        ({"row": [0, 2]}, "entities of pairs 0 to 2; allowed: 0 to 1"),
        ({"row": [-1, 0]}, "entities of pairs -1 to 0"),
        ({"row": [0]}, r"differ in length: \(1, 2, 2\)"),
        ({"n_target": [4]}, "2 pairs on the source side, 1 on the target side"),
        ({"start": [1, 0]}, r"entity \[1, 1\) of pair 0 is empty or leaves its 3 source words"),
        ({"end": [1, 3]}, r"entity \[0, 3\) of pair 1 .* its 2 source words"),
        ({"start": [-1, 0]}, r"entity \[-1, 1\)"),
        ({"row": [0, 0], "end": [2, 1]}, "two entities of one pair overlap"),
    ],
)
def test_entities_that_do_not_fit_are_refused(changes: dict[str, list[int]], message: str) -> None:
    columns = {"n_source": [3, 2], "n_target": [4, 4], "row": [0, 1], "start": [0, 0], "end": [1, 1]}
    EntityBatch(**columns)
    with pytest.raises(ValueError, match=message):
        EntityBatch(**{**columns, **changes})


@pytest.mark.parametrize("link", [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_links_that_leave_their_pair_are_refused(link: tuple[int, int]) -> None:
    pairs = [Pair(2, 3, [(0, 1)], []), Pair(2, 3, [(0, 1)], [(0, 0), link])]
    with pytest.raises(ValueError, match=f"link {link[0]}-{link[1]} of pair 1 leaves its 2 source or 3 target words"):
        counts_of(pairs)
    with pytest.raises(ValueError, match="links of pairs 1 to 1; allowed: 0 to 0"):
        batch_of(pairs[:1]).spread(links_of(pairs), np.ones(2, dtype=np.int64))
