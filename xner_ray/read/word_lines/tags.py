"""The tags of one sentence as spans, by the style that its file settled on."""

from __future__ import annotations

from collections.abc import Sequence

from xner_ray.data.spans import Span, split_tag
from xner_ray.errors import Reason
from xner_ray.read.record import BadRecord, File


def spans_of(tags: Sequence[str], numbers: Sequence[int], file: File) -> tuple[list[Span], int]:
    """Return the spans of tags; BadRecord names the line of the first tag that is none."""
    style = file.reading.style
    if tags.count(style.outside) == len(tags):
        return [], 0
    try:
        return style.spans(tags)
    except ValueError as error:
        for tag, number in zip(tags, numbers, strict=True):
            try:
                split_tag(style.canonical(tag))
            except ValueError:
                raise BadRecord(Reason.ILLEGAL_TAG, f"line {number}: {error}") from None
        raise
