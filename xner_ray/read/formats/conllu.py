"""CoNLL-U with entities in MISC: `NER=B-PER` (CLASSLA), `name=B-PER` (NorNE), `ner=S-PERSON` (stanza).

Its sentences are told apart as those of UNER are (`conll.py`). The library `conllu` knows neither lines nor bytes: no
row could name its place, and reading could start nowhere but at the start. Words are the syntactic ones: ranges (`3-4`)
and empty nodes (`5.1`) are none. White space inside a word cuts it into several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xner_ray.data.tag_styles import Tags, problem_of, tags_of
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Settled
from xner_ray.read.record import BadRecord, File, Raw, Reading, Record, short
from xner_ray.read.word_lines.cells import Sentence
from xner_ray.read.word_lines.evidence import NO_WORD, Column
from xner_ray.read.word_lines.tags import spans_of

_WIDTH, _MISC = 10, 9
_NONE = ("", "_")
_MOST_KEYS = 256
_USUAL = ("ner", "name", "ne", "named_entity")  # keys whose values may be labels alone


def _rows(sentence: Sentence, first: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of each word; BadRecord for a line that is none of CoNLL-U."""
    lines = sentence.lines
    for number, line in zip(sentence.numbers or range(first, first + len(lines)), lines, strict=True):
        cells = line.split("\t")
        if not cells[0].isdecimal() and NO_WORD.match(cells[0]):
            continue
        if len(cells) != _WIDTH or not cells[0].isdecimal():
            problem = f"line {number} is not a number and nine more columns between tabs"
            raise BadRecord(Reason.MALFORMED, f"{problem}, but {len(cells)}: {short(line)}")
        yield number, cells


def _value(misc: str, key: str) -> str:
    """Return the value of a key in MISC, an empty text if it has none.

    >>> _value("SpaceAfter=No|NER=B-PER", "NER")
    'B-PER'
    """
    if key in misc:
        for part in misc.split("|"):
            name, _, value = part.partition("=")
            if name == key:
                return value
    return ""


def record(raw: Raw, file: File) -> Record:
    """Return the record of one sentence."""
    sentence: Sentence = raw.data
    made = Record(raw.line, sentence.id, raw.doc_id, text=sentence.text)
    key, outside = dict(file.reading.keys).get("tags"), file.reading.style.outside
    words: list[str] = []
    tags: list[str] = []
    numbers: list[int] = []
    try:
        if sentence.fault:
            raise BadRecord(Reason.MALFORMED, sentence.fault)
        for number, cells in _rows(sentence, raw.line):
            tag = (_value(cells[_MISC], key) if key else "") or outside
            parts = cells[1].split() or [cells[1]]
            words += parts
            tags += [tag, *(_inner(tag, file) for _ in parts[1:])]
            numbers += [number] * len(parts)
        made.tokens = words
        if key:
            made.spans, made.repaired = spans_of(tags, numbers, file.reading.style)
    except BadRecord as bad:
        made.reason, made.detail = bad.reason, bad.detail
    if made.tokens is None and made.text is None:
        made.text = sentence.body
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, "not UTF-8"
    return made


def _inner(tag: str, file: File) -> str:
    """Return the tag that goes on with another one's entity."""
    style = file.reading.style
    if tag == style.outside or style.scheme == "io":
        return tag
    label = tag.rpartition(style.separator)[0] if style.last else tag.partition(style.separator)[2]
    return f"{label}{style.separator}I" if style.last else f"I{style.separator}{label}"


class ConlluEvidence:
    """The values of each key in MISC; those of a key that holds no tags are soon too many, and then not kept."""

    def __init__(self) -> None:
        self.keys: dict[str, Column] = {}
        self.words = 0
        self.mentions = False

    def add(self, raw: Raw) -> None:
        try:
            miscs = [cells[_MISC] for _, cells in _rows(raw.data, raw.line)]
        except BadRecord:
            return
        self.words += len(miscs)
        found: dict[str, list[str]] = {}
        for place, misc in enumerate(miscs):
            if misc not in _NONE:
                for part in misc.split("|"):
                    key, mark, value = part.partition("=")
                    if mark:
                        found.setdefault(key, ["O"] * len(miscs))[place] = value
        for key, values in found.items():
            self.mentions = self.mentions or key == "Entity"
            if key in self.keys or len(self.keys) < _MOST_KEYS:
                self.keys.setdefault(key, Column()).add(values)

    def merge(self, later: ConlluEvidence) -> None:
        self.words += later.words
        self.mentions = self.mentions or later.mentions
        for key, column in later.keys.items():
            if key in self.keys or len(self.keys) < _MOST_KEYS:
                self.keys.setdefault(key, Column()).merge(column)

    def settle(self, file: File) -> Settled:
        stated = file.columns.stated("tags")
        tagged = {key: tags for key, column in self.keys.items() if (tags := _tags(column, file)) and tags.labels}
        if stated is not None and stated not in self.keys:
            raise InputError(f"{file.path}: input.columns.tags: MISC has no key {stated!r}; {self._shown(file)}")
        full = sorted(key for key, tags in tagged.items() if tags.letters or key.lower() in _USUAL)
        if stated is None and len(full) > 1:
            shown = "; ".join(f"{key}: {', '.join(sorted(tagged[key].labels)[:4])}" for key in full)
            raise InputError(
                f"{file.path}: several keys of MISC hold tags of entities ({shown}); say which one is meant: "
                f"input.columns: {{tags: {full[0]}}}"
            )
        usual = sorted(key for key in self.keys if key.lower() in _USUAL)
        key = stated or next(iter([*full, *usual]), None)
        if key is None:
            return self._without(file)
        made = tagged.get(key)
        style = made.style if made is not None else Reading().style
        if made is not None and (problem := problem_of(made, file.stated.scheme)):
            raise InputError(f"{file.path}: input.scheme: {file.stated.scheme} does not fit {key}=: {problem}")
        if made is not None and (made.double or (made.mixed and file.stated.scheme is None)):
            odd = made.double[0] if made.double else made.wrong.most_common(1)[0][0]
            raise InputError(
                f"{file.path}: {key}= of MISC has two spellings, or two tags in one, as {odd}; mend the file, or set "
                "input.scheme: iob2, which rejects the sentences with the others"
            )
        column = self.keys[key]
        if made is not None and set(made.letters) <= set("BI") and column.seen and not column.opened:
            style = replace(style, scheme="iob1" if file.stated.scheme is None else style.scheme)
        said = [f"tags in {key}= of MISC"]
        if style.scheme not in ("any", "iob2"):
            said.append(f"scheme {style.scheme.upper()}")
        return Settled(Reading(keys=(("tags", key),), style=style), said)

    def _without(self, file: File) -> Settled:
        if self.mentions:
            raise InputError(
                f"{file.path}: MISC has Entity=, brackets of coreference, and no tags of entities; {self._shown(file)}"
            )
        return Settled(Reading(), [f"no tags of entities in MISC; {self._shown(file)}"] if self.words else [])

    def _shown(self, file: File) -> str:
        keys = ", ".join(sorted(self.keys)[:8])
        return f"its keys are {keys or 'none'}; tags are read from one as in NER=B-PER: input.columns: {{tags: NER}}"


def _tags(column: Column, file: File) -> Tags | None:
    """Return how the values of a key are written; words without the key are O."""
    if column.many:
        return None
    return tags_of(column.values, file.stated.scheme)
