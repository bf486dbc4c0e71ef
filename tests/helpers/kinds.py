"""Kinds of files as users have them: 40 sentences with known entities, and what one kind of file makes of them.

Scripts, quotes, emoji in several parts and words that look like marks of other formats are in the sentences.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PEOPLE = [
    "Nora Falk",
    "Жанна Петрова",
    "नोरा",
    "山田 太郎",
    "O'Brien",
    "ليلى حداد",
    "Ọlá",
    "Zoë D’Amato",
    "José Luis Núñez",
]
PLACES = ["Oslo", "Київ", "दिल्ली", "北京", "Łódź", "القاهرة", "São Tomé", "Île-de-France", "İzmir"]
FIRMS = ["Union européenne", "ACME", "東京 大学", "Ғылым", "C++ Foundation"]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
FRAMES = [
    "{PER} moved to {LOC} .",
    "“ {PER} ” — {LOC} !",
    "😀😀 In {LOC} , {PER} paid 5,000 # of {ORG} .",
    'Did " {ORG} " in {LOC} know ?',
    "The {ORG} 's 👨🏻‍🚒 and e\u0301t\u0301 of {LOC} , {PER} , left 1 % .",
    "Nobody is here ; - _ 0 o .",
    "{PER} {LOC} {ORG} : 3 .",
    "वह {LOC} गई ।",
]


class Sentence(NamedTuple):
    """Words, and entities as (first word, behind the last word, label)."""

    tokens: list[str]
    spans: list[tuple[int, int, str]]

    @property
    def tags(self) -> list[str]:
        """Tags in IOB2."""
        made = ["O"] * len(self.tokens)
        for start, end, label in self.spans:
            made[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
        return made

    @property
    def text(self) -> str:
        return self.joined[0]

    @property
    def joined(self) -> tuple[str, list[tuple[int, int]]]:
        """The text, without blanks before closing marks, and the code points of each word."""
        text, places = "", []
        for token in self.tokens:
            text += " " if text and token not in (".", ",", "!", "?", ";", "।") else ""
            places.append((len(text), len(text) + len(token)))
            text += token
        return text, places

    @property
    def chars(self) -> list[tuple[int, int, str]]:
        """The entities by code points of the text."""
        _, places = self.joined
        return [(places[start][0], places[end - 1][1], label) for start, end, label in self.spans]

    @property
    def names(self) -> list[tuple[str, str]]:
        """The entities as text and label."""
        return [(self.text[start:end], label) for start, end, label in self.chars]


def _sentences() -> list[Sentence]:
    draw = random.Random(16)
    made = []
    for number in range(40):
        tokens: list[str] = []
        spans = []
        for part in FRAMES[number % len(FRAMES)].split(" "):
            kinds = {"{PER}": PEOPLE, "{LOC}": PLACES, "{ORG}": FIRMS}
            words = draw.choice(kinds[part]).split(" ") if part in kinds else [part]
            if part in kinds:
                spans.append((len(tokens), len(tokens) + len(words), part[1:-1]))
            tokens += words
        made.append(Sentence(tokens, spans))
    return made


SENTENCES = _sentences()
Files = dict[str, str | bytes]
Write = Callable[[Sequence[Sentence]], Files]


@dataclass(frozen=True)
class Kind:
    """A kind of file, written of the 40 sentences; and damaged, with the cure that the one message must name.

    number: in the list of kinds (C 1-15). keys: what the recipe must say. damaged: None for the same files without the
    keys. given: the keys that the recipe has when the damaged files are read. cure: `key`, which the message gives;
    `without`, a key to leave out; `line`, to mend, which the message names; `file`, which the message says how to
    mend, and `mended` does it. texts: whether text is compared, not words. cured: what the
    damaged files hold, once they are cured. names: what the message cannot know: the names of numbers.
    """

    number: int
    name: str
    write: Write
    damage: str
    damaged: Write | None = None
    cure: str = "key"
    keys: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    mended: Callable[[str, Files], Files] | None = None
    texts: bool = False
    cured: Sequence[Sentence] = field(default_factory=lambda: SENTENCES)
    names: list[str] | None = None
    slow: bool = False


def with_line(write: Write, number: int, change: Callable[[str], str]) -> Write:
    """Return a writer whose one file has one line changed; number: from 1."""

    def damaged(sentences: Sequence[Sentence]) -> Files:
        ((name, content),) = write(sentences).items()
        assert isinstance(content, str)
        lines = content.split("\n")
        changed = change(lines[number - 1])
        assert changed != lines[number - 1]
        lines[number - 1] = changed
        return {name: "\n".join(lines)}

    return damaged
