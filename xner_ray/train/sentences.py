"""A student's sentences as tables: schema, tallies, filters, label changes, folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import flat, lengths, nested, with_column
from xner_ray.data.languages import LANGUAGES
from xner_ray.data.links import METHODS
from xner_ray.data.row import ROW, span_cells
from xner_ray.data.spans import Span, outermost
from xner_ray.errors import Loss
from xner_ray.train.recipe import Filters, Folds, Labels, Source
from xner_ray.translate.health import LanguageIdentifier

Bools = NDArray[np.bool_]
SPANS = ROW.field("gold_spans").type
TAGS = ROW.field("target_tags").type
UNKNOWN = pa.list_(pa.int32())
_BOTH_WAYS = sum(1 << METHODS.index(name) for name in ("argmax", "itermax", "mwmf"))
SENTENCES = pa.schema(
    [
        ("source", pa.int32()),  # index in the recipe's list
        ("lang", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("tokens", pa.list_(pa.string())),
        ("spans", SPANS),  # null where `tags` are the labels
        ("tags", TAGS),  # a distribution for each word; tags without any probability are left out
        ("weight", pa.float32()),
        ("masked", pa.bool_()),  # its O words are not learnt
        ("doubtful", SPANS),  # the words of these entities are not learnt
        ("unknown", UNKNOWN),  # nor are these words, which may be those of a missing entity
        ("uncertain", pa.bool_()),  # its labels are no gold
        ("context", pa.string()),  # text that is read beside the words; null: none
    ]
)


@dataclass
class Tally:
    """Counts for one source.

    Sentences: read, kept, dropped by reason, masked. Entities: doubtful, dropped for their label, masked for it, and
    nested in or crossing longer ones, which tags cannot express. Words: those that may be of a missing entity.
    """

    name: str
    read: int = 0
    kept: int = 0
    masked: int = 0
    doubtful: int = 0
    unknown_words: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    labels_dropped: Counter[str] = field(default_factory=Counter)
    labels_masked: Counter[str] = field(default_factory=Counter)
    nested: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; read = kept + the sum of dropped."""
        counts = {"source": self.name, "read": self.read, "kept": self.kept, "masked": self.masked}
        counts |= {"doubtful": self.doubtful, "dropped": dict(sorted(self.dropped.items())), "nested": self.nested}
        counts |= {"labels_dropped": dict(sorted(self.labels_dropped.items())), "unknown_words": self.unknown_words}
        return {**counts, "labels_masked": dict(sorted(self.labels_masked.items()))}


def select(
    tables: Iterable[pa.Table], source: Source, labels: Labels, tally: Tally, *, learnt: bool = True
) -> Iterator[pa.Table]:
    """Filter a source's tables and change their labels; the results have all columns of SENTENCES but `source`.

    learnt: entities of `labels.mask` are masked; they are dropped if False, as in gold that others are scored against.
    """
    seen: set[bytes] = set()
    identifier = LanguageIdentifier("filters.language") if source.filters.language else None
    for table in tables:
        keep = _filtered(table, source, tally, seen, identifier)
        yield learnable(table.filter(pa.array(keep)), source, labels, tally, learnt=learnt)


def learnable(table: pa.Table, source: Source, labels: Labels, tally: Tally, *, learnt: bool = True) -> pa.Table:
    """Return sentences that no filter drops, with changed labels, weights and masks; all columns but `source`."""
    masked = _incomplete(table, source) & (source.filters.incomplete == "mask")
    doubtful = _doubtful(table, source.filters)
    uncertain = masked | (lengths(doubtful) > 0)
    if "unknown" in table.column_names:
        uncertain |= lengths(table.column("unknown")) > 0
    else:
        table = table.append_column("unknown", pa.nulls(table.num_rows, UNKNOWN))
    table = table.append_column("doubtful", doubtful).append_column("uncertain", pa.array(uncertain))
    table = table.append_column("masked", pa.array(masked)).append_column("weight", _weights(table, source))
    overlaps = source.run is None or source.side == "source"
    table = _relabelled(table, labels, tally, overlaps=overlaps, learnt=learnt)
    ours = [name for name in SENTENCES.names if name != "source"]
    return table.select([*ours, *(["place"] if "place" in table.column_names else [])])


def _incomplete(table: pa.Table, source: Source) -> Bools:
    """Return which projected sentences lost an entity."""
    if source.run is None or source.side == "source":
        return np.zeros(table.num_rows, dtype=np.bool_)
    found: Bools = ~pc.fill_null(table.column("complete"), True).to_numpy()
    return found


def _per_row(lists: pa.Array, worst: bool) -> NDArray[np.float64]:
    """Return the least or mean value of each list, 1 for an empty one. Values above 1 count as 1."""
    row, _, values = flat(lists)
    numbers = np.minimum(pc.fill_null(values, 1.0).to_numpy(zero_copy_only=False).astype(np.float64), 1.0)
    if worst:
        result = np.ones(len(lists))
        np.minimum.at(result, row, numbers)
        return result
    sums, sizes = np.zeros(len(lists)), np.bincount(row, minlength=len(lists))
    np.add.at(sums, row, numbers)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), 1.0)


def _weights(table: pa.Table, source: Source) -> pa.Array:
    weights = np.full(table.num_rows, source.weight)
    if source.weight_by == "score":
        weights *= _per_row(table.column("projected").combine_chunks(), worst=False)
    return pa.array(weights, pa.float32())


def _doubtful(table: pa.Table, filters: Filters) -> pa.Array:
    """Return each row's entities whose score is below `mask_below`."""
    if filters.mask_below is None:
        return pa.nulls(table.num_rows, SPANS)
    row, _, scores = flat(table.column("projected").combine_chunks())
    below = pc.fill_null(pc.less(scores, pa.scalar(filters.mask_below, pa.float32())), False)
    cells = table.column("spans").combine_chunks().flatten().filter(below)
    return nested(np.bincount(row[below.to_numpy(zero_copy_only=False)], minlength=table.num_rows), cells, SPANS)


def flagged(flags: pa.ChunkedArray, names: Collection[str]) -> Bools:
    """Return which rows have one of some flags."""
    row, _, found = flat(flags.combine_chunks())
    result = np.zeros(len(flags), dtype=np.bool_)
    result[row[np.isin(np.array(found.to_pylist(), dtype=object), [str(name) for name in names])]] = True
    return result


def _filtered(
    table: pa.Table, source: Source, tally: Tally, seen: set[bytes], identifier: LanguageIdentifier | None
) -> Bools:
    """Return which rows are kept. Dropped rows are counted by reason."""
    filters, n = source.filters, table.num_rows
    keep = np.ones(n, dtype=np.bool_)

    def drop(reason: str, bad: Bools) -> None:
        tally.dropped[reason] += int((keep & bad).sum())
        keep[bad] = False

    if source.run is not None and source.side == "target":
        if filters.incomplete == "drop":
            drop("incomplete", _incomplete(table, source))
        if filters.min_score is not None:
            worst = _per_row(table.column("projected").combine_chunks(), worst=True)
            drop("score", worst < np.float32(filters.min_score))  # scores are float32, so that 0.7 is not below 0.7
        if filters.min_translation_score is not None:
            score = pc.fill_null(table.column("translation_score"), 0.0).to_numpy()
            drop("translation score", score < np.float32(filters.min_translation_score))
        if filters.flags:
            drop("flags", flagged(table.column("flags"), filters.flags))
        if "garbled" in table.schema.names:
            drop("bad translation", table.column("garbled").to_numpy())
    words = lengths(table.column("tokens"))
    drop("empty", words == 0)
    if filters.words is not None:
        drop("length", (words < filters.words[0]) | (words > filters.words[1]))
    if filters.duplicates == "drop":
        beside = iter(table.column("context").filter(pa.array(keep)).to_pylist())
        drop("duplicate", _holding(table, keep, lambda lang, words: _is_repeated(lang, words, next(beside), seen)))
    if identifier is not None:
        glue = {lang: " " if LANGUAGES[lang].spaces else "" for lang in table.column("lang").unique().to_pylist()}
        drop("language", _holding(table, keep, lambda lang, words: identifier.wrong(glue[lang].join(words), lang)))
    return keep


def _holding(table: pa.Table, keep: Bools, test: Callable[[str, list[str]], bool]) -> Bools:
    """Return for which of the kept rows a test of (language, words) holds."""
    rows = zip(keep, *(table.column(name).to_pylist() for name in ("lang", "tokens")), strict=True)
    return np.array([bool(kept) and test(lang, tokens) for kept, lang, tokens in rows], dtype=np.bool_)


def _is_repeated(lang: str, tokens: list[str], context: str | None, seen: set[bytes]) -> bool:
    parts = [lang, *tokens, *(["", context] if context else [])]  # no word is empty
    key = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    known = key in seen
    seen.add(key)
    return known


def _relabelled(table: pa.Table, labels: Labels, tally: Tally, *, overlaps: bool, learnt: bool) -> pa.Table:
    """Rename labels, and drop and count spans without a kept label; then those that share words with a longer one.

    The words of spans with a masked label join `unknown`, and so do those whose soft tags are more probably than not
    of masked labels; all other soft tags without a kept label become O. overlaps: spans may share words.
    """
    if not labels.rename and labels.keep is None and not labels.mask and not overlaps:
        return table
    spans: list[list[dict[str, Any]] | None] = []
    tags: list[list[dict[str, Any]] | None] = []
    unknown: list[list[int]] = []
    for cells, soft, words in zip(
        *(table.column(name).to_pylist() for name in ("spans", "tags", "unknown")), strict=True
    ):
        found, aside = [], []
        for cell in cells or ():
            label = labels.rename.get(cell["label"], cell["label"])
            if label in labels.mask and learnt:
                aside.append(Span(cell["start"], cell["end"], label))
                tally.labels_masked[label] += 1
            elif labels.learns(label):
                found.append(Span(cell["start"], cell["end"], label))
            else:
                tally.labels_dropped[label] += 1
        kept, crossing = outermost(set(found))
        tally.nested += len(crossing)
        spans.append(None if cells is None else span_cells(kept))
        # Not the words that an entity with a kept label has
        taken = {word for span in kept for word in range(span.start, span.end)}
        free = {word for span in aside for word in range(span.start, span.end)} - taken
        free |= set() if soft is None else _mostly_masked(soft, labels)
        unknown.append(sorted({*(words or ()), *free}))
        tags.append(None if soft is None else [_retagged(cell, labels) for cell in soft])
    for name, values, kind in (("spans", spans, SPANS), ("tags", tags, TAGS), ("unknown", unknown, UNKNOWN)):
        table = with_column(table, name, pa.array(values, kind))
    return table


def _mostly_masked(cells: Sequence[dict[str, Any]], labels: Labels) -> set[int]:
    """Return the words whose tags have masked labels with more than half of the probability."""
    shares: Counter[int] = Counter()
    for cell in cells:
        label = cell["tag"][2:]
        if labels.rename.get(label, label) in labels.mask:
            shares[cell["word"]] += cell["probability"]
    return {word for word, share in shares.items() if share > 0.5}


def _retagged(cell: dict[str, Any], labels: Labels) -> dict[str, Any]:
    prefix, dash, label = cell["tag"].partition("-")
    label = labels.rename.get(label, label)
    return {**cell, "tag": f"{prefix}-{label}" if dash and labels.learns(label) else "O"}


def documents(table: pa.Table) -> list[str]:
    """Return the document of each sentence, or its id if it has none."""
    found: list[str] = pc.coalesce(table.column("doc_id"), table.column("id")).to_pylist()
    return found


def in_share(keys: Iterable[str], share: float, salt: str) -> Bools:
    """Return which keys are in a share drawn by hashes; the decision for a key does not depend on the other keys."""
    return np.array([_uniform(f"{salt}:{key}") < share for key in keys], dtype=np.bool_)


def fold_of(keys: Iterable[str], folds: Folds) -> NDArray[np.int64]:
    """Return the fold of each key, 0 to n - 1, by its hash."""
    return np.array([int(_uniform(f"fold {folds.seed}:{key}") * folds.n) for key in keys], dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def _uniform(text: str) -> float:
    """Return a number in [0, 1) made from the text's hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / (1 << 48)


def label_names(table: pa.Table) -> list[str]:
    """Return all labels of the sentences, sorted."""
    spans, tags = (table.column(name).combine_chunks().flatten() for name in ("spans", "tags"))
    found = set(pc.unique(spans.field("label")).to_pylist())
    return sorted(found | {tag[2:] for tag in pc.unique(tags.field("tag")).to_pylist() if tag != "O"})


def unknown_words(
    tokens: Sequence[str],
    spans: Sequence[Mapping[str, Any]],
    unprojected: Sequence[Mapping[str, Any]],
    entities: Mapping[int, tuple[int, int]],
    links: Sequence[Mapping[str, Any]] | None,
) -> list[int]:
    """Return the target words that a missing entity may stand on, ascending; none that a projected entity has.

    An entity has no place where its best candidate scores too low, where it has none, or lost its words to another. It
    stands somewhere in the sentence all the same, and O taught there teaches to miss it.

    entities: the source words of each entity, (start, end), by its number; those that links start from. links: the
    cells of the row, None without any.

    They are the words linked to the entity by a method that looks at both directions, which candidates that scored too
    low have, and all that begin with a capital behind the first word, linked or not: where an entity is lost, links are
    mostly wrong. If there is neither, words without case that no entity is linked to.

    >>> lost, where = [{"source": 0, "reason": "low_score"}], {0: (2, 3)}
    >>> links = [{"source": 2, "target": 2, "methods": 1}, {"source": 0, "target": 0, "methods": 1}]
    >>> unknown_words(["to", "Roma", "ya", "la"], [], lost, where, links)
    [1, 2]
    """
    taken = {word for span in spans for word in range(span["start"], span["end"])}
    hard = [(cell["source"], cell["target"]) for cell in links or () if cell["methods"] & _BOTH_WAYS]
    found: set[int] = set()
    for lost in unprojected:
        if lost["reason"] == Loss.NESTED:  # its words are those of the longer entity, placed or missing itself
            continue
        start, end = entities.get(lost["source"], (0, 0))
        own = {target for source, target in hard if start <= source < end} - taken
        names = {number for number in range(1, len(tokens)) if _has_capital(tokens[number])} - taken
        found |= own | names or _without_case(tokens) - taken - {target for _, target in hard}
    return sorted(found)


def _has_capital(word: str) -> bool:
    return word[:1].isupper() or word[:1].istitle()


def _without_case(tokens: Sequence[str]) -> set[int]:
    """Return the words that begin with a letter of a script without capitals."""
    return {n for n, word in enumerate(tokens) if word[:1].isalpha() and word[0].lower() == word[0].upper()}
