"""doccano: JSON lines for a project of sequence labelling, `{"text", "label": [[start, end, label]]}`.

Offsets are UTF-16 code units of the text: doccano stores what its editor, a page in a browser, shows and counts. A
project that counts grapheme clusters as one character would show them elsewhere; leave that box empty. Other keys are
metadata; doccano shows them, and writes them out again beside its own, so that `id` comes back as ours. A line is
pure ASCII, since doccano guesses the encoding of a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from xner_ray.write.entities import Row, entities


def write(rows: Iterable[Row]) -> Iterator[str]:
    """Yield one object per row: id, lang, text, label, source_text."""
    for row in rows:
        text = row["text"]
        record = {
            "id": row["id"],
            "lang": row["lang"],
            "text": text,
            "label": [[_units(text[: e.start]), _units(text[: e.end]), e.label] for e in entities(row)],
            "source_text": row["source_text"],
        }
        yield json.dumps(record) + "\n"


def _units(text: str) -> int:
    """Return the number of UTF-16 code units.

    >>> _units("😀a")
    3
    """
    return len(text.encode("utf-16-le")) // 2
