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
entity 1 under that choice; and so on (`exact.tie_rule`). The answer is unique, hence the same for any number of
workers, batch, order of cells and version of the solver.

Exact takes, in this order, the cheapest way that is proven, the first two over all sentences at once:
1. the best cell of every entity, where none of a sentence overlap: "independent". It needs that no entity can
   have a second place, as most is 1 or all its cells share a word. Each best is the most that its entity can
   add, so together they reach the bound of every solution, each by the first-ranked cell that can;
2. in the other sentences, cells that another cell of their entity beats are dropped (`_undominated`);
3. `xner_ray.match.solver_exact` solves the rest sentence by sentence.

The time limit counts CP-SAT's deterministic time, not the clock's: a busy machine must not change a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xner_ray.data.row import SCALE
from xner_ray.errors import Loss
from xner_ray.match import solver_exact
from xner_ray.match.scores import Scored
from xner_ray.match.solver_exact import TIME_LIMIT, Cell
from xner_ray.recipe.limits import limits

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve_batch` found for a batch of sentences ("rows").

    chosen: cells sorted by (row, start). objective: per row the sum of their scores, in units of 1.
    optimal: per row, whether `chosen` is proven to be the unique answer of the exact problem.
    solver: per row "none" (no entity), "independent", "dp", "cp-sat", "greedy", "time limit: greedy" or
    "infeasible" (the exact answer without the lower limit). unprojected: entities without a place, ascending, and
    why: NO_CANDIDATE, OVERLAP, or INFEASIBLE in an infeasible sentence.
    """

    chosen: Scored
    objective: NDArray[np.float64]
    optimal: NDArray[np.bool_]
    solver: list[str]
    unprojected: list[tuple[int, Loss]]


@dataclass(frozen=True)
class Explained:
    """One cell and its fate: "chosen", "lower score", "overlaps entity K's choice", "tie" or "lower limit".

    `lost_to` is the chosen cell that stood in the way: the entity's own, or entity K's.
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
    """The matching of every sentence of a batch; the order of the cells does not matter.

    row: sentence of each entity, ascending, below n_rows; `scored.entity` indexes it. per_entity: see `limits`.
    Of a cell that comes twice the higher score counts.
    time_limit_s: CP-SAT's deterministic seconds for a sentence (on a busy machine the clock showed 2 to 8
    times as many); past it the sentence gets the greedy answer, and says so.
    Greedy takes the highest score, then the lowest entity, start, end, as long as the cell still fits; with at
    most one place per entity greedy >= exact / (L + 1), L words in the longest candidate (method.md 4.4).
    ValueError if a cell is empty or of no entity, rows do not ascend below n_rows, or solver or form is unknown.
    """
    if solver not in ("exact", "greedy"):
        raise ValueError(f"solver is {solver!r}; allowed: 'exact', 'greedy'")
    least, most = limits(per_entity)
    rows = _checked_rows(row, n_rows)
    cells = _sorted(scored, len(rows))
    if most != 1:
        cells = _undominated(cells)  # fewer entities are left that could have a second place
    best = _best_of_each(cells)
    open_ = np.zeros(n_rows, dtype=np.bool_)  # sentences that the best cells do not settle
    open_[_clashing(_take(cells, best), rows)] = True
    if most != 1 or least > 1:
        open_[rows[cells.entity[best][(least > 1) | ~_share_a_word(cells)]]] = True

    names = np.full(n_rows, "none", dtype=object)
    names[rows] = "independent" if solver == "exact" else "greedy"
    rest = _take(cells, open_[rows[cells.entity]])
    if most == 1:
        rest = _undominated(rest)
    if solver == "greedy":
        rest = _take(rest, np.lexsort((-rest.score, rows[rest.entity])))
    found: list[Cell] = []
    for number, own in _by_sentence(rest, rows):
        if solver == "greedy":
            found += solver_exact.greedy(own, most)
        else:
            names[number], answer = solver_exact.solve_sentence(own, least=least, most=most, time_limit_s=time_limit_s)
            found += answer
    infeasible = names == "infeasible"
    optimal = ~(infeasible | (names == TIME_LIMIT)) if solver == "exact" else ~open_

    chosen = _joined(_take(cells, best[~open_[rows[cells.entity[best]]]]), found)
    chosen = _take(chosen, np.lexsort((chosen.start, rows[chosen.entity])))
    # Sums of whole numbers below 2**53 are exact in the doubles that bincount adds.
    objective = np.bincount(rows[chosen.entity], weights=chosen.score, minlength=n_rows) / SCALE
    with_cells = set(cells.entity[best].tolist())
    lost = np.setdiff1d(np.arange(len(rows)), chosen.entity)
    unprojected = [
        (entity, (Loss.INFEASIBLE if never else Loss.OVERLAP) if entity in with_cells else Loss.NO_CANDIDATE)
        for entity, never in zip(lost.tolist(), infeasible[rows[lost]].tolist(), strict=True)
    ]
    return Solution(chosen, objective, optimal, names.tolist(), unprojected)


def explain(scored: Scored, solution: Solution, row: ArrayLike, *, per_entity: str = "<=1") -> list[Explained]:
    """Every cell with its fate, by entity, then best first. Entities without cells are only in `unprojected`.

    Its entity's own choices stand in a cell's way where they overlap it or, if none does and the entity has all
    places that `per_entity` allows, the one with the lowest score. A cell with less than those together lost to
    them. Another lost to the choices of other entities that it overlaps (the leftmost is named) or, overlapping
    none, to the tie rule, or to the lower limit if it scores more than what it would replace.
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


def _take(scored: Scored, index: NDArray[np.intp] | NDArray[np.bool_]) -> Scored:
    return Scored(scored.entity[index], scored.start[index], scored.end[index], scored.score[index])


def _joined(cells: Scored, more: list[Cell]) -> Scored:
    entity, start, end, score = np.array(more, dtype=np.int64).reshape(-1, 4).T
    return Scored(
        np.concatenate([cells.entity, entity.astype(np.int32)]),
        np.concatenate([cells.start, start.astype(np.int32)]),
        np.concatenate([cells.end, end.astype(np.int32)]),
        np.concatenate([cells.score, score]),
    )


def _by_sentence(cells: Scored, rows: Ints) -> Iterator[tuple[int, list[Cell]]]:
    """Every sentence that has cells, with them; the cells come sentence by sentence."""
    number, tuples = rows[cells.entity], _tuples(cells)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    for low, high in pairwise([*first.tolist(), len(tuples)]):
        yield int(number[low]), tuples[low:high]


def _checked_rows(row: ArrayLike, n_rows: int) -> Ints:
    rows = np.asarray(row, dtype=np.int64).reshape(-1)
    if len(rows) and (rows[0] < 0 or rows[-1] >= n_rows or (np.diff(rows) < 0).any()):
        raise ValueError(f"row is {rows[:20].tolist()}; allowed: ascending, from 0 to below n_rows = {n_rows}")
    return rows


def _sorted(scored: Scored, n_entities: int) -> Scored:
    """The cells by entity, start, end."""
    entity, start, end = scored.entity, scored.start, scored.end
    wrong = (entity < 0) | (entity >= n_entities) | (start < 0) | (start >= end)
    if wrong.any():
        cells = _tuples(_take(scored, np.flatnonzero(wrong)[:20]))
        raise ValueError(f"an empty cell, a negative word, or none of the {n_entities} entities: {cells}")
    further, same = np.diff(entity), np.diff(start)
    ascending = (further > 0) | ((further == 0) & ((same > 0) | ((same == 0) & (np.diff(end) > 0))))
    return scored if ascending.all() else _take(scored, np.lexsort((end, start, entity)))


def _best_of_each(cells: Scored) -> Ints:
    """Of sorted cells, for every entity that has one, the index of its first cell of highest score."""
    first = np.flatnonzero(np.diff(cells.entity, prepend=-1))
    if not len(first):
        return first
    highest = np.repeat(np.maximum.reduceat(cells.score, first), np.diff(first, append=len(cells)))
    best = np.flatnonzero(cells.score == highest)
    return best[np.diff(cells.entity[best], prepend=-1) > 0]


def _clashing(best: Scored, rows: Ints) -> Ints:
    """Sentences (some twice) in which two of these cells, one per entity, overlap."""
    order = np.lexsort((best.start, rows[best.entity]))
    row, start, end = rows[best.entity[order]], best.start[order], best.end[order]
    # Of sorted ranges, if any two overlap, so do two neighbours.
    clashing: Ints = row[1:][(row[1:] == row[:-1]) & (start[1:] < end[:-1])]
    return clashing


def _share_a_word(cells: Scored) -> NDArray[np.bool_]:
    """Of sorted cells, for every entity that has one, whether a word lies in all its cells."""
    first = np.flatnonzero(np.diff(cells.entity, prepend=-1))
    if not len(first):
        return np.zeros(0, dtype=np.bool_)
    shared: NDArray[np.bool_] = np.maximum.reduceat(cells.start, first) < np.minimum.reduceat(cells.end, first)
    return shared


def _undominated(cells: Scored) -> Scored:
    """Sorted cells without those that are surely in no answer, exact or greedy.

    A cell goes if another cell of its entity lies inside it and has a higher score, or the same score and the
    same start. Putting that one in its place leaves every entity as many places and takes no new word, so it
    stays feasible in every form, and gives a larger sum, or the same sum and an earlier entry by the tie rule.
    (Same score, later start: the tie rule prefers the longer one, so it stays.) Greedy meets that one first, and
    whatever keeps it from taking it, or having taken it, keeps it from taking the cell.
    Not all such cells go: a better one inside is seen if it begins where the cell does, or lies in one that
    ends where the cell does.
    """
    inside = _highest_so_far(
        cells.score, cells.entity, cells.start
    )  # of the cells from this start, as short or shorter
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
    return _take(cells, kept)


def _highest_so_far(values: Ints, *groups: NDArray[np.int32]) -> Ints:
    """Running maximum of values from 1 to 2**32 within every stretch in which all `groups` stay the same."""
    changes = np.zeros(len(values), dtype=np.bool_)
    for group in groups:
        changes[1:] |= group[1:] != group[:-1]
    floor = np.cumsum(changes) << 33  # the values of a stretch rise above all of the one before
    highest: Ints = np.subtract(np.maximum.accumulate(values + floor), floor)
    return highest
