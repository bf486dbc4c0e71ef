"""One way to read a file of any format: its records, from a place on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from icu4py.breakers import SentenceBreaker

from xner_ray.data.languages import LANGUAGES
from xner_ray.read.find import changed, unchanged
from xner_ray.read.format import Format
from xner_ray.read.formats import tables
from xner_ray.read.formats.brat import BRAT
from xner_ray.read.formats.conll import CONLL
from xner_ray.read.formats.inline import INLINE
from xner_ray.read.formats.jsonl import JSONL
from xner_ray.read.formats.links import LINKS
from xner_ray.read.formats.table import TABLE
from xner_ray.read.formats.text import TEXT
from xner_ray.read.formats.webanno import WEBANNO
from xner_ray.read.record import (
    START,
    TABLES,
    File,
    Kind,
    Place,
    Raw,
    Record,
    refuse_characters,
    without_surrogates,
)

FORMATS: dict[Kind, Format] = {
    "conll": CONLL,
    "uner": CONLL,
    "jsonl": JSONL,
    "parquet": tables.TABLE,
    "dataset": tables.TABLE,
    "run": tables.TABLE,
    "table": TABLE,
    "text": TEXT,
    "inline": INLINE,
    "webanno": WEBANNO,
    "brat": BRAT,
    "links": LINKS,
}
Reader = Iterator[tuple[Place | None, Record]]


def read_raws(
    file: File, start: Place = START, stop: int | None = None, *, skip: int = 0, extra: bool = True
) -> Iterator[Raw]:
    """Yield the raw records of a file from a place on, without the first `skip`; those that begin before `stop`.

    extra: whether the rows of tables keep the carried columns.
    A compressed file can only be read from its start: its records have no place.
    """
    if file.format in TABLES:
        found, skip = tables.raws(file, start, stop, skip=skip, extra=extra), 0
    else:
        found = FORMATS[file.format].raws(file, start, stop)
    for raw in islice(found, skip, None) if skip else found:
        if file.ends_with(".gz"):
            raw.place = None
        yield raw


def records_of(raw: Raw, file: File) -> list[Record]:
    """Return what a raw record becomes: one record, or its sentences."""
    record = FORMATS[file.format].record(raw, file)
    found = cut(record, file) if file.sentences else [record]
    for one in found:
        refuse_characters(one)
    return found


def read_records(file: File, start: Place = START, *, skip: int = 0, extra: bool = True) -> Reader:
    """Yield the records of a file from a place on, without the first `skip`; extra: see `read_raws`."""
    found = _records(file, read_raws(file, start, skip=0 if file.sentences else skip, extra=extra))
    return islice(found, skip, None) if skip and file.sentences else found


def _records(file: File, found: Iterator[Raw]) -> Reader:
    for raw in found:
        place = raw.place
        for record in records_of(raw, file):
            yield place, record
            place = None


def cut(record: Record, file: File) -> list[Record]:
    """Cut a raw document into sentences by ICU's rules, common abbreviations excepted; other records stay whole.

    A sentence's id is `<document>#<number from 0>`; its doc_id is the document's, else the document's id.
    """
    if record.text is None or record.tokens is not None or record.labelled or record.reason is not None:
        return [record]
    document = record.id or f"{file.name}:{record.line}"
    language = LANGUAGES[file.lang]
    locale = f"{language.iso639_1 or language.iso639_3}@ss=standard"
    pieces = [piece.strip() for piece in SentenceBreaker(without_surrogates(record.text), locale)]
    sentences = [piece for piece in pieces if piece] or [""]
    return [
        replace(record, id=f"{document}#{number}", doc_id=record.doc_id or document, text=sentence)
        for number, sentence in enumerate(sentences)
    ]


def iterate(file: File, start: Place, skip: int, take: int) -> Iterator[Record]:
    """Yield `take` records; InputError if the file has changed since it was indexed, or holds fewer."""
    file = unchanged(file)
    count = 0
    for _, record in islice(read_records(file, start, skip=skip), take):
        count += 1
        yield record
    if count < take:
        raise changed(file)
