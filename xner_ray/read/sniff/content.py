"""Tell formats apart by content: what the first records of a file look like."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xner_ray.read.sniff.tags import SENTENCE_NAMES, TAG_NAMES, WORD_NAMES, are_tags

if TYPE_CHECKING:
    from xner_ray.read.record import Kind

HEAD_BYTES = 1 << 16
MARKS = {  # of entities inside text, by how they are shown to users
    "[text](LABEL)": re.compile(r"\[[^\[\]\n]+\](?:\([A-Za-z_][\w-]*(?::(?!//)[^()\n]*)?\)|\{\"entity\")"),
    "[LABEL text]": re.compile(r"\[[A-Z][A-Z0-9_-]* [^\[\]\n]+\]"),
    "<LABEL>text</LABEL>": re.compile(r"<([A-Za-z][\w.-]*)(?:\s[^<>\n]*)?>[^<>\n]*</\1>"),
    "{{LABEL:text}}": re.compile(r"\{\{[A-Za-z][\w-]*:[^{}\n]+\}\}"),
    "<START:LABEL> text <END>": re.compile(r"<START:[^<>\s]+>[^<>\n]+<END>"),
}
ELEMENTS = "<LABEL>text</LABEL>"
SLASHED = {"word/TAG": "/", "word|TAG": "|"}  # every word with its tag
# Elements that lay out a text, and mark no entities
LAYOUT = re.compile("a|b|i|u|s|p|q|em|tt|br|hr|li|ul|ol|td|tr|th|h[1-6]|su[bp]|div|span|strong|font|small|sent(ence)?")
NUMBERED = re.compile(r"([0-9]{1,18})\t")
_BRAT = re.compile(r"[TREAMN*][0-9]*\t\S+ ")
_WORD_NUMBER = re.compile(r"[0-9]+(?:[-.][0-9]+)?")
_HEAD = re.compile(r"[0-9]+|_")
_SURE_LINES = 3
_ONE = "holds one JSON object"


@dataclass(frozen=True, slots=True)
class Looks:
    """What a file looks like. what: the predicate of a sentence about it. sure: not meant as anything else."""

    kind: Kind
    what: str
    sure: bool = True


def looks(head: bytes, *, whole: bool) -> Looks | None:
    """Return what the first bytes of a file look like; None if that is nothing that has a sign of its own.

    whole: whether they are all of it.
    """
    text = head.decode("utf-8-sig", errors="replace")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if not whole and len(lines) > 1:
        lines.pop()
    filled = [line for line in lines if line.strip()]
    if not filled:
        return None
    if filled[0].startswith("#FORMAT=WebAnno TSV"):
        return Looks("webanno", "begins with #FORMAT=WebAnno TSV")
    if any(line.startswith("#begin document") for line in filled[:20]):
        return Looks("conll2012", "has lines with #begin document")
    found = _as_json(text.lstrip(), filled, whole)
    return (
        found or _as_words(lines) or _as_table(filled) or _as_marks(filled) or _as_slashed(filled) or _as_cells(filled)
    )


def tell(head: bytes, *, whole: bool, named: Kind | None, stated: Kind | None) -> tuple[Kind | None, str]:
    """Return the format of a file, and what is to be said of it: nothing where its content agrees with its name.

    named: the format that its ending names. stated: the one that the recipe states. None where neither says.
    ValueError, with what it looks like and what to set, where content contradicts, or another reading fits as well.
    """
    found = looks(head, whole=whole)
    if found is None or stated == "text" or (named or stated) in _NEVER:
        return stated or named, ""
    if stated is not None:
        signed = found.kind in _SIGNED or stated in _SIGNED
        if found.sure and signed and not _agrees(stated, found):
            raise ValueError(f"is read as {stated}, but {found.what}; set {{key}}: {found.kind}")
        return stated, ""
    if named is not None and (_agrees(named, found) or not (found.sure or named == "text")):
        return named, ""
    if not found.sure:
        other = named or "text"
        raise ValueError(f"may be {other} or {found.kind}: it {found.what}; set {{key}}: {other}, or {found.kind}")
    return found.kind, f"read as {found.kind}: it {found.what}"


_SIGNED = ("json", "jsonl", "webanno", "conll2012")
_NEVER = ("brat", "links", "run", "parquet", "dataset", "spacy")
_ALSO: dict[Kind, tuple[Kind, ...]] = {"conll": ("uner", "table"), "table": ("inline",)}


def _agrees(kind: Kind, found: Looks) -> bool:
    return kind == found.kind or found.kind in _ALSO.get(kind, ()) or (kind == "json" and found.what == _ONE)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _as_json(text: str, filled: Sequence[str], whole: bool) -> Looks | None:
    if text[0] not in "[{":
        return None
    rows = [_parsed(line) for line in filled[:3]]
    if len(rows) > 1 and all(isinstance(row, type(rows[0])) for row in rows) and isinstance(rows[0], dict | list):
        return Looks("jsonl", f"has a JSON {'object' if isinstance(rows[0], dict) else 'list'} on each line")
    if isinstance(rows[0], dict):
        return Looks("jsonl", "has a JSON object on its first line" if len(rows) > 1 else _ONE)
    array = text[0] == "["
    rest = text[1:].lstrip() if array else text
    try:
        value = json.JSONDecoder().raw_decode(rest)[0]
    except (ValueError, RecursionError):
        # Cut off where the head ends, or no JSON at all
        if whole or re.match(r'\[\s*[\[{]\s*["\[{]' if array else r'\{\s*\n\s*"', text) is None:
            return None
        value = {}
    if isinstance(value, dict | list):
        return Looks("json", "holds a JSON array" if array else "holds one JSON object over several lines")
    return None


def _cells(lines: Sequence[str]) -> list[list[str]]:
    counts = {line.count("\t") for line in lines}
    if len(counts) == 1 and min(counts) > 1:  # without columns that are empty in all lines
        rows = [[cell.strip(" ") for cell in line.split("\t")] for line in lines]
        while rows[0] and not any(row[-1] for row in rows):
            rows = [row[:-1] for row in rows]
        return rows
    tabs = sum("\t" in line for line in lines) >= 0.9 * len(lines)
    return [[cell.strip(" ") for cell in line.rstrip("\t ").split("\t")] if tabs else line.split() for line in lines]


def _as_words(lines: Sequence[str]) -> Looks | None:
    """Tell files with a word a line by a column of tags."""
    kept = [line for line in lines if not line.startswith(("#", "-DOCSTART-", "% "))]
    words = [line for line in kept if line.strip()]
    if not words:
        return None
    cells = _cells(words)
    width = Counter(map(len, cells)).most_common(1)[0][0]
    even = [row for row in cells if len(row) == width]
    if width == 1:
        return _as_lone_words(kept, words)
    if len(even) < 0.9 * len(cells):
        return None
    if width == 10 and all(_WORD_NUMBER.fullmatch(row[0]) and _HEAD.fullmatch(row[6]) for row in even):
        return Looks("conllu", "has the ten columns of CoNLL-U")
    body = even[1:] if len(even) > 1 and not _tag_columns(even[:1], False) else even  # without a header
    tags = _tag_columns(body, len(body) >= _SURE_LINES)
    if not tags:
        return None
    gaps = any(not line.strip() for line in kept[: len(kept) - 1])
    header = {cell.lower() for cell in even[0]}
    if not gaps and body is not even and (header & TAG_NAMES or any(map(SENTENCE_NAMES.fullmatch, header))):
        return Looks("table", "has a line with the names of columns, and no blank lines")
    if tags == [2] and all("\t" in line for line in words) and _counts([line.split("\t")[0] for line in kept]):
        return Looks("uner", "has the number of a word, the word and its tag on each line")
    return Looks("conll", "has a word and its tag on each line", len(body) >= _SURE_LINES)


def _tag_columns(rows: Sequence[Sequence[str]], bare: bool) -> list[int]:
    """Return the columns behind the first that hold tags."""
    width = len(rows[0]) if rows else 0
    return [number for number in range(1, width) if are_tags([row[number] for row in rows], bare=bare)]


def _as_lone_words(kept: Sequence[str], words: Sequence[str]) -> Looks | None:
    """Tell a column of words, which has lines of punctuation alone and blank lines, from sentences without blanks."""
    gaps = sum(not line.strip() for line in kept[:-1])
    points = sum(len(line.strip()) == 1 and not line.strip().isalnum() for line in words)
    if len(words) >= 8 and gaps and points >= 2 and max(map(len, words)) <= 40:
        return Looks("conll", "has one word on each line, and blank lines", sure=False)
    return None


def _counts(numbers: Sequence[str]) -> bool:
    """Return whether numbers count the lines of each block from 1."""
    want, seen = 1, 0
    for cell in numbers:
        if cell.isdecimal():
            if (number := int(cell[:18])) not in (want, 1):
                return False
            want, seen = number + 1, seen + 1
        elif cell.strip() and not _WORD_NUMBER.fullmatch(cell):
            return False
    return seen > 0


def _as_table(filled: Sequence[str]) -> Looks | None:
    """Tell tables by a first line with names of columns as they are usual."""
    for mark in "\t,;|":
        names = {cell.strip().strip('"').lower() for cell in filled[0].split(mark)}
        if len(names) > 1 and names & WORD_NAMES and names & TAG_NAMES and len(filled) > 1:
            return Looks("table", "has a line with the names of columns")
    return None


def marks_in(text: str) -> list[str]:
    """Return the styles of MARKS that a text has."""
    found = []
    for style, pattern in MARKS.items():
        if style == ELEMENTS:
            if "</" in text and any(not LAYOUT.fullmatch(m[1].lower()) for m in pattern.finditer(text)):
                found.append(style)
        elif style[0] in text and pattern.search(text):
            found.append(style)
    return found


def _as_marks(filled: Sequence[str]) -> Looks | None:
    styles = Counter(style for line in filled[:500] for style in marks_in(line))
    for style, count in styles.most_common(1):
        if count >= 2 and count >= 0.2 * min(len(filled), 500):
            return Looks("inline", f"has entities marked as {style}")
    return None


def slashed(line: str, mark: str) -> list[tuple[str, str]] | None:
    """Return the words of a line with their tags; None if one has none.

    >>> slashed("Nora/B-PER 1/2/O", "/"), slashed("and/or", "/"), slashed("Nora went/O", "/")
    ([('Nora', 'B-PER'), ('1/2', 'O')], [('and', 'or')], None)
    """
    parts = [part.rpartition(mark) for part in line.split()]
    return [(word, tag) for word, _, tag in parts] if parts and all(word and tag for word, _, tag in parts) else None


def _as_slashed(filled: Sequence[str]) -> Looks | None:
    """Tell lines of words that all have a tag behind them."""
    lines = filled[:500]
    for style, mark in SLASHED.items():
        found = [pairs for line in lines if (pairs := slashed(line, mark))]
        tags = [tag for pairs in found for _, tag in pairs]
        if len(found) >= 0.9 * len(lines) and len(tags) > len(lines) and are_tags(tags, bare=True):
            return Looks("inline", f"has words with their tags as {style}")
    return None


def _as_cells(filled: Sequence[str]) -> Looks | None:
    """Tell lines of columns from text: every line has the same number of tabs."""
    tabs = {line.count("\t") for line in filled}
    if len(filled) < _SURE_LINES or len(tabs) != 1 or tabs == {0}:
        return None
    if all(map(_BRAT.match, filled)):
        return Looks("brat", "holds annotations of brat, which stand beside the text")
    numbers = [found[1] for line in filled if (found := NUMBERED.match(line))]
    if tabs == {1} and len(numbers) == len(filled) and int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1:
        return None  # lines with their numbers
    return Looks("table", f"has {tabs.pop() + 1} columns between tabs on each line", sure=False)
