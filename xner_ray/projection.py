"""Projecting a table of rows: links and source spans in, target spans out, without a Python loop over rows.

    rows --read--> Problem, Links --candidates, scores--> Scored --match--> spans, unprojected, objective, ...

A pure function of (row, prior): batches, workers and order change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray import candidates, heuristic, match, scores
from xner_ray.errors import Loss, RecipeError
from xner_ray.links import Links
from xner_ray.prior import Prior, Spans, Words
from xner_ray.problem import Ints, Problem
from xner_ray.recipe import Match
from xner_ray.schema import OK, ROW

READS = ("status", "source_tokens", "tokens", "source_spans", "links", "unprojected", "spans")
WRITES = ("spans", "unprojected", "complete", "objective", "optimal", "solver")

EDGES = "edges"
BOUNDS = {"soft": 1.0, "align": 1.0, EDGES: 2.0}
"""The most that a score gives (of `align` what one-to-one links give): fused scores are divided by what is possible."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What projecting reads of some rows. `source`: place of each entity in its row's source_spans."""

    problem: Problem
    links: Links
    source: Ints
    labels: pa.Array  # of all source spans
    span: Ints  # each entity's place in `labels`
    aside: tuple[Ints, Ints, list[str]]  # row, place and reason of the spans that reading has set aside
    live: np.ndarray[Any, np.dtype[np.bool_]]
    source_tokens: pa.Array
    tokens: pa.Array
    earlier: tuple[Ints, Ints, Ints]  # row, start and end of the spans that the rows hold now

    @cached_property
    def words(self) -> dict[str, Words]:
        return {"source": Words(self.source_tokens), "target": Words(self.tokens)}


def read(table: pa.Table) -> Rows:
    """`READS` of a table. Rejected rows have no entities."""
    column = {name: _whole(table.column(name)) for name in READS}
    live = pc.equal(column["status"], OK).to_numpy(zero_copy_only=False)
    row, source, spans = _flat(column["source_spans"])
    lost_row, _, lost = _flat(column["unprojected"])
    reasons = lost.field("reason")
    early = pc.is_in(reasons, value_set=pa.array([Loss.NESTED, Loss.OVERLAPPING_SPAN])).to_numpy(zero_copy_only=False)
    aside = (lost_row[early], _ints(lost.field("source"))[early], reasons.filter(pa.array(early)).to_pylist())
    base = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(live)))])
    kept = live[row]
    kept[base[aside[0]] + aside[1]] = False
    index = np.flatnonzero(kept)
    problem = Problem(
        n_source=_lengths(column["source_tokens"]),
        n_target=_lengths(column["tokens"]),
        row=row[index],
        start=_ints(spans.field("start"))[index],
        end=_ints(spans.field("end"))[index],
    )
    links = Links.from_arrow(column["links"])
    earlier_row, _, earlier = _flat(column["spans"])
    return Rows(
        problem=problem,
        links=links.take(live[links.row]) if not live.all() else links,
        source=source[index],
        labels=spans.field("label"),
        span=index,
        aside=(aside[0], aside[1], aside[2]),
        live=live,
        source_tokens=column["source_tokens"],
        tokens=column["tokens"],
        earlier=(earlier_row, _ints(earlier.field("start")), _ints(earlier.field("end"))),
    )


def project(table: pa.Table, settings: Match, method: str, prior: Prior | None) -> pa.Table:
    """The rows with `WRITES` filled; rejected rows as they are.

    settings: the recipe's section `match`. method: the hard method whose links count where hard links do.
    prior: counts of a finished first projection of these rows, or None; with it the rows hold that one's spans.
    """
    rows = read(table)
    if settings.solver == "heuristic":
        solution = _heuristic(rows, settings, method)
    else:
        scored = score(rows, settings, method, prior)
        solution = solve(scored, rows, settings)
    for name, values in _columns(rows, solution).items():
        position = table.schema.get_field_index(name)
        if not rows.live.all():
            values = pc.if_else(pa.array(rows.live), values, _whole(table.column(name)))
        table = table.set_column(position, table.schema.field(position), values)
    return table


def score(rows: Rows, settings: Match, method: str, prior: Prior | None) -> scores.Scored:
    """Candidates of all rows with their fused scores, in shares of the most that the weights allow (`BOUNDS`)."""
    problem, links = rows.problem, rows.links
    weights: dict[str, float] = {name: weight for name, weight in settings.scores.items() if prior or name != EDGES}
    if not weights:
        raise RecipeError("match.scores has edges alone, which needs a prior and another score beside it")
    hard = links.hard(method)
    mass: dict[str, Ints] = {"align": problem.spread(hard, np.ones(len(hard), dtype=np.int64))}
    forward, backward = (np.rint(p * float(scores.SCALE)).astype(np.int64) for p in (links.forward, links.backward))
    by_word: tuple[Ints, Ints] | None = None
    if prior is not None:
        by_word = (prior.weights("source", rows.words["source"]), prior.weights("target", rows.words["target"]))
        forward = forward * by_word[0][problem.source_base[links.row] + links.source]
        backward = backward * by_word[1][problem.target_base[links.row] + links.target]
    mass["soft"] = problem.spread(links, forward + backward)
    inside = sum(mass[name] for name in mass if name in weights)
    spans = _candidates(problem, np.asarray(inside), settings, margin=EDGES in weights)
    found = {}
    if "align" in weights:
        found["align"] = scores.alignment(problem, spans, mass["align"])
    if "soft" in weights:
        found["soft"] = scores.soft(problem, spans, mass["soft"], by_word)
    if EDGES in weights and prior is not None:
        left, right = prior.edges(rows.words["target"], Spans(*rows.earlier, rows.words["target"]))
        found[EDGES] = scores.edges(problem, spans, left, right)
    most = sum(weight * BOUNDS[name] for name, weight in weights.items())
    shares = {name: weight / most for name, weight in weights.items()}
    thresholds: dict[str, float] = dict(settings.thresholds.items())
    return scores.fuse(spans, found, shares, thresholds, min_score=settings.min_score)


def solve(scored: scores.Scored, rows: Rows, settings: Match) -> match.Solution:
    """The matching of all rows."""
    return match.solve(
        scored,
        row=rows.problem.row,
        n_rows=rows.problem.n_rows,
        per_entity=settings.per_entity,
        solver="greedy" if settings.solver == "greedy" else "exact",
        time_limit_s=settings.time_limit_s,
    )


def _candidates(problem: Problem, mass: Ints, settings: Match, *, margin: bool) -> candidates.Candidates:
    """A word without mass at an end lowers every score but that of edges, which may ask for one more."""
    max_words = settings.max_words
    if settings.candidates == "ngram":
        return candidates.ngrams(problem, max_words=max_words)
    if settings.candidates == "runs":
        return candidates.runs(problem, mass, max_words=max_words)
    return candidates.windows(problem, mass, max_words=max_words, margin=int(margin))


def _heuristic(rows: Rows, settings: Match, method: str) -> match.Solution:
    """The baseline's projections, in the shape of a matching; a projection has score 1."""
    found = heuristic.project(
        rows.problem, rows.links.hard(method), heuristic.Settings(**settings.heuristic.model_dump())
    )
    chosen = scores.Scored(found.entity, found.start, found.end, np.full(len(found), scores.SCALE, dtype=np.int64))
    order = np.lexsort((found.start, rows.problem.row[found.entity]))
    chosen = scores.Scored(chosen.entity[order], chosen.start[order], chosen.end[order], chosen.score[order])
    names = np.full(rows.problem.n_rows, "none", dtype=object)
    names[rows.problem.row] = "heuristic"
    return match.Solution(
        chosen=chosen,
        objective=np.bincount(rows.problem.row[chosen.entity], minlength=rows.problem.n_rows).astype(np.float64),
        optimal=np.zeros(rows.problem.n_rows, dtype=np.bool_),
        solver=names.tolist(),
        unprojected=list(zip(found.unprojected.tolist(), found.reasons, strict=True)),
    )


def _columns(rows: Rows, solution: match.Solution) -> dict[str, pa.Array]:
    """The columns `WRITES` of every row."""
    problem, chosen = rows.problem, solution.chosen
    spans = _lists(
        "spans",
        problem.row[chosen.entity],
        problem.n_rows,
        {
            "start": chosen.start,
            "end": chosen.end,
            "label": rows.labels.take(pa.array(rows.span[chosen.entity])),
            "score": (chosen.score / scores.SCALE).astype(np.float32),
            "source": rows.source[chosen.entity],
        },
    )
    lost = np.array([entity for entity, _ in solution.unprojected], dtype=np.int64)
    row = np.concatenate([rows.aside[0], problem.row[lost]])
    source = np.concatenate([rows.aside[1], rows.source[lost]])
    reasons = pa.array([*rows.aside[2], *(str(loss) for _, loss in solution.unprojected)], pa.string())
    order = np.lexsort((source, row))
    unprojected = _lists(
        "unprojected", row[order], problem.n_rows, {"source": source[order], "reason": reasons.take(pa.array(order))}
    )
    return {
        "spans": spans,
        "unprojected": unprojected,
        "complete": pa.array(np.bincount(row, minlength=problem.n_rows) == 0),
        "objective": pa.array(np.round(solution.objective, 4)),
        "optimal": pa.array(solution.optimal),
        "solver": pa.array(solution.solver, pa.string()),
    }


def _lists(name: str, row: Ints, n_rows: int, fields: dict[str, Any]) -> pa.Array:
    """A list<struct> column from flat fields whose rows ascend."""
    kind = ROW.field(name).type
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int32)
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values).cast(kind.value_type.field(field).type)
        for field, values in fields.items()
    ]
    values = pa.StructArray.from_arrays(arrays, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _lengths(lists: pa.Array) -> Ints:
    result: Ints = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return result


def _flat(lists: pa.Array) -> tuple[Ints, Ints, pa.StructArray]:
    """Row of each element, its place in the row's list, and the elements."""
    lengths = _lengths(lists)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return row, place, lists.flatten()


def _ints(values: pa.Array) -> Ints:
    result: Ints = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return result
