"""What a student learns from and is scored on: sentences of runs and of labelled files as one table, and who went.

Filters work on whole columns. Every sentence read is either in the table or counted under the reason that it is not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import flat, ints, lengths, nested, with_column
from xner_ray.data.languages import LANGUAGES
from xner_ray.data.row import span_cells
from xner_ray.data.spans import Span, outermost
from xner_ray.errors import InputError
from xner_ray.recipe.model import Labels
from xner_ray.train.recipe import Filters, Folds, Source, Training
from xner_ray.train.sources import SENTENCES, SPANS, TAGS, Tally, file_rows, run_rows
from xner_ray.translate.health import LanguageIdentifier

Bools = NDArray[np.bool_]
Role = Literal["data", "validation", "evaluate"]


def load(training: Training, role: Role, *, held_out: bool | None = None) -> tuple[pa.Table, list[Tally]]:
    """The sentences of the recipe's `data`, `validation` or `evaluate`, and the tally of each of its sources.

    With `folds`, data and validation lack the documents of the held-out fold, and evaluate has these alone.
    held_out: of `data` with `validation_share`, True for that share of the documents and False for the others.
    InputError, RunFolderError or StorageError for what cannot be read; InputError if nothing is left.
    """
    tables, tallies = [SENTENCES.empty_table()], []
    for number, source in enumerate(getattr(training, role)):
        tally = Tally(source.name)
        for table in _select(source, training, role, tally):
            keep = _fold(table, training.folds, role == "evaluate")
            tally.dropped["other fold"] += int((~keep).sum())
            if held_out is not None:
                mine = in_share(_keys(table), training.validation_share, "validation") == held_out
                tally.dropped["validation" if not held_out else "training"] += int((keep & ~mine).sum())
                keep &= mine
                if held_out:  # what is not certain enough to be learnt is no gold either
                    unsure = table.column("masked").to_numpy() | _some(table.column("doubtful"))
                    tally.dropped["uncertain"] += int((keep & unsure).sum())
                    keep &= ~unsure
            kept = table.filter(pa.array(keep))
            tally.kept += kept.num_rows
            tally.masked += int(pc.sum(kept.column("masked")).as_py() or 0)
            tally.doubtful += int(pc.sum(pc.list_value_length(kept.column("doubtful"))).as_py() or 0)
            tables.append(kept.append_column(SENTENCES.field("source"), pa.array([number] * kept.num_rows, pa.int32())))
        tally.dropped = +tally.dropped
        tallies.append(tally)
    result = pa.concat_tables([table.select(SENTENCES.names).cast(SENTENCES) for table in tables])
    if not result.num_rows:
        counts = "; ".join(f"{tally.name}: {tally.read} read, {_words(tally.dropped)}" for tally in tallies)
        raise InputError(f"{role}: no sentence is left ({counts}); loosen filters, labels.keep or folds")
    return result, tallies


def _some(lists: pa.ChunkedArray) -> Bools:
    """Which lists have an element."""
    result: Bools = lengths(lists) > 0
    return result


def _words(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "none dropped"


def _select(source: Source, training: Training, role: Role, tally: Tally) -> Iterator[pa.Table]:
    """Tables of what the filters leave, all columns of SENTENCES but `source`; counts what they drop."""
    seen: set[bytes] = set()
    identifier = LanguageIdentifier("filters.language") if source.filters.language else None
    tables = run_rows(source, role == "data", tally) if source.run is not None else file_rows(source, tally)
    for table in tables:
        keep, masked = _filtered(table, source, tally, seen, identifier)
        table = table.append_column("doubtful", _doubtful(table, source.filters))
        table = table.append_column("masked", pa.array(masked)).append_column("weight", _weights(table, source))
        table = table.filter(pa.array(keep))
        table = _relabelled(table, training.labels, tally, overlaps=source.run is None or source.side == "source")
        yield table.select([name for name in SENTENCES.names if name != "source"])


def _per_row(lists: pa.Array, worst: bool) -> NDArray[np.float64]:
    """Least or mean of each list; 1 for an empty one. Scores above 1 count 1."""
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
    """Of each row the entities whose score is below `mask_below`."""
    if filters.mask_below is None:
        return pa.nulls(table.num_rows, SPANS)
    row, _, scores = flat(table.column("projected").combine_chunks())
    below = pc.fill_null(pc.less(scores, pa.scalar(filters.mask_below, pa.float32())), False)
    cells = table.column("spans").combine_chunks().flatten().filter(below)
    return nested(np.bincount(row[below.to_numpy(zero_copy_only=False)], minlength=table.num_rows), cells, SPANS)


def _filtered(
    table: pa.Table, source: Source, tally: Tally, seen: set[bytes], identifier: LanguageIdentifier | None
) -> tuple[Bools, Bools]:
    """Which rows stay, and of which the O words are masked."""
    filters, n = source.filters, table.num_rows
    keep = np.ones(n, dtype=np.bool_)

    def drop(reason: str, bad: Bools) -> None:
        tally.dropped[reason] += int((keep & bad).sum())
        keep[bad] = False

    projected = source.run is not None and source.side == "target"
    incomplete = np.zeros(n, dtype=np.bool_)
    if projected:
        incomplete = ~pc.fill_null(table.column("complete"), True).to_numpy()
        if filters.incomplete == "drop":
            drop("incomplete", incomplete)
        if filters.min_score is not None:
            worst = _per_row(table.column("projected").combine_chunks(), worst=True)
            drop("score", worst < np.float32(filters.min_score))  # as scores are stored: 0.7 is not below 0.7
        if filters.min_translation_score is not None:
            score = pc.fill_null(table.column("translation_score"), 0.0).to_numpy()
            drop("translation score", score < np.float32(filters.min_translation_score))
        if filters.flags:
            row, _, names = flat(table.column("flags").combine_chunks())
            flagged = np.zeros(n, dtype=np.bool_)
            flagged[row[np.isin(np.array(names.to_pylist(), dtype=object), filters.flags)]] = True
            drop("flags", flagged)
    words = ints(pc.list_value_length(table.column("tokens")).combine_chunks())
    drop("empty", words == 0)
    if filters.words is not None:
        drop("length", (words < filters.words[0]) | (words > filters.words[1]))
    if filters.duplicates == "drop":
        drop("duplicate", _repeated(table, keep, seen))
    if identifier is not None:
        drop("language", _other_language(table, keep, identifier))
    return keep, incomplete & (filters.incomplete == "mask")


def _repeated(table: pa.Table, keep: Bools, seen: set[bytes]) -> Bools:
    result = np.zeros(table.num_rows, dtype=np.bool_)
    for index, (lang, tokens) in enumerate(
        zip(*(table.column(n).to_pylist() for n in ("lang", "tokens")), strict=True)
    ):
        if keep[index]:
            key = hashlib.blake2b("\0".join([lang, *tokens]).encode(), digest_size=16).digest()
            result[index] = key in seen
            seen.add(key)
    return result


def _other_language(table: pa.Table, keep: Bools, identifier: LanguageIdentifier) -> Bools:
    result = np.zeros(table.num_rows, dtype=np.bool_)
    for index, (lang, tokens) in enumerate(
        zip(*(table.column(n).to_pylist() for n in ("lang", "tokens")), strict=True)
    ):
        if keep[index]:
            glue = " " if LANGUAGES[lang].spaces else ""
            result[index] = identifier.wrong(glue.join(tokens), lang)
    return result


def _relabelled(table: pa.Table, labels: Labels, tally: Tally, *, overlaps: bool) -> pa.Table:
    """Labels renamed, spans with labels that are not kept left out and counted, of soft tags as O; then, of spans that
    share words, the longest (overlaps: there may be such)."""
    if not labels.rename and labels.keep is None and not overlaps:
        return table
    spans: list[list[dict[str, Any]] | None] = []
    for cells in table.column("spans").to_pylist():
        if cells is None:
            spans.append(None)
            continue
        found = []
        for cell in cells:
            label = labels.rename.get(cell["label"], cell["label"])
            if labels.keep is None or label in labels.keep:
                found.append(Span(cell["start"], cell["end"], label))
            else:
                tally.labels_dropped[label] += 1
        kept, nested = outermost(set(found))
        tally.nested += len(nested)
        spans.append(span_cells(kept))
    tags = [
        None if cells is None else [_retagged(cell, labels) for cell in cells]
        for cells in table.column("tags").to_pylist()
    ]
    for name, values, kind in (("spans", spans, SPANS), ("tags", tags, TAGS)):
        table = with_column(table, name, pa.array(values, kind))
    return table


def _retagged(cell: dict[str, Any], labels: Labels) -> dict[str, Any]:
    prefix, dash, label = cell["tag"].partition("-")
    label = labels.rename.get(label, label)
    kept = dash and (labels.keep is None or label in labels.keep)
    return {**cell, "tag": f"{prefix}-{label}" if kept else "O"}


def _keys(table: pa.Table) -> list[str]:
    """The document of each sentence, else its id."""
    docs, ids = (table.column(name).to_pylist() for name in ("doc_id", "id"))
    return [name if doc is None else doc for doc, name in zip(docs, ids, strict=True)]


def in_share(keys: Iterable[str], share: float, salt: str) -> Bools:
    """A share of the keys, drawn by their hashes: the same key is in or out everywhere, whatever is beside it."""
    return np.array([_uniform(f"{salt}:{key}") < share for key in keys], dtype=np.bool_)


def fold_of(keys: Iterable[str], folds: Folds) -> NDArray[np.int64]:
    """The fold of each key, 0 to n - 1, by its hash."""
    return np.array([int(_uniform(f"fold {folds.seed}:{key}") * folds.n) for key in keys], dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def _uniform(text: str) -> float:
    """In [0, 1), by a hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / (1 << 48)


def _fold(table: pa.Table, folds: Folds | None, held_out: bool) -> Bools:
    if folds is None:
        return np.ones(table.num_rows, dtype=np.bool_)
    mine: Bools = (fold_of(_keys(table), folds) == folds.held_out) == held_out
    return mine


def label_names(tables: Iterable[pa.Table]) -> list[str]:
    """All labels of the sentences, sorted."""
    found: set[str] = set()
    for table in tables:
        spans = table.column("spans").combine_chunks()
        found |= set(pc.unique(spans.flatten().field("label")).to_pylist())
        tags = pc.unique(table.column("tags").combine_chunks().flatten().field("tag")).to_pylist()
        found |= {tag[2:] for tag in tags if tag != "O"}
    return sorted(found)
