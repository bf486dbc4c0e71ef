"""Sentences as a network reads them: rows of subwords with the places of their words, and what is to be learnt there.

A word is read at its first subword. Nothing is cut: a sentence longer than the network's positions is several rows,
windows as those of `tag.engine: hf`, and each word is read in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import flat, ints, offsets, ranges
from xner_ray.evaluate.counting import entities
from xner_ray.models.network import spelt_specials
from xner_ray.tag.hf import pieces_of

Ints = NDArray[np.int64]
IGNORED = -1
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of subwords of many sentences, flat.

    ids: int32, all rows after each other; starts: [rows + 1]. sentence: [rows]. Words that are read: `word` their
    numbers counted through all sentences, `piece` their row, `place` their position in it, sorted by row. first:
    [sentences + 1], the number of each sentence's first word; rows_of: [sentences + 1], its first row.
    """

    ids: NDArray[np.int32]
    starts: Ints
    sentence: Ints
    word: Ints
    piece: Ints
    place: Ints
    words_of: Ints  # [rows + 1]: where in `word` each row's words begin
    first: Ints
    rows_of: Ints

    def __len__(self) -> int:
        """Sentences."""
        return len(self.first) - 1

    @property
    def lengths(self) -> Ints:
        """Subwords of each row."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int], padding: int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """ids and mask [rows, longest], and of the words read there the row, the place and the number."""
        sizes = self.lengths[list(rows)]
        ids = np.full((len(rows), int(sizes.max())), padding, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.int64)
        at, places, words = [], [], []
        for number, row in enumerate(rows):
            start, end = self.starts[row], self.starts[row + 1]
            ids[number, : end - start] = self.ids[start:end]
            mask[number, : end - start] = 1
            own = slice(self.words_of[row], self.words_of[row + 1])
            at.append(np.full(own.stop - own.start, number))
            places.append(self.place[own])
            words.append(self.word[own])
        return ids, mask, np.concatenate(at), np.concatenate(places), np.concatenate(words)


def encode(sentences: pa.Table, tokenizer: Any, positions: int) -> Windows:
    """The rows of all sentences, for a network that reads `positions` subwords at once."""
    spelt = spelt_specials(tokenizer)
    options: dict[str, Any] = {"is_split_into_words": True, "truncation": False, "padding": False, "verbose": False}
    ids: list[NDArray[np.int32]] = []
    sentence, word, piece, place = [], [], [], []
    sizes: list[int] = []
    first, rows_of = [0], [0]
    tokens = sentences.column("tokens")
    for start in range(0, sentences.num_rows, _BATCH):
        lists = tokens.slice(start, _BATCH).to_pylist()
        for number, encoding in enumerate(
            tokenizer(lists, split_special_tokens=True, **options).encodings, start=start
        ):
            word_of, own = pieces_of(number, encoding.ids, encoding.word_ids, positions, spelt)
            begins = np.ones(len(word_of), dtype=np.bool_)
            begins[1:] = word_of[1:] != word_of[:-1]
            for row in own:
                here = np.flatnonzero(begins[row.rows])
                word.append(first[-1] + word_of[row.rows][here].astype(np.int64))
                place.append(row.places.start + here)
                piece.append(np.full(len(here), len(sizes)))
                ids.append(np.array(row.ids, dtype=np.int32))
                sizes.append(len(row.ids))
                sentence.append(number)
            first.append(first[-1] + len(lists[number - start]))
            rows_of.append(len(sizes))
    starts = offsets(sizes)
    words_of = offsets([len(each) for each in word])

    def joined(parts: Sequence[NDArray[Any]]) -> Ints:
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)

    return Windows(
        ids=np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32),
        starts=starts,
        sentence=np.array(sentence, dtype=np.int64),
        word=joined(word),
        piece=joined(piece),
        place=joined(place),
        words_of=words_of,
        first=np.array(first, dtype=np.int64),
        rows_of=np.array(rows_of, dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class Goal:
    """What is to be learnt of each word: a class, or a distribution over the classes, and with what weight.

    classes: [words], IGNORED where nothing is. weight: [words], 0 there. soft: [soft words, classes]; soft_row:
    [words], -1 for a word that has a class.
    """

    classes: Ints
    weight: NDArray[np.float32]
    soft: NDArray[np.float32]
    soft_row: Ints

    def rows(self, words: Ints, n_classes: int) -> NDArray[np.float32]:
        """Distributions of some words, [words, classes]."""
        result = np.zeros((len(words), n_classes), dtype=np.float32)
        hard = self.classes[words]
        result[np.arange(len(words)), np.maximum(hard, 0)] = hard >= 0
        soft = np.flatnonzero(self.soft_row[words] >= 0)
        result[soft] = self.soft[self.soft_row[words[soft]]]
        return result


def goal(sentences: pa.Table, pieces: Windows, names: Sequence[str]) -> Goal:
    """The goal of each word of the sentences; `names` are the classes (O, B-l, I-l).

    Words that have no subword are not learnt from.
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
    # "O" is all that a sentence which lost an entity may be wrong about
    nothing = masked & (classes == number["O"])
    read = np.zeros(n_words, dtype=np.bool_)
    read[pieces.word] = True
    nothing |= ~read
    nothing[_words(entities(_array(table, "doubtful"), {}), pieces)] = True
    classes[nothing] = IGNORED
    weight[nothing] = 0
    soft_row[nothing] = -1
    return Goal(classes, weight, soft, soft_row)


def _words(found: Ints, pieces: Windows) -> Ints:
    """Numbers of the words of entities, which are (sentence, start, end, label), one entity after the other."""
    row, start, end, _ = found.T
    return ranges(pieces.first[row] + start, end - start)


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _soft(tags: pa.Array, pieces: Windows, number: Mapping[str, int]) -> tuple[NDArray[np.float32], Ints]:
    """Distributions of the words of those rows that have tags, and for each word its row there, -1 for none.

    Tags without a class of ours count as O, and what rounding took away goes to O.
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
