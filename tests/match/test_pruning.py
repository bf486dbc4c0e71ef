"""Pruning: matching the cells that can win must give the answer of all, whatever the expensive scores are."""

from __future__ import annotations

from itertools import chain, product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_cells import FORMS, brute_force, disjoint_choices

from xner_ray.data.row import SCALE
from xner_ray.match import solver as match
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates, ngrams, union
from xner_ray.match.pruning import best_first, can_win
from xner_ray.match.scores import fuse
from xner_ray.match.solver import Solution
from xner_ray.match.solver_exact import Cell

WORDS = 7
Kind = Literal["exact", "greedy"]
KINDS: tuple[Kind, Kind] = ("exact", "greedy")
Cells = list[tuple[int, int, int]]


def batch_of(n_entities: list[int], n_target: int = WORDS) -> EntityBatch:
    """Rows of so many entities of one word each."""
    row = np.repeat(np.arange(len(n_entities)), n_entities)
    start = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(n) for n in n_entities)])
    return EntityBatch(np.array(n_entities), np.full(len(n_entities), n_target), row, start, start + 1)


def candidates_of(cells: Cells) -> Candidates:
    entity, start, end = np.array(sorted(cells), dtype=np.int32).reshape(-1, 3).T
    return union(Candidates(entity, start, end))


class Instance:
    """Up to three rows of up to three entities; coarse scores tie often, fine ones test the rounding."""

    def __init__(self, data: st.DataObject) -> None:
        counts = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
        self.batch = batch_of(counts)
        spans = [(e, s, t) for e in range(sum(counts)) for s in range(WORDS) for t in range(s + 1, WORDS + 1)]
        chosen = data.draw(st.lists(st.sampled_from(spans), max_size=24)) if spans else []
        self.candidates = candidates_of(sorted(set(chosen)))
        n = len(self.candidates)
        steps = data.draw(st.sampled_from([4, 10, 20_000, 40_001]))
        level = st.integers(-steps // 4, steps).map(lambda x: x / steps)
        share = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, steps).map(lambda x: x / steps))
        self.base = np.array(data.draw(st.lists(level, min_size=n, max_size=n)), dtype=np.float64)
        self.truth = np.array(data.draw(st.lists(share, min_size=n, max_size=n)), dtype=np.float64)
        self.weight = data.draw(st.sampled_from([0.0, 0.1, 0.3, 1 / 3, 1.0, 2.0]))
        self.min_score = data.draw(st.sampled_from([0.0, 0.25, 0.6]))
        hidden = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
        self.known = np.where(np.array(hidden, dtype=np.bool_), np.nan, self.truth)

    def solve(self, kept: np.ndarray, form: str = "<=1", solver: Kind = "exact") -> Solution:
        """The matching of some cells, each with its true scores."""
        scored = fuse(
            self.candidates.take(kept),
            {"a": self.base[kept], "z": self.truth[kept]},
            {"a": 1.0, "z": self.weight},
            min_score=self.min_score,
        )
        batch = self.batch
        return match.solve_batch(scored, row=batch.row, n_rows=batch.n_rows, per_entity=form, solver=solver)

    def can_win(self, known: np.ndarray | None, one_each: bool = True) -> np.ndarray:
        return can_win(
            self.batch,
            self.candidates,
            self.base,
            self.weight,
            known,
            min_score=self.min_score,
            one_each=one_each,
        )


def cells_of(solution: Solution) -> list[Cell]:
    chosen = solution.chosen
    columns = (chosen.entity, chosen.start, chosen.end, chosen.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def facts(solution: Solution) -> tuple[object, ...]:
    return cells_of(solution), solution.objective.tolist(), solution.unprojected


@settings(max_examples=200)
@given(st.data())
def test_the_cells_that_can_win_have_the_answer_of_all_cells(data: st.DataObject) -> None:
    instance = Instance(data)
    everything = np.ones(len(instance.candidates), dtype=np.bool_)
    for known in (None, instance.known):
        kept = instance.can_win(known)
        for form, solver in product(["<=1", "<2", "=1"], KINDS):
            assert facts(instance.solve(kept, form, solver)) == facts(instance.solve(everything, form, solver))


@settings(max_examples=100)
@given(st.data(), st.sampled_from(FORMS))
def test_where_entities_may_have_several_places_too(data: st.DataObject, form: str) -> None:
    instance = Instance(data)
    everything = np.ones(len(instance.candidates), dtype=np.bool_)
    kept = instance.can_win(instance.known, one_each=False)
    for solver in KINDS:
        assert facts(instance.solve(kept, form, solver)) == facts(instance.solve(everything, form, solver))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [5, 20_000])
def test_a_large_batch_of_every_form(form: str, steps: int) -> None:
    """1,500 rows of three entities; with few different scores, ties are nearly everywhere."""
    rng = np.random.default_rng(steps)
    batch = batch_of([3] * 1500)
    spans = ngrams(batch, max_words=3)
    spans = spans.take(rng.random(len(spans)) < 0.2)
    base, truth = (rng.integers(0, steps + 1, size=(2, len(spans))) / steps).tolist()
    known = np.where(rng.random(len(spans)) < 0.5, truth, np.nan)
    kept = can_win(batch, spans, np.array(base), 0.4, known, min_score=0.3, one_each=form in ("<=1", "<2", "=1"))
    assert kept.mean() < (0.8 if form in ("<=1", "<2", "=1") else 0.95)
    total = np.array(base) + 0.4 * np.array(truth)
    for solver in KINDS:
        answers = [
            match.solve_batch(
                fuse(spans.take(some), {"all": total[some]}, {"all": 1.0}, min_score=0.3),
                row=batch.row,
                n_rows=batch.n_rows,
                per_entity=form,
                solver=solver,
            )
            for some in (kept, np.ones_like(kept))
        ]
        assert facts(answers[0]) == facts(answers[1])


@settings(max_examples=150)
@given(st.data())
def test_no_cell_of_any_best_choice_goes(data: st.DataObject) -> None:
    """Brute force over all choices, so that `match` need not be right; one answer per tie rule, and one reversed."""
    instance = Instance(data)
    kept = instance.can_win(instance.known)
    total = np.rint((instance.base + instance.weight * instance.truth) * SCALE).astype(int)
    offered = total > round(instance.min_score * SCALE)
    found = instance.candidates
    row = instance.batch.row[found.entity]
    for number in range(instance.batch.n_rows):
        own = np.flatnonzero(offered & (row == number))[:10]
        if not kept[own].all() and len(own) == int((offered & (row == number)).sum()):
            columns = (found.entity[own], found.start[own], found.end[own], total[own])
            cells = list(zip(*(column.tolist() for column in columns), strict=True))
            for turned in (cells, [(-e, WORDS - t, WORDS - s, score) for e, s, t, score in cells]):
                best = brute_force(disjoint_choices(turned), 0, 1)
                assert best is not None
                assert all(kept[own[turned.index(cell)]] for cell in best)


@settings(max_examples=200)
@given(st.data())
def test_a_cell_goes_for_a_reason(data: st.DataObject) -> None:
    """By the definition, cell by cell and round by round: nothing more goes, and nothing less."""
    instance = Instance(data)
    one_each = data.draw(st.booleans())
    low, high = np.nan_to_num(instance.known, nan=0.0), np.nan_to_num(instance.known, nan=1.0)
    scaled = [np.rint((instance.base + instance.weight * x) * SCALE + e) for x, e in ((low, -1e-6), (high, 1e-6))]
    lower, upper = (values.astype(int).tolist() for values in scaled)
    found = instance.candidates
    entity, row = found.entity.tolist(), instance.batch.row[found.entity].tolist()
    words = [set(range(s, t)) for s, t in zip(found.start.tolist(), found.end.tolist(), strict=True)]
    alive = {c for c in range(len(entity)) if upper[c] > round(instance.min_score * SCALE)}

    def rules_out(d: int, c: int) -> bool:
        others = [words[o] for o in alive if row[o] == row[c] and entity[o] != entity[c]]
        busy = set().union(*others) if one_each else words[d]
        return entity[d] == entity[c] and words[d] & busy <= words[c] and lower[d] > upper[c]

    while gone := {c for c in alive if any(rules_out(d, c) for d in alive)}:
        alive -= gone
    assert np.flatnonzero(instance.can_win(instance.known, one_each)).tolist() == sorted(alive)


@settings(max_examples=150)
@given(st.data(), st.integers(1, 4), st.booleans())
def test_best_first_computes_enough_and_nothing_twice(data: st.DataObject, first: int, one_each: bool) -> None:
    instance = Instance(data)
    everything = np.ones(len(instance.candidates), dtype=np.bool_)
    asked: list[list[int]] = []

    def score(index: np.ndarray) -> np.ndarray:
        asked.append(index.tolist())
        return instance.truth[index]

    values = best_first(
        instance.batch,
        instance.candidates,
        instance.base,
        instance.weight,
        score,
        first=first,
        min_score=instance.min_score,
        one_each=one_each,
    )
    form, computed = "<=1" if one_each else "<=2", ~np.isnan(values)
    assert facts(instance.solve(computed, form)) == facts(instance.solve(everything, form))
    assert sorted(chain(*asked)) == np.flatnonzero(computed).tolist()
    assert all(part and part == sorted(part) for part in asked)
    assert values[computed].tolist() == instance.truth[computed].tolist()
    # Nothing that the cheap scores alone rule out, and of each entity the highest first
    assert not (computed & ~instance.can_win(None, one_each)).any()
    for entity in set(instance.candidates.entity[asked[0]].tolist() if asked else []):
        own = instance.candidates.entity == entity
        round_one = [c for c in asked[0] if own[c]]
        rest = np.flatnonzero(own & instance.can_win(None, one_each))
        assert len(round_one) == min(first, len(rest))
        assert sorted(instance.base[round_one]) == sorted(instance.base[rest])[-len(round_one) :]


def test_equal_bounds_rule_nothing_out() -> None:
    """The shorter may reach what the longer has at least, and then wins the tie by its start."""
    batch, spans = batch_of([1]), candidates_of([(0, 0, 2), (0, 1, 2)])
    assert can_win(batch, spans, np.array([0.2, 0.7]), 0.5).tolist() == [True, True]
    assert can_win(batch, spans, np.array([0.2, 0.7001]), 0.5).tolist() == [False, True]
    # Both round to 0.7: a tie, though one is larger
    assert can_win(batch, spans, np.array([0.2, 0.700_04]), 0.5).tolist() == [True, True]


def test_bounds_that_end_in_a_half_ten_thousandth_may_round_either_way() -> None:
    """Another order of summing may make 3001 of 3000.5, and 3001 of 3001.5: ties."""
    batch, spans = batch_of([1]), candidates_of([(0, 0, 2), (0, 1, 2)])
    for longer, shorter in ((0.300_05, 0.3001), (0.3001, 0.300_15 + 1e-13)):
        assert can_win(batch, spans, np.array([longer, shorter]), 0.0).all()
        assert not can_win(batch, spans, np.array([longer - 1e-8, shorter + 1e-4]), 0.0)[0]


def test_rounds_double() -> None:
    batch, asked = batch_of([1, 1]), []

    def score(index: np.ndarray) -> np.ndarray:
        asked.append(len(index))
        return np.zeros(len(index))

    spans = ngrams(batch, max_words=WORDS)  # 28 each, and none rules out another
    best_first(batch, spans, np.full(len(spans), 0.5), 1.0, score, first=3)
    assert asked == [2 * 3, 2 * 6, 2 * 12, 2 * 7]


def test_min_score_must_be_exceeded() -> None:
    batch, spans = batch_of([1]), candidates_of([(0, 0, 1)])
    assert can_win(batch, spans, np.array([0.1]), 0.5, min_score=0.6).tolist() == [False]
    assert can_win(batch, spans, np.array([0.1001]), 0.5, min_score=0.6).tolist() == [True]
    assert can_win(batch, spans, np.array([0.1001]), 0.5, np.array([0.99]), min_score=0.6).tolist() == [False]


def test_only_a_clash_keeps_a_far_lower_cell() -> None:
    """Entity 0's second place is worth having only if entity 1 can want the first one's word."""
    base = np.array([0.9, 0.2, 0.9])
    for place, kept in ((0, True), (2, False)):
        spans = candidates_of([(0, 0, 1), (0, 5, 6), (1, place, place + 1)])
        assert can_win(batch_of([2]), spans, base, 0.3).tolist() == [True, kept, True]
    other_row = candidates_of([(0, 0, 1), (0, 5, 6), (1, 0, 1)])
    assert can_win(batch_of([1, 1]), other_row, base, 0.3).tolist() == [True, False, True]


def test_what_goes_in_one_round_frees_words_for_the_next() -> None:
    """Entity 1 lets go of word 0, on which entity 0's best then stands alone."""
    spans = candidates_of([(0, 0, 1), (0, 5, 6), (1, 0, 1), (1, 3, 4)])
    assert can_win(batch_of([2]), spans, np.array([0.9, 0.2, 0.2, 0.9]), 0.3).tolist() == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("weight", "share"), [(0.2, 0.01), (0.5, 0.05)])
def test_most_cells_of_a_peaked_score_are_never_computed(weight: float, share: float) -> None:
    """Four names in 40 words, all n-grams: 3,280 cells a row, and names overlap a bit like a soft Dice does."""
    rows, n_entities = 20, 4
    batch = batch_of([n_entities] * rows, 40)
    spans = ngrams(batch, max_words=40)
    low = 10 * (spans.entity % n_entities) + 3
    inside = np.maximum(0, np.minimum(low + 2, spans.end) - np.maximum(low, spans.start))
    base = (1 - weight) * 2 * inside / (2 + spans.end - spans.start)
    truth = np.where(inside == 2, 1 / np.maximum(spans.end - spans.start - 1, 1), 0.1)
    values = best_first(batch, spans, base, weight, lambda i: truth[i], min_score=0.6)
    computed = ~np.isnan(values)
    assert 0 < computed.mean() < share
    scored = fuse(spans, {"all": base + weight * truth}, {"all": 1.0}, min_score=0.6)
    fewer = fuse(spans.take(computed), {"all": (base + weight * values)[computed]}, {"all": 1.0}, min_score=0.6)
    answers = [match.solve_batch(cells, row=batch.row, n_rows=rows) for cells in (scored, fewer)]
    assert facts(answers[0]) == facts(answers[1])
    assert len(answers[1].chosen) == rows * n_entities


def test_nothing_to_do() -> None:
    empty = candidates_of([])
    for batch in (batch_of([0]), batch_of([2])):
        assert can_win(batch, empty, np.zeros(0), 1.0).tolist() == []
        assert best_first(batch, empty, np.zeros(0), 1.0, pytest.fail).tolist() == []


def test_wrong_arguments() -> None:
    batch, spans, base = batch_of([1]), candidates_of([(0, 0, 1)]), np.ones(1)
    with pytest.raises(ValueError, match="1 candidates, but 2 base and 1 known"):
        can_win(batch, spans, np.ones(2), 1.0)
    for known in (np.array([1.1]), np.array([-0.1])):
        with pytest.raises(ValueError, match="not in 0 to 1"):
            can_win(batch, spans, base, 1.0, known)
    for wrong in ({"base": np.array([np.nan])}, {"weight": -1.0}, {"weight": np.inf}, {"min_score": -0.1}):
        with pytest.raises(ValueError, match="must be finite"):
            can_win(batch, spans, **{"base": base, "weight": 1.0, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first is 0"):
        best_first(batch, spans, base, 1.0, lambda i: base[i], first=0)
    for values in (np.ones(2), np.array([1.5]), np.array([np.nan])):
        with pytest.raises(ValueError, match="the score of 1 candidates"):
            best_first(batch, spans, base, 1.0, lambda i, values=values: values)
