"""The forms of `match.per_entity`: how many places an entity may take."""

from __future__ import annotations

import re


def limits(per_entity: str) -> tuple[int, int | None]:
    """Least and most places of an entity, None for no limit, from a form such as "<=1".

    ValueError for anything else, and for forms that allow no place at all.

    >>> limits("<3"), limits("=1"), limits(">0")
    ((0, 2), (1, 1), (1, None))
    """
    form = re.fullmatch(r"(<=|<|=|>=|>)(\d+)", per_entity, re.ASCII)
    if form:
        number = int(form[2])
        least = {"=": number, ">=": number, ">": number + 1}.get(form[1], 0)
        most = {"=": number, "<=": number, "<": number - 1}.get(form[1])
        if most is None or most > 0:
            return least, most
    raise ValueError(f"per_entity is {per_entity!r}; allowed: '<=1' or more, '<2', '=1', '>=0', '>0' or more")
