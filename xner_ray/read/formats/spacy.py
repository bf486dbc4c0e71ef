"""spaCy's `.spacy` files (DocBin) -> records, without spaCy: MessagePack, compressed, with strings by their hashes.

A document is a record: its tokens, its text by their spaces, its entities. It is read whole, once a process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format
from xner_ray.read.record import File, Place, Raw, Record, Settled
from xner_ray.storage import files as storage

_MOST_BYTES = 1 << 29
_ORTH, _IOB, _TYPE = 65, 77, 78  # spacy.attrs
_OUTSIDE, _BEGIN = 2, 3  # values of ENT_IOB; 1: inside, 0: not annotated
# spacy.symbols: strings that have these numbers in the place of a hash
_SYMBOLS = {
    1: (
        "IS_ALPHA IS_ASCII IS_DIGIT IS_LOWER IS_PUNCT IS_SPACE IS_TITLE IS_UPPER LIKE_URL LIKE_NUM LIKE_EMAIL "
        "IS_STOP IS_OOV_DEPRECATED IS_BRACKET IS_QUOTE IS_LEFT_PUNCT IS_RIGHT_PUNCT IS_CURRENCY"
    ),
    64: (
        "ID ORTH LOWER NORM SHAPE PREFIX SUFFIX LENGTH CLUSTER LEMMA POS TAG DEP ENT_IOB ENT_TYPE HEAD "
        "SENT_START SPACY PROB LANG ADJ ADP ADV AUX CONJ CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ "
        "SYM VERB X EOL SPACE"
    ),
    380: (
        "PERSON NORP FACILITY ORG GPE LOC PRODUCT EVENT WORK_OF_ART LANGUAGE LAW DATE TIME PERCENT MONEY "
        "QUANTITY ORDINAL CARDINAL acomp advcl advmod agent amod appos attr aux auxpass cc ccomp complm conj "
        "cop csubj csubjpass dep det dobj expl hmod hyph infmod intj iobj mark meta neg nmod nn npadvmod "
        "nsubj nsubjpass num number oprd obj obl parataxis partmod pcomp pobj poss possessive preconj prep "
        "prt punct quantmod relcl rcmod root xcomp acl ENT_KB_ID MORPH ENT_ID IDX _"
    ),
}
_NUMBERS = {name: first + at for first, names in _SYMBOLS.items() for at, name in enumerate(names.split())}
_MASK = (1 << 64) - 1
_M = 0xC6A4A7935BD1E995


class _Doc(NamedTuple):
    words: list[str]
    spaces: list[bool]
    iob: list[int]
    types: list[str]
    groups: bool  # has span groups
    id: str | None  # of its user data, as `export` writes it


def string_id(text: str) -> int:
    """Return the number of a string in spaCy: its symbol, or MurmurHash64A of its UTF-8 with the seed 1.

    >>> string_id("PERSON"), string_id("hello")
    (380, 5983625672228268878)
    """
    if not text:
        return 0
    if text in _NUMBERS:
        return _NUMBERS[text]
    data = text.encode("utf-8", "surrogatepass")
    mixed = (1 ^ (len(data) * _M)) & _MASK
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        part = int.from_bytes(data[at : at + 8], "little") * _M & _MASK
        mixed = (mixed ^ ((part ^ part >> 47) * _M & _MASK)) * _M & _MASK
    if data[whole:]:
        mixed = (mixed ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    mixed = (mixed ^ mixed >> 47) * _M & _MASK
    return mixed ^ mixed >> 47


@lru_cache(maxsize=2)
def _docs(path: str, stamp: str | int) -> list[_Doc]:
    """Return the documents of a file. InputError if it is no DocBin, or too large."""
    del stamp  # for the cache
    content = storage.read_bytes(path)
    try:
        stream = zlib.decompressobj()
        packed = stream.decompress(content, _MOST_BYTES)
        if stream.unconsumed_tail:
            raise InputError(
                f"{path}: has more than {_MOST_BYTES >> 20} MiB of documents, which would be read whole; save it in "
                "several files, as `spacy convert --n-sents` does"
            )
        data = msgpack.unpackb(packed, strict_map_key=False)
        return list(_unpacked(data))
    except (zlib.error, msgpack.UnpackException, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: is no DocBin of spaCy ({problem}); save it with DocBin.to_disk") from None


def _unpacked(data: dict[str, Any]) -> Iterator[_Doc]:
    attributes, lengths = list(data["attrs"]), np.frombuffer(data["lengths"], "<i4")
    cells: NDArray[np.uint64] = np.frombuffer(data["tokens"], "<u8").reshape(-1, len(attributes))
    spaces = np.frombuffer(data["spaces"], bool)
    if len(cells) != lengths.sum() or len(spaces) != len(cells):
        raise ValueError(f"it has {len(cells)} tokens, and its documents {lengths.sum()}")
    names = {string_id(name): name for name in data["strings"]} | {0: ""}
    user_data = data.get("user_data") or [None] * len(lengths)
    flags, groups = data.get("flags") or [{}] * len(lengths), data.get("span_groups") or [b""] * len(lengths)
    iob, types = (attributes.index(number) if number in attributes else None for number in (_IOB, _TYPE))
    end = 0
    for size, flag, group, user in zip(lengths.tolist(), flags, groups, user_data, strict=True):
        begin, end = end, end + size
        part = cells[begin:end]
        unknown = flag.get("has_unknown_spaces")
        yield _Doc(
            [names[number] for number in part[:, attributes.index(_ORTH)].tolist()],
            [True] * size if unknown else spaces[begin:end].tolist(),
            part[:, iob].tolist() if iob is not None else [0] * size,
            [names[number] for number in part[:, types].tolist()] if types is not None else [""] * size,
            len(group) > 1,
            _id(user),
        )


def _id(user_data: bytes | None) -> str | None:
    """Return what a document's user data has under `id`; other keys are tuples, and any values."""
    if not user_data or b"\xa2id" not in user_data:
        return None
    found = msgpack.unpackb(user_data, strict_map_key=False, use_list=False).get("id")
    return str(found) if isinstance(found, str | int) else None


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the documents of a file; their places are their numbers."""
    if file.ends_with(".gz"):
        raise InputError(f"{file.path}: .spacy files are compressed already; gunzip it")
    docs = _docs(file.path, file.stamp or storage.info_of(file.path).mtime_ns)
    for number in range(start.offset, len(docs)):
        yield Raw(Place(number, number), number + 1, docs[number])


def record(raw: Raw, file: File) -> Record:
    """Return the record of one document; without any annotation of entities it is unlabelled."""
    doc: _Doc = raw.data
    text = "".join(word + " " * space for word, space in zip(doc.words, doc.spaces, strict=True))
    text = text[:-1] if doc.spaces and doc.spaces[-1] else text
    made = Record(raw.line, id=doc.id, text=text, tokens=doc.words)
    if any(doc.iob):
        made.spans = []
        begin = None
        for at, code in enumerate([*doc.iob, _OUTSIDE]):
            if begin is not None and code != 1:
                made.spans.append(Span(begin, at, doc.types[begin]))
                begin = None
            if code == _BEGIN or (code == 1 and begin is None):
                begin = at
    if made.spans and not all(span.label for span in made.spans):
        made.reason, made.detail = Reason.BAD_SPAN, "an entity has no label"
    return made


class SpacyEvidence:
    """Whether the documents have entities, or span groups alone."""

    def __init__(self, file: File) -> None:
        self.labelled = self.groups = 0

    def add(self, raw: Raw) -> None:
        self.labelled += any(raw.data.iob)
        self.groups += raw.data.groups

    def merge(self, later: SpacyEvidence) -> None:
        self.labelled += later.labelled
        self.groups += later.groups

    def settle(self, file: File) -> Settled:
        what = f"{self.groups} documents have span groups (doc.spans), which are not read; entities are (doc.ents)"
        none = "its documents have no entities (doc.ents)" + (f"; {what}" if self.groups else "")
        return Settled(file.reading, [what] if self.groups else [], none)


SPACY = Format(raws, record, SpacyEvidence)
