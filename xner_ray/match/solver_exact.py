"""Find the unique best choice in one sentence, by a dynamic program, or by CP-SAT where that grows too large.

`xner_ray.match.solver` states the problem, its forms and the tie rule in words, and settles most sentences at once.
The others come here one by one:

1. A sentence is cut into parts that share no word and no entity. Parts combine freely: every combination of their
   optima is an optimum, and the first by the tie rule combines the first of each.
2. In a part with at most one place per entity, a cell is dropped if it loses more against its entity's best cell than
   the greedy answer loses in all: a choice that holds it has a smaller sum than the greedy one, if that meets the
   lower limit.
3. The rest of a part goes to `dynamic_program`, and to `cp_sat` if that takes too many steps. Both are exact for
   every form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, compress, groupby
from operator import itemgetter, or_
from typing import Literal

Cell = tuple[int, int, int, int]
"""Entity, start, end (half-open target range), score in ten-thousandths."""
BitCounter = tuple[int, int, bool]
"""Bits of a state that count an entity's places: their shift, all of them, whether all set means no more."""

TIME_LIMIT = "time limit: greedy"
MAX_WORK = 50_000
"""Steps of the dynamic program (about 10 ms) after which CP-SAT takes over (40 ms and more for such parts)."""
LARGEST_OBJECTIVE = 2**36
"""Bound of CP-SAT's objectives. It must not exceed 2**53, as CP-SAT reports doubles. Where 40 entities clash, 2**50
took up to four times as long as 2**28 if all scores tie, and half as long if few do; this lies between."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A solver's answer for one part.

    status: the solver that found the unique answer ("dp", "cp-sat"), "infeasible" if no choice meets the lower limit,
    or "time limit" if neither is known in time; `chosen` is empty in the last two cases.
    spent: CP-SAT's deterministic seconds.
    """

    status: Literal["dp", "cp-sat", "infeasible", "time limit"]
    chosen: list[Cell]
    spent: float = 0.0


def greedy(cells: Iterable[Cell], most: int | None) -> list[Cell]:
    """Take fitting cells greedily. cells: best first."""
    chosen: list[Cell] = []
    places: dict[int, int] = {}
    taken = 0  # one bit per target word
    for cell in cells:
        words = (1 << cell[2]) - (1 << cell[1])
        if not taken & words and places.get(cell[0], 0) != most:
            chosen.append(cell)
            places[cell[0]] = places.get(cell[0], 0) + 1
            taken |= words
    return chosen


def solve_sentence(cells: list[Cell], *, least: int, most: int | None, time_limit_s: float) -> tuple[str, list[Cell]]:
    """Return who solved a sentence (`solver.Solution.solver`), and its answer in any order.

    cells: sorted. least, most: as `limits` returns them, so least is 0 or most, or most is None (no limit).
    time_limit_s: CP-SAT's deterministic seconds.
    """
    chosen: list[Cell] = []
    solver, left = "independent", time_limit_s
    for part in _parts(cells):
        fits = most_places(part)
        if least <= 1 and (most == 1 or max(fits.values()) == 1):
            order = _best_first(part)
            best = {cell[0]: cell for cell in reversed(order)}
            first = greedy(order, 1)
            if len(first) == len(best) and all(best[cell[0]] is cell for cell in first):
                chosen += first
                continue
            if not least or len(first) == len(best):
                slack = sum(cell[3] for cell in best.values()) - sum(cell[3] for cell in first)
                part = [cell for cell in part if best[cell[0]][3] - cell[3] <= slack]
                fits = most_places(part)
        answer = None
        if least <= min(fits.values()):
            answer = dynamic_program(part, fits, least=least, most=most)
            answer = answer or cp_sat(part, fits, least=least, most=most, time_limit_s=left)
            left -= answer.spent
        if answer is None or answer.status == "infeasible":
            solver, chosen = solve_sentence(cells, least=0, most=most, time_limit_s=left)
            return ("infeasible" if solver != TIME_LIMIT else solver), chosen
        if answer.status == "time limit":
            return TIME_LIMIT, greedy(_best_first(cells), most)
        solver = "cp-sat" if "cp-sat" in (answer.status, solver) else "dp"
        chosen += answer.chosen
    return solver, chosen


def _best_first(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (-cell[3], cell))


def _parts(cells: list[Cell]) -> list[list[Cell]]:
    """Group sorted cells so that no target word and no entity occurs in two groups; each group is sorted."""
    parts: list[tuple[int, list[Cell]]] = []
    for _, group in groupby(cells, key=itemgetter(0)):
        part, words = list(group), 0
        for _, start, end, _ in part:
            words |= (1 << end) - (1 << start)
        apart = []
        for other in parts:
            if other[0] & words:
                words, part = words | other[0], other[1] + part
            else:
                apart.append(other)
        parts = [*apart, (words, part)]
    return [sorted(part) for _, part in parts]


def tie_rule(cells: Sequence[Cell], most: int | None) -> list[list[int]]:
    """Return the indices of the cells by the tie rule, the most wanted first, in runs that allow one choice each.

    Of two solutions with equal sums, the better one holds the first cell of this order that only one of them holds.
    So entity 0 takes the candidate that starts first, then the shortest, and any rather than none, and its further
    places by the same rule; then entity 1 takes its own; and so on.

    No two cells of a run can be chosen together. So a run of m cells is a digit: m for its first cell, 1 for its last,
    0 for none. The digits of all runs, read as one number, rank the solutions.
    """
    runs: list[list[int]] = []
    entity, low, high = -1, 0, 0  # of the run: its entity, and the words that all its cells share
    for i in sorted(range(len(cells)), key=cells.__getitem__):
        cell = cells[i]
        low, high = max(low, cell[1]), min(high, cell[2])
        if cell[0] == entity and (most == 1 or low < high):
            runs[-1].append(i)
        else:
            entity, low, high = cell[:3]
            runs.append([i])
    return runs


def most_places(cells: Iterable[Cell]) -> dict[int, int]:
    """Return the largest number of disjoint cells of each entity. cells: sorted.

    In order of starts, a cell counts if it starts after the last counted one has ended, and replaces that one if it
    ends earlier. So the last counted cell ends as early as their number allows.
    """
    places: dict[int, int] = {}
    entity, free = -1, 0
    for cell in cells:
        if cell[0] != entity:
            entity, free = cell[0], cell[2]
            places[entity] = 1
        elif cell[1] >= free:
            free = cell[2]
            places[entity] += 1
        elif cell[2] < free:
            free = cell[2]
    return places


def dynamic_program(
    cells: Sequence[Cell], fits: dict[int, int], *, least: int, most: int | None, max_work: int = MAX_WORK
) -> Answer | None:
    """Return the unique answer, or None if it takes more than `max_work` steps (after the note in method.md 4.4).

    It walks over the words where cells start, from left to right. A table at each of them maps a state, the number of
    places of every entity so far, to the largest sum of cells that leads there. A cell leads from the table where it
    starts to the one where it ends. Two entities A and B, each with two cells and at most one place:

        word 0   word 1   word 2          tables, each state with its largest sum
        [ A 5 ]           [ A 2 ]         word 0   {}: 0
        [      B 6     ]                  word 2   {}: 0   {A}: 5   {B}: 6
                          [ B 4 ]         end      {A, B}: 9 = 5 + 4, not 6 + 2

    The end has a single state, because states merge as early as possible: an entity is counted only as far as its
    limits can matter, not at all if it cannot break them, and only until its last cell has been passed. So n entities
    that interleave have at most 2**n states with one place each. Steps: states x cells that start there.

    Nothing is traced back, as each sum spells out its cells: it is `_numbers`' size times the sum of scores, plus the
    number of the tie rule. fits: `most_places` of the cells.

    >>> cells = [(0, 0, 1, 5), (0, 2, 3, 2), (1, 0, 2, 6), (1, 2, 3, 4)]
    >>> dynamic_program(cells, most_places(cells), least=0, most=1).chosen
    [(0, 0, 1, 5), (1, 2, 3, 4)]
    """
    runs = tie_rule(cells, most)
    numbers, size = _numbers(runs, len(cells))
    table = _last_table(cells, numbers, size, _counters(fits, least, most), check=least > 0, max_work=max_work)
    if table is None:
        return None
    if not table:
        return Answer("infeasible", [])
    return Answer("dp", _spelt_out(max(table.values()) % size, size, runs, cells))


def _numbers(runs: Sequence[list[int]], n_cells: int) -> tuple[list[int], int]:
    """Return what each cell adds to the tie rule's number, and the size that all such numbers stay below.

    >>> _numbers([[1, 0], [2]], 3)  # a digit to base 3 (cell 1: 2, cell 0: 1), then a digit to base 2
    ([2, 4, 1], 6)
    """
    numbers, size = [0] * n_cells, 1
    for run in reversed(runs):
        for digit, i in enumerate(reversed(run), 1):
            numbers[i] = digit * size
        size *= len(run) + 1
    return numbers, size


def _spelt_out(number: int, size: int, runs: Sequence[list[int]], cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells whose `_numbers` sum to this one."""
    chosen = []
    for run in runs:
        size //= len(run) + 1
        digit, number = divmod(number, size)
        if digit:
            chosen.append(cells[run[-digit]])
    return chosen


def _counters(fits: dict[int, int], least: int, most: int | None) -> dict[int, BitCounter]:
    """Return each entity's counter: up to `most` if more cells than that fit, else up to `least`.

    k places are the k lowest bits of a counter.

    >>> _counters({0: 1, 1: 2, 2: 4}, 0, 1)  # entity 0 has room for one cell alone
    {0: (0, 0, False), 1: (0, 1, True), 2: (1, 1, True)}
    """
    counters, shift = {}, 0
    for entity, fit in fits.items():
        limited = most is not None and fit > most
        width = most if limited and most else least
        counters[entity] = shift, (1 << width) - 1, limited
        shift += width
    return counters


def _last_table(
    cells: Sequence[Cell],
    numbers: Sequence[int],
    size: int,
    counters: dict[int, BitCounter],
    *,
    check: bool,
    max_work: int,
) -> dict[int, int] | None:
    """Walk over the starts of the cells; return the table at their end, None if that takes more than `max_work` steps.

    check: states must have all bits of every entity whose cells have all been passed.
    """
    starts = sorted({cell[1] for cell in cells})
    moves: list[list[tuple[int, int, bool, int, int]]] = [[] for _ in starts]
    last: dict[int, int] = {}  # entity: position of its last cell
    for (entity, start, end, score), number in zip(cells, numbers, strict=True):
        last[entity] = position = bisect_left(starts, start)
        moves[position].append((*counters[entity], bisect_left(starts, end), score * size + number))
    passed = [0] * (len(starts) + 1)  # at each position: the bits of the entities that have no cell to come
    for entity, position in last.items():
        passed[position + 1] |= counters[entity][1] << counters[entity][0]
    passed = list(accumulate(passed, or_))
    merged = [0] * len(passed) if check else passed  # with no limit left to check, such states are all one

    tables: list[dict[int, int]] = [{} for _ in passed]
    tables[0][0] = 0
    table, work = tables[0], 0
    for position, here in enumerate(moves):
        work += len(table) * (1 + len(here))
        if work > max_work:
            return None
        tables[position] = {}  # frees it
        onward, merge = tables[position + 1], merged[position + 1]
        for state, value in table.items():
            state |= merge
            if value > onward.get(state, -1):
                onward[state] = value
        for shift, full, limited, to, gain in here:
            onward, merge = tables[to], merged[to]
            for state, value in table.items():
                count = state >> shift & full
                if count != full:
                    state += count + 1 << shift
                elif limited:
                    continue
                state |= merge
                if value + gain > onward.get(state, -1):
                    onward[state] = value + gain
        table = tables[position + 1]
        if check:
            bits = passed[position + 1]
            table = {state: value for state, value in table.items() if state & bits == bits}
    return table


def cp_sat(
    cells: Sequence[Cell],
    fits: dict[int, int],
    *,
    least: int,
    most: int | None,
    time_limit_s: float,
    largest: int = LARGEST_OBJECTIVE,
) -> Answer:
    """Return the unique answer by CP-SAT (OR-Tools): method.md 4.1, form 2c, a row per entity and per target word.

    The sum of scores is maximised first, then the digits of the tie rule, most significant first. As many in a row as
    stay below `largest` are folded into one objective, in which each outweighs all later ones; what one solve has
    decided is held in the next. With a sum of at most 9 and three runs of cells, [a b], [c], [d]:

        solve 1   score x 6 + (2 a + b) x 2 + c      below (9 + 1) x 3 x 2 = 60, and 120 with d
        solve 2   d                                  while the sum of scores, a, b and c stay as solve 1 has left them

    One worker, a fixed seed and a limit in deterministic time give the same answer on every machine.
    fits: `most_places` of the cells.

    >>> cells = [(0, 0, 1, 5), (0, 2, 3, 2), (1, 0, 2, 6), (1, 2, 3, 4)]
    >>> cp_sat(cells, most_places(cells), least=0, most=1, time_limit_s=1.0).chosen
    [(0, 0, 1, 5), (1, 2, 3, 4)]
    """
    from ortools.sat.python import cp_model  # takes a second, and most runs do not need it

    model, weighted_sum = cp_model.CpModel(), cp_model.LinearExpr.weighted_sum
    chosen = [model.new_bool_var("") for _ in cells]
    most_sum = 0
    for entity, group in groupby(range(len(cells)), key=lambda i: cells[i][0]):
        own, places = list(group), min(fits[entity], most or fits[entity])
        model.add_linear_constraint(cp_model.LinearExpr.sum([chosen[i] for i in own]), least, places)
        most_sum += max(cells[i][3] for i in own) * places
    # Cells that share a word all hold the last of their starts: rows for words where a cell starts suffice.
    for word in sorted({cell[1] for cell in cells}):
        model.add_at_most_one([x for x, cell in zip(chosen, cells, strict=True) if cell[1] <= word < cell[2]])

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.catch_sigint_signal = False  # signals are the process's business, not a library's
    scores = [cell[3] for cell in cells]
    values: list[bool] = []
    spent = 0.0
    for solve, runs in enumerate(_solves(tie_rule(cells, most), most_sum, largest)):
        numbers, size = _numbers(runs, len(cells))
        per_score = 0 if solve else size
        weights = [score * per_score + number for score, number in zip(scores, numbers, strict=True)]
        model.maximize(weighted_sum(chosen, weights))
        solver.parameters.max_deterministic_time = max(0.0, time_limit_s - spent)
        status = solver.solve(model)
        spent += solver.deterministic_time
        if status == cp_model.INFEASIBLE:
            return Answer("infeasible", [], spent)
        if status != cp_model.OPTIMAL:
            return Answer("time limit", [], spent)
        values = [solver.boolean_value(x) for x in chosen]
        if not solve:
            model.add(weighted_sum(chosen, scores) == sum(compress(scores, values)))
        # Hold the cells themselves: a row that holds the folded sum, with its large weights, cost minutes.
        for i in chain.from_iterable(runs):
            model.add(chosen[i] == values[i])
    return Answer("cp-sat", list(compress(cells, values)), spent)


def _solves(runs: Iterable[list[int]], most_sum: int, largest: int) -> list[list[list[int]]]:
    """Return the runs of the tie rule that each solve decides; the first solve decides the sum of scores as well.

    >>> _solves([[0, 1], [2], [3]], most_sum=9, largest=100)
    [[[0, 1], [2]], [[3]]]
    """
    solves: list[list[list[int]]] = [[]]
    size = most_sum + 1
    for run in runs:
        if size * (len(run) + 1) > largest:
            solves.append([])
            size = 1
        solves[-1].append(run)
        size *= len(run) + 1
    return solves
