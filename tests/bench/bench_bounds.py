"""The constants of `match/bounds.py`, fitted on gold, each corpus left out in turn; as Markdown for docs/quality.md.

    python tests/bench/bench_bounds.py runs/grid/europarl/default runs/grid/pud/default runs/grid/masakha/default ...

A run is a corpus. Its rows are matched again in this process under every pair of constants, in about a minute. Fitted
is the mean over corpora of the mean F1 of their languages. The last column is the F1 of the corpus left out under what
the others chose, and in brackets under the constants as they are.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterable, Sequence

import pyarrow as pa

from xner_ray.commands import inspect
from xner_ray.engine.second_pass import unmatched
from xner_ray.evaluate import scores
from xner_ray.match import bounds, projection
from xner_ray.match import rows as rows_of
from xner_ray.match.prior import Prior, count, merge
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder

AGAINST = (0.5, 1.0, 1.5, 2.0, 3.0)
MISSING = (0.0, 0.25, 0.5, 0.75, 1.0)
Constants = tuple[float, float]
Corpus = tuple[Recipe, list[tuple[pa.Table, Prior]]]  # each language's rows after the first matching, and its prior


def first_matching(run: str) -> Corpus:
    """Match a run's parts for the first time."""
    folder = RunFolder(run)
    recipe, units = folder.recipe(), inspect.read_index(folder).units
    parts = inspect.whole_parts(folder, units, first=True)
    found = []
    for lang in dict.fromkeys(unit.lang for unit in units):
        tables = [unmatched(part_files.read_part(parts[u.name]), mwmf=False) for u in units if u.lang == lang]
        table = projection.project(pa.concat_tables(tables), recipe.match, recipe.align.method, None)
        rows = rows_of.read(table)
        found.append((table, Prior(merge([count(rows.source_tokens, rows.tokens, rows.earlier)]))))
    return recipe, found


def f1(corpus: Corpus, constants: Constants) -> list[float]:
    """Return the F1 of each language, in percent."""
    recipe, languages = corpus
    bounds.AGAINST, bounds.MISSING = constants
    tables = [projection.project(table, recipe.match, recipe.align.method, prior) for table, prior in languages]
    return [100 * found.overall.f1 for found in scores.evaluate(tables, samples=0)]


def best(figures: dict[Constants, Sequence[list[float]]], corpora: Iterable[int]) -> Constants:
    """Return the constants with the highest mean over these corpora."""
    chosen = list(corpora)
    return max(figures, key=lambda each: statistics.mean(statistics.mean(figures[each][n]) for n in chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    runs = parser.parse_args().runs
    shipped = bounds.AGAINST, bounds.MISSING
    corpora = [first_matching(run) for run in runs]
    figures = {pair: [f1(corpus, pair) for corpus in corpora] for pair in itertools.product(AGAINST, MISSING)}
    print("| left out | against | missing | F1 of what was left out |\n|---|---:|---:|---:|")
    for n, run in enumerate(runs):
        chosen = best(figures, {*range(len(runs))} - {n})
        there, here = (" ".join(f"{value:.1f}" for value in figures[pair][n]) for pair in (chosen, shipped))
        print(f"| {'/'.join(run.rstrip('/').split('/')[-2:])} | {chosen[0]} | {chosen[1]} | {there} ({here}) |")
    chosen = best(figures, range(len(runs)))
    print(f"| nothing | {chosen[0]} | {chosen[1]} | |")


if __name__ == "__main__":
    main()
