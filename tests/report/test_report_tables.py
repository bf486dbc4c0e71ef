import io
import json
import re
from collections import Counter
from typing import Any

import pytest
from entities import corpus, row, table
from rich.console import Console

from xner_ray.errors import FatalError
from xner_ray.evaluate.scores import Evaluations, evaluate
from xner_ray.report import tables
from xner_ray.report.comparison import training_tables
from xner_ray.run.counters import Report, summarize


def _part(read: int = 3, rejected: int = 1, **extra: Any) -> dict[str, Any]:
    return {
        "rows": {"read": read, "emitted": read - rejected, "rejected": rejected},
        "rejects": {"too_long": rejected},
        "entities": {"source": 2, "projected": 1, "unprojected": {"overlap": 1}, "in_rejected_rows": 0},
        "projected_by_label": {"PER": 1},
        "incomplete_rows": 1,
        "stages": {"match": {"rows": 2, "seconds": 0.5, "tokens": 0, "model_seconds": 0.3, "rejects": {}}},
        **extra,
    }


INDEX: dict[str, Any] = {"dropped": {"DATE": 4}, "repaired_tags": 2}


def _summary(*parts: tuple[str, dict[str, Any]]) -> Report:
    return summarize(parts, labels=["PER"], seconds=1.26, max_reject_rate=0.5, **INDEX)


def test_summary_adds_parts_and_languages() -> None:
    result = _summary(("spa_Latn", _part()), ("swh_Latn", _part(5, 0)), ("spa_Latn", _part()))
    assert result.rows == {"read": 11, "emitted": 9, "rejected": 2}
    assert (result.reject_rate, result.max_reject_rate) == (2 / 11, 0.5)
    assert result.rejects == {"too_long": 2}
    assert result.entities["unprojected"] == {"overlap": 3}
    assert result.languages["spa_Latn"]["rows"]["read"] == 6
    assert result.labels == {"kept": ["PER"], "dropped": {"DATE": 4}}
    assert result.stages["match"] == {
        "rows": 6,
        "seconds": 1.5,
        "tokens": 0,
        "model_seconds": 0.9,
        "rejects": {},
        "rows_per_second": 4.0,
    }
    assert (result.repaired_tags, result.units, result.seconds) == (2, 3, 1.3)


def test_summary_refuses_rows_that_do_not_add_up() -> None:
    bad = _part(rows={"read": 3, "emitted": 1, "rejected": 1})
    with pytest.raises(FatalError, match="3 read, 1 emitted, 1 rejected"):
        _summary(("spa_Latn", bad))


def test_a_report_is_read_back_and_by_key() -> None:
    report = _summary(("spa_Latn", _part()))
    written = json.loads(report.dump())
    assert Report.from_dict(written) == report
    assert Report.from_dict({**written, "of_a_later_version": 1}) == report
    early = {key: value for key, value in written.items() if key not in ("flags", "solvers", "stages")}
    assert Report.from_dict(early).stages == {}, "counters that an earlier version did not have"
    assert report["rows"]["read"] == report.rows["read"] == 3
    for missing in ("cost", "priors", "nothing"):
        assert missing not in written
        with pytest.raises(KeyError):
            report[missing]


def _printed(renderable: Any, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_tables_name_every_loss() -> None:
    text = _printed(tables.run_tables(_summary(("spa_Latn", _part(flags={"snapped": 3})))))
    for part in (
        "spa_Latn",
        "rejected: too_long",
        "unprojected: overlap",
        "label dropped: DATE",
        "flag: snapped",
        "tags repaired",
    ):
        assert part in text


def _evaluations(**options: Any) -> Evaluations:
    rows = [row(*one) for one in corpus(60, 1)]
    return evaluate([table(rows), table(rows[:40], "swh_Latn")], **{"samples": 100, **options})


def test_scores_show_percent_intervals_and_means() -> None:
    found = _evaluations()
    shown = _printed(tables.scores_table(found))
    lines = [line.split() for line in shown.splitlines()]
    spanish, macro = found[0], found.macro
    assert spanish.overall.f1_interval is not None and macro is not None
    low, high = 100 * spanish.overall.f1_interval.low, 100 * spanish.overall.f1_interval.high
    percent = [
        f"{100 * value:.2f}" for value in (spanish.overall.precision, spanish.overall.recall, spanish.overall.f1)
    ]
    ratio = f"{spanish.projected / spanish.overall.gold:.3f}"
    assert ["spa_Latn", "all", *percent, f"{low:.1f}-{high:.1f}", str(spanish.overall.gold), ratio] in lines
    assert [line[1] for line in lines if line[:1] in (["spa_Latn"], ["swh_Latn"])] == ["all", "all"]
    assert sum(line[:1] == ["macro"] for line in lines) == 2
    assert f"mean of 2  all        {100 * macro.overall.precision:.2f}" in shown
    assert "seqeval strict (IOB2)" in shown
    assert "100 bootstrap resamples of the sentences, seed 0" in shown
    without = _printed(tables.scores_table(_evaluations(samples=0)))
    assert "bootstrap" not in without
    assert " - " in without


@pytest.mark.parametrize(("width", "wide", "intervals"), [(80, False, 1), (110, True, 3)])
def test_evaluation_fits_its_terminal(width: int, wide: bool, intervals: int) -> None:
    shown = _printed(tables.evaluation_tables(_evaluations(), wide=wide), width)
    assert shown.count("95% interval") == intervals
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    # Whatever does not fit, rich cuts with an ellipsis or breaks: then a language's line would end early
    for title, cells in (("Exact entities", 7 + intervals), ("What became", 8), ("What the annotations", 9)):
        part = shown[shown.index(title) :].split("spa_Latn", 1)[1].splitlines()[0]
        assert "…" not in part
        assert len(part.split()) == cells - 1, part


def _all_tables() -> list[tables.Table]:
    groups = [
        tables.run_tables(_summary(("spa_Latn", _part(123_456)), ("swh_Latn", _part(5, 0)))),
        tables.evaluation_tables(_evaluations()),
        tables.evaluation_tables(_evaluations(), wide=True),
    ]
    return [each for group in groups for each in group.renderables if isinstance(each, tables.Table)]


@pytest.mark.parametrize("width", [32, 40, 50, 60, 72, 80, 100])
def test_no_terminal_cuts_a_number_in_two(width: int) -> None:
    for each in _all_tables():
        lines = _printed(each, width).splitlines()
        assert max(map(len, lines)) <= width
        found = Counter(word for line in lines for word in line.split())
        for cell, times in Counter(cell for line in each.rows for cell in line.cells[len(each.left) :] if cell).items():
            assert found[cell] >= times, (each.title, cell)
    cards = _printed(tables.scores_table(_evaluations()), 40)
    assert re.search(r"\nspa_Latn PER\n  precision +\d", cards), "each card says whose it is"


def test_evaluation_without_a_ceiling() -> None:
    own = [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": None}]
    shown = _printed(tables.evaluation_tables(evaluate([table([row([(0, 1, "PER")], [], spans=own)])])))
    assert ["spa_Latn", "1", "0", "-", "1", "-", "-", "-", "-"] in [line.split() for line in shown.splitlines()]


def test_a_table_shows_the_same_cells_on_a_terminal_and_in_markdown() -> None:
    table = tables.Table("Title", ["", "[red]name"], ["n"], ["a note"])
    table.add_section("one", [("a|b", 1), ("[/x]", 2)])
    table.add_section("two", [("<i>", 3)])
    lines = [line.split() for line in _printed(table).splitlines()]
    wanted = [["Title"], [], ["[red]name", "n"], ["one", "a|b", "1"], ["[/x]", "2"], [], ["two", "<i>", "3"], []]
    assert [line for line in lines if "─" not in "".join(line)] == [*wanted, ["a", "note"], []]
    assert table.markdown().splitlines() == [
        *("Title.", "", "|  | [red]name | n |", "| --- | --- | ---: |"),
        *("| one | a\\|b | 1 |", "|  | [/x] | 2 |", "| two | <i> | 3 |", "", "- a note"),
    ]
    narrow = tables.Table("", ["a"])
    narrow.add_row("long" * 9)
    assert "".join(_printed(narrow, 20).split())[-36:] == "long" * 9, "folded, not cut"


def test_scores_of_a_training_are_those_of_an_evaluation() -> None:
    found = _evaluations()
    entry = {"epoch": 1.0, "loss": 0.5, "f1": 0.25}
    tally = {"source": "runs/a", "read": 3, "kept": 2, "dropped": {"too long": 1}}
    report = {"sentences": {"data": [tally]}, "history": [entry], "best_checkpoint": 1}
    written = json.loads(json.dumps({**report, "evaluation": found.to_dict()}))
    shown = _printed(training_tables(written))
    assert _printed(tables.scores_table(found)) in shown
    assert ["runs/a", "3", "2", "1", "too", "long"] in [line.split() for line in shown.splitlines()]
    assert "25.00 (best)" in shown
    assert "against gold" not in _printed(training_tables({**written, "evaluation": None}))


def test_sentence_marks_entities_and_escapes_markup() -> None:
    spans = [{"start": 1, "end": 3, "label": "PER"}]
    assert tables.sentence(["[red]", "A", "B", "c"], spans, ["PER"]).plain == "[red] A B[PER] c "
