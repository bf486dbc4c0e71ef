"""Kinds of files of objects: Label Studio, doccano, Prodigy, spaCy, GLiNER, BigBio, token numbers, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kinds import LABELS, SENTENCES, Files, Kind, Sentence, Write

Make = Callable[[int, Sentence], Any]


def _lines(make: Make, name: str = "a.jsonl") -> Write:
    return lambda sentences: {
        name: "".join(json.dumps(make(n, s), ensure_ascii=False) + "\n" for n, s in enumerate(sentences, start=1))
    }


def _array(make: Make, name: str = "a.json") -> Write:
    return lambda sentences: {
        name: json.dumps([make(n, s) for n, s in enumerate(sentences, start=1)], ensure_ascii=False, indent=2)
    }


def _utf16(text: str, at: int) -> int:
    return len(text[:at].encode("utf-16-le")) // 2


def _label_studio(n: int, s: Sentence) -> Any:
    result = [
        {
            "id": f"r{start}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {"start": start, "end": end, "text": s.text[start:end], "labels": [label]},
        }
        for start, end, label in s.chars
    ]
    annotation = {"id": n, "was_cancelled": False, "ground_truth": False, "result": result, "lead_time": 4.5}
    return {"id": n, "annotations": [annotation], "predictions": [], "data": {"text": s.text}, "project": 1}


def _label_studio_with_note(n: int, s: Sentence) -> Any:
    task = _label_studio(n, s)
    task["data"] = {"question": s.text, "reply": f"A reply to task {n}."}
    return task


def _min(n: int, s: Sentence) -> Any:
    """Offsets in UTF-16, as versions before 2021 wrote them."""
    label = [
        {"start": _utf16(s.text, a), "end": _utf16(s.text, b), "text": s.text[a:b], "labels": [x]}
        for a, b, x in s.chars
    ]
    return {"text": s.text, "id": n, "annotator": 1, "annotation_id": n} | ({"label": label} if label else {})


def _min_shifted(n: int, s: Sentence) -> Any:
    task = _min(n, s)
    for one in task.get("label", ()) if n == 5 else ():
        one["end"] += 1
    return task


def _gliner(n: int, s: Sentence) -> Any:
    return {"tokenized_text": s.tokens, "ner": [[start, end - 1, label] for start, end, label in s.spans]}


def _token_numbers(n: int, s: Sentence) -> Any:
    return {"tokens": s.tokens, "entities": [{"start": a, "end": b - 1, "type": x} for a, b, x in s.spans]}


def _spacy_pairs(n: int, s: Sentence) -> Any:
    return [s.text, {"entities": [list(span) for span in s.chars]}]


def _annotator(sentences: Sequence[Sentence]) -> Files:
    """As the "NER annotator for spaCy" saves it."""
    pairs = [_spacy_pairs(n, s) for n, s in enumerate(sentences)]
    return {"a.json": json.dumps({"classes": ["PER", "LOC", "ORG"], "annotations": pairs}, ensure_ascii=False)}


def _two_lists(sentences: Sequence[Sentence]) -> Files:
    """The same, with a second list of the same form, of sentences that nobody has looked at."""
    pairs = [_spacy_pairs(n, s) for n, s in enumerate(sentences)]
    rest = [["Nobody looked at this.", {"entities": []}]] * 3
    return {"a.json": json.dumps({"annotations": pairs, "skipped": rest}, ensure_ascii=False)}


def _one_list(message: str, files: Files) -> Files:
    """Take one list out of the object, as the jq of the message does."""
    assert "jq -c '.annotations[]' IN.json > OUT.jsonl" in message
    value = json.loads(files["a.json"])
    return {"a.jsonl": "\n".join(json.dumps(one) for one in value["annotations"])}


def _doccano_old(n: int, s: Sentence) -> Any:
    return {"id": n, "text": s.text, "meta": {}, "annotation_approver": None, "labels": [list(x) for x in s.chars]}


def _doccano(n: int, s: Sentence) -> Any:
    entities = [{"id": a, "label": x, "start_offset": a, "end_offset": b} for a, b, x in s.chars]
    return {"id": n, "text": s.text, "entities": entities, "relations": [], "Comments": []}


def _with_second(key: str, make: Make) -> Make:
    """Return a maker of objects that hold a second list of spans."""

    def made(n: int, s: Sentence) -> Any:
        return {**make(n, s), key: [[a, b, "MISC"] for a, b, _ in s.chars]}

    return made


def _prodigy(answer: str = "accept") -> Make:
    def make(n: int, s: Sentence) -> Any:
        _, places = s.joined
        tokens = [
            {"text": w, "start": a, "end": b, "id": i}
            for i, (w, (a, b)) in enumerate(zip(s.tokens, places, strict=True))
        ]
        spans = [
            {"start": c, "end": d, "token_start": a, "token_end": b - 1, "label": x}
            for (a, b, _), (c, d, x) in zip(s.spans, s.chars, strict=True)
        ]
        given = {"text": s.text, "_input_hash": n, "_task_hash": -n, "tokens": tokens, "spans": spans}
        return {**given, "answer": answer, "_view_id": "ner_manual", "_timestamp": 1700000000 + n}

    return make


def _prodigy_with_rejected(sentences: Sequence[Sentence]) -> Files:
    ((name, content),) = _lines(_prodigy())(sentences).items()
    more = _prodigy("reject")(99, Sentence(["Oslo", "."], [(0, 1, "PER")]))
    return {name: str(content) + json.dumps(more) + "\n"}


def _cluener(n: int, s: Sentence) -> Any:
    label: dict[str, Any] = {}
    for start, end, name in s.chars:
        label.setdefault(name, {}).setdefault(s.text[start:end], []).append([start, end - 1])
    return {"text": s.text, "label": label}


def _bigbio(n: int, s: Sentence) -> Any:
    entities = [
        {"id": f"{n}_{a}", "type": x, "text": [s.text[a:b]], "offsets": [[a, b]], "normalized": []}
        for a, b, x in s.chars
    ]
    passage = {"id": f"{n}_p", "type": "abstract", "text": [s.text], "offsets": [[0, len(s.text)]]}
    return {"id": str(n), "document_id": f"d{n}", "passages": [passage], "entities": entities, "relations": []}


def _bigbio_shifted(n: int, s: Sentence) -> Any:
    document = _bigbio(n, s)
    if n == 7:
        document["passages"][0]["offsets"] = [[1, len(s.text)]]
    return document


def _integers(n: int, s: Sentence) -> Any:
    return {"id": n, "tokens": s.tokens, "ner_tags": [LABELS.index(tag) for tag in s.tags]}


def _parquet(sentences: Sequence[Sentence]) -> Files:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_integers(n, s) for n, s in enumerate(sentences)]), out)
    return {"train.parquet": out.getvalue()}


def _doc_bin(sentences: Sequence[Sentence]) -> Files:
    from xner_ray.write import spacy

    rows = []
    for n, s in enumerate(sentences):
        text, places = s.joined
        offsets = [{"start": a, "end": b} for a, b in places]
        spans = [{"start": a, "end": b, "label": x, "score": 1.0} for a, b, x in s.spans]
        rows.append({"id": str(n), "text": text, "tokens": s.tokens, "offsets": offsets, "spans": spans})
    (content,) = spacy.write(rows)
    return {"a.spacy": content}


def _cut_off(sentences: Sequence[Sentence]) -> Files:
    return {name: content[: len(content) // 2] for name, content in _doc_bin(sentences).items()}


def _saved_again(message: str, files: Files) -> Files:
    assert "save it with DocBin.to_disk" in message
    return _doc_bin(SENTENCES)


# No entity of one word, which would show that ends are inclusive
_LONG_NAMES = [Sentence(s.tokens, [span for span in s.spans if span[1] - span[0] > 1]) for s in SENTENCES]


def _bad_tag(n: int, s: Sentence) -> Any:
    tags = s.tags[:-1] if n == 3 else s.tags
    return {"id": n, "tokens": s.tokens, "ner_tags": tags}


OBJECTS: list[Kind] = [
    Kind(
        1,
        "Label Studio, JSON",
        _array(_label_studio),
        "two texts in a task, of other names",
        _array(_label_studio_with_note),
        texts=True,
    ),
    Kind(
        1,
        "Label Studio, JSON_MIN, offsets in UTF-16",
        _array(_min),
        "spans of a task off its text",
        _array(_min_shifted),
        "line",
        texts=True,
    ),
    Kind(
        1,
        "GLiNER",
        _array(_gliner),
        "the recipe calls the ends exclusive",
        _array(_gliner),
        "without",
        given={"ends": "exclusive"},
    ),
    Kind(
        1,
        "spaCy annotator, JSON",
        _annotator,
        "a second list beside it",
        _two_lists,
        "file",
        mended=_one_list,
        texts=True,
    ),
    Kind(
        1,
        "CLUENER, ranges by label and text",
        _lines(_cluener),
        "a second list of spans",
        _lines(_with_second("mentions", _cluener)),
        texts=True,
    ),
    Kind(
        2,
        "doccano, before 1.5",
        _lines(_doccano_old),
        "a second list of spans",
        _lines(_with_second("mentions", _doccano_old)),
        texts=True,
    ),
    Kind(
        2,
        "doccano, today",
        _lines(_doccano),
        "a second list of spans",
        _lines(_with_second("label", _doccano)),
        texts=True,
    ),
    Kind(
        2,
        "Prodigy",
        _lines(_prodigy()),
        "all answers are rejected",
        _lines(_prodigy("reject")),
        texts=True,
    ),
    Kind(
        3,
        "JSONL, words and tags",
        _lines(lambda n, s: {"id": n, "tokens": s.tokens, "ner_tags": s.tags}),
        "a tag is missing",
        _lines(_bad_tag),
        "line",
    ),
    Kind(
        10,
        "spaCy DocBin (.spacy)",
        _doc_bin,
        "cut off",
        _cut_off,
        "file",
        mended=_saved_again,
        slow=True,
    ),
    Kind(
        11,
        "JSONL, tags as numbers",
        _lines(_integers),
        "no key names the numbers",
        keys={"labels": {"names": LABELS}},
        names=LABELS,
    ),
    Kind(
        11,
        "Parquet, tags as numbers",
        _parquet,
        "no key names the numbers",
        keys={"labels": {"names": LABELS}},
        names=LABELS,
    ),
    Kind(
        12,
        "JSONL, spans of token numbers",
        _lines(_token_numbers),
        "ends that nothing decides",
        lambda sentences: _lines(_token_numbers)(_LONG_NAMES),
        cured=_LONG_NAMES,
    ),
    Kind(
        12,
        "BigBio",
        _lines(_bigbio),
        "offsets of a passage off its text",
        _lines(_bigbio_shifted),
        "line",
        texts=True,
    ),
]
