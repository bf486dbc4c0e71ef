"""Spans over words, and their two spellings: span lists inside, IOB2 tags at the edges.

Tags are written from a sorted list without overlap, so invalid IOB2 cannot be written.
Reading accepts IOB1, IOB2 and IOBES/BILOU, and counts the tags that it had to repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_BEGIN, _INSIDE, _END, _SINGLE = "B", "I", "EL", "SU"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open range of word indices, 0-based, with a label and a score."""

    start: int
    end: int
    label: str
    score: float = 1.0

    def __len__(self) -> int:
        return self.end - self.start


def overlaps(a: Span, b: Span) -> bool:
    """Return whether the half-open ranges share a word.

    >>> overlaps(Span(0, 2, "PER"), Span(2, 3, "PER"))
    False
    """
    return a.start < b.end and b.start < a.end


@lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str]:
    """Return prefix and label of a tag; ValueError for anything else.

    >>> split_tag("B-PER"), split_tag("O")
    (('B', 'PER'), ('O', ''))
    """
    if tag == "O":
        return "O", ""
    prefix, dash, label = tag.partition("-")
    if dash and len(prefix) == 1 and prefix in "BIESLU" and label and label.strip() == label:
        return prefix, label
    raise ValueError(f"illegal tag {tag!r}; allowed: O, or B- I- E- S- L- U- and a label, as in B-PER")


def tags_to_spans(tags: Sequence[str]) -> tuple[list[Span], int]:
    """Return the spans of one sentence, and the number of repaired tags.

    An `I-X` (or `E-X`) that continues nothing opens a span, as in IOB1; `E`/`L` close a span, `S`/`U` are one.
    Tags of IOBES/BILOU are no repairs: only those count that fit neither it nor IOB2.

    >>> tags_to_spans(["I-PER", "I-PER", "O", "B-LOC"])
    ([Span(start=0, end=2, label='PER', score=1.0), Span(start=3, end=4, label='LOC', score=1.0)], 1)
    """
    spans: list[Span] = []
    repaired = 0
    start, open_label = 0, ""
    for position, tag in enumerate(tags):
        if tag == "O" and not open_label:
            continue
        prefix, label = split_tag(tag)
        continues = bool(open_label) and label == open_label and (prefix == _INSIDE or prefix in _END)
        if not continues:
            if open_label:
                spans.append(Span(start, position, open_label))
            start, open_label = position, label
            if prefix == _INSIDE or prefix in _END:
                repaired += 1
        if prefix in _END or prefix in _SINGLE:
            spans.append(Span(start, position + 1, open_label))
            open_label = ""
    if open_label:
        spans.append(Span(start, len(tags), open_label))
    return spans, repaired


def spans_to_tags(spans: Iterable[Span], n_words: int) -> list[str]:
    """Return IOB2 tags of `n_words` words; ValueError if spans overlap or leave the sentence.

    >>> spans_to_tags([Span(1, 3, "LOC")], 4)
    ['O', 'B-LOC', 'I-LOC', 'O']
    """
    tags = ["O"] * n_words
    last_end = 0
    for span in sorted(spans):
        if not (last_end <= span.start < span.end <= n_words):
            raise ValueError(f"{span} overlaps its neighbour or leaves the {n_words} words")
        tags[span.start] = f"{_BEGIN}-{span.label}"
        for position in range(span.start + 1, span.end):
            tags[position] = f"{_INSIDE}-{span.label}"
        last_end = span.end
    return tags


def outermost(spans: Iterable[Span]) -> tuple[list[Span], list[Span]]:
    """Return spans without overlap, and the others, both sorted. Longer spans win, then leftmost, then by label.

    >>> outermost([Span(0, 3, "ORG"), Span(2, 3, "LOC")])
    ([Span(start=0, end=3, label='ORG', score=1.0)], [Span(start=2, end=3, label='LOC', score=1.0)])
    """
    in_order = list(spans)
    for _ in range(2):
        if all(left.end <= right.start for left, right in pairwise(in_order)):
            return in_order, []
        in_order.sort()
    kept: list[Span] = []
    nested: list[Span] = []
    for span in sorted(in_order, key=lambda s: (-len(s), s.start, s.label)):
        (nested if any(overlaps(span, other) for other in kept) else kept).append(span)
    return sorted(kept), sorted(nested)


def label_list(labels: Iterable[str]) -> list[str]:
    """Return ClassLabel names: `O`, then B-/I- pairs in the given order.

    >>> label_list(["PER"])
    ['O', 'B-PER', 'I-PER']
    """
    return ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]
