"""What a loop decides after a round, for any changes of agreement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xner_ray.commands.loop.decision import Standing, after, gained
from xner_ray.evaluate.bootstrap import Difference, Interval


def change(low: float, high: float) -> Difference:
    middle = (low + high) / 2
    return Difference(0.5, 0.5 + middle, middle, Interval(low, high), 0.5, 10, 100)


bounds = st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)).map(sorted)
changes = st.lists(st.one_of(st.none(), bounds.map(lambda pair: change(*pair))), max_size=8)


@given(changes, st.integers(1, 3))
def test_only_a_whole_interval_above_0_takes_the_place_of_what_is_kept(
    found: list[Difference | None], patience: int
) -> None:
    standing, without = Standing(), 0
    for number, one in enumerate(found, start=1):
        if standing.stopped:
            break
        before, standing = standing, after(standing, number, one, patience=patience)
        gain = one is not None and one.interval is not None and one.interval.low > 0
        assert standing.best == (number if gain else before.best)
        without = 0 if gain else without + 1
        assert standing.stopped == (without == patience)


@given(changes)
def test_no_round_that_did_not_gain_is_ever_kept(found: list[Difference | None]) -> None:
    """Whatever comes, the kept round is the first projection or one that gained on the round kept before it."""
    standing = Standing()
    for number, one in enumerate(found, start=1):
        standing = after(standing, number, one, patience=9)
    assert standing.best == max([0, *(n for n, one in enumerate(found, start=1) if gained(one))])


def test_a_change_without_an_interval_is_no_gain() -> None:
    nothing = Difference(0.5, 0.9, 0.4, None, 0.01, 1, 0)
    assert not gained(nothing)
    assert not gained(change(0.0, 0.2))
    assert gained(change(0.001, 0.2))
    assert gained(change(0.001, 0.2), change(-0.2, 0.1))
    assert not gained(change(0.001, 0.2), change(-0.2, -0.1))
    assert after(Standing(1), 2, nothing, patience=2) == Standing(best=1, without=1)
