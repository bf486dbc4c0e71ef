"""Project a table of rows: links and source spans in, target spans out, without a Python loop over rows.

    table --read--> Rows --measure, fuse--> Scored --solve_batch--> Solution --> columns `WRITES` of the table

A pure function of (row, prior): batches, workers and order change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import Floats, Ints, flat, ints, nested_structs, with_column
from xner_ray.data.row import ROW, SCALE
from xner_ray.errors import Loss, RecipeError
from xner_ray.match import bounds, candidates, heuristic, scores, solver
from xner_ray.match.batch import stretches
from xner_ray.match.confidence.maps import probabilities
from xner_ray.match.prior import Prior, span_places
from xner_ray.match.rows import Rows, read, read_cells, read_scores, seen
from xner_ray.recipe.sections import THRESHOLDS, Match

WRITES = ("spans", "unprojected", "complete", "objective", "optimal", "solver")

EDGES = "edges"
BOUNDS = {"soft": 1.0, "align": 1.0, "tagger": 1.0, "tagger_spans": 1.0, "likelihood": 1.0, EDGES: 2.0}
"""The most that a score gives, by its key: `soft` is soft Dice, `edges` the boundaries. `align` is bounded for
one-to-one links, the tagger's scores for alpha 1; a plug-in's score gives 1."""


def project(table: pa.Table, settings: Match, method: str, prior: Prior | None, *, labelled: bool = False) -> pa.Table:
    """Return the rows with `WRITES` filled; rejected rows as they are.

    settings: the recipe's section `match`. method: the hard method whose links count where hard links do.
    prior: counts of a finished first projection, or None; with it the rows hold that projection's spans.
    labelled: whether people have labelled the source entities.
    """
    rows = read(table)
    if settings.solver == "heuristic":
        solution = _heuristic(rows, settings, method)
    else:
        _, solution = matched(rows, settings, method, prior)
    if not settings.calibrated:
        return _filled(table, rows, solution)
    found = probabilities(seen(rows, solution.chosen, labelled=labelled), prior=prior is not None)
    return _filled(table, rows, solution, found)


def place(table: pa.Table, settings: Match, name: str) -> pa.Table:
    """Return the rows with `WRITES` filled from the cells of one score in `evidence`, without links and candidates.

    settings: of them only those of the solver count. An entity without a cell has no candidate.
    """
    rows = read(table)
    return _filled(table, rows, _solved(rows, read_cells(rows.evidence, name, rows.batch, rows.source), settings))


def _filled(table: pa.Table, rows: Rows, solution: solver.Solution, score: Floats | None = None) -> pa.Table:
    """Return the table with `WRITES`. score: of each chosen cell; None is that of the matching."""
    for name, values in _columns(rows, solution, score).items():
        if not rows.accepted.all():
            values = pc.if_else(pa.array(rows.accepted), values, table.column(name).combine_chunks())
        table = with_column(table, name, values)
    return table


def _solved(rows: Rows, scored: scores.Scored, settings: Match) -> solver.Solution:
    return solver.solve_batch(
        scored,
        row=rows.batch.row,
        n_rows=rows.batch.n_rows,
        per_entity=settings.per_entity,
        solver="greedy" if settings.solver == "greedy" else "exact",
        time_limit_s=settings.time_limit_s,
    )


def matched(rows: Rows, settings: Match, method: str, prior: Prior | None) -> tuple[scores.Scored, solver.Solution]:
    """Return the cells that score more than `min_score`, and their matching.

    Scores are in shares of the most that the weights allow (`BOUNDS`).
    """
    spans, found = measure(rows, settings, method, prior)
    weights = shares(settings, prior)
    offered = scores.fuse(spans, found, weights, thresholds(settings, weights))
    scored = scores.above(
        _opened(rows, offered, weights[EDGES], prior) if EDGES in weights else offered, settings.min_score
    )
    solution = _solved(rows, scored, settings)
    was_offered = np.bincount(offered.entity, minlength=len(rows.batch)) > 0
    losses = [
        (entity, Loss.LOW_SCORE if loss == Loss.NO_CANDIDATE and was_offered[entity] else loss)
        for entity, loss in solution.unprojected
    ]
    return scored, replace(solution, unprojected=losses)


def probabilities_of(
    table: pa.Table, placed: pa.Array, settings: Match, method: str, prior: Prior | None, *, labelled: bool
) -> tuple[Ints, Floats]:
    """Return the row of every span, and the probability that it is right, whatever has placed it.

    table: rows as a first matching left them; prior, labelled: as of `project`. placed: spans that name their entities,
    a list for each row. For spans that `project` has placed by default settings these are their scores.
    """
    rows = read(table)
    row, _, cells = flat(placed)
    most = 1 + int(max(rows.source.max(initial=0), ints(cells.field("source")).max(initial=0)))
    known = rows.batch.row * most + rows.source
    order = np.argsort(known, kind="stable")
    wanted = row * most + ints(cells.field("source"))
    entity = order[np.minimum(np.searchsorted(known[order], wanted), max(0, len(known) - 1))] if len(wanted) else wanted
    if not np.array_equal(known[entity], wanted):
        raise ValueError("a span names an entity that its row does not have")
    start, end = (ints(cells.field(name)) for name in ("start", "end"))
    by_entity = np.lexsort((end, start, entity))
    spans = candidates.Candidates(*(each[by_entity].astype(np.int32) for each in (entity, start, end)))
    _, found = measure(rows, settings, method, prior, given=spans)
    weights = shares(settings, prior)
    offered = scores.fuse(spans, found, weights, thresholds(settings, weights))
    offered = _opened(rows, offered, weights[EDGES], prior) if EDGES in weights else offered
    by_cell = dict(zip(_cells(offered), offered.score.tolist(), strict=True))
    # The least that a cell may have where nothing but a tagger speaks for it
    score = np.array([by_cell.get(cell, 1) for cell in _cells(spans)], dtype=np.int64)
    chosen = scores.Scored(spans.entity, spans.start, spans.end, score)
    result = np.zeros(len(spans))
    result[by_entity] = probabilities(seen(rows, chosen, labelled=labelled), prior=prior is not None)
    return row, result


def _cells(spans: candidates.Candidates) -> Iterable[tuple[int, int, int]]:
    return zip(spans.entity.tolist(), spans.start.tolist(), spans.end.tolist(), strict=True)


def _opened(rows: Rows, offered: scores.Scored, weight: float, prior: Prior | None) -> scores.Scored:
    """Take from all cells of an entity what the opening of its best cell lacks to be typical of its label.

    All of them alike, so that it decides whether the entity is placed, and not where: names begin in the middle of a
    title with a capital too.
    """
    if prior is None or not len(offered):
        return offered
    batch = rows.batch
    first, n_cells = stretches(offered.entity)
    top = offered.score == np.repeat(np.maximum.reduceat(offered.score, first), n_cells)
    best = np.flatnonzero(top)
    best = best[np.diff(offered.entity[best], prepend=-1) > 0]  # the leftmost of equal ones
    entity = offered.entity[best]
    row = batch.row[entity]
    word = batch.target_base[row] + offered.start[best]
    typical = prior.typical(rows.words["target"], rows.earlier, row, rows.labels.take(pa.array(entity)), word)
    less = np.zeros(len(batch), dtype=np.int64)
    less[entity] = np.rint(SCALE * weight * bounds.AGAINST * (1 - typical))
    if not less.any():
        return offered
    score = offered.score - less[offered.entity]
    kept = score > 0
    return scores.Scored(offered.entity[kept], offered.start[kept], offered.end[kept], score[kept])


def thresholds(settings: Match, names: Iterable[str]) -> dict[str, float]:
    """Return what each of these scores must exceed to count: the recipe's threshold, else the method's."""
    found = {**THRESHOLDS, **settings.thresholds}
    return {name: at_most for name, at_most in found.items() if name in names}


def shares(settings: Match, prior: Prior | None) -> dict[str, float]:
    """Return the weight of each score that counts, divided by the most that all of them can give together."""
    weights: dict[str, float] = {name: weight for name, weight in settings.scores.items() if prior or name != EDGES}
    if not weights:
        raise RecipeError("match.scores has edges alone, which needs a prior and another score beside it")
    most = sum(weight * BOUNDS.get(name, 1.0) for name, weight in weights.items())
    return {name: weight / most for name, weight in weights.items()}


def measure(
    rows: Rows,
    settings: Match,
    method: str,
    prior: Prior | None,
    *,
    given: candidates.Candidates | None = None,
) -> tuple[candidates.Candidates, dict[str, Floats]]:
    """Return the candidates of all rows, and every score that counts or filters, one value per candidate.

    given: candidates instead of those that the settings name.
    """
    batch = rows.batch
    names = {*shares(settings, prior), *settings.filters}
    by_word: tuple[Ints, Ints] | None = None
    if prior is not None:
        by_word = (prior.weights("source", rows.words["source"]), prior.weights("target", rows.words["target"]))
    mass = _masses(rows, method, by_word)
    # Without a score of links the window is that of soft Dice.
    of_links = [mass[name] for name in mass if name in names] or [mass["soft"]]
    spans = _candidates(rows, np.sum(of_links, axis=0), settings, margin=EDGES in names) if given is None else given
    found = {}
    if "align" in names:
        found["align"] = scores.alignment(batch, spans, mass["align"])
    if "soft" in names:
        found["soft"] = scores.soft(batch, spans, mass["soft"], by_word, _shift(rows, by_word))
    if EDGES in names and prior is not None:
        words, earlier = rows.words["target"], rows.earlier
        left, right = prior.edges(words, span_places(earlier.row, earlier.start, earlier.end, words))
        cut = bounds.cuts(batch, spans, rows.words["source"], words)
        found[EDGES] = bounds.edges(batch, spans, left, right, bounds.sure(batch, rows.links, rows.owner), cut)
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


def _masses(rows: Rows, method: str, by_word: tuple[Ints, Ints] | None = None) -> dict[str, Ints]:
    """Return by cell the number of hard links ("align") and the probability of all in ten-thousandths ("soft").

    by_word: weights of all source words and of all target words, by which probabilities are multiplied.
    """
    batch, links = rows.batch, rows.links
    hard = links.hard(method)
    forward, backward = (np.rint(p * float(SCALE)).astype(np.int64) for p in (links.forward, links.backward))
    if by_word is not None:
        forward *= by_word[0][batch.source_base[links.row] + links.source]
        backward *= by_word[1][batch.target_base[links.row] + links.target]
    ones = np.ones(len(hard), dtype=np.int64)
    return {"align": batch.spread(hard, ones), "soft": batch.spread(links, forward + backward, rows.owner)}


def _shift(rows: Rows, by_word: tuple[Ints, Ints] | None) -> Ints:
    """Return by entity the weight that links bring which are not of its own words, less that of links given away."""
    batch, links = rows.batch, rows.links
    link, entity = rows.shared
    word = batch.source_base[links.row[link]] + links.source[link]
    weight = np.full(len(link), SCALE) if by_word is None else by_word[0][word]
    gained = np.rint(links.forward[link].astype(np.float64) * weight).astype(np.int64)
    shift = np.zeros(len(batch), dtype=np.int64)
    np.add.at(shift, entity, gained)
    np.subtract.at(shift, batch.owner[word], gained)
    return shift


def every_candidate(rows: Rows, settings: Match, method: str) -> candidates.Candidates:
    """Return the candidates under any scores, filters and prior: only `method` and the keys of candidates count."""
    align, soft = _masses(rows, method).values()
    # All three, since more links may join runs that had a border at which a candidate begins.
    return candidates.union(*(_candidates(rows, mass, settings, margin=True) for mass in (align, soft, align + soft)))


def _candidates(rows: Rows, mass: Ints, settings: Match, *, margin: bool) -> candidates.Candidates:
    """Return the union of the sets that the recipe names.

    A word without mass at an end lowers every score but the boundaries' one, which may ask for one more: a margin.
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
        chosen=scores.Scored(found.entity, found.start, found.end, np.full(len(found), SCALE)),
        objective=np.bincount(batch.row[found.entity], minlength=batch.n_rows).astype(np.float64),
        optimal=np.zeros(batch.n_rows, dtype=np.bool_),
        solver=names.tolist(),
        unprojected=unprojected,
    )


def _columns(rows: Rows, solution: solver.Solution, score: Floats | None) -> dict[str, pa.Array]:
    """Return the columns `WRITES` of every row."""
    batch, chosen = rows.batch, solution.chosen
    spans = {
        "start": chosen.start,
        "end": chosen.end,
        "label": rows.labels.take(pa.array(chosen.entity)),
        "score": np.minimum(chosen.score / SCALE, 1.0) if score is None else score,
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
