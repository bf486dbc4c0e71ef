"""Cells of the matcher, made up and in tables, and brute force over all choices of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from xner_ray.errors import Loss
from xner_ray.match.scores import Scored
from xner_ray.match.solver import Solution, solve_batch
from xner_ray.match.solver_exact import Cell

Kind = Literal["exact", "greedy"]
KINDS: tuple[Kind, Kind] = ("exact", "greedy")
FORMS = ["<2", "<3", "<4", "<=1", "<=2", "<=3", "=1", "=2", "=3", ">=0", ">=1", ">=2", ">=3", ">0", ">1", ">2"]


def made_up(rng: np.random.Generator, n_entities: int, n_words: int, most_cells: int, top: int) -> list[Cell]:
    """Cells of up to 4 words with scores from 1 to top, none twice."""
    low, high = [0, 0, 1], [n_entities, n_words - 3, 5]
    spans = sorted({tuple(span) for span in rng.integers(low, high, size=(most_cells, 3)).tolist()})
    scores = rng.integers(1, top + 1, size=len(spans)).tolist()
    return [(e, s, s + n, score) for (e, s, n), score in zip(spans, scores, strict=True)]


def disjoint_choices(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Every choice of cells without a common word."""
    order = sorted(cells, key=lambda cell: cell[1])

    def further(index: int, free: int) -> list[tuple[Cell, ...]]:
        if index == len(order):
            return [()]
        choices = further(index + 1, free)
        if order[index][1] >= free:
            choices = choices + [(order[index], *rest) for rest in further(index + 1, order[index][2])]
        return choices

    return further(0, 0)


def brute_force(choices: list[tuple[Cell, ...]], least: int, most: int | None) -> list[Cell] | None:
    """The unique answer straight from its definition, None if no choice meets the lower limit."""
    entities = sorted({cell[0] for choice in choices for cell in choice})

    def rank(choice: tuple[Cell, ...]) -> tuple[int, list[list[tuple[float, ...]]]]:
        none = (float("inf"),)  # any place rather than none
        places = [sorted(cell[1:3] for cell in choice if cell[0] == entity) for entity in entities]
        return -sum(cell[3] for cell in choice), [[*own, none] for own in places]

    def allowed(choice: tuple[Cell, ...]) -> bool:
        count = Counter(cell[0] for cell in choice)
        return all(least <= count[entity] <= (most or len(choice)) for entity in entities)

    best = min(filter(allowed, choices), key=rank, default=None)
    return None if best is None else sorted(best, key=lambda cell: cell[1])


def table(cells: list[Cell]) -> Scored:
    columns = np.array(cells, dtype=np.int64).reshape(-1, 4).T
    entity, start, end = columns[:3].astype(np.int32)
    return Scored(entity, start, end, columns[3])


def cells_of(scored: Scored) -> list[Cell]:
    names = ("entity", "start", "end", "score")
    return list(zip(*(getattr(scored, name).tolist() for name in names), strict=True))


def one(cells: list[Cell], n_entities: int, form: str = "<=1", solver: Kind = "exact", limit: float = 10.0) -> Solution:
    return solve_batch(table(cells), row=[0] * n_entities, n_rows=1, per_entity=form, solver=solver, time_limit_s=limit)


def facts(solution: Solution) -> tuple[list[Cell], list[float], list[bool], list[str], list[tuple[int, Loss]]]:
    """A solution as something to compare."""
    lists = solution.objective.tolist(), solution.optimal.tolist(), solution.solver
    return cells_of(solution.chosen), *lists, solution.unprojected


def instances(scores: st.SearchStrategy[int]) -> st.SearchStrategy[list[Cell]]:
    """Up to 3 entities over 7 words; few different scores, so many ties."""
    spans = [(e, s, t) for e in range(3) for s in range(7) for t in range(s + 1, min(7, s + 4) + 1)]
    return st.dictionaries(st.sampled_from(spans), scores, max_size=12).map(
        lambda chosen: [(*span, score) for span, score in chosen.items()]
    )


ANY = st.one_of(instances(st.integers(1, 3)), instances(st.integers(1, 40_000)))
