"""CoNLL and UNER: a line a word, a blank line between sentences.

Which columns hold words and tags, and how the tags are spelled, is found out (`read/word_lines`) or stated.

In CoNLL `#` may be a word. A line is a comment only before the first word of its sentence, and only if it is `#`
alone, reads `# key = value` (the key consists of words, so `# = O` is no comment) or `# id x`, starts with `# ` or
`% ` and has no tab and at least three columns of which the last is no tag (`# made by us`), is `#`, a tab and where
the sentence is from: an address, or a date in square brackets, or is one column that begins with `###`. Between words,
`# key = value` is one where words have tabs. In UNER and CoNLL-U, where a number precedes each word, every line with a
leading `#` is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import compress

from xner_ray.data.spans import split_tag
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled, Tagged
from xner_ray.read.formats.lines import LONE_CR, block_pieces, blocks, byte_lines, decode
from xner_ray.read.record import MOST_DIGITS, BadRecord, File, Place, Raw, Record, document_name, short
from xner_ray.read.word_lines.breaks import at_marks, cut_blocks
from xner_ray.read.word_lines.cells import Grid, Sentence, header_of, rows_of, usual_width
from xner_ray.read.word_lines.decide import decide
from xner_ray.read.word_lines.evidence import NO_WORD, Sentences
from xner_ray.read.word_lines.tags import spans_of

_COMMENT = re.compile(r"#\s*([A-Za-z][\w.:-]*(?: [\w.:-]+)*)(?:\s*=\s?(.*))?$")
_KEY_VALUE = re.compile(r"# [A-Za-z][\w.:-]*(?: [\w.:-]+)* *= ?")
_ID = re.compile(r"# id (\S+)((?:\t\S+=\S*)*)$")
_SOURCE = re.compile(r"#\t.*(?:\w://|\t\[[^\t]*\]$)")
_APART = re.compile(r"[ \t]\S")
_NO_NAME = {"-X-", "O", "-", "_", ""}


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the sentences of a file."""
    state = Documents(file, start)
    first = start.offset == 0
    marked = state.numbered or bool(file.reading.mark)
    for offset, line, block, cut in _blocks(file, start, stop):
        place = Place(offset, line, state.doc_id, state.docs)
        text, valid = decode(block)
        if not (first or marked or text[0] in "#%" or "\n#" in text or "-DOCSTART-" in text or "\r" in text):
            yield Raw(place, line + 1, Sentence(text, header=state.header, cut=cut), valid, state.doc_id)
            state.header = None
            continue
        lines = text.split("\n")
        state.between = "\n#" in text
        if first and not state.numbered and (header := header_of(lines[0], file)) is not None:
            state.header = header
            if file.reading.header:
                lines, line = lines[1:], line + 1
        first = False
        if "\r" in text:
            list(sentences_of(lines, valid, place, line, state))  # the documents continue after it
            number = line + text.count("\n", 0, text.index("\r")) + 1
            yield Raw(place, number, Sentence(text, fault=LONE_CR), doc_id=place.doc_id)
        else:
            for raw in sentences_of(lines, valid, place, line, state):
                raw.data.cut = cut
                yield raw


def _blocks(file: File, start: Place, stop: int | None) -> Iterator[tuple[int, int, bytes, bool]]:
    if file.sentences:
        return cut_blocks(file, byte_lines(file, start.offset), start.line, stop)
    return ((*block, False) for block in blocks(file, start, stop))


class Documents:
    """The document that the reader is in, and how many before had no id; the header that no sentence has yet."""

    def __init__(self, file: File, start: Place) -> None:
        self.file, self.numbered = file, file.format in ("uner", "conllu")
        self.doc_id, self.docs = start.doc_id, start.docs
        self.header: list[str] | None = None
        self.between = False  # comments may stand between words

    def begin(self, doc_id: str | None) -> None:
        if not doc_id:
            self.docs += 1
            doc_id = self.file.numbered(self.docs)
        self.doc_id = document_name(doc_id)


def sentences_of(lines: list[str], valid: bool, place: Place, line: int, state: Documents) -> Iterator[Raw]:
    """Yield what stands between two blank lines: one sentence, or none, or several around a `-DOCSTART-`.

    line: how many lines of the file are before them.
    """
    at: Place | None = place
    begin = 0
    marks = [] if state.numbered else [number for number, one in enumerate(lines) if one.startswith("-DOCSTART-")]
    for end in [*marks, len(lines)]:
        for raw in _sentences(lines[begin:end], line + begin + 1, valid, state):
            raw.place, at = at, None  # reading from this place would not yield the next sentence first
            yield raw
        if end < len(lines):
            state.begin(_docstart_id(lines[end]))
        begin = end + 1


def _sentences(lines: list[str], first: int, valid: bool, state: Documents) -> Iterator[Raw]:
    """Yield one sentence, or none, or those that a mark in the last column parts."""
    raw = _sentence(lines, first, valid, state)
    if raw is None:
        return
    raw.data.header, state.header = state.header, None
    mark = state.file.reading.mark
    if not mark or mark not in raw.data.body:
        yield raw
        return
    sentence: Sentence = raw.data
    lines = sentence.lines
    numbers = sentence.numbers or range(raw.line, raw.line + len(lines))
    begin = 0
    for end in at_marks(lines, mark):
        data = Sentence("\n".join(lines[begin:end]), numbers=numbers[begin:end], header=sentence.header)
        yield Raw(None, numbers[begin], data, valid, raw.doc_id)
        sentence.header, begin = None, end


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


def _is_comment(line: str, numbered: bool) -> bool:
    if (
        numbered
        or line.rstrip() == "#"
        or _KEY_VALUE.match(line)
        or (line.startswith("###") and not _APART.search(line))
    ):
        return True
    if "\t" in line:
        return (_ID.match(line) or _SOURCE.match(line)) is not None and not _is_tag(line.rpartition("\t")[2])
    columns = line.split()
    if _is_tag(columns[-1]) or columns[0] not in "#%":
        return False
    return len(columns) >= 3 or columns == ["#", "id", columns[-1]]


def _is_tag(text: str) -> bool:
    try:
        split_tag(text)
    except ValueError:
        return False
    return True


def _sentence(lines: list[str], first: int, valid: bool, state: Documents) -> Raw | None:
    """Return the lines of one sentence without its comments; `first` is the number of the first line.

    None for lines without a word; but a sentence that an id or a text announces is there, and empty.
    """
    found = Sentence("")
    comments = 0
    while (
        comments < len(lines)
        and lines[comments].startswith(("#", "%"))
        and _is_comment(lines[comments], state.numbered)
    ):
        _note(lines[comments], found, state)
        comments += 1
    rest = lines[comments:]
    if not rest and not found.announced:
        return None
    if state.between and rest and "\t" in rest[0]:
        words = [state.numbered or not _KEY_VALUE.match(line) or "\t" in line for line in rest]
        found.numbers = list(compress(range(first + comments, first + len(lines)), words))
        rest = list(compress(rest, words))
    found.body = "\n".join(rest)
    return Raw(None, first + comments if rest else first, found, valid, state.doc_id)


def _note(line: str, sentence: Sentence, state: Documents) -> None:
    """Note what a comment says."""
    if (named := _ID.match(line)) is not None:
        sentence.id, sentence.announced = named[1], True
        return
    found = _COMMENT.match(line)
    key, value = (found[1].lower(), (found[2] or "").strip()) if found else ("", "")
    if key in ("newdoc", "newdoc id"):
        state.begin(value)
    elif key in ("doc_id", "document_id", "hipe2022:document_id") and value:
        state.doc_id = document_name(value)
    elif key in ("id", "sent_id") and value:
        sentence.id, sentence.announced = value, True
    elif key == "text":
        sentence.text, sentence.announced = value or None, True


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    sentence: Sentence = raw.data
    made = Record(raw.line, sentence.id, raw.doc_id, text=sentence.text)
    if sentence.fault:
        made.text, made.reason, made.detail = sentence.body, Reason.MALFORMED, sentence.fault
        return made
    try:
        words = _uner_words if file.format == "uner" else _conll_words
        made.tokens, tags, numbers = words(sentence, _numbers(raw), file)
        if tags is not None:
            made.spans, made.repaired = spans_of(tags, numbers, file.reading.style)
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
    if made.tokens is None and made.text is None:
        made.text = sentence.body
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def tagged(raw: Raw, file: File) -> Tagged | None:
    """Return words and tags of a sentence without a text and a fault; see `Format.tagged`."""
    sentence: Sentence = raw.data
    if sentence.fault or sentence.text is not None or not raw.valid or file.format == "uner":
        return None
    try:
        words, tags, _ = _conll_words(sentence, _numbers(raw), file)
    except BadRecord:
        return None
    return Tagged(words, tags, sentence.id, raw.doc_id)


def _numbers(raw: Raw) -> Sequence[int]:
    """Return the line numbers of a sentence's words."""
    return raw.data.numbers or range(raw.line, raw.line + raw.data.body.count("\n") + 1)


Words = tuple[list[str], list[str] | None, Sequence[int]]  # words, their tags if they have any, their line numbers


def _conll_words(sentence: Sentence, numbers: Sequence[int], file: File) -> Words:
    """Return the words, tags and line numbers of one sentence; BadRecord if its lines differ in their columns."""
    if not sentence.body:
        return [], [], []
    reading, grid = file.reading, sentence.columns()
    if not grid or (reading.width is not None and len(grid) != reading.width) or len(grid) <= reading.tokens:
        _refuse_width(sentence, numbers, reading.width)
    if reading.number is not None:
        grid, numbers = _counted(grid, numbers, reading.number)
    words = grid[reading.tokens]
    if reading.prefix:
        words = [word.removeprefix(reading.prefix) for word in words]
    if reading.tags is not None and len(grid) <= reading.tags:
        _refuse_width(sentence, numbers, reading.tags + 1)
    tags = grid[reading.tags] if reading.tags is not None and len(grid) > 1 else None
    if tags is not None and reading.names is not None:
        tags = _named(tags, numbers, reading.names)
    return words, tags, numbers


def _refuse_width(sentence: Sentence, numbers: Sequence[int], width: int | None) -> None:
    """BadRecord that names the first line with another number of columns than the file has, or else its sentence."""
    lines = sentence.lines
    rows = rows_of(lines)
    usual = width if width is not None else usual_width(rows)
    place = next(place for place, row in enumerate(rows) if len(row) != usual)
    found = f"{len(rows[place])} column{'s' if len(rows[place]) != 1 else ''}"
    whose = "the file's lines" if width is not None else "the other lines of its sentence"
    raise BadRecord(Reason.MALFORMED, f"line {numbers[place]} has {found}, {whose} have {usual}: {short(lines[place])}")


def _counted(grid: Grid, numbers: Sequence[int], column: int) -> tuple[Grid, Sequence[int]]:
    """Leave out ranges (3-4) and empty nodes (5.1), which are no words."""
    if all(map(str.isdecimal, grid[column])):
        return grid, numbers
    words = [not NO_WORD.match(cell) for cell in grid[column]]
    return [list(compress(cells, words)) for cells in grid], list(compress(numbers, words))


def _named(tags: Sequence[str], numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the names of tags that are numbers; BadRecord for another."""
    found = []
    for tag, number in zip(tags, numbers, strict=True):
        if not tag.isdecimal() or len(tag) > MOST_DIGITS or int(tag) >= len(names):
            problem = f"illegal tag {short(tag)}; input.labels.names has 0 to {len(names) - 1}"
            raise BadRecord(Reason.ILLEGAL_TAG, f"line {number}: {problem}")
        found.append(names[int(tag)])
    return found


def _uner_words(sentence: Sentence, lines: Sequence[int], file: File) -> Words:
    """Read lines as `_conll_words` does, without ranges (`3-4`) and empty nodes (`5.1`), which are no words.

    Universal Dependencies allows white space inside a word (`5 000`), we do not: such a word becomes several words,
    and its tag covers them all, so the entities stay the same.
    """
    words: list[str] = []
    tags: list[str] = []
    numbers: list[int] = []
    for number, line in zip(lines, sentence.lines, strict=True) if sentence.body else ():
        cells = line.split("\t")
        if not cells[0].isdecimal() and NO_WORD.match(cells[0]):
            continue
        if len(cells) < 3 or not cells[0].isdecimal():
            raise BadRecord(Reason.MALFORMED, f"line {number} is not number, word, tag between tabs: {short(line)}")
        word, tag = cells[1], cells[2].strip(" ")
        parts = word.split() or [word]
        words += parts
        tags += [tag, *(tag if tag == "O" else f"I-{tag[2:]}" for _ in parts[1:])]
        numbers += [number] * len(parts)
    return words, tags, numbers


class ConllEvidence:
    """What the sentences of a file show of its columns; UNER has fixed ones."""

    def __init__(self, file: File) -> None:
        self.found = Sentences()
        self.fixed = file.format == "uner"

    def add(self, raw: Raw) -> None:
        if not self.fixed:
            self.found.add(raw.data)

    def merge(self, later: ConllEvidence) -> None:
        self.found.merge(later.found)

    def settle(self, file: File) -> Settled:
        if not self.fixed:
            return Settled(*decide(self.found, file))
        stated = [f"columns.{name}" for name in ("tokens", "tags") if file.columns.stated(name)]
        if stated := [*stated, *(["scheme"] if file.stated.scheme else [])]:
            raise InputError(
                f"{file.path}: input.{stated[0]}: UNER has number, word, tag in columns of its own, and IOB2; leave it "
                "out, or set input.format: conll"
            )
        return Settled(file.reading)


def _pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return where a file may be cut; without blank lines nowhere, as quotes open and close over any byte."""
    return [] if file.sentences else block_pieces(file, wanted)


CONLL = Format(raws, record, ConllEvidence, _pieces, tagged)
