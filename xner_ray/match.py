"""Choose projections: every entity at most one span, no target word twice, the largest sum of scores.

    maximise  sum c[s,t] x[s,t]   with  sum_t x[s,t] <= 1 for every entity s,
                                        sum_s sum_{t contains w} x[s,t] <= 1 for every target word w

(method.md 4.1, form 2c: on intervals one row per word says the same as one per overlapping pair.)

**Ties are part of the problem.** Among the solutions of largest sum: entity 0 takes the candidate that starts
first, then the shortest, and any candidate rather than none; then entity 1 under that choice; and so on.
The answer is unique, hence the same for any number of workers, order of candidates and version of the solver.

The exact solver takes, in this order, the cheapest way that is proven:
1. every entity's best cell is free of the others' ("independent");
2. cells that some smaller cell of the same entity beats are dropped; entities that then share no word part;
3. a part whose best cells clash goes to CP-SAT with one worker, 0.8 ms for the usual 9 cells.

Its limit counts CP-SAT's deterministic time, not the clock's: a busy machine must not change a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from xner_ray.errors import Loss
from xner_ray.scores import SCALE, Scored

Cell = tuple[int, int, int, int]
"""Entity, start, end (half-open target range), score in ten-thousandths."""

# Of a folded objective. Right up to 2**53 (CP-SAT reports doubles). Where 40 entities clash, 2**50 took up to
# four times as long as 2**28 if all scores tie, and half as long if few do; this lies between.
_LARGEST_OBJECTIVE = 2**36


@dataclass(frozen=True)
class Matching:
    """What `solve` found for one sentence.

    chosen: cells sorted by start. objective: sum of their scores, in units of 1 (not ten-thousandths).
    optimal: proven to be the unique answer of the exact problem. solver: "independent", "cp-sat" or "greedy".
    unprojected: entities without a place, ascending, and why.
    """

    chosen: list[Cell]
    objective: float
    optimal: bool
    solver: str
    unprojected: list[tuple[int, Loss]]


@dataclass(frozen=True)
class Explained:
    """One cell and its fate: "chosen", "lower score", "overlaps entity K's choice" or "tie".

    `lost_to` is the chosen cell that stood in the way: the entity's own, or entity K's.
    """

    cell: Cell
    status: str
    lost_to: Cell | None


def solve(
    scored: Scored,
    *,
    n_entities: int,
    n_words: int,
    solver: Literal["exact", "greedy"] = "exact",
    time_limit_s: float = 10.0,
) -> Matching:
    """The matching of one sentence; the order of the cells does not matter.

    time_limit_s: CP-SAT's deterministic seconds for the sentence (on a busy machine the clock showed 2 to 8
    times as many). Past it the answer is the greedy one, and says so.
    greedy >= exact / (L + 1), L words in the longest candidate (method.md 4.4).
    ValueError if a cell leaves the entities or words, or the solver is unknown.
    """
    if solver not in ("exact", "greedy"):
        raise ValueError(f"solver {solver!r}; allowed: 'exact', 'greedy'")
    cells = _best_first(scored, n_entities, n_words)
    best = _best_of_each(cells)
    # Each best is the most that its entity can add, so together they reach the bound of every solution, each
    # by the first-ranked cell that can. Greedy returns the same: all it takes are bests, which block no best.
    if _disjoint(best):
        return _matching(best, cells, n_entities, True, "independent" if solver == "exact" else "greedy")
    if solver == "exact" and (chosen := _exact(cells, time_limit_s)) is not None:
        return _matching(chosen, cells, n_entities, True, "cp-sat")
    return _matching(_greedy(cells), cells, n_entities, False, "greedy")


def explain(scored: Scored, matching: Matching) -> list[Explained]:
    """Every cell with its fate, by entity, then best first. Entities without cells are only in `unprojected`.

    A cell with less than its entity's choice lost to that. One with as much or more lost to the choices of
    others that it overlaps (the leftmost is named) or, overlapping none, to the tie rule.
    """
    own = {cell[0]: cell for cell in matching.chosen}
    rows = []
    for cell in sorted(_tuples(scored), key=lambda c: (c[0], -c[3], c[1], c[2])):
        choice = own.get(cell[0])
        if cell == choice:
            rows.append(Explained(cell, "chosen", None))
        elif choice and cell[3] < choice[3]:
            rows.append(Explained(cell, "lower score", choice))
        else:
            rivals = (c for c in matching.chosen if c[0] != cell[0] and c[1] < cell[2] and cell[1] < c[2])
            rival = next(rivals, None)
            status = f"overlaps entity {rival[0]}'s choice" if rival else "tie"
            rows.append(Explained(cell, status, rival or choice))
    return rows


def _tuples(scored: Scored) -> list[Cell]:
    columns = (scored.entity, scored.start, scored.end, scored.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _take(scored: Scored, index: NDArray[np.intp] | NDArray[np.bool_]) -> Scored:
    return Scored(scored.entity[index], scored.start[index], scored.end[index], scored.score[index])


def _best_first(scored: Scored, n_entities: int, n_words: int) -> Scored:
    """The cells by score, highest first, then entity, start, end: the order in which greedy takes them."""
    if len(scored):
        negative = min(scored.entity.min(), scored.start.min()) < 0
        outside = scored.entity.max() >= n_entities or scored.end.max() > n_words
        if negative or outside or (scored.start >= scored.end).any():
            allowed = f"{n_entities} entities, {n_words} words"
            raise ValueError(f"an empty cell, or one outside {allowed}: {_tuples(scored)[:20]}")
    return _take(scored, np.lexsort((scored.end, scored.start, scored.entity, -scored.score)))


def _best_of_each(cells: Scored) -> list[Cell]:
    """Of cells that come best first, the first of every entity."""
    return _tuples(_take(cells, np.unique(cells.entity, return_index=True)[1]))


def _disjoint(cells: list[Cell]) -> bool:
    return all(left[2] <= right[1] for left, right in pairwise(sorted(cells, key=lambda c: c[1])))


def _matching(chosen: list[Cell], cells: Scored, n_entities: int, optimal: bool, solver: str) -> Matching:
    placed, scored = {cell[0] for cell in chosen}, set(cells.entity.tolist())
    return Matching(
        chosen=sorted(chosen, key=lambda c: c[1]),
        objective=sum(cell[3] for cell in chosen) / SCALE,
        optimal=optimal,
        solver=solver,
        unprojected=[
            (entity, Loss.OVERLAP if entity in scored else Loss.NO_CANDIDATE)
            for entity in range(n_entities)
            if entity not in placed
        ],
    )


def _greedy(cells: Scored) -> list[Cell]:
    """Take the best remaining cell as long as there is one: walk them best first, take what still fits."""
    chosen: list[Cell] = []
    placed: set[int] = set()
    taken = 0  # one bit per target word
    for cell in _tuples(cells):
        words = (1 << cell[2]) - (1 << cell[1])
        if cell[0] not in placed and not taken & words:
            chosen.append(cell)
            placed.add(cell[0])
            taken |= words
    return chosen


def _exact(cells: Scored, time_limit_s: float) -> list[Cell] | None:
    """The unique answer, or None past the limit.

    Parts share no word, so every combination of their optima is an optimum of the whole, and the first in
    lexicographic order combines the first of each.
    """
    chosen: list[Cell] = []
    for part in _parts(_take(cells, _undominated(cells))):
        answer = _best_of_each(part)
        if not _disjoint(answer):
            solved, spent = _cp_sat(sorted(_tuples(part)), time_limit_s)
            if solved is None:
                return None
            answer = solved
            time_limit_s -= spent
        chosen += answer
    return chosen


def _undominated(cells: Scored) -> NDArray[np.bool_]:
    """Mask of the cells that the unique answer may hold.

    A cell goes if another cell of its entity lies inside it and has a higher score, or the same score and the
    same start: putting that one in its place stays feasible and gives a larger sum, or the same sum and an
    earlier entry of this entity with all others unchanged. (Same score, later start: the tie rule prefers the
    longer one, so it stays.)
    """
    entity, start = cells.entity, cells.start - cells.start.min()
    length = cells.end - cells.start - 1
    shape = (int(entity.max()) + 1, int(start.max()) + 2, int(length.max()) + 1)
    from_start = np.zeros(shape, dtype=np.int64)
    np.maximum.at(from_start, (entity, start, length), cells.score)
    inside = from_start.copy()  # becomes: best score of any cell inside [start, start + length]
    np.maximum.accumulate(from_start, axis=2, out=from_start)  # the same, of those that begin at start
    for n in range(1, shape[2]):
        np.maximum(inside[:, :, n], inside[:, :, n - 1], out=inside[:, :, n])
        np.maximum(inside[:, :-1, n], inside[:, 1:, n - 1], out=inside[:, :-1, n])
    smaller = np.maximum(length - 1, 0)
    shorter_beats = (length > 0) & (from_start[entity, start, smaller] >= cells.score)
    kept: NDArray[np.bool_] = ~shorter_beats & (inside[entity, start, length] <= cells.score)
    return kept


def _parts(cells: Scored) -> list[Scored]:
    """Cells grouped so that no target word and no entity occurs in two groups; order within is kept."""
    entities = np.arange(int(cells.entity.max()) + 1)
    edges = np.zeros((len(entities), int(cells.end.max()) + 1), dtype=np.int64)
    np.add.at(edges, (cells.entity, cells.start), 1)
    np.add.at(edges, (cells.entity, cells.end), -1)
    covered = edges.cumsum(axis=1) > 0
    part, before = entities, None
    while before is None or (part != before).any():  # the lowest entity's number spreads over shared words
        before = part
        of_word = np.where(covered, part[:, None], len(entities)).min(axis=0)
        part = np.minimum(part, np.where(covered, of_word, len(entities)).min(axis=1))
    return [_take(cells, part[cells.entity] == number) for number in np.unique(part[cells.entity])]


def _cp_sat(cells: list[Cell], time_limit_s: float) -> tuple[list[Cell] | None, float]:
    """The unique answer for cells sorted by entity, start, end, or None past the limit; and the time spent.

    The objectives are ranked: sum of scores, then for each entity how early its cell comes. As many in a row
    as fit are folded into one integer, where each weighs more than all later ones can sum to. The rest are
    maximised next, with the earlier results held.
    """
    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in cells]
    members: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        members.setdefault(cell[0], []).append(index)
    for group in members.values():
        model.add_at_most_one([chosen[i] for i in group])
    # Cells that share a word all hold the last of their starts: rows for words where a cell starts suffice.
    for word in {cell[1] for cell in cells}:
        clash = [i for i, cell in enumerate(cells) if cell[1] <= word < cell[2]]
        if cells[clash[0]][0] != cells[clash[-1]][0]:
            model.add_at_most_one([chosen[i] for i in clash])

    groups = list(members.values())
    scores = [cell[3] for cell in cells]
    objectives = [dict(enumerate(scores))]
    objectives += [{i: len(group) - rank for rank, i in enumerate(group)} for group in groups]
    largest = [sum(max(scores[i] for i in group) for group in groups), *map(len, groups)]
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.catch_sigint_signal = False  # a library has no business with the process's signals
    values: list[bool] = []
    spent, level = 0.0, 0
    while level < len(objectives):
        first, weights, size = level, [0] * len(cells), 1
        while level < len(objectives):
            base = largest[level] + 1
            if level > first and size * base > _LARGEST_OBJECTIVE:
                break
            weights = [weight * base + objectives[level].get(i, 0) for i, weight in enumerate(weights)]
            size *= base
            level += 1
        model.maximize(cp_model.LinearExpr.weighted_sum(chosen, weights))
        solver.parameters.max_deterministic_time = max(0.0, time_limit_s - spent)
        status = solver.solve(model)
        spent += solver.deterministic_time
        if status != cp_model.OPTIMAL:
            return None, spent
        values = [solver.boolean_value(x) for x in chosen]
        # Hold the cells themselves: a row that holds the folded sum, with its large weights, cost minutes.
        if first == 0:
            total = sum(score for score, value in zip(scores, values, strict=True) if value)
            model.add(cp_model.LinearExpr.weighted_sum(chosen, scores) == total)
        for i in (i for group in groups[max(0, first - 1) : level - 1] for i in group):
            model.add(chosen[i] == values[i])
    return [cell for cell, value in zip(cells, values, strict=True) if value], spent
