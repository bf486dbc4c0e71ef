"""Objects with named values -> records: a line of JSONL, a row of a table; tokens with tags, or text with spans.

A file whose objects are plain (`Reading.shape` is empty) is read as by all versions; of others the scan has found out
keys, forms and offsets (`read/shapes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from xner_ray.data.kinds import SPLITS, Ends
from xner_ray.data.spans import Span
from xner_ray.errors import Reason
from xner_ray.read.record import (
    BadRecord,
    Embedded,
    File,
    Raw,
    Record,
    by_file,
    name_text,
    short,
    split_name,
    without_surrogates,
)
from xner_ray.read.shapes.labels import joined, joined_words
from xner_ray.read.shapes.offsets import Counts, in_characters, same
from xner_ray.read.shapes.spans import Found, found_spans
from xner_ray.read.shapes.tools import LABEL_STUDIO, PRODIGY, View, value_at, view, words_of
from xner_ray.read.word_lines.tags import tag_spans

MOST_REFERENCE = 2048
"""Characters of a reference; a longer one, as `data:` with a picture inside, is cut: bytes stay out of the rows."""
_SHOWN_REFERENCE = 60


def from_mapping(raw: Raw, file: File) -> Record:
    """Make a record of an object: tokens with tags, or text with spans. If it has both, the tags count."""
    record = Record(raw.line)
    try:
        made = flat(raw, file)
        names, paths = _keys(file)
        value = partial(value_at, made.data) if paths else made.data.get
        _fill_names(record, value, names)
        record.text = _text(value(names["text"]), names["text"])
        record.tokens = _tokens(value(names["tokens"]), names["tokens"])
        if made.fault is not None:
            raise made.fault
        if record.text is None and record.tokens is None:
            keys = ", ".join(map(str, made.data)) or "none"
            raise BadRecord(Reason.MALFORMED, f"has neither {names['tokens']!r} nor {names['text']!r}; keys: {keys}")
        if file.reading.shape:
            _refuse_answer(made.data, file)
        tags, spans = value(names["tags"]), value(names["spans"])
        if tags is not None and record.tokens is not None:
            found = _tags(tags, names["tags"], file.reading.names or raw.names.get(names["tags"]))
            if len(found) != len(record.tokens):
                raise BadRecord(Reason.MALFORMED, f"{len(record.tokens)} tokens but {len(found)} {names['tags']}")
            record.spans, record.repaired = tag_spans(found, file.reading.style)
        elif tags is not None and (spans is None or not file.reading.shape):
            raise BadRecord(Reason.MALFORMED, f"has {names['tags']!r} but no {names['tokens']!r}")
        elif spans is not None and file.reading.shape:
            _add_spans(record, found_spans(spans), file.reading.names or raw.names.get(names["spans"]), file)
        elif spans is not None:
            if record.text is None:
                raise BadRecord(Reason.MALFORMED, f"has {names['spans']!r} of characters but no {names['text']!r}")
            record.chars = [
                char_span(item, len(record.text), raw.names.get(names["spans"])) for item in span_items(spans)
            ]
        elif _empty_is_gold(made.data, file):
            record.chars = []
    except BadRecord as bad:
        record.reason, record.detail = bad.reason, bad.detail
    return record


def flat(raw: Raw, file: File) -> View:
    """Return the object of a raw record as a flat one, by the reading of its file."""
    return view(raw.data) if file.reading.shape or not isinstance(raw.data, dict) else View(raw.data)


def keys_of(file: File) -> dict[str, str]:
    """Return the file's key of each of our columns that it may have."""
    return {ours: file.key(ours) for ours, _ in file.columns}


@by_file
def _keys(file: File) -> tuple[dict[str, str], bool]:
    """Return the file's key of each of our columns, and whether one is a path of keys."""
    keys = keys_of(file)
    return keys, any("." in key for key in keys.values())


def _fill_names(record: Record, value: Callable[[str], Any], names: Mapping[str, str]) -> None:
    """Give a record its id, document, split and picture."""
    if "image" in names:
        record.image = _image(value(names["image"]), names["image"])
    record.id = name_text(value(names["id"]), names["id"])
    record.doc_id = name_text(value(names["doc_id"]), names["doc_id"])
    if (split := name_text(value(names["split"]), names["split"])) is not None:
        record.split = split_name(split)
        if record.split is None:
            raise BadRecord(Reason.MALFORMED, f"{names['split']} is {split!r}; allowed: {', '.join(SPLITS)}")


def _refuse_answer(data: dict[str, Any], file: File) -> None:
    """Raise BadRecord for an example whose answer in Prodigy does not count."""
    if file.reading.shape == PRODIGY and data.get("answer") not in file.stated.answers:
        what = f"its answer in Prodigy is {data['answer']!r}" if "answer" in data else "it has no answer of Prodigy"
        raise BadRecord(Reason.LEFT_OUT, f"{what}; input.answers: {', '.join(file.stated.answers)}")


def _empty_is_gold(data: dict[str, Any], file: File) -> bool:
    """Return whether an object without spans was looked at and has none: Prodigy and JSON_MIN leave the key out."""
    shape = file.reading.shape
    return shape == PRODIGY or (bool(shape) and shape != LABEL_STUDIO and "annotation_id" in data)


def _add_spans(record: Record, found: Sequence[Found], names: Sequence[str] | None, file: File) -> None:
    """Give a record its spans, by the offsets and ends of the file. BadRecord for one that does not fit its text."""
    reading, made = file.reading, []
    if reading.offsets == "tokens":
        if record.tokens is None:
            record.tokens = (record.text or "").split()
        for span in found:
            start, end = span.start, span.end + (reading.ends == "inclusive")
            if span.parts:
                raise BadRecord(Reason.BAD_SPAN, _discontinuous(span))
            if not 0 <= start < end <= len(record.tokens):
                problem = f"is empty or leaves the {len(record.tokens)} tokens"
                raise BadRecord(Reason.BAD_SPAN, f"span {short(span.item)} {problem}")
            label = _compared(span, " ".join(record.tokens[start:end]), names)
            made.append((start, end, label))
        words = [Span(*one) for one in made]
        record.spans = _joined_or_bad(lambda: joined_words(words)) if reading.tagged else words
        return
    if record.text is None:
        raise BadRecord(Reason.MALFORMED, f"has spans of {reading.offsets} but no text")
    text = without_surrogates(record.text)
    counts = Counts(text, reading.offsets)
    for span in found:
        start, end = in_characters(span, counts, reading.ends)
        if span.parts and _parted(span, counts, text, reading.ends):
            if not file.documents:
                raise BadRecord(Reason.BAD_SPAN, _discontinuous(span))
            record.faults.append((start, end, _discontinuous(span)))
            continue
        made.append((start, end, _compared(span, text[start:end], names)))
    record.chars = _joined_or_bad(lambda: joined(made, text)) if reading.tagged else made


def _parted(span: Found, counts: Counts, text: str, ends: Ends) -> bool:
    """Return whether more than white space stands between the ranges of a span."""
    parts = [in_characters(span._replace(start=start, end=end), counts, ends) for start, end in span.parts]
    return any(text[before[1] : after[0]].strip() for before, after in pairwise(parts))


def _discontinuous(span: Found) -> str:
    return f"span {short(span.item)} is discontinuous, as no row can hold it"


def _compared(span: Found, cut: str, names: Sequence[str] | None) -> str:
    """Return the label of a span. BadRecord if its own text is not what it cuts out, or it has no proper label."""
    own, label = span.own, span.label
    if span.swapped and own is not None and not same(own, cut):
        own, label = span.label, span.own
    if own is not None and not same(own, cut):
        raise BadRecord(
            Reason.BAD_SPAN, f"span {short(span.item)} is {short(cut)} in the text, and its own text is {short(own)}"
        )
    name = _named(label, names, Reason.BAD_SPAN)
    if not name or name != name.strip():
        raise BadRecord(Reason.BAD_SPAN, f"span {short(span.item)} has no valid label")
    return name


def _joined_or_bad(join: Any) -> Any:
    try:
        return join()
    except ValueError as error:
        raise BadRecord(Reason.BAD_SPAN, str(error)) from None


def _image(value: Any, column: str) -> str | Embedded | None:
    """Return the reference of a picture; an empty one is none. BadRecord for a value that cannot be one."""
    if isinstance(value, dict):  # as the hub writes a picture
        value = value.get("path")
    if value in (None, ""):
        return None
    if isinstance(value, Embedded):
        return value
    if not isinstance(value, str):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a path or an address")
    return value if len(value) <= MOST_REFERENCE else value[:_SHOWN_REFERENCE] + "…"


def _text(value: Any, column: str) -> str | None:
    if not isinstance(value, str | None):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: text")
    return value


def _tokens(value: Any, column: str) -> list[str] | None:
    if value is None or (words := words_of(value)) is not None:
        return None if value is None else words
    raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of text")


def _tags(value: Any, column: str, names: Sequence[str] | None) -> list[str]:
    if not isinstance(value, list):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of tags")
    if set(map(type, value)) <= {str}:  # ten times as fast as a loop over them
        return value
    return [_named(item, names, Reason.ILLEGAL_TAG) for item in value]


def _named(item: Any, names: Sequence[str] | None, reason: Reason) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        if names is None:
            raise BadRecord(
                Reason.MALFORMED,
                f"{item} is a number, and no ClassLabel names it; write the tag or label itself, "
                "or set input.labels.names",
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
