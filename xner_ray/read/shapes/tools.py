"""Objects as tools write them -> flat objects: Label Studio, spaCy, BigBio. What they do not know passes unchanged."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from xner_ray.errors import BadRecord, Reason, short

LABEL_STUDIO, SPACY, BIGBIO, PRODIGY = "Label Studio", "spaCy", "BigBio", "Prodigy"
OBJECTS = "objects"  # of no tool, but not plain either


class View(NamedTuple):
    """An object as a flat one. fault: why it has no labels that count."""

    data: dict[str, Any]
    tool: str = ""
    fault: BadRecord | None = None


def view(data: Any) -> View:
    """Return an object with text and spans at its top. BadRecord for what is no object.

    >>> view(["Nora left.", {"entities": [[0, 4, "PER"]]}]).data
    {'text': 'Nora left.', 'entities': [[0, 4, 'PER']]}
    """
    if type(data) is dict:
        if "data" in data and isinstance(data["data"], dict) and not data.keys().isdisjoint(_ANNOTATED):
            return _label_studio(data)
        if "passages" in data and isinstance(data["passages"], list):
            return _bigbio(data)
        return View(data)
    if isinstance(data, list) and len(data) == 2 and isinstance(data[0], str):
        if isinstance(data[1], dict):
            return View({"text": data[0], **data[1]}, SPACY)
        if isinstance(data[1], list) and (not data[1] or isinstance(data[1][0], list)):
            return View({"text": data[0], "entities": data[1]}, SPACY)
    if isinstance(data, list) and (made := _words_with_tags(data)) is not None:
        return View(made)
    raise BadRecord(
        Reason.MALFORMED, f"a record is an object, or [text, {{...}}]; this is {type(data).__name__}: {short(data)}"
    )


def _words_with_tags(data: list[Any]) -> dict[str, Any] | None:
    """Return words and tags of [words, tags] or of [[word, ..., tag], ...]; None if it is neither.

    >>> _words_with_tags([["Nora", "left"], ["B-PER", "O"]]) == _words_with_tags([["Nora", "B-PER"], ["left", "O"]])
    True
    """
    if not data or not all(isinstance(one, list) and one and set(map(type, one)) <= {str} for one in data):
        return None
    if len({len(one) for one in data}) > 1:
        return None
    if len(data) == 2 and all(_TAG.fullmatch(tag) for tag in data[1]):
        return {"tokens": data[0], "ner_tags": data[1]}
    return {"tokens": [one[0] for one in data], "ner_tags": [one[-1] for one in data]} if len(data[0]) > 1 else None


_TAG = re.compile(r"O|[BIESLUM][-_]\S+")


def value_at(data: dict[str, Any], path: str) -> Any:
    """Return the value under a key, or along a path of keys: `data.text`. None if there is none."""
    if path in data or "." not in path:
        return data.get(path)
    first, _, rest = path.partition(".")
    inner = data.get(first)
    if isinstance(inner, dict):
        return value_at(inner, rest)
    return data.get(rest) if first == "data" else None  # of Label Studio, whose data is at the top here


_ANNOTATED = ("annotations", "completions", "predictions")


def _label_studio(task: dict[str, Any]) -> View:
    """Read a task: of its annotations the one that counts; predictions are no gold."""
    flat = {key: value for key, value in task["data"].items() if key not in ("id", "spans")}
    own = task["data"].get("id", task.get("id"))  # of the user, or else the number of the task
    flat |= {"id": own} if own is not None else {}
    given = _listed(task, "annotations") or _listed(task, "completions")
    done = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    done = [one for one in done if one.get("ground_truth")] or done
    fault = None
    try:
        versions = [_results(one) for one in done]
    except BadRecord as bad:
        return View(flat | {"spans": None}, LABEL_STUDIO, bad)
    if not versions:
        what = "its annotations are cancelled" if given else "it has no annotation"
        what += ", and predictions are no gold" if task.get("predictions") else ""
        fault = BadRecord(Reason.LEFT_OUT, f"a task of Label Studio without labels that count: {what}")
    elif len({json.dumps(sorted(map(_key, version))) for version in versions}) > 1:
        problem = f"{len(versions)} annotations of the task differ, and none is marked as ground truth"
        fault = BadRecord(Reason.LEFT_OUT, f"{problem}; mark one in Label Studio, or cancel the others")
    return View(flat | {"spans": versions[0] if versions and fault is None else None}, LABEL_STUDIO, fault)


def _listed(data: dict[str, Any], key: str) -> list[Any]:
    """Return the list under a key, an empty one if there is none. BadRecord for another value."""
    if not isinstance(value := data.get(key) or [], list):
        raise BadRecord(Reason.MALFORMED, f"{key} is {short(value)}; allowed: a list")
    return value


def _results(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the spans of an annotation; choices, relations and the like are none."""
    spans = []
    for one in _listed(annotation, "result"):
        value = one.get("value") if isinstance(one, dict) else None
        if not isinstance(value, dict):
            continue
        labels = next((value[key] for key in ("labels", "hypertextlabels", "paragraphlabels") if key in value), None)
        if labels is None:
            continue
        overall = value.get("globalOffsets")
        place = overall if isinstance(overall, dict) else value
        start, end = place.get("start"), place.get("end")
        if type(start) is not int or type(end) is not int or labels in ([], None):
            what = (
                "has no label" if labels in ([], None) else "is of a paragraph or of HTML; allowed: spans of plain text"
            )
            raise BadRecord(Reason.BAD_SPAN, f"span {short(value)} {what}")
        spans.append({"start": start, "end": end, "text": value.get("text"), "labels": labels})
    return spans


def _key(span: dict[str, Any]) -> tuple[int, int, str]:
    return span["start"], span["end"], json.dumps(span["labels"])


_GAP = 1 << 16  # most blanks between two passages


def _bigbio(data: dict[str, Any]) -> View:
    """Read a document: its passages stand in the text where their offsets say, with blanks between them."""
    flat = {key: value for key, value in data.items() if key != "passages"}
    text = ""
    try:
        for passage in data["passages"]:
            (start, end), own = passage["offsets"][0], "".join(passage["text"])
            if len(passage["offsets"]) != 1 or not 0 <= start - len(text) <= _GAP or end - start != len(own):
                raise ValueError("its offsets do not fit its text")
            text += " " * (start - len(text)) + own
    except (KeyError, ValueError, TypeError, IndexError) as error:
        passage = short(data["passages"])
        return View(flat | {"text": None}, BIGBIO, BadRecord(Reason.MALFORMED, f"a passage of {passage}: {error}"))
    return View(flat | {"text": text}, BIGBIO)


def words_of(value: Any) -> list[str] | None:
    """Return the words of a list of text, or of Prodigy's tokens {"text": ...}; None if it is neither."""
    if not isinstance(value, list):
        return None
    if set(map(type, value)) <= {str}:
        return value
    items = [item.get("text") if isinstance(item, dict) else item for item in value]
    words = [item for item in items if isinstance(item, str)]
    return words if len(words) == len(items) else None
