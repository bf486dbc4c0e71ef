"""The batch matcher against brute force under the tie rule."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_cells import ANY, FORMS, KINDS, Kind, brute_force, cells_of, disjoint_choices, facts, made_up, one, table

from xner_ray.data.row import SCALE
from xner_ray.errors import Loss
from xner_ray.match import solver as match
from xner_ray.match.scores import Scored
from xner_ray.match.solver import Solution, solve_batch
from xner_ray.match.solver_exact import Cell
from xner_ray.recipe.limits import limits


def batch(sentences: list[list[Cell]], n_entities: int) -> tuple[Scored, list[int]]:
    """Sentences of `n_entities` each; entities count through."""
    cells = [(number * n_entities + e, s, t, c) for number, own in enumerate(sentences) for e, s, t, c in own]
    return table(cells), [number for number in range(len(sentences)) for _ in range(n_entities)]


def greedy_by_definition(cells: list[Cell], most: int | None) -> list[Cell]:
    """Method.md 4.4: take the best cell, strike out all that overlap it, and its row once that is full; repeat."""
    left, chosen = list(cells), []
    while left:
        best = min(left, key=lambda c: (-c[3], c[0], c[1], c[2]))
        chosen.append(best)
        full = sum(c[0] == best[0] for c in chosen) == most
        left = [c for c in left if (c[2] <= best[1] or best[2] <= c[1]) and not (full and c[0] == best[0])]
    return sorted(chosen, key=lambda cell: cell[1])


@pytest.fixture(scope="module")
def small() -> tuple[list[list[Cell]], list[list[tuple[Cell, ...]]]]:
    """5,000 instances of up to 3 entities, half of them with ties nearly everywhere, and all their choices."""
    rng = np.random.default_rng(0)
    tops = [1, 2, 3, 40_000, 40_000, 40_000]
    found = [made_up(rng, 3, int(rng.integers(5, 10)), int(rng.integers(0, 9)), tops[n % 6]) for n in range(5000)]
    return found, [disjoint_choices(cells) for cells in found]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_exact_is_the_unique_answer_of_every_form(
    form: str, small: tuple[list[list[Cell]], list[list[tuple[Cell, ...]]]]
) -> None:
    instances, choices = small
    least, most = limits(form)
    scored, row = batch(instances, 3)
    found = solve_batch(scored, row=row, n_rows=len(instances), per_entity=form)
    answers: list[list[Cell]] = [[] for _ in instances]
    for entity, *place in cells_of(found.chosen):
        answers[entity // 3].append((entity % 3, *place))  # type: ignore[arg-type]
    lost = dict(found.unprojected)
    for number, cells in enumerate(instances):
        expected = brute_force(choices[number], least, most)
        infeasible = expected is None
        expected = brute_force(choices[number], 0, most) if infeasible else expected
        assert answers[number] == expected, cells
        assert (found.solver[number] == "infeasible") == infeasible == (not found.optimal[number])
        assert found.objective[number] == pytest.approx(sum(c[3] for c in answers[number]) / SCALE)
        for entity in range(3):
            has, placed = (any(c[0] == entity for c in own) for own in (cells, answers[number]))
            why = Loss.INFEASIBLE if infeasible else Loss.OVERLAP
            expected_loss = None if placed else why if has else Loss.NO_CANDIDATE
            assert lost.get(3 * number + entity) == expected_loss
    assert [entity for entity, _ in found.unprojected] == sorted(lost)
    assert set(found.solver) <= {"independent", "dp", "infeasible"}


@pytest.mark.parametrize("form", FORMS)
def test_greedy_is_greedy_and_within_its_bound(
    form: str, small: tuple[list[list[Cell]], list[list[tuple[Cell, ...]]]]
) -> None:
    """Method.md 7, statement 26; greedy calls itself optimal only where it is the exact answer."""
    instances = small[0][:1500]
    scored, row = batch(instances, 3)
    exact, greedy = (
        solve_batch(scored, row=row, n_rows=len(instances), per_entity=form, solver=solver) for solver in KINDS
    )
    assert set(greedy.solver) == {"greedy"}
    chosen = [
        (number, cell) for number, own in enumerate(instances) for cell in greedy_by_definition(own, limits(form)[1])
    ]
    assert cells_of(greedy.chosen) == [(3 * number + e, s, t, c) for number, (e, s, t, c) in chosen]
    same = np.array([False] * len(instances))
    for number in range(len(instances)):
        same[number] = cells_of_row(exact, number) == cells_of_row(greedy, number)
    assert (same | ~greedy.optimal).all() and greedy.optimal.any()
    if limits(form)[0] == 0:
        assert (greedy.objective <= exact.objective + 1e-9).all()
    if form in ("<=1", "<2"):
        longest = np.array([max((c[2] - c[1] for c in cells), default=0) for cells in instances])
        assert (greedy.objective >= exact.objective / (longest + 1) - 1e-9).all()


def cells_of_row(solution: Solution, number: int) -> list[Cell]:
    own = solution.chosen.entity // 3 == number
    return cells_of(Scored(*(getattr(solution.chosen, n)[own] for n in ("entity", "start", "end", "score"))))


@pytest.mark.parametrize("solver", KINDS)
@pytest.mark.parametrize("form", ["<=1", "<=2", "=1", ">=1"])
def test_a_batch_is_its_sentences(form: str, solver: Kind) -> None:
    """Method.md 7, statement 31, the part that is the matcher's; some sentences have no entity, or no cell."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 5, size=300).tolist()
    sentences = [made_up(rng, max(n, 1), 12, 12, 9999) if n and rng.random() < 0.9 else [] for n in sizes]
    base = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    cells = [(base[n] + e, s, t, c) for n, own in enumerate(sentences) for e, s, t, c in own]
    whole = solve_batch(table(cells), row=np.repeat(np.arange(300), sizes), n_rows=300, per_entity=form, solver=solver)
    parts = [one(own, n, form, solver) for own, n in zip(sentences, sizes, strict=True)]
    together = [(base[n] + e, s, t, c) for n, part in enumerate(parts) for e, s, t, c in cells_of(part.chosen)]
    assert cells_of(whole.chosen) == together
    assert whole.objective.tolist() == [part.objective[0] for part in parts]
    assert whole.optimal.tolist() == [part.optimal[0] for part in parts]
    assert whole.solver == [part.solver[0] for part in parts]
    assert whole.unprojected == [(base[n] + e, loss) for n, part in enumerate(parts) for e, loss in part.unprojected]
    assert {"none", "greedy" if solver == "greedy" else "dp"} <= set(whole.solver)


@settings(max_examples=150)
@given(ANY.flatmap(lambda cells: st.tuples(st.just(cells), st.permutations(cells))), st.sampled_from(FORMS))
def test_the_order_of_the_cells_does_not_matter(pair: tuple[list[Cell], list[Cell]], form: str) -> None:
    for solver in KINDS:
        assert facts(one(pair[0], 3, form, solver)) == facts(one(pair[1], 3, form, solver))


@settings(max_examples=300)
@given(ANY, st.sampled_from(FORMS))
def test_leaving_out_dominated_cells_changes_nothing(cells: list[Cell], form: str) -> None:
    least, most = limits(form)
    kept = cells_of(match._undominated(table(sorted(cells))))
    assert set(kept) <= set(cells) and {c[0] for c in kept} == {c[0] for c in cells}
    for lower in {least, 0}:
        assert brute_force(disjoint_choices(kept), lower, most) == brute_force(disjoint_choices(cells), lower, most)
    assert greedy_by_definition(kept, most) == greedy_by_definition(cells, most)


def test_of_a_cell_that_comes_twice_the_higher_score_counts() -> None:
    cells = [(0, 0, 2, 5), (0, 0, 2, 9), (1, 1, 3, 7), (1, 1, 3, 8)]
    for solver in KINDS:
        assert cells_of(one(cells, 2, solver=solver).chosen) == [(0, 0, 2, 9)]


def test_the_tie_rule_with_several_places() -> None:
    ties = [(0, 0, 2, 4), (0, 0, 1, 2), (0, 1, 2, 2), (1, 3, 4, 2), (0, 3, 4, 2), (0, 5, 6, 1), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, "<=1").chosen) == [(0, 0, 2, 4), (1, 3, 4, 2)]
    assert cells_of(one(ties, 2, "<=2").chosen) == [(0, 0, 1, 2), (0, 1, 2, 2), (1, 3, 4, 2), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, "<=3").chosen) == [(0, 0, 1, 2), (0, 1, 2, 2), (0, 3, 4, 2), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, ">=0").chosen) == [*ties[1:3], ties[4], ties[5]]


def test_an_infeasible_sentence_gets_the_answer_without_the_lower_limit() -> None:
    cells = [(0, 0, 1, 3), (0, 1, 2, 3), (1, 0, 2, 9), (1, 3, 4, 2), (3, 0, 1, 3), (3, 0, 2, 2)]
    scored, row = table([*cells, (4, 0, 1, 5)]), [0, 0, 0, 0, 1]
    found = solve_batch(scored, row=row, n_rows=2, per_entity="=2")
    assert cells_of(found.chosen) == [(1, 0, 2, 9), (1, 3, 4, 2), (4, 0, 1, 5)]
    assert found.solver == ["infeasible", "infeasible"] and not found.optimal.any()
    assert found.unprojected == [(0, Loss.INFEASIBLE), (2, Loss.NO_CANDIDATE), (3, Loss.INFEASIBLE)]


def test_a_lower_limit_can_cost_score() -> None:
    cells = [(0, 0, 3, 9), (1, 1, 2, 1)]
    assert cells_of(one(cells, 2, "<=1").chosen) == [(0, 0, 3, 9)]
    cells.append((0, 3, 4, 1))
    found = one(cells, 2, "=1")
    assert (cells_of(found.chosen), found.solver) == ([(1, 1, 2, 1), (0, 3, 4, 1)], ["dp"])


def test_large_scores_stay_exact() -> None:
    """Two solutions that differ by one ten-thousandth in 2**32."""
    top = 2**32
    cells = [(0, 0, 2, top), (0, 0, 1, top - 2), (1, 1, 2, top), (1, 0, 2, top), (2, 2, 3, 1)]
    assert cells_of(one(cells, 3).chosen) == [(0, 0, 1, top - 2), (1, 1, 2, top), (2, 2, 3, 1)]


@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_past_the_limit_a_sentence_is_greedy_and_says_so(limit: float) -> None:
    hard = made_up(np.random.default_rng(0), 30, 40, 400, 9999)
    scored, row = batch([hard, [(0, 0, 2, 5), (1, 1, 3, 5)]], 30)
    cut = solve_batch(scored, row=row, n_rows=2, per_entity="=1", time_limit_s=limit)
    greedy = solve_batch(scored, row=row, n_rows=2, per_entity="=1", solver="greedy")
    assert cells_of(cut.chosen) == cells_of(greedy.chosen)[:-1] + cells_of(cut.chosen)[-1:]
    assert cut.solver == ["time limit: greedy", "infeasible"] and not cut.optimal.any()
    again = solve_batch(scored, row=row, n_rows=2, per_entity="=1", time_limit_s=limit)
    assert facts(cut) == facts(again)


def test_many_entities_go_to_cp_sat() -> None:
    hard = made_up(np.random.default_rng(0), 40, 40, 600, 5)
    found = one(hard, 40)
    assert (found.solver, found.optimal.tolist()) == (["cp-sat"], [True])
    assert facts(one(hard[::-1], 40)) == facts(found)


def test_limits() -> None:
    forms = {form: limits(form) for form in ("<=1", "<2", "<3", "=2", ">=0", ">=3", ">0", ">2", "<=12")}
    expected = [(0, 1), (0, 1), (0, 2), (2, 2), (0, None), (3, None), (1, None), (3, None), (0, 12)]
    assert list(forms.values()) == expected
    for form in ("", "1", "<1", "<=0", "<0", "=0", "==1", "<= 1", "=>1", "<=-1", "<=1.5", "≤1", "<=१"):
        with pytest.raises(ValueError, match=r"per_entity is .*; allowed: '<=1'"):
            limits(form)


def test_bad_input_is_refused() -> None:
    for cell in [(1, 0, 1, 5), (0, 1, 1, 5), (0, 2, 1, 5), (0, -1, 1, 5), (-1, 0, 1, 5)]:
        with pytest.raises(ValueError, match=r"an empty cell.*of the 1 entities: \[\(" + str(cell[0])):
            one([cell], 1)
    for row in ([1, 0], [-1, 0], [0, 2]):
        with pytest.raises(ValueError, match="allowed: ascending, from 0 to below n_rows = 2"):
            solve_batch(table([]), row=row, n_rows=2)
    with pytest.raises(ValueError, match="solver is 'gurobi'; allowed: 'exact', 'greedy'"):
        one([], 1, solver="gurobi")  # type: ignore[arg-type]


def test_importing_the_matcher_loads_neither_torch_nor_ray_nor_ortools() -> None:
    code = "import sys, xner_ray.match.solver; print([m for m in ('torch', 'ray', 'ortools') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("form", ["<=1", "<=2", "=1", ">=1", ">=0"])
def test_cells_that_only_touch_need_no_solver(form: str) -> None:
    found = one([(0, 0, 1, 5), (1, 1, 3, 5), (1, 1, 2, 4), (2, 3, 4, 1)], 3, form)
    assert (cells_of(found.chosen), found.solver) == ([(0, 0, 1, 5), (1, 1, 3, 5), (2, 3, 4, 1)], ["independent"])
