"""Objects with named values -> records: a line of JSONL, a row of a table; tokens with tags, or text with spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xner_ray.data.spans import Span, tags_to_spans
from xner_ray.errors import Reason
from xner_ray.read.record import BadRecord, File, Raw, Record, name_text, short, split_name
from xner_ray.recipe.columns import SPLITS


def from_mapping(raw: Raw, file: File) -> Record:
    """Make a record of an object: tokens with tags, or text with spans. If it has both, the tags count."""
    data, columns = raw.data, file.columns
    record = Record(raw.line)
    try:
        record.id = name_text(data.get(columns.id), columns.id)
        record.doc_id = name_text(data.get(columns.doc_id), columns.doc_id)
        if (split := name_text(data.get(columns.split), columns.split)) is not None:
            record.split = split_name(split)
            if record.split is None:
                raise BadRecord(Reason.MALFORMED, f"{columns.split} is {split!r}; allowed: {', '.join(SPLITS)}")
        text = data.get(columns.text)
        if not isinstance(text, str | None):
            raise BadRecord(Reason.MALFORMED, f"{columns.text} is {short(text)}; allowed: text")
        record.text = text
        record.tokens = _tokens(data.get(columns.tokens), columns.tokens)
        if record.text is None and record.tokens is None:
            keys = ", ".join(map(str, data)) or "none"
            raise BadRecord(Reason.MALFORMED, f"has neither {columns.tokens!r} nor {columns.text!r}; keys: {keys}")
        tags, spans = data.get(columns.tags), data.get(columns.spans)
        if tags is not None and record.tokens is not None:
            names = _tags(tags, columns.tags, raw.names.get(columns.tags))
            if len(names) != len(record.tokens):
                raise BadRecord(Reason.MALFORMED, f"{len(record.tokens)} tokens but {len(names)} {columns.tags}")
            record.spans, record.repaired = tag_spans(names)
        elif tags is not None:
            raise BadRecord(Reason.MALFORMED, f"has {columns.tags!r} but no {columns.tokens!r}")
        elif spans is not None:
            if record.text is None:
                raise BadRecord(Reason.MALFORMED, f"has {columns.spans!r} of characters but no {columns.text!r}")
            record.chars = [
                char_span(item, len(record.text), raw.names.get(columns.spans)) for item in span_items(spans)
            ]
    except BadRecord as bad:
        record.reason, record.detail = bad.reason, bad.detail
    return record


def tag_spans(tags: Sequence[str]) -> tuple[list[Span], int]:
    """Call `tags_to_spans`, with BadRecord instead of ValueError."""
    if tags.count("O") == len(tags):
        return [], 0
    try:
        return tags_to_spans(tags)
    except ValueError as error:
        raise BadRecord(Reason.ILLEGAL_TAG, str(error)) from None


def _tokens(value: Any, column: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        if _all_text(value):
            return value
        # Prodigy writes its tokens as {"text": ..., "start": ..., "end": ...}.
        items = [item.get("text") if isinstance(item, dict) else item for item in value]
        words = [item for item in items if isinstance(item, str)]
        if len(words) == len(items):
            return words
    raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of text")


def _all_text(items: list[Any]) -> bool:
    """Return whether all items are text, ten times as fast as a loop over them."""
    return set(map(type, items)) <= {str}


def _tags(value: Any, column: str, names: Sequence[str] | None) -> list[str]:
    if not isinstance(value, list):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of tags")
    if _all_text(value):
        return value
    return [_named(item, names, Reason.ILLEGAL_TAG) for item in value]


def _named(item: Any, names: Sequence[str] | None, reason: Reason) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        if names is None:
            raise BadRecord(
                Reason.MALFORMED, f"{item} is a number, and no ClassLabel names it; write the tag or label itself"
            )
        if 0 <= item < len(names):
            return names[item]
    raise BadRecord(reason, f"{short(item)} is not a tag or label")


def span_items(value: Any) -> list[Any]:
    """Return the items of a list of spans, or of the struct of lists that older `datasets` made of it."""
    if isinstance(value, dict):
        start, end, label = (value.get(key) for key in ("start", "end", "label"))
        columns = [column for column in (start, end, label) if isinstance(column, list)]
        if len(columns) == 3 and len({len(column) for column in columns}) == 1:
            return list(zip(*columns, strict=True))
    elif isinstance(value, list):
        return value
    raise BadRecord(Reason.BAD_SPAN, f"spans are {short(value)}; allowed: a list of {{start, end, label}}")


def char_span(item: Any, length: int, names: Sequence[str] | None = None) -> tuple[int, int, str]:
    """Return (start, end, label) of a half-open span of characters; BadRecord if it is no range inside the text."""
    if isinstance(item, dict):
        label = item.get("label")
        if label is None and isinstance(item.get("labels"), list) and len(item["labels"]) == 1:
            label = item["labels"][0]  # Label Studio
        start, end = item.get("start"), item.get("end")
    elif isinstance(item, (list, tuple)) and len(item) == 3:
        start, end, label = item
    else:
        start = end = label = None
    if type(start) is not int or type(end) is not int:
        raise BadRecord(
            Reason.BAD_SPAN, f"span {short(item)} is not a range; allowed: {{start, end, label}}, whole numbers"
        )
    if not 0 <= start < end <= length:
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} is empty or leaves the {length} characters")
    name = _named(label, names, Reason.BAD_SPAN)
    if not name or name != name.strip():
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} has no valid label")
    return start, end, name
