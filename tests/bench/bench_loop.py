"""How a loop's measure of gain follows gold: round 0's run matched again with its students' labels, by many settings.

    python tests/bench/bench_loop.py RUNS

RUNS: the folder of a finished `xner-ray loop` over a run that has gold, in one language. Prints the change of F1 of
each setting against round 0 by gold; by the expected F1 that decides; and by the agreement with the students that have
labelled, which is what a loop must not believe. With 95 % intervals of paired resamples.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.commands.inspect import read_index, whole_parts
from xner_ray.commands.loop import expected, labels
from xner_ray.data.arrow import with_column
from xner_ray.engine.second_pass import unmatched
from xner_ray.evaluate import scores
from xner_ray.evaluate.bootstrap import Difference
from xner_ray.evaluate.counting import COLUMNS, Counts, count
from xner_ray.match import projection
from xner_ray.match.prior import Prior, merge, prune
from xner_ray.match.prior import count as counted
from xner_ray.match.rows import read
from xner_ray.recipe.sections import Match
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder


def main(root: str) -> None:
    folder = RunFolder(f"{root}/round-0/run")
    recipe, units = folder.recipe(), read_index(folder).units
    (students,) = Path(root, "round-0", "labels").glob("[0-9a-f]*")
    paths = whole_parts(folder, units, first=True)
    at = labels.labels_of(f"{root}/round-0", (unit.name for unit in units), students.name)
    first = pa.concat_tables([part_files.read_part(paths[unit.name]) for unit in units]).combine_chunks()
    labelled = pa.concat_tables([labels.read_labels(at[unit.name]) for unit in units]).combine_chunks()
    plain = unmatched(first, mwmf=False)
    tagged = with_column(plain, "target_tags", labelled.column("target_tags"))
    by_students = labels.as_gold(labelled.column("spans"))

    def prior_of(rows: pa.Table) -> Prior:
        found = read(rows.filter(pc.equal(rows.column("status"), "ok")))
        return Prior(prune(merge([counted(found.source_tokens, found.tokens, found.earlier)])))

    def matched(rows: pa.Table, settings: Match) -> pa.Table:
        one = projection.project(rows, settings, recipe.align.method, None, labelled=recipe.labelled)
        return projection.project(one, settings, recipe.align.method, prior_of(one), labelled=recipe.labelled)

    base = matched(plain, recipe.match)
    one = projection.project(plain, recipe.match, recipe.align.method, None, labelled=recipe.labelled)
    prior = prior_of(one)

    def likely(rows: pa.Table) -> dict[str, expected.Expected]:
        return expected.by_language([expected.of_rows(one, rows, prior, 0.5, recipe.labelled, recipe.align.method)])

    def against(rows: pa.Table, gold: pa.Array | None) -> list[Counts]:
        rows = rows if gold is None else with_column(rows, "gold_spans", gold)
        return count([rows.select(list(COLUMNS))])

    before = likely(base)
    print("weight of tagger, min_score, entities: change by gold; expected; agreement with the students")
    for weight, least in itertools.product((0.2, 0.5, 1.0, 2.0), (0.4, 0.5, 0.6, 0.7)):
        given = {"soft": 1.0, "edges": 0.2, "tagger": weight}
        rows = matched(tagged, Match(candidates="window+tagger", scores=given, min_score=least))
        changes = [
            scores.compare(against(base, None), against(rows, None)),
            expected.compared(before, likely(rows), samples=10_000, seed=0),
            scores.compare(against(base, by_students), against(rows, by_students)),
        ]
        n = pc.sum(pc.list_value_length(rows.column("spans"))).as_py()
        print(f"| {weight} | {least} | {n:,} | {' | '.join(map(_text, changes))} |", flush=True)


def _text(change: Difference) -> str:
    assert change.interval is not None
    low, high = change.interval.low, change.interval.high
    return f"{100 * change.difference:+.2f} ({100 * low:+.2f}..{100 * high:+.2f})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
