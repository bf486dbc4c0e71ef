"""The classes of a token classifier as our labels, and as columns O, B-1, I-1, B-2, ... of them.

A model cannot mark the beginning of an entity if it was trained on IOB1 tags (`B-` only between two neighbours of one
class, so the published XLM-R of CoNLL-2003 has no B-PER at all) or on plain labels. There an `I-l` that does not follow
a word of class l begins an entity, so its probability counts as that of `B-l`. Two neighbouring entities of one class
come out as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.spans import split_tag
from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.recipe.sections import Tag


@dataclass(frozen=True, slots=True)
class Classes:
    """The model's classes as our labels and columns."""

    ours_of: dict[str, str | None]
    labels: tuple[str, ...]
    columns: list[int]  # for each class of the model the column: O, B-1, I-1, B-2, ...
    implicit: NDArray[np.intp]  # columns of B-l that the model has not


def read_classes(section: Tag, key: str, names: Sequence[str]) -> Classes:
    """Return a model's classes, given their names in order, under the map `section.labels`.

    RecipeError, with the section's `key`, if the map has a label that the model has not, or drops all. ValueError if
    the names are no tags of one style, O among them.
    """
    tags = [_split(name) for name in names]
    if ("O", "") not in tags or len(tags) < 2:
        raise ValueError(f"{list(names)}: O and another class are needed")
    who = "the built-in tagger" if section.engine == "builtin" else repr(section.model)
    theirs = {label for _, label in tags if label}
    for label, ours in section.labels.items():
        if label not in theirs:
            raise RecipeError(f"{key}.labels.{label}: {who} has no such label{did_you_mean(label, theirs)}")
        if ours is not None and (ours in ("", "O") or ours.strip() != ours):
            raise RecipeError(f"{key}.labels.{label} is {ours!r}; allowed: a label, or null, which drops it")
    ours_of = {label: section.labels.get(label, label) for label in theirs}
    labels = tuple(sorted({ours for ours in ours_of.values() if ours is not None}))
    if not labels:
        raise RecipeError(f"{key}.labels drops all labels of {who} ({', '.join(sorted(theirs))}); keep one")
    columns = []
    for prefix, label in tags:
        ours = ours_of.get(label)
        columns.append(0 if ours is None else 2 * labels.index(ours) + (1 if prefix == "B" else 2))
    explicit = {label for prefix, label in tags if prefix == "B"}
    # In IOB2 and IOBES every entity has a beginning: a class with an I- and no B- means that the data were IOB1.
    iob1 = any(prefix == "I" and label not in explicit for prefix, label in tags)
    known = set() if iob1 else {ours_of[label] for label in explicit}
    begins = [2 * index + 1 for index, label in enumerate(labels) if label not in known]
    return Classes(ours_of, labels, columns, np.array(begins, dtype=np.intp))


def _split(name: str) -> tuple[str, str]:
    """Return O, B or I, and the label; the prefix of a plain label is empty and counts as I. ValueError otherwise."""
    if name == "O":
        return "O", ""
    if name[1:2] != "-":
        return "", split_tag(f"I-{name}")[1]
    prefix, label = split_tag(name)
    return "B" if prefix in "BSU" else "I", label
