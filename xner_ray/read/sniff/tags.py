"""Cells that are tags, and names that columns of words and tags have in tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WORD_NAMES = frozenset(("word", "words", "token", "tokens", "form", "text", "sentence", "sentences", "utterance"))
TAG_NAMES = frozenset(("tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "entity", "entities", "spans"))
SENTENCE_NAMES = re.compile(r"(?:sentence|sent|s)[ _#-]*(?:#|id|idx|no|nr|num|number|index)?", re.IGNORECASE)
"""Names of columns that number sentences."""
_MARKED = r"[BIESLUMW][-_]\S+(?: (?!O\b|[BIESLUMW][-_])\S+)*|\S+[-_][BIESLUMW]"  # a label may be of several words
_TAG = re.compile(rf"[Oo0]|{_MARKED}")
_PREFIXED = re.compile(_MARKED)
_LABEL = re.compile(r"[A-Z][\w/-]*")
_ANY_LABEL = re.compile(r"[^\W\d_][\w./&-]*")  # beside so many O that these are no words
_FEW_LABELS, _MANY_LABELS = 40, 150


def are_tags(cells: Sequence[str], *, bare: bool) -> bool:
    """Return whether cells are tags, whose labels may be of several words.

    bare: labels without a prefix, of one word, may be tags too.
    """
    counts = Counter(cells)
    tags = sum(count for cell, count in counts.items() if _TAG.fullmatch(cell))
    if tags >= 0.95 * len(cells) and (counts["O"] or any(map(_PREFIXED.fullmatch, counts))):
        return True
    outside = max(counts[cell] for cell in "Oo0")
    sure = counts["O"] >= 0.3 * len(cells)
    label, most = (_ANY_LABEL, _MANY_LABELS) if sure else (_LABEL, _FEW_LABELS)
    labels = sum(count for cell, count in counts.items() if label.fullmatch(cell) or _TAG.fullmatch(cell))
    return bare and len(counts) <= most and outside >= 0.3 * len(cells) and labels >= 0.95 * len(cells)
