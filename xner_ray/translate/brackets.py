"""Entities through a translator in square brackets: `mark` a sentence, translate it, `recover` the entities.

    Anna saw [x]  --mark-->  [Anna] saw (x)  --translate-->  (x) vio [ Anna ]  --recover-->  [x] vio Anna + its span

Literal square brackets are sent as round ones (full-width ones would become square again by NFKC, which NLLB's
tokenizer applies). They are restored where the translation has the round brackets of the marked text in the same order;
elsewhere they stay round. So every square bracket of a translation is a marker.

A piece, the text between two markers, belongs to the entity whose own translation it resembles: one to one, with the
largest sum of similarities. (The reference implementation gives each piece to the last entity that is similar enough;
reference/method.md 3 and 6.2, item 3.) A broken marker costs its entity, never the sentence.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from xner_ray.errors import Flag, Loss

MIN_SIMILARITY = 0.5
"""The similarity that a piece must exceed to its entity's own translation."""

# Each ASCII bracket with all characters that NFKC makes it.
_OPEN, _CLOSE = "[［﹇", "]］﹈"
_ROUND_OPEN, _ROUND_CLOSE = "(（﹙︵⁽₍", ")）﹚︶⁾₎"
_SQUARE, _ROUND = _OPEN + _CLOSE, _ROUND_OPEN + _ROUND_CLOSE
_ESCAPE = {**dict.fromkeys(map(ord, _OPEN), "("), **dict.fromkeys(map(ord, _CLOSE), ")")}
_FORM = {**_ESCAPE, **dict.fromkeys(map(ord, _ROUND_OPEN), "("), **dict.fromkeys(map(ord, _ROUND_CLOSE), ")")}

# Markers that follow each other, with all white space around them; possessive, so that long space takes linear time.
_RUN = re.compile(rf"(?<!\s)\s*+(?:[{re.escape(_SQUARE)}]\s*+)++")
_OUTSIDE = re.compile(rf"(?<![{re.escape(_OPEN)}\s])\s++(?![{re.escape(_CLOSE)}])")


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with markers. brackets: the literal brackets of the sentence, round and square, in order."""

    text: str
    brackets: str


@dataclass(frozen=True, slots=True)
class Placement:
    """A half-open range of code points of a clean text (after `to_words`: of its words), and the similarity in 0..1."""

    start: int
    end: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """A translation without markers, and its entities.

    pieces: half-open ranges of code points of `text`, ascending, none twice. entities: placement or loss of each; two
    placements are disjoint or nested. faults: their numbers, none 0.
    """

    text: str
    pieces: list[tuple[int, int]]
    entities: list[Placement | Loss]
    faults: Mapping[Flag, int]


def escape(text: str) -> str:
    """Replace square brackets by round ones; entities are translated alone in this form. The length stays.

    >>> escape("[sic] ［1］")
    '(sic) (1)'
    """
    return text.translate(_ESCAPE)


def mark(text: str, spans: Iterable[tuple[int, int]]) -> Marked:
    """Put each span in square brackets.

    spans: half-open ranges of code points, ascending and without overlap; ValueError otherwise, or if one has no text.

    >>> mark("Anna saw [x]", [(0, 4)])
    Marked(text='[Anna] saw (x)', brackets='[]')
    """
    parts, last = [], 0
    for start, end in spans:
        if not (last <= start < end <= len(text)) or not text[start:end].strip():
            raise ValueError(
                f"span ({start}, {end}) cannot be marked: it must have text, "
                f"start at {last} or later and end at {len(text)} or earlier"
            )
        parts += [escape(text[last:start]), "[", escape(text[start:end]), "]"]
        last = end
    brackets = "".join(character for character in text if character in _SQUARE + _ROUND)
    return Marked("".join([*parts, escape(text[last:])]), brackets)


def recover(
    translation: str, entities: Sequence[str | None], *, brackets: str = "", min_similarity: float = MIN_SIMILARITY
) -> Recovered:
    """Remove the markers from the translation of a marked text, and find its entities.

    entities: the translation of each one's `escape`d text alone, in the order of the markers; None: it has none.
    brackets: `Marked.brackets`. A piece and an entity belong together only if their similarity is above
    `min_similarity` (ValueError unless in 0..1): difflib's ratio, 2 M / T for M code points in matching blocks of T in
    all (Ratcliff and Metzener 1988), rounded to 1e-4, of the texts without markers, in NFKC, case-folded. Ties: the
    smallest sum of squared differences between the places of entities and pieces in their lists, then further left.

    >>> recover("(x) vio [ Anna ]", ["Anna."], brackets="[]").text
    '[x] vio Anna'
    """
    if not 0 <= min_similarity <= 1:
        raise ValueError(f"min_similarity is {min_similarity}; allowed: 0 to 1")
    text, pieces, faults = _strip(translation)
    if len(pieces) > len(entities):
        faults[Flag.MARKER_INVENTED] = len(pieces) - len(entities)
    found = _assign(entities, text, pieces, min_similarity)
    loss = Loss.MARKER_NOT_SIMILAR if len(found) < len(pieces) else Loss.MARKER_LOST
    placed = [found.get(i, Loss.MARKER_NOT_TRANSLATED if e is None else loss) for i, e in enumerate(entities)]
    return Recovered(_restore(text, brackets), pieces, placed, faults)


def to_words(entities: Sequence[Placement | Loss], offsets: Sequence[tuple[int, int]]) -> list[Placement | Loss]:
    """Turn placements into ranges of words, of every word that a piece touches; losses stay.

    entities: `Recovered.entities`. offsets: of the words of `Recovered.text`, half-open ranges of code points that
    cover all but the white space. Of two placements on one word the one with more words stays, then the one further
    left, then the first entity; the other is MARKER_OVERLAP.

    >>> to_words([Placement(1, 3, 1.0), Placement(3, 5, 0.9)], [(0, 2), (2, 3), (3, 6)])
    [Placement(start=0, end=2, similarity=1.0), Placement(start=2, end=3, similarity=0.9)]
    """
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    placed = [
        (Placement(bisect_right(ends, e.start), bisect_left(starts, e.end), e.similarity), index)
        for index, e in enumerate(entities)
        if isinstance(e, Placement)
    ]
    result, taken = list(entities), set[int]()
    for entity, index in sorted(placed, key=lambda p: (p[0].start - p[0].end, p[0].start)):
        covered = range(entity.start, entity.end)
        free = taken.isdisjoint(covered)
        result[index] = entity if free else Loss.MARKER_OVERLAP
        taken.update(covered if free else ())
    return result


def _strip(translation: str) -> tuple[str, list[tuple[int, int]], Counter[Flag]]:
    """Return the text without markers, its pieces, and the faults. No piece begins or ends with white space."""
    parts: list[str] = []
    opened: list[tuple[int, int]] = []  # start, and depth of the pairs inside
    pieces: set[tuple[int, int]] = set()
    faults: Counter[Flag] = Counter()
    length = last = 0
    for run in _RUN.finditer(translation):
        gap = _gap(translation, run)
        parts += [translation[last : run.start()], gap]
        length += run.start() - last
        for character in run.group():
            if character in _OPEN:
                opened.append((length + len(gap), 0))
            elif character in _CLOSE and not opened:
                faults[Flag.MARKER_UNOPENED] += 1
            elif character in _CLOSE:
                start, depth = opened.pop()
                if start >= length:
                    faults[Flag.MARKER_EMPTY] += 1
                    continue
                faults[Flag.MARKER_NESTED] += depth > 0
                if depth <= 1:  # deep nests of long pieces are slow to compare
                    pieces.add((start, length))
                if opened:
                    opened[-1] = (opened[-1][0], max(opened[-1][1], depth + 1))
        length += len(gap)
        last = run.end()
    faults[Flag.MARKER_UNCLOSED] = len(opened)
    return "".join([*parts, translation[last:]]), sorted(pieces), +faults


def _gap(text: str, run: re.Match[str]) -> str:
    """Return the white space that a run of markers leaves: that outside them; that inside if it separates two words."""
    outside = _OUTSIDE.search(run.group())
    sides = text[max(run.start() - 1, 0) : run.start()], text[run.end() : run.end() + 1]
    # Not \w, which excludes combining marks.
    words = all(unicodedata.category(side or " ")[0] in "LMN" for side in sides)
    return outside.group() if outside else " " * (words and any(map(str.isspace, run.group())))


def _assign(
    entities: Sequence[str | None], text: str, pieces: Sequence[tuple[int, int]], least: float
) -> dict[int, Placement]:
    """Return the one-to-one choice, by entity, with the largest sum of similarities, each above `least`."""
    folded = [_folded(text[start:end]) for start, end in pieces]
    similarity = np.zeros((len(entities), len(pieces)))
    for row, entity in enumerate(entities):
        if entity is not None:
            matcher = SequenceMatcher(None, "", _folded(_strip(entity)[0]), autojunk=False)
            ratios = {piece: _ratio(matcher, piece, least) for piece in set(folded)}  # a looped translation repeats
            similarity[row] = [ratios[piece] for piece in folded]
    rows, columns = np.indices(similarity.shape, dtype=np.float64)
    fewer, more = min(similarity.shape), max(similarity.shape)
    # Integers in which similarity, order and place rank in turn: each sum is below one unit of the one before.
    rank = np.rint(1e4 * similarity) * fewer * more**2 - (rows - columns) ** 2
    weight = np.where(similarity > 0, rank * fewer * more - columns, 0.0)
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # half a second, seldom needed

    chosen = zip(*(index.tolist() for index in linear_sum_assignment(weight, maximize=True)), strict=True)
    cells = ((row, *pieces[column], float(similarity[row, column])) for row, column in chosen)
    return {row: Placement(start, end, value) for row, start, end, value in cells if value > 0}


def _ratio(matcher: SequenceMatcher[str], piece: str, least: float) -> float:
    """Return the rounded ratio, or 0 if it is not above `least`; two upper bounds spare most pairs the slow ratio."""
    matcher.set_seq1(piece)
    for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio):
        value = round(ratio(), 4)
        if value <= least:
            return 0.0
    return value


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _restore(text: str, brackets: str) -> str:
    """Restore literal square brackets that were sent as round ones; the length stays."""
    places = [place for place, character in enumerate(text) if character in _ROUND]
    if "".join(text[place] for place in places).translate(_FORM) != brackets.translate(_FORM):
        return text
    square = {place: bracket for place, bracket in zip(places, brackets, strict=True) if bracket in _SQUARE}
    return "".join(square.get(place, character) for place, character in enumerate(text))
