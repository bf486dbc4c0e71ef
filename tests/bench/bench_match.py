"""Sentences per second of the matcher: exact against greedy against one plain CP-SAT model per sentence.

    python tests/bench/bench_match.py [RUN_FOLDER] [--sentences 2048] [--words 25] [--plain 60] [--per-entity "<=1"]

Without a run folder the sentences are made up; with one they are the run's, and the whole stage is timed too.
Everything runs in one process and thread, in turn, on the same cells; the time is the processor's. The plain model is
the problem as written, without a tie rule, for the first sentences: rows by overlapping pairs of cells (method.md 4.1,
form 2) or by target words (form 2c). Rates count sentences with an entity only. A second table is of the sentences that
the matcher's first step does not settle.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ortools.sat.python import cp_model

from xner_ray.data.row import SCALE
from xner_ray.match import projection
from xner_ray.match import rows as rows_of
from xner_ray.match.prior import Prior, count, merge
from xner_ray.match.scores import Scored
from xner_ray.match.solver import Solution, solve_batch
from xner_ray.recipe.limits import limits
from xner_ray.recipe.model import Recipe
from xner_ray.run.folder import RunFolder
from xner_ray.run.parts import read_part

Sentence = tuple[list[tuple[int, int]], list[tuple[int, int]], int]
"""Source ranges of the entities; links (source word, target word); number of target words."""

Cell = tuple[int, int, int, int]
Batch = tuple[Scored, np.ndarray, int]
"""Cells; sentence of each entity; number of sentences."""


def made_up(rng: np.random.Generator, n_words: int) -> Sentence:
    """0 to 5 entities of 1 to 4 words; links near the diagonal, some lost, random or doubled."""
    starts = np.sort(rng.choice(n_words - 3, size=rng.integers(0, 6), replace=False)).tolist()
    ends = [start + int(rng.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.15, 0.05])) for start in starts]
    entities = [
        (start, min(end, after)) for start, end, after in zip(starts, ends, [*starts[1:], n_words], strict=False)
    ]
    place = np.argsort(np.arange(n_words) + rng.normal(0, 1, n_words)).tolist()
    links = [(i, j) for i, j in enumerate(place) if rng.random() > 0.1]
    links += [tuple(rng.integers(n_words, size=2).tolist()) for _ in range(n_words // 20)]
    links += [(i, min(n_words - 1, j + 1)) for i, j in links if rng.random() < 0.1]
    return entities, links, n_words


def recorded(folder: Path) -> tuple[Batch, pa.Table, Recipe]:
    """The cells of a run's first matching, the rows themselves and the recipe."""
    run = RunFolder(str(folder))
    recipe = run.recipe()
    table = pa.concat_tables([read_part(path) for path in run.parts().values()])
    rows = rows_of.read(table)
    scored, _ = projection.matched(rows, recipe.match, recipe.align.method, None)
    return (scored, rows.batch.row, rows.batch.n_rows), table, recipe


def stage(table: pa.Table, recipe: Recipe) -> None:
    """The whole stage, Arrow in, Arrow out, candidates and scores included, without and with a prior."""
    first = projection.project(table, recipe.match, recipe.align.method, None)
    rows = rows_of.read(first)
    prior = Prior(merge([count(rows.source_tokens, rows.tokens, rows.earlier)]))
    with_entities = int(pc.sum(pc.greater(pc.list_value_length(table.column("source_spans")), 0)).as_py())
    print(f"\nthe whole stage: {table.num_rows} rows, {with_entities} with entities")
    for name, given, known in (("first matching", table, None), ("second, with a prior", first, prior)):
        seconds = []
        for _ in range(5):
            start = time.process_time()
            projection.project(given, recipe.match, recipe.align.method, known)
            seconds.append(time.process_time() - start)
        best = min(seconds)
        print(f"{name:<24}{table.num_rows / best:>12,.0f} rows/s{with_entities / best:>12,.0f} with entities/s")


def batch(sentences: list[Sentence], max_words: int = 30) -> Batch:
    """Every range of at most `max_words` words between an entity's first and last linked word, by alignment score."""
    cells: list[np.ndarray] = []
    rows: list[int] = []
    for number, (entities, links, n_words) in enumerate(sentences):
        for first, last in entities:
            linked = np.bincount([t for s, t in set(links) if first <= s < last], minlength=n_words)
            before = np.concatenate([[0], np.cumsum(linked)])
            window = np.flatnonzero(linked)
            if len(window):
                start, length = np.meshgrid(np.arange(window[0], window[-1] + 1), np.arange(1, max_words + 1))
                start, end = start.ravel(), (start + length).ravel()
                start, end = start[end <= window[-1] + 1], end[end <= window[-1] + 1]
                score = np.rint(SCALE * 2 * (before[end] - before[start]) / (last - first + end - start))
                found = np.stack([np.full(len(start), len(rows)), start, end, score.astype(np.int64)], axis=1)
                found = found[found[:, 3] > 0]
                cells.append(found[np.lexsort((found[:, 2], found[:, 1]))])
            rows.append(number)
    entity, start, end, score = np.concatenate(cells).T
    scored = Scored(entity.astype(np.int32), start.astype(np.int32), end.astype(np.int32), np.ascontiguousarray(score))
    return scored, np.array(rows), len(sentences)


def plain_cp_sat(cells: list[Cell], per_entity: str, rows: str) -> float | None:
    """The objective by the model as anyone would write it first, None if infeasible."""
    model = cp_model.CpModel()
    x = [model.new_bool_var("") for _ in cells]
    least, most = limits(per_entity)
    for entity in {cell[0] for cell in cells}:
        places = sum(x[i] for i, cell in enumerate(cells) if cell[0] == entity)
        model.add(places >= least)
        if most is not None:
            model.add(places <= most)
    if rows == "pairs":
        for (i, a), (j, b) in combinations(enumerate(cells), 2):
            if a[1] < b[2] and b[1] < a[2]:
                model.add(x[i] + x[j] <= 1)
    else:
        for word in range(max((cell[2] for cell in cells), default=0)):
            model.add(sum(x[i] for i, cell in enumerate(cells) if cell[1] <= word < cell[2]) <= 1)
    model.maximize(sum(cell[3] * x[i] for i, cell in enumerate(cells)))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
    return solver.objective_value / SCALE if status == cp_model.OPTIMAL else None


def by_sentence(scored: Scored, row: np.ndarray, n_rows: int) -> list[list[Cell]]:
    cells: list[list[Cell]] = [[] for _ in range(n_rows)]
    for cell in zip(*(getattr(scored, name).tolist() for name in ("entity", "start", "end", "score")), strict=True):
        cells[row[cell[0]]].append(cell)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    for name, default in (("sentences", 2048), ("words", 25), ("plain", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--per-entity", default="<=1")
    options = parser.parse_args()
    if options.folder:
        (scored, row, n_rows), table, recipe = recorded(options.folder)
    else:
        rng = np.random.default_rng(0)
        scored, row, n_rows = batch([made_up(rng, options.words) for _ in range(options.sentences)])
    per_entity = np.unique(scored.entity, return_counts=True)[1]
    print(
        f"{n_rows} sentences, {len(row)} entities, {len(scored)} cells (per entity: median"
        f" {np.median(per_entity):.0f}, most {per_entity.max()}); per_entity {options.per_entity}"
    )
    exact = compare("all sentences", (scored, row, n_rows), options)
    hard = np.array([name not in ("none", "independent") for name in exact.solver])
    if hard.any():
        compare("sentences beyond the independent step", some(hard, (scored, row, n_rows)), options)
    if options.folder:
        stage(table, recipe)


def some(kept: np.ndarray, whole: Batch) -> Batch:
    """The sentences in a mask."""
    scored, row, _ = whole
    entities = kept[row]
    cells = entities[scored.entity]
    number = (np.cumsum(entities) - 1)[scored.entity[cells]].astype(np.int32)
    left = Scored(number, scored.start[cells], scored.end[cells], scored.score[cells])
    return left, (np.cumsum(kept) - 1)[row[entities]], int(kept.sum())


def compare(title: str, whole: Batch, options: argparse.Namespace) -> Solution:
    """Prints a table of rates; the exact solution. AssertionError if it is not the optimum of the plain model."""
    scored, row, n_rows = whole
    form, numbers = options.per_entity, sorted(set(row.tolist()))

    def rate(work: Callable[[], object], repeat: int, n: int) -> float:
        seconds = []
        for _ in range(repeat):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        return n / min(seconds)

    def run(solver: str) -> Solution:
        return solve_batch(scored, row=row, n_rows=n_rows, per_entity=form, solver=solver)  # type: ignore[arg-type]

    exact, greedy = run("exact"), run("greedy")
    rates = {solver: rate(lambda solver=solver: run(solver), 5, len(numbers)) for solver in ("exact", "greedy")}  # type: ignore[misc]
    cells = by_sentence(scored, row, n_rows)
    few = numbers[: options.plain]
    for rows in ("words", "pairs"):
        optima: list[float | None] = []
        rates[f"plain CP-SAT, {rows}"] = rate(
            lambda rows=rows, optima=optima: optima.extend(plain_cp_sat(cells[n], form, rows) for n in few),  # type: ignore[misc]
            1,
            len(few),
        )
        for n, optimum in zip(few, optima, strict=True):
            assert (optimum is None) == (exact.solver[n] == "infeasible"), n
            assert optimum is None or abs(optimum - exact.objective[n]) < 1e-6, n
    print(f"\n{title}: {len(numbers)} with entities; {len(few)} of them for plain CP-SAT")
    print(f"{'':<24}{'sentences/s':>12}{'exact is faster by':>20}")
    for name, value in rates.items():
        print(f"{name:<24}{value:>12,.0f}{rates['exact'] / value:>19.2f}x")
    beyond = sum(name not in ("none", "independent") for name in exact.solver) / len(numbers)
    proven, short = exact.optimal[numbers].mean(), (greedy.objective < exact.objective - 1e-9)[numbers].mean()
    print(f"exact: {proven:.2%} proven optimal, {beyond:.2%} not independent; {dict(Counter(exact.solver))}")
    print(f"greedy: {greedy.optimal[numbers].mean():.2%} proven optimal, {short:.2%} below the optimum")
    return exact


if __name__ == "__main__":
    main()
