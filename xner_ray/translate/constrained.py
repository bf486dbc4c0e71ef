"""Places of an entity's markers in a translation that stays as it is: constrained decoding (Le et al. 2024, Codec).

    source, one entity marked     Bob was seen by [Anna].
    translation, fixed            Anna vio a Bob.
    asked                         log P( [Anna] vio a Bob. | source ), and so for every other place of the two markers

Every word is forced, and only the places of the markers are free: before a word, and after a word. A text with markers
is cut into subwords as a whole, since a word may be cut otherwise beside a marker ("▁Anna", but "▁[", "Anna").

`search` is best-first branch and bound. A log-probability never rises as a text goes on, so the part that a text shares
with one that the model has read, and its first subword after that, bound it from above:

    one pass over the bare translation               bounds of all openings
    one pass over it with an opening marker          bounds of all closings of that opening
    one pass over it with both                       the exact log-probability of this place

The highest bound is looked at next. It ends when no bound is within `FLOOR` of the best place: nothing is left whose
share rounds to more than 0. So a sure model reads three texts an entity, and the answer is that of a search through all
places, unless `beams` ends it sooner.

A search is a generator that yields passes and gets their answers: `together` asks for those of many at once.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

FLOOR = math.log(5e-5)
"""Places that are less probable than this, relative to the best, have a share that rounds to 0 (of 1e-4)."""

Tokenise = Callable[[list[str]], list[list[int]]]
Place = tuple[int, int]  # half-open range of words


@dataclass(frozen=True, slots=True)
class Pass:
    """A text for the model to read: its subwords, the end included.

    others: (index, subword) whose log-probability is asked in the place of the text's own subword, after the same
    beginning.
    """

    tokens: list[int]
    others: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Log-probabilities of a pass's own subwords, and of its others."""

    own: list[float]
    others: list[float]


@dataclass(slots=True)
class Found:
    """What a search has found.

    bare: log-probability of the translation without markers. places: that of each place that was read as a whole.
    proven: no other place has a share that counts. too_long: a text with markers is longer than the model reads; then
    there are no places.
    """

    bare: float = -math.inf
    places: dict[Place, float] = field(default_factory=dict)
    proven: bool = True
    too_long: bool = False

    @property
    def ratio(self) -> float:
        """How probable the best place is, relative to no marker at all; 0 without a place."""
        best = max(self.places.values(), default=-math.inf)
        return math.exp(min(best - self.bare, 700.0)) if self.places else 0.0

    def shares(self) -> dict[Place, float]:
        """Return the probability of each place given that there is one, rounded to 1e-4, without those that are 0.

        >>> Found(places={(0, 1): -1.0, (0, 2): -1.0, (3, 4): -20.0}).shares()
        {(0, 1): 0.5, (0, 2): 0.5}
        """
        best = max(self.places.values(), default=0.0)
        weights = {place: math.exp(value - best) for place, value in sorted(self.places.items())}
        total = sum(weights.values())
        shares = {place: round(weight / total, 4) for place, weight in weights.items()}
        return {place: share for place, share in shares.items() if share > 0}


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts that go on where one that is read may end: as subwords, in four bytes each.

    others: of each, the index at which it leaves the text that is read, and its subword there.
    """

    tokens: list[array[int]]
    others: list[tuple[int, int]]

    @classmethod
    def beside(cls, read: Sequence[int], texts: Sequence[list[int]]) -> Texts:
        others = []
        for text in texts:
            same = next(index for index, (a, b) in enumerate(zip(read, text, strict=False)) if a != b)
            others.append((same, text[same]))
        return cls([array("i", text) for text in texts], others)

    @property
    def longest(self) -> int:
        return max(map(len, self.tokens), default=0)


class Target:
    """A translation, and its texts with markers, each made once for all entities of the sentence.

    text: without a square bracket. offsets: of its words, half-open ranges of code points. max_words: of a place.
    tokenise: texts to subwords, the end included.
    """

    def __init__(self, text: str, offsets: Sequence[tuple[int, int]], tokenise: Tokenise, max_words: int) -> None:
        self.text, self.offsets, self.max_words = text, offsets, max_words
        self._tokenise = tokenise
        self._opened: tuple[array[int], Texts] | None = None
        self._closed: dict[int, Texts] = {}

    @property
    def bare(self) -> array[int]:
        return self._bare_and_opened()[0]

    @property
    def opened(self) -> Texts:
        """The text with an opening marker before each word, beside the bare one."""
        return self._bare_and_opened()[1]

    def closed(self, first: int) -> Texts:
        """Return the text with both markers, the opening one before word `first`, for each last word in order."""
        if first not in self._closed:
            start = self.offsets[first][0]
            texts = [
                f"{self.text[:start]}[{self.text[start:end]}]{self.text[end:]}"
                for _, end in self.offsets[first : first + self.max_words]
            ]
            self._closed[first] = Texts.beside(self.opened.tokens[first], self._tokenise(texts))
        return self._closed[first]

    def forget(self) -> None:
        """Drop the texts: those of many sentences take much memory."""
        self._opened, self._closed = None, {}

    def _bare_and_opened(self) -> tuple[array[int], Texts]:
        if self._opened is None:
            texts = [f"{self.text[:start]}[{self.text[start:]}" for start, _ in self.offsets]
            bare, *opened = self._tokenise([self.text, *texts])
            self._opened = array("i", bare), Texts.beside(bare, opened)
        return self._opened


Search = Generator[Pass, Answer, Found]


def search(target: Target, *, beams: int, room: int, min_ratio: float = 0.0) -> Search:
    """Find the places of one entity's markers; yields passes, takes their answers, and returns what was found.

    beams: the most openings that are followed, and the most places that are read as a whole. room: the most subwords
    that the model reads. min_ratio: `Found.ratio` below which nobody wants the places, so that a search without a hope
    of more ends at once. Equal bounds: further left, then shorter.
    """
    found = Found()
    if max(len(target.bare), target.opened.longest) > room:
        found.too_long = True
        return found
    bounds, found.bare = yield from _bounds(target.bare, target.opened)
    hopeless = found.bare + math.log(min_ratio) if min_ratio else -math.inf
    queue = [(-bound, first, first) for first, bound in enumerate(bounds)]  # end == start: an opening
    heapq.heapify(queue)
    n_opened, best = 0, -math.inf
    while queue:
        bound, first, end = heapq.heappop(queue)
        if -bound < max(best + FLOOR, hopeless):
            break
        if len(found.places) == beams:
            found.proven = False
            break
        if end > first:
            answer = yield Pass(list(target.closed(first).tokens[end - first - 1]), [])
            found.places[first, end] = sum(answer.own)
            best = max(best, found.places[first, end])
        elif n_opened == beams:
            found.proven = False
        else:
            n_opened += 1
            texts = target.closed(first)
            if texts.longest > room:
                return Found(bare=found.bare, too_long=True)
            bounds, _ = yield from _bounds(target.opened.tokens[first], texts)
            for last, value in enumerate(bounds, first):
                heapq.heappush(queue, (-value, first, last + 1))
    return found


def _bounds(read: Sequence[int], texts: Texts) -> Generator[Pass, Answer, tuple[list[float], float]]:
    """Return an upper bound of each text's log-probability, and that of the text that is read, in one pass."""
    answer = yield Pass(list(read), texts.others)
    before = list(accumulate(answer.own, initial=0.0))
    return [before[same] + other for (same, _), other in zip(texts.others, answer.others, strict=True)], before[-1]


def together(searches: Sequence[Search], read: Callable[[list[tuple[int, Pass]]], list[Answer]]) -> list[Found]:
    """Run searches in step: each round asks for one pass of every search that goes on, by its index."""
    results: dict[int, Found] = {}
    asked: list[tuple[int, Pass]] = []

    def go_on(index: int, answer: Answer | None) -> None:
        try:
            asked.append((index, next(searches[index]) if answer is None else searches[index].send(answer)))
        except StopIteration as stop:
            results[index] = stop.value

    for index in range(len(searches)):
        go_on(index, None)
    while asked:
        passes, asked = asked, []
        for (index, _), answer in zip(passes, read(passes), strict=True):
            go_on(index, answer)
    return [results[index] for index in range(len(searches))]
