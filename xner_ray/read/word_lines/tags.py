"""The tags of one sentence as spans, by the style that its file settled on."""

from __future__ import annotations

from collections.abc import Sequence

from xner_ray.data.spans import Span, split_tag, tags_to_spans
from xner_ray.data.tag_styles import TagStyle
from xner_ray.errors import BadRecord, Reason

_PLAIN = TagStyle()


def tag_spans(tags: Sequence[str], style: TagStyle = _PLAIN) -> tuple[list[Span], int]:
    """Return the spans of tags, and the number of repaired ones. BadRecord for a tag that is none."""
    if tags.count(style.outside) == len(tags):
        return [], 0
    try:
        spans, repaired = tags_to_spans(tags if style == _PLAIN else [style.canonical(tag) for tag in tags])
    except ValueError as error:
        raise BadRecord(Reason.ILLEGAL_TAG, str(error)) from None
    return spans, repaired if style.repairs else 0


def spans_of(tags: Sequence[str], numbers: Sequence[int], style: TagStyle) -> tuple[list[Span], int]:
    """Return the same; BadRecord names the line of the first tag that is none. numbers: of the tags' lines."""
    try:
        return tag_spans(tags, style)
    except BadRecord as bad:
        wrong = next(number for tag, number in zip(tags, numbers, strict=True) if not _is_tag(tag, style))
        raise BadRecord(bad.reason, f"line {wrong}: {bad.detail}") from None


def _is_tag(tag: str, style: TagStyle) -> bool:
    try:
        split_tag(style.canonical(tag))
    except ValueError:
        return False
    return True
