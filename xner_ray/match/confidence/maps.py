"""The probability that a projected entity is right, from what can be seen without gold.

An entity is right if its words and its label are those of gold. What speaks against it:

- its score in the matching: links that scatter, boundaries that are unusual in this language;
- the tagger of the target words (`target_tag`) and the same tagger's opinion of the entity in the source sentence. What
  it sees in the source and not at the place was probably placed wrong. What it takes for another entity on both sides
  was probably labelled wrong. What it sees on neither side may be a name that it does not know: that counts only
  against entities that a tagger has found, not against those that people have labelled.

A logistic map makes a probability of these. The shipped ones (`maps.json`) are fitted on gold by
jobs/confidence/fit.py, which also says how they do on sets that their fit has not seen (docs/quality.md). There are
four: with and without a tagger, with and without a prior, which changes the scores of the matching.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Floats
from xner_ray.data.opinions import Opinions

FILE = Path(__file__).with_name("maps.json")
TAGGED = ("score", "lost", "unseen", "contradicted", "mislabelled", "cut", "loose", "longer")
"""The features of an entity that a tagger has read."""
ALONE = ("score", "found")
"""The features of an entity that none has read, or whose label it does not know."""
_CEILING = 1.03  # so that a score of 1, the best, is finite


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen of projected entities, arrays of one length.

    score: of the matching, in 0..1. found: whether a tagger found the entity, rather than people. source, target: the
    tagger's opinion of it on either side. read: whether it has one.
    """

    score: Floats
    found: NDArray[np.bool_]
    source: Opinions
    target: Opinions
    read: NDArray[np.bool_]


def features(seen: Seen) -> dict[str, Floats]:
    """Return every feature of each entity by name; those of the tagger are 0 where it has no opinion.

    score: log(1.03 - score). lost: entity mass that the source has and the target lacks. unseen: mass of O that both
    have. contradicted, mislabelled: mass of other labels, more than the source has and what both have. cut, loose: mass
    of the label that does not fit the span's boundaries, likewise. longer: that the next word continues the entity.
    `unseen` and `loose` count only for entities that a tagger has found.
    """
    source, target, read, found = seen.source, seen.target, seen.read * 1.0, seen.found * 1.0
    other = source.entity - source.label, target.entity - target.label
    bounds = source.label - source.span, target.label - target.span
    return {
        "score": np.log(_CEILING - np.minimum(seen.score, 1.0)),
        "found": found,
        "lost": read * np.maximum(source.entity - target.entity, 0),
        "unseen": read * found * np.minimum(1 - source.entity, 1 - target.entity),
        "contradicted": read * np.maximum(other[1] - other[0], 0),
        "mislabelled": read * np.minimum(*other),
        "cut": read * np.maximum(bounds[1] - bounds[0], 0),
        "loose": read * found * np.minimum(*bounds),
        "longer": read * target.after,
    }


def probabilities(seen: Seen, *, prior: bool) -> Floats:
    """Return the probability of each entity to be right, to 1e-4. prior: whether the matching had one."""
    total = np.sum(list(terms(seen, prior=prior).values()), axis=0)
    result: Floats = np.round(1 / (1 + np.exp(-total)), 4)
    return result


def terms(seen: Seen, *, prior: bool) -> dict[str, Floats]:
    """Return what each feature adds to the log-odds of each entity, and the intercept; 0 where its map lacks one."""
    found = features(seen) | {"intercept": np.ones(len(seen.score))}
    tagged, alone = (maps()[f"{name}, {'prior' if prior else 'no prior'}"] for name in ("tagged", "alone"))
    return {
        name: np.where(seen.read, tagged.get(name, 0.0), alone.get(name, 0.0)) * found[name]
        for name in dict.fromkeys(("intercept", *TAGGED, *ALONE))
    }


@cache
def maps() -> dict[str, dict[str, float]]:
    """Return the shipped maps: weights by feature, and the intercept."""
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text(encoding="utf-8"))["maps"]
    return found
