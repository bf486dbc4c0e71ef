"""Choose projections: no target word twice, a limited number of spans per entity, the largest sum of scores.

For every sentence, over cells (entity s, candidate t) with score c[s,t] > 0 (method.md 4.1, form 2c: on intervals
one row per word says the same as one per overlapping pair):

    maximise  sum c[s,t] x[s,t]   with  least <= sum_t x[s,t] <= most      for every entity s that has a cell,
                                        sum_s sum_{t contains w} x[s,t] <= 1   for every target word w

**Forms.** `per_entity` is "<=1" (the default), or <, <=, =, >=, > with another number. Only positive scores make
candidates, so a lower limit binds the entities that have one (both reference implementations, method.md 4.1). If
no choice meets the lower limits, the sentence is "infeasible" and gets the answer without them; the reference
writes such a sentence without any entity. Greedy knows no lower limit (method.md 4.4).

**Ties are part of the problem.** Among the solutions of largest sum: entity 0 takes the candidate that starts
first, then the shortest, and any candidate rather than none; likewise its further places, from left to right; then
entity 1 under that choice; and so on (`solver_exact.tie_rule`). The answer is unique, hence the same for any number
of workers, batch, order of cells and version of the solver.

`solve_batch` takes, in this order, the cheapest way that is proven, the first two over all sentences at once:
1. the best cell of every entity, where none of a sentence overlap: "independent". It needs that no entity can
   have a second place, as most is 1 or all its cells share a word. Each best cell is the most that its entity can
   add, so together they reach the bound of every solution, each by the first-ranked cell that can;
2. in the other sentences, cells that another cell of their entity beats are dropped (`_undominated`);
3. `xner_ray.match.solver_exact` solves the rest sentence by sentence.

    word 0   word 1   word 2
    [ A 5 ]           [ A 2 ]      A and B: the best cells, A 5 and B 6, overlap. The dynamic program finds A 5 + B 4.
    [      B 6     ]
                      [ B 4 ]
    [ C 3 ][     C 9      ]        C, alone in its sentence: "independent", C 9.

The time limit counts CP-SAT's deterministic time, not the clock's: a busy machine must not change a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xner_ray.data.arrow import Ints
from xner_ray.data.row import SCALE
from xner_ray.errors import Loss
from xner_ray.match.batch import stretches
from xner_ray.match.scores import Scored
from xner_ray.match.solver_exact import TIME_LIMIT, Cell, greedy, solve_sentence
from xner_ray.recipe.limits import limits


@dataclass(frozen=True, eq=False)
class Solution:
    """The matching of a batch of sentences ("rows").

    chosen: cells sorted by (row, start). objective: per row the sum of their scores, in units of 1.
    optimal: per row, True if `chosen` is proven to be the unique answer of the exact problem.
    solver: per row "none" (no entity), "independent", "dp", "cp-sat", "greedy", "time limit: greedy" or
    "infeasible" (the exact answer without the lower limit). unprojected: entities without a place, ascending, each
    with the reason: NO_CANDIDATE, OVERLAP, or INFEASIBLE in an infeasible sentence.
    """

    chosen: Scored
    objective: NDArray[np.float64]
    optimal: NDArray[np.bool_]
    solver: list[str]
    unprojected: list[tuple[int, Loss]]


@dataclass(frozen=True)
class Explained:
    """One cell and its fate: "chosen", "lower score", "overlaps entity K's choice", "tie" or "lower limit".

    lost_to: the chosen cell that stood in the way, the entity's own or entity K's.
    """

    cell: Cell
    status: str
    lost_to: Cell | None


def solve_batch(
    scored: Scored,
    *,
    row: ArrayLike,
    n_rows: int,
    per_entity: str = "<=1",
    solver: Literal["exact", "greedy"] = "exact",
    time_limit_s: float = 10.0,
) -> Solution:
    """Return the matching of every sentence of a batch. The order of the cells does not matter.

    row: sentence of each entity, ascending, below n_rows; `scored.entity` indexes it. per_entity: see `limits`.
    If a cell comes twice, the higher score counts.
    time_limit_s: CP-SAT's deterministic seconds for a sentence (on a busy machine the clock showed 2 to 8
    times as many); past it the sentence gets the greedy answer, and `Solution.solver` says so.
    Greedy takes the highest score, then the lowest entity, start, end, as long as the cell still fits; with at
    most one place per entity greedy >= exact / (L + 1), L words in the longest candidate (method.md 4.4).
    ValueError if a cell is empty or of no entity, rows do not ascend below n_rows, or solver or form is unknown.

    >>> entity, start, end, score = np.array(  # the cells of the module's picture: A and B are 0 and 1, C is 2
    ...     [[0, 0, 1, 1, 2, 2], [0, 2, 0, 2, 0, 1], [1, 3, 2, 3, 1, 3], [5, 2, 6, 4, 3, 9]]
    ... )
    >>> found = solve_batch(Scored(entity, start, end, score), row=[0, 0, 1], n_rows=2)
    >>> found.solver, found.chosen.score.tolist(), found.objective.tolist()
    (['dp', 'independent'], [5, 4, 9], [0.0009, 0.0009])
    """
    if solver not in ("exact", "greedy"):
        raise ValueError(f"solver is {solver!r}; allowed: 'exact', 'greedy'")
    least, most = limits(per_entity)
    rows = _checked_rows(row, n_rows)
    cells = _sorted(scored, len(rows))
    if most != 1:
        cells = _undominated(cells)  # fewer entities are left that could have a second place
    best = cells.take(_best_of_each(cells))
    unsettled = np.zeros(n_rows, dtype=np.bool_)  # sentences that need more than the best cells
    unsettled[_clashing(best, rows)] = True
    if most != 1 or least > 1:
        unsettled[rows[best.entity[(least > 1) | ~_share_a_word(cells)]]] = True

    names = np.full(n_rows, "none", dtype=object)
    names[rows] = "independent" if solver == "exact" else "greedy"
    rest = cells.take(unsettled[rows[cells.entity]])
    if most == 1:
        rest = _undominated(rest)
    found: list[Cell] = []
    if solver == "greedy":
        rest = rest.take(np.lexsort((-rest.score, rows[rest.entity])))
    for number, own in _by_sentence(rest, rows):
        if solver == "greedy":
            found += greedy(own, most)
        else:
            names[number], answer = solve_sentence(own, least=least, most=most, time_limit_s=time_limit_s)
            found += answer
    infeasible = names == "infeasible"
    optimal = ~(infeasible | (names == TIME_LIMIT)) if solver == "exact" else ~unsettled

    chosen = _joined(best.take(~unsettled[rows[best.entity]]), found)
    chosen = chosen.take(np.lexsort((chosen.start, rows[chosen.entity])))
    # Sums of whole numbers below 2**53 are exact in the doubles that bincount adds.
    objective = np.bincount(rows[chosen.entity], weights=chosen.score, minlength=n_rows) / SCALE
    lost = np.setdiff1d(np.arange(len(rows)), chosen.entity)
    had_cells = np.isin(lost, best.entity).tolist()
    unprojected = [
        (entity, (Loss.INFEASIBLE if never else Loss.OVERLAP) if had else Loss.NO_CANDIDATE)
        for entity, never, had in zip(lost.tolist(), infeasible[rows[lost]].tolist(), had_cells, strict=True)
    ]
    return Solution(chosen, objective, optimal, names.tolist(), unprojected)


def explain(scored: Scored, solution: Solution, row: ArrayLike, *, per_entity: str = "<=1") -> list[Explained]:
    """Return every cell with its fate, by entity, then best first. Entities without cells are only in `unprojected`.

    The entity's own choices stand in a cell's way if they overlap it or, if none does and the entity has all places
    that `per_entity` allows, the one of lowest score does. A cell that scores less than all of those together lost to
    them. Any other cell lost to the choices of other entities that it overlaps (the leftmost is named) or, if it
    overlaps none, to the tie rule, or to the lower limit if it scores more than what it would replace.
    """
    rows, most = np.asarray(row), limits(per_entity)[1]
    places = dict(_by_sentence(solution.chosen, rows))
    explained = []
    for cell in sorted(_tuples(scored), key=lambda c: (c[0], -c[3], c[1], c[2])):
        chosen = places.get(int(rows[cell[0]]), [])
        own = [c for c in chosen if c[0] == cell[0]]
        crossed = [c for c in chosen if c[1] < cell[2] and cell[1] < c[2]]
        in_way = [c for c in crossed if c[0] == cell[0]]
        if not in_way and len(own) == most:
            in_way = [min(own, key=itemgetter(3))]
        score, rival = sum(c[3] for c in in_way), next((c for c in crossed if c[0] != cell[0]), None)
        if cell in own:
            explained.append(Explained(cell, "chosen", None))
        elif cell[3] < score:
            explained.append(Explained(cell, "lower score", in_way[0]))
        elif rival:
            explained.append(Explained(cell, f"overlaps entity {rival[0]}'s choice", rival))
        else:
            status = "tie" if cell[3] == score else "lower limit"
            explained.append(Explained(cell, status, in_way[0] if in_way else None))
    return explained


def _tuples(scored: Scored) -> list[Cell]:
    columns = (scored.entity, scored.start, scored.end, scored.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _joined(cells: Scored, more: list[Cell]) -> Scored:
    entity, start, end, score = np.array(more, dtype=np.int64).reshape(-1, 4).T
    return Scored(
        np.concatenate([cells.entity, entity.astype(np.int32)]),
        np.concatenate([cells.start, start.astype(np.int32)]),
        np.concatenate([cells.end, end.astype(np.int32)]),
        np.concatenate([cells.score, score]),
    )


def _by_sentence(cells: Scored, rows: Ints) -> Iterator[tuple[int, list[Cell]]]:
    """Yield every sentence that has cells, with its cells. cells: sentence by sentence."""
    number, tuples = rows[cells.entity], _tuples(cells)
    for first, length in zip(*(column.tolist() for column in stretches(number)), strict=True):
        yield int(number[first]), tuples[first : first + length]


def _checked_rows(row: ArrayLike, n_rows: int) -> Ints:
    rows = np.asarray(row, dtype=np.int64).reshape(-1)
    if len(rows) and (rows[0] < 0 or rows[-1] >= n_rows or (np.diff(rows) < 0).any()):
        raise ValueError(f"row is {rows[:20].tolist()}; allowed: ascending, from 0 to below n_rows = {n_rows}")
    return rows


def _sorted(scored: Scored, n_entities: int) -> Scored:
    """Return the cells by entity, start, end."""
    entity, start, end = scored.entity, scored.start, scored.end
    wrong = (entity < 0) | (entity >= n_entities) | (start < 0) | (start >= end)
    if wrong.any():
        cells = _tuples(scored.take(np.flatnonzero(wrong)[:20]))
        raise ValueError(f"an empty cell, a negative word, or none of the {n_entities} entities: {cells}")
    further, same = np.diff(entity), np.diff(start)
    ascending = (further > 0) | ((further == 0) & ((same > 0) | ((same == 0) & (np.diff(end) > 0))))
    return scored if ascending.all() else scored.take(np.lexsort((end, start, entity)))


def _best_of_each(cells: Scored) -> Ints:
    """Return the index of each entity's best cell; the first wins ties. cells: sorted."""
    first, length = stretches(cells.entity)
    highest = np.repeat(np.maximum.reduceat(cells.score, first), length)
    best = np.flatnonzero(cells.score == highest)
    return best[np.diff(cells.entity[best], prepend=-1) > 0]


def _clashing(best: Scored, rows: Ints) -> Ints:
    """Return the sentences (some twice) in which two of these cells, one per entity, overlap."""
    order = np.lexsort((best.start, rows[best.entity]))
    row, start, end = rows[best.entity[order]], best.start[order], best.end[order]
    # If any two of sorted ranges overlap, so do two neighbours.
    clashing: Ints = row[1:][(row[1:] == row[:-1]) & (start[1:] < end[:-1])]
    return clashing


def _share_a_word(cells: Scored) -> NDArray[np.bool_]:
    """Return, for every entity that has cells, True if all its cells share a word. cells: sorted."""
    first, _ = stretches(cells.entity)
    return np.maximum.reduceat(cells.start, first) < np.minimum.reduceat(cells.end, first)


def _undominated(cells: Scored) -> Scored:
    """Drop cells that are surely in no answer, exact or greedy. cells: sorted.

    A cell is dropped if another cell of its entity, the better one, lies inside it and has a higher score, or the same
    score and the same start. Putting the better one in its place leaves every entity as many places and takes no new
    word, so the choice stays feasible in every form, and its sum is larger, or equal with an earlier entry by the tie
    rule. (Same score, later start: the tie rule prefers the longer one, so it stays.) Greedy meets the better one
    first, and takes it, or is kept from it by a choice that overlaps the cell as well.
    Not all such cells are found: the better one must begin where the cell does, or lie in one that ends where the cell
    does.
    """
    inside = _highest_so_far(cells.score, cells.entity, cells.start)  # of the cells from this start, no longer ones
    kept = np.ones(len(cells), dtype=np.bool_)
    same = (np.diff(cells.entity) == 0) & (np.diff(cells.start) == 0)
    kept[1:] &= ~(same & (inside[:-1] >= cells.score[1:]))
    # By end, the latest start first: cells with a later start come before the cell
    order = np.arange(len(cells))[::-1]
    order = order[np.lexsort((cells.end[order], cells.entity[order]))]
    entity, end = cells.entity[order], cells.end[order]
    inside = _highest_so_far(inside[order], entity, end)
    same = (np.diff(entity) == 0) & (np.diff(end) == 0)
    kept[order[1:]] &= ~(same & (inside[:-1] > cells.score[order[1:]]))
    return cells.take(kept)


def _highest_so_far(values: Ints, *groups: NDArray[np.int32]) -> Ints:
    """Return the running maximum of values from 1 to 2**32 in every stretch where all `groups` stay the same."""
    changes = np.any([np.diff(group, prepend=-1) != 0 for group in groups], axis=0)
    floor = np.cumsum(changes) << 33  # the values of a stretch rise above all of the one before
    highest: Ints = np.subtract(np.maximum.accumulate(values + floor), floor)
    return highest
