"""The golden statements of method.md 7 that are the matcher's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_cells import ANY, KINDS, cells_of, facts, made_up, one, table

from xner_ray.data.row import SCALE
from xner_ray.errors import Loss
from xner_ray.match.solver import solve_batch
from xner_ray.match.solver_exact import Cell
from xner_ray.recipe.limits import limits

Links = list[tuple[int, int]]
Entities = list[tuple[int, int]]


def by_alignment(entities: Entities, links: Links, n_words: int, *, window: bool = False) -> list[Cell]:
    """Cells with round(10000 x 2 A / (|s| + |t|)) > 0: of all ranges, or of those between linked words."""
    cells = []
    for entity, (first, last) in enumerate(entities):
        linked = [word for source, word in set(links) if first <= source < last]
        low, high = (min(linked, default=0), max(linked, default=-1) + 1) if window else (0, n_words)
        for start in range(low, high):
            for end in range(start + 1, high + 1):
                count = sum(start <= word < end for word in linked)
                if count:
                    cells.append((entity, start, end, round(SCALE * 2 * count / (last - first + end - start))))
    return cells


def golden(entities: Entities, links: Links, *, n_words: int = 6) -> list[tuple[int, int, int, float]]:
    """Return both solvers' projections from windows and from all ranges; scores in units of 1."""
    answers = []
    for window in (True, False):
        for solver in KINDS:
            cells = by_alignment(entities, links, n_words, window=window)
            answers.append(cells_of(one(cells, len(entities), solver=solver).chosen))
    assert all(answer == answers[0] for answer in answers)
    return [(entity, start, end, score / SCALE) for entity, start, end, score in answers[0]]


def scored_as(score: float) -> object:
    return pytest.approx(score, abs=0.5 / SCALE)


# The links of these tests are (source, target)


def test_golden_09_a_gap_of_one_word_is_closed() -> None:
    assert golden([(0, 2)], [(0, 0), (1, 2)]) == [(0, 0, 3, scored_as(0.8))]


def test_golden_10_a_gap_of_two_words_is_a_tie_and_stays_open() -> None:
    assert golden([(0, 2)], [(0, 0), (1, 3)]) == [(0, 0, 1, scored_as(2 / 3))]


def test_golden_11_two_words_on_one() -> None:
    assert golden([(0, 2)], [(0, 0), (1, 0)]) == [(0, 0, 1, scored_as(4 / 3))]


def test_golden_12_four_of_five_words() -> None:
    assert golden([(0, 5)], [(i, i) for i in range(4)]) == [(0, 0, 4, scored_as(8 / 9))]


def test_golden_13_a_tie_goes_to_the_first_candidate() -> None:
    assert golden([(0, 1)], [(0, 0), (0, 2)]) == [(0, 0, 1, 1.0)]


def test_golden_14_one_word_on_two() -> None:
    assert golden([(0, 1)], [(0, 0), (0, 1)]) == [(0, 0, 2, scored_as(4 / 3))]


def test_golden_15_a_stray_word_is_reached_over_a_gap_of_one_but_not_of_two() -> None:
    assert golden([(0, 3)], [(0, 0), (1, 1), (2, 3)]) == [(0, 0, 4, scored_as(6 / 7))]
    assert golden([(0, 3)], [(0, 0), (1, 1), (2, 4)]) == [(0, 0, 2, scored_as(4 / 5))]


def test_golden_16_of_two_entities_on_one_word_the_lower_index_is_projected() -> None:
    assert golden([(0, 1), (1, 2)], [(0, 0), (1, 0)]) == [(0, 0, 1, 1.0)]


def test_golden_17_another_entity_in_the_gap_is_not_absorbed() -> None:
    found = golden([(0, 2), (2, 3)], [(0, 0), (1, 2), (2, 1)])
    assert found == [(0, 0, 1, scored_as(2 / 3)), (1, 1, 2, 1.0)]


def test_golden_18_nothing_to_project_is_no_error() -> None:
    assert golden([], [(0, 0)]) == golden([(0, 1)], []) == golden([(0, 1)], [], n_words=0) == []
    nothing = solve_batch(table([]), row=[], n_rows=0)
    assert facts(nothing) == ([], [], [], [], [])
    without = solve_batch(table([]), row=[1], n_rows=3, per_entity="=1")
    assert facts(without) == ([], [0.0] * 3, [True] * 3, ["none", "independent", "none"], [(0, Loss.NO_CANDIDATE)])


@settings(max_examples=200)
@given(st.integers(1, 6), st.integers(1, 4), st.data())
def test_golden_21_the_hull_beats_the_longer_run_if_the_gap_is_small(s: int, a: int, data: st.DataObject) -> None:
    """g < s b / a, for runs of a >= b one-to-one linked words and a gap of g words; a tie at equality."""
    b, gap = data.draw(st.integers(1, a)), data.draw(st.integers(1, 8))
    s = max(s, a + b)
    links = [(i, i) for i in range(a)] + [(a + i, a + gap + i) for i in range(b)]
    chosen = cells_of(one(by_alignment([(0, s)], links, a + gap + b), 1).chosen)
    assert (chosen[0][1:3] == (0, a + gap + b)) == (gap * a < s * b)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=16), st.sampled_from(["<=1", "<=2", "<4"]))
def test_golden_22_windows_lose_nothing_under_upper_limits(links: Links, form: str) -> None:
    """And more: clipping gains in score, so with one place per entity even the solution is the same."""
    entities = [(0, 2), (2, 3), (3, 6)]
    for solver in KINDS if form == "<=1" else KINDS[:1]:
        wide, narrow = (one(by_alignment(entities, links, 8, window=w), 3, form, solver) for w in (False, True))
        assert wide.objective.tolist() == narrow.objective.tolist()
        assert form != "<=1" or facts(wide) == facts(narrow)


@pytest.mark.parametrize("form", ["<=1", "=1", "<=2", ">=0"])
def test_golden_23_three_forms_of_the_overlap_rows_have_one_optimum(form: str) -> None:
    """Rows by pair of cells (2), by pair of candidates (2a, 2b), by target word (2c): method.md 4.1."""
    from ortools.sat.python import cp_model

    rng = np.random.default_rng(0)
    for _ in range(8):
        cells = made_up(rng, 3, 9, 12, 9999)
        spans = sorted({cell[1:3] for cell in cells})
        numbers = range(len(cells))
        overlap = [[a[1] < b[2] and b[1] < a[2] for b in cells] for a in cells]
        pairs = [[i, j] for i in numbers for j in numbers if i < j and overlap[i][j]]
        by_span = [
            [i for i in numbers if cells[i][1:3] in (s, t)] for s in spans for t in spans if s < t and s[1] > t[0]
        ]
        by_span += [[i for i in numbers if cells[i][1:3] == s] for s in spans]
        by_word = [[i for i in numbers if cells[i][1] <= word < cells[i][2]] for word in range(13)]
        optima = []
        for rows in (pairs, by_span, by_word):
            model = cp_model.CpModel()
            x = [model.new_bool_var("") for _ in cells]
            for row in rows:
                model.add(sum(x[i] for i in row) <= 1)
            least, most = limits(form)
            for entity in {cell[0] for cell in cells}:
                own = [x[i] for i in numbers if cells[i][0] == entity]
                model.add_linear_constraint(sum(own), least, len(own) if most is None else most)
            model.maximize(sum(cell[3] * x[i] for i, cell in enumerate(cells)))
            solver = cp_model.CpSolver()
            solver.parameters.num_workers = 1
            status = solver.solve(model)
            optima.append(solver.objective_value / SCALE if status == cp_model.OPTIMAL else None)
        found = one(cells, 3, form)
        assert optima == [None if found.solver == ["infeasible"] else pytest.approx(found.objective[0])] * 3


def test_golden_24_greedy_loses_with_two_places() -> None:
    cells = [(0, 0, 2, 2000), (0, 1, 3, 3000), (0, 2, 5, 2000)]
    exact, greedy = (one(cells, 1, "<=2", solver) for solver in KINDS)
    assert (exact.objective.tolist(), exact.solver, exact.optimal.tolist()) == ([0.4], ["dp"], [True])
    assert (greedy.objective.tolist(), greedy.solver, greedy.optimal.tolist()) == ([0.3], ["greedy"], [False])


def test_golden_25_several_places_split_an_entity() -> None:
    two = one(by_alignment([(0, 2)], [(0, 0), (1, 1)], 6), 1, "<=2")
    assert [cell[1:3] for cell in cells_of(two.chosen)] == [(0, 1), (1, 2)]
    assert two.objective[0] == pytest.approx(4 / 3, abs=1 / SCALE)
    three = by_alignment([(0, 3)], [(0, 0), (1, 1), (2, 2)], 6)
    objectives = [one(three, 1, form).objective[0] for form in ("<=3", "<=2", "<=1")]
    assert objectives == [pytest.approx(1.5), pytest.approx(1.3), pytest.approx(1.0)]


def test_golden_26_greedy_can_be_nearly_as_far_off_as_its_bound() -> None:
    """Method.md 4.4, L = 3: a long cell in the way of three short ones and of its own entity's other cell."""
    cells = [(0, 1, 4, 1001), (0, 5, 6, 1000), (1, 1, 2, 1000), (2, 2, 3, 1000), (3, 3, 4, 1000)]
    exact, greedy = (one(cells, 4, solver=solver) for solver in KINDS)
    assert (exact.objective.tolist(), exact.solver, exact.optimal.tolist()) == ([0.4], ["dp"], [True])
    assert (greedy.objective.tolist(), greedy.solver, greedy.optimal.tolist()) == ([0.1001], ["greedy"], [False])


@settings(max_examples=200)
@given(ANY)
def test_golden_27_without_limits_it_is_interval_scheduling(cells: list[Cell]) -> None:
    best = [0] * 8  # of the first n words
    for n in range(1, 8):
        best[n] = max([best[n - 1]] + [best[start] + score for _, start, end, score in cells if end == n])
    assert one(cells, 3, ">=0").objective[0] == pytest.approx(best[7] / SCALE)
    own = [(i, start, end, score) for i, (_, start, end, score) in enumerate(cells)]
    assert one(own, len(own)).objective[0] == pytest.approx(best[7] / SCALE)
