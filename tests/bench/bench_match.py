"""Sentences per second of the matcher on made-up sentences, against a plain CP-SAT model.

    python tests/bench/bench_match.py [--sentences 2000] [--words 25] [--plain 20]

The baseline is the problem as written: all n-grams with a positive score, one row for every overlapping pair
of cells (method.md 4.1, form 2), no tie rule. Everything runs in one process and thread, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import TypeVar

import numpy as np
from ortools.sat.python import cp_model

from xner_ray.candidates import link_counts, ngrams, windows
from xner_ray.match import Matching, solve
from xner_ray.scores import SCALE, Scored, alignment, fuse
from xner_ray.spans import Span

T = TypeVar("T")
Sentence = tuple[list[Span], list[tuple[int, int]], int]


def sentence(rng: np.random.Generator, n_words: int) -> Sentence:
    """1 to 5 entities of 1 to 4 words; links near the diagonal, some lost, random or doubled."""
    starts = np.sort(rng.choice(n_words - 3, size=rng.integers(1, 6), replace=False)).tolist()
    ends = [start + int(rng.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.15, 0.05])) for start in starts]
    entities = [
        Span(start, min(end, after), "PER")
        for start, end, after in zip(starts, ends, [*starts[1:], n_words], strict=True)
    ]
    place = np.argsort(np.arange(n_words) + rng.normal(0, 2, n_words)).tolist()
    links = [(i, j) for i, j in enumerate(place) if rng.random() > 0.1]
    links += [tuple(rng.integers(n_words, size=2).tolist()) for _ in range(n_words // 10)]
    links += [(i, min(n_words - 1, j + 1)) for i, j in links if rng.random() < 0.15]
    return entities, links, n_words


def scored(example: Sentence, *, window: bool) -> Scored:
    entities, links, n_words = example
    counts = link_counts(entities, links, n_words=n_words)
    candidates = windows(counts) if window else ngrams(len(entities), n_words)
    return fuse(candidates, {"align": alignment(candidates, counts, entities)}, {"align": 1.0})


def plain_cp_sat(cells: Scored) -> float:
    """The objective by form (2), as anyone would write it first."""
    model = cp_model.CpModel()
    rows = list(zip(cells.entity.tolist(), cells.start.tolist(), cells.end.tolist(), strict=True))
    x = [model.new_bool_var("") for _ in rows]
    for entity in set(cells.entity.tolist()):
        model.add(sum(x[i] for i, row in enumerate(rows) if row[0] == entity) <= 1)
    for (i, a), (j, b) in combinations(enumerate(rows), 2):
        if a[1] < b[2] and b[1] < a[2]:
            model.add(x[i] + x[j] <= 1)
    model.maximize(sum(score * x[i] for i, score in enumerate(cells.score.tolist())))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    return solver.objective_value / SCALE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("sentences", 2000), ("words", 25), ("plain", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    examples = [sentence(rng, options.words) for _ in range(options.sentences)]

    def rate(name: str, work: Callable[[], list[T]]) -> tuple[float, list[T]]:
        start = time.perf_counter()
        results = work()
        per_second = len(results) / (time.perf_counter() - start)
        print(f"{name:<34}{per_second:>10,.1f} sentences/s")
        return per_second, results

    _, window = rate("candidates + scores, window", lambda: [scored(e, window=True) for e in examples])
    _, ngram = rate("candidates + scores, n-gram", lambda: [scored(e, window=False) for e in examples])

    def run(cells: list[Scored], solver: str) -> list[Matching]:
        return [
            solve(s, n_entities=len(e[0]), n_words=e[2], solver=solver)  # type: ignore[arg-type]
            for s, e in zip(cells, examples, strict=True)
        ]

    exact, best = rate("exact, window", lambda: run(window, "exact"))
    _, wide = rate("exact, n-gram", lambda: run(ngram, "exact"))
    greedy, first = rate("greedy, window", lambda: run(window, "greedy"))
    few = ngram[: options.plain]
    plain, objectives = rate(f"plain CP-SAT ({len(few)} only)", lambda: [plain_cp_sat(s) for s in few])

    assert all(abs(m.objective - o) < 1e-6 for m, o in zip(best, objectives, strict=False)), "not optimal"
    assert [m.chosen for m in best] == [m.chosen for m in wide], "window and n-gram differ"
    short = sum(g.objective < e.objective for g, e in zip(first, best, strict=True))
    print(f"solved by {dict(Counter(m.solver for m in best))}; greedy below the optimum in {short}")
    print(f"exact : greedy : plain = {exact / plain:,.0f} : {greedy / plain:,.0f} : 1")


if __name__ == "__main__":
    main()
