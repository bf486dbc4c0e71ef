"""The scripts of text, by the Unicode names of its letters, and the languages that are written in one."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

from xner_ray.data.languages import LANGUAGES, Language

# The first word of the Unicode names of each script's letters; a few scripts have several.
NAMES: dict[str, tuple[str, ...]] = {
    "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Cyrl": ("CYRILLIC",), "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",), "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",),
    "Hang": ("HANGUL", "CJK"), "Hans": ("CJK",), "Hant": ("CJK",), "Hebr": ("HEBREW",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA"), "Khmr": ("KHMER",), "Knda": ("KANNADA",), "Laoo": ("LAO",),
    "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mymr": ("MYANMAR",), "Olck": ("OL",), "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",), "Taml": ("TAMIL",), "Telu": ("TELUGU",), "Tfng": ("TIFINAGH",), "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
}  # fmt: skip


@cache
def script_name(character: str) -> str:
    """Return the first word of a letter's Unicode name, which tells its script; "" for other characters.

    >>> script_name("é"), script_name("ア"), script_name("ｱ"), script_name("1")
    ('LATIN', 'KATAKANA', 'KATAKANA', '')
    """
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    first, _, rest = unicodedata.name(character, "").partition(" ")
    return rest.partition(" ")[0] if first in ("FULLWIDTH", "HALFWIDTH") else first


@cache
def only_in(han: str) -> str:
    """Return the script of a Chinese character that GB 2312 or Big5 alone has; else ""."""
    simplified, traditional = (bool(han.encode(name, "ignore")) for name in ("gb2312", "big5"))
    return "" if simplified == traditional else "Hans" if simplified else "Hant"


def scripts_of(texts: Iterable[str]) -> dict[str, float]:
    """Return the share of each script among the letters of texts, the largest first.

    A script is named as in `languages.tsv`; one that no language there has, by its letters' Unicode names. Chinese
    characters count for Japanese or Korean where kana or Hangul are beside them, else for Hans or Hant.

    >>> scripts_of(["Шэ ыш ab"])
    {'Cyrl': 0.6666666666666666, 'Latn': 0.3333333333333333}
    """
    letters: Counter[str] = Counter()
    han: Counter[str] = Counter()
    for character, count in Counter(character for text in texts for character in text).items():
        if name := script_name(character):
            letters[name] += count
            if name == "CJK":
                han[only_in(character)] += count
    found: Counter[str] = Counter()
    for name, count in letters.items():
        found[_script_of(name, letters, han)] += count
    return {script: count / found.total() for script, count in found.most_common()}


def _script_of(name: str, letters: Counter[str], han: Counter[str]) -> str:
    if name == "CJK" and 20 * (letters["HIRAGANA"] + letters["KATAKANA"]) < letters["CJK"]:
        return "Hang" if letters["HANGUL"] > letters["CJK"] else "Hant" if han["Hant"] > han["Hans"] else "Hans"
    if name in ("CJK", "HIRAGANA", "KATAKANA"):
        return "Jpan"
    return next((script for script, names in NAMES.items() if name in names), name.capitalize())


def languages_in(script: str) -> list[Language]:
    """Return the languages that are written in a script, those with a two-letter code first."""
    found = [language for language in LANGUAGES.values() if language.script == script]
    return sorted(found, key=lambda language: not language.iso639_1)
