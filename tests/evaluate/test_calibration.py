import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from xner_ray.evaluate.calibration import BINS, calibration
from xner_ray.evaluate.counting import by_score


def _of(scores: list[float], right: list[int]) -> object:
    return calibration(by_score(np.array(scores), np.array(right, dtype=np.int64)))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 1)), min_size=1, max_size=200))
def test_figures_against_their_definitions(made: list[tuple[int, int]]) -> None:
    scores, right = np.array([score for score, _ in made]) / 1e4, np.array([each for _, each in made])
    found = calibration(by_score(scores, right))
    assert found is not None
    assert (found.entities, round(found.score, 9)) == (len(made), round(float(scores.mean()), 9))
    assert math.isclose(found.right, right.mean())
    if 0 < right.sum() < len(right):
        assert found.auroc is not None and math.isclose(found.auroc, roc_auc_score(right, scores), abs_tol=1e-9)
    else:
        assert found.auroc is None
    assert len(found.bins) == min(BINS, len(made))
    assert math.isclose(sum(each.entities for each in found.bins), len(made))
    assert all(math.isclose(each.entities, found.bins[0].entities) for each in found.bins)
    # bins add up to the whole, whatever is shared out between two of them
    assert math.isclose(sum(each.entities * each.right for each in found.bins), right.sum(), abs_tol=1e-6)
    assert math.isclose(sum(each.entities * each.score for each in found.bins), scores.sum(), abs_tol=1e-6)


def test_expected_calibration_error_of_bins_of_equal_mass() -> None:
    scores = [n / 100 for n in range(1, 31)]  # two to a bin, all different
    right = [n % 2 for n in range(30)]
    found = _of(scores, right)
    pairs = zip(scores[::2], scores[1::2], strict=True)
    assert found.error == pytest.approx(np.mean([abs(0.5 - (low + high) / 2) for low, high in pairs]))  # type: ignore[attr-defined]


def test_equal_scores_have_no_order() -> None:
    assert _of([0.5] * 40, [1] * 20 + [0] * 20) == _of([0.5] * 40, [0] * 20 + [1] * 20)
    assert _of([0.5] * 40, [1] * 20 + [0] * 20).error == pytest.approx(0)  # type: ignore[attr-defined]


def test_nothing_projected_has_no_calibration() -> None:
    assert _of([], []) is None
