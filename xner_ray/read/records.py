"""One way to read a file of any format: its records, from a place on."""

from __future__ import annotations

import gc
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from operator import itemgetter

import pyarrow as pa

from xner_ray.data import words
from xner_ray.data.sentences import Range, sentences
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format
from xner_ray.read.formats import conllu, tables
from xner_ray.read.formats.brat import BRAT
from xner_ray.read.formats.conll import CONLL
from xner_ray.read.formats.conll2012 import CONLL2012
from xner_ray.read.formats.inline import INLINE
from xner_ray.read.formats.jsonl import OBJECTS
from xner_ray.read.formats.links import LINKS
from xner_ray.read.formats.spacy import SPACY
from xner_ray.read.formats.table import TABLE
from xner_ray.read.formats.text import TEXT
from xner_ray.read.formats.webanno import WEBANNO
from xner_ray.read.record import START, TABLES, File, Kind, Place, Raw, Record, record_id, refuse_characters
from xner_ray.read.stamps import changed, unchanged

FORMATS: dict[Kind, Format] = {
    "conll": CONLL,
    "uner": CONLL,
    "conllu": Format(CONLL.raws, conllu.record, lambda file: conllu.ConlluEvidence(), CONLL.pieces),
    "conll2012": CONLL2012,
    "jsonl": OBJECTS,
    "json": OBJECTS,
    "spacy": SPACY,
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
DOCUMENT_START = pa.field("document_start", pa.int64())
"""The carried column of sentences that were cut out of documents: `Record.start`."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector out of the block: rows hold no cycles, and looking for some takes a quarter of it."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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
    found = cut(record, file) if file.documents else [record]
    for one in found:
        refuse_characters(one)
    return found


def read_records(file: File, start: Place = START, *, skip: int = 0, extra: bool = True) -> Reader:
    """Yield the records of a file from a place on, without the first `skip`; extra: see `read_raws`."""
    found = _records(file, read_raws(file, start, skip=0 if file.documents else skip, extra=extra))
    return islice(found, skip, None) if skip and file.documents else found


def _records(file: File, found: Iterator[Raw]) -> Reader:
    for raw in found:
        place = raw.place
        for record in records_of(raw, file):
            yield place, record
            place = None


def cut(record: Record, file: File) -> list[Record]:
    """Cut a document into sentences, at least one; a record that is rejected or contradicts itself stays whole.

    A sentence's id is `<document>#<number from 0>`; its doc_id is the document's, else the document's id. Where it
    begins in the document is carried (`Record.start`). Sentences that a span crosses stay together: where ICU and the
    annotator differ, the annotator is right. A sentence with an entity that no row can hold is rejected by itself.
    """
    text, places = record.text or "", None
    if record.reason is not None:
        return [record]
    if record.tokens is not None:
        places = words.locate(record.tokens, text) if record.text is not None else None
        if places is None:
            if record.chars is not None:
                return [record]  # its spans are of another text than its tokens
            record = replace(record, text=None)
            text, places = words.join(record.tokens or [], file.lang)
    document = record.doc_id or record_id(record, file)
    found = list(_sentences(record, text, places, file.lang)) or [replace(record, start=0)]
    for number, one in enumerate(found):
        one.doc_id = document
        if record.id is not None:
            one.id = f"{record.id}#{number}"
        else:
            one.number = number  # the line is that of the file only where all of it is read
        one.repaired = 0 if number else record.repaired  # they count once
    return found


def _ranges(record: Record, text: str, places: Sequence[Range] | None) -> list[Range]:
    """Return the code points of each span, without the white space at its ends if it has more than that."""
    if record.chars is None:
        places = places or ()
        return [(places[span.start][0], places[span.end - 1][1]) for span in record.spans or ()]
    return [_trimmed(text, start, end) or (start, end) for start, end, _ in record.chars]


def _trimmed(text: str, start: int, end: int) -> Range | None:
    """Return a range of the text without the white space at its ends; None if it has no more."""
    inside = text[start:end]
    left = len(inside) - len(inside.lstrip())
    return (start + left, start + len(inside.rstrip())) if left < len(inside) else None


def _sentences(record: Record, text: str, places: Sequence[Range] | None, lang: str) -> Iterator[Record]:
    """Yield the sentences of a document without blank ones. places: of its tokens in the text.

    White space at the ends of a sentence goes, unless a span covers nothing else: then its row will be rejected.
    """
    ranges = _ranges(record, text, places)
    stretches = sentences(text, lang, places or (), ranges)
    owned: list[list[int]] = [[] for _ in stretches]  # the spans of each
    for index, (start, _) in enumerate(ranges):
        owned[bisect_right(stretches, start, key=itemgetter(0)) - 1].append(index)
    for (start, end, joined), own in zip(stretches, owned, strict=True):
        blank = [
            (first, min(last, end)) for first, last in map(ranges.__getitem__, own) if not text[first:last].strip()
        ]
        shown = [*blank, *filter(None, [_trimmed(text, start, end)])]
        if not shown:
            continue
        first, last = min(shown)[0], max(one[1] for one in shown)
        made = replace(record, start=first, joined=joined, faults=[])
        if bad := [detail for begin, stop, detail in record.faults if begin < end and stop > start]:
            made.reason, made.detail = Reason.BAD_SPAN, bad[0]
        if record.text is not None:
            made.text = text[first:last]
        if record.chars is not None:
            chars = [record.chars[index] for index in own]
            made.chars = [(max(one, first) - first, min(other, last) - first, label) for one, other, label in chars]
        if record.tokens is not None and places is not None:
            spans = [record.spans[index] for index in own] if record.spans is not None else None
            begin, stop = (bisect_left(places, border, key=itemgetter(0)) for border in (start, end))
            while begin < min([stop, *(s.start for s in spans or ())]) and not record.tokens[begin].strip():
                begin += 1
            while stop > max([begin, *(s.end for s in spans or ())]) and not record.tokens[stop - 1].strip():
                stop -= 1
            made.tokens, made.start = record.tokens[begin:stop], begin
            if spans is not None:
                made.spans = [replace(s, start=s.start - begin, end=min(s.end, stop) - begin) for s in spans]
        yield made


def with_document_start(extra: Sequence[pa.Field], file: File) -> list[pa.Field]:
    """Return the carried columns of a file, with that of `Record.start` if its documents are cut."""
    if not file.documents:
        return list(extra)
    if any(field.name == DOCUMENT_START.name for field in extra):
        raise InputError(
            f"{file.path}: input.split: sentences adds the column {DOCUMENT_START.name!r}, which the file has already; "
            "rename it there, or leave it out of input.carry"
        )
    return [*extra, DOCUMENT_START]


def iterate(file: File, start: Place, skip: int, take: int) -> Iterator[Record]:
    """Yield `take` records; InputError if the file has changed since it was indexed, or holds fewer."""
    file = unchanged(file)
    count = 0
    for _, record in islice(read_records(file, start, skip=skip), take):
        count += 1
        yield record
    if count < take:
        raise changed(file)
