"""One sentence for each kind of wrong boundary, from its row to the printed table."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from run_folders import finished

from xner_ray.data.row import ROW
from xner_ray.evaluate.boundaries import COLUMNS, KINDS, wrong

SPAN = dict[str, Any]


def _row(target: str, projected: str, gold: str, sources: list[str] | None = None, source: str = "") -> dict[str, Any]:
    """A row whose only projection and gold entity are these words of the target, of the first of the sources."""
    words = target.split()

    def span(part: str, within: list[str], **more: Any) -> SPAN:
        own = part.split()
        start = next(n for n in range(len(within)) if within[n : n + len(own)] == own)
        return {"start": start, "end": start + len(own), "label": "ORG", **more}

    source_words = (source or "x").split()
    return {
        "row": 0,
        "lang": "spa_Latn",
        "tokens": words,
        "source_tokens": source_words,
        "source_spans": [span(each, source_words) for each in sources or ["x"]],
        "spans": [span(projected, words, score=1.0, source=0)],
        "gold_spans": [span(gold, words)],
        "status": "ok",
    }


def _kinds(*rows: dict[str, Any]) -> list[str]:
    filled = [{**dict.fromkeys(COLUMNS), **row} for row in rows]
    schema = pa.schema([ROW.field(name) for name in COLUMNS])
    often = [{**filled[0], "tokens": ["de", ",", "la"], "spans": [], "gold_spans": []}] * 30
    return [kind for _, kind in wrong([pa.Table.from_pylist([*filled, *often], schema)])]


@pytest.mark.parametrize(
    ("target", "projected", "gold", "kind"),
    [
        ("la Comisión de Pesca", "Pesca", "Comisión de Pesca", "beginning cut"),
        ("Código de Ayudas a Siderurgia", "Código de Ayudas", "Código de Ayudas a Siderurgia", "end cut"),
        ("el ponente von Wogau", "ponente von Wogau", "von Wogau", "taken before"),
        ("von Wogau diputado", "von Wogau diputado", "von Wogau", "taken after"),
        ("de la Unión , no", "la Unión ,", "Unión", "function word"),
        ("el Comité ( CEN ) no", "Comité ( CEN", "Comité ( CEN )", "bracket"),
        ("el Comité ( CEN ) no", "CEN )", "CEN", "bracket"),
        ('el " Sur " no', "Sur", '" Sur "', "bracket"),
        ("la Comisión de Pesca diputado", "Pesca diputado", "Comisión de Pesca", "other"),
    ],
)
def test_every_kind(target: str, projected: str, gold: str, kind: str) -> None:
    assert _kinds(_row(target, projected, gold)) == [kind]


def test_coordinated_names_come_first() -> None:
    found = _row(
        "Fondos estructurales y de cohesión",
        "estructurales",
        "Fondos estructurales",
        ["Structural", "Cohesion Funds"],
        "Structural and Cohesion Funds",
    )
    assert _kinds(found) == ["coordination"]
    found["source_spans"][1]["label"] = "LOC"
    assert _kinds(found) == ["beginning cut"]


def test_right_boundaries_and_other_labels_are_no_errors_of_boundaries() -> None:
    other = _row("la Comisión de Pesca", "Pesca", "Comisión de Pesca")
    other["gold_spans"][0]["label"] = "LOC"
    assert _kinds(_row("la Comisión", "Comisión", "Comisión"), other) == []


def test_the_table_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = _row("la Comisión de Pesca", "Pesca", "Comisión de Pesca")
    run = finished(tmp_path / "run", {"spa_Latn": [row]})
    script = Path(__file__).parents[2] / "jobs/boundary_errors.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(run), "--show"])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["| kind | spa, run |", "|---|---:|"]
    assert printed[2 : 2 + len(KINDS)] == [f"| {kind} | {int(kind == 'beginning cut')} |" for kind in KINDS]
    assert printed[2 + len(KINDS)] == "| all | 1 |"
    assert printed[-1] == f"{run} spa_Latn 0, beginning cut: 'x' -> 'Pesca', gold 'Comisión de Pesca'"
