"""Spans of any form -> ranges as their file counts them, with label and, where it is given, the text of the span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from xner_ray.errors import BadRecord, Reason, short
from xner_ray.read.shapes.forms import fields_of

ALLOWED = "{start, end, label} or [start, end, label], whole numbers"


class Found(NamedTuple):
    """One span as its file has it. own: its text in the file; None if it has none."""

    start: int
    end: int
    label: Any
    own: str | None
    item: Any
    swapped: bool = False  # of [start, end, a, b]: label and own text may be the other way round
    parts: tuple[tuple[int, int], ...] = ()  # of one with several ranges


def found_spans(value: Any) -> list[Found]:
    """Return the spans of a value of any form that `forms.form_of` names. BadRecord if one is none."""
    if isinstance(value, dict):
        return list(_of_object(value))
    if isinstance(value, list):
        return [one for item in value for one in _of_item(item)]
    raise BadRecord(Reason.BAD_SPAN, f"spans are {short(value)}; allowed: a list of {ALLOWED}")


def _of_object(value: dict[str, Any]) -> Iterator[Found]:
    """Yield the spans of a struct of lists, of {label: [[start, end]]}, or of {label: {text: [[start, end]]}}."""
    fields = fields_of(tuple(value))
    if fields and isinstance(value[fields.start], list):
        names = [name for name in fields if name]
        columns = [value[name] for name in names]
        if any(not isinstance(column, list) or len(column) != len(columns[0]) for column in columns):
            raise BadRecord(Reason.BAD_SPAN, f"spans are {short(value)}; their lists differ in length")
        for cells in zip(*columns, strict=True):
            yield from _of_item(dict(zip(names, cells, strict=True)))
        return
    for label, ranges in ((label, ranges) for label, ranges in value.items() if ranges is not None):
        for own, pairs in ranges.items() if isinstance(ranges, dict) else [(None, ranges)]:
            if pairs is None:
                continue  # in a table every struct has all keys
            for pair in pairs if isinstance(pairs, list) else [pairs]:
                if not isinstance(pair, list) or len(pair) != 2:
                    raise BadRecord(Reason.BAD_SPAN, f"span {short(pair)} is not a range; allowed: {ALLOWED}")
                yield _checked(pair[0], pair[1], label, own, {label: {own: pair}} if own else {label: pair})


def _of_item(item: Any) -> Iterator[Found]:
    if isinstance(item, dict):
        yield _of_mapping(item)
    elif isinstance(item, (list, tuple)) and 3 <= len(item) <= 4:
        if isinstance(item[0], str):
            yield _checked(item[1], item[2], item[0], None, item)
        else:
            more = item[3] if len(item) == 4 and isinstance(item[3], str) else None
            yield _checked(item[0], item[1], item[2], more, item, swapped=more is not None and isinstance(item[2], str))
    else:
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} is not a range; allowed: {ALLOWED}")


def _of_mapping(item: dict[str, Any]) -> Found:
    fields = fields_of(tuple(item))
    if fields is None:
        keys = ", ".join(map(str, item)) or "none"
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} is not a range; allowed: {ALLOWED}; its keys: {keys}")
    own = item[fields.own] if fields.own else None
    if fields.end is not None:
        start, end = item[fields.start], item[fields.end]
        if fields.end == "length" and type(start) is int and type(end) is int:
            end += start
    else:
        start, end, own = _range(item, item[fields.start], own)
    label = item[fields.label]
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, dict):  # {"value": "PER", "confidence": 1.0}, as flair writes it
        label = next((label[key] for key in ("value", "label", "name") if key in label), label)
    made = _checked(start, end, label, own, item)
    value = item[fields.start]
    if fields.end is not None or not _is_parted(value):
        return made
    parts = [_checked(*_range(item, one, None)[:2], label, None, item) for one in value]
    return made._replace(parts=tuple((one.start, one.end) for one in parts))


def _is_parted(value: Any) -> bool:
    """Return whether a range is a list of several."""
    return isinstance(value, list) and len(value) > 1 and not isinstance(value[0], int)


def _range(item: dict[str, Any], value: Any, own: Any) -> tuple[Any, Any, Any]:
    """Return start, end and text of a span whose range stands under one key."""
    if _is_parted(value):
        first, last = _range(item, value[0], None), _range(item, value[-1], None)
        return first[0], last[1], None
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = value[0]
    if isinstance(own, list):
        own = own[0] if len(own) == 1 else None
    if isinstance(value, dict):
        return value.get("start"), value.get("end"), value.get("text", own)
    return (value[0], value[1], own) if isinstance(value, list) and len(value) == 2 else (None, None, own)


def _checked(start: Any, end: Any, label: Any, own: Any, item: Any, *, swapped: bool = False) -> Found:
    if type(start) is not int or type(end) is not int:
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} is not a range; allowed: {ALLOWED}")
    return Found(start, end, label, own if isinstance(own, str) else None, item, swapped)
