"""CoNLL and UNER: a line a word, a blank line between sentences.

In CoNLL `#` may be a word. A line is a comment only before the first word of its sentence, and only if it is `#`
alone, reads `# key = value` (the key consists of words, so `# = O` is no comment), or starts with `# ` and has no tab
and at least three columns of which the last is no tag (`# made by us`). In UNER, where a number precedes each word,
every line with a leading `#` is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xner_ray.data.spans import Span, split_tag, tags_to_spans
from xner_ray.errors import Reason
from xner_ray.read.format import Format
from xner_ray.read.formats.lines import LONE_CR, block_pieces, blocks, decode
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, short

_COMMENT = re.compile(r"#\s*([A-Za-z][\w.:-]*(?: [\w.:-]+)*)(?:\s*=\s?(.*))?$")
_KEY_VALUE = re.compile(r"# [A-Za-z][\w.:-]*(?: [\w.:-]+)* *= ?")
_NO_WORD = re.compile(r"\d+[-.]\d+$")
_NO_NAME = {"-X-", "O", "-", "_", ""}


@dataclass(slots=True)
class Sentence:
    """The lines of one sentence, and what comments before it say."""

    lines: list[str]
    id: str | None = None
    text: str | None = None
    announced: bool = False  # by an id or a text: it is there, even without words
    fault: str = ""


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the sentences of a file."""
    state = _Documents(file, start)
    for offset, line, block in blocks(file, start, stop):
        place = Place(offset, line, state.doc_id, state.docs)
        text, valid = decode(block)
        found = _sentences(text.split("\n"), valid, place, state)
        if "\r" in text:
            list(found)  # the documents continue after it
            number = line + text.count("\n", 0, text.index("\r")) + 1
            yield Raw(place, number, Sentence([text], fault=LONE_CR), doc_id=place.doc_id)
        else:
            yield from found


class _Documents:
    """The document that the reader is in, and how many before had no id."""

    def __init__(self, file: File, start: Place) -> None:
        self.file, self.uner = file, file.format == "uner"
        self.doc_id, self.docs = start.doc_id, start.docs

    def begin(self, doc_id: str | None) -> None:
        if not doc_id:
            self.docs += 1
            doc_id = self.file.numbered(self.docs)
        self.doc_id = doc_id


def _sentences(lines: list[str], valid: bool, place: Place, state: _Documents) -> Iterator[Raw]:
    """Yield what stands between two blank lines: one sentence, or none, or several around a `-DOCSTART-`."""
    at: Place | None = place
    begin = 0
    marks = [] if state.uner else [number for number, line in enumerate(lines) if line.startswith("-DOCSTART-")]
    for end in [*marks, len(lines)]:
        raw = _sentence(lines[begin:end], place.line + begin + 1, valid, state)
        if raw is not None:
            raw.place, at = at, None  # reading from this place would not yield the next sentence first
            yield raw
        if end < len(lines):
            state.begin(_docstart_id(lines[end]))
        begin = end + 1


def _docstart_id(line: str) -> str | None:
    """Return the id after `-DOCSTART-`, in brackets or a column of its own, or None.

    >>> _docstart_id("-DOCSTART- (947testa CRICKET)"), _docstart_id("-DOCSTART- -X- O O")
    ('947testa CRICKET', None)
    """
    rest = line.removeprefix("-DOCSTART-").strip()
    if rest.startswith("(") and ")" in rest:
        return rest[1 : rest.rindex(")")].strip() or None
    named = [column for column in rest.split() if column not in _NO_NAME]
    return named[0] if len(named) == 1 else None


def _is_comment(line: str, uner: bool) -> bool:
    if uner or line.rstrip() == "#" or _KEY_VALUE.match(line):
        return True
    columns = line.split()
    return line.startswith("# ") and "\t" not in line and len(columns) >= 3 and not _is_tag(columns[-1])


def _is_tag(text: str) -> bool:
    try:
        split_tag(text)
    except ValueError:
        return False
    return True


def _sentence(lines: list[str], first: int, valid: bool, state: _Documents) -> Raw | None:
    """Return the lines of one sentence without its comments; `first` is the number of the first line.

    None for lines without a word; but a sentence that an id or a text announces is there, and empty.
    """
    found = Sentence(lines)
    comments = 0
    while comments < len(lines) and lines[comments].startswith("#") and _is_comment(lines[comments], state.uner):
        _note(lines[comments], found, state)
        comments += 1
    found.lines = lines[comments:]
    if not found.lines and not found.announced:
        return None
    return Raw(None, first + comments if found.lines else first, found, valid, state.doc_id)


def _note(line: str, sentence: Sentence, state: _Documents) -> None:
    """Note what a comment says."""
    found = _COMMENT.match(line)
    key, value = (found[1].lower(), (found[2] or "").strip()) if found else ("", "")
    if key in ("newdoc", "newdoc id"):
        state.begin(value)
    elif key == "doc_id" and value:
        state.doc_id = value
    elif key in ("id", "sent_id") and value:
        sentence.id, sentence.announced = value, True
    elif key == "text":
        sentence.text, sentence.announced = value or None, True


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    sentence: Sentence = raw.data
    made = Record(raw.line, sentence.id, raw.doc_id, text=sentence.text)
    if sentence.fault:
        made.text, made.reason, made.detail = sentence.lines[0], Reason.MALFORMED, sentence.fault
        return made
    try:
        words = _uner_words if file.format == "uner" else _conll_words
        made.tokens, tags, numbers = words(sentence.lines, raw.line)
        if tags is not None:
            made.spans, made.repaired = _spans(tags, numbers)
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
    if made.tokens is None and made.text is None:
        made.text = "\n".join(sentence.lines)
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def _spans(tags: Sequence[str], numbers: Sequence[int]) -> tuple[list[Span], int]:
    """Call `tags_to_spans`; BadRecord names the line of the first tag that is none."""
    if tags.count("O") == len(tags):
        return [], 0
    try:
        return tags_to_spans(tags)
    except ValueError as error:
        wrong = next(index for index, tag in enumerate(tags) if not _is_tag(tag))
        raise BadRecord(Reason.ILLEGAL_TAG, f"line {numbers[wrong]}: {error}") from None


Words = tuple[list[str], list[str] | None, Sequence[int]]  # words, their tags if they have any, their line numbers


def _conll_words(lines: list[str], first: int) -> Words:
    """Return the words, tags and line numbers of one sentence; BadRecord if its lines differ in their columns."""
    cells = [line.split("\t") for line in lines]
    if not cells:
        return [], [], []
    width = len(cells[0])
    if width < 2 or not cells[0][-1] or any(len(row) != width for row in cells) or any(" " in line for line in lines):
        cells = [_cells(line) for line in lines]
        width = len(cells[0])
    for number, row in enumerate(cells, start=first):
        if len(row) != width:
            problem = f"line {number} has {len(row)} columns, the lines before have {width}"
            raise BadRecord(Reason.MALFORMED, f"{problem}: {short(lines[number - first])}")
    tags = [row[-1] for row in cells] if width > 1 else None
    return [row[0] for row in cells], tags, range(first, first + len(cells))


def _cells(line: str) -> list[str]:
    """Cut a line into columns at tabs, or else at blanks; blanks at the ends of a column are cut off."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.rstrip(" \t").split("\t")]
    return [cell for cell in line.split(" ") if cell]


def _uner_words(lines: list[str], first: int) -> Words:
    """Read lines as `_conll_words` does, without ranges (`3-4`) and empty nodes (`5.1`), which are no words.

    Universal Dependencies allows white space inside a word (`5 000`), we do not: such a word becomes several words,
    and its tag covers them all, so the entities stay the same.
    """
    words: list[str] = []
    tags: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=first):
        cells = line.split("\t")
        if not cells[0].isdecimal() and _NO_WORD.match(cells[0]):
            continue
        if len(cells) < 3 or not cells[0].isdecimal():
            raise BadRecord(Reason.MALFORMED, f"line {number} is not number, word, tag between tabs: {short(line)}")
        word, tag = cells[1], cells[2].strip(" ")
        parts = word.split() or [word]
        words += parts
        tags += [tag, *(tag if tag == "O" else f"I-{tag[2:]}" for _ in parts[1:])]
        numbers += [number] * len(parts)
    return words, tags, numbers


CONLL = Format(raws, record, pieces=block_pieces)
