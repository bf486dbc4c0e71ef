"""Tables in text files, CSV and TSV: a word a row, or a sentence a row.

A quoted cell may hold line ends, so such a file is parsed from its start: whole, once in a process, up to a stated
size. What its columns hold is told from their names and their cells together. A sentence a row is an object as those of
JSON are, with spans of any shape, whose offsets are found out (`read/shapes`), and its other columns are carried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from xner_ray.data.kinds import Names
from xner_ray.data.tag_styles import TagStyle, problem_of, tags_of
from xner_ray.errors import InputError, Reason
from xner_ray.read.carried import carried
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import chunks
from xner_ray.read.mapping import from_mapping
from xner_ray.read.record import MOST_DIGITS, SURROGATES, BadRecord, File, Place, Raw, Reading, Record, short
from xner_ray.read.shapes.evidence import ObjectEvidence
from xner_ray.read.sniff.encoding import cure, encoding_fault
from xner_ray.read.table.cells import MARKS, MOST_BYTES, parts_of, value
from xner_ray.read.table.layout import Table, told
from xner_ray.read.word_lines.tags import tag_spans


@dataclass(frozen=True, slots=True)
class _Whole:
    """All of a file: its sentences, how often each tag of single words occurs, and what is said of its columns.

    names: of its columns, where a row is a sentence. shown: its columns as messages name them.
    """

    raws: list[Raw]
    tags: Counter[str]
    said: str
    names: Names | None
    shown: str


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the sentences of a file, all from its start: they have no places."""
    yield from _read(file).raws


def _read(file: File) -> _Whole:
    """Return all of a file; the process remembers two."""
    plain = replace(file, reading=Reading())
    return _parsed(plain) if file.stamp else _parsed.__wrapped__(plain)


@lru_cache(maxsize=2)
def _parsed(file: File) -> _Whole:
    data = bytearray()
    for _, chunk in chunks(file, 0):
        data += chunk
        if len(data) > MOST_BYTES:
            raise InputError(
                f"{file.path}: is larger than {MOST_BYTES >> 20} MiB, and a table of text is read whole; cut it into "
                "several files, or write it as Parquet or JSONL"
            )
    if fault := encoding_fault(bytes(data), file.lang):
        raise InputError(f"{file.path}: {fault}")
    # A byte that is not UTF-8 becomes half a surrogate pair, so that each cell shows it
    table = told(file, data.decode(errors="surrogateescape"))
    found = list(_by_word(table) if table.by_word else _by_sentence(table))
    tags: Counter[str] = Counter()
    for raw in found:
        raw.valid, raw.data = _mended(raw.data)
        if table.by_word:
            tags.update(tag for tag in raw.data["ner_tags"] if not (file.stated.names and tag.isdecimal()))
    parts = ", ".join(f"{name} in column {table.name(number)}" for name, number in table.columns.items())
    said = f"columns between {MARKS[table.mark]}, a {'word' if table.by_word else 'sentence'} a row: {parts}"
    titles = {name: table.titles[number] for name, number in table.columns.items()}
    names = None if table.by_word else Names(**titles, given=frozenset(titles))
    return _Whole(found, tags, said, names, table.shown())


def carries(file: File) -> bool:
    """Return whether a row of a table is a sentence, so that its other columns belong to it."""
    return _read(file).names is not None


def _mended(data: Any) -> tuple[bool, Any]:
    """Return whether all text of a value was UTF-8, and the value with replacement characters where it was not."""
    if isinstance(data, str):
        return (False, SURROGATES.sub("\ufffd", data)) if SURROGATES.search(data) else (True, data)
    if isinstance(data, list | dict):
        pairs = [_mended(item) for item in (data.values() if isinstance(data, dict) else data)]
        items = [item for _, item in pairs]
        return all(valid for valid, _ in pairs), (
            dict(zip(data, items, strict=True)) if isinstance(data, dict) else items
        )
    return True, data


def _by_word(table: Table) -> Iterator[Raw]:
    number, docs = table.columns.get("sentence"), table.columns.get("doc_id")
    needed = max(table.columns.values())
    words, tags = table.columns["tokens"], table.columns["tags"]
    sentence: dict[str, Any] | None = None
    line, last = 0, ""
    for at, row in table.rows:
        blank = not any(cell.strip() for cell in row)
        named = row[number].strip() if number is not None and number < len(row) else ""
        if sentence is not None and (blank or (named and named != last)):
            yield Raw(None, line, sentence)
            sentence = None
        last = named or last
        if blank:
            continue
        if sentence is None:
            doc = row[docs].strip() if docs is not None and docs < len(row) else ""
            name = f"{doc}-{named}" if doc and named else named
            sentence, line = {"id": name or None, "doc": doc or None, "words": [], "ner_tags": [], "fault": ""}, at
        if len(row) <= needed or any(cell.strip() for cell in row[table.width :]):
            sentence["fault"] = sentence["fault"] or f"line {at} has {len(row)} columns, the table has {table.width}"
            continue
        if "\n" in row[words] and not sentence["fault"]:
            sentence["fault"] = f'line {at}: a quote that opens here closes in another line; write quotes as """"'
        sentence["words"].append(row[words].strip(" "))
        sentence["ner_tags"].append(row[tags].strip())
    if sentence is not None:
        yield Raw(None, line, sentence)


def _by_sentence(table: Table) -> Iterator[Raw]:
    columns, titles = table.columns, table.titles
    needed = max(columns.values())
    for at, row in table.rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= needed or any(cell.strip() for cell in row[table.width :]):
            yield Raw(None, at, f"line {at} has {len(row)} columns, the table has {table.width}: {short(row)}")
            continue
        data: dict[str, Any] = dict(zip(titles, row, strict=False))
        found = {name: _list(row[columns[name]]) for name in ("tokens", "tags", "spans") if name in columns}
        tags, words = found.get("tags"), found.get("tokens")
        if isinstance(tags, str):
            tags = found["tags"] = parts_of(tags)
            if all(map(str.isdecimal, tags)):
                found["tags"] = [int(tag) if len(tag) <= MOST_DIGITS else tag for tag in tags]
        if isinstance(words, str):  # of text between blanks
            split = [part for part in words.split(" ") if part]
            found["tokens"] = split if isinstance(tags, list) and len(split) == len(tags) else words.split()
        yield Raw(None, at, data | {titles[columns[name]]: one for name, one in found.items()})


def _list(cell: str) -> Any:
    """Return the list that a cell holds; null for an empty one, else its text."""
    found = value(cell)
    if isinstance(found, dict) and isinstance(found.get("entities"), list):
        found = found["entities"]  # spaCy's
    if isinstance(found, list | dict) or not cell.strip():
        return found if cell.strip() else None
    return cell


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    data = raw.data
    if isinstance(data, str):
        made = Record(raw.line, text=data, reason=Reason.MALFORMED, detail=data)
    elif "words" in data and "fault" in data:
        made = Record(raw.line, data["id"], data["doc"], tokens=list(data["words"]))
        try:
            if data["fault"]:
                raise BadRecord(Reason.MALFORMED, data["fault"])
            made.spans, made.repaired = tag_spans([_tag(tag, file) for tag in data["ner_tags"]])
        except BadRecord as bad:
            made.reason, made.detail = bad.reason, bad.detail
    else:
        made = from_mapping(raw, file)
        made.extra = carried(data, file)
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, f"not UTF-8; where a whole file is not, {cure('latin1')}"
    return made


def _tag(tag: str, file: File) -> str:
    names = file.stated.names or ()
    if tag.isdecimal() and len(tag) <= MOST_DIGITS and int(tag) < len(names):
        return names[int(tag)]
    try:
        return file.reading.style.canonical(tag)
    except ValueError as error:
        raise BadRecord(Reason.ILLEGAL_TAG, str(error)) from None


class _Evidence:
    """Nothing: all of a table is read at once."""

    def add(self, raw: Raw) -> None:
        pass

    def merge(self, later: _Evidence) -> None:
        pass

    def settle(self, file: File) -> Settled:
        whole, scheme = _read(file), file.stated.scheme
        if whole.names is not None:
            return _of_sentences(whole, whole.names, file)
        tags = tags_of(whole.tags, scheme, ordered=True) if whole.tags else None
        if tags is None and scheme is not None:
            found = f"its tags are {', '.join(sorted(whole.tags)[:5])}" if whole.tags else "no column holds tags"
            raise InputError(f"{file.path}: input.scheme is {scheme}, but {found}; leave input.scheme out")
        if tags is not None and tags.unnamed:
            raise InputError(f"{file.path}: {tags.unnamed}")
        if tags is not None and (problem := problem_of(tags, scheme)):
            raise InputError(f"{file.path}: input.scheme is {scheme}, but {problem}; leave input.scheme out")
        obeyed = frozenset(("scheme", "labels.names", *(f"columns.{name}" for name, _ in file.columns)))
        if tags is None or tags.style == TagStyle():
            return Settled(file.reading, [whole.said], obeyed=obeyed)
        style = tags.style
        example = next(iter(tags.labels), "")
        said = f"tags written as {example} in scheme {style.scheme}, {style.outside} outside"
        return Settled(replace(file.reading, style=style), [whole.said, said], obeyed=obeyed)


def _of_sentences(whole: _Whole, names: Names, file: File) -> Settled:
    """Return how rows that are sentences are read: as objects whose keys are the names of the columns."""
    if file.stated.scheme is not None and "tags" not in names.given:
        raise InputError(
            f"{file.path}: input.scheme is {file.stated.scheme}, but no column holds tags; leave input.scheme out"
        )
    known = replace(file, columns=names)
    objects = ObjectEvidence(known)
    for raw in whole.raws:
        objects.add(raw)
    settled = objects.settle(known)
    keys = dict(settled.reading.keys) | {name: str(getattr(names, name)) for name in names.given}
    reading = replace(settled.reading, keys=tuple(sorted(keys.items())))
    unlabelled = (
        f"its columns: {whole.shown}; say which holds labels: input.columns: {{spans: NAME}}, or {{tokens: NAME, "
        "tags: NAME}"
    )
    obeyed = (settled.obeyed or frozenset()).union(f"columns.{name}" for name in names.given)
    return Settled(reading, [whole.said, *settled.said], unlabelled, obeyed)


TABLE = Format(raws, record, evidence=lambda file: _Evidence())
