"""Decide what the numbers of spans count, from the codes of `offsets.span_codes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xner_ray.read.shapes.readings import (
    NO_TEXT,
    OWN,
    READINGS,
    TOKENS_EXCLUSIVE,
    TOKENS_INCLUSIVE,
    UNITS,
    UNSPACED,
    differs,
)

if TYPE_CHECKING:
    from xner_ray.data.kinds import Ends, Offsets

_NAMES = {"utf16": "UTF-16 units", "tokens": "token numbers"}
_FEW = 5  # fewer spans off the edges of words may be odd annotations
_MOST = 0.8  # of the spans: so many off the edges of words are no oddities, so many on them are no accident
_SURE = 4  # times as many spans speak for a reading as against it


class Chosen(NamedTuple):
    """The reading of spans, and the proof where it is not the plain one."""

    offsets: Offsets = "characters"
    ends: Ends = "exclusive"
    said: str = ""


class _Votes:
    def __init__(self, codes: Sequence[int] | NDArray[np.int64]) -> None:
        self.codes: NDArray[np.int64] = np.array(codes, np.int64)
        self.fits = (self.codes[:, None] >> np.arange(len(READINGS))) & 1 == 1
        self.n = len(self.codes)

    def only(self, chosen: NDArray[np.bool_]) -> _Votes:
        return _Votes(self.codes[chosen])

    def count(self, reading: int) -> int:
        return int(self.fits[:, reading].sum())

    def against(self, one: int, other: int) -> int:
        """Return how many spans fit one reading and not the other."""
        return int((self.fits[:, one] & ~self.fits[:, other]).sum())


def decide(
    codes: Sequence[int],
    offsets: Offsets | None,
    ends: Ends | None,
    *,
    tokens: bool,
    inclusive: bool,
    example: str,
) -> Chosen:
    """Return the one reading that the spans fit; ValueError, with the key that chooses, where none or several do.

    codes: of spans. offsets, ends: as stated. tokens: whether the objects have tokens of their own. inclusive: whether
    their tool is known to count the last token in. example: a span off the edges of words.
    """
    if not len(codes):
        return Chosen(offsets or "characters", ends or ("inclusive" if inclusive else "exclusive"))
    votes = _Votes(codes)
    allowed = [i for i, (unit, end) in enumerate(READINGS) if offsets in (None, unit) and ends in (None, end)]
    own = votes.only(votes.codes & OWN > 0)
    if own.n:
        return _by_own_text(own, allowed, offsets, example)
    if (votes.codes & NO_TEXT).all() or offsets == "tokens":
        return _tokens(votes, ends, inclusive)
    return _by_edges(votes, [i for i in allowed if i < TOKENS_EXCLUSIVE], offsets, ends, tokens, inclusive, example)


def _by_own_text(own: _Votes, allowed: list[int], offsets: Offsets | None, example: str) -> Chosen:
    best = max(allowed, key=own.count)  # the first of several
    if own.count(best) * 2 >= own.n:
        return _chosen(best, f"the text of {own.count(best)} of {own.n} spans fits")
    any_best = max(range(len(READINGS)), key=own.count)
    if own.count(any_best) * 2 >= own.n:
        unit, end = READINGS[any_best]
        raise ValueError(
            f"the recipe's input.offsets or input.ends fit {own.count(best)} of {own.n} spans by their own text; "
            f"offsets: {unit} with ends: {end} fits {own.count(any_best)}; leave the keys out, or set them so"
        )
    if offsets is not None:
        return _chosen(best, "")
    raise ValueError(
        f"the spans' own texts fit under no reading of their offsets (at most {own.count(any_best)} of {own.n}): "
        f"{example}; correct the file, or set input.offsets ({' | '.join((*UNITS, 'tokens'))}) to reject such rows"
    )


def _by_edges(
    votes: _Votes,
    allowed: list[int],
    offsets: Offsets | None,
    ends: Ends | None,
    tokens: bool,
    inclusive: bool,
    example: str,
) -> Chosen:
    best = allowed[0]
    for other in allowed[1:]:
        fits = votes.count(other) >= _MOST * votes.n
        if fits and votes.against(other, best) > _SURE * votes.against(best, other):
            best = other
    spaced = votes.only(votes.codes & (UNSPACED | NO_TEXT) == 0)
    off = spaced.n - spaced.count(best)
    most_off = off > _MOST * spaced.n
    if most_off and offsets is None and tokens and _fit_tokens(spaced):
        return _tokens(votes, ends, inclusive)
    if most_off and spaced.n >= _FEW and offsets is None:
        raise ValueError(
            f"{off} of {spaced.n} spans do not begin and end with words under any reading of their offsets: "
            f"{example}; correct the file, or set input.offsets ({' | '.join((*UNITS, 'tokens'))}) to read it so"
        )
    for other in allowed:
        if other == best or most_off or READINGS[other][1] != READINGS[best][1]:
            continue
        pro, contra = votes.against(best, other), votes.against(other, best)
        units = (READINGS[best][0], READINGS[other][0])
        elsewhere = any((votes.codes & differs(unit)).any() for unit in units)
        if elsewhere and pro <= _SURE * contra:
            raise ValueError(
                f"offsets in {_name(units[0])} and in {_name(units[1])} both fit the spans, and give other entities; "
                f"set input.offsets: {units[0]}, or input.offsets: {units[1]}"
            )
    chosen = _chosen(best, f"{votes.count(best)} of {votes.n} spans begin and end with words" if best else "")
    if off and most_off and offsets is None:
        doubt = f"{off} of {spaced.n} spans do not begin and end with words, which is too few to refuse them: {example}"
        chosen = chosen._replace(said="; ".join(filter(None, [chosen.said, doubt])))
    return chosen


def _fit_tokens(votes: _Votes) -> bool:
    return max(votes.count(TOKENS_EXCLUSIVE), votes.count(TOKENS_INCLUSIVE)) >= 0.9 * votes.n


def _tokens(votes: _Votes, ends: Ends | None, inclusive: bool) -> Chosen:
    """Return the reading of token numbers: an end equal to the number of tokens, or to the start, shows which it is."""
    bad_exclusive, bad_inclusive = votes.n - votes.count(TOKENS_EXCLUSIVE), votes.n - votes.count(TOKENS_INCLUSIVE)
    if ends is not None:
        bad, other = (bad_exclusive, bad_inclusive)[:: 1 if ends == "exclusive" else -1]
        if bad * 2 > votes.n and bad > _SURE * other:
            raise ValueError(
                f"input.ends: {ends} does not fit {bad} of {votes.n} spans of token numbers: they would be empty or "
                "leave the tokens; leave it out"
            )
        return _chosen(TOKENS_EXCLUSIVE if ends == "exclusive" else TOKENS_INCLUSIVE, "")
    if bad_exclusive > _SURE * bad_inclusive:
        return _chosen(TOKENS_INCLUSIVE, f"{bad_exclusive} of {votes.n} spans end where they start")
    if bad_inclusive > _SURE * bad_exclusive:
        return _chosen(TOKENS_EXCLUSIVE, f"{bad_inclusive} of {votes.n} spans end at the number of tokens")
    if inclusive and not bad_inclusive:
        return _chosen(TOKENS_INCLUSIVE, "as GLiNER writes them")
    raise ValueError(
        "spans are of token numbers, and nothing shows whether their ends are inclusive ([0, 1]: one word or two); "
        "set input.ends: inclusive, or input.ends: exclusive"
    )


def _chosen(reading: int, proof: str) -> Chosen:
    unit, end = READINGS[reading]
    if reading == 0:
        return Chosen()
    what = ([f"offsets in {_name(unit)}"] if unit != "characters" else []) + (
        ["ends inclusive" if end == "inclusive" else "ends exclusive"] if reading >= 4 else []
    )
    return Chosen(unit, end, ", ".join(what) + (f" ({proof})" if proof else ""))


def _name(unit: str) -> str:
    return _NAMES.get(unit, unit)
