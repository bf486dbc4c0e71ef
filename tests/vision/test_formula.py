"""The formula of evidence: what says nothing changes nothing, evidence is bounded, ties are the text's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner_ray.vision.background import drawn, dump, read
from xner_ray.vision.formula import LEAST_BACKGROUND, Background, by_doubt, by_tags, decide, log_ratios, unit_length

DEPICTED = np.array([0.65, 0.1, 0.28])


def _some(n: int, seed: int = 0, dim: int = 8) -> np.ndarray:
    return unit_length(np.random.default_rng(seed).normal(size=(n, dim)))


def _texts(mentions: int = 2, seed: int = 1) -> np.ndarray:
    return _some(mentions * 3, seed).reshape(mentions, 3, 8)


def test_a_picture_that_is_the_mean_says_nothing() -> None:
    background = Background(_some(40))
    found = log_ratios(background.mean[None], _texts(), np.array([1]), background, 2.0, DEPICTED)
    assert found.tolist() == [[0, 0, 0]]


def test_equal_pictures_say_nothing() -> None:
    one = _some(1)
    found = log_ratios(one, _texts(), np.array([0]), Background(np.repeat(one, 20, axis=0)), 5.0, DEPICTED)
    assert found.tolist() == [[0, 0, 0]]


def test_a_small_background_says_nothing() -> None:
    pictures = _some(LEAST_BACKGROUND)
    texts, mention = _texts(), np.array([0])
    assert not log_ratios(pictures[:1], texts, mention, Background(pictures[1:]), 2.0, DEPICTED).any()
    assert log_ratios(pictures[:1], texts, mention, Background(pictures), 2.0, DEPICTED).any()


def test_the_formula_by_hand() -> None:
    background, texts, picture = Background(_some(30)), _texts(), _some(1, 5)
    found = log_ratios(picture, texts, np.array([1]), background, 1.5, DEPICTED)
    products = (background.vectors - background.vectors.mean(0)) @ texts[1].T
    sigma = (products - products.mean(1, keepdims=True)).std(0)
    own = (picture - background.vectors.mean(0)) @ texts[1].T
    u = (own - own.mean()) / sigma
    wanted = np.log(1 - DEPICTED + DEPICTED * np.exp(np.clip(1.5 * u, -8, 8)))
    assert found == pytest.approx(wanted, abs=6e-5)


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_evidence_is_bounded(seed: int, slope: float) -> None:
    """Against a label by the probability that it is depicted at all, for it by 8."""
    background = Background(_some(20, seed))
    found = log_ratios(_some(5, seed + 1), _texts(), np.zeros(5, np.int64), background, slope, DEPICTED)
    assert (found >= np.log(1 - DEPICTED) - 1e-4).all() and (found <= 8 + 1e-4).all()


def test_the_scale_of_vectors_does_not_count() -> None:
    """So SigLIP's scaled products are as good as cosines."""
    background, texts, pictures, mention = Background(_some(20)), _texts(), _some(3, 9), np.zeros(3, np.int64)
    one = log_ratios(pictures, texts, mention, background, 1.0, DEPICTED)
    assert np.array_equal(one, log_ratios(pictures, 7 * texts, mention, background, 1.0, DEPICTED))


def test_the_text_keeps_its_label_where_the_picture_says_nothing() -> None:
    own = np.array([0, 1, 2])
    for text in (by_doubt(own, 3, 0.4), by_tags(np.log(np.array([[0.1, 0.8, 0.1]] * 3)), own)):
        assert decide(text, np.zeros((3, 3)), own, 1.0).tolist() == own.tolist()
        assert decide(text, np.full((3, 3), 0.7), own, 1.0).tolist() == own.tolist()


def test_ties_are_the_texts_then_the_first_labels() -> None:
    ratios = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert decide(np.full((2, 3), 0.3), ratios, np.array([1, 0]), 1.0).tolist() == [1, 1]


def test_no_entity_is_no_error() -> None:
    none = np.zeros(0, np.int64)
    assert log_ratios(np.zeros((0, 8)), _texts(), none, Background(_some(20)), 1.0, DEPICTED).shape == (0, 3)
    assert by_doubt(none, 3, 0.1).shape == by_tags(np.zeros((0, 3)), none).shape == (0, 3)
    assert decide(np.zeros((0, 3)), np.zeros((0, 3)), none, 1.0).shape == (0,)


def test_the_background_is_drawn_by_ids_and_kept_with_its_sum(tmp_path) -> None:
    from xner_ray.errors import DamageError

    pairs = [(f"row-{n}", f"{n}.png" if n % 2 else None) for n in range(50)]
    found = drawn(*zip(*pairs, strict=True), most=10)
    assert found == drawn(*zip(*pairs[::-1], strict=True), most=10) and len(found) == 10
    assert all(int(reference[:-4]) % 2 for _, reference in found)
    vectors, path = Background(_some(9)), tmp_path / "b.safetensors"
    data = dump(vectors)
    path.write_bytes(data)
    assert read(str(path)).vectors == pytest.approx(vectors.vectors, abs=1e-6)
    for bad in (data[:-3], data[:-1] + bytes([data[-1] ^ 1]), b""):
        path.write_bytes(bad)
        with pytest.raises(DamageError):
            read(str(path))
    path.unlink()
    with pytest.raises(DamageError, match="is missing"):
        read(str(path))
