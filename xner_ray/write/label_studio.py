"""Label Studio: tasks with an annotation each, as its import takes them, and the labelling configuration that fits.

Offsets are code points of `data.text`: its editor turns the browser's UTF-16 code units into them, and back (its own
tests of emoji say so; it did not yet in 2021). Each region has its text too, so that a reader can tell. The id is
`data.id`: the export "JSON" keeps `data` as it is, "JSON-MIN" and CSV put the number of the task in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from xner_ray.write.entities import Row, entities

_LABELS, _TEXT = "label", "text"  # names of the tags in the configuration


def write(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the pieces of one JSON array with a task per row; a row without entities has an annotation without any."""
    before = "[\n"
    for row in rows:
        yield before + json.dumps(_task(row), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def config(labels: Sequence[str]) -> str:
    """Return the labelling configuration: the source sentence as a headline, the text, and the labels.

    The style keeps runs of white space on the screen; without it their offsets are the same, what is saved is not.
    """
    choices = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    return (
        "<View>\n"
        "  <Style>.htx-text { white-space: pre-wrap; }</Style>\n"
        '  <Header value="$source_text" size="5"/>\n'
        f'  <Labels name="{_LABELS}" toName="{_TEXT}">\n{choices}  </Labels>\n'
        f'  <Text name="{_TEXT}" value="$text"/>\n'
        "</View>\n"
    )


def _task(row: Row) -> dict[str, Any]:
    result = [
        {
            "id": f"e{number}",  # a region's id must hold no space, or its highlight is lost
            "from_name": _LABELS,
            "to_name": _TEXT,
            "type": "labels",
            "value": {"start": e.start, "end": e.end, "text": row["text"][e.start : e.end], "labels": [e.label]},
            "score": e.score,
        }
        for number, e in enumerate(entities(row))
    ]
    source = row["source_text"] or ""
    data = {"id": row["id"], "lang": row["lang"], "text": row["text"], "source_text": source}
    return {"data": data, "annotations": [{"result": result}]}
