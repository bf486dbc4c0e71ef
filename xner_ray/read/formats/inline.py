"""Text with marks around its entities, a sentence a line: `[Nora](PER)`, `[PER Nora]`, `<PER>Nora</PER>` and others.

Which marks a file has is found out, and nothing of them stays in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from xner_ray.errors import InputError, Reason
from xner_ray.read.format import Format, Settled
from xner_ray.read.formats.lines import LONE_CR, byte_lines, decode, line_pieces
from xner_ray.read.record import BadRecord, File, Place, Raw, Record, short
from xner_ray.read.sniff.content import LAYOUT, MARKS, marks_in
from xner_ray.read.sniff.encoding import cure

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
}
_TYPE = re.compile(r"""\s(?:type|label|class|category)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)


def raws(file: File, start: Place, stop: int | None) -> Iterator[Raw]:
    """Yield the lines of a file that are not blank."""
    for number, (offset, line) in enumerate(byte_lines(file, start.offset, stop), start=start.line + 1):
        if line.strip():
            text, valid = decode(line)
            yield Raw(Place(offset, number - 1), number, text, valid)


def record(raw: Raw, file: File) -> Record:
    """Return the record of one line."""
    made = Record(raw.line, text=raw.data)
    style = file.reading.shape or next(iter(marks_in(raw.data)), "")
    try:
        if "\r" in raw.data:
            raise BadRecord(Reason.MALFORMED, LONE_CR)
        made.text, made.chars = _clean(raw.data, style) if style else (raw.data, [])
        if other := marks_in(made.text):
            raise BadRecord(Reason.MALFORMED, f"has marks as {other[0]} too, where the file has {style}")
    except BadRecord as bad:
        made.text, made.chars, made.reason, made.detail = raw.data, None, bad.reason, bad.detail
    if not raw.valid:
        made.reason, made.detail = Reason.BAD_UTF8, f"not UTF-8; where a whole file is not, {cure('latin1')}"
    return made


def _clean(text: str, style: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Return a text without its marks, and its entities. BadRecord for marks without their counterpart.

    >>> _clean("[ORG University of [LOC Oslo]]!", "[LABEL text]")
    ('University of Oslo!', [(14, 18, 'LOC'), (0, 18, 'ORG')])
    """
    tokens = list(_TOKENS[style].finditer(text))
    pairs, dropped = _pairs(tokens, style)
    clean, size, at = [], 0, 0
    places = {}
    for number, token in enumerate(tokens):
        if number in dropped:
            clean.append(text[at : token.start()])
            size += token.start() - at
            at = token.end()
            places[number] = size
    whole = "".join([*clean, text[at:]])
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
        layout = style.startswith("<") and LAYOUT.fullmatch((named["before"] or named["name"]).lower())
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
    """How many lines have marks of each style."""

    def __init__(self) -> None:
        self.styles: Counter[str] = Counter()

    def add(self, raw: Raw) -> None:
        self.styles.update(marks_in(raw.data))

    def merge(self, later: _Evidence) -> None:
        self.styles += later.styles

    def settle(self, file: File) -> Settled:
        if not self.styles:
            raise InputError(f"{file.path}: no entity is marked; marks look like {', '.join(MARKS)}")
        order = {style: number for number, style in enumerate(MARKS)}
        (style, count), *others = sorted(self.styles.items(), key=lambda item: (-item[1], order[item[0]]))
        if others and 10 * others[0][1] > count:
            raise InputError(
                f"{file.path}: {count} lines have entities marked as {style}, and {others[0][1]} as {others[0][0]}; "
                "write them in one way"
            )
        return Settled(replace(file.reading, shape=style), [f"entities marked as {style}"])


INLINE = Format(raws, record, evidence=lambda file: _Evidence(), pieces=line_pieces)
