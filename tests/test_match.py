"""The matcher against brute force under the tie rule, and the golden statements of method.md 7."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray import match
from xner_ray.candidates import link_counts, ngrams, windows
from xner_ray.errors import Loss
from xner_ray.match import Cell, Matching, explain, solve
from xner_ray.scores import SCALE, Scored, alignment, fuse
from xner_ray.spans import Span

Links = list[tuple[int, int]]


def table(cells: list[Cell]) -> Scored:
    columns = np.array(cells, dtype=np.int64).reshape(-1, 4).T
    entity, start, end = columns[:3].astype(np.int32)
    return Scored(entity, start, end, columns[3])


def by_alignment(entities: list[Span], links: Links, n_words: int, *, window: bool = False) -> Scored:
    counts = link_counts(entities, links, n_words=n_words)
    candidates = windows(counts) if window else ngrams(len(entities), n_words)
    return fuse(candidates, {"align": alignment(candidates, counts, entities)}, {"align": 1.0})


def both(cells: Scored, n_entities: int, n_words: int) -> tuple[Matching, Matching]:
    return (
        solve(cells, n_entities=n_entities, n_words=n_words, solver="exact"),
        solve(cells, n_entities=n_entities, n_words=n_words, solver="greedy"),
    )


def all_solutions(cells: list[Cell], n_entities: int, entity: int = 0) -> Iterator[list[Cell]]:
    if entity == n_entities:
        yield []
        return
    for rest in all_solutions(cells, n_entities, entity + 1):
        yield rest
        for cell in cells:
            if cell[0] == entity and all(cell[2] <= c[1] or c[2] <= cell[1] for c in rest):
                yield [cell, *rest]


def brute_force(cells: list[Cell], n_entities: int) -> list[Cell]:
    """The unique answer straight from its definition."""

    def rank(solution: list[Cell]) -> tuple[int, list[tuple[int, int, int]]]:
        place = {cell[0]: (0, cell[1], cell[2]) for cell in solution}
        order = [place.get(entity, (1, 0, 0)) for entity in range(n_entities)]
        return -sum(cell[3] for cell in solution), order

    best: list[Cell] = min(all_solutions(cells, n_entities), key=rank)
    return sorted(best, key=lambda cell: cell[1])


def greedy_by_definition(cells: list[Cell]) -> list[Cell]:
    """Method.md 4.4: take the best cell, strike out its row and all that overlap it, repeat."""
    left, chosen = list(cells), []
    while left:
        best = min(left, key=lambda c: (-c[3], c[0], c[1], c[2]))
        chosen.append(best)
        left = [c for c in left if c[0] != best[0] and (c[2] <= best[1] or best[2] <= c[1])]
    return sorted(chosen, key=lambda cell: cell[1])


def instances(scores: st.SearchStrategy[int]) -> st.SearchStrategy[list[Cell]]:
    """Up to 3 entities over 7 words; few different scores, so many ties."""
    spans = [(e, s, t) for e in range(3) for s in range(7) for t in range(s + 1, min(7, s + 4) + 1)]
    return st.dictionaries(st.sampled_from(spans), scores, max_size=14).map(
        lambda chosen: [(*span, score) for span, score in chosen.items()]
    )


TIES = instances(st.integers(1, 3))
ANY = st.one_of(TIES, instances(st.integers(1, 40_000)))


@settings(max_examples=1200, deadline=None)
@given(ANY)
def test_exact_is_the_unique_answer(cells: list[Cell]) -> None:
    found = solve(table(cells), n_entities=3, n_words=7)
    assert found.chosen == brute_force(cells, 3)
    assert found.optimal and found.solver in ("independent", "cp-sat")


@settings(max_examples=200, deadline=None)
@given(TIES, st.sampled_from([1, 50]))
def test_the_answer_is_the_same_when_the_tie_rule_needs_several_solves(cells: list[Cell], fold: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match, "_LARGEST_OBJECTIVE", fold)
        assert solve(table(cells), n_entities=3, n_words=7).chosen == brute_force(cells, 3)


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_leaving_out_dominated_cells_changes_nothing(cells: list[Cell]) -> None:
    if cells:
        kept = [c for c, keep in zip(cells, match._undominated(table(cells)), strict=True) if keep]
        assert brute_force(kept, 3) == brute_force(cells, 3)


@settings(max_examples=500, deadline=None)
@given(ANY)
def test_greedy_is_greedy_and_within_its_bound(cells: list[Cell]) -> None:
    """Method.md 7, statement 26; greedy calls itself optimal only where it is the exact answer."""
    exact, greedy = both(table(cells), 3, 7)
    longest = max((end - start for _, start, end, _ in cells), default=0)
    assert greedy.chosen == greedy_by_definition(cells)
    assert greedy.solver == "greedy"
    assert greedy.objective <= exact.objective + 1e-9
    assert greedy.objective >= exact.objective / (longest + 1) - 1e-9
    assert not greedy.optimal or greedy.chosen == exact.chosen


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_results_are_feasible_and_account_for_every_entity(cells: list[Cell]) -> None:
    for found in both(table(cells), 3, 7):
        assert all(left[2] <= right[1] for left, right in zip(found.chosen, found.chosen[1:], strict=False))
        assert sorted([c[0] for c in found.chosen] + [e for e, _ in found.unprojected]) == [0, 1, 2]
        assert found.objective == pytest.approx(sum(c[3] for c in found.chosen) / SCALE)
        for entity, loss in found.unprojected:
            has_cells = any(c[0] == entity for c in cells)
            assert loss == (Loss.OVERLAP if has_cells else Loss.NO_CANDIDATE)


@settings(max_examples=200, deadline=None)
@given(ANY.flatmap(lambda cells: st.tuples(st.just(cells), st.permutations(cells))))
def test_the_order_of_the_cells_does_not_matter(pair: tuple[list[Cell], list[Cell]]) -> None:
    """Method.md 7, statement 31, the part that is the matcher's."""
    cells, shuffled = pair
    assert both(table(cells), 3, 7) == both(table(shuffled), 3, 7)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=16))
def test_windows_give_the_solution_of_all_ngrams(links: Links) -> None:
    """Method.md 7, statement 22, and more: clipping gains in score, so even the solution is the same."""
    entities = [Span(0, 2, "PER"), Span(2, 3, "LOC"), Span(3, 6, "ORG")]
    wide, narrow = by_alignment(entities, links, 8), by_alignment(entities, links, 8, window=True)
    assert both(wide, 3, 8) == both(narrow, 3, 8)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_a_row_per_start_allows_the_same_as_a_row_per_pair(cells: list[Cell]) -> None:
    """Method.md 7, statement 23: rows (2c), and only for words where a cell starts, against pairs (2)."""
    for a in cells:
        for b in cells:
            in_pair_row = a[1] < b[2] and b[1] < a[2]
            in_word_row = any(a[1] <= w < a[2] and b[1] <= w < b[2] for w in {c[1] for c in cells})
            assert in_pair_row == in_word_row


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_without_the_limit_per_entity_it_is_interval_scheduling(cells: list[Cell]) -> None:
    """Method.md 7, statement 27: with an entity for every cell, a line of dynamic programming agrees."""
    best = [0] * 8  # of the first n words
    for n in range(1, 8):
        best[n] = max([best[n - 1]] + [best[start] + score for _, start, end, score in cells if end == n])
    own = [(i, start, end, score) for i, (_, start, end, score) in enumerate(cells)]
    assert solve(table(own), n_entities=len(own), n_words=7).objective == pytest.approx(best[7] / SCALE)


GOLDEN: list[tuple[int, list[Span], Links, list[tuple[int, int, int, float]]]] = [
    (9, [Span(0, 2, "PER")], [(0, 0), (1, 2)], [(0, 0, 3, 0.8)]),
    (10, [Span(0, 2, "PER")], [(0, 0), (1, 3)], [(0, 0, 1, 2 / 3)]),
    (11, [Span(0, 2, "PER")], [(0, 0), (1, 0)], [(0, 0, 1, 4 / 3)]),
    (12, [Span(0, 5, "PER")], [(i, i) for i in range(4)], [(0, 0, 4, 8 / 9)]),
    (13, [Span(0, 1, "PER")], [(0, 0), (0, 2)], [(0, 0, 1, 1.0)]),
    (14, [Span(0, 1, "PER")], [(0, 0), (0, 1)], [(0, 0, 2, 4 / 3)]),
    (15, [Span(0, 3, "PER")], [(0, 0), (1, 1), (2, 3)], [(0, 0, 4, 6 / 7)]),
    (15, [Span(0, 3, "PER")], [(0, 0), (1, 1), (2, 4)], [(0, 0, 2, 4 / 5)]),
    (16, [Span(0, 1, "PER"), Span(1, 2, "LOC")], [(0, 0), (1, 0)], [(0, 0, 1, 1.0)]),
    (
        17,
        [Span(0, 2, "PER"), Span(2, 3, "LOC")],
        [(0, 0), (1, 2), (2, 1)],
        [(0, 0, 1, 2 / 3), (1, 1, 2, 1.0)],
    ),
    (18, [], [(0, 0)], []),
    (18, [Span(0, 1, "PER")], [], []),
]


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize(("number", "entities", "links", "expected"), GOLDEN)
def test_golden_matchings(
    number: int, entities: list[Span], links: Links, expected: list[tuple[int, int, int, float]], window: bool
) -> None:
    """Method.md 7, statements by their number; links are (source, target). Exact and greedy agree."""
    for found in both(by_alignment(entities, links, 6, window=window), len(entities), 6):
        assert found.chosen == [(e, s, t, round(score * SCALE)) for e, s, t, score in expected]


def test_why_an_entity_is_missing() -> None:
    cells = table([(0, 0, 1, 5), (2, 0, 1, 5)])
    for found in both(cells, 3, 1):
        assert found.unprojected == [(1, Loss.NO_CANDIDATE), (2, Loss.OVERLAP)]


def test_greedy_can_lose() -> None:
    """Method.md 4.4, L = 3: a long cell in the way of three short ones and of its own entity's other cell."""
    cells = table([(0, 1, 4, 1001), (0, 5, 6, 1000), (1, 1, 2, 1000), (2, 2, 3, 1000), (3, 3, 4, 1000)])
    exact, greedy = both(cells, 4, 6)
    assert (exact.objective, exact.solver, exact.optimal) == (0.4, "cp-sat", True)
    assert (greedy.objective, greedy.solver, greedy.optimal) == (0.1001, "greedy", False)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1e-9])
def test_past_the_limit_the_answer_is_greedy_and_says_so(limit: float) -> None:
    rng = np.random.default_rng(0)
    spans = {(int(e), int(s), int(s + n)) for e, s, n in rng.integers([0, 0, 1], [8, 20, 6], size=(300, 3))}
    cells = table([(*span, int(rng.integers(1, 9999))) for span in sorted(spans)])
    cut = solve(cells, n_entities=8, n_words=26, time_limit_s=limit)
    assert cut == solve(cells, n_entities=8, n_words=26, solver="greedy")
    full = solve(cells, n_entities=8, n_words=26)
    assert (cut.solver, cut.optimal, full.solver, full.optimal) == ("greedy", False, "cp-sat", True)
    assert cut.objective < full.objective


def test_large_scores_stay_exact() -> None:
    """Two solutions that differ by one ten-thousandth in 2**32."""
    top = 2**32
    cells = table([(0, 0, 2, top), (0, 0, 1, top - 2), (1, 1, 2, top), (1, 0, 2, top), (2, 2, 3, 1)])
    assert solve(cells, n_entities=3, n_words=3).chosen == [(0, 0, 1, top - 2), (1, 1, 2, top), (2, 2, 3, 1)]


def test_bad_input_is_refused() -> None:
    for cell in [(1, 0, 1, 5), (0, 0, 3, 5), (0, 1, 1, 5), (0, -1, 1, 5), (-1, 0, 1, 5)]:
        with pytest.raises(ValueError, match="outside 1 entities, 2 words"):
            solve(table([cell]), n_entities=1, n_words=2)
    with pytest.raises(ValueError, match="allowed: 'exact', 'greedy'"):
        solve(table([]), n_entities=1, n_words=2, solver="gurobi")  # type: ignore[arg-type]


def test_explain_says_what_every_cell_lost_to() -> None:
    cells = [(0, 0, 2, 9), (0, 0, 1, 6), (0, 3, 4, 7), (0, 4, 5, 7)]
    cells += [(1, 0, 2, 9), (1, 1, 2, 9), (2, 1, 2, 1)]
    found = solve(table(cells), n_entities=4, n_words=5)
    assert found.chosen == [(1, 0, 2, 9), (0, 3, 4, 7)]
    fates = {row.cell: (row.status, row.lost_to) for row in explain(table(cells), found)}
    assert fates == {
        (0, 0, 2, 9): ("overlaps entity 1's choice", (1, 0, 2, 9)),
        (0, 0, 1, 6): ("lower score", (0, 3, 4, 7)),
        (0, 3, 4, 7): ("chosen", None),
        (0, 4, 5, 7): ("tie", (0, 3, 4, 7)),
        (1, 0, 2, 9): ("chosen", None),
        (1, 1, 2, 9): ("tie", (1, 0, 2, 9)),
        (2, 1, 2, 1): ("overlaps entity 1's choice", (1, 0, 2, 9)),
    }


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_explain_names_a_true_reason(cells: list[Cell]) -> None:
    for found in both(table(cells), 3, 7):
        rows = explain(table(cells), found)
        assert sorted(row.cell for row in rows) == sorted(cells)
        assert sorted(row.cell for row in rows if row.status == "chosen") == sorted(found.chosen)
        for cell, status, lost_to in ((row.cell, row.status, row.lost_to) for row in rows):
            if status == "chosen":
                continue
            assert lost_to in found.chosen
            same_entity = lost_to[0] == cell[0]
            assert (status == "lower score") == (same_entity and cell[3] < lost_to[3])
            assert (status == "tie") == (same_entity and cell[3] == lost_to[3])
            if status.startswith("overlaps"):
                assert status == f"overlaps entity {lost_to[0]}'s choice"
                assert lost_to[1] < cell[2] and cell[1] < lost_to[2]


def test_importing_the_matcher_loads_neither_torch_nor_ray() -> None:
    code = "import sys, xner_ray.match; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
