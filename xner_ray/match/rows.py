"""Rows of a table as flat arrays over a batch, and what models say of target words and of cells (entity, candidate).

The columns `target_tags` and `evidence` name what they speak of (a tag, a score) and leave out zeros, so that they mean
the same in every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats, Ints, flat, ints, lengths, offsets
from xner_ray.data.links import Links
from xner_ray.data.opinions import Opinions, opinions
from xner_ray.data.row import OK, SCALE, accepted_rows, fill
from xner_ray.data.spans import label_list
from xner_ray.data.tag_paths import best_tags
from xner_ray.errors import BEFORE_MATCHING
from xner_ray.match import bounds
from xner_ray.match.batch import EntityBatch, look_up
from xner_ray.match.candidates import Candidates
from xner_ray.match.confidence.maps import Seen
from xner_ray.match.prior import Spans, Words
from xner_ray.match.scores import Scored

READS = (
    *("status", "source_tokens", "tokens", "source_spans", "links", "unprojected", "spans"),
    *("bridge_tokens", "bridge_spans", "target_tags", "evidence", "source_opinions"),
)


@dataclass(frozen=True, eq=False)
class Tags:
    """Probabilities of the tags of all target words; the words of a row without tags have 0 everywhere.

    probabilities: float64 (all target words, 2 L + 1), columns O, B-1, I-1, B-2, ... by `labels`.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]

    def classes(self, labels: pa.Array) -> Ints:
        """Return the number of each label, -1 for one that the tagger does not know."""
        found = pc.index_in(labels, value_set=pa.array(self.labels, pa.string()))
        return ints(found.fill_null(-1))

    def spans(self, batch: EntityBatch, best: Ints | None = None) -> tuple[Ints, Ints, Ints]:
        """Return row, start and end of the spans of the tags of `best`, which are found here if they are not given.

        An I- after O or after another class begins a span, as in every reading of IOB2.
        """
        best = self.best(batch) if best is None else best
        label = (best + 1) // 2  # 0: O
        row = np.repeat(np.arange(batch.n_rows), batch.n_target)
        same = (np.diff(label, prepend=-1) == 0) & (np.diff(row, prepend=-1) == 0)  # as the word before in its row
        inside = label > 0
        begins = inside & (~same | (best % 2 == 1))
        first = np.flatnonzero(begins)
        continued = np.append(inside[1:] & ~begins[1:], False)
        last = np.flatnonzero(inside & ~continued)
        base = batch.target_base[row[first]]
        return row[first], first - base, last + 1 - base

    def best(self, batch: EntityBatch) -> Ints:
        """Return the column of each word's tag in the most probable sequence, as a tagger reads it."""
        parts = np.rint(self.probabilities * SCALE).astype(np.int64)
        return best_tags(parts, batch.target_base, label_list(self.labels))


@dataclass(frozen=True, eq=False)
class Rows:
    """The input of projection for some rows. `source`: index of each entity in its row's source_spans.

    A row with bridge_spans starts from the back-translation: its source words and entities are those of the bridge.
    """

    batch: EntityBatch
    links: Links
    source: Ints
    labels: pa.Array  # of each entity
    aside: tuple[Ints, Ints, list[str]]  # row, index and reason of the source spans that were lost before
    accepted: NDArray[np.bool_]
    source_tokens: pa.Array
    tokens: pa.Array
    earlier: Spans  # the rows' present ones
    target_tags: pa.Array
    evidence: pa.Array
    source_opinions: pa.Array

    @cached_property
    def words(self) -> dict[str, Words]:
        return {"source": Words(self.source_tokens), "target": Words(self.tokens)}

    @cached_property
    def shared(self) -> tuple[Ints, Ints]:
        """Return the links that are not of their source word's entity, and whose they are."""
        return bounds.shared_heads(self.batch, self.links, self.labels)

    @cached_property
    def owner(self) -> Ints:
        """Return the entity of each link, -1 for none."""
        owner: Ints = self.batch.owner[self.batch.source_base[self.links.row] + self.links.source]
        link, entity = self.shared
        owner[link] = entity
        return owner

    @cached_property
    def tags(self) -> Tags:
        return read_tags(self.target_tags, self.batch)


def read(table: pa.Table) -> Rows:
    """Read the columns `READS` of a table. Rejected rows have no entities."""
    column = {name: table.column(name).combine_chunks() for name in READS}
    accepted_rows = pc.equal(column["status"], OK).to_numpy(zero_copy_only=False)
    source_tokens, row, source, spans = _source_side(column)
    lost_row, _, lost = flat(column["unprojected"])
    reasons = lost.field("reason")
    early = pc.is_in(reasons, value_set=pa.array(BEFORE_MATCHING)).to_numpy(zero_copy_only=False)
    aside = (lost_row[early], ints(lost.field("source"))[early], reasons.filter(pa.array(early)).to_pylist())
    most = 1 + max(int(source.max(initial=0)), int(aside[1].max(initial=0)))
    kept = accepted_rows[row] & ~np.isin(row * most + source, aside[0] * most + aside[1])
    batch = EntityBatch(
        n_source=lengths(source_tokens),
        n_target=lengths(column["tokens"]),
        row=row[kept],
        start=ints(spans.field("start"))[kept],
        end=ints(spans.field("end"))[kept],
    )
    links = Links.from_arrow(column["links"])
    earlier_row, _, earlier = flat(column["spans"])
    return Rows(
        batch=batch,
        links=links.take(accepted_rows[links.row]) if not accepted_rows.all() else links,
        source=source[kept],
        labels=spans.field("label").filter(pa.array(kept)),
        aside=(aside[0], aside[1], aside[2]),
        accepted=accepted_rows,
        source_tokens=source_tokens,
        tokens=column["tokens"],
        earlier=Spans(earlier_row, ints(earlier.field("start")), ints(earlier.field("end")), earlier.field("label")),
        target_tags=column["target_tags"],
        evidence=column["evidence"],
        source_opinions=column["source_opinions"],
    )


def _source_side(column: dict[str, pa.Array]) -> tuple[pa.Array, Ints, Ints, pa.StructArray]:
    """Return the source words, and row, index in source_spans and span of each entity; the bridge's if it has them."""
    tokens, bridge = column["source_tokens"], column["bridge_spans"]
    row, source, spans = flat(column["source_spans"])
    if bridge.null_count == len(bridge):
        return tokens, row, source, spans
    bridged = bridge.is_valid()
    tokens = pc.if_else(bridged, column["bridge_tokens"], tokens)
    direct = ~bridged.to_numpy(zero_copy_only=False)[row]
    bridge_row, _, bridge_spans = flat(bridge)
    row = np.concatenate([row[direct], bridge_row])
    order = np.argsort(row, kind="stable")
    source = np.concatenate([source[direct], ints(bridge_spans.field("source"))])
    fields = ("start", "end", "label")
    both = [pa.concat_arrays([s.field(f) for s in (spans.filter(pa.array(direct)), bridge_spans)]) for f in fields]
    return tokens, row[order], source[order], pa.StructArray.from_arrays(both, fields).take(pa.array(order))


def read_tags(column: pa.Array, batch: EntityBatch) -> Tags:
    """Return the tags of all target words. ValueError if one is no tag or its word is not in its sentence."""
    row, _, cells = flat(column)
    tags = cells.field("tag").dictionary_encode()
    names = tags.dictionary.to_pylist()
    if wrong := sorted(name for name in names if name != "O" and name[:2] not in ("B-", "I-")):
        raise ValueError(f"target_tags: {wrong[0]!r} is no tag; allowed: O, B-label, I-label")
    labels = tuple(sorted({name[2:] for name in names if name != "O"}))
    number = {label: index for index, label in enumerate(labels)}
    columns = [0 if name == "O" else 2 * number[name[2:]] + 1 + (name[0] == "I") for name in names]
    word = ints(cells.field("word"))
    if len(word) and not ((word >= 0) & (word < batch.n_target[row])).all():
        raise ValueError("target_tags: a word is not in its sentence")
    result = np.zeros((int(batch.target_base[-1]), 2 * max(1, len(labels)) + 1))
    place = np.array(columns, dtype=np.int64)[ints(tags.indices)]
    result[batch.target_base[row] + word, place] = cells.field("probability").to_numpy(zero_copy_only=False)
    return Tags(labels or ("",), result)


def read_scores(column: pa.Array, name: str, batch: EntityBatch, source: Ints, candidates: Candidates) -> Floats:
    """Return the score of this name in `evidence` for every candidate, to 1e-4; 0 for cells that it leaves out.

    source: index of each entity in its row's source_spans.
    """
    row, _, cells = flat(column)
    kept = pc.equal(cells.field("score"), name).to_numpy(zero_copy_only=False)
    row, cells = row[kept], cells.filter(pa.array(kept))
    # float32 puts 0.1 above a threshold of 0.1
    values = np.rint(cells.field("value").to_numpy(zero_copy_only=False).astype(np.float64) * SCALE) / SCALE
    cell = [ints(cells.field(field)) for field in ("source", "start", "end")]
    wanted: list[NDArray[Any]] = [source[candidates.entity], candidates.start, candidates.end]
    given: Ints = row
    asked: Ints = batch.row[candidates.entity]
    for here, there in zip(cell, wanted, strict=True):  # one number per cell
        size = 1 + max(int(here.max(initial=0)), int(there.max(initial=0)))
        given = given * size + here
        asked = asked * size + there
    order = np.argsort(given, kind="stable")
    return look_up(given[order], values[order], asked)


def read_cells(column: pa.Array, name: str, batch: EntityBatch, source: Ints) -> Scored:
    """Return every cell that has a score of this name in `evidence`; cells of other than the batch's entities do not.

    source: as in `read_scores`.
    """
    row, _, cells = flat(column)
    kept = pc.equal(cells.field("score"), name).to_numpy(zero_copy_only=False)
    row, cells = row[kept], cells.filter(pa.array(kept))
    own = ints(cells.field("source"))
    size = 1 + max(int(own.max(initial=0)), int(source.max(initial=0)))
    keys = batch.row * size + source
    order = np.argsort(keys, kind="stable")
    entity = look_up(keys[order], order + 1, row * size + own) - 1
    score = np.rint(cells.field("value").to_numpy(zero_copy_only=False).astype(np.float64) * SCALE).astype(np.int64)
    known = (entity >= 0) & (score > 0)
    start, end = (ints(cells.field(name))[known].astype(np.int32) for name in ("start", "end"))
    return Scored(entity[known].astype(np.int32), start, end, score[known])


def add_scores(
    table: pa.Table, scores: Mapping[str, Floats], batch: EntityBatch, source: Ints, candidates: Candidates
) -> pa.Table:
    """Return the table with every positive score appended to its row's `evidence`, by name, then candidate.

    scores: one value per candidate under each name. source: as in `read_scores`.
    """
    before = table.column("evidence").to_pylist()
    by_row: dict[int, list[Any]] = {index: before[index] or [] for index in accepted_rows(table)}
    for name, values in sorted(scores.items()):
        for index in np.flatnonzero(values > 0).tolist():
            entity = int(candidates.entity[index])
            cell = {
                "score": name,
                "source": int(source[entity]),
                "start": int(candidates.start[index]),
                "end": int(candidates.end[index]),
                "value": float(values[index]),
            }
            by_row[int(batch.row[entity])].append(cell)
    return fill(table, {"evidence": by_row})


def seen(rows: Rows, chosen: Scored, *, labelled: bool) -> Seen:
    """Return what is seen of the chosen cells. labelled: whether people have labelled the source entities."""
    batch, entity = rows.batch, chosen.entity
    row = batch.row[entity]
    source, judged = _source_opinions(rows, row, rows.source[entity])
    base = batch.target_base[row]
    target = opinions(
        rows.tags.probabilities,
        base + chosen.start,
        base + chosen.end,
        base + batch.n_target[row],
        rows.tags.classes(rows.labels)[entity],
    )
    read = judged & rows.target_tags.is_valid().to_numpy(zero_copy_only=False)[row]
    return Seen(chosen.score / SCALE, np.full(len(entity), not labelled), source, target, read)


def _source_opinions(rows: Rows, row: Ints, index: Ints) -> tuple[Opinions, NDArray[np.bool_]]:
    """Return the opinions of source spans, and which of them have one."""
    lists = rows.source_opinions
    has = lists.is_valid().to_numpy(zero_copy_only=False)[row]
    cells = lists.flatten().take(pa.array(np.where(has, offsets(lengths(lists))[row] + index, 0), mask=~has))
    has = cells.is_valid().to_numpy(zero_copy_only=False)
    label, entity, span = (
        cells.field(name).fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("label", "entity", "span")
    )
    return Opinions(label, entity, span, np.zeros(len(label))), has
