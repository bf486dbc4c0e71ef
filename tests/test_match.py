"""The batch matcher against brute force under the tie rule, and the golden statements of method.md 7."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exact import FORMS, brute_force, disjoint_choices, made_up

from xner_ray import match
from xner_ray.errors import Loss
from xner_ray.exact import Cell
from xner_ray.match import Explained, Solution, explain, limits, solve
from xner_ray.scores import SCALE, Scored

Links = list[tuple[int, int]]
Entities = list[tuple[int, int]]
Kind = Literal["exact", "greedy"]
KINDS: tuple[Kind, Kind] = ("exact", "greedy")


def table(cells: list[Cell]) -> Scored:
    columns = np.array(cells, dtype=np.int64).reshape(-1, 4).T
    entity, start, end = columns[:3].astype(np.int32)
    return Scored(entity, start, end, columns[3])


def cells_of(scored: Scored) -> list[Cell]:
    names = ("entity", "start", "end", "score")
    return list(zip(*(getattr(scored, name).tolist() for name in names), strict=True))


def batch(sentences: list[list[Cell]], n_entities: int) -> tuple[Scored, list[int]]:
    """Sentences of `n_entities` each; entities count through."""
    cells = [(number * n_entities + e, s, t, c) for number, own in enumerate(sentences) for e, s, t, c in own]
    return table(cells), [number for number in range(len(sentences)) for _ in range(n_entities)]


def one(cells: list[Cell], n_entities: int, form: str = "<=1", solver: Kind = "exact", limit: float = 10.0) -> Solution:
    return solve(table(cells), row=[0] * n_entities, n_rows=1, per_entity=form, solver=solver, time_limit_s=limit)


def facts(solution: Solution) -> tuple[list[Cell], list[float], list[bool], list[str], list[tuple[int, Loss]]]:
    """A solution as something to compare."""
    lists = solution.objective.tolist(), solution.optimal.tolist(), solution.solver
    return cells_of(solution.chosen), *lists, solution.unprojected


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


def greedy_by_definition(cells: list[Cell], most: int | None) -> list[Cell]:
    """Method.md 4.4: take the best cell, strike out all that overlap it, and its row once that is full; repeat."""
    left, chosen = list(cells), []
    while left:
        best = min(left, key=lambda c: (-c[3], c[0], c[1], c[2]))
        chosen.append(best)
        full = sum(c[0] == best[0] for c in chosen) == most
        left = [c for c in left if (c[2] <= best[1] or best[2] <= c[1]) and not (full and c[0] == best[0])]
    return sorted(chosen, key=lambda cell: cell[1])


def instances(scores: st.SearchStrategy[int]) -> st.SearchStrategy[list[Cell]]:
    """Up to 3 entities over 7 words; few different scores, so many ties."""
    spans = [(e, s, t) for e in range(3) for s in range(7) for t in range(s + 1, min(7, s + 4) + 1)]
    return st.dictionaries(st.sampled_from(spans), scores, max_size=12).map(
        lambda chosen: [(*span, score) for span, score in chosen.items()]
    )


ANY = st.one_of(instances(st.integers(1, 3)), instances(st.integers(1, 40_000)))


@pytest.fixture(scope="module")
def small() -> tuple[list[list[Cell]], list[list[tuple[Cell, ...]]]]:
    """5,000 instances of up to 3 entities, half of them with ties nearly everywhere, and all their choices."""
    rng = np.random.default_rng(0)
    tops = [1, 2, 3, 40_000, 40_000, 40_000]
    found = [made_up(rng, 3, int(rng.integers(5, 10)), int(rng.integers(0, 9)), tops[n % 6]) for n in range(5000)]
    return found, [disjoint_choices(cells) for cells in found]


@pytest.mark.parametrize("form", FORMS)
def test_exact_is_the_unique_answer_of_every_form(
    form: str, small: tuple[list[list[Cell]], list[list[tuple[Cell, ...]]]]
) -> None:
    instances, choices = small
    least, most = limits(form)
    scored, row = batch(instances, 3)
    found = solve(scored, row=row, n_rows=len(instances), per_entity=form)
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
    exact, greedy = (solve(scored, row=row, n_rows=len(instances), per_entity=form, solver=solver) for solver in KINDS)
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
    whole = solve(table(cells), row=np.repeat(np.arange(300), sizes), n_rows=300, per_entity=form, solver=solver)
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


def golden(entities: Entities, links: Links, *, n_words: int = 6) -> list[tuple[int, int, int, float]]:
    """What both solvers project from windows and from all ranges; scores in units of 1."""
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
    nothing = solve(table([]), row=[], n_rows=0)
    assert facts(nothing) == ([], [], [], [], [])
    without = solve(table([]), row=[1], n_rows=3, per_entity="=1")
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


def test_the_tie_rule_with_several_places() -> None:
    ties = [(0, 0, 2, 4), (0, 0, 1, 2), (0, 1, 2, 2), (1, 3, 4, 2), (0, 3, 4, 2), (0, 5, 6, 1), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, "<=1").chosen) == [(0, 0, 2, 4), (1, 3, 4, 2)]
    assert cells_of(one(ties, 2, "<=2").chosen) == [(0, 0, 1, 2), (0, 1, 2, 2), (1, 3, 4, 2), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, "<=3").chosen) == [(0, 0, 1, 2), (0, 1, 2, 2), (0, 3, 4, 2), (1, 5, 6, 1)]
    assert cells_of(one(ties, 2, ">=0").chosen) == [*ties[1:3], ties[4], ties[5]]


def test_an_infeasible_sentence_gets_the_answer_without_the_lower_limit() -> None:
    cells = [(0, 0, 1, 3), (0, 1, 2, 3), (1, 0, 2, 9), (1, 3, 4, 2), (3, 0, 1, 3), (3, 0, 2, 2)]
    scored, row = table([*cells, (4, 0, 1, 5)]), [0, 0, 0, 0, 1]
    found = solve(scored, row=row, n_rows=2, per_entity="=2")
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
    cut = solve(scored, row=row, n_rows=2, per_entity="=1", time_limit_s=limit)
    greedy = solve(scored, row=row, n_rows=2, per_entity="=1", solver="greedy")
    assert cells_of(cut.chosen) == cells_of(greedy.chosen)[:-1] + cells_of(cut.chosen)[-1:]
    assert cut.solver == ["time limit: greedy", "infeasible"] and not cut.optimal.any()
    again = solve(scored, row=row, n_rows=2, per_entity="=1", time_limit_s=limit)
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
            solve(table([]), row=row, n_rows=2)
    with pytest.raises(ValueError, match="solver is 'gurobi'; allowed: 'exact', 'greedy'"):
        one([], 1, solver="gurobi")  # type: ignore[arg-type]


def test_explain_says_what_every_cell_lost_to() -> None:
    cells = [(0, 0, 2, 9), (0, 0, 1, 6), (0, 3, 4, 7), (0, 4, 5, 7)]
    cells += [(1, 0, 2, 9), (1, 1, 2, 9), (2, 1, 2, 1)]
    found = one(cells, 4)
    assert cells_of(found.chosen) == [(1, 0, 2, 9), (0, 3, 4, 7)]
    fates = {row.cell: (row.status, row.lost_to) for row in explain(table(cells), found, [0] * 4)}
    assert fates == {
        (0, 0, 2, 9): ("overlaps entity 1's choice", (1, 0, 2, 9)),
        (0, 0, 1, 6): ("lower score", (0, 3, 4, 7)),
        (0, 3, 4, 7): ("chosen", None),
        (0, 4, 5, 7): ("tie", (0, 3, 4, 7)),
        (1, 0, 2, 9): ("chosen", None),
        (1, 1, 2, 9): ("tie", (1, 0, 2, 9)),
        (2, 1, 2, 1): ("overlaps entity 1's choice", (1, 0, 2, 9)),
    }


def test_explain_with_several_places() -> None:
    cells = [(0, 0, 1, 6), (0, 1, 2, 6), (0, 0, 2, 9), (0, 3, 4, 5), (0, 4, 5, 6), (1, 4, 5, 7)]
    fates = explain(table(cells), one(cells, 2, "<=2"), [0, 0], per_entity="<=2")
    assert {row.cell: (row.status, row.lost_to) for row in fates} == {
        (0, 0, 2, 9): ("chosen", None),
        (0, 3, 4, 5): ("chosen", None),
        (0, 0, 1, 6): ("lower score", (0, 0, 2, 9)),
        (0, 1, 2, 6): ("lower score", (0, 0, 2, 9)),
        (0, 4, 5, 6): ("overlaps entity 1's choice", (1, 4, 5, 7)),
        (1, 4, 5, 7): ("chosen", None),
    }
    forced = [(0, 0, 1, 1), (0, 1, 2, 1), (0, 0, 2, 9)]
    fates = explain(table(forced), one(forced, 1, "=2"), [0], per_entity="=2")
    assert fates[0] == Explained((0, 0, 2, 9), "lower limit", (0, 0, 1, 1))


@settings(max_examples=200)
@given(ANY, st.sampled_from(["<=1", "<=2", ">=0", "=1"]))
def test_explain_names_a_true_reason(cells: list[Cell], form: str) -> None:
    for found in (one(cells, 3, form, solver) for solver in KINDS):
        chosen = cells_of(found.chosen)
        rows = explain(table(cells), found, [0] * 3, per_entity=form)
        assert sorted(row.cell for row in rows) == sorted(cells)
        assert sorted(row.cell for row in rows if row.status == "chosen") == sorted(chosen)
        for cell, status, lost_to in ((row.cell, row.status, row.lost_to) for row in rows):
            if status == "chosen":
                continue
            assert lost_to in chosen and lost_to != cell
            own = lost_to[0] == cell[0]
            crossed = lost_to[1] < cell[2] and cell[1] < lost_to[2]
            assert own == (status in ("lower score", "tie", "lower limit"))
            assert own or status == f"overlaps entity {lost_to[0]}'s choice"
            assert own or crossed
            if form == "<=1":
                assert (status == "lower score") == (own and cell[3] < lost_to[3])
                assert (status == "tie") == (own and cell[3] == lost_to[3])


def test_importing_the_matcher_loads_neither_torch_nor_ray_nor_ortools() -> None:
    code = "import sys, xner_ray.match; print([m for m in ('torch', 'ray', 'ortools') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("form", ["<=1", "<=2", "=1", ">=1", ">=0"])
def test_cells_that_only_touch_need_no_solver(form: str) -> None:
    found = one([(0, 0, 1, 5), (1, 1, 3, 5), (1, 1, 2, 4), (2, 3, 4, 1)], 3, form)
    assert (cells_of(found.chosen), found.solver) == ([(0, 0, 1, 5), (1, 1, 3, 5), (2, 3, 4, 1)], ["independent"])
