"""Words and tags of many rows as whole columns: which rows are odd, and the spans of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints, flat, lengths, offsets
from xner_ray.data.spans import split_tag
from xner_ray.data.tag_styles import TagStyle
from xner_ray.data.tokens import sound
from xner_ray.read.record import Record, refused

_CONTINUES, _CLOSES = frozenset("IEL"), frozenset("ELSU")


class Source(NamedTuple):
    """Rows of one file as it has them: words, tags (None: no labels), names, carried columns."""

    lines: Ints  # rows or lines of the file
    tokens: pa.Array
    tags: pa.Array | None
    ids: list[str | None]
    docs: list[str | None]
    carried: dict[str, pa.Array]
    odd: NDArray[np.bool_]
    labels: Sequence[str] | None  # what tags that are numbers stand for
    records: Callable[[Ints], Iterator[Record]]  # of some of the rows, by their indices


class TagSpans(NamedTuple):
    """The spans of the tags of many rows, as flat arrays."""

    row: Ints
    start: Ints
    size: Ints
    label: Ints  # place in `labels`
    labels: list[str]
    wrong: NDArray[np.bool_]  # rows with a tag that is none
    repaired: Ints  # of each row: tags that open a span though they go on


def looked_at(source: Source, style: TagStyle, max_words: int) -> tuple[NDArray[np.bool_], TagSpans | None]:
    """Return the rows about which anything is odd, which are read from their records, and the spans of the others."""
    sizes, codes, distinct = encoded(source.tokens)
    odd = source.odd | (sizes < 1) | (sizes > max_words)
    if not sound(distinct) or refused("".join(distinct)):
        bad = np.array([not sound([word]) or refused(word) for word in distinct])
        odd |= any_of(bad[codes], sizes)
    odd |= _refused(source.ids) | _refused(source.docs)
    if source.tags is None:
        return odd, None
    found = tag_spans(source.tags, source.labels, style)
    tagged = source.tags.is_valid().to_numpy(zero_copy_only=False)
    return odd | found.wrong | (tagged & (lengths(source.tags) != sizes)), found


def encoded(lists: pa.Array) -> tuple[Ints, Ints, list[str]]:
    """Return the lists' lengths, a number for each word, and the words that the numbers stand for; null as ""."""
    values = lists.flatten().dictionary_encode(null_encoding="encode")
    return lengths(lists), values.indices.to_numpy(), [word or "" for word in values.dictionary.to_pylist()]


def any_of(mask: NDArray[np.bool_], sizes: Ints) -> NDArray[np.bool_]:
    """Return for each list of these sizes whether the mask is true for any of its elements."""
    return np.diff(offsets(mask)[offsets(sizes)]) > 0


def tag_spans(tags: pa.Array, names: Sequence[str] | None, style: TagStyle) -> TagSpans:
    """Return `spans.tags_to_spans` of every row; none for rows without tags.

    names: what tags that are numbers stand for. style: how the others are spelled.
    """
    values = tags.flatten().dictionary_encode(null_encoding="encode")
    parts = [_parsed(tag, names, style) for tag in values.dictionary.to_pylist()]
    codes, sizes = values.indices.to_numpy(), lengths(tags)
    known = sorted({label for _, label in parts if label})
    prefixes = np.array([prefix for prefix, _ in parts], str)
    label = np.array([known.index(label) if label else -1 for _, label in parts], np.int64)[codes]
    goes_on = np.isin(prefixes, list(_CONTINUES))[codes]
    stays_open = (~np.isin(prefixes, list(_CLOSES)))[codes] & (label >= 0)
    row, place, _ = flat(tags)
    continued = np.zeros(len(codes), dtype=bool)
    continued[1:] = goes_on[1:] & stays_open[:-1] & (label[1:] == label[:-1]) & (row[1:] == row[:-1])
    starts = np.flatnonzero((label >= 0) & ~continued)
    borders = np.append(np.flatnonzero(~continued), len(codes))
    ends = borders[np.searchsorted(borders, starts, side="right")]
    repaired = np.bincount(row[starts[goes_on[starts]]] if style.repairs else [], minlength=len(tags))
    wrong = any_of((prefixes == "")[codes], sizes)
    return TagSpans(row[starts], place[starts], ends - starts, label[starts], known, wrong, repaired)


def _parsed(tag: str | int | None, names: Sequence[str] | None, style: TagStyle) -> tuple[str, str]:
    """Return prefix and label of a tag; two empty strings if it is none, or its label could not be written out."""
    if isinstance(tag, int):
        tag = names[tag] if names is not None and 0 <= tag < len(names) else None
    try:
        prefix, label = split_tag(style.canonical(tag or ""))
    except ValueError:
        return "", ""
    return ("", "") if refused(label, name=True) else (prefix, label)


def _refused(names: Sequence[str | None]) -> NDArray[np.bool_]:
    if not refused("".join(filter(None, names)), name=True):
        return np.zeros(len(names), bool)
    return np.array([refused(name or "", name=True) for name in names])
