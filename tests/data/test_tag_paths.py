"""The most probable sequence of tags, against every sequence that there is."""

from itertools import pairwise, product
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.arrow import Ints
from xner_ray.data.spans import label_list, tags_to_spans
from xner_ray.data.tag_paths import BEGINS, best_tags

NAMES = label_list(["LOC", "PER"])


def _sentences(sizes: list[int], seed: int) -> list[Ints]:
    rng = np.random.default_rng(seed)
    return [np.rint(rng.dirichlet([0.3] * len(NAMES), size) * 10_000).astype(np.int64) for size in sizes]


def _score(parts: Ints, tags: tuple[int, ...]) -> float:
    found = sum(log(max(int(parts[word, tag]), 0.5)) for word, tag in enumerate(tags))
    return found + log(BEGINS) * tags_to_spans([NAMES[tag] for tag in tags])[1]


@given(st.lists(st.integers(0, 4), max_size=4), st.integers(0, 2**32 - 1))
def test_it_is_the_best_of_all(sizes: list[int], seed: int) -> None:
    each = _sentences(sizes, seed)
    first = np.cumsum([0, *sizes])
    found = best_tags(np.concatenate([np.zeros((0, len(NAMES)), dtype=np.int64), *each]), first, NAMES)
    for own, (begin, end) in zip(each, pairwise(first.tolist()), strict=True):
        every = product(range(len(NAMES)), repeat=end - begin)
        chosen = tuple(found[begin:end].tolist())
        assert _score(own, chosen) == pytest.approx(max(_score(own, tags) for tags in every))
        alone = tuple(own.argmax(axis=1).tolist())
        if tags_to_spans([NAMES[tag] for tag in alone])[1] == 0:
            assert _score(own, chosen) == pytest.approx(_score(own, alone))


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_a_sentence_s_tags_do_not_depend_on_the_others(order: list[int], seed: int) -> None:
    each = _sentences([3, 0, 7, 1, 4], seed)
    alone = [best_tags(one, np.array([0, len(one)]), NAMES).tolist() for one in each]
    mixed = [each[number] for number in order]
    first = np.cumsum([0, *map(len, mixed)])
    together = best_tags(np.concatenate(mixed), first, NAMES)
    assert [part.tolist() for part in np.split(together, first[1:-1])] == [alone[number] for number in order]


def test_a_lone_inside_begins_an_entity_only_where_it_is_far_likelier() -> None:
    """As of classifiers of IOB1 data, which list every B- and begin with I-."""
    parts = np.array([[900, 100, 9000, 0, 0], [2500, 0, 7500, 0, 0], [0, 0, 9000, 1000, 0]])
    found = best_tags(parts, np.array([0, 1, 2, 3]), NAMES)
    assert [NAMES[tag] for tag in found] == ["I-LOC", "O", "I-LOC"]  # 0.3 * 0.75 is less than 0.25


def test_a_label_without_a_beginning_begins_as_it_can() -> None:
    names = ["O", "I-PER", "B-LOC", "E-LOC"]
    parts = np.array([[0, 9000, 0, 1000], [0, 9000, 1000, 0], [0, 0, 4000, 6000], [4000, 0, 0, 6000]])
    tags = best_tags(parts, np.array([0, 3, 4]), names)
    assert [names[tag] for tag in tags] == ["I-PER", "I-PER", "B-LOC", "O"]  # 0.3 * 0.6 for an E-LOC alone


def test_of_equals_the_first_wins_whatever_the_order_of_the_factors() -> None:
    parts = np.array([[0, 2000, 0, 3000, 0], [0, 0, 3000, 0, 2000]])
    assert [NAMES[tag] for tag in best_tags(parts, np.array([0, 2]), NAMES)] == ["B-LOC", "I-LOC"]
    assert [NAMES[tag] for tag in best_tags(parts[:, [0, 3, 4, 1, 2]], np.array([0, 2]), NAMES)] == ["B-LOC", "I-LOC"]


def test_nothing_has_no_tags() -> None:
    assert best_tags(np.zeros((0, 5), dtype=np.int64), np.array([0]), NAMES).tolist() == []
    assert best_tags(np.zeros((2, 5), dtype=np.int64), np.array([0, 2]), NAMES).tolist() == [0, 0]
