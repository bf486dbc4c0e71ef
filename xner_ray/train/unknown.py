"""The words of a sentence of which it is not known whether they are part of a missing entity.

An entity of the source side may have no place on the target side: its best candidate scores too low, it has none, or it
lost its words to another. Somewhere in the target sentence it probably stands. To teach O there teaches to miss it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xner_ray.errors import Loss

_ELSEWHERE = (Loss.NESTED,)  # its words are those of the longer entity, which has a place, or is missing itself
Cell = Mapping[str, Any]


def unknown_words(
    tokens: Sequence[str],
    spans: Sequence[Cell],
    unprojected: Sequence[Cell],
    entities: Mapping[int, tuple[int, int]],
    links: Sequence[Cell] | None,
) -> list[int]:
    """Return the target words that a missing entity may stand on, ascending; none that a projected entity has.

    entities: the source words of each entity, (start, end), by its number; those that links start from. links: the
    cells of the row, None without any.

    Known are the words linked to a source word of the entity by a hard method of alignment: every candidate that
    scored too low has them. An entity without such words takes those that look like a name and are linked to nothing:
    words that begin with a capital, or that have no case, behind the first word. If there is none, it is not known.

    >>> lost, where = [{"source": 0, "reason": "low_score"}], {0: (2, 3)}
    >>> links = [{"source": 2, "target": 1, "methods": 1}, {"source": 0, "target": 0, "methods": 1}]
    >>> unknown_words(["to", "Roma", "ya", "Lea"], [], lost, where, links)
    [1]
    >>> unknown_words(["to", "Roma", "ya", "Lea"], [], lost, where, links[1:])
    [1, 3]
    """
    taken = {word for span in spans for word in range(span["start"], span["end"])}
    hard = [(cell["source"], cell["target"]) for cell in links or () if cell["methods"]]
    found: set[int] = set()
    for lost in unprojected:
        if lost["reason"] in _ELSEWHERE:
            continue
        start, end = entities.get(lost["source"], (0, 0))
        own = {target for source, target in hard if start <= source < end} - taken
        found |= own or _like_names(tokens, taken | {target for _, target in hard})
    return sorted(found)


def _like_names(tokens: Sequence[str], others: Collection[int]) -> set[int]:
    return {
        number
        for number, word in enumerate(tokens)
        if number not in others
        and word[:1].isalpha()
        and (word[0].isupper() or word[0].istitle() or word[0].lower() == word[0].upper())
        and (number > 0 or word[0].lower() == word[0].upper())
    }
