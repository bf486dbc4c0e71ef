"""align.py against SimAlign's own functions, and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xner_ray.align import (
    METHODS,
    Links,
    argmax,
    extract,
    itermax,
    make_links,
    probabilities,
    similarity,
)

DENSE = {"argmax": argmax, "itermax": itermax}


def cosines(levels: int, max_words: int = 9) -> st.SearchStrategy[np.ndarray]:
    """Matrices above -1 with at most `levels` different values: few levels, many ties."""
    values = np.round(np.linspace(-0.9, 1.0, levels), 4).astype(np.float32)
    shapes = st.tuples(st.integers(1, max_words), st.integers(1, max_words))
    indices = shapes.flatmap(lambda shape: arrays(np.intp, shape, elements=st.integers(0, levels - 1)))
    return indices.map(lambda index: values[index])


MATRICES = st.one_of(cosines(2), cosines(4), cosines(12), cosines(20_000))


def pairs(cells: np.ndarray) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(cells), strict=True)]


def simalign_cells(cosine: np.ndarray) -> dict[str, np.ndarray]:
    """SimAlign 0.4's own static functions on the same numbers."""
    aligner = pytest.importorskip("simalign").SentenceAligner
    sim = (cosine.astype(np.float64) + 1.0) / 2.0
    forward, backward = aligner.get_alignment_matrix(sim)
    return {"argmax": forward * backward > 0, "itermax": aligner.iter_max(sim) > 0}


@pytest.mark.parametrize("levels", [2, 3, 10, 20_000])
def test_methods_equal_simalign_for_all_small_shapes(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for m in range(1, 9):
        for n in range(1, 9):
            for _ in range(12):
                cosine = np.round(rng.integers(0, levels, (m, n)) / levels * 1.8 - 0.9, 4).astype(np.float32)
                expected = simalign_cells(cosine)
                for name in METHODS:
                    assert np.array_equal(DENSE[name](cosine), expected[name]), (name, cosine)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 30), (3, 50), (33, 41), (90, 60)])
def test_methods_equal_simalign_for_longer_sentences(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cosine = similarity(rng.normal(size=(shape[0], 16)), rng.normal(size=(shape[1], 16)))
        expected = simalign_cells(cosine)
        for name in METHODS:
            assert np.array_equal(DENSE[name](cosine), expected[name])


@settings(deadline=None)
@given(MATRICES)
def test_methods_equal_simalign(cosine: np.ndarray) -> None:
    expected = simalign_cells(cosine)
    for name in METHODS:
        assert np.array_equal(DENSE[name](cosine), expected[name])


@settings(deadline=None, max_examples=300)
@given(MATRICES, st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([0.05, 0.5, 2.0]), st.data())
def test_what_is_stored_gives_the_same_hard_links(
    cosine: np.ndarray, temperature: float, floor: float, data: st.DataObject
) -> None:
    m, n = cosine.shape
    cosine = cosine.copy()
    cosine[data.draw(st.lists(st.integers(0, m - 1), max_size=3)), :] = -1.0  # words without subwords
    cosine[:, data.draw(st.lists(st.integers(0, n - 1), max_size=3))] = -1.0
    links = make_links(cosine, temperature=temperature, floor=floor)
    stored = Links.from_rows(links.to_rows())
    for name in METHODS:
        assert extract(stored, m, n, name) == pairs(DENSE[name](cosine))


@settings(deadline=None)
@given(MATRICES, st.data())
def test_a_word_without_subwords_is_as_if_it_were_not_there(cosine: np.ndarray, data: st.DataObject) -> None:
    m, n = cosine.shape
    i, j = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    wider = np.insert(np.insert(cosine, i, -1.0, axis=0), j, -1.0, axis=1)
    for name in METHODS:
        shifted = [(a + (a >= i), b + (b >= j)) for a, b in pairs(DENSE[name](cosine))]
        assert pairs(DENSE[name](wider)) == shifted
    for narrow, wide in zip(probabilities(cosine), probabilities(wider), strict=True):
        assert not wide[i].any() and not wide[:, j].any()
        assert np.array_equal(np.delete(np.delete(wide, i, axis=0), j, axis=1), narrow)


@settings(deadline=None)
@given(MATRICES)
def test_argmax_is_within_itermax_and_one_to_one(cosine: np.ndarray) -> None:
    cells = argmax(cosine)
    assert cells.sum(axis=0).max() <= 1 and cells.sum(axis=1).max() <= 1
    assert not (cells & ~itermax(cosine)).any()
    assert cells.any()  # the highest cell of all is mutual


def test_links_are_sorted_typed_and_survive_rows() -> None:
    rng = np.random.default_rng(3)
    links = make_links(similarity(rng.normal(size=(7, 4)), rng.normal(size=(5, 4))))
    rows = links.to_rows()
    assert [(r["source"], r["target"]) for r in rows] == sorted((r["source"], r["target"]) for r in rows)
    assert list(rows[0]) == ["source", "target", "forward", "backward", "cosine"]
    assert type(rows[0]["source"]) is int and type(rows[0]["forward"]) is float
    again = Links.from_rows(rows)
    for name in rows[0]:
        dtype = np.int32 if name in ("source", "target") else np.float32
        assert getattr(again, name).dtype == getattr(links, name).dtype == dtype
        assert np.array_equal(getattr(again, name), getattr(links, name))


def test_every_probability_at_the_floor_is_stored() -> None:
    cosine = similarity(np.eye(6) + 0.3, np.eye(6) + 0.3)
    forward, backward = probabilities(cosine, 0.1)
    links = make_links(cosine, temperature=0.1, floor=0.05)
    stored = np.zeros_like(cosine, dtype=bool)
    stored[links.source, links.target] = True
    assert stored[(forward >= 0.05) | (backward >= 0.05)].all()
    assert np.array_equal(links.forward, forward[stored])


def test_probabilities_sum_to_one_and_follow_the_direction() -> None:
    cosine = np.array([[0.9, 0.1, 0.1], [0.9, 0.1, 0.2]], dtype=np.float32)
    forward, backward = probabilities(cosine, 0.1)
    np.testing.assert_allclose(forward.sum(axis=1), 1, atol=3e-4)
    np.testing.assert_allclose(backward.sum(axis=0), 1, atol=3e-4)
    assert backward[0, 0] == backward[1, 0] == np.float32(0.5)
    with pytest.raises(ValueError, match="temperature is 0"):
        probabilities(cosine, 0)


def test_similarity_is_rounded_and_bounded() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(8, 5)), rng.normal(size=(9, 5))
    a[3] = 0
    cosine = similarity(a, b)
    assert cosine.dtype == np.float32 and cosine.shape == (8, 9)
    assert (cosine[3] == -1).all()
    exact = a @ b.T / np.outer(np.maximum(np.linalg.norm(a, axis=1), 1e-30), np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(np.delete(cosine, 3, 0), np.delete(exact, 3, 0), atol=5.1e-5)
    assert np.array_equal(cosine, np.round(cosine.astype(np.float64), 4).astype(np.float32))
    assert similarity(a[:1] * 1e6, a[:1]).item() == 1.0
    with pytest.raises(ValueError, match="not finite"):
        similarity(np.array([[np.nan, 1.0]]), b[:, :2])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_to_link_gives_no_link(shape: tuple[int, int]) -> None:
    links = make_links(similarity(np.zeros((shape[0], 4)), np.zeros((shape[1], 4))))
    assert len(links) == 0 and links.to_rows() == []
    for name in METHODS:
        assert extract(Links.from_rows([]), *shape, name) == []


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="method is 'mwmf'; allowed: argmax, itermax"):
        extract(Links.from_rows([]), 1, 1, "mwmf")
