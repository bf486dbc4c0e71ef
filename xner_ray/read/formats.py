"""One way to read a file of any format: its records, from a place on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from xner_ray.read.find import changed, unchanged
from xner_ray.read.record import START, TABLES, File, Place, Reader, Record, cut, refuse_characters
from xner_ray.read.table_formats import read_table
from xner_ray.read.text_formats import read_conll, read_jsonl, read_links, read_text


def read_records(file: File, start: Place = START, *, skip: int = 0, extra: bool = True) -> Reader:
    """The records of a file from a place on, the first `skip` left out.

    A compressed file can only be read from its start: its places are None after the first record.
    """
    if file.format in TABLES:
        reader = read_table(file, start, skip=0 if file.sentences else skip, extra=extra)
        skip = skip if file.sentences else 0
    elif file.format == "jsonl":
        reader = read_jsonl(file, start)
    elif file.format == "text":
        reader = read_text(file, start)
    elif file.format == "links":
        reader = read_links(file, start)
    else:
        reader = read_conll(file, start)
    if file.ends_with(".gz"):
        reader = ((None, record) for _, record in reader)
    if file.sentences:
        reader = _cut(reader, file)
    return _checked(islice(reader, skip, None) if skip else reader)


def _checked(reader: Reader) -> Reader:
    for place, record in reader:
        refuse_characters(record)
        yield place, record


def _cut(reader: Reader, file: File) -> Reader:
    for place, record in reader:
        first, *rest = cut(record, file)
        yield place, first
        for sentence in rest:
            yield None, sentence


def iterate(file: File, start: Place, skip: int, take: int) -> Iterator[Record]:
    """`take` records; InputError if the file is not the one that was indexed, or holds fewer."""
    file = unchanged(file)
    count = 0
    for _, record in islice(read_records(file, start, skip=skip), take):
        count += 1
        yield record
    if count < take:
        raise changed(file)
