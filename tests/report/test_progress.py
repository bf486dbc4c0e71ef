"""Lines of a run at work, from made counters and a clock of the test's own."""

import io
from typing import Any

import pytest
from rich.console import Console

from xner_ray.report.progress import Progress, cost, duration
from xner_ray.run.pace import Pace, busy_seconds, pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _counters(rows: int = 100, rejected: int = 0, seconds: float = 4.0) -> dict[str, Any]:
    """Of a unit: `seconds` of translating, nine tenths of them in the model, and as many of matching."""
    translated = {"rows": rows, "seconds": seconds, "tokens": 50 * rows, "model_seconds": 0.9 * seconds}
    matched = {"rows": rows - rejected, "seconds": seconds, "tokens": 0, "model_seconds": 0.0, "rejects": {}}
    rejects = {"translation_empty": rejected} if rejected else {}
    return {
        "rows": {"read": rows, "emitted": rows - rejected, "rejected": rejected},
        "stages": {"translate": {**translated, "rejects": rejects}, "match": matched},
    }


def _progress(clock: Clock, **options: Any) -> Progress:
    return Progress(["translate", "match"], {"a": 100, "b": 100, "c": 50}, clock=clock, **options)


def test_the_clock_starts_where_the_first_unit_began() -> None:
    """Sixty seconds of loading models are in no rate."""
    clock = Clock()
    progress = _progress(clock)
    clock.now += 60
    assert progress.line() == "0/250 rows, no unit is finished yet, 0 rejected"
    clock.now += 8
    progress.add("a", _counters(rejected=3))
    assert progress.line() == (
        "100/250 rows, 12.5 rows/s, 3 rejected, 0:00:12 left; translate 5,000 tokens, 90% in model, 3 rejected"
    )
    clock.now += 8
    progress.add("b", _counters())
    assert progress.pace == Pace(200, 16.0)
    assert progress.seconds_left == 4.0


def test_a_stalled_run_has_more_and_more_time_left() -> None:
    clock = Clock()
    progress = _progress(clock)
    clock.now += 8
    progress.add("a", _counters())
    clock.now += 8
    assert progress.seconds_left == 24.0


def test_a_unit_cannot_have_begun_before_the_driver() -> None:
    """Stages of a unit that its workers had at the same time, as two halves of it, take longer than the clock."""
    clock = Clock()
    progress = _progress(clock)
    clock.now += 2
    progress.add("a", _counters())
    assert progress.pace == Pace(100, 2.0)


def test_cost_counts_loading_and_earlier_drivers() -> None:
    clock = Clock()
    before = {"price_per_hour": 36.0, "seconds_before": 200.0, "rows_before": 800}
    progress = Progress(["translate"], {"a": 100, "b": 100}, clock=clock, **before)
    clock.now += 50
    assert progress.line().endswith("0 rejected, cost 2.50, 3,125.00 per million rows")
    clock.now += 50
    progress.add("a", _counters(seconds=10.0))
    # 300 s so far, 20 s for the other 100 rows
    assert ", cost 3.00, 3.20 at the end, 3,200.00 per million rows;" in progress.line()
    progress.add("b", _counters())
    assert ", cost 3.00, 3,000.00 per million rows;" in progress.line()


def test_cost_of_nothing_is_not_divided() -> None:
    assert cost(None, 10.0, 5) is None
    price = cost(36.0, 100.0, 0, seconds_left=None, rows_left=10)
    assert price == {
        "price_per_hour": 36.0,
        "hours": 0.0278,
        "so_far": 1.0,
        "at_the_end": None,
        "per_million_rows": None,
    }


def test_units_on_their_way_stand_at_the_first_stage_of_their_pool() -> None:
    clock = Clock()
    progress = _progress(clock)
    progress.watch(lambda: {"translate": (3, 2), "match": (0, 1)})
    assert progress.line() == "0/250 rows, no unit is finished yet, 0 rejected; translate 3+2 units; match 0+1 units"


def _shown(progress: Progress, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress.table())
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_one_line_a_stage_on_a_terminal() -> None:
    clock = Clock()
    progress = _progress(clock, price_per_hour=9.0)
    progress.watch(lambda: {"translate": (3, 2), "match": (0, 1)})
    clock.now += 8
    progress.add("a", _counters(rejected=3))
    assert _shown(progress, 80) == [
        "100 of 250 rows 40% " + "━" * 24,
        "12.5 rows/s, 3 rejected, 0:00:12 left",
        "cost 0.02, 0.05 at the end, 200.00 per million rows",
        " stage      rows  rows/s  tokens  in model  rejected  wait  work",
        " " + "─" * 63,
        " translate   100      25   5,000       90%         3     3     2",
        " match        97      24       -         -         0     0     1",
    ]


@pytest.mark.parametrize(("width", "rows"), [(80, 23_456_789), (200, 1_234_567_890)])
def test_large_numbers_fit(width: int, rows: int) -> None:
    progress = Progress(["back_translate"], {"a": rows, "b": rows}, price_per_hour=98.76, clock=(clock := Clock()))
    progress.watch(lambda: {"back_translate": (1234, 128)})
    clock.now += 2e6
    counters = _counters(rows=rows, rejected=123_456, seconds=1e6)
    counters["stages"] = {"back_translate": counters["stages"]["translate"]}
    progress.add("a", counters)
    lines = _shown(progress, width)
    assert len(lines) == 6  # no line was broken
    tokens = f"{50 * rows / 1e6:,.1f}M"
    assert lines[-1].split() == [
        *("back_translate", f"{rows:,}", f"{rows / 1e6:,.0f}", tokens, "90%", "123,456", "1234", "128")
    ]


def test_a_log_has_a_line_every_ten_seconds_at_most_and_a_last_one() -> None:
    clock = Clock()
    progress = Progress(["translate"], {str(n): 1 for n in range(100)}, clock=clock)
    console = Console(width=40, file=io.StringIO())
    with progress.shown(console):
        for n in range(100):
            clock.now += 0.5
            progress.add(str(n), _counters(rows=1, seconds=0.5))
        progress.settle(Pace(100, 40.0))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(",")[0] for line in lines] == [f"{n}/100 rows" for n in (20, 40, 60, 80, 100)]
    assert lines[-1] == "100/100 rows, 2.5 rows/s, 0 rejected; translate 5,000 tokens, 90% in model"  # not wrapped


def test_a_terminal_gets_no_lines_of_a_log() -> None:
    clock = Clock()
    progress = _progress(clock)
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with progress.shown(console):
        clock.now += 20
        progress.add("a", _counters())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "100 of 250 rows" in shown
    assert "100/250" not in shown


def test_pace_of_files() -> None:
    """By their times alone: the first unit began its busy seconds before it was there, and not before the driver."""
    finished, sizes = {"b": 1030.0, "a": 1010.0, "c": 1050.0}, {"a": 100, "b": 100, "c": 50, "d": 100}
    asked: list[str] = []

    def busy(unit: str) -> float:
        asked.append(unit)
        return 5.0

    assert pace(finished, sizes, busy, 900.0) == Pace(250, 45.0)
    assert pace(finished, sizes, busy, 1008.0) == Pace(250, 42.0)
    assert asked == ["a", "a"], "no other footer is read"
    assert pace({}, sizes, busy, 0.0).rows_per_second is None
    assert Pace(250, 50.0).seconds_for(100) == 20.0
    assert Pace().seconds_for(100) is None
    assert Pace().seconds_for(0) == 0.0


def test_seconds_of_both_matchings() -> None:
    counters = {"stages": {"read": {"seconds": 1.0}, "match": {"seconds": 2.0}, "refine": {"seconds": 4.0}}}
    assert busy_seconds(counters) == 3.0
    assert busy_seconds(counters, again=True) == 4.0


def test_durations() -> None:
    assert duration(0.4) == "0:00:00"
    assert duration(100_000) == "1 day, 3:46:40"
