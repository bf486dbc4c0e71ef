"""The contract of a format, and of the evidence of how a file is written.

A format yields raw records and makes records of them. Evidence is collected over all raw records of a file, by as many
jobs as there are pieces of it: what two jobs found is merged, and any cut of a file comes to the same `Reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from xner_ray.read.record import File, Place, Raw, Record
from xner_ray.read.record import Settled as Settled


class Evidence(Protocol):
    """What is found out of how a file is written. Small, whatever the size of the file."""

    def add(self, raw: Raw) -> None:
        """Note what one record shows."""

    def merge(self, later: Self) -> None:
        """Take in what another job found in a later piece of the file."""

    def settle(self, file: File) -> Settled:
        """Return the one reading that fits all of it, by `file.stated` and `file.columns` where they say.

        Where several fit and give the same rows, it is the plainest. InputError where they give other rows, with the
        readings and the key that chooses; or where none fits, with what is there instead.
        """


class NoEvidence:
    """Evidence of formats that leave nothing open."""

    def add(self, raw: Raw) -> None:
        pass

    def merge(self, later: NoEvidence) -> None:
        pass

    def settle(self, file: File) -> Settled:
        return Settled(file.reading)


class Tagged(NamedTuple):
    """A sentence of words with tags, as whole columns can take it: nothing about it is odd."""

    tokens: list[str]
    tags: list[str] | None  # as `Reading.style` spells them; None: unlabelled
    id: str | None
    doc_id: str | None
    extra: str | dict[str, str | None] | None = None  # what is carried


@dataclass(frozen=True)
class Format:
    """One way to read files.

    raws: yields the raw records of a file from a place on; those that begin before the byte `stop`, None for all.
    record: makes a record of one. evidence: begins the evidence of a file. pieces: returns bytes at which the file may
    be cut, near those asked for; None if it is read in one piece. tagged: does what `record` does for a sentence of
    words with tags, quickly; None for any other record.
    """

    raws: Callable[[File, Place, int | None], Iterator[Raw]]
    record: Callable[[Raw, File], Record]
    evidence: Callable[[File], Evidence] = lambda file: NoEvidence()
    pieces: Callable[[File, Sequence[int]], list[int]] | None = None
    tagged: Callable[[Raw, File], Tagged | None] | None = None
