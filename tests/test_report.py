import io
from typing import Any

import pytest
from rich.console import Console

from xner_ray import report
from xner_ray.errors import FatalError
from xner_ray.evaluation import Evaluation, Score


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


INDEX = {"labels_dropped": {"DATE": 4}, "repaired": 2}


def _summary(*parts: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return report.summarize(parts, index=INDEX, labels=["PER"], seconds=1.26)


def test_summary_adds_parts_and_languages() -> None:
    result = _summary(("spa_Latn", _part()), ("swh_Latn", _part(5, 0)), ("spa_Latn", _part()))
    assert result["rows"] == {"read": 11, "emitted": 9, "rejected": 2}
    assert result["rejects"] == {"too_long": 2}
    assert result["entities"]["unprojected"] == {"overlap": 3}
    assert result["languages"]["spa_Latn"]["rows"]["read"] == 6
    assert result["labels"] == {"kept": ["PER"], "dropped": {"DATE": 4}}
    assert result["stages"]["match"] == {
        "rows": 6,
        "seconds": 1.5,
        "tokens": 0,
        "model_seconds": 0.9,
        "rejects": {},
        "rows_per_second": 4.0,
    }
    assert (result["repaired_tags"], result["units"], result["seconds"]) == (2, 3, 1.3)


def test_summary_refuses_rows_that_do_not_add_up() -> None:
    bad = _part(rows={"read": 3, "emitted": 1, "rejected": 1})
    with pytest.raises(FatalError, match=r"read 3 is not emitted 1 \+ rejected 1"):
        _summary(("spa_Latn", bad))


def _printed(renderable: Any) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_tables_name_every_loss() -> None:
    text = _printed(report.tables(_summary(("spa_Latn", _part(flags={"snapped": 3})))))
    for part in (
        "spa_Latn",
        "rejected: too_long",
        "unprojected: overlap",
        "label dropped: DATE",
        "flag: snapped",
        "tags repaired",
    ):
        assert part in text


def test_evaluation_table_shows_percent() -> None:
    score = Score(0.5, 0.25, 1 / 3, 4)
    text = _printed(report.evaluation_table([Evaluation("spa_Latn", 3, 0, score, {"PER": score}, 2, 0.5)]))
    assert "33.33" in text
    assert "0.500" in text


def test_sentence_marks_entities_and_escapes_markup() -> None:
    spans = [{"start": 1, "end": 3, "label": "PER"}]
    assert report.sentence(["[red]", "A", "B", "c"], spans, ["PER"]).plain == "[red] A B[PER] c "
