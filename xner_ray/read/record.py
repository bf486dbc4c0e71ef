"""The record that files of any format are read into, and the place where reading can start again.

A reader is a generator over one file. It yields `(place, record)`: the sentence, and the place from which reading
would yield this sentence first, or None if the format cannot start there. A record that its format does not allow
is yielded too, with a reason: one bad row never ends a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from icu4py.breakers import SentenceBreaker

from xner_ray.data.languages import LANGUAGES
from xner_ray.data.spans import Span, tags_to_spans
from xner_ray.errors import Reason
from xner_ray.recipe.columns import SPLITS, Columns, Format
from xner_ray.storage.files import bare

Kind = Literal[Format, "links"]
"""What a file can be; links are no format of sentences, so no recipe names them."""
TABLES = ("parquet", "dataset", "run")

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {name: split for split, names in _SPLIT_NAMES.items() for name in names}
SURROGATES = re.compile("[\ud800-\udfff]")
REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_REFUSED_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # line ends and tabs too


class Place(NamedTuple):
    """A place where reading can start, and what the reader knows there."""

    offset: int = 0  # byte of the file; row group of a Parquet file
    line: int = 0  # lines, or rows of a table, before it
    doc_id: str | None = None
    docs: int = 0  # documents so far that had no id of their own


START = Place()


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
    columns: Columns = field(default_factory=Columns)
    features: str = ""  # dataset: JSON of dataset_info.json, for files without features of their own
    carried: bool = True  # its other columns go into the rows; those of parallel text do not
    stamp: str = ""  # size and time of last change when it was found
    carry: tuple[str, ...] | None = None  # the only ones of them that do; None: all

    def ends_with(self, suffix: str) -> bool:
        return bare(self.path).endswith(suffix)

    @property
    def stem(self) -> str:
        folder, slash, base = self.name.rpartition("/")
        return folder + slash + base.removesuffix(".gz").rpartition(".")[0] if "." in base else self.name


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
    reason: Reason | None = None
    detail: str = ""

    @property
    def labelled(self) -> bool:
        return self.spans is not None or self.chars is not None


class BadRecord(Exception):  # noqa: N818  no error of the program
    """A fault of one record; a reader turns it into the record's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


Reader = Iterator[tuple[Place | None, Record]]


def split_name(word: str) -> str | None:
    """Return the split that a word means, or None.

    >>> split_name("dev"), split_name("news")
    ('validation', None)
    """
    return _SPLITS.get(word.lower())


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
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: text or a whole number")
    return str(value)


def short(value: Any) -> str:
    """Return the `repr` of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def from_mapping(
    data: Mapping[str, Any],
    columns: Columns,
    line: int,
    *,
    tag_names: Sequence[str] | None = None,
    span_names: Sequence[str] | None = None,
) -> Record:
    """Make a record of named values (a line of JSONL, a row of a table): tokens with tags, or text with spans.

    If a row has both, the tags count. Tags that are numbers need `tag_names`, labels of spans that are numbers
    `span_names`.
    """
    record = Record(line)
    try:
        record.id = name_text(data.get(columns.id), columns.id)
        record.doc_id = name_text(data.get(columns.doc_id), columns.doc_id)
        if (split := name_text(data.get(columns.split), columns.split)) is not None:
            record.split = split_name(split)
            if record.split is None:
                raise BadRecord(Reason.MALFORMED, f"{columns.split} is {split!r}; allowed: {', '.join(SPLITS)}")
        text = data.get(columns.text)
        if not isinstance(text, str | None):
            raise BadRecord(Reason.MALFORMED, f"{columns.text} is {short(text)}; allowed: text")
        record.text = text
        record.tokens = _tokens(data.get(columns.tokens), columns.tokens)
        if record.text is None and record.tokens is None:
            keys = ", ".join(map(str, data)) or "none"
            raise BadRecord(Reason.MALFORMED, f"has neither {columns.tokens!r} nor {columns.text!r}; keys: {keys}")
        tags, spans = data.get(columns.tags), data.get(columns.spans)
        if tags is not None and record.tokens is not None:
            names = _tags(tags, columns.tags, tag_names)
            if len(names) != len(record.tokens):
                raise BadRecord(Reason.MALFORMED, f"{len(record.tokens)} tokens but {len(names)} {columns.tags}")
            record.spans, record.repaired = tag_spans(names)
        elif tags is not None:
            raise BadRecord(Reason.MALFORMED, f"has {columns.tags!r} but no {columns.tokens!r}")
        elif spans is not None:
            if record.text is None:
                raise BadRecord(Reason.MALFORMED, f"has {columns.spans!r} of characters but no {columns.text!r}")
            record.chars = [char_span(item, len(record.text), span_names) for item in span_items(spans)]
    except BadRecord as bad:
        record.reason, record.detail = bad.reason, bad.detail
    return record


def tag_spans(tags: Sequence[str]) -> tuple[list[Span], int]:
    """Call `tags_to_spans`, with BadRecord instead of ValueError."""
    if tags.count("O") == len(tags):
        return [], 0
    try:
        return tags_to_spans(tags)
    except ValueError as error:
        raise BadRecord(Reason.ILLEGAL_TAG, str(error)) from None


def _tokens(value: Any, column: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        if _all_text(value):
            return value
        # Prodigy writes its tokens as {"text": ..., "start": ..., "end": ...}.
        items = [item.get("text") if isinstance(item, dict) else item for item in value]
        words = [item for item in items if isinstance(item, str)]
        if len(words) == len(items):
            return words
    raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of text")


def _all_text(items: list[Any]) -> bool:
    """Return whether all items are text, ten times as fast as a loop over them."""
    return set(map(type, items)) <= {str}


def _tags(value: Any, column: str, names: Sequence[str] | None) -> list[str]:
    if not isinstance(value, list):
        raise BadRecord(Reason.MALFORMED, f"{column} is {short(value)}; allowed: a list of tags")
    if _all_text(value):
        return value
    return [_named(item, names, Reason.ILLEGAL_TAG) for item in value]


def _named(item: Any, names: Sequence[str] | None, reason: Reason) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        if names is None:
            raise BadRecord(
                Reason.MALFORMED, f"{item} is a number, and no ClassLabel names it; write the tag or label itself"
            )
        if 0 <= item < len(names):
            return names[item]
    raise BadRecord(reason, f"{short(item)} is not a tag or label")


def span_items(value: Any) -> list[Any]:
    """Return the items of a list of spans, or of the struct of lists that older `datasets` made of it."""
    if isinstance(value, dict):
        start, end, label = (value.get(key) for key in ("start", "end", "label"))
        columns = [column for column in (start, end, label) if isinstance(column, list)]
        if len(columns) == 3 and len({len(column) for column in columns}) == 1:
            return list(zip(*columns, strict=True))
    elif isinstance(value, list):
        return value
    raise BadRecord(Reason.BAD_SPAN, f"spans are {short(value)}; allowed: a list of {{start, end, label}}")


def char_span(item: Any, length: int, names: Sequence[str] | None = None) -> tuple[int, int, str]:
    """Return (start, end, label) of a half-open span of characters; BadRecord if it is no range inside the text."""
    if isinstance(item, dict):
        label = item.get("label")
        if label is None and isinstance(item.get("labels"), list) and len(item["labels"]) == 1:
            label = item["labels"][0]  # Label Studio
        start, end = item.get("start"), item.get("end")
    elif isinstance(item, (list, tuple)) and len(item) == 3:
        start, end, label = item
    else:
        start = end = label = None
    if type(start) is not int or type(end) is not int:
        raise BadRecord(
            Reason.BAD_SPAN, f"span {short(item)} is not a range; allowed: {{start, end, label}}, whole numbers"
        )
    if not 0 <= start < end <= length:
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} is empty or leaves the {length} characters")
    name = _named(label, names, Reason.BAD_SPAN)
    if not name or name != name.strip():
        raise BadRecord(Reason.BAD_SPAN, f"span {short(item)} has no valid label")
    return start, end, name


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


def refused(text: str, *, name: bool = False) -> bool:
    """Return whether a text, or a name, holds a character that could not be written out again."""
    return (_REFUSED_IN_NAMES if name else REFUSED).search(text) is not None


def refuse_characters(record: Record) -> None:
    """Give the record a reason if one of its characters or labels could not be written out again."""
    if record.reason is not None:
        return
    labels = [*(span.label for span in record.spans or ()), *(label for _, _, label in record.chars or ())]
    names = [record.id or "", record.doc_id or "", *labels]
    texts = [record.text or "", *(record.tokens or ())]
    if refused("".join(names), name=True) or refused("\n".join(texts)):
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
    """Return the user's id, else `<file>:<line>`."""
    return record.id if record.id is not None else f"{file.name}:{record.line}"
