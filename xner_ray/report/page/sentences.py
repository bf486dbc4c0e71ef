"""A sentence as the page shows it, in plain values: sides in pieces, entities, links, losses.

All sizes are bounded, so a page of some hundred sentences stays small whatever the input holds; the page says what is
cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from xner_ray.data.languages import LANGUAGES
from xner_ray.data.row import REJECTED, unmatchable
from xner_ray.report.colours import Look, look
from xner_ray.report.cures import Told, told
from xner_ray.report.page.sampling import entities

WORDS, CHARACTERS = 100, 900  # of a side
_WORD, _GAP, _PHRASE, _DETAIL = 60, 4, 80, 300  # characters of a word, between words, of an entity, of a detail
_ENTITIES = 40  # of a sentence
LEAST_LINK = 0.3  # either way; at most three links of a word are as probable
Thumbnail = Callable[[Mapping[str, Any]], str | None]

# Control characters, also those that change the direction of the text around them: shown by number. Joiners and the
# marks LRM, RLM and ALM are part of how words are written.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")


@dataclass(frozen=True)
class Word:
    gap: str  # the text before it
    text: str
    links: str  # numbers of linked words, separated by blanks


@dataclass(frozen=True)
class Piece:
    """Neighbouring words of one entity or of none."""

    words: Sequence[Word]
    label: str | None = None
    number: str = ""  # of the source entity, the same on both sides
    look: Look | None = None
    lost: bool = False  # a missing source entity


@dataclass(frozen=True)
class PageSide:
    kind: str  # source | bridge | target
    lang: str
    name: str
    tag: str  # BCP 47
    direction: str  # ltr | rtl
    pieces: Sequence[Piece]
    cut: int  # words not shown


@dataclass(frozen=True)
class Fate:
    """The outcome of a source entity, or a difference between projected and gold entities."""

    number: str
    text: str
    label: str
    look: Look
    kind: str  # placed | lost | rejected | missed | spurious
    places: Sequence[tuple[str, str]]  # words on the target side, score
    reason: str
    told: Told | None  # the reason in words
    links: Sequence[str]
    tag: str
    target_tag: str


@dataclass(frozen=True)
class Moved:
    """What the picture says of an entity's label. said: the numbers behind it, if it gave another label."""

    text: str
    before: str
    after: str
    said: Sequence[str]
    exchanged: str  # the label that another picture of the unit would have given; "" if there is none


@dataclass(frozen=True)
class Box:
    """Where an entity is in a picture, in percent of its sides."""

    text: str
    look: Look
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """The picture of a sentence. source: the address `data:` of a thumbnail; "" where it cannot be shown."""

    name: str
    source: str
    moved: Sequence[Moved]
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Sentence:
    id: str
    row: int
    lang: str
    split: str
    kinds: Sequence[str]  # lost | differs | rejected | flagged | clean, for the filters
    labels: Sequence[int]  # indices into the run's labels
    sides: Sequence[PageSide]
    wrong: Sequence[Fate]  # missing or not as in gold
    placed: Sequence[Fate]
    more: int  # entities not listed
    flags: Sequence[tuple[str, Told | None]]  # each in words too
    reason: str
    told: Told | None
    detail: str
    picture: Picture | None = None


def visible(text: str) -> str:
    """Return text with control characters by their numbers.

    >>> visible("a\\u202eb")
    'a⟨U+202E⟩b'
    """
    return _INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def short(text: str, most: int) -> str:
    """Return at most so many characters, a cut marked.

    >>> short("abcdef", 4), short("abcd", 4)
    ('abc…', 'abcd')
    """
    return visible(text if len(text) <= most else text[: most - 1] + "…")


def language_tag(code: str) -> str:
    """Return a BCP 47 tag, for the attribute `lang`.

    >>> language_tag("arb_Arab"), language_tag("swh_Latn")
    ('ar-Arab', 'sw-Latn')
    """
    language = LANGUAGES.get(code)
    return f"{language.iso639_1 or language.iso639_3}-{language.script}" if language else "und"


def direction(code: str) -> str:
    """Return the direction of a language for the attribute `dir`; `auto` if the language is not known."""
    return LANGUAGES[code].direction if code in LANGUAGES else "auto"


def view(row: Mapping[str, Any], labels: Sequence[str], thumbnail: Thumbnail = lambda row: None) -> Sentence:
    """Return what is shown of a row with the columns `sampling.COLUMNS`. labels: the run's, in order.

    thumbnail: returns the address `data:` of a small copy of a row's picture.
    """
    numbers = {label: n for n, label in enumerate(labels)}
    aside, source = unmatchable(row), row["source_spans"] or ()
    spans, gold = row["spans"] or (), row["gold_spans"]
    bridged = row["bridge_tokens"] is not None
    forth, back = _links(row, "source", "target"), _links(row, "target", "source")
    sides = []
    if row["source_text"] or row["source_tokens"]:
        shown = [{**span, "source": n} for n, span in enumerate(source) if n not in aside]
        sides.append(_side(row, "source", shown, {} if bridged else forth))
    if bridged:
        sides.append(_side(row, "bridge", row["bridge_spans"] or (), forth))
    if row["text"] or row["tokens"]:
        sides.append(_side(row, "target", spans, back))
    fates = _fates(row, forth)
    wrong, placed = ([fate for fate in fates if (fate.kind == "placed") == good] for good in (False, True))
    rejected = row["status"] == REJECTED
    differs = not rejected and gold is not None and entities(gold) != entities(spans)
    tests = {"rejected": rejected, "lost": row["unprojected"], "differs": differs, "flagged": row["flags"]}
    found = [kind for kind, holds in tests.items() if holds]
    named = {span["label"] for each in (source, spans, gold or ()) for span in each}
    return Sentence(
        id=short(row["id"] or "", 120),
        row=row["row"],
        lang=row["lang"],
        split=short(row["split"] or "", 40),
        kinds=found or ["clean"],
        labels=sorted(numbers[label] for label in named if label in numbers),
        sides=sides,
        wrong=wrong[:_ENTITIES],
        placed=placed[:_ENTITIES],
        more=max(0, len(wrong) - _ENTITIES) + max(0, len(placed) - _ENTITIES),
        flags=[(short(flag, 40), told("flag", flag)) for flag in (row["flags"] or ())[:20]],
        reason=row["reason"] or "",
        told=told("reason", row["reason"] or ""),
        detail=short(row["detail"] or "", _DETAIL),
        picture=_picture(row, thumbnail) if row.get("image") else None,
    )


def _picture(row: Mapping[str, Any], thumbnail: Thumbnail) -> Picture:
    """Return a row's picture, the entities that it judged, and where they are in it."""
    numbers: dict[tuple[int, str], tuple[float, float]] = {}
    for cell in row["image_evidence"] or ():
        numbers[cell["source"], cell["label"]] = cell["text"], cell["image"]
    moved = []
    for cell in (row["image_labels"] or ())[:_ENTITIES]:
        span = row["source_spans"][cell["source"]]
        words = " ".join(row["source_tokens"][span["start"] : span["end"]])
        said = []
        if cell["text"] != cell["image"]:
            for label in (cell["text"], cell["image"]):
                text, image = numbers[cell["source"], label]
                said.append(f"{short(label, 40)}: by the text {text:.2f}, by the picture {image:+.2f}")
        exchanged = short(cell["exchanged"] or "", 40)
        moved.append(
            Moved(short(words, _PHRASE), short(cell["text"], 40), short(cell["image"], 40), tuple(said), exchanged)
        )
    source = thumbnail(row) if row["image_id"] else None
    return Picture(short(row["image"], _PHRASE), source or "", moved, _boxes(row) if source else ())


def _boxes(row: Mapping[str, Any]) -> list[Box]:
    found = []
    for cell in (row["image_boxes"] or ())[:_ENTITIES]:
        span = row["source_spans"][cell["source"]]
        words = " ".join(row["source_tokens"][span["start"] : span["end"]])
        x0, y0, x1, y1 = (round(100 * cell[end], 2) for end in ("x0", "y0", "x1", "y1"))
        said = f"{short(words, _PHRASE)} {cell['score']:.2f}"
        size = max(0.0, round(x1 - x0, 2)), max(0.0, round(y1 - y0, 2))
        found.append(Box(said, look(span["label"]), x0, y0, *size))
    return found


def _links(row: Mapping[str, Any], start: str, end: str) -> dict[int, list[int]]:
    """Map each word on the side `start` to its probable words on the side `end`; "source" may mean the bridge."""
    found: dict[int, list[int]] = {}
    for link in row["links"] or ():
        if max(link["forward"], link["backward"]) >= LEAST_LINK:
            found.setdefault(link[start], []).append(link[end])
    return found


def _side(
    row: Mapping[str, Any],
    kind: str,
    spans: Sequence[Mapping[str, Any]],
    links: Mapping[int, Sequence[int]],
) -> PageSide:
    prefix = {"source": "source_", "bridge": "bridge_", "target": ""}[kind]
    lang = row["lang"] if kind != "source" else row["source_lang"]
    text, offsets = (row[f"{prefix}text"] or "", row[f"{prefix}offsets"]) if kind != "bridge" else ("", None)
    tokens = row[f"{prefix}tokens"]
    if tokens is None:  # the row was rejected before tokenization
        tokens, offsets = text.split(), None
    words: list[Word] = []
    left = CHARACTERS
    for n, token in enumerate(tokens):
        left -= min(len(token), _WORD) + 1
        if n == WORDS or left < 0:
            break
        linked = [str(other) for other in links.get(n, ()) if other < WORDS][:WORDS]
        words.append(Word(_gap(text, offsets, n), short(token, _WORD), " ".join(linked)))
    unplaced = {each["source"] for each in row["unprojected"] or ()}
    ends = sorted({0, len(words)} | {min(at, len(words)) for span in spans for at in (span["start"], span["end"])})
    pieces = []
    for start, end in pairwise(ends):
        span = next((span for span in spans if span["start"] <= start and end <= span["end"]), None)
        if span is None:
            pieces.append(Piece(words[start:end]))
            continue
        label = span["label"]
        lost = kind == "source" and span["source"] in unplaced
        pieces.append(Piece(words[start:end], short(label, 40), _number(span), look(label), lost))
    return PageSide(
        kind=kind,
        lang=lang or "",
        name=LANGUAGES[lang].name if lang in LANGUAGES else "",
        tag=language_tag(lang),
        direction=direction(lang),
        pieces=pieces,
        cut=len(tokens) - len(words),
    )


def _gap(text: str, offsets: Sequence[Mapping[str, int]] | None, n: int) -> str:
    """Return the text before word n: a blank, or nothing in a language without blanks."""
    if n == 0:
        return ""
    if not offsets or n >= len(offsets):
        return " "
    return visible(text[offsets[n - 1]["end"] : offsets[n]["start"]])[:_GAP]


def _number(span: Mapping[str, Any]) -> str:
    source = span.get("source")
    return str(source + 1) if source is not None and source >= 0 else ""


def _phrase(tokens: Sequence[str] | None, span: Mapping[str, Any], spaces: bool) -> str:
    return short((" " if spaces else "").join((tokens or ())[span["start"] : span["end"]]), _PHRASE)


def _fates(row: Mapping[str, Any], links: Mapping[int, Sequence[int]]) -> list[Fate]:
    """Return each source entity with its places or the reason why it has none, then the differences from gold."""
    spans = row["spans"] or ()
    here, there = (LANGUAGES.get(row[name]) for name in ("source_lang", "lang"))
    source_spaces, spaces = here is None or here.spaces, there is None or there.spaces
    reasons = {each["source"]: each["reason"] for each in row["unprojected"] or ()}
    bridge = {_number(span): span for span in row["bridge_spans"] or ()}
    tokens, source_tokens = row["tokens"] or (), row["source_tokens"] or ()

    def fate(label: str, kind: str, text: str, **more: Any) -> Fate:
        given = {"number": "", "places": (), "reason": "", "told": None, "links": (), **more}
        sides = (row["source_lang"], row["lang"]) if kind in ("placed", "lost", "rejected") else (row["lang"],) * 2
        tag, target_tag = map(language_tag, sides)
        return Fate(
            text=text,
            label=short(label, 40),
            look=look(label),
            kind=kind,
            tag=tag,
            target_tag=target_tag,
            **given,
        )

    found = []
    for n, span in enumerate(row["source_spans"] or ()):
        places = [each for each in spans if each["source"] == n]
        shown = [
            (_phrase(tokens, each, spaces), "" if each["score"] is None else f"{each['score']:.2f}") for each in places
        ]
        kind = "placed" if places else "rejected" if row["status"] == REJECTED else "lost"
        start = bridge.get(str(n + 1)) if row["bridge_tokens"] is not None else span
        words = range(start["start"], start["end"]) if start else range(0)
        names = row["bridge_tokens"] if row["bridge_tokens"] is not None else source_tokens
        linked = [
            f"{short(names[word], 30)} → {', '.join(short(tokens[other], 30) for other in links[word][:6])}"
            for word in words
            if word in links and word < len(names) and all(other < len(tokens) for other in links[word])
        ][:12]
        text = _phrase(source_tokens, span, source_spaces)
        reason = reasons.get(n, "")
        more = {"number": str(n + 1), "places": shown, "reason": reason, "told": told("loss", reason), "links": linked}
        found.append(fate(span["label"], kind, text, **more))
    if row["gold_spans"] is not None and row["status"] != REJECTED:
        gold, made = entities(row["gold_spans"]), entities(spans)
        for kind, differing in (("missed", gold - made), ("spurious", made - gold)):
            for start, end, label in sorted(differing):
                found.append(fate(label, kind, _phrase(tokens, {"start": start, "end": end}, spaces)))
    return found
