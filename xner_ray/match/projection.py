"""Projecting a table of rows: links and source spans in, target spans out, without a Python loop over rows.

    rows --read--> EntityBatch, Links --candidates, scores--> Scored --match--> spans, unprojected, objective, ...

A pure function of (row, prior): batches, workers and order change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data import row as data_row
from xner_ray.data.arrow import Ints, flat, ints, lengths, nested_structs
from xner_ray.data.links import Links
from xner_ray.data.row import OK, ROW
from xner_ray.errors import BEFORE_MATCHING, Loss, RecipeError
from xner_ray.match import candidates, heuristic, scores, solver
from xner_ray.match.batch import EntityBatch
from xner_ray.match.cells import Tags, read_scores, read_tags
from xner_ray.match.prior import Prior, Spans, Words
from xner_ray.recipe.sections import THRESHOLDS, Match

READS = (
    *("status", "source_tokens", "tokens", "source_spans", "links", "unprojected", "spans"),
    *("bridge_tokens", "bridge_spans", "target_tags", "evidence"),
)
WRITES = ("spans", "unprojected", "complete", "objective", "optimal", "solver")

EDGES = "edges"
BOUNDS = {"soft": 1.0, "align": 1.0, "tagger": 1.0, "tagger_spans": 1.0, "likelihood": 1.0, EDGES: 2.0}
"""The most that a score gives (of `align` what one-to-one links give, of the tagger's what alpha 1 gives): fused scores
are divided by what is possible. A plug-in's gives 1."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What projecting reads of some rows. `source`: place of each entity in its row's source_spans.

    A row with bridge_spans starts from the back-translation: its source words and entities are those of the bridge.
    """

    batch: EntityBatch
    links: Links
    source: Ints
    labels: pa.Array  # of each entity
    aside: tuple[Ints, Ints, list[str]]  # row, place and reason of the spans that never reached the matching
    accepted: np.ndarray[Any, np.dtype[np.bool_]]
    source_tokens: pa.Array
    tokens: pa.Array
    earlier: tuple[Ints, Ints, Ints]  # row, start and end of the spans that the rows hold now
    target_tags: pa.Array
    evidence: pa.Array

    @cached_property
    def words(self) -> dict[str, Words]:
        return {"source": Words(self.source_tokens), "target": Words(self.tokens)}

    @cached_property
    def tags(self) -> Tags:
        return read_tags(self.target_tags, self.batch)


def read(table: pa.Table) -> Rows:
    """`READS` of a table. Rejected rows have no entities."""
    column = {name: _whole(table.column(name)) for name in READS}
    accepted_rows = pc.equal(column["status"], OK).to_numpy(zero_copy_only=False)
    source_tokens, row, source, spans = _source_side(column)
    lost_row, _, lost = flat(column["unprojected"])
    reasons = lost.field("reason")
    early = pc.is_in(reasons, value_set=pa.array(BEFORE_MATCHING)).to_numpy(zero_copy_only=False)
    aside = (lost_row[early], ints(lost.field("source"))[early], reasons.filter(pa.array(early)).to_pylist())
    most = 1 + max(int(source.max(initial=0)), int(aside[1].max(initial=0)))
    kept = accepted_rows[row] & ~np.isin(row * most + source, aside[0] * most + aside[1])
    batch = EntityBatch(
        n_source=lengths(source_tokens),
        n_target=lengths(column["tokens"]),
        row=row[kept],
        start=ints(spans.field("start"))[kept],
        end=ints(spans.field("end"))[kept],
    )
    links = Links.from_arrow(column["links"])
    earlier_row, _, earlier = flat(column["spans"])
    return Rows(
        batch=batch,
        links=links.take(accepted_rows[links.row]) if not accepted_rows.all() else links,
        source=source[kept],
        labels=spans.field("label").filter(pa.array(kept)),
        aside=(aside[0], aside[1], aside[2]),
        accepted=accepted_rows,
        source_tokens=source_tokens,
        tokens=column["tokens"],
        earlier=(earlier_row, ints(earlier.field("start")), ints(earlier.field("end"))),
        target_tags=column["target_tags"],
        evidence=column["evidence"],
    )


def _source_side(column: dict[str, pa.Array]) -> tuple[pa.Array, Ints, Ints, pa.StructArray]:
    """Source words; row and place in source_spans of each entity; the entities. Of the bridge where there is one."""
    tokens, bridge = column["source_tokens"], column["bridge_spans"]
    row, source, spans = flat(column["source_spans"])
    if bridge.null_count == len(bridge):
        return tokens, row, source, spans
    bridged = bridge.is_valid()
    tokens = pc.if_else(bridged, column["bridge_tokens"], tokens)
    direct = ~bridged.to_numpy(zero_copy_only=False)[row]
    bridge_row, _, bridge_spans = flat(bridge)
    row = np.concatenate([row[direct], bridge_row])
    order = np.argsort(row, kind="stable")
    source = np.concatenate([source[direct], ints(bridge_spans.field("source"))])
    fields = ("start", "end", "label")
    both = [pa.concat_arrays([s.field(f) for s in (spans.filter(pa.array(direct)), bridge_spans)]) for f in fields]
    return tokens, row[order], source[order], pa.StructArray.from_arrays(both, fields).take(pa.array(order))


def project(table: pa.Table, settings: Match, method: str, prior: Prior | None) -> pa.Table:
    """The rows with `WRITES` filled; rejected rows as they are.

    settings: the recipe's section `match`. method: the hard method whose links count where hard links do.
    prior: counts of a finished first projection of these rows, or None; with it the rows hold that one's spans.
    """
    rows = read(table)
    if settings.solver == "heuristic":
        solution = _heuristic(rows, settings, method)
    else:
        _, solution = matched(rows, settings, method, prior)
    for name, values in _columns(rows, solution).items():
        position = table.schema.get_field_index(name)
        if not rows.accepted.all():
            values = pc.if_else(pa.array(rows.accepted), values, _whole(table.column(name)))
        table = table.set_column(position, table.schema.field(position), values)
    return table


def matched(rows: Rows, settings: Match, method: str, prior: Prior | None) -> tuple[scores.Scored, solver.Solution]:
    """The cells that score more than `min_score`, and the matching of them."""
    offered = score(rows, settings, method, prior)
    scored = scores.above(offered, settings.min_score)
    solution = solve(scored, rows, settings)
    low = np.zeros(len(rows.batch), dtype=np.bool_)
    low[offered.entity] = True
    losses = [
        (entity, Loss.LOW_SCORE if loss == Loss.NO_CANDIDATE and low[entity] else loss)
        for entity, loss in solution.unprojected
    ]
    return scored, replace(solution, unprojected=losses)


def score(rows: Rows, settings: Match, method: str, prior: Prior | None) -> scores.Scored:
    """Candidates of all rows with their fused scores, in shares of the most that the weights allow (`BOUNDS`)."""
    spans, found = measure(rows, settings, method, prior)
    weights = shares(settings, prior)
    return scores.fuse(spans, found, weights, thresholds(settings, weights))


def thresholds(settings: Match, names: Iterable[str]) -> dict[str, float]:
    """What each of these scores must exceed to count: the recipe's, else the method's."""
    found: dict[str, float] = {**THRESHOLDS, **dict(settings.thresholds.items())}
    return {name: at_most for name, at_most in found.items() if name in names}


def shares(settings: Match, prior: Prior | None) -> dict[str, float]:
    """The weight of each score that counts, divided by the most that all of them can give together."""
    weights: dict[str, float] = {name: weight for name, weight in settings.scores.items() if prior or name != EDGES}
    if not weights:
        raise RecipeError("match.scores has edges alone, which needs a prior and another score beside it")
    most = sum(weight * BOUNDS.get(name, 1.0) for name, weight in weights.items())
    return {name: weight / most for name, weight in weights.items()}


def measure(
    rows: Rows, settings: Match, method: str, prior: Prior | None
) -> tuple[candidates.Candidates, dict[str, scores.Floats]]:
    """Candidates of all rows, and every score that counts or filters, one value per candidate."""
    batch, links = rows.batch, rows.links
    names = {*shares(settings, prior), *settings.filters}
    hard = links.hard(method)
    mass: dict[str, Ints] = {"align": batch.spread(hard, np.ones(len(hard), dtype=np.int64))}
    forward, backward = _parts(links)
    by_word: tuple[Ints, Ints] | None = None
    if prior is not None:
        by_word = (prior.weights("source", rows.words["source"]), prior.weights("target", rows.words["target"]))
        forward = forward * by_word[0][batch.source_base[links.row] + links.source]
        backward = backward * by_word[1][batch.target_base[links.row] + links.target]
    mass["soft"] = batch.spread(links, forward + backward)
    # Without a score of links the window is that of the soft ones.
    of_links = [mass[name] for name in mass if name in names] or [mass["soft"]]
    spans = _candidates(rows, np.sum(of_links, axis=0), settings, margin=EDGES in names)
    found = {}
    if "align" in names:
        found["align"] = scores.alignment(batch, spans, mass["align"])
    if "soft" in names:
        found["soft"] = scores.soft(batch, spans, mass["soft"], by_word)
    if EDGES in names and prior is not None:
        left, right = prior.edges(rows.words["target"], Spans(*rows.earlier, rows.words["target"]))
        found[EDGES] = scores.edges(batch, spans, left, right)
    for name in sorted(names - {*BOUNDS} | names & {"likelihood"}):  # models and functions of users
        found[name] = read_scores(rows.evidence, name, batch, rows.source, spans)
    for name in sorted({"tagger", "tagger_spans"} & names):
        found[name] = scores.tagger(
            batch,
            spans,
            rows.tags.probabilities,
            rows.tags.classes(rows.labels) if name == "tagger" else None,
            alpha=settings.tagger.alpha,
            reward=settings.tagger.reward,
        )
    if settings.filters:
        kept = np.all([found[name] > at_most for name, at_most in settings.filters.items()], axis=0)
        spans, found = spans.take(kept), {name: values[kept] for name, values in found.items()}
    return spans, found


def _parts(links: Links) -> tuple[Ints, Ints]:
    """Forward and backward probabilities in ten-thousandths."""
    forward, backward = (np.rint(p * float(data_row.SCALE)).astype(np.int64) for p in (links.forward, links.backward))
    return forward, backward


def every_candidate(rows: Rows, settings: Match, method: str) -> candidates.Candidates:
    """Candidates of all rows under any scores, filters and prior: only `method` and the keys of candidates count."""
    batch, links = rows.batch, rows.links
    hard = links.hard(method)
    align = batch.spread(hard, np.ones(len(hard), dtype=np.int64))
    soft = batch.spread(links, np.add(*_parts(links)))
    # All three, since more links may join runs that had a border at which a candidate begins.
    sets = [_candidates(rows, mass, settings, margin=True) for mass in (align, soft, align + soft)]
    return candidates.union(*sets)


def solve(scored: scores.Scored, rows: Rows, settings: Match) -> solver.Solution:
    """The matching of all rows."""
    return solver.solve_batch(
        scored,
        row=rows.batch.row,
        n_rows=rows.batch.n_rows,
        per_entity=settings.per_entity,
        solver="greedy" if settings.solver == "greedy" else "exact",
        time_limit_s=settings.time_limit_s,
    )


def _candidates(rows: Rows, mass: Ints, settings: Match, *, margin: bool) -> candidates.Candidates:
    """The union of the sets that the recipe names.

    A word without mass at an end lowers every score but that of edges, which may ask for one more: a margin.
    """
    batch, max_words = rows.batch, settings.max_words
    sets = []
    for name in settings.candidates.split("+"):
        if name == "ngram":
            sets.append(candidates.ngrams(batch, max_words=max_words))
        elif name == "runs":
            sets.append(candidates.runs(batch, mass, max_words=max_words))
        elif name == "tagger":
            spans = rows.tags.spans(batch)
            sets.append(candidates.given(batch, spans, sub_ranges=settings.sub_ranges, max_words=max_words))
        else:
            sets.append(candidates.windows(batch, mass, max_words=max_words, margin=int(margin)))
    return sets[0] if len(sets) == 1 else candidates.union(*sets)


def _heuristic(rows: Rows, settings: Match, method: str) -> solver.Solution:
    """Return the baseline's projections in the shape of a matching; a projection has score 1."""
    batch = rows.batch
    found, unprojected = heuristic.project(batch, rows.links.hard(method), **settings.heuristic.model_dump())
    found = found.take(np.lexsort((found.start, batch.row[found.entity])))
    names = np.full(batch.n_rows, "none", dtype=object)
    names[batch.row] = "heuristic"
    return solver.Solution(
        chosen=scores.Scored(found.entity, found.start, found.end, np.full(len(found), data_row.SCALE)),
        objective=np.bincount(batch.row[found.entity], minlength=batch.n_rows).astype(np.float64),
        optimal=np.zeros(batch.n_rows, dtype=np.bool_),
        solver=names.tolist(),
        unprojected=unprojected,
    )


def _columns(rows: Rows, solution: solver.Solution) -> dict[str, pa.Array]:
    """Return the columns `WRITES` of every row."""
    batch, chosen = rows.batch, solution.chosen
    spans = {
        "start": chosen.start,
        "end": chosen.end,
        "label": rows.labels.take(pa.array(chosen.entity)),
        "score": np.minimum(chosen.score / data_row.SCALE, 1.0),
        "source": rows.source[chosen.entity],
    }
    lost = np.array([entity for entity, _ in solution.unprojected], dtype=np.int64)
    row = np.concatenate([rows.aside[0], batch.row[lost]])
    source = np.concatenate([rows.aside[1], rows.source[lost]])
    reasons = pa.array([*rows.aside[2], *(str(loss) for _, loss in solution.unprojected)], pa.string())
    order = np.lexsort((source, row))
    n_lost = np.bincount(row, minlength=batch.n_rows)
    unprojected = {"source": source[order], "reason": reasons.take(pa.array(order))}
    n_spans = np.bincount(batch.row[chosen.entity], minlength=batch.n_rows)
    return {
        "spans": nested_structs(n_spans, spans, ROW.field("spans").type),
        "unprojected": nested_structs(n_lost, unprojected, ROW.field("unprojected").type),
        "complete": pa.array(n_lost == 0),
        "objective": pa.array(np.round(solution.objective, 4)),
        "optimal": pa.array(solution.optimal),
        "solver": pa.array(solution.solver, pa.string()),
    }


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
