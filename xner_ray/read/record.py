"""The record that files of any format are read into, and the place where reading can start again.

A format (`read/format.py`) yields raw records in the order of the file: what stands there, and the place from which
reading would yield this one first, or None if the format cannot start there. Of each it makes a `Record` by the file's
`Reading`. A record that its format does not allow is made too, with a reason: one bad row never ends a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import Any, Literal, NamedTuple, TypeVar

import pyarrow as pa

from xner_ray.data.kinds import Ends, Format, Names, Offsets, Scheme
from xner_ray.data.kinds import split_name as split_name
from xner_ray.data.spans import Span
from xner_ray.data.tag_styles import TagStyle
from xner_ray.errors import BadRecord as BadRecord
from xner_ray.errors import Reason
from xner_ray.errors import short as short
from xner_ray.storage.addresses import bare

T = TypeVar("T")
_REMEMBERED = 64
Kind = Literal[Format, "links"]
"""What a file can be; links are no format of sentences, so no recipe names them."""
TABLES = ("parquet", "dataset", "run")

MOST_DIGITS = 18
"""Of a number in a file of text: Python refuses to read 4,301, and so many fit into 64 bits."""
SURROGATES = re.compile("[\ud800-\udfff]")
REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_REFUSED_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # line ends and tabs too


class Embedded(int):
    """The row of a table, from 0, that holds a picture's bytes."""


class Place(NamedTuple):
    """A place where reading can start, and what the reader knows there."""

    offset: int = 0  # byte of the file; row group of a Parquet file
    line: int = 0  # lines, or rows of a table, before it
    doc_id: str | None = None
    docs: int = 0  # documents so far that had no id of their own


START = Place()


@dataclass(frozen=True, slots=True)
class Stated:
    """What the recipe says of how files are written; None: it is found out."""

    scheme: Scheme | None = None
    offsets: Offsets | None = None
    ends: Ends | None = None
    names: tuple[str, ...] | None = None  # of tags or labels that are numbers
    answers: tuple[str, ...] = ("accept",)  # of Prodigy that count
    beside: bool = False  # parallel text or links, whose lines are those of the input


@dataclass(frozen=True, slots=True)
class Reading:
    """How one file is read, as stated or found out. The defaults are what versions before it did.

    Columns of files with a word a line count from 0; what is negative counts from the last one.
    """

    width: int | None = None  # columns; None: any number
    tokens: int = 0
    tags: int | None = -1
    number: int | None = None  # the column that counts the words of a sentence
    header: bool = False  # the first line names the columns
    prefix: str = ""  # before every word, as in en:Nora
    cut: bool = False  # sentences are cut by their punctuation: the file has no blank lines
    mark: str = ""  # in the last column, where a sentence ends
    style: TagStyle = TagStyle()  # noqa: RUF009  frozen
    names: tuple[str, ...] | None = None
    shape: str = ""  # of objects: how they hold text and labels (`read/shapes`)
    keys: tuple[tuple[str, str], ...] = ()  # of objects: our name of a column and the file's, where found out
    offsets: Offsets = "characters"
    ends: Ends = "exclusive"
    tagged: bool = False  # labels of spans are tags, B-PER and I-PER, which join

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reading:
        """Return what `to_json` made."""
        lists = {"names": None if data["names"] is None else tuple(data["names"]), "keys": ()}
        lists["keys"] = tuple((ours, theirs) for ours, theirs in data["keys"])
        return cls(**{**data, **lists, "style": TagStyle(**data["style"])})


@dataclass
class Settled:
    """How a file is read, and what is said of it: `tags in column 3 of 4`.

    unlabelled: what it holds for labels. obeyed: the keys of a recipe that can decide how it is read, as in
    `columns.text`; None: those of its format.
    """

    reading: Reading
    said: list[str] = field(default_factory=list)
    unlabelled: str = ""
    obeyed: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One input file and all that is needed to read it, on any machine."""

    path: str  # path or URI
    name: str  # short, and no other file of the same input has it; ids and messages use it
    format: Kind
    lang: str
    split: str = "train"
    side: str = "target"  # run: which side of its rows is read, source or target
    sentences: bool = False  # cut raw text into sentences
    columns: Names = Names()  # noqa: RUF009  frozen
    features: str = ""  # dataset: JSON of dataset_info.json, for files without features of their own
    carried: bool = True  # its other columns go into the rows; those of parallel text do not
    stamp: str = ""  # size and time of last change when it was found
    carry: tuple[str, ...] | None = None  # the only ones of them that do; None: all
    stated: Stated = Stated()
    reading: Reading = Reading()
    said: tuple[str, ...] = field(default=(), compare=False)  # of how its format was told

    def key(self, name: str) -> str:
        """Return the key or name of one of our columns in this file: as found out, else as the recipe has it."""
        return next((theirs for ours, theirs in self.reading.keys if ours == name), str(getattr(self.columns, name)))

    def ends_with(self, suffix: str) -> bool:
        return bare(self.path).endswith(suffix)

    @property
    def documents(self) -> bool:
        """True if its records are documents, to be cut into sentences; files with a word a line cut themselves."""
        return self.sentences and self.format not in ("conll", "uner", "conllu", "conll2012")

    @property
    def size(self) -> int:
        """The size of the file when it was found, in bytes as it is stored."""
        return int(self.stamp.partition("-")[0])

    def numbered(self, document: int) -> str:
        """Return the id of a document that has none of its own. document: its number among these, from 1."""
        return f"{self.stem}-{document}"

    @property
    def stem(self) -> str:
        folder, slash, base = self.name.rpartition("/")
        return folder + slash + base.removesuffix(".gz").rpartition(".")[0] if "." in base else self.name


def by_file(function: Callable[[File], T]) -> Callable[[File], T]:
    """Remember what a function returns of each of the last files: rows ask again and again."""
    known: dict[int, tuple[File, T]] = {}

    @wraps(function)
    def asked(file: File) -> T:
        found = known.get(id(file))
        if found is None or found[0] is not file:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[id(file)] = (file, function(file))
        return found[1]

    return asked


@dataclass(slots=True)
class Raw:
    """One record as the file has it, before anything is made of it."""

    place: Place | None
    line: int  # as in `Record`
    data: Any  # by its format: the lines of a sentence, an object, a line
    valid: bool = True  # UTF-8
    doc_id: str | None = None  # of the document that it stands in
    extra: tuple[pa.RecordBatch, int] | None = None  # a row of a batch that holds what is carried
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of numbers, by column (ClassLabel)


@dataclass(slots=True)
class Record:
    """One sentence as the file has it. Labels are `spans` over tokens, or `chars` over the code points of the text."""

    line: int  # line of its first word, from 1; row of a table, from 0
    id: str | None = None  # the user's own
    doc_id: str | None = None
    split: str | None = None
    text: str | None = None
    tokens: list[str] | None = None
    spans: list[Span] | None = None
    chars: list[tuple[int, int, str]] | None = None
    repaired: int = 0  # tags that had to be read as another
    # What is carried: JSON of all, text by column, or a row of a batch
    extra: str | dict[str, str | None] | tuple[pa.RecordBatch, int] | None = None
    image: str | Embedded | None = None  # the reference of its picture, as the file has it
    reason: Reason | None = None
    detail: str = ""
    # Of a sentence that was cut out of a document (`records.cut`)
    number: int | None = None  # among the sentences of a document without an id
    start: int | None = None  # where it begins there: code points of the text, or words where it came as tokens
    joined: bool = False  # it is several, which a span holds together
    # Of a document that will be cut: code points of entities that no row can hold, and why; their sentences are lost
    faults: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        return self.spans is not None or self.chars is not None


def split_of_file(relative: str) -> str | None:
    """Return the split that a file's name or its nearest folder names, as `datasets` reads it, or None.

    >>> split_of_file("data/train-00000-of-00001.parquet"), split_of_file("dev/a.conll"), split_of_file("a.conll")
    ('train', 'validation', None)
    """
    for part in reversed(relative.split("/")):
        for word in re.split(r"[^A-Za-z]+", part):
            if split := split_name(word):
                return split
    return None


def without_surrogates(text: str) -> str:
    """Replace each half of a surrogate pair, which UTF-8 cannot write, by U+FFFD."""
    return SURROGATES.sub("\ufffd", text)


def name_text(value: Any, column: str) -> str | None:
    """Return an id, document id or split as text; BadRecord unless it is text or a whole number."""
    if not value and (value is None or isinstance(value, str)):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: text or a whole number")
    return str(value)


def refused(text: str, *, name: bool = False) -> bool:
    """Return whether a text, or a name, holds a character that could not be written out again."""
    if text.isascii() and text.isprintable():  # a tenth of the time
        return False
    return (_REFUSED_IN_NAMES if name else REFUSED).search(text) is not None


def document_name(text: str) -> str:
    """Return the id of a document, with U+FFFD for what could not be written out: its sentences are good without."""
    return _REFUSED_IN_NAMES.sub("\ufffd", text)


def refuse_characters(record: Record) -> None:
    """Give the record a reason if one of its characters or labels could not be written out again."""
    if record.reason is not None:
        return
    labels = [*(span.label for span in record.spans or ()), *(label for _, _, label in record.chars or ())]
    names = [record.id or "", record.doc_id or "", *labels]
    texts = [record.text or "", *(record.tokens or ())]
    if refused("".join(names), name=True) or refused(" ".join(texts)):
        kinds = ["id", "doc_id", *("label" for _ in labels)]
        found = [
            (f"the {kind} ", name, _REFUSED_IN_NAMES.search(name)) for kind, name in zip(kinds, names, strict=True)
        ]
        found += [("", text, REFUSED.search(text)) for text in texts]
        surrogate = next(((kind, text) for kind, text, _ in found if SURROGATES.search(text)), None)
        kind, wrong, control = next(item for item in found if item[2])
        if surrogate is not None:
            record.reason = Reason.BAD_UTF8
            record.detail = f"half a surrogate pair in {surrogate[0]}{short(surrogate[1])}"
        elif control:
            record.reason = Reason.CONTROL_CHARACTER
            record.detail = f"U+{ord(control[0]):04X} in {kind}{short(wrong)}"
        return
    if odd := [label for label in labels if not label or label != label.strip()]:
        record.reason, record.detail = Reason.BAD_SPAN, f"{odd[0]!r} is not a valid label"


def record_id(record: Record, file: File) -> str:
    """Return the user's id, else `<file>:<line>`, or `<file>:<line>#<number>` of a sentence of a document."""
    if record.id is not None:
        return record.id
    return f"{file.name}:{record.line}" + ("" if record.number is None else f"#{record.number}")
