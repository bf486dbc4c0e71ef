"""Files of any format, read as the scan reads them: by what their own evidence settles on."""

from dataclasses import replace

from xner_ray.read.format import Settled
from xner_ray.read.record import START, File, Record
from xner_ray.read.records import FORMATS, read_records


def settled(file: File) -> tuple[File, Settled]:
    """Return a file with the reading that it settles on, and what is said; a second pass says the same."""
    for _ in range(3):
        format = FORMATS[file.format]
        evidence = format.evidence(file)
        for raw in format.raws(file, START, None):
            evidence.add(raw)
        found = evidence.settle(file)
        if found.reading == file.reading:
            return file, found
        file = replace(file, reading=found.reading)
    raise AssertionError(f"{file.path}: does not settle: {found}")


def settled_records(file: File) -> tuple[list[Record], list[str]]:
    """Return the records of a file in its own reading, and what is said of it."""
    file, found = settled(file)
    return [record for _, record in read_records(file)], found.said
