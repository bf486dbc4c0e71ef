"""Sentences as a network reads them: rows of subwords, their words, what is learnt, and blocks of many.

A word is read at its first subword. Nothing is cut: a sentence longer than the network's positions becomes several
rows, windows like those of `tag.engine: hf`, and each word is read in one of them. A context stands in all of
them, behind a separator, and nothing is learnt at its subwords.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import flat, ints, ranges
from xner_ray.evaluate.counting import entities
from xner_ray.models.windows import Splitter, Windows

Ints = NDArray[np.int64]
IGNORED = -1
_BATCH = 4096


def encode(sentences: pa.Table, tokenizer: Any, positions: int) -> Windows:
    """Return the windows of all sentences, for a network that reads `positions` subwords at once."""
    split, beside = Splitter(tokenizer, positions), sentences.select(["tokens", "context"])
    parts = [
        split(*(column.to_pylist() for column in beside.slice(start, _BATCH).columns))
        for start in range(0, max(len(beside), 1), _BATCH)
    ]
    return Windows.joined(parts).at_first_subwords()


@dataclass(frozen=True, eq=False)
class Goal:
    """The class of each word, or its distribution over the classes, and its weight in the loss.

    classes: [words], IGNORED where there is none. weight: [words], 0 for words that are not learnt. soft: [soft words,
    classes]. soft_row: [words], the row in `soft`, -1 for words without a distribution.
    """

    classes: Ints
    weight: NDArray[np.float32]
    soft: NDArray[np.float32]
    soft_row: Ints

    def rows(self, words: Ints, n_classes: int) -> NDArray[np.float32]:
        """Return the distributions of some words, [words, classes]; one-hot for a class."""
        result = np.zeros((len(words), n_classes), dtype=np.float32)
        hard = self.classes[words]
        result[np.arange(len(words)), np.maximum(hard, 0)] = hard >= 0
        soft = np.flatnonzero(self.soft_row[words] >= 0)
        result[soft] = self.soft[self.soft_row[words[soft]]]
        return result


def goal(sentences: pa.Table, pieces: Windows, names: Sequence[str]) -> Goal:
    """Return the goal of each word of the sentences. names: the classes (O, B-l, I-l).

    Words without a subword are not learnt.
    """
    number = {name: index for index, name in enumerate(names)}
    n_words = int(pieces.first[-1])
    classes = np.full(n_words, number["O"], dtype=np.int64)
    table = sentences.combine_chunks()
    inside: dict[str, int] = {}
    found = entities(_array(table, "spans"), inside)
    begins = np.array([number[f"B-{label}"] for label in inside], dtype=np.int64)
    goes_on = np.array([number[f"I-{label}"] for label in inside], dtype=np.int64)
    row, start, end, label = found.T
    if len(found):
        classes[_words(found, pieces)] = np.repeat(goes_on[label], end - start)
        classes[pieces.first[row] + start] = begins[label]
    words_per_row = np.diff(pieces.first)
    weight = np.repeat(table.column("weight").to_numpy().astype(np.float32), words_per_row)
    masked = np.repeat(table.column("masked").to_numpy(zero_copy_only=False), words_per_row)
    soft, soft_row = _soft(_array(table, "tags"), pieces, number)
    classes[soft_row >= 0] = IGNORED
    nothing = masked & (classes == number["O"])  # where a sentence lost an entity, only its O words can be wrong
    nothing |= np.bincount(pieces.word, minlength=n_words) == 0
    nothing[_words(entities(_array(table, "doubtful"), {}), pieces)] = True
    row, _, word = flat(_array(table, "unknown"))
    at = pieces.first[row] + ints(word)
    nothing[at[(classes[at] == number["O"]) | (soft_row[at] >= 0)]] = True
    classes[nothing] = IGNORED
    weight[nothing] = 0
    soft_row[nothing] = -1
    return Goal(classes, weight, soft, soft_row)


def _words(found: Ints, pieces: Windows) -> Ints:
    """Return the numbers of the words in entities (sentence, start, end, label), entity by entity."""
    row, start, end, _ = found.T
    return ranges(pieces.first[row] + start, end - start)


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _soft(tags: pa.Array, pieces: Windows, number: Mapping[str, int]) -> tuple[NDArray[np.float32], Ints]:
    """Return the distributions of words in sentences with tags, and each word's row there, -1 for none.

    Tags without a class count as O, and so does what is missing to 1.
    """
    given = tags.is_valid().to_numpy(zero_copy_only=False)
    words = np.repeat(given, np.diff(pieces.first))
    soft_row = np.full(len(words), -1, dtype=np.int64)
    soft_row[words] = np.arange(int(words.sum()))
    soft = np.zeros((int(words.sum()), len(number)), dtype=np.float32)
    if len(soft):
        row, _, cells = flat(tags)
        names = cells.field("tag").dictionary_encode()
        column = np.array([number.get(name, number["O"]) for name in names.dictionary.to_pylist()], dtype=np.int64)
        word = pieces.first[row] + ints(cells.field("word"))
        values = pc.fill_null(cells.field("probability"), 0.0).to_numpy(zero_copy_only=False)
        np.add.at(soft, (soft_row[word], column[ints(names.indices)]), values)
        soft[:, number["O"]] += np.maximum(1 - soft.sum(axis=1), 0)
        soft /= soft.sum(axis=1, keepdims=True)
    return soft, soft_row


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring sentences of one source: their places in a file of the run, ascending, or themselves as a table."""

    source: int
    n_rows: int
    file: str = ""
    places: Ints | None = None
    table: pa.Table | None = None


def dealt(blocks: Sequence[Block], seed: int, rank: int, size: int) -> list[Block]:
    """Return the blocks of one of several workers: every n-th of them in an order that the seed draws."""
    order = np.random.default_rng([seed, 0]).permutation(len(blocks))
    return [blocks[number] for number in order[rank::size].tolist()]


@dataclass(frozen=True)
class PoolPlan:
    """Which blocks a pool has, and its steps of the epoch, half-open."""

    blocks: list[Block]
    first: int
    end: int


def pools(blocks: Sequence[Block], n_steps: int, pool_rows: int, drawn: np.random.Generator) -> list[PoolPlan]:
    """Return a worker's pools of an epoch, of about `pool_rows` sentences; together they have all steps.

    Step i is that of the pool which has the i-th of n equal shares of the worker's sentences beginning in it. A last
    pool of less than half the size joins the one before it.
    """
    groups: list[list[Block]] = [[]]
    for number in drawn.permutation(len(blocks)).tolist():
        if sum(block.n_rows for block in groups[-1]) >= pool_rows:
            groups.append([])
        groups[-1].append(blocks[number])
    if len(groups) > 1 and 2 * sum(block.n_rows for block in groups[-1]) < pool_rows:
        groups[-2:] = [groups[-2] + groups[-1]]
    total = sum(block.n_rows for block in blocks)
    plans, done, first = [], 0, 0
    for group in groups:
        done += sum(block.n_rows for block in group)
        end = n_steps if group is groups[-1] else -(-done * n_steps // total)
        plans.append(PoolPlan(group, first, end))
        first = end
    return plans
