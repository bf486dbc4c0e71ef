"""Rows of a run, harmless and hostile, and the page that is made of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from made_rows import table_from_rows

from xner_ray.data.row import row_schema
from xner_ray.evaluate import scores as evaluation
from xner_ray.report import page
from xner_ray.report.page import charts, sampling
from xner_ray.run.counters import summarize
from xner_ray.run.parts import count

LABELS = ["LOC", "PER", "<b>|x"]
EVIL = [
    "<script>window.hurt=1</script>",
    "</script><img/src=x/onerror=window.hurt=1>",
    "</style><svg/onload=window.hurt=1>",
    '"onmouseover="window.hurt=1',
    "'><a/href='javascript:window.hurt=1'>",
    "<!--",
    "]]>{{7*7}}{%raw%}",
    "&lt;b&gt;&amp;",
    "abc\u202edef\u2066",
    "x\u2028y\u0007",
]


def row_of(number: int, lang: str = "spa_Latn", **cells: Any) -> dict[str, Any]:
    """Two words on either side, the first one a person, projected with score 0.9."""
    row = {
        "row": number,
        "id": f"s{number}",
        "split": "train",
        "source_lang": "eng_Latn",
        "lang": lang,
        "source_text": "Ada came",
        "source_tokens": ["Ada", "came"],
        "source_offsets": [{"start": 0, "end": 3}, {"start": 4, "end": 8}],
        "source_spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0}],
        "text": "vino Ada",
        "tokens": ["vino", "Ada"],
        "offsets": [{"start": 0, "end": 4}, {"start": 5, "end": 8}],
        "links": [
            {"source": 0, "target": 1, "forward": 0.9, "backward": 0.9, "cosine": 0.9, "methods": 1},
            {"source": 1, "target": 0, "forward": 0.1, "backward": 0.7, "cosine": 0.9, "methods": 1},
            {"source": 1, "target": 1, "forward": 0.1, "backward": 0.1, "cosine": 0.1, "methods": 0},
        ],
        "flags": [],
        "spans": [{"start": 1, "end": 2, "label": "PER", "score": 0.9, "source": 0}],
        "unprojected": [],
        "complete": True,
        "objective": 0.9,
        "optimal": True,
        "solver": "independent",
        "status": "ok",
    }
    return {**row, **cells}


def rejected_row(number: int, lang: str = "spa_Latn", **cells: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("source_tokens", "source_offsets", "source_spans", "tokens", "offsets", "links", "spans"))
    given = {"status": "rejected", "reason": "malformed", "detail": "no tab", "complete": None, "unprojected": None}
    return row_of(number, lang, **{**nothing, "text": None, **given, **cells})


def lost_row(number: int, **cells: Any) -> dict[str, Any]:
    return row_of(
        number, **{"spans": [], "unprojected": [{"source": 0, "reason": "low_score"}], "complete": False, **cells}
    )


def tables_of(rows: Sequence[dict[str, Any]], size: int = 7) -> list[pa.Table]:
    schema = row_schema()
    return [table_from_rows(rows[at : at + size], schema) for at in range(0, len(rows), size)]


def page_of(tables: Sequence[pa.Table], languages: Sequence[str] = (), **about: Any) -> str:
    found = sorted({*languages, *(lang for table in tables for lang in table.column("lang").to_pylist())})
    sample = sampling.Sample(found)

    def seen() -> Iterator[pa.Table]:
        for table in tables:
            table = table.select(sampling.COLUMNS)
            sample.add(table)
            yield table

    evaluations = evaluation.evaluate(seen(), samples=50)
    stages = {"align": {"rows": 1, "seconds": 2.0, "tokens": 9, "model_seconds": 1.0, "rejects": {}}}
    parts = [
        (lang, {**count(table.filter([x == lang for x in table.column("lang").to_pylist()])), "stages": stages})
        for table in tables
        for lang in sorted(set(table.column("lang").to_pylist()))
    ]
    options: dict[str, Any] = {"labels": LABELS, "dropped": {"<i>DATE": 3}, "repaired_tags": 0}
    report = summarize(parts, seconds=1.0, max_reject_rate=1.0, **options)
    given = {"name": "run<1>", "facts": [("input", ["a.conll (conll)"])], "sealed": True, "units_done": 2, "units": 2}
    given |= {"rows_looked_at": sample.rows, "units_looked_at": 2, **about}
    drivers = charts.drivers([(100.0, {"a": 110.0, "b": 130.0}), (500.0, {"c": 520.0})], {"a": 10, "b": 10, "c": 40})
    return page.render(page.About(**given), report, evaluations, sample, drivers).decode()


def hostile_rows() -> list[dict[str, Any]]:
    rows = []
    for number, evil in enumerate(EVIL):
        lost = [{"source": 0, "reason": "overlap"}] if number % 2 else []
        spans = [] if lost else [{"start": 0, "end": 1, "label": "<b>|x", "score": 0.5, "source": 0}]
        cells = {"source_text": evil, "source_tokens": [evil], "source_offsets": [{"start": 0, "end": len(evil)}]}
        cells |= {
            "text": evil,
            "tokens": [evil],
            "offsets": [{"start": 0, "end": len(evil)}],
            "id": evil,
            "split": evil,
        }
        cells |= {"source_spans": [{"start": 0, "end": 1, "label": "<b>|x", "score": 0.4}], "spans": spans}
        cells |= {"unprojected": lost, "flags": [evil], "gold_spans": [{"start": 0, "end": 1, "label": "PER"}]}
        cells |= {"links": [{"source": 0, "target": 0, "forward": 1.0, "backward": 1.0, "cosine": 1.0, "methods": 1}]}
        rows.append(row_of(number, complete=not lost, **cells))
    return [*rows, *(rejected_row(20 + n, detail=evil, source_text=evil, id=evil) for n, evil in enumerate(EVIL))]
