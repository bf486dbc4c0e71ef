"""The row: its Arrow schema, its Hugging Face features, and the filling of its columns.

The only place that declares column names and types. Every table between stages has exactly `row_schema(...)`;
nothing is inferred, so an empty list or an all-null column can never change a type from one unit to the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray.data.arrow import with_column
from xner_ray.data.links import LINK_TYPE
from xner_ray.data.spans import Span, label_list, outermost
from xner_ray.errors import Flag, InputError, Loss, Reason

OK, REJECTED = "ok", "rejected"

# The comment beside a field, or above it, describes it in docs/columns.md; "null = " says when it is null.
_OFFSETS = pa.list_(
    pa.struct(
        [
            ("start", pa.int32()),  # first character of the word, in code points from 0
            ("end", pa.int32()),  # behind its last character
        ]
    )
)
_WORDS = [
    ("start", pa.int32()),  # first word, from 0
    ("end", pa.int32()),  # behind the last word
    ("label", pa.string()),  # PER, LOC, ..., without B- or I-
]
_GOLD = pa.list_(pa.struct(_WORDS))
_SOURCE_SPANS = pa.list_(
    pa.struct(
        [
            *_WORDS,
            ("score", pa.float32()),  # as its tagger gives it; 1 of a label that was given
        ]
    )
)
_SPANS = pa.list_(
    pa.struct(
        [
            *_WORDS,
            ("score", pa.float32()),  # 0 to 1; the card says what it measures
            ("source", pa.int32()),  # index of the entity in source_spans; null = a tagger of the target side found it
        ]
    )
)
_LINKS = pa.list_(LINK_TYPE)
_TAGS = pa.list_(
    pa.struct(
        [
            ("word", pa.int32()),  # index of the word, from 0
            ("tag", pa.string()),  # O, B-label or I-label
            ("probability", pa.float32()),  # of this tag of this word; what rounds to 0 is left out
        ]
    )
)
_EVIDENCE = pa.list_(
    pa.struct(
        [
            ("score", pa.string()),  # its name in match.scores
            ("source", pa.int32()),  # the cell: index of the entity in source_spans
            ("start", pa.int32()),  # and first target word
            ("end", pa.int32()),  # and behind the last target word
            ("value", pa.float32()),  # 0 to 1
        ]
    )
)
_OPINIONS = pa.list_(
    pa.struct(
        [
            ("label", pa.float32()),  # mean probability of the entity's label over its words
            ("entity", pa.float32()),  # mean probability of any label over its words
            ("span", pa.float32()),  # probability of these very boundaries with this label, words as if independent
        ]
    )
)
_UNPROJECTED = pa.list_(
    pa.struct(
        [
            ("source", pa.int32()),  # index of the entity in source_spans
            ("reason", pa.string()),  # a loss, such as low_score
        ]
    )
)

ROW = pa.schema(
    [
        ("row", pa.int64()),  # number of the sentence in the input, from 0; with `lang` the key of exactly-once
        ("id", pa.string()),  # the input's own, or file:line; no two rows of one split and language share it
        ("doc_id", pa.string()),  # the document; null = the input says nothing of documents
        ("split", pa.string()),  # train, validation or test; train unless the input says otherwise
        ("source_lang", pa.string()),  # FLORES-200 code of the source side
        ("lang", pa.string()),  # FLORES-200 code of the target side, which receives the labels
        ("source_text", pa.string()),  # the source sentence; null = there is no source side (projector transfer)
        ("source_tokens", pa.list_(pa.string())),  # its words; null = as source_text
        ("source_offsets", _OFFSETS),  # where its words stand in source_text; null = as source_text
        ("source_spans", _SOURCE_SPANS),  # its entities, given or tagged; null = as source_text
        # what a tagger's probabilities say of each of source_spans; null = no tagger was asked, or there is no entity
        ("source_opinions", _OPINIONS),
        ("text", pa.string()),  # the target sentence, given or translated
        ("tokens", pa.list_(pa.string())),  # its words
        ("offsets", _OFFSETS),  # where its words stand in text
        ("gold_spans", _GOLD),  # labels of the target that people made; empty = gold has no entity; null = no gold
        ("translation_score", pa.float32()),  # mean log-probability of a token; null = not translated, or no such score
        ("flags", pa.list_(pa.string())),  # oddities of a row that is kept
        ("bridge_tokens", pa.list_(pa.string())),  # words of the back-translation; null = none was made
        # entities on the bridge, from which links and matching start; null = no back-translation, or no entity
        ("bridge_spans", _SPANS),
        ("links", _LINKS),  # word alignment; null = no aligner ran
        ("target_tags", _TAGS),  # tags of target words by a tagger; null = none was asked (or source_spans is empty)
        ("evidence", _EVIDENCE),  # scores of single cells by a model or a function of yours; null = none was asked
        ("spans", _SPANS),  # the projected entities
        ("unprojected", _UNPROJECTED),  # the source entities without a place, with reasons
        ("complete", pa.bool_()),  # true if every source entity has a place, and scores at least output.doubtful
        # the IOB2 tags of the projected entities, a number for each word, with their names in the features
        ("ner_tags", pa.list_(pa.int64())),  # (int64: with int32 `datasets` ignores the ClassLabel)
        ("objective", pa.float64()),  # sum of the scores of the chosen candidates, before they become probabilities
        ("optimal", pa.bool_()),  # true if the solver proved that no other choice is as good
        # none (no entity), independent, dp, cp-sat, greedy, time limit: greedy, infeasible, heuristic, transfer, ...
        ("solver", pa.string()),
        ("status", pa.string()),  # ok in data/, rejected in rejects/
        ("reason", pa.string()),  # why the row was rejected; null = it was not
        ("detail", pa.string()),  # file and line, or what a stage said; null = the row was not rejected
    ]
)

_IMAGE_EVIDENCE = pa.list_(
    pa.struct(
        [
            ("source", pa.int32()),  # index of the entity in source_spans
            ("label", pa.string()),  # a label that the recipe has prompts for
            ("text", pa.float32()),  # its probability by the text
            ("image", pa.float32()),  # its log ratio by the picture
        ]
    )
)
_IMAGE_LABELS = pa.list_(
    pa.struct(
        [
            ("source", pa.int32()),  # index of the entity in source_spans
            ("text", pa.string()),  # the label that the text gives
            ("image", pa.string()),  # the label with the row's picture: that of source_spans
            ("exchanged", pa.string()),  # the label with another picture of the unit; null = it has no other
        ]
    )
)
_IMAGE_BOXES = pa.list_(
    pa.struct(
        [
            ("source", pa.int32()),  # index of the entity in source_spans
            # edge of the box (left, top, right, bottom), 0 to 1 of the upright picture
            *((name, pa.float32()) for name in ("x0", "y0", "x1", "y1")),
            ("score", pa.float32()),  # of the detector, 0 to 1
        ]
    )
)
IMAGES = pa.schema(
    [
        ("image", pa.string()),  # the reference of the row's picture, never its bytes; null = the row has none
        ("image_id", pa.string()),  # SHA-256 of the picture's bytes; null = no picture that could be used
        # tags that the tagger gives the words of source_spans; null = no picture weighs labels, or no tagger with tags
        ("source_tags", _TAGS),
        ("image_evidence", _IMAGE_EVIDENCE),  # what text and picture say of labels; null = no picture weighed them
        ("image_labels", _IMAGE_LABELS),  # labels before and after; null = as image_evidence
        ("image_boxes", _IMAGE_BOXES),  # where a detector sees entities; null = none was asked
    ]
)
"""Columns of runs whose input has pictures (`input.columns.image`), behind those of `ROW`."""

# Canonical Arrow types that hold plain values and no code.
_HARMLESS_EXTENSIONS = {b"arrow.uuid", b"arrow.json", b"arrow.bool8"}
LEAST_PROBABILITY = 5e-5
"""Smaller ones are not stored: scores are rounded to 1e-4."""
SCALE = 10_000
"""Scores are stored as integer multiples of 1 / SCALE."""
Offset = dict[str, int]


def row_schema(extra: Iterable[pa.Field] = (), *, images: bool = False) -> pa.Schema:
    """Return the schema of a run's rows: the declared columns, those of pictures if it has some, the user's own."""
    return pa.schema([*ROW, *(IMAGES if images else ()), *extra])


def carried_names(names: Iterable[str]) -> list[str]:
    """Return the names of the columns that the user gave, the reference of the row's picture among them.

    names: of all columns of a run.
    """
    found = list(names)
    own = {*ROW.names, *(IMAGES.names if {*IMAGES.names} <= {*found} else ())} - {"image"}
    return [name for name in found if name not in own]


def refuse_collisions(names: Iterable[str], where: str, *, images: bool = False) -> None:
    """Raise InputError if a column that is only carried through has the name of one of ours."""
    clash = sorted(set(names) & set(row_schema(images=images).names))
    if clash:
        raise InputError(
            f"{where}: column {clash[0]!r} has the name of an output column; rename it, map it under input.columns, or "
            "leave it out of input.carry"
        )


def refuse_extension_types(schema: pa.Schema, where: str) -> None:
    """Raise InputError if any field, however deeply nested, has an extension type.

    Call it before any value is touched: reading a column of the type `ray.data.arrow_pickled_object` runs code in a
    process that imported Ray Data. Unregistered types show as field metadata, registered ones as types.
    """

    def walk(field: pa.Field) -> None:
        name = (field.metadata or {}).get(b"ARROW:extension:name")
        if name is None and isinstance(field.type, pa.BaseExtensionType):
            name = field.type.extension_name.encode()
        if name is not None and name not in _HARMLESS_EXTENSIONS:
            raise InputError(
                f"{where}: column {field.name!r} has the Arrow extension type {name.decode(errors='replace')!r}, "
                "which can run code when it is read; write the column with a plain Arrow type"
            )
        kind = field.type
        if isinstance(kind, pa.DictionaryType):
            walk(pa.field(field.name, kind.value_type))
        for index in range(kind.num_fields):
            walk(kind.field(index) if hasattr(kind, "field") else kind.value_field)

    for field in schema:
        walk(field)


def rejected(table: pa.Table) -> NDArray[np.bool_]:
    """Return the mask of rejected rows."""
    mask: NDArray[np.bool_] = pc.fill_null(pc.equal(table.column("status"), REJECTED), False).to_numpy()
    return mask


def accepted_rows(table: pa.Table) -> list[int]:
    """Return the indices of the rows that are not rejected."""
    indices: list[int] = np.flatnonzero(~rejected(table)).tolist()
    return indices


def readable(table: pa.Table, tokens: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which rows have words that a model may read, whatever became of the row; not those that made one raise."""
    sound = pc.fill_null(pc.not_equal(table.column("reason"), Reason.STAGE_ERROR), True)
    return pc.and_(pc.is_valid(tokens), sound)


def frequencies(values: pa.Array | pa.ChunkedArray) -> dict[Any, int]:
    """Return how often each value occurs."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}


def fill(
    table: pa.Table,
    columns: Mapping[str, Mapping[int, Any]],
    rejects: Mapping[int, tuple[Reason, str]] | None = None,
) -> pa.Table:
    """Return the rows with some cells replaced, `columns[name][row index] = value`, and some rows rejected."""
    updates: dict[str, Mapping[int, Any]] = dict(columns)
    if rejects:
        updates["status"] = dict.fromkeys(rejects, REJECTED)
        updates["reason"] = {index: str(reason) for index, (reason, _) in rejects.items()}
        updates["detail"] = {index: detail for index, (_, detail) in rejects.items()}
    for name, cells in updates.items():
        values = table.column(name).to_pylist()
        for index, value in cells.items():
            values[index] = value
        table = with_column(table, name, pa.array(values, table.schema.field(name).type))
    return table


def unmatchable(row: Mapping[str, Any]) -> dict[int, str]:
    """Return index -> reason of the source spans that reading has set aside, since spans must not overlap."""
    early = (Loss.NESTED, Loss.OVERLAPPING_SPAN)
    return {u["source"]: u["reason"] for u in row["unprojected"] or () if u["reason"] in early}


def nested_losses(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Return cells of `unprojected` for the spans that overlap a longer one."""
    outer, others = outermost(spans)
    if not others:
        return []
    gone, lost = set(others), []
    for index, span in enumerate(spans):
        if span in gone:
            inside = any(one.start <= span.start and span.end <= one.end for one in outer)
            lost.append({"source": index, "reason": str(Loss.NESTED if inside else Loss.OVERLAPPING_SPAN)})
    return lost


def span_cells(spans: Sequence[Span], source: Iterable[int | None] | None = None) -> list[dict[str, Any]]:
    """Return spans as cells of a column of spans; Arrow leaves out the keys that the column's type lacks.

    source: the index of the entity in `source_spans` that each span was projected from.
    """
    cells: list[dict[str, Any]] = [{"start": s.start, "end": s.end, "label": s.label, "score": s.score} for s in spans]
    return cells if source is None else [cell | {"source": s} for cell, s in zip(cells, source, strict=True)]


def offset_cells(offsets: Iterable[tuple[int, int]]) -> list[dict[str, int]]:
    """Return offsets as cells of `offsets` and `source_offsets`."""
    return [{"start": start, "end": end} for start, end in offsets]


def with_features(schema: pa.Schema, labels: Sequence[str]) -> pa.Schema:
    """Return the schema with the Hugging Face features that give `ner_tags` its ClassLabel names.

    Only the standard columns are listed; `datasets` infers the others from Arrow. They say `Sequence`, not `List`,
    since older releases know it too.
    """
    text = {"dtype": "string", "_type": "Value"}
    features = {
        "id": text,
        "tokens": {"feature": text, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": label_list(labels), "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)})


def tag_cells(probabilities: NDArray[np.floating], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return cells of `target_tags` for one sentence. probabilities: (words, 2 L + 1), of O and of B-, I- per label."""
    names = ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]
    rounded = np.rint(probabilities.astype(np.float64) * SCALE) / SCALE
    found = zip(*(index.tolist() for index in np.nonzero(rounded >= LEAST_PROBABILITY)), strict=True)
    return [{"word": word, "tag": names[tag], "probability": rounded[word, tag]} for word, tag in found]


def engine_flags(engine: str) -> list[str]:
    """Return the flags of every row that an engine has filled."""
    return [Flag.BY_LLM] if engine == "llm" else []


def with_flags(flags: list[str] | None, mark: list[str]) -> list[str]:
    """Return the flags with those of `mark` that are not there yet."""
    return [*(flags or ()), *(flag for flag in mark if flag not in (flags or ()))]


def spaces_after(offsets: list[Offset]) -> list[bool]:
    """Return for each word whether white space follows it in its text."""
    return [left["end"] < right["start"] for left, right in pairwise(offsets)] + [False]
