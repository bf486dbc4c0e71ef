"""Text with marks around its entities, a sentence a line: `[Nora](PER)`, `[PER Nora]`, `<PER>Nora</PER>` and others.

Which marks a file has is found out, and nothing of them stays in the text. `Nora/B-PER went/O` has a tag for each word.
Where the lines with marks are items of lists, as in Rasa's Markdown and YAML, the items are the sentences; headings,
keys, and the items of synonyms, tables and expressions are left out. So are lines that hold one element's tag alone.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from xner_ray.data.tag_styles import problem_of, tags_of
from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import LONE_CR, byte_lines, decode, line_pieces
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, short
from xner_ray.read.sniff.content import ELEMENTS, LAYOUT, MARKS, SLASHED, marks_in, slashed
from xner_ray.read.sniff.encoding import cure
from xner_ray.read.word_lines.tags import tag_spans

# Of each style: what opens an entity, what closes it; a group holds the label. Other brackets are text.
_TOKENS = {
    "[text](LABEL)": re.compile(
        r"(?P<open>\[)|(?P<close>\]\((?P<after>[^()\s:/#?]+)(?::(?!//)[^()]*)?\)"
        r'|\]\{[^{}]*"entity"\s*:\s*"(?P<json>[^"]+)"[^{}]*\})'
        r"|(?P<plain>\](?:\((?:[a-z]+://|www\.|/|#)[^()\s]*\))?(?!\())|(?P<broken>\]\()"
    ),
    "[LABEL text]": re.compile(r"(?P<open>\[(?P<before>[A-Z][A-Z0-9_-]*) +)|(?P<close>\])|(?P<plain>\[)"),
    "<LABEL>text</LABEL>": re.compile(
        r"(?P<close></(?P<name>[A-Za-z][\w.-]*)\s*>)|(?P<open><(?P<before>[A-Za-z][\w.-]*)(?P<rest>(?:\s[^<>]*)?)>)"
    ),
    "{{LABEL:text}}": re.compile(r"(?P<open>\{\{(?P<before>[A-Za-z][\w-]*):\s*)|(?P<close>\}\})"),
    "<START:LABEL> text <END>": re.compile(r"(?P<open><START:(?P<before>[^<>\s]+)>\s*)|(?P<close>\s*<END>)"),
}
_TYPE = re.compile(r"""\s(?:type|label|class|category)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)


_ITEM = re.compile(r"\s*[-*+]\s+")
_SECTION = re.compile(r"\s*(?:##+\s*|-\s+)(intent|synonym|lookup|regex|story|rule)s?\s*:", re.IGNORECASE)  # of Rasa
_SENTENCES = ("intent", "")
_TAG_ALONE = re.compile(r"\s*<[/?!]?[A-Za-z][^<>]*>\s*")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});")
_MOST_TAGS = 4096


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the lines of a file that are not blank. Those of Rasa stand in a section: `doc_id` is its kind."""
    rasa = _is_rasa(file)
    section = start.doc_id
    for number, (offset, line) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        if line.strip():
            text, valid = decode(line)
            if rasa and (found := _SECTION.match(text)):
                section = found[1].lower()
            yield Raw(Place(offset, number - 1, section), number, text, valid, section)


def _is_rasa(file: File) -> bool:
    return any(map(file.ends_with, (".md", ".yml", ".yaml")))


def record(raw: Raw, file: File) -> Record:
    """Return the record of one line."""
    made = Record(raw.line, text=raw.data)
    style = file.reading.shape or next(iter(marks_in(raw.data)), "")
    try:
        if "\r" in raw.data:
            raise BadRecord(Reason.MALFORMED, LONE_CR)
        if style in SLASHED:
            _add_words(made, raw.data, style, file)
        else:
            made.text, made.chars = _clean(_sentence(raw, style, file), style) if style else (raw.data, [])
            if other := marks_in(made.text):
                raise BadRecord(Reason.MALFORMED, f"has marks as {other[0]} too, where the file has {style}")
    except BadRecord as bad:
        made.text, made.chars, made.reason, made.detail = raw.data, None, bad.reason, bad.detail
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, f"not UTF-8; where a whole file is not, {cure('latin1')}"
    return made


def _add_words(made: Record, line: str, style: str, file: File) -> None:
    """Give a record the words of a line and their tags."""
    pairs = slashed(line, SLASHED[style])
    if pairs is None:
        bad = next(part for part in line.split() if not all(part.rpartition(SLASHED[style])[::2]))
        raise BadRecord(Reason.MALFORMED, f"{short(bad)} is no word with its tag, as {style}")
    made.text, made.tokens = None, [word for word, _ in pairs]
    made.spans, made.repaired = tag_spans([tag for _, tag in pairs], file.reading.style)


def _sentence(raw: Raw, style: str, file: File) -> str:
    """Return what a line holds of a sentence. BadRecord, with LEFT_OUT, where that is nothing."""
    line: str = raw.data
    if style == ELEMENTS and _TAG_ALONE.fullmatch(line):
        raise BadRecord(Reason.LEFT_OUT, f"one element's tag alone: {short(line.strip())}")
    if file.reading.mark != _ITEMS:
        return line
    item = _ITEM.match(line)
    if item is None or (_is_rasa(file) and _SECTION.match(line)):
        raise BadRecord(Reason.LEFT_OUT, f"no item of a list, as the lines with marks are: {short(line.strip())}")
    if (raw.doc_id or "") not in _SENTENCES:
        raise BadRecord(Reason.LEFT_OUT, f"an item of a {raw.doc_id} of Rasa, which is no sentence")
    return line[item.end() :]


_ITEMS = "-"
"""`Reading.mark` of a file whose sentences are items of lists."""


def _clean(text: str, style: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Return a text without its marks, and its entities. BadRecord for marks without their counterpart.

    >>> _clean("[ORG University of [LOC Oslo]]!", "[LABEL text]")
    ('University of Oslo!', [(14, 18, 'LOC'), (0, 18, 'ORG')])
    """
    tokens = list(_TOKENS[style].finditer(text))
    pairs, dropped = _pairs(tokens, style)
    clean, size, at = [], 0, 0
    places = {}
    resolved = html.unescape if style == ELEMENTS and _ENTITY.search(text) else str
    for number, token in enumerate(tokens):
        if number in dropped:
            clean.append(resolved(text[at : token.start()]))
            size += len(clean[-1])
            at = token.end()
            places[number] = size
    whole = "".join([*clean, resolved(text[at:])])
    spans = []
    for first, (last, label) in pairs.items():
        inside = whole[places[first] : places[last]]
        if not inside.strip():
            where = f"column {tokens[first].start() + 1}"
            raise BadRecord(Reason.BAD_SPAN, f"{where}: {short(tokens[first][0])} marks nothing")
        start = places[first] + len(inside) - len(inside.lstrip())
        spans.append((start, start + len(inside.strip()), label))
    return whole, spans


def _pairs(tokens: Sequence[re.Match[str]], style: str) -> tuple[dict[int, tuple[int, str]], set[int]]:
    """Return the mark that closes each opening one, with the label, and all marks that do not belong to the text."""
    pairs: dict[int, tuple[int, str]] = {}
    dropped: set[int] = set()
    opened: list[int] = []

    def bad(number: int, what: str) -> BadRecord:
        token = tokens[number]
        return BadRecord(Reason.MALFORMED, f"column {token.start() + 1}: {short(token[0])} {what}")

    for number, token in enumerate(tokens):
        named = token.groupdict()
        layout = style == ELEMENTS and LAYOUT.fullmatch((named["before"] or named["name"]).lower())
        if layout:
            dropped.add(number)
        elif named.get("broken"):
            raise bad(number, "has no label and no ) behind it")
        elif token.lastgroup == "plain" and style == "[text](LABEL)":
            del opened[-1:]  # brackets of the text
        elif named["open"] or named.get("plain"):
            opened.append(number)
        elif not opened:
            raise bad(number, "closes nothing")
        elif tokens[first := opened.pop()].groupdict().get("plain") is None:
            begun = tokens[first].groupdict()
            if named.get("name") not in (None, begun.get("before")):
                raise bad(number, f"does not close {tokens[first][0]}")
            label = named.get("after") or named.get("json") or begun.get("before") or ""
            if found := _TYPE.search(begun.get("rest") or ""):
                label = found[1] or found[2] or label
            pairs[first] = number, label
            dropped |= {first, number}
    if left := [number for number in opened if not tokens[number].groupdict().get("plain")]:
        raise bad(left[0], "is not closed")
    return pairs, dropped


class _Evidence:
    """How many lines have marks of each style, how many of these are items of lists, and the tags of words."""

    def __init__(self) -> None:
        self.styles: Counter[str] = Counter()
        self.lines = self.items = self.entities = 0
        self.slashed: Counter[str] = Counter()  # lines, by style
        self.tags: dict[str, Counter[str]] = {style: Counter() for style in SLASHED}

    def add(self, raw: Raw) -> None:
        line: str = raw.data
        found = marks_in(line)
        self.styles.update(found)
        self.lines += 1
        self.items += bool(found) and _ITEM.match(line) is not None
        self.entities += bool(found) and _ENTITY.search(line) is not None
        for style, mark in SLASHED.items():
            if (pairs := slashed(line, mark)) is not None:
                self.slashed[style] += 1
                if len(self.tags[style]) <= _MOST_TAGS:
                    self.tags[style].update(tag for _, tag in pairs)

    def merge(self, later: _Evidence) -> None:
        self.styles += later.styles
        self.slashed += later.slashed
        for name in ("lines", "items", "entities"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for style, counts in later.tags.items():
            if len(self.tags[style]) <= _MOST_TAGS:
                self.tags[style].update(counts)

    def settle(self, file: File) -> Settled:
        for style, count in self.slashed.items():
            if 10 * count >= 9 * self.lines and len(self.tags[style]) <= _MOST_TAGS:
                tags = tags_of(self.tags[style], file.stated.scheme)
                if tags is not None and tags.labels:
                    if problem := problem_of(tags, file.stated.scheme):
                        key = f"input.scheme is {file.stated.scheme}"
                        raise InputError(f"{file.path}: {key}, but {problem}; leave input.scheme out")
                    said = [f"words with their tags as {style}"]
                    said += [f"scheme {tags.style.scheme.upper()}"] if tags.style.scheme != "any" else []
                    reading = replace(file.reading, shape=style, style=tags.style)
                    return Settled(reading, said, obeyed=frozenset(("scheme",)))
        if not self.styles:
            raise InputError(f"{file.path}: no entity is marked; marks look like {', '.join((*MARKS, *SLASHED))}")
        order = {style: number for number, style in enumerate(MARKS)}
        (style, count), *others = sorted(self.styles.items(), key=lambda item: (-item[1], order[item[0]]))
        if others and 10 * others[0][1] > count:
            raise InputError(
                f"{file.path}: {count} lines have entities marked as {style}, and {others[0][1]} as {others[0][0]}; "
                "write them in one way"
            )
        said = [f"entities marked as {style}"]
        items = self.items >= 2 and 20 * self.items >= 19 * self.styles.total()
        if items:
            said.append("items of lists are the sentences, and other lines are left out")
        if style == ELEMENTS and self.entities:
            said.append("&amp; and the like are resolved")
        return Settled(replace(file.reading, shape=style, mark=_ITEMS if items else ""), said)


def pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return bytes at which a line begins; none where lines stand in sections."""
    return [] if _is_rasa(file) else line_pieces(file, wanted)


INLINE = Format(raws, record, evidence=lambda file: _Evidence(), pieces=pieces)
