"""The most probable sequence of tags, against every sequence that there is."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.spans import label_list, tags_to_spans
from xner_ray.data.tag_paths import best_tags

NAMES = label_list(["LOC", "PER"])


def _score(parts: np.ndarray, tags: tuple[int, ...]) -> float:
    return float(sum(np.log(max(parts[word, tag], 0.5)) for word, tag in enumerate(tags)))


@given(st.lists(st.integers(0, 4), max_size=4), st.integers(0, 2**32 - 1))
def test_it_is_the_best_of_all_that_are_iob2(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = np.rint(rng.dirichlet([0.3] * len(NAMES), sum(sizes)).reshape(-1, len(NAMES)) * 10_000).astype(np.int64)
    first = np.cumsum([0, *sizes])
    found = best_tags(parts, first, NAMES)
    for begin, end in pairwise(first.tolist()):
        own = parts[begin:end]
        legal = [
            tags
            for tags in product(range(len(NAMES)), repeat=end - begin)
            if tags_to_spans([NAMES[tag] for tag in tags])[1] == 0
        ]
        assert tuple(found[begin:end].tolist()) in legal
        assert _score(own, tuple(found[begin:end].tolist())) == pytest.approx(max(_score(own, tags) for tags in legal))
        alone = tuple(own.argmax(axis=1).tolist())
        assert alone not in legal or alone == tuple(found[begin:end].tolist())


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_a_sentence_s_tags_do_not_depend_on_the_others(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    each = [np.rint(rng.dirichlet([0.3] * 5, size) * 10_000).astype(np.int64) for size in (3, 0, 7, 1, 4)]
    alone = [best_tags(one, np.array([0, len(one)]), NAMES).tolist() for one in each]
    mixed = [each[number] for number in order]
    first = np.cumsum([0, *map(len, mixed)])
    together = best_tags(np.concatenate(mixed), first, NAMES)
    assert [part.tolist() for part in np.split(together, first[1:-1])] == [alone[number] for number in order]


def test_a_label_without_a_beginning_begins_as_it_can() -> None:
    names = ["O", "I-PER", "B-LOC", "E-LOC"]
    parts = np.array([[0, 9000, 0, 1000], [0, 9000, 1000, 0], [0, 0, 4000, 6000], [4000, 0, 0, 6000]])
    tags = best_tags(parts, np.array([0, 3, 4]), names)
    assert [names[tag] for tag in tags] == ["I-PER", "I-PER", "B-LOC", "O"]  # no E-LOC without a B-LOC


def test_nothing_has_no_tags() -> None:
    assert best_tags(np.zeros((0, 5), dtype=np.int64), np.array([0]), NAMES).tolist() == []
    assert best_tags(np.zeros((2, 5), dtype=np.int64), np.array([0, 2]), NAMES).tolist() == [0, 0]
