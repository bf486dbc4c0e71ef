from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.data.opinions import opinions


@st.composite
def _tagged(draw: st.DrawFn) -> tuple[Any, list[tuple[int, int, int, int]]]:
    """Probabilities of the words of some sentences, and spans (first, last, end of the sentence, class) over them."""
    n_labels = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rows = draw(
        st.lists(
            st.lists(st.integers(0, 100), min_size=2 * n_labels + 1, max_size=2 * n_labels + 1).filter(any),
            min_size=sum(sizes),
            max_size=sum(sizes),
        )
    )
    tags = np.array(rows, dtype=np.float64)
    spans, base = [], 0
    for size in sizes:
        for _ in range(draw(st.integers(0, 2))):
            first = draw(st.integers(0, size - 1))
            last = draw(st.integers(first + 1, size))
            spans.append((base + first, base + last, base + size, draw(st.integers(-1, n_labels - 1))))
        base += size
    return tags / tags.sum(axis=1, keepdims=True), spans


@given(_tagged())
def test_they_are_what_the_definition_says(made: tuple[Any, list[tuple[int, int, int, int]]]) -> None:
    tags, spans = made
    found = opinions(tags, *(np.array([span[n] for span in spans], dtype=np.int64) for n in range(4)))
    for at, (first, last, end, label) in enumerate(spans):
        words = range(first, last)
        begin, inside = (tags[:, 2 * label + 1], tags[:, 2 * label + 2]) if label >= 0 else np.zeros((2, len(tags)))
        after = inside[last] if last < end else 0.0
        span = begin[first] * np.prod([inside[word] for word in words[1:]]) * (1 - after)
        assert np.isclose(found.label[at], np.mean([begin[word] + inside[word] for word in words]))
        assert np.isclose(found.entity[at], np.mean([1 - tags[word, 0] for word in words]))
        assert np.isclose(found.span[at], span)
        assert np.isclose(found.after[at], after)
