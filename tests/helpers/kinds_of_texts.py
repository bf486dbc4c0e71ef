"""Kinds of texts with entities: brat, marks inside text, a sentence a row of a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from kinds import SENTENCES, Files, Kind, Sentence, Write, with_line


def _brat(sentences: Sequence[Sentence]) -> Files:
    """Four documents of ten sentences; offsets count the document."""
    files: Files = {}
    for number in range(4):
        text, lines = "", []
        for s in sentences[10 * number : 10 * number + 10]:
            for start, end, label in s.chars:
                a, b = len(text) + start, len(text) + end
                lines.append(f"T{len(lines) + 1}\t{label} {a} {b}\t{s.text[start:end]}\n")
            text += s.text + "\n"
        files |= {f"d{number}.txt": text, f"d{number}.ann": "".join(lines)}
    return files


def _brat_alone(sentences: Sequence[Sentence]) -> Files:
    return {name: content for name, content in _brat(sentences).items() if name != "d2.txt"}


def _beside(message: str, files: Files) -> Files:
    assert "d2.txt" in message
    return _brat(SENTENCES)


def _inline(mark: Callable[[str, str], str]) -> Write:
    def write(sentences: Sequence[Sentence]) -> Files:
        lines = []
        for s in sentences:
            text = s.text
            for start, end, label in reversed(s.chars):
                text = text[:start] + mark(text[start:end], label) + text[end:]
            lines.append(text + "\n")
        return {"a.txt": "".join(lines)}

    return write


_MARKDOWN = _inline(lambda name, label: f"[{name}]({label})")
_TAGS = _inline(lambda name, label: f"<{label}>{name}</{label}>")


def _rows(sentences: Sequence[Sentence]) -> Files:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [["text", "entities"], *([s.text, json.dumps(s.chars, ensure_ascii=False)] for s in sentences)]
    )
    return {"a.csv": out.getvalue()}


def _two_texts(sentences: Sequence[Sentence]) -> Files:
    out = io.StringIO()
    rows = [[s.text, "A note on it.", json.dumps(s.chars, ensure_ascii=False)] for s in sentences]
    csv.writer(out, lineterminator="\n").writerows([["original", "remark", "entities"], *rows])
    return {"a.csv": out.getvalue()}


TEXTS: list[Kind] = [
    Kind(7, "CSV, a sentence a row", _rows, "two texts a row, of other names", _two_texts, texts=True),
    Kind(
        8,
        "brat standoff",
        _brat,
        "a document's text is missing",
        _brat_alone,
        "file",
        keys={"split": "sentences"},
        given={"split": "sentences"},
        mended=_beside,
        texts=True,
    ),
    Kind(
        15,
        "Marks: [Nora](PER)",
        _MARKDOWN,
        "a mark is not closed",
        with_line(_MARKDOWN, 3, lambda line: line.replace("](", "(", 1)),
        "line",
        texts=True,
    ),
    Kind(
        15,
        "Marks: <PER>Nora</PER>",
        _TAGS,
        "a mark is not closed",
        with_line(_TAGS, 3, lambda line: line.replace("</LOC>", "", 1)),
        "line",
        texts=True,
    ),
]
