"""The unique best choice in one sentence: a dynamic program, and CP-SAT where that grows too large.

The problem, its forms and the tie rule's words stand in `xner_ray.match.solver`. What that module cannot settle for
many sentences at once comes here sentence by sentence:

1. a sentence falls into parts that share no word and no entity. Parts combine freely: every combination of their
   optima is an optimum, and the first by the tie rule combines the first of each;
2. of a part with at most one place per entity, cells go that lose more against their entity's best than greedy
   loses in all: what holds one has a smaller sum than greedy's answer, if that meets the lower limit;
3. what is left of a part goes to the dynamic program, then to CP-SAT. Both are exact for every form.

**Dynamic program** (after the note in method.md 4.4). It walks the target positions from left to right. For each
state, how often every entity was placed so far, it holds the largest value of the cells chosen so far; a cell leads
from its start to its end. A value is one integer: the sum of scores, then the tie rule's number, which also spells
out the cells themselves, so nothing is traced back. States merge as early as can be: an entity is only counted as
far as its limits can matter, not at all if it has no room to break them, and no longer than it has cells to come.
Work: states times cells that start where they stand; with one place each, n entities that interleave have at most
2**n states.

**CP-SAT** (OR-Tools) gets one row per entity and one per target word: method.md 4.1, form 2c. One worker, a fixed
seed and a limit in deterministic time make its answer the same on every machine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter, or_
from typing import Literal

Cell = tuple[int, int, int, int]
"""Entity, start, end (half-open target range), score in ten-thousandths."""

TIME_LIMIT = "time limit: greedy"
MAX_WORK = 50_000
"""Steps of the dynamic program (about 10 ms) after which CP-SAT takes over (40 ms and more for such parts)."""

# Of a folded objective. Right up to 2**53 (CP-SAT reports doubles). Where 40 entities clash, 2**50 took up to
# four times as long as 2**28 if all scores tie, and half as long if few do; this lies between.
_LARGEST_OBJECTIVE = 2**36


@dataclass(frozen=True, slots=True)
class Answer:
    """What a solver says of one part.

    status: who found the unique answer ("dp", "cp-sat"), or that no choice meets the lower limit ("infeasible"),
    or that neither is known within the limit ("time limit"); `chosen` is empty in the last two.
    spent: CP-SAT's deterministic seconds.
    """

    status: Literal["dp", "cp-sat", "infeasible", "time limit"]
    chosen: list[Cell]
    spent: float = 0.0


def greedy(cells: Iterable[Cell], most: int | None) -> list[Cell]:
    """Of cells that come best first, take every one that still fits."""
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
    """Who solved a sentence (a `match.Solution.solver`), and its answer in any order.

    cells: sorted. least, most: as from `match.limits`, so least is 0 or most, or most is None (no limit).
    time_limit_s: deterministic seconds that CP-SAT may spend.
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
    """Sorted cells grouped so that no target word and no entity occurs in two groups; sorted within each."""
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
    """The tie rule, in one place: indices of cells, the most wanted first, in runs that allow one choice each.

    Of two solutions with the same sum the better one holds the first cell of this order that only one of them
    holds. So entity 0 takes the candidate that starts first, then the shortest, and any rather than none, and its
    further places by the same rule; then comes entity 1; and so on.

    No two cells of a run can be chosen together. A run of m cells is therefore a digit from m for its first cell
    down to 1 for its last, 0 for none, and the digits of all runs, read as one number, rank the solutions.
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
    """How many disjoint cells each entity has at most; cells sorted.

    In order of starts, a cell counts if it begins where the last that counts has ended, and takes its place if it
    ends earlier: so the last one ends as early as it can for their number.
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


def dynamic_program(cells: Sequence[Cell], fits: dict[int, int], *, least: int, most: int | None) -> Answer | None:
    """The unique answer, or None if it takes more than `MAX_WORK` steps. fits: `most_places` of the cells."""
    runs = tie_rule(cells, most)
    gains, size = [0] * len(cells), 1
    for run in reversed(runs):
        for digit, i in enumerate(reversed(run), 1):
            gains[i] = digit * size
        size *= len(run) + 1

    # A state has one field of bits per entity that is counted; k places are its k lowest bits
    starts = sorted({cell[1] for cell in cells})
    fields: dict[int, tuple[int, int, bool]] = {}  # entity: shift, full field, whether full means no more
    shift = 0
    for entity, fit in fits.items():
        limited = most is not None and fit > most
        width = most if limited and most else least
        fields[entity] = (shift, (1 << width) - 1, limited)
        shift += width
    moves: list[list[tuple[int, int, bool, int, int]]] = [[] for _ in starts]
    last: dict[int, int] = {}  # entity: where its last cell starts
    for (entity, start, end, score), gain in zip(cells, gains, strict=True):
        last[entity] = place = bisect_left(starts, start)
        moves[place].append((*fields[entity], bisect_left(starts, end), score * size + gain))
    closed = [0] * (len(starts) + 1)  # at each start: the fields of the entities that have no cell to come
    for entity, place in last.items():
        closed[place + 1] |= fields[entity][1] << fields[entity][0]
    closed = list(accumulate(closed, or_))
    filled = [0] * len(closed) if least else closed  # with no limit to check, their states are all one

    tables: list[dict[int, int]] = [{} for _ in closed]
    tables[0][0] = 0
    table, work = tables[0], 0
    for position, here in enumerate(moves):
        work += len(table) * (1 + len(here))
        if work > MAX_WORK:
            return None
        tables[position] = {}  # frees it
        onward, fill = tables[position + 1], filled[position + 1]
        for state, value in table.items():
            state |= fill
            if value > onward.get(state, -1):
                onward[state] = value
        for shift, full, limited, to, gain in here:
            onward, fill = tables[to], filled[to]
            for state, value in table.items():
                field = state >> shift & full
                if field != full:
                    state += field + 1 << shift
                elif limited:
                    continue
                state |= fill
                if value + gain > onward.get(state, -1):
                    onward[state] = value + gain
        table, shut = tables[position + 1], closed[position + 1]
        if least:
            table = {state: value for state, value in table.items() if state & shut == shut}
    if not table:
        return Answer("infeasible", [])

    rest, chosen = max(table.values()) % size, []
    for run in runs:
        size //= len(run) + 1
        digit, rest = divmod(rest, size)
        if digit:
            chosen.append(cells[run[-digit]])
    return Answer("dp", chosen)


def cp_sat(cells: Sequence[Cell], fits: dict[int, int], *, least: int, most: int | None, time_limit_s: float) -> Answer:
    """The unique answer by CP-SAT. fits: `most_places` of the cells.

    The objectives are ranked: the sum of scores, then the digits of the tie rule. As many in a row as fit are
    folded into one integer, where each weighs more than all later ones can sum to. The rest are maximised next,
    with the earlier results held.
    """
    from ortools.sat.python import cp_model  # here, as it takes a second and most runs do not need it

    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in cells]
    members: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        members.setdefault(cell[0], []).append(index)
    places = {entity: min(fit, most or fit) for entity, fit in fits.items()}
    for entity, group in members.items():
        model.add_linear_constraint(cp_model.LinearExpr.sum([chosen[i] for i in group]), least, places[entity])
    # Cells that share a word all hold the last of their starts: rows for words where a cell starts suffice.
    for word in sorted({cell[1] for cell in cells}):
        clash = [i for i, cell in enumerate(cells) if cell[1] <= word < cell[2]]
        model.add_at_most_one([chosen[i] for i in clash])

    scores = [cell[3] for cell in cells]
    runs = tie_rule(cells, most)
    objectives = [dict(enumerate(scores))]
    objectives += [{i: len(run) - rank for rank, i in enumerate(run)} for run in runs]
    largest = [sum(max(scores[i] for i in group) * places[entity] for entity, group in members.items())]
    largest += [len(run) for run in runs]
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
        if status == cp_model.INFEASIBLE:
            return Answer("infeasible", [], spent)
        if status != cp_model.OPTIMAL:
            return Answer("time limit", [], spent)
        values = [solver.boolean_value(x) for x in chosen]
        # Hold the cells themselves: a row that holds the folded sum, with its large weights, cost minutes.
        if first == 0:
            total = sum(score for score, value in zip(scores, values, strict=True) if value)
            model.add(cp_model.LinearExpr.weighted_sum(chosen, scores) == total)
        for i in (i for run in runs[max(0, first - 1) : level - 1] for i in run):
            model.add(chosen[i] == values[i])
    return Answer("cp-sat", [cell for cell, value in zip(cells, values, strict=True) if value], spent)
