"""Combine several runs over the same target text: join their spans row by row, weighted by their scores.

`union` keeps the spans of all runs; where some share words, the choice with the largest sum of weight x score stays,
equal spans of several runs adding up: weighted interval scheduling, by the matcher. So a run fills gaps of the others.

`vote` decides word by word. Each run votes for its tag of the word, with weight x the span's score, or with its whole
weight for O; the tag with the most votes wins, O among equals. Two runs of equal weight keep what both have; with three
runs, two win.

A combined span's score is the share of all weights behind it: in 0..1, and 1 where every run is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from xner_ray.data.row import OK, SCALE, fill, span_cells
from xner_ray.data.spans import Span, spans_to_tags, tags_to_spans
from xner_ray.errors import Loss, RunFolderError
from xner_ray.match.scores import Scored
from xner_ray.match.solver import solve_batch
from xner_ray.run import parts as part_files

Method = Literal["union", "vote"]
_COLUMNS = ("row", "id", "lang", "tokens", "status", "source_spans", "spans", "unprojected")


def combine(tables: Sequence[pa.Table], weights: Sequence[float], method: Method) -> pa.Table:
    """Return the rows of the first run with the spans of all.

    tables: the same rows of each run, in the same order. weights: one per run, above 0. If some runs rejected a row,
    the first other run gives the row, and all other runs the spans. A span's `source` is that of an equal span in a
    run, else null; `unprojected` and `complete` list entities that a run projects or lists and the joined spans lack.
    These columns count only runs that have the row's own entities. RunFolderError if rows or words differ; ValueError
    for fewer than two runs or a weight that is not above 0.
    """
    if len(tables) < 2 or len(weights) != len(tables) or not all(weight > 0 for weight in weights):
        raise ValueError(
            f"{len(tables)} runs and the weights {list(weights)}; allowed: 2 or more, one above 0 for each"
        )
    runs = [table.select(_COLUMNS).to_pylist() for table in tables]
    if len({len(run) for run in runs}) > 1:
        raise RunFolderError(
            f"the runs have {', '.join(str(len(run)) for run in runs)} rows in one unit; combine equals"
        )
    taken, cells, lost = [], {}, {}
    for index, rows in enumerate(zip(*runs, strict=True)):
        alive = [number for number, row in enumerate(rows) if row["status"] == OK]
        _refuse_others(rows, alive)
        taken.append((alive or [0])[0] * len(runs[0]) + index)
        if alive:
            total = sum(weights[number] for number in alive)
            votes = [(weights[number] / total, rows[number]["spans"]) for number in alive]
            same = _of_equal_entities([rows[number] for number in alive])
            cells[index] = _joined(votes, same, len(rows[alive[0]]["tokens"]), method)
            lost[index] = _lost(same, cells[index])
    table = pa.concat_tables(tables).take(pa.array(taken, pa.int64()))
    return fill(
        table,
        {
            "spans": cells,
            "unprojected": lost,
            "complete": {index: not losses for index, losses in lost.items()},
            "objective": {index: round(sum(span["score"] for span in spans), 4) for index, spans in cells.items()},
            "optimal": dict.fromkeys(cells, False),
            "solver": {index: method if spans else "none" for index, spans in cells.items()},
        },
    )


def combine_parts(
    jobs: Sequence[tuple[Sequence[str], str]],
    weights: Sequence[float],
    method: Method,
    labels: Sequence[str],
    reject_incomplete: bool,
) -> None:
    """Combine units of several runs into one part each. jobs: (parts of the runs, output) of each unit."""
    for parts, output in jobs:
        table = combine([part_files.read_part(part) for part in parts], weights, method)
        table = part_files.finish(table, labels, reject_incomplete=reject_incomplete)
        part_files.write_part(output, table, {**part_files.count(table), "stages": {}})


def _of_equal_entities(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of one sentence's rows in which `source` means the same as in the first."""

    def entities(row: Mapping[str, Any]) -> list[tuple[int, int, str]] | None:
        spans = row["source_spans"]
        return None if spans is None else [(s["start"], s["end"], s["label"]) for s in spans]

    own = entities(rows[0])
    return [rows[0], *(row for row in rows[1:] if own is not None and entities(row) == own)]


def _lost(rows: Sequence[Mapping[str, Any]], spans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Return cells of `unprojected`: entities that a row projects or lists, and the joined spans lack.

    A joined span without a source stands for every entity of its label that a row projects onto one of its words.
    """
    reasons: dict[int, str] = {}
    places: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        for loss in row["unprojected"] or ():
            reasons.setdefault(loss["source"], loss["reason"])
        for place in row["spans"]:
            if place["source"] is not None:
                places.setdefault(place["source"], []).append(place)

    def there(source: int) -> bool:
        return any(
            span["source"] == source
            or (
                span["source"] is None
                and any(
                    span["label"] == p["label"] and span["start"] < p["end"] and p["start"] < span["end"]
                    for p in places.get(source, ())
                )
            )
            for span in spans
        )

    lost = [
        {"source": source, "reason": reasons.get(source, str(Loss.OUTVOTED))}
        for source in sorted({*reasons, *places})
        if not there(source)
    ]
    return None if rows[0]["unprojected"] is None and not lost else lost


def _joined(
    votes: Sequence[tuple[float, Sequence[Mapping[str, Any]]]],
    same: Sequence[Mapping[str, Any]],
    n_words: int,
    method: Method,
) -> list[dict[str, Any]]:
    runs = [(weight, [Span(s["start"], s["end"], s["label"], s["score"]) for s in spans]) for weight, spans in votes]
    source = {(s["start"], s["end"], s["label"]): s["source"] for row in reversed(same) for s in row["spans"]}
    spans = union(runs) if method == "union" else vote(runs, n_words)
    return span_cells(spans, [source.get((s.start, s.end, s.label)) for s in spans])


def union(runs: Sequence[tuple[float, Sequence[Span]]]) -> list[Span]:
    """Return disjoint spans with the largest sum of weights x scores; ties as in `solver`, labels by name.

    >>> union([(0.5, [Span(0, 2, "PER", 0.9)]), (0.5, [Span(1, 3, "LOC", 0.8), Span(5, 6, "LOC", 1.0)])])
    [Span(start=0, end=2, label='PER', score=0.45), Span(start=5, end=6, label='LOC', score=0.5)]
    """
    sums: dict[tuple[str, int, int], float] = {}
    for weight, spans in runs:
        for span in spans:
            key = (span.label, span.start, span.end)
            sums[key] = sums.get(key, 0.0) + weight * span.score
    scores = {key: max(1, round(value * SCALE)) for key, value in sums.items()}  # at 0 the matcher would drop it
    keys = sorted(scores)
    if not keys:
        return []
    labels = sorted({label for label, _, _ in keys})
    scored = Scored(
        np.array([labels.index(label) for label, _, _ in keys], dtype=np.int32),
        np.array([start for _, start, _ in keys], dtype=np.int32),
        np.array([end for _, _, end in keys], dtype=np.int32),
        np.array([scores[key] for key in keys], dtype=np.int64),
    )
    chosen = solve_batch(scored, row=np.zeros(len(labels), dtype=np.int64), n_rows=1, per_entity=">=0").chosen
    columns = (chosen.start.tolist(), chosen.end.tolist(), chosen.entity.tolist(), chosen.score.tolist())
    return [Span(start, end, labels[label], score / SCALE) for start, end, label, score in zip(*columns, strict=True)]


def vote(runs: Sequence[tuple[float, Sequence[Span]]], n_words: int) -> list[Span]:
    """Return the spans of the tags that get the most votes; an I- that continues nothing begins a span.

    >>> first, second = [Span(0, 2, "PER", 0.9)], [Span(0, 2, "PER", 0.8), Span(3, 4, "LOC", 1.0)]
    >>> vote([(0.5, first), (0.5, second)], 5)
    [Span(start=0, end=2, label='PER', score=0.85)]
    """
    votes: list[dict[str, float]] = [{} for _ in range(n_words)]
    for weight, spans in runs:
        share = np.full(n_words, weight)
        for span in spans:
            share[span.start : span.end] = weight * span.score
        for word, tag in enumerate(spans_to_tags(list(spans), n_words)):
            votes[word][tag] = votes[word].get(tag, 0.0) + float(share[word])
    best = [max(word, key=lambda tag: (round(word[tag], 4), tag == "O", tag)) for word in votes]
    found, _ = tags_to_spans(best)
    behind = [
        sum(score for other, score in word.items() if other[1:] == tag[1:])
        for word, tag in zip(votes, best, strict=True)
    ]
    return [replace(s, score=round(float(np.mean(behind[s.start : s.end])), 4)) for s in found]


def _refuse_others(rows: Sequence[Mapping[str, Any]], alive: Sequence[int]) -> None:
    """Raise RunFolderError unless these rows are one sentence in several runs."""
    for name, of in (
        ("row", range(len(rows))),
        ("lang", range(len(rows))),
        ("id", range(len(rows))),
        ("tokens", alive),
    ):
        if len({repr(rows[number][name]) for number in of}) > 1:
            shown = ", ".join(repr(rows[number][name])[:80] for number in of)
            raise RunFolderError(
                f"row {rows[0]['row']} ({rows[0]['id']}) has another {name} in another run: {shown}; combine runs over "
                "the same target text"
            )
