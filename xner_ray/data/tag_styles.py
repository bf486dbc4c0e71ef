"""How a column of tags is spelled, found out from how often each of them occurs.

A tag has a prefix of one letter, or it is a label alone (IO). Separators, the side of the prefix and the spelling of
O are found; a scheme may be stated, and is checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

PREFIXES = {"any": "BIESLU", "iob1": "BI", "iob2": "BI", "bioes": "BIESLU", "bmes": "BMESWI", "io": ""}
_MEANT = {"M": "I", "W": "S"}  # of BMES and BMEWO


@dataclass(frozen=True, slots=True)
class TagStyle:
    """How a file spells its tags; the default takes IOB1, IOB2, IOBES and BILOU alike.

    >>> TagStyle("bmes", separator="_").canonical("M_PER"), TagStyle("io").canonical("PERSON")
    ('I-PER', 'I-PERSON')
    """

    scheme: str = "any"  # a key of PREFIXES; io: labels alone
    separator: str = "-"
    last: bool = False  # the prefix stands last, as in PER-B
    outside: str = "O"

    def canonical(self, tag: str) -> str:
        """Return a tag as `split_tag` reads it. ValueError if it is none."""
        return tag if self == _PLAIN else _canonical(self, tag)

    @property
    def repairs(self) -> bool:
        """True if an `I-` that opens an entity counts as repaired: it is no way to write one in this scheme."""
        return self.scheme not in ("iob1", "io")


_PLAIN = TagStyle()


@lru_cache(maxsize=4096)
def _canonical(style: TagStyle, tag: str) -> str:
    if tag == style.outside:
        return "O"
    prefixes = PREFIXES[style.scheme]
    if not prefixes:
        if tag and tag.strip() == tag and tag[:2] not in ("B-", "I-", "B_", "I_"):
            return f"I-{tag}"
        raise ValueError(f"illegal tag {tag!r}; allowed: {style.outside}, or a label without a prefix")
    one, mark, other = tag.rpartition(style.separator) if style.last else tag.partition(style.separator)
    prefix, label = (other, one) if style.last else (one, other)
    if mark and len(prefix) == 1 and prefix.upper() in prefixes and label and label.strip() == label:
        return f"{_MEANT.get(prefix.upper(), prefix.upper())}-{label}"
    shown = [f"X{style.separator}{prefix}" if style.last else f"{prefix}{style.separator}X" for prefix in prefixes]
    raise ValueError(f"illegal tag {tag!r}; allowed: {style.outside}, or {', '.join(shown)} with a label for X")


OUTSIDES = ("O", "o", "0", "_", "-", "OUT", "OUTSIDE", "out", "outside", "NONE", "None", "none")
# of CoNLL-2000, and of the German part of CoNLL-2003
CHUNKS = {"NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"}
_LETTERS = "BIESLUMW"
_ALONE = frozenset(_LETTERS)
_SEPARATORS = "-_:/."
_LABEL = re.compile(r"(?=.*[^\W\d_])[\w.&/:+*'-]+")
_TWO = re.compile(r"[,|;+ ]+")
_FEW = 20  # tags of which one may be wrong
_MOST_LABELS = 300


@dataclass
class Tags:
    """How the tags of a column are written, and what they are.

    labels: the labels, by tags. outside: tags that are O. wrong: those that are none in this style. double: those that
    hold two. letters: of prefixes, none in IO. other: tags with a prefix in IO, or without one elsewhere.
    """

    style: TagStyle
    labels: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    double: list[str] = field(default_factory=list)
    letters: Counter[str] = field(default_factory=Counter)
    other: int = 0

    @property
    def chunks(self) -> bool:
        """Whether all labels are those of chunks, as in CoNLL-2000."""
        return bool(self.labels) and self.labels.keys() <= CHUNKS

    @property
    def sure(self) -> bool:
        """Whether no words look like this."""
        return bool(self.letters) or (self.style.outside == "O" and self.outside >= self.labels.total())

    @property
    def unnamed(self) -> str:
        """What is wrong where prefixes stand alone, without a label; else an empty text."""
        if self.labels or "B" not in self.wrong or not self.wrong.keys() <= _ALONE:
            return ""
        shown = ", ".join(sorted(self.wrong))
        return f"the tags {shown} have no label; write behind each the label that they stand for, as in B-ENTITY"

    @property
    def mixed(self) -> bool:
        """Whether a good part has prefixes, and another none."""
        return self.other >= 3 and self.other * _FEW > self.labels.total()


def tags_of(values: Mapping[str, int], scheme: str | None = None, *, ordered: bool = False) -> Tags | None:
    """Return how tags are written; None if they are no tags of entities, in no style.

    values: how often each occurs. scheme: a stated one, which is then the style's; see `problem_of`. ordered: whether
    the column is said to hold tags, so that labels need no O beside them.
    """
    outside = max((tag for tag in OUTSIDES if tag in values), key=lambda tag: values[tag], default="O")
    rest = Counter({tag: count for tag, count in values.items() if tag != outside})
    n_outside = values.get(outside, 0)
    if not rest:
        return Tags(TagStyle(outside=outside), outside=n_outside) if n_outside else None
    prefixed = _prefixed(rest, outside)
    marked = rest - prefixed.wrong if prefixed is not None else Counter[str]()
    least = 1 if scheme == "io" else 2  # signs
    bare = Counter({tag: n for tag, n in (rest - marked).items() if _LABEL.fullmatch(tag) and len(tag) >= least})
    bare = Counter({tag: count for tag, count in bare.items() if tag not in OUTSIDES})
    if scheme != "io" and prefixed is not None and marked.total() >= bare.total():
        prefixed.outside, prefixed.other = n_outside, bare.total()
        prefixed.style = _named(prefixed, scheme)
        return prefixed
    likely = bare.total() * 2 >= rest.total() and len(bare) <= _MOST_LABELS
    share = n_outside * (5 if outside == "O" or outside.upper().startswith("OUT") else 3)
    if scheme == "io" and marked.total() > bare.total():
        bare = rest  # `problem_of` says so
    if (likely or bare is rest) and (ordered or share >= rest.total() + n_outside) and scheme in (None, "io"):
        other = marked.total() if bare is not rest else 0
        return Tags(TagStyle("io", outside=outside), bare, n_outside, rest - bare, _double(rest), other=other)
    if n_outside >= rest.total() and outside in "Oo" and scheme is None:  # damaged: O alone is right
        return Tags(TagStyle(outside=outside) if outside != "O" else TagStyle(), Counter(), n_outside, rest)
    return None


def problem_of(tags: Tags, scheme: str | None) -> str:
    """Return what speaks against a stated scheme; an empty text if nothing does."""
    if scheme is None:
        return ""
    prefixes = PREFIXES[scheme]
    if not prefixes:
        found = _prefixed(tags.labels, "")
        if found is not None and found.letters.total() * 2 >= tags.labels.total():
            return f"most tags have a prefix ({_shown(tags.labels)})"
        return ""
    if not tags.letters and tags.labels:
        return f"the tags are labels without a prefix ({_shown(tags.labels)})"
    other = Counter({letter: count for letter, count in tags.letters.items() if letter not in prefixes})
    if other.total() * _FEW >= tags.letters.total() > 0:
        return f"{other.total()} tags have the prefix {' or '.join(sorted(other))}"
    return ""


def _shown(values: Counter[str]) -> str:
    return ", ".join(tag for tag, _ in sorted(values.items(), key=lambda item: (-item[1], item[0]))[:4])


def _prefixed(rest: Counter[str], outside: str) -> Tags | None:
    """Return the reading with prefixes that explains most tags; None if none explains any."""
    best: Tags | None = None
    for last in (False, True):
        for separator in _SEPARATORS:
            made = Tags(TagStyle("any", separator, last, outside))
            for tag, count in rest.items():
                one, mark, other = tag.rpartition(separator) if last else tag.partition(separator)
                prefix, label = (other, one) if last else (one, other)
                if mark and len(prefix) == 1 and prefix.upper() in _LETTERS and any(map(str.isalnum, label)):
                    made.letters[prefix] += count
                    made.labels[label] += count
                else:
                    made.wrong[tag] += count
            real = any(letter in "BIbiSsUu" for letter in made.letters)
            if real and (best is None or made.letters.total() > best.letters.total()):
                best = made
    if best is not None:
        best.double = _double(rest)
    return best


def _double(rest: Counter[str]) -> list[str]:
    """Return tags that hold two tags: B-PER,B-LOC."""
    found = []
    for tag in rest:
        parts = [part for part in _TWO.split(tag) if part]
        marked = [part for part in parts if part[0] in _LETTERS and part[1:2] in _SEPARATORS and part[2:]]
        if len(parts) > 1 and marked and all(part in marked or part in OUTSIDES for part in parts):
            found.append(tag)
    return found


def _named(tags: Tags, scheme: str | None) -> TagStyle:
    """Return the style of tags with prefixes, by a stated scheme or by their letters."""
    style, letters = tags.style, {letter.upper() for letter in tags.letters}
    if scheme is None:
        lower = any(letter.islower() for letter in tags.letters)
        plain = style == TagStyle() and not lower
        found = "bmes" if letters & set("MW") else "bioes" if letters & set("ESLU") else "iob2"
        scheme = "any" if plain and found != "bmes" else found
    return TagStyle(scheme, style.separator, style.last, style.outside)
