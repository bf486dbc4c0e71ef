"""Runs with all their parts made by hand, whose tasks run in this process, and drivers that are killed."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_rows import table_from_rows

from xner_ray.data.links import METHODS
from xner_ray.data.row import row_schema
from xner_ray.engine import second_pass
from xner_ray.match.prior import LEAST_ROWS
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Unit, unit_name
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage

Row = dict[str, Any]
SOFT = ["match.scores={soft: 1.0}", "match.min_score=0.6"]
NONE = [*SOFT, "match.prior=none"]
ITERMAX, MWMF = (1 << METHODS.index(name) for name in ("itermax", "mwmf"))


def link_of(source: int, target: int, p: float = 1.0, methods: int = ITERMAX) -> Row:
    return {"source": source, "target": target, "forward": p, "backward": p, "cosine": 0.9, "methods": methods}


def row_of(source: str, target: str, start: int, links: list[Row], gold: int = 0, **cells: Any) -> Row:
    """The last words of the source from `start` on are an entity; the words of the target from `gold` on are gold."""
    row: Row = {"source_tokens": source.split(), "tokens": target.split(), "links": links}
    row["source_spans"] = [{"start": start, "end": len(row["source_tokens"]), "label": "PER", "score": 1.0}]
    row["gold_spans"] = [{"start": gold, "end": len(row["tokens"]), "label": "PER"}]
    return {**row, **cells}


def rows_of(n: int) -> list[Row]:
    """`of the` and `de` are frequent. Entities of three rows: found at once, by the second matching alone, no more."""
    rows = [row_of(f"of the Bob{i % 7}", f"de Bob{i}", 2, [link_of(2, 1)], gold=1) for i in range(n - 4)]
    rows.insert(3, row_of("of the Rhine", "Rin", 0, [link_of(2, 0)]))  # 2/4 without a prior, 2/2.2 with one
    rows.insert(5, row_of("the Y", "de Ypsilon", 0, [link_of(0, 0), link_of(1, 1, 0.3)]))  # mostly two frequent words
    rows.insert(7, row_of("the Ruhr", "de Ruhr", 0, [link_of(0, 0, 0.4), link_of(1, 1)], gold=1))
    rows.append({"status": "rejected", "reason": "illegal_tag", "detail": "x"})
    return rows


ROWS = {"spa_Latn": rows_of(LEAST_ROWS + 14), "swh_Latn": rows_of(LEAST_ROWS - 20)}
SPANISH = {"spa_Latn": ROWS["spa_Latn"]}


def make_run(path: Path, overrides: Sequence[str] = (), rows: dict[str, list[Row]] = ROWS, unit_rows: int = 32) -> Path:
    """A run with all its parts, as the first matching leaves them; not sealed."""
    recipe = recipe_of(list(rows), overrides)
    folder = RunFolder(str(path))
    units = []
    for lang, own in rows.items():
        for start in range(0, len(own), unit_rows):
            stop = min(len(own), start + unit_rows)
            name = unit_name(lang, start)
            units.append(Unit(name, lang, "train", start, stop, None, (), (), (), 0))
    keys = {f"parallel {lang} /nowhere/{lang}": "3-4" for lang in rows}
    keys |= {"input file a": "1-2", "align.method": recipe.align.method}
    sizes, sink = {lang: len(own) for lang, own in rows.items()}, io.BytesIO()
    pq.write_table(Index(units, ["PER"], {}, {}, sizes, sizes, 0, [], unit_rows).to_table(), sink)
    folder.begin(recipe, keys, sink.getvalue(), unit_rows)
    for unit in units:
        own = rows[unit.lang][unit.start : unit.stop]
        cells = [{"row": n, "id": f"s{n}", "lang": unit.lang, **row} for n, row in enumerate(own, start=unit.start)]
        raw, part = (folder.path("_run", "parts", attempt, f"{unit.name}.parquet") for attempt in ("0000", "0001"))
        stages = {"align": {"rows": len(cells), "seconds": 1.0, "tokens": 5, "rejects": {}}}
        part_files.write_part(raw, table_from_rows(cells, row_schema()), {"stages": stages})
        second_pass.match_parts([(raw, part)], recipe, ["PER"])
    return path


def recipe_of(langs: list[str], overrides: Sequence[str] = ()) -> Recipe:
    section = {"path": "/nowhere/a.conll", "labels": {"keep": ["PER"]}, "parallel": {x: f"/nowhere/{x}" for x in langs}}
    return load_recipe({"input": section, "targets": langs, "engine": {"executor": "inline"}}, overrides)


def one_by_one(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [function(*call) for call in zip(*arguments, strict=True)]


def digests(run: Path) -> dict[str, Any]:
    """All that a run publishes, without times."""
    files = [*run.glob("data/*/*"), *run.glob("rejects/*/*"), run / "README.md"]
    found: dict[str, Any] = {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    report, sealed = (json.loads((run / name).read_text()) for name in ("report.json", "_run/SEALED"))
    assert all(found[entry["file"]] == entry["sha256"] for entry in sealed["files"])
    for counters in (report, *report["stages"].values()):
        counters.update(seconds=None, model_seconds=None, rows_per_second=None)
    report.update(began=None, finished=None)
    return {**found, "report": report, "sealed": sealed["files"]}


class Killed(BaseException):
    pass


def killed_again(monkeypatch: pytest.MonkeyPatch, command: Callable[[], Any]) -> Iterator[int]:
    """Run `command` again and again, killed just before its n-th change of a file, until it comes through."""
    for n in count():
        calls = count(-n)

        def change(real: Callable[..., None], *args: Any, calls: Iterator[int] = calls) -> None:
            if next(calls) >= 0:
                raise Killed
            real(*args)

        with monkeypatch.context() as patch:
            for name in ("publish", "delete"):
                patch.setattr(storage, name, partial(change, getattr(storage, name)))
            try:
                return command()
            except Killed:
                pass
        yield n
