"""A file read as a run reads it: evidence first, in pieces, then records by what it settles on."""

from collections.abc import Sequence
from dataclasses import replace

from xner_ray.read.format import Settled
from xner_ray.read.record import START, File, Record
from xner_ray.read.records import FORMATS, read_raws, read_records


def settled(file: File, cuts: Sequence[int] = ()) -> Settled:
    """Return what the evidence of all pieces of a file comes to; cuts: bytes near which it is cut."""
    format = FORMATS[file.format]
    evidence = format.evidence(file)
    if not cuts or format.pieces is None:
        for raw in read_raws(file):
            evidence.add(raw)
        return evidence.settle(file)
    found, begin = format.pieces(file, cuts), 0
    for end in [*found, None]:
        piece = format.evidence(file)
        for raw in format.raws(file, START._replace(offset=begin), end):
            piece.add(raw)
        evidence.merge(piece)
        begin = end or 0
    return evidence.settle(file)


def read(file: File) -> list[Record]:
    """Return the records of a file."""
    file = replace(file, reading=settled(file).reading)
    return [record for _, record in read_records(file)]
