"""Students of millions of sentences: what is learnt is read block by block, never held whole.

    survey       once, all rows of the runs: filters, counts, labels; of each row that is kept, its place alone
    deal         blocks of neighbouring rows, drawn to the workers by the seed; each reads its own in every epoch
    an epoch     a worker's blocks in an order drawn by seed, epoch and worker; some make up a pool, which is read,
                 tokenized, shuffled whole, and cut into batches of similar length

Every worker takes all steps of the epoch, with its part of each batch: its sentences are spread evenly over the steps,
so workers with a block more or less end together. What has no place in a run, labelled files and what teachers say, is
held as tables by every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.arrow import lengths
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import split_of
from xner_ray.train.recipe import Training
from xner_ray.train.runs import RunReader, rows_at
from xner_ray.train.sentences import SENTENCES, Tally, label_names, learnable
from xner_ray.train.windows import Block

Ints = NDArray[np.int64]
BLOCK_ROWS = 4096
_ROW = (1 << 32) - 1


@dataclass(frozen=True, eq=False)
class Survey:
    """What a recipe's data hold. n_entities: of all sentences that are kept."""

    blocks: list[Block]
    tallies: list[Tally]
    labels: list[str]
    n_entities: int

    @property
    def n_rows(self) -> int:
        return sum(block.n_rows for block in self.blocks)


def is_large(training: Training) -> bool:
    """Return whether the runs of `data` have more rows than are held in memory at once."""
    n_rows = 0
    for source in training.data:
        if source.run is not None:
            n_rows += sum(
                entry["rows"]
                for entry in RunFolder(source.run).require_sealed().files
                if split_of(entry["file"])[0] in source.splits
                and (source.langs is None or entry["file"].split("/")[1] in source.langs)
            )
    return n_rows > training.fit.shuffle_sentences


@dataclass
class _Growing:
    """The places of one file, until they make up a block."""

    source: int
    file: int
    places: list[Ints] = field(default_factory=list)
    n_rows: int = 0


def survey(
    training: Training,
    tables: Iterable[pa.Table],
    tallies: list[Tally],
    say: Callable[[str], None] = lambda line: None,
) -> Survey:
    """Read all of `data` once. tables, tallies: as of `sources.kept`. say: is told how far it is."""
    blocks: list[Block] = []
    labels: set[str] = set()
    growing: _Growing | None = None
    n_rows = n_entities = told = 0
    files = [_files(training, number) for number in range(len(training.data))]

    def close() -> None:
        nonlocal growing
        if growing is not None and growing.n_rows:
            places = np.concatenate(growing.places)
            for start in range(0, len(places), BLOCK_ROWS):
                own = places[start : start + BLOCK_ROWS]
                blocks.append(Block(growing.source, len(own), files[growing.source][growing.file], own))
        growing = None

    for table in tables:
        if not table.num_rows:
            continue
        n_rows += table.num_rows
        n_entities += int(lengths(table.column("spans")).sum())
        labels.update(label_names(table))
        source = int(table.column("source")[0].as_py())
        if "place" not in table.column_names or training.data[source].teachers:
            close()
            own = table.select(SENTENCES.names).cast(SENTENCES)
            for start in range(0, own.num_rows, BLOCK_ROWS):
                part = own.slice(start, BLOCK_ROWS)
                blocks.append(Block(source, part.num_rows, table=part))
            continue
        places = table.column("place").to_numpy()
        file = int(places[0] >> 32)
        if growing is None or (growing.source, growing.file) != (source, file):
            close()
            growing = _Growing(source, file)
        growing.places.append(places & _ROW)
        growing.n_rows += len(places)
        if n_rows - told >= 500_000:
            say(f"{n_rows:,} sentences are surveyed")
            told = n_rows
    close()
    return Survey(blocks, tallies, sorted(labels), n_entities)


def _files(training: Training, number: int) -> list[str]:
    source = training.data[number]
    return [] if source.run is None else [file for _, file in RunReader.of(source, learnt=True).files()]


def read_blocks(training: Training, blocks: Sequence[Block]) -> pa.Table:
    """Return the sentences of some blocks, as `sources.load` has them."""
    tables = [_read_block(training, block) for block in blocks]
    return pa.concat_tables([SENTENCES.empty_table(), *tables])


def _read_block(training: Training, block: Block) -> pa.Table:
    if block.places is None:
        return block.table
    source = training.data[block.source]
    reader = RunReader.of(source, learnt=True, context=training.model.context)
    table = learnable(rows_at(reader, block.file, block.places), source, training.labels, Tally(""))
    table = table.append_column(SENTENCES.field("source"), pa.array([block.source] * table.num_rows, pa.int32()))
    return table.select(SENTENCES.names).cast(SENTENCES)
