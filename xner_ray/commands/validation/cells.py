"""The cells of an experiment: what a student of one seed scores in one language."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xner_ray.commands.validation.item import Item, Place
from xner_ray.data.arrow import with_column
from xner_ray.evaluate import scores as evaluation
from xner_ray.evaluate.counting import count
from xner_ray.storage import files as storage

_SEED_ROWS = 10**12  # between the row numbers of one seed and the next


@dataclass(frozen=True)
class Cell:
    """The scores of a student of one seed in one language, in 0..1, and the entities that they are counted from.

    exact: predicted entities whose words and label are those of gold.
    """

    student: str
    lang: str
    seed: int
    precision: float
    recall: float
    f1: float
    exact: int
    predicted: int
    gold: int


def cells(items: Sequence[Item]) -> list[Cell]:
    """Return the cells of one student and seed, by language. items: the trainings behind them, which are made."""
    student, seed = items[0].student, items[0].training.fit.seed
    found = []
    for one in evaluation.score(count([predictions(items, [seed])]), samples=0):
        own = one.overall
        found.append(
            Cell(student, one.lang, seed, own.precision, own.recall, own.f1, own.exact, own.predicted, own.gold)
        )
    return found


def micro_f1(own: Iterable[Cell]) -> float:
    """Return the F1 of the entities of all cells together; 0 without any."""
    exact, entities = 0, 0
    for cell in own:
        exact, entities = exact + cell.exact, entities + cell.predicted + cell.gold
    return 2 * exact / entities if entities else 0.0


def predictions(items: Iterable[Item], seeds: Sequence[int]) -> pa.Table:
    """Return a student's predictions of all folds, languages and seeds, by language and row.

    Row numbers and documents: each seed has row numbers of its own, but shares the documents with the other seeds.
    """
    parts = []
    for item in items:
        table = pq.read_table(pa.BufferReader(storage.read_bytes(item.path))).replace_schema_metadata(None)
        shift = seeds.index(item.training.fit.seed) * _SEED_ROWS
        table = with_column(table, "row", pc.add(table.column("row"), pa.scalar(shift, pa.int64())))
        parts.append(with_column(table, "doc_id", pc.coalesce(table.column("doc_id"), table.column("id"))))
    return pa.concat_tables(parts).sort_by([("lang", "ascending"), ("row", "ascending")])


def grouped(items: Iterable[Item]) -> dict[Place, list[Item]]:
    """Return the trainings behind each cell; those of a student of all languages stand behind the cells of all."""
    found: dict[Place, list[Item]] = {}
    for item in items:
        found.setdefault(item.place, []).append(item)
    return found


def publish(root: str, found: Iterable[Cell]) -> None:
    """Write each cell to its file below `root`, where it differs from what is there."""
    for cell in found:
        path = _file(root, cell.student, cell.lang, cell.seed)
        text = (json.dumps(asdict(cell), indent=1) + "\n").encode()
        if storage.read_if_there(path) != text:
            storage.publish(path, text)


def tidy(root: str, made: Mapping[Place, Sequence[Cell]]) -> None:
    """Leave the files of these cells alone below `root`: the others are of no training, or of one to be made again."""
    found = [cell for own in made.values() for cell in own]
    wanted = {_file(root, cell.student, cell.lang, cell.seed) for cell in found}
    folder = storage.join(root, "cells")
    inner = storage.locate(folder)[1].rstrip("/")
    for info in storage.files_below(folder):
        path = storage.join(folder, info.path[len(inner) + 1 :])
        if path not in wanted:
            storage.delete(path)
    publish(root, found)


def _file(root: str, student: str, lang: str, seed: int) -> str:
    return storage.join(root, "cells", student, lang, f"seed-{seed}.json")
