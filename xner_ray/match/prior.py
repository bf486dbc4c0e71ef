"""Counts of words in a finished first matching, without gold, that refine a second one.

A `Prior` of one language counts over all published rows of a run:
- the rows in which each word form occurs, per side: a frequent word (an article, a preposition) says little about where
  an entity is, so it counts less in soft Dice;
- how often each target form stands first in a projected span, just before one, last in one, just after one, which
  makes the score of boundaries;
- the same for word shapes (capital, small, digit, ...), to fall back on for rare forms;
- the shapes with which spans of each label begin: where names of places begin with a capital, a small word that an
  English name is linked to is rarely its name ("Europe" - "europeo").

Counts are sums over rows, so no order of units or workers changes them. Every row is judged without its own counts.
Measured on Europarl and PUD: README, "How good".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, ints, lengths, offsets
from xner_ray.data.row import SCALE
from xner_ray.match.batch import look_up

LEAST_ROWS = 50
"""The fewest rows of a language from which it gets a prior."""

RARITY = 10.0  # a form in every tenth row counts half; 5 to 20 gave the same F1 within 0.1
BACK_OFF = 4.0  # the shape is worth so many occurrences of the form
SHAPE_BACK_OFF = 10.0
OPENING_BACK_OFF = 5.0  # all labels' openings are worth so many of the label's; 2 to 20 gave the same F1 within 0.1
PLACES = ("first", "before", "last", "after")
SHAPES = ("capital", "small", "digit", "letter", "other")
_COUNTS = ("rows", *PLACES)
SCHEMA = pa.schema(
    [("kind", pa.string()), ("form", pa.string()), *((name, pa.int64()) for name in _COUNTS)]
)  # kind: all (its `rows` is the number of rows) | source | target | shape | label (its form is shape and label)


class Prior:
    """The counts of one language, ready for lookup."""

    def __init__(self, table: pa.Table) -> None:
        """Index a table of `SCHEMA`, one row a (kind, form), as `merge` returns it."""
        self.n_rows = sum(table.filter(pc.equal(table.column("kind"), "all")).column("rows").to_pylist())
        self._forms: dict[str, tuple[pa.Array, Ints]] = {}
        for kind in ("source", "target", "shape", "label"):
            part = table.filter(pc.equal(table.column("kind"), kind)).combine_chunks()
            counts = np.stack([part.column(name).to_numpy() for name in _COUNTS], axis=1)
            self._forms[kind] = (pc.cast(part.column("form"), pa.string()).combine_chunks(), counts)

    @classmethod
    def from_parquet(cls, data: bytes) -> Prior | None:
        """Return a published prior, None if it was counted from fewer than `LEAST_ROWS` rows."""
        prior = cls(pq.read_table(pa.BufferReader(data)))
        return prior if prior.n_rows >= LEAST_ROWS else None

    def _lookup(self, kind: str, forms: pa.Array) -> Ints:
        """Return the counts (forms, 5) of each form; zero for unknown ones."""
        known, counts = self._forms[kind]
        place = ints(pc.fill_null(pc.index_in(forms, value_set=known), len(known)))
        found: Ints = np.concatenate([counts, np.zeros((1, len(_COUNTS)), dtype=np.int64)])[place]
        return found

    def weights(self, kind: str, words: Words) -> Ints:
        """Return the weight of each word in ten-thousandths: 1 / (1 + 10 (rows with it - 1) / rows).

        Smooth inverse frequency (Arora et al. 2017) with the share of other rows that hold the form.
        """
        rows = np.maximum(self._lookup(kind, words.forms)[:, 0] - 1, 0)
        per_form = np.rint(SCALE / (1 + RARITY * rows / max(self.n_rows, 1))).astype(np.int64)
        result: Ints = per_form[words.form]
        return result

    def edges(self, words: Words, places: Sequence[Ints]) -> tuple[Floats, Floats]:
        """Return `left` and `right` of `bounds.edges`, the score of boundaries, for every target word.

        (n_in + 4 p) / (n_in + n_out + 4) - 1/2 with the form's counts as first and before (last and after), and p
        that of its shape, (n_in + 5) / (n_in + n_out + 10). The row's own counts are subtracted.

        places: `span_places` of the rows' present spans.
        """
        by_form, by_shape = self._lookup("target", words.forms), self._lookup("shape", pa.array(_SHAPE_KEYS))
        shape = words.shape
        own_form = _own(words, places, words.form, len(words.forms))
        own_shape = _own(words, places, shape, len(_SHAPE_KEYS))
        sides = []
        for n_in, n_out in ((0, 1), (2, 3)):
            totals = []
            for counts, own, key in ((by_shape, own_shape, shape), (by_form, own_form, words.form)):
                totals.append([np.maximum(counts[key, 1 + at] - own[at], 0) for at in (n_in, n_out)])
            (shape_in, shape_out), (form_in, form_out) = totals
            p = (shape_in + SHAPE_BACK_OFF / 2) / (shape_in + shape_out + SHAPE_BACK_OFF)
            q = (form_in + BACK_OFF * p) / (form_in + form_out + BACK_OFF) - 0.5
            sides.append(np.round(q, 4))
        return sides[0], sides[1]

    def typical(self, words: Words, spans: Spans, row: Ints, label: pa.Array, word: Ints) -> Floats:
        """Return how typical it is that a span of this label begins with a word of this shape: in (0, 1], 1e-4.

        p(shape | label) / max p, p = (n + 5 g) / (N + 5) with the spans of the label that begin so, of all N, and the
        share g = (m + 1) / (M + 5) of such spans among those of all labels. The row's own spans are subtracted. The
        first word of a sentence says nothing: 1.

        spans: the rows' present ones. row, label, word: of each question, `word` counts all target words.
        """
        names = pa.concat_arrays([label.cast(pa.string()), spans.label.cast(pa.string())]).dictionary_encode()
        number = ints(names.indices)
        asked, own = number[: len(label)], number[len(label) :]
        keys = pa.array(
            [_opening(shape, name) for name in names.dictionary.to_pylist() for shape in SHAPES], pa.string()
        )
        of_label = self._lookup("label", keys)[:, 1].reshape(-1, len(SHAPES))
        known, counts = self._forms["label"]
        shape_of = pc.index_in(pc.list_element(pc.split_pattern(known, " ", max_splits=1), 0), pa.array(SHAPES))
        overall = np.bincount(ints(shape_of), weights=counts[:, 1], minlength=len(SHAPES)).astype(np.int64)

        shape = words.shape
        begins = shape[span_places(spans.row, spans.start, spans.end, words)[0]] % len(SHAPES)
        n_labels = max(len(names.dictionary), 1)
        each = np.arange(len(SHAPES))
        seen, times = np.unique((spans.row * n_labels + own) * len(SHAPES) + begins, return_counts=True)
        n = of_label[asked] - look_up(seen, times, ((row * n_labels + asked) * len(SHAPES))[:, None] + each)
        seen, times = np.unique(spans.row * len(SHAPES) + begins, return_counts=True)
        m = overall - look_up(seen, times, (row * len(SHAPES))[:, None] + each)
        g = (np.maximum(m, 0) + 1) / (np.maximum(m, 0).sum(axis=1, keepdims=True) + len(SHAPES))
        p = np.maximum(n, 0) + OPENING_BACK_OFF * g  # over the same sum for every shape
        result: Floats = np.round(p[np.arange(len(word)), shape[word] % len(SHAPES)] / p.max(axis=1), 4)
        return np.where(shape[word] < len(SHAPES), result, 1.0)


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans of many rows, by row: arrays of one length."""

    row: Ints
    start: Ints
    end: Ints
    label: pa.Array


class Words:
    """All words of one side of many rows, as lower-case forms."""

    def __init__(self, tokens: pa.Array) -> None:
        """Number the words. tokens: list<string>, a list per row; null is a row without words."""
        sizes = lengths(tokens)
        self.row: Ints = np.repeat(np.arange(len(tokens)), sizes)
        self.base = offsets(sizes)
        distinct = tokens.flatten().dictionary_encode()
        self.distinct: pa.Array = distinct.dictionary
        lowered = pc.utf8_lower(self.distinct).dictionary_encode()
        self.forms: pa.Array = lowered.dictionary
        self.word: Ints = distinct.indices.to_numpy().astype(np.int64)
        self.form: Ints = lowered.indices.to_numpy().astype(np.int64)[self.word]

    @cached_property
    def shape(self) -> Ints:
        """Return every word's index into `_SHAPE_KEYS`: its first character's kind, apart for sentence openings."""
        first = pc.utf8_slice_codeunits(self.distinct, 0, 1)
        kinds = [pc.utf8_is_upper(first), pc.utf8_is_lower(first), pc.utf8_is_digit(first), pc.utf8_is_alpha(first)]
        masks = [kind.to_numpy(zero_copy_only=False).astype(bool) for kind in kinds]
        of_word = np.select(masks, range(len(masks)), default=len(masks))[self.word]
        result: Ints = of_word.astype(np.int64)
        result[self.base[:-1][np.diff(self.base) > 0]] += len(SHAPES)
        return result


_SHAPE_KEYS = [*SHAPES, *(f"opening {shape}" for shape in SHAPES)]


def _opening(shape: str, label: str) -> str:
    """Return the form of kind `label`."""
    return f"{shape} {label}"


def span_places(row: Ints, start: Ints, end: Ints, words: Words) -> list[Ints]:
    """Return the words at the four `PLACES` of projected spans of many rows; -1 beyond the sentence."""
    first, last = words.base[row] + start, words.base[row] + end - 1
    after = np.where(last + 1 < words.base[row + 1], last + 1, -1)
    return [first, np.where(start > 0, first - 1, -1), last, after]


def _own(words: Words, places: Sequence[Ints], key: Ints, n_keys: int) -> list[Ints]:
    """Return, for each place and word, the number of words of the same row and key at that place."""
    all_keys = words.row * n_keys + key
    result = []
    for at in places:
        seen, times = np.unique(all_keys[at[at >= 0]], return_counts=True)
        result.append(look_up(seen, times, all_keys))
    return result


def count(source: pa.Array, target: pa.Array, spans: Spans) -> pa.Table:
    """Return the counts, of `SCHEMA`, of some rows: their words on either side (list<string>) and projected spans."""
    sides = {"source": Words(source), "target": Words(target)}
    words = sides["target"]
    at = span_places(spans.row, spans.start, spans.end, words)
    tables = [_table("all", pa.array([""]), [np.array([len(target)])] + [np.zeros(1, dtype=np.int64)] * 4)]
    for kind, side in sides.items():
        pairs = np.unique(side.row * len(side.forms) + side.form) % max(len(side.forms), 1)
        counts = [np.bincount(pairs, minlength=len(side.forms))]
        places = at if kind == "target" else [np.zeros(0, dtype=np.int64)] * 4
        counts += [np.bincount(side.form[p[p >= 0]], minlength=len(side.forms)) for p in places]
        tables.append(_table(kind, side.forms, counts))
    shape = words.shape
    counts = [np.bincount(shape[p[p >= 0]], minlength=len(_SHAPE_KEYS)) for p in at]
    tables.append(_table("shape", pa.array(_SHAPE_KEYS), [np.zeros(len(_SHAPE_KEYS), dtype=np.int64), *counts]))
    names = spans.label.cast(pa.string()).dictionary_encode()
    openings = ints(names.indices) * len(SHAPES) + shape[at[0]] % len(SHAPES)
    keys = [_opening(kind, name) for name in names.dictionary.to_pylist() for kind in SHAPES]
    none = np.zeros(len(keys), dtype=np.int64)
    tables.append(
        _table("label", pa.array(keys, pa.string()), [none, np.bincount(openings, minlength=len(keys)), *[none] * 3])
    )
    return pa.concat_tables(tables)


def _table(kind: str, forms: pa.Array, counts: Sequence[NDArray[np.integer]]) -> pa.Table:
    columns = [pa.array([kind] * len(forms), pa.string()), forms.cast(pa.string())]
    return pa.table([*columns, *(pa.array(c, pa.int64()) for c in counts)], schema=SCHEMA)


def merge(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the sums of several counts, sorted by kind and form: the same for any order and grouping of the tables."""
    table = pa.concat_tables(list(tables))
    sums = table.group_by(["kind", "form"], use_threads=False).aggregate([(name, "sum") for name in _COUNTS])
    sums = sums.select(["kind", "form", *(f"{name}_sum" for name in _COUNTS)]).rename_columns(SCHEMA.names)
    return sums.sort_by([("kind", "ascending"), ("form", "ascending")]).cast(SCHEMA).combine_chunks()


def prune(table: pa.Table) -> pa.Table:
    """Drop forms that occur in one row: they change nothing, as that row is judged without its own counts."""
    useful = pc.greater(table.column("rows"), 1)
    return table.filter(pc.or_(useful, pc.is_in(table.column("kind"), value_set=pa.array(["all", "shape", "label"]))))
