"""One way to read a file of any format: its records, from a place on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from xner_ray.read.find import changed, unchanged
from xner_ray.read.record import START, TABLES, File, Place, Reader, Record, cut, refuse_characters
from xner_ray.read.table_formats import read_table
from xner_ray.read.text_formats import read_conll, read_jsonl, read_links, read_text

_READERS = {"jsonl": read_jsonl, "text": read_text, "links": read_links}


def read_records(file: File, start: Place = START, *, skip: int = 0, extra: bool = True) -> Reader:
    """Yield the records of a file from a place on, without the first `skip`.

    extra: whether the records of tables keep the carried columns.
    A compressed file can only be read from its start: its records have no place.
    """
    if file.format in TABLES:
        reader = read_table(file, start, skip=0 if file.sentences else skip, extra=extra)
        skip = skip if file.sentences else 0
    else:
        reader = _READERS.get(file.format, read_conll)(file, start)
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
    """Yield `take` records; InputError if the file has changed since it was indexed, or holds fewer."""
    file = unchanged(file)
    count = 0
    for _, record in islice(read_records(file, start, skip=skip), take):
        count += 1
        yield record
    if count < take:
        raise changed(file)
