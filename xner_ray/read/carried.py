"""What an object has beside our columns, as it comes along."""

from __future__ import annotations

import json
from typing import Any

from xner_ray.read.record import SURROGATES, File, by_file, without_surrogates


def carried(data: dict[str, Any], file: File) -> str | dict[str, str | None] | None:
    """Return what an object has beside our columns: all as one JSON text, or those that `file.carry` names."""
    if file.carry is not None:
        return {name: _carried_text(data[name]) for name in file.carry if name in data}
    known = _known(file)
    if data.keys() <= known:
        return None
    return _json({key: value for key, value in data.items() if key not in known})


@by_file
def _known(file: File) -> frozenset[str]:
    """Return the keys that are columns."""
    return frozenset(file.key(ours) for ours, _ in file.columns)


def _carried_text(value: Any) -> str | None:
    return without_surrogates(value) if isinstance(value, str) else None if value is None else _json(value)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    # Half a surrogate pair is legal in JSON's escapes only.
    return json.dumps(value, sort_keys=True) if SURROGATES.search(text) else text
