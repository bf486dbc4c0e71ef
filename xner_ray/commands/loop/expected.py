"""The F1 that a round's projections are expected to have, by probabilities in which its students have no say.

The probability of an entity is that of the first projection's own scores (`match.confidence`): its links, what words
and boundaries are like in this language, and what the tagger of round 0 says of both sides. So it is the same for the
same place in every round, and labels of a student cannot raise it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.data.arrow import Floats, Ints, lengths
from xner_ray.data.row import OK, SCALE
from xner_ray.engine.second_pass import unmatched
from xner_ray.evaluate.bootstrap import Difference, Interval, interval, paired_bootstrap, resampled_sums
from xner_ray.evaluate.scores import FEWEST_DOCUMENTS
from xner_ray.match import projection
from xner_ray.match.prior import Prior
from xner_ray.recipe.sections import Match
from xner_ray.run import parts as part_files
from xner_ray.run import whole

_READ = ("id", "doc_id", "lang", "status", "source_spans")


@dataclass(frozen=True, eq=False)
class Expected:
    """Rows of one unit or language.

    ids, documents: of each row, a document is None where there is none. cells: [rows, 3] in ten-thousandths, the
    entities expected to be right, those placed, and those of the source, which stand for gold. doubtful: entities.
    """

    lang: str
    ids: list[str]
    documents: list[str | None]
    cells: Ints
    doubtful: int


def expect_part(first: str, final: str, prior: str | None, settled: float, labelled: bool, method: str) -> Expected:
    """Return what is expected of a unit. first: round 0's part before its second matching. final: the round's part.

    prior: file of round 0's prior. settled: a lower probability is doubtful. labelled, method: as of `match.project`.
    """
    rows = unmatched(part_files.read_part(first), mwmf=False)
    counts = None if prior is None else Prior.from_parquet(whole.read(prior))
    return of_rows(rows, part_files.read_part(final, ["status", "spans"]), counts, settled, labelled, method)


def of_rows(
    rows: pa.Table, placed: pa.Table, prior: Prior | None, settled: float, labelled: bool, method: str
) -> Expected:
    """Return what is expected of the spans of some rows; see `expect_part`."""
    kept = pc.if_else(pc.equal(placed.column("status"), OK), placed.column("spans"), None).combine_chunks()
    row, probability = projection.probabilities_of(rows, kept, Match(), method, prior, labelled=labelled)
    n = rows.num_rows
    accepted = pc.equal(rows.column("status"), OK).to_numpy(zero_copy_only=False)
    n_source = np.where(accepted, lengths(rows.column("source_spans").combine_chunks()), 0)
    cells = [np.bincount(row, weights=probability, minlength=n), np.bincount(row, minlength=n), n_source]
    return Expected(
        lang=rows.column("lang")[0].as_py() if n else "",
        ids=rows.column("id").to_pylist(),
        documents=rows.column("doc_id").to_pylist(),
        cells=np.rint(np.stack(cells, axis=1) * SCALE).astype(np.int64),
        doubtful=int((probability < settled).sum()),
    )


def by_language(units: Sequence[Expected]) -> dict[str, Expected]:
    """Join the units of each language."""
    found: dict[str, list[Expected]] = {}
    for unit in units:
        found.setdefault(unit.lang, []).append(unit)
    return {
        lang: Expected(
            lang,
            [one for unit in own for one in unit.ids],
            [one for unit in own for one in unit.documents],
            np.concatenate([unit.cells for unit in own]),
            sum(unit.doubtful for unit in own),
        )
        for lang, own in sorted(found.items())
        if lang
    }


def f1(sums: Ints) -> Floats:
    """Return the expected F1 of sums [..., 3]: 2 x right / (placed + source entities); 0 of nothing."""
    result: Floats = 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)
    return result


def scored(one: Expected, *, samples: int, seed: int = 0) -> tuple[float, Interval | None]:
    """Return the expected F1 of one language, and its interval over documents, or over sentences."""
    (cells,) = _items([{one.lang: one}])
    return float(f1(cells.sum(axis=0))), interval(f1(resampled_sums(cells, samples=samples, seed=seed)))


def compared(first: Mapping[str, Expected], second: Mapping[str, Expected], *, samples: int, seed: int) -> Difference:
    """Compare the expected F1 of all languages together; `second` minus `first`, over the same rows."""
    before, here = _items([first, second])
    return paired_bootstrap(before, here, f1, samples=samples, seed=seed)


def _items(rounds: Sequence[Mapping[str, Expected]]) -> list[Ints]:
    """Return cells [items, 3] of each round. An item is a document, where there are enough, or a sentence."""
    languages = [*rounds[0].values()]
    by_document = all(None not in one.documents and len({*one.documents}) >= FEWEST_DOCUMENTS for one in languages)
    number: dict[str | None, int] = {}
    places = []
    for one in languages:
        keys: Sequence[str | None] = one.documents if by_document else one.ids
        places.append(np.array([number.setdefault(each, len(number)) for each in keys], dtype=np.int64))
    found = []
    for each in rounds:
        cells = np.zeros((len(number), 3), dtype=np.int64)
        for place, one in zip(places, each.values(), strict=True):
            np.add.at(cells, place, one.cells)
        found.append(cells)
    return found
