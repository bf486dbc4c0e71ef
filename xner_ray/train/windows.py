"""Sentences as a network reads them: rows of subwords, their words, and what is learnt.

A word is read at its first subword. Nothing is cut: a sentence longer than the network's positions becomes several
rows, windows like those of `tag.engine: hf`, and each word is read in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import flat, ints, lengths, offsets, ranges
from xner_ray.evaluate.counting import entities
from xner_ray.models.windows import windowed

Ints = NDArray[np.int64]
IGNORED = -1
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of subwords of many sentences, flat.

    ids: the subwords of all rows, one row after the other. starts: [rows + 1], where each row begins in `ids`.
    word: numbers of the words that are read, counted through all sentences, sorted by row; place: their positions in
    the row; words_of: [rows + 1], where each row's words begin in `word`. first: [sentences + 1], the number of each
    sentence's first word. rows_of: [sentences + 1], its first row.
    """

    ids: NDArray[np.int32]
    starts: Ints
    word: Ints
    place: Ints
    words_of: Ints
    first: Ints
    rows_of: Ints

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.first) - 1

    @property
    def lengths(self) -> Ints:
        """Number of subwords of each row."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int], padding: int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Return ids and mask, [rows, longest], and for the words read there their row, place and number."""
        sizes = self.lengths[list(rows)]
        ids = np.full((len(rows), int(sizes.max())), padding, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : sizes[number]] = self.ids[self.starts[row] : self.starts[row + 1]]
            mask[number, : sizes[number]] = 1
        counts = np.diff(self.words_of)[list(rows)]
        own = ranges(self.words_of[list(rows)], counts)
        return ids, mask, np.repeat(np.arange(len(rows)), counts), self.place[own], self.word[own]


def encode(sentences: pa.Table, tokenizer: Any, positions: int) -> Windows:
    """Return the rows of all sentences, for a network that reads `positions` subwords at once."""
    tokens = sentences.column("tokens")
    first = offsets(lengths(tokens))
    ids, word, place = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    n_rows = []
    for start in range(0, len(tokens), _BATCH):
        found = windowed(tokenizer, tokens.slice(start, _BATCH).to_pylist(), positions)
        for number, own in enumerate(found, start=start):
            last = -1
            for row in own:
                words = row.words[row.slots]
                here = np.flatnonzero(np.diff(words, prepend=last))  # each word at its first subword
                last = words[-1]
                word.append(first[number] + words[here])
                place.append(row.places[here])
                ids.append(np.array(row.ids, dtype=np.int32))
            n_rows.append(len(own))
    return Windows(
        ids=np.concatenate(ids),
        starts=offsets([len(each) for each in ids[1:]]),
        word=np.concatenate(word),
        place=np.concatenate(place),
        words_of=offsets([len(each) for each in word[1:]]),
        first=first,
        rows_of=offsets(n_rows),
    )


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
