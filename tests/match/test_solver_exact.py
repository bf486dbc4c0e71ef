"""The solvers of one clashing sentence against brute force, and against each other where that is too slow."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from match_cells import FORMS, brute_force, disjoint_choices, made_up

from xner_ray.match import solver_exact
from xner_ray.match.solver_exact import Cell
from xner_ray.recipe.limits import limits


def both(
    cells: list[Cell],
    form: str,
    *,
    max_work: int = solver_exact.MAX_WORK,
    largest: int = solver_exact.LARGEST_OBJECTIVE,
) -> tuple[solver_exact.Answer | None, solver_exact.Answer]:
    least, most = limits(form)
    fits = solver_exact.most_places(cells)
    return (
        solver_exact.dynamic_program(cells, fits, least=least, most=most, max_work=max_work),
        solver_exact.cp_sat(cells, fits, least=least, most=most, time_limit_s=10.0, largest=largest),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("top", [2, 40_000])
def test_both_solvers_give_the_unique_answer(form: str, top: int) -> None:
    rng = np.random.default_rng(FORMS.index(form) + top)
    for _ in range(40):
        cells = made_up(rng, 3, 8, int(rng.integers(1, 10)), top)
        expected = brute_force(disjoint_choices(cells), *limits(form))
        for answer in both(cells, form):
            assert answer is not None
            assert answer.status in (("dp", "cp-sat") if expected is not None else ("infeasible",))
            assert sorted(answer.chosen, key=lambda cell: cell[1]) == (expected or [])


@pytest.mark.parametrize("form", ["<=1", "<=2", "=1", ">=1", ">=0"])
@pytest.mark.parametrize(("n_entities", "n_words", "n_cells"), [(4, 20, 60), (6, 18, 120), (20, 120, 200)])
def test_the_solvers_agree_where_brute_force_ends(form: str, n_entities: int, n_words: int, n_cells: int) -> None:
    for seed, top in [(0, 3), (1, 9999), (2, 1)]:
        cells = made_up(np.random.default_rng(seed), n_entities, n_words, n_cells, top)
        if n_entities == 20:  # entities that stay near their place, so that few are open at once
            cells = [cell for cell in cells if abs(cell[1] - 6 * cell[0]) < 10]
        dynamic, cp_sat = both(cells, form, max_work=10_000_000)
        assert dynamic is not None and {dynamic.status, cp_sat.status} in ({"dp", "cp-sat"}, {"infeasible"})
        assert sorted(dynamic.chosen) == sorted(cp_sat.chosen)


@pytest.mark.parametrize("fold", [1, 50])
def test_the_answer_is_the_same_when_the_tie_rule_needs_several_solves(fold: int) -> None:
    rng = np.random.default_rng(fold)
    for form in ("<=1", "<=2", ">=1"):
        for _ in range(20):
            cells = made_up(rng, 3, 8, 9, 2)
            expected = brute_force(disjoint_choices(cells), *limits(form))
            assert sorted(both(cells, form, largest=fold)[1].chosen) == sorted(expected or [])


def test_the_tie_rule_ranks_all_choices_without_a_tie() -> None:
    """Its digits, read as one number, give every choice another rank, and that of the definition."""
    rng = np.random.default_rng(0)
    for most in (1, 2, None):
        for _ in range(30):
            cells = made_up(rng, 3, 8, 7, 1)
            runs = solver_exact.tie_rule(cells, most)
            assert sorted(i for run in runs for i in run) == list(range(len(cells)))

            def digits(choice: tuple[Cell, ...], cells: list[Cell] = cells, runs: list[list[int]] = runs) -> list[int]:
                return [sum(len(run) - rank for rank, i in enumerate(run) if cells[i] in choice) for run in runs]

            choices = [
                c
                for c in disjoint_choices(cells)
                if not most or max(Counter(x[0] for x in c).values(), default=0) <= most
            ]
            assert len({tuple(digits(choice)) for choice in choices}) == len(choices)
            best = max(choices, key=lambda choice: (sum(cell[3] for cell in choice), digits(choice)))
            assert sorted(best) == sorted(brute_force(choices, 0, most) or [])


def test_most_places_is_the_largest_number_of_disjoint_cells() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        cells = made_up(rng, 2, 9, 9, 1)
        counts = [Counter(cell[0] for cell in choice) for choice in disjoint_choices(cells)]
        assert solver_exact.most_places(cells) == {e: max(count[e] for count in counts) for e in {c[0] for c in cells}}


def test_many_entities_go_to_cp_sat() -> None:
    cells = made_up(np.random.default_rng(0), 30, 40, 400, 9999)
    dynamic, cp_sat = both(cells, "<=1")
    assert dynamic is None and cp_sat.status == "cp-sat" and cp_sat.spent > 0
    solver, chosen = solver_exact.solve_sentence(cells, least=0, most=1, time_limit_s=10.0)
    assert (solver, sorted(chosen)) == ("cp-sat", sorted(cp_sat.chosen))


@pytest.mark.slow
def test_one_place_in_a_row_of_ends_needs_no_state() -> None:
    """200 entities that interleave only with their neighbours: states that are closed must merge."""
    cells = [(e, 2 * e + k, 2 * e + k + n, 10 * n + k) for e in range(200) for k in range(4) for n in (1, 2)]
    dynamic, cp_sat = both(cells, "<=1")
    assert dynamic is not None and sorted(dynamic.chosen) == sorted(cp_sat.chosen)


def test_scores_and_ties_are_exact_in_large_numbers() -> None:
    top = 2**32
    cells = [(0, 0, 1, top - 2), (0, 0, 2, top), (1, 0, 2, top), (1, 1, 2, top), (2, 2, 3, 1)]
    for answer in both(cells, "<=1"):
        assert answer is not None and sorted(answer.chosen) == [(0, 0, 1, top - 2), (1, 1, 2, top), (2, 2, 3, 1)]


@pytest.mark.parametrize("limit", [0.0, -1.0, 1e-9, 0.05])
def test_past_the_limit_it_is_greedy_and_says_so(limit: float) -> None:
    cells = made_up(np.random.default_rng(0), 30, 40, 400, 9999)
    best_first = sorted(cells, key=lambda cell: (-cell[3], *cell[:3]))
    assert solver_exact.solve_sentence(cells, least=1, most=1, time_limit_s=limit) == (
        solver_exact.TIME_LIMIT,
        solver_exact.greedy(best_first, 1),
    )
