"""The bootstrap against loops in plain Python, scipy, and what intervals and p-values promise."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from xner_ray.errors import InputError
from xner_ray.evaluate import bootstrap
from xner_ray.evaluate.bootstrap import Interval, interval, paired_bootstrap, resampled_sums


def _counts(n: int, seed: int, right: float = 0.8, gold_of: int | None = None) -> NDArray[np.int64]:
    """[n, (exact, predicted, gold)] of sentences with 0 to 4 entities; gold as with the seed `gold_of`."""
    rng = np.random.default_rng(seed)
    gold = np.random.default_rng([1, seed if gold_of is None else gold_of]).integers(0, 5, size=n)
    exact = rng.binomial(gold, right)
    return np.stack([exact, exact + rng.integers(0, 2, size=n), gold], axis=1)


def _f1(sums: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(2 * sums[..., 0] / (sums[..., 1] + sums[..., 2]))


def _plain_f1(rows: Sequence[Sequence[int]]) -> float:
    return 2 * sum(row[0] for row in rows) / (sum(row[1] for row in rows) + sum(row[2] for row in rows))


FEW_KINDS, MANY_KINDS = 2000, 60  # sentences; of the first, more than 20 times as many as there are kinds of rows


@pytest.mark.parametrize("n", [FEW_KINDS, MANY_KINDS])
def test_sums_are_those_of_a_loop_over_the_drawn_sentences(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 100)  # several blocks
    counts = _counts(n, 1)
    kinds = sorted(set(map(tuple, counts.tolist())))
    assert (20 * len(kinds) < n) == (n == FEW_KINDS)
    times = [counts.tolist().count(list(kind)) for kind in kinds]
    rng, expected = np.random.default_rng(7), []
    in_order = sorted(counts.tolist())
    for _ in range(25):
        if n == FEW_KINDS:
            weights = rng.multinomial(n, np.array(times) / n).tolist()
            drawn = [kind for kind, weight in zip(kinds, weights, strict=True) for _ in range(weight)]
        else:
            drawn = [tuple(in_order[index]) for index in rng.integers(n, size=n).tolist()]
        assert len(drawn) == n
        expected.append([sum(row[column] for row in drawn) for column in range(3)])
    assert resampled_sums(counts, samples=25, seed=7).tolist() == expected


@pytest.mark.parametrize("n", [FEW_KINDS, MANY_KINDS])
def test_intervals_agree_with_plain_python_and_with_scipy(n: int) -> None:
    """Other random numbers: the ends differ by their own sampling error, 2 % of the standard error or so."""
    counts = _counts(n, 2)
    found = interval(_f1(resampled_sums(counts, samples=10_000, seed=0)))
    assert found is not None
    rng, rows = random.Random(5), counts.tolist()
    loop = sorted(_plain_f1(rng.choices(rows, k=n)) for _ in range(2000 if n == MANY_KINDS else 400))
    reference = stats.bootstrap(
        tuple(counts.T),
        lambda exact, predicted, gold, axis: 2 * exact.sum(axis) / (predicted.sum(axis) + gold.sum(axis)),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=5000,
        batch=500,
        rng=np.random.default_rng(3),
    )
    error = float(reference.standard_error)
    low, high = reference.confidence_interval
    assert found.low == pytest.approx(low, abs=0.12 * error)
    assert found.high == pytest.approx(high, abs=0.12 * error)
    share = 0.12 if n == MANY_KINDS else 0.3
    assert found.low == pytest.approx(loop[round(0.025 * len(loop))], abs=share * error)
    assert found.high == pytest.approx(loop[round(0.975 * len(loop)) - 1], abs=share * error)


@pytest.mark.slow
def test_an_interval_holds_the_truth_about_95_times_in_100() -> None:
    truth = 2 * 0.8 * 2 / (0.8 * 2 + 0.5 + 2)  # 2 entities a sentence on average, half a spurious one
    held = 0
    for seed in range(300):
        found = interval(_f1(resampled_sums(_counts(150, 100 + seed), samples=400, seed=seed)))
        assert found is not None
        held += found.low <= truth <= found.high
    assert 0.91 < held / 300 < 0.975


def test_neither_order_nor_anything_but_the_seed_matters() -> None:
    counts = _counts(100, 3)
    sums = resampled_sums(counts, samples=50, seed=1)
    np.testing.assert_array_equal(sums, resampled_sums(counts[::-1], samples=50, seed=1))
    assert not np.array_equal(sums, resampled_sums(counts, samples=50, seed=2))
    assert resampled_sums(counts[:0], samples=5, seed=0).tolist() == [[0, 0, 0]] * 5
    assert resampled_sums(counts, samples=0, seed=0).shape == (0, 3)


def test_undefined_resamples_are_left_out() -> None:
    assert interval(np.array([np.nan, 0.5, np.nan, 0.5])) == Interval(0.5, 0.5)
    assert interval(np.array([np.nan])) is None
    assert interval(np.zeros(0)) is None


def test_paired_by_hand() -> None:
    """The definition, once more in plain Python, on the same draws."""
    first, second = _counts(80, 4, 0.77), _counts(80, 14, 0.8, gold_of=4)
    found = paired_bootstrap(first, second, _f1, samples=500, seed=9)
    assert found.first == pytest.approx(_plain_f1(first.tolist()))
    assert found.second == pytest.approx(_plain_f1(second.tolist()))
    assert found.difference == pytest.approx(found.second - found.first)
    rows = sorted(np.concatenate([first, second], axis=1).tolist())
    rng, differences = np.random.default_rng(9), []
    for _ in range(500):
        drawn = [rows[index] for index in rng.integers(80, size=80).tolist()]
        differences.append(_plain_f1([row[3:] for row in drawn]) - _plain_f1([row[:3] for row in drawn]))
    extreme = sum(abs(one - found.difference) >= abs(found.difference) for one in differences)
    assert found.p_value == (1 + extreme) / 501
    assert 0.005 < found.p_value < 0.995
    low, high = np.quantile(differences, [0.025, 0.975])
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert (found.items, found.samples) == (80, 500)
    back = paired_bootstrap(second, first, _f1, samples=20_000, seed=1)
    assert back.difference == -found.difference
    assert back.p_value == pytest.approx(found.p_value, abs=0.08)


def test_paired_of_equal_and_of_plainly_better_systems() -> None:
    first, better = _counts(400, 5, 0.6), _counts(400, 5, 0.9)
    same = paired_bootstrap(first, first, _f1, samples=200, seed=0)
    assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, Interval(0.0, 0.0))
    found = paired_bootstrap(first, better, _f1, samples=999, seed=0)
    assert found.p_value == 1 / 1000
    assert found.interval is not None and found.interval.low > 0.1


def test_a_p_value_is_small_by_chance_as_often_as_it_says() -> None:
    """Two systems that are equally good: p <= 0.1 in about a tenth of the data sets."""
    small = 0
    for seed in range(300):
        first, second = _counts(120, seed), _counts(120, 1000 + seed, gold_of=seed)
        small += paired_bootstrap(first, second, _f1, samples=200, seed=seed).p_value <= 0.1
    assert 0.06 < small / 300 < 0.15


def test_pairs_need_the_same_items() -> None:
    with pytest.raises(InputError, match=r"same items: \(10, 3\) and \(11, 3\)"):
        paired_bootstrap(_counts(10, 0), _counts(11, 0), _f1, samples=10, seed=0)
