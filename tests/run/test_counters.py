"""The share of rejected rows."""

import pytest

from xner_ray.run.counters import Rows, reject_rate


@pytest.mark.parametrize(
    ("rows", "rejects", "rate"),
    [
        (Rows(read=10, emitted=8, rejected=2), {"malformed": 2}, 0.2),
        (Rows(read=10, emitted=4, rejected=6), {"malformed": 1, "left_out": 5}, 0.2),
        (Rows(read=3, emitted=0, rejected=3), {"left_out": 3}, 0.0),
        (Rows(read=0, emitted=0, rejected=0), {}, 0.0),
    ],
)
def test_what_is_left_out_is_no_reject_that_counts(rows: Rows, rejects: dict[str, int], rate: float) -> None:
    assert reject_rate(rows, rejects) == rate
