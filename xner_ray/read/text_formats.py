"""Formats of lines: CoNLL, UNER, JSONL, text, links. Read as a stream, from any byte at which a sentence starts.

Lines end at LF or CRLF and nowhere else (U+2028 and its like are characters of the text); a BOM is skipped. A CR
inside a line is an error: a file without any LF is refused, elsewhere the row is malformed.

In CoNLL `#` may be a word. A line is a comment only before the first word of its sentence, and only if it is `#`
alone, reads `# key = value` (the key consists of words, so `# = O` is no comment), or starts with `# ` and has no tab
and at least three columns of which the last is no tag (`# made by us`). In UNER, where a number precedes each word,
every line with a leading `#` is a comment.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xner_ray.data.arrow import Ints
from xner_ray.data.spans import split_tag
from xner_ray.errors import InputError, Reason
from xner_ray.read import record as reading
from xner_ray.read.record import BadRecord, File, Place, Reader, Record, short
from xner_ray.storage import files as storage

_CHUNK_BYTES = 1 << 20
_LONGEST_BYTES = 1 << 26  # of a line, or a sentence
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_BLANK_LINES = re.compile(rb"(?:[ \t\r]*\n)+")
_GAP = re.compile(rb"\n(?:[ \t\r]*\n)+")
_LINE_END = re.compile(rb"\r+\n")
_LINK = re.compile(r"[0-9]{1,9}-[0-9]{1,9}")
_LINKS = re.compile(rf"[ \t]*(?:{_LINK.pattern}(?:[ \t]+|\Z))*")
_LINK_LINES = re.compile(rf"(?:[ \t]*+(?:{_LINK.pattern}(?:[ \t]++|(?=\n)))*+\n)*+".encode())
_NUMBER = re.compile(r"[0-9]+")
_NOT_BLANK = re.compile(r"[^ \t]+")
_LONE_CR = "carriage returns (CR) stand alone; lines must end with LF or CRLF"
_COMMENT = re.compile(r"#\s*([A-Za-z][\w.:-]*(?: [\w.:-]+)*)(?:\s*=\s?(.*))?$")
_KEY_VALUE = re.compile(r"# [A-Za-z][\w.:-]*(?: [\w.:-]+)* *= ?")
_NO_WORD = re.compile(r"\d+[-.]\d+$")
_NO_NAME = {"-X-", "O", "-", "_", ""}


def _chunks(file: File, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, bytes) from `offset` on, without a BOM; InputError if the file cannot be read."""
    filesystem, inner = storage.locate(file.path)
    zipped = file.ends_with(".gz")
    try:
        with filesystem.open_input_file(inner) as source:
            if not zipped:
                source.seek(offset)
            stream = gzip.GzipFile(fileobj=source) if zipped else source
            while chunk := stream.read(_CHUNK_BYTES):
                if offset == 0 and chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise InputError(f"{file.path}: is UTF-16; convert it to UTF-8, as with iconv -f utf-16 -t utf-8")
                if offset == 0 and b"\n" not in chunk and b"\r" in chunk.rstrip(b"\r"):
                    raise InputError(f"{file.path}: {_LONE_CR}; convert it, as with tr '\\r' '\\n'")
                bom = len(_BOM) if offset == 0 and chunk.startswith(_BOM) else 0
                yield offset + bom, chunk[bom:]
                offset += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise storage.failure(file.path, "read", error, InputError) from None


def byte_lines(file: File, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, line without its end) from the byte `start` on."""
    rest = b""
    at = start
    for offset, chunk in _chunks(file, start):
        if not rest:
            at = offset
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield at, line.rstrip(b"\r")
            at += len(line) + 1
        if len(rest) > _LONGEST_BYTES:
            raise InputError(f"{file.path}: a line is longer than {_LONGEST_BYTES >> 20} MiB; not {file.format}")
    if rest:
        yield at, rest.rstrip(b"\r")


def decode(raw: bytes) -> tuple[str, bool]:
    """Return the text, with replacement characters where it was not UTF-8, and whether it was UTF-8."""
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), False


def read_text(file: File, start: Place) -> Reader:
    """Read every line as a sentence, blank lines too, so that line i stays parallel to line i of another file."""
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset), start=start.line + 1):
        text, valid = decode(raw)
        if file.sentences and not text.strip():
            continue  # a blank line between paragraphs is no sentence
        record = Record(number, text=text)
        if "\r" in text:
            record.reason, record.detail = Reason.MALFORMED, _LONE_CR
        if not valid:
            record.reason, record.detail = Reason.BAD_UTF8, "not UTF-8"
        yield Place(offset, number - 1), record


def read_links(file: File, start: Place) -> Reader:
    """Read every line as the links of one sentence, `i-j i-j ...`; an empty line has none."""
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset), start=start.line + 1):
        yield Place(offset, number - 1), link_record(number, raw)


def link_record(number: int, raw: bytes) -> Record:
    """Return the record of one line of links."""
    text, _ = decode(raw)
    record = Record(number, text=text)
    if not _LINKS.fullmatch(text):
        wrong = next(part for part in _NOT_BLANK.findall(text) if not _LINK.fullmatch(part))
        record.reason = Reason.MALFORMED
        record.detail = f"{short(wrong)} is not a link; allowed: i-j between blanks, word numbers from 0"
    return record


def link_pairs(record: Record, n_source: int, n_target: int) -> list[tuple[int, int]]:
    """Return (source word, target word) of every link of a record; BadRecord if a link leaves the words."""
    if record.reason is not None:
        raise BadRecord(record.reason, record.detail)
    numbers = [int(number) for number in _NUMBER.findall(record.text or "")]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if pairs and (max(numbers[::2]) >= n_source or max(numbers[1::2]) >= n_target):
        source, target = next((source, target) for source, target in pairs if source >= n_source or target >= n_target)
        problem = f"link {source}-{target} leaves the {n_source} words of the source side"
        allowed = f"0 to {n_source - 1} (source) and 0 to {n_target - 1} (target)"
        raise BadRecord(Reason.MALFORMED, f"{problem} or the {n_target} of the target side; allowed: {allowed}")
    return pairs


def link_columns(lines: Sequence[bytes]) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Return row, source word, target word of every link, and the rows that are no line of links; those have none."""
    bad = np.zeros(len(lines), bool)
    if not _LINK_LINES.fullmatch(b"\n".join([*lines, b""])):
        bad = np.array([not _LINK_LINES.fullmatch(line + b"\n") for line in lines])
        lines = [b"" if wrong else line for line, wrong in zip(lines, bad, strict=True)]
    numbers = np.fromstring(b" ".join(lines).decode().replace("-", " "), dtype=np.int64, sep=" ")
    return np.repeat(np.arange(len(lines)), [line.count(b"-") for line in lines]), numbers[::2], numbers[1::2], bad


def read_jsonl(file: File, start: Place) -> Reader:
    """Read every line that is not blank as an object.

    Keys that are no columns of ours are carried: all as one JSON text, or each that `file.carry` names, text as it
    is, any other value as JSON, null if missing.
    """
    columns = file.columns
    known = {getattr(columns, name) for name in type(columns).model_fields}
    for number, (offset, raw) in enumerate(byte_lines(file, start.offset), start=start.line + 1):
        if not raw.strip():
            continue
        text, valid = decode(raw)
        try:
            data = json.loads(text, parse_constant=_no_constant)
            if not isinstance(data, dict):
                raise TypeError(f"a line of JSONL is an object, this is {type(data).__name__}")
        except TypeError as error:
            record = Record(number, text=text, reason=Reason.MALFORMED, detail=str(error))
        except (ValueError, RecursionError) as error:
            record = Record(number, text=text, reason=Reason.MALFORMED, detail=f"not JSON: {error}")
        else:
            record = reading.from_mapping(data, columns, number)
            if file.carry is not None:
                record.extra = {name: _carried_text(data[name]) for name in file.carry if name in data}
            elif rest := {key: value for key, value in data.items() if key not in known}:
                record.extra = _json(rest)
        if not valid:
            record.reason, record.detail = Reason.BAD_UTF8, "not UTF-8"
        yield Place(offset, number - 1), record


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _carried_text(value: Any) -> str | None:
    return reading.without_surrogates(value) if isinstance(value, str) else None if value is None else _json(value)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    # Half a surrogate pair is legal in JSON's escapes only.
    return json.dumps(value, sort_keys=True) if reading.SURROGATES.search(text) else text


def read_conll(file: File, start: Place) -> Reader:
    """Read sentences of CoNLL and UNER: a line a word, a blank line between sentences."""
    state = _Documents(file, start)
    for offset, line, block in _blocks(file, start):
        place = Place(offset, line, state.doc_id, state.docs)
        text, valid = decode(block)
        records = _sentences(text.split("\n"), valid, place, state)
        if "\r" in text:
            list(records)  # the documents continue after it
            number = line + text.count("\n", 0, text.index("\r")) + 1
            yield place, Record(number, text=text, doc_id=place.doc_id, reason=Reason.MALFORMED, detail=_LONE_CR)
        else:
            yield from records


def _blocks(file: File, start: Place) -> Iterator[tuple[int, int, bytes]]:
    """Yield (byte offset, lines before it, lines) of each block between blank lines; no block is empty."""
    line = start.line
    rest = b""
    at = start.offset
    for offset, chunk in _chunks(file, start.offset):
        if not rest:
            at = offset
        rest += chunk
        begin = 0
        if leading := _BLANK_LINES.match(rest):  # only at the start of the file
            begin = leading.end()
            line += rest.count(b"\n", 0, begin)
        for gap in _GAP.finditer(rest, begin):
            if gap.end() == len(rest):
                break  # the gap may continue in the next chunk
            yield at + begin, line, _unix(rest[begin : gap.start()])
            line += rest.count(b"\n", begin, gap.end())
            begin = gap.end()
        at, rest = at + begin, rest[begin:]
        if len(rest) > _LONGEST_BYTES:
            raise InputError(f"{file.path}: no blank line in {_LONGEST_BYTES >> 20} MiB; not {file.format}")
    if rest := rest.rstrip(_BLANKS):
        yield at, line, _unix(rest)


def _unix(block: bytes) -> bytes:
    return _LINE_END.sub(b"\n", block).rstrip(b"\r") if b"\r" in block else block


class _Documents:
    """The document that the reader is in, and how many before had no id."""

    def __init__(self, file: File, start: Place) -> None:
        self.file, self.uner = file, file.format == "uner"
        self.doc_id, self.docs = start.doc_id, start.docs

    def begin(self, doc_id: str | None) -> None:
        if not doc_id:
            self.docs += 1
            doc_id = f"{self.file.stem}-{self.docs}"
        self.doc_id = doc_id


def _sentences(lines: list[str], valid: bool, place: Place, state: _Documents) -> Reader:
    """Yield the records of the lines between two blank ones: one, or none, or several around a `-DOCSTART-`."""
    at: Place | None = place
    begin = 0
    marks = [] if state.uner else [number for number, line in enumerate(lines) if line.startswith("-DOCSTART-")]
    for end in [*marks, len(lines)]:
        record = _sentence(lines[begin:end], place.line + begin + 1, valid, state)
        if record is not None:
            yield at, record
            at = None  # reading from this place would not yield the next sentence first
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


def _sentence(lines: list[str], first: int, valid: bool, state: _Documents) -> Record | None:
    """Return the record of the lines of one sentence; `first` is the number of the first line.

    None for lines without a word; but a sentence that an id or a text announces is there, and empty.
    """
    record = Record(first)
    announced = False
    comments = 0
    while comments < len(lines) and lines[comments].startswith("#") and _is_comment(lines[comments], state.uner):
        announced |= _comment(lines[comments], record, state)
        comments += 1
    words = lines[comments:]
    if not words and not announced:
        return None
    record.line, record.doc_id = first + comments if words else first, state.doc_id
    try:
        record.tokens, tags, numbers = (_uner_words if state.uner else _conll_words)(words, record.line)
        if tags is not None:
            try:
                record.spans, record.repaired = reading.tag_spans(tags)
            except BadRecord as bad:
                wrong = next(index for index, tag in enumerate(tags) if not _is_tag(tag))
                raise BadRecord(bad.reason, f"line {numbers[wrong]}: {bad.detail}") from None
    except BadRecord as bad:
        record.reason, record.detail = bad.reason, bad.detail
    if record.tokens is None and record.text is None:
        record.text = "\n".join(words)
    if not valid:
        record.reason, record.detail = Reason.BAD_UTF8, "not UTF-8"
    return record


def _comment(line: str, record: Record, state: _Documents) -> bool:
    """Note what a comment says; True if it announces a sentence."""
    found = _COMMENT.match(line)
    key, value = (found[1].lower(), (found[2] or "").strip()) if found else ("", "")
    if key in ("newdoc", "newdoc id"):
        state.begin(value)
    elif key == "doc_id" and value:
        state.doc_id = value
    elif key in ("id", "sent_id") and value:
        record.id = value
        return True
    elif key == "text":
        record.text = value or None
        return True
    return False


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
