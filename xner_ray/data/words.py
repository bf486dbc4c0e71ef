"""Text to words with character offsets and back, per language.

`split` takes the word boundaries of ICU (Unicode's rules; dictionaries for Chinese, Japanese, Thai, Lao, Khmer,
Burmese) and moves some: ICU's boundaries are stops for a cursor, an entity needs boundaries where a name may end.
One regular expression per language finds ICU's errors; a match is one of

- `keep`: no boundary inside. URLs, addresses, `2020-05-12`, `U.S.`, `Ph.D.`, `J.` and `Mr.` before a capital,
  `#tag`, `...`, `--`, `-LRB-`; Hausa `'yan`, Afrikaans `'n`, Dutch `'s`, Italian `po'`, Greek `απ'`, Amharic `ዶ/ር`;
- `glue`: no boundary on either side of this character. `e-mail`, `AT&T`, `20-year-old`, `EU-Staaten`;
- `tail`: no boundary before it. Thai `พ.ศ.`, `km²`, the hyphen of German `Nord- und`, Uzbek `bo‘`;
- `part`: a word of its own. An elided article or preposition (`l'` + `Union`, `dell'` + `Unione`) and an
  enclitic (`John` + `'s`, `do` + `n't`, Welsh `Cymru` + `'n`), the Maltese article (`il-` + `Parlament`);
- `stop`: a colon or a full stop that only lacks its space, a word too. `Title:Sub`, `end.Next`.

Elided articles and prepositions are cut off, since they may precede a name and are not part of it, but only before a
vowel, h, a digit, a quote or an abbreviation: `N'Djamena` and `M'Bappé` are whole. Names are no exception (`D'` +
`Artagnan`): a span can cover two words, but not half a word. `aujourd'hui`, `quelqu'un`, `prud'homme` are words. All
other apostrophes stay inside (`O'Brien`, `ng'ombe`, `gw'okugezaako`, `Ankara'da`, `м'я`), as in MasakhaNER and UD
Turkish. The apostrophe of a plural (`States'`) is a word: it looks like a closing quote.

Words of Tibetan and Dzongkha are syllables, each with its tsheg. Characters of no width and combining marks never
begin a word, except after white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, pairwise

from icu4py.breakers import WordBreaker

from xner_ray.data.languages import LANGUAGES, resolve
from xner_ray.data.tokens import locate as locate

# Scripts that put no space between words (Thai, Lao, Tibetan, Burmese, Khmer, Han, kana, full-width forms), as
# the inside of a character class. Their marks that patterns below look for stand apart.
_UNSPACED_MARKS = "།。！？："
_UNSPACED = (
    "\u0e00-\u0f0c\u0f0e-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u2e80-\u3001\u3003-\u312f\u31f0-\u9fff"
    "\uf900-\ufaff\uff00\uff02-\uff19\uff1b-\uff1e\uff20-\uffef\U00020000-\U0003ffff"
)


def _marks() -> str:
    """Return the combining marks of the other scripts, as the inside of a class: `re` has no class for them."""
    blocks = (range(0x300, 0xE00), range(0x10A0, 0x1780), range(0x1800, 0x1E00), range(0xA640, 0xA9E0))
    marks = [n for block in blocks for n in block if unicodedata.category(chr(n))[0] == "M"]
    starts = [n for n in marks if unicodedata.category(chr(n - 1))[0] != "M"]
    ends = [n for n in marks if unicodedata.category(chr(n + 1))[0] != "M"]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


_M = _marks()
_W = rf"(?:[^\W{_UNSPACED}]|[{_M}])"  # inside a word
_L = rf"[^\W\d_{_UNSPACED}][{_M}]*"  # a letter with its marks
_START, _END = rf"(?<![^\W{_UNSPACED}])(?<![{_M}])", rf"(?!{_W})"
_APO = "['’]"
_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĘĚĞĪĶĻŁŃŇŐŘŚŞŠŤŪŮŰŹŻŽƁƊƘΆΈ-ΏΑ-ΩА-ЯЀ-ЏҐҒҚҢӘӨҮԱ-Ֆ"
_TITLES = "Mr|Mrs|Ms|Messrs|Mme|Mlle|Dr|Dra|Prof|Sr|Sra|Srta|vs"  # never the last word of a sentence
_MORE_TITLES = "St|Ste|Sto|Sta|Gen|Col|Lt|Capt|Maj|Sgt|Sen|Rep|Gov|Rev|Hon|Pres|Jr|Mt|Ft|No|Nr|Hr|Fr"

_KEEP = (
    r"(?:(?:https?|ftp)://|www\.)[!#-;=?-~]+(?<![.,;:!?'\")\]}])",
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    rf"{_START}-(?:LRB|RRB|LSB|RSB|LCB|RCB)-{_END}",
    rf"{_START}\d+(?:[.,:/'’–-]\d+)+(?:/{_W}+)?",
    # At most eight dots: without a bound, a long run of letters and dots takes quadratic time.
    rf"{_START}(?:{_L}){{1,3}}(?:\.(?:{_L}){{1,3}}){{1,7}}\.{_END}(?:-{_W}+)?",
    rf"(?<![\w.'’{_M}-])[{_UPPER}]\.(?=\s?[{_UPPER}])",
    rf"{_START}(?:{_TITLES})\.(?=\s?[^\W\d])",
    rf"{_START}(?:{_MORE_TITLES})\.(?=\s?[{_UPPER}\d])",
    rf"{_START}[@#]_?{_L}{_W}*",
    r"(?P<run>[.\-–—!?*=~#'`。！？፡།])(?P=run)+",
)
_GLUE = rf"[-‐‑֊־&²³¹⁰-⁹₀-₉](?=[^\W_{_UNSPACED}])"  # code checks the character before it
_TAIL = rf"[²³¹⁰-⁹₀-₉](?![^\W_{_UNSPACED}])"
_COLON = rf"(?<={_W})[:：﹕](?=[^\W\d])"
_NO_SPACE_AFTER_STOP = r"(?<=[a-zà-ÿ]{2})\.(?=[A-ZÀ-Þ][a-zà-ÿ])"

# White-space chunks that may hold a match: a telling character with something after it, or a short end in a
# full stop (`Mr.`), a hyphen or an apostrophe. Most words need no look, and the look costs 1 us a character.
_SIGNS = r"\-.:/&@#'’‘ʼ`–—!?*=~‐‑֊־：﹕。！？፡།"
_ANY = rf"[^\s{_UNSPACED}]"
_CHUNK = re.compile(
    rf"(?<!{_ANY})[^\s{_UNSPACED}{_SIGNS}²³¹⁰-⁹₀-₉]*+"
    rf"(?:[{_SIGNS}](?={_ANY})|[²³¹⁰-⁹₀-₉'’‘`-]|(?<!{_ANY * 6})\.){_ANY}*+"
)

# What follows an elided word: a vowel or h, a number, a quote, an abbreviation (`l'FBI`).
_VOWEL = r"(?=(?i:[aeiouyhœæàáâãäåèéêëìíîïòóôõöùúûüÿ])|\d|[«»\"“”„]|(?<=[a-zLD]['’])[A-Z]{2})"


def _elided(forms: str, *, before: str = _VOWEL) -> str:
    return rf"(?<![\w'’{_M}-])(?i:{forms}){_APO}{before}"


# Any word may be elided there, as prepositions contract with the article (`dell'`, `sull'`, `quell'`).
_ANY_ELIDED = _elided(r"(?!o['’])[^\W\d_]+")
_ENGLISH = rf"(?<=[\w.%])(?i:{_APO}(?:s|ll|re|ve|d|m)|n{_APO}t){_END}"
_MALTESE_ARTICLE = rf"{_START}(?i:(?:f|fi|b|bi|mi|sa|ta|għa|li|ma|bħa|i)?(?:ll?|[ċdnrstxżz]))-(?={_W})"
_PART = {
    "eng": _ENGLISH,
    "pcm": _ENGLISH,
    "fra": _elided("[cdjlmnst]|ç|qu|jusqu|lorsqu|puisqu|quoiqu"),
    "cat": _elided("[dlmnst]"),
    "oci": _elided("[cdjlmnstu]|qu|jusqu|entr"),
    "ast": _elided("[dlmnst]|qu|p"),
    "epo": _elided("[ld]"),
    "gle": _elided("[bdm]", before="(?=(?i:[aeiouáéíóúf]))"),
    "gla": _elided("[bdm]|dh", before="(?=(?i:[aeiouàèìòùf]))"),
    "ltz": _elided("d", before=f"(?={_W})"),
    "plt": _elided(r"[^\W\d_]+", before=f"(?={_W})"),
    "mlt": rf"{_elided('[bdfjlmnstxħ]', before=f'(?={_W})')}|{_MALTESE_ARTICLE}",
    "cym": rf"(?<={_W}){_APO}(?i:r|n|i|u|w|m|th|ch){_END}",
    **dict.fromkeys(("ita", "lij", "lmo", "vec", "scn", "fur", "srd"), _ANY_ELIDED),
}
_EXTRA_KEEP = {
    "eng": rf"{_START}{_APO}(?:\d\ds?|em|til|tis|twas|cause){_END}",
    **dict.fromkeys(("fin", "swe"), rf"\d:[a-zåäö]+{_END}"),
    "ell": rf"{_START}(?i:απ|γι|σ|μ|τ|θ|κ|κι|αλλ|παρ|κατ|μετ|υπ){_APO}{_END}",
    "hau": rf"{_START}['’‘ʼ][yY](?={_W})",
    "afr": rf"{_START}['’‘ʼ]n{_END}",
    **dict.fromkeys(("nld", "lim"), rf"{_START}['’‘](?:[sS]|[tT]|n|k|m|r){_END}"),
    "ita": rf"{_START}(?i:po|mo|be|ca|fa|va|sta){_APO}{_END}",
    "mlt": rf"{_START}(?i:ta|ma|sa|bla|fi|bi|ġa|mela){_APO}{_END}",
    **dict.fromkeys(("amh", "tir"), rf"{_START}[\u1200-\u135a]{{1,2}}/[\u1200-\u135a]+"),
}
# Languages that leave out the common half of a compound: `Nord- und Südamerika`.
_SUSPENDING = ("deu", "nld", "afr", "lim", "ltz", "swe", "dan", "nob", "nno", "isl", "fao", "fin", "est", "hun")
_EXTRA_TAIL = {
    "tha": r"(?<=\.[ก-ฮ])\.|(?<=[\s\d][ก-ฮ])\.|(?<=ดร)\.",
    "uzn": "(?<=[oOgG])[‘’'`]",
    **dict.fromkeys(_SUSPENDING, r"(?<=[^\W\d_])-(?=\s)"),
}
# Finnish and Swedish inflect abbreviations after a colon: `EU:n`, `USA:s`.
_EXTRA_COLON = dict.fromkeys(("fin", "swe"), rf"(?<={_W}):(?=[{_UPPER}])")


@dataclass(frozen=True, slots=True)
class _Rules:
    locale: str
    spaces: bool
    french: bool
    pattern: re.Pattern[str]


@cache
def _rules(lang: str) -> _Rules:
    language = LANGUAGES[resolve(lang)]
    name = language.iso639_3

    def either(*patterns: str | None) -> str:
        return "|".join(pattern for pattern in patterns if pattern)

    keep = either(_KEEP[0], _KEEP[1], _EXTRA_KEEP.get(name), *_KEEP[2:])
    part = _PART.get(name, "(?!)")
    stop = either(_EXTRA_COLON.get(name, _COLON), _NO_SPACE_AFTER_STOP)
    tail = either(_TAIL, _EXTRA_TAIL.get(name))
    pattern = re.compile(f"(?P<keep>{keep})|(?P<part>{part})|(?P<stop>{stop})|(?P<tail>{tail})|(?P<glue>{_GLUE})")
    return _Rules(language.iso639_1 or name, language.spaces, name == "fra", pattern)


def spaced(lang: str) -> bool:
    """Return whether `join` puts a space between any two words of letters and digits."""
    return _rules(lang).spaces


def split(text: str, lang: str) -> list[tuple[int, int]]:
    """Return the words of a text as half-open ranges of code points, which cover all but the white space.

    >>> text = "L'Union d'Anna, aujourd'hui."
    >>> [text[start:end] for start, end in split(text, "fra_Latn")]
    ["L'", 'Union', "d'", 'Anna', ',', "aujourd'hui", '.']
    """
    if not (text.isascii() and text.isprintable()) and not _ORDINARY.fullmatch(text):
        return _split(text, lang)
    _rules(lang)  # raises for what is no language
    # What stands between blanks is cut by itself: no rule looks further than one character beyond them.
    found: list[tuple[int, int]] = []
    start = 0
    for chunk in text.split(" "):
        end = start + len(chunk)
        if chunk.isalpha():  # one word, as in most cases
            found.append((start, end))
        elif chunk:
            led = 1 if start else 0
            cuts = _split_chunk(text[start - led : end + 2], led, end - start, lang)
            found += [(start + first, start + last) for first, last in cuts]
        start = end + 1
    return found


# Letters, digits and signs of European scripts; no marks, no characters without width, blanks alone as white space
_ORDINARY = re.compile("[ -~¡-¬®-ɏ\u0370-\u0482\u048a-\u052f‐-―‘-„…€]*")


@lru_cache(maxsize=1 << 16)
def _split_chunk(text: str, led: int, size: int, lang: str) -> tuple[tuple[int, int], ...]:
    """Return the words of the `size` characters behind the first `led` ones."""
    return tuple((start - led, end - led) for start, end in _split(text, lang) if led <= start < led + size)


def _split(text: str, lang: str) -> list[tuple[int, int]]:
    rules = _rules(lang)
    edges = _icu_edges(text, rules.locale)
    for chunk in _CHUNK.finditer(text):
        # Two characters more, for the patterns that look beyond the space.
        for match in rules.pattern.finditer(text, chunk.start(), chunk.end() + 2):
            start, end = match.span()
            if match["part"] or match["stop"]:
                edges.difference_update(range(start + 1, end))
                edges.update((start, end))
            elif match["keep"]:
                edges.difference_update(range(start + 1, end))
            elif match["tail"]:
                edges.discard(start)
            elif start and _joins(text[start - 1]):
                edges.difference_update((start, end))
    if not text.isascii():
        edges = {edge for edge in edges if not _leans(text, edge)}
    for space in _SPACE.finditer(text):
        edges.update(space.span())
    ordered = sorted(edges | {0, len(text)})
    return [(start, end) for start, end in pairwise(ordered) if not text[start].isspace()]


def join(tokens: Sequence[str], lang: str) -> tuple[str, list[tuple[int, int]]]:
    """Join the tokens, unchanged, into a natural text for a translator; return it and the range of each token.

    >>> join(["Do", "n't", "say", "(", "5", "%", ")", "."], "eng_Latn")[0]
    "Don't say (5%)."
    """
    rules = _rules(lang)
    # Most words are nothing but letters or digits, and a space stands between two of these.
    plain = [rules.spaces and token.isalnum() for token in tokens]
    sides = _quote_sides(tokens)
    # Each token with the gap before it
    parts = [
        (" " if left and right else _gap(tokens, index, sides, rules)) + tokens[index]
        for index, (left, right) in enumerate(pairwise(plain), start=1)
    ]
    parts = [*tokens[:1], *parts]
    ends = accumulate(map(len, parts))
    return "".join(parts), [(end - len(token), end) for token, end in zip(tokens, ends, strict=True)]


def gap(left: str, right: str, lang: str) -> str:
    """Return what `join` puts between two neighbours, neither of which `looks_around`.

    >>> gap("Rome", ",", "eng_Latn"), gap(",", "and", "eng_Latn")
    ('', ' ')
    """
    return _gap((left, right), 1, ("", ""), _rules(lang))


def looks_around(token: str) -> bool:
    """Return whether the gaps beside this token depend on more than its neighbours."""
    return token in _QUOTES or token == "–"


_OPENING = frozenset({"``", *"([{¿¡⟨（［「『【《〈"})
_CLOSING = re.compile(r"[.,;:!?)\]}%…،؛؟।॥،፣፤፥።፧፡՝։་།、。，．：；！？）］」』】》〉]+[\"'”’»]*")
_CURRENCY = re.compile("[$£€¥₦₹₵₽₩₪]")
# Which tokens close a quote that this one opened. „ is closed by “ in German and by ” in Polish, and so on.
_CLOSED_BY = {
    '"': '"', "'": "'", "``": ("''", '"'), "“": "”", "”": "”", "„": "“”", "‘": "’", "’": "’", "‚": "‘’",
    "«": "»", "»": "«»", "‹": "›", "›": "‹›",
}  # fmt: skip
_QUOTES = frozenset({*_CLOSED_BY, "''"})


def _quote_sides(tokens: Sequence[str]) -> list[str]:
    """Return for each token "open", "close" or "" (no quote).

    A mark that may be either opens if another mark that closes it follows, except for an apostrophe after an s that
    would leave another apostrophe alone. A mark without a partner (the quote continues in another sentence) opens at
    the beginning, after a colon and, if double, after a word; else it closes.

    >>> _quote_sides(["'", "a", "'", "the", "States", "'"])
    ['open', '', 'close', '', '', 'close']
    """
    if _QUOTES.isdisjoint(tokens):
        return [""] * len(tokens)
    sides = []
    still_open: list[str] = []
    for index, token in enumerate(tokens):
        if still_open and token in _CLOSED_BY[still_open[-1]]:
            still_open.pop()
            sides.append("close")
        elif token in _CLOSED_BY and (token in "“„‘‚``" or _opens(tokens, index)):
            still_open.append(token)
            sides.append("open")
        else:
            sides.append("close" if token in _CLOSED_BY or token == "''" else "")
    return sides


def _opens(tokens: Sequence[str], index: int) -> bool:
    """Return whether a mark that may open or close a quote opens one."""
    mark, before = tokens[index], tokens[index - 1] if index else ":"
    closing = sum(token in _CLOSED_BY[mark] for token in tokens[index + 1 :])
    if closing and not (mark in "'’" and before.endswith(("s", "S")) and closing % 2 == 0):
        return True
    return index + 1 < len(tokens) and (before == ":" or (mark == '"' and before[-1:].isalnum()))


def _gap(tokens: Sequence[str], index: int, sides: Sequence[str], rules: _Rules) -> str:
    """Return what `join` puts before the token of this index.

    >>> _gap(["l'", "Union"], 1, ["", ""], _rules("fra_Latn")), _gap(["བོད", "ཡིག"], 1, ["", ""], _rules("bod_Tibt"))
    ('', '་')
    """
    left, right = tokens[index - 1], tokens[index]
    if not left or not right:
        return ""
    if not rules.spaces and (_UNSPACED_END.match(left[-1]) or _UNSPACED_END.match(right[0])):
        if _TIBETAN.match(left[-1]) and _TIBETAN.match(right[0]):
            return "་"
        return " " if left[-1] in "།༎" else ""
    if left in _OPENING or sides[index - 1] == "open":
        return " " if rules.french and left == "«" else ""
    if sides[index] == "close" or _CLOSING.fullmatch(right):
        return " " if rules.french and right in ("»", ":", ";", "!", "?") else ""
    if left == "/" or right == "/" or left == "°" or (right == "°" and left[-1].isdigit()):
        return ""
    if _CURRENCY.fullmatch(left) and right[0].isdigit():
        return ""
    if "–" in (left, right):
        around = tokens[index - 2 : index + 1] if left == "–" else tokens[index - 1 : index + 2]
        return "" if len(around) == 3 and around[0][-1:].isdigit() and around[2][:1].isdigit() else " "
    # No space where `split` would cut anyway: an elision, an enclitic, the Maltese article.
    both = left + right
    if _PART_SIGN.search(both) and any(
        match["part"] and len(left) in match.span() for match in rules.pattern.finditer(both)
    ):
        return ""
    return " "


_PART_SIGN = re.compile("['’-]")
_UNSPACED_END = re.compile(f"[{_UNSPACED}{_UNSPACED_MARKS}]")
_TIBETAN = re.compile("[\u0f40-\u0fbc]")
_SPACE = re.compile(r"\s+")
_ODD = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")


def _icu_edges(text: str, locale: str) -> set[int]:
    """Return the ends of ICU's segments, in code points (ICU counts UTF-16 units).

    A breaker takes its text when it is made and cannot be used again. Making one costs 5 us, so none is kept, and
    threads share nothing.
    """
    astral = False
    if not text.isascii() and _ODD.search(text):
        # Half a surrogate pair, which JSON may hold, counts as U+FFFD.
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        astral = not text.isascii() and max(text) > "\uffff"
    ends = [end for _, end in WordBreaker(text, locale).segments()]
    if not astral:
        return set(ends)
    units = [0, *accumulate(2 if character > "\uffff" else 1 for character in text)]
    point = {unit: index for index, unit in enumerate(units)}
    return {point[end] for end in ends}


def _joins(character: str) -> bool:
    """Return whether a hyphen after this character may join it to the next: `e` of `e-mail`, no Han character."""
    return _JOINING.match(character) is not None


_JOINING = re.compile(rf"[^\W_{_UNSPACED}]|[{_M}]")


def _leans(text: str, edge: int) -> bool:
    """Return whether there is no edge of a word here, since a character leans on the word before or, after white
    space, on the word behind.

    Such are combining marks, characters of no width, the tsheg of Tibetan, and the consonant that ends a syllable of
    the Burmese script: ICU has no dictionary for Shan and would cut `တင်း` in two.
    """
    if edge < len(text) and (_leaning(text[edge]) or _FINAL.match(text, edge)):
        return True
    before = edge - 1
    while before >= 0 and _leaning(text[before]):
        before -= 1
    return before < edge - 1 and edge < len(text) and (before < 0 or text[before].isspace())


_FINAL = re.compile("[\u1000-\u102a\u1075-\u1081][\u1039\u103a]")


@cache  # there are not that many characters
def _leaning(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or character in "\u0f0b\u0f0c"
