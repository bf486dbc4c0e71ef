"""Numbers that a translation lost: the rule of one health check (`xner_ray.translate.health`).

A number is looked for in every form that NTREX's translators give it; what is not found is gone or changed. Numbers
that are often written as words are not checked: reading the number words of 200 languages is another project.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from xner_ray.data.languages import LANGUAGES

_NUMBER = re.compile(
    r"(?:[0-9]{1,3}(?:[.,٬'’\s][0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]+)(?![0-9])(?:[.,٫][0-9]+)?"
)
_DIGIT, _OTHER_DIGIT = re.compile(r"\d"), re.compile(r"[^\D0-9]")
_NUMERALS = "〇零一二三四五六七八九十百千万萬億亿兆\u0bf0-\u0bf2\u1369-\u137c"  # Chinese, Tamil, Ethiopic
_UNITS = "十百千万萬億亿兆፻፼"
# `37万5,000`, `1 万 6 千`, `二〇一八`; at most 40 steps: Python prints no integers of thousands of digits.
_COMPOSED = re.compile(
    rf"[0-9{_NUMERALS}](?:[.,]?[0-9{_NUMERALS}]|\s(?=[{_UNITS}])|(?<=[{_UNITS}])\s(?=[0-9]{{1,4}}\s?[{_UNITS}])){{0,40}}+"
)
_NUMERAL = re.compile(f"[{_NUMERALS}]")
_ETHIOPIC = frozenset(map(chr, range(0x1369, 0x137D)))
_PIECE = re.compile(rf"[0-9][0-9.,]*|[{_NUMERALS}]")
_DATE = re.compile(r"(?<![0-9])([0-9]{1,2})[./-]([0-9]{1,2})[./-]([0-9]{4}|[0-9]{2})(?![0-9])")
_AS_WORD = re.compile(r"(?:st|nd|rd|th|s)\b")
_WORDS_UP_TO = 31  # with the days of a month and the hours of a day
_SIGNIFICANT = 2
# Languages whose good translations write larger numbers in words too. At two digits 4 % of translations into Yoruba
# "lose" one, at four 0.3 %; Akan writes years in words (3.7 % of MasakhaNER's Twi), so nothing is checked.
_SIGNIFICANT_OF = {"yor": 4, "twi": 1000, "aka": 1000}
# Years of other calendars minus Gregorian years: Buddhist, Ethiopian, Persian, Bikram Sambat.
_CALENDARS = {
    **dict.fromkeys(("tha", "lao", "khm"), (543,)),
    **dict.fromkeys(("amh", "tir"), (-7, -8)),
    **dict.fromkeys(("pes", "prs", "pbt", "azb", "ckb"), (-621, -622)),
    "npi": (56, 57),
}


def lost_digits(source: str, translation: str, source_lang: str, lang: str) -> list[str]:
    """Return the numbers of the source, as digits, that the translation has in no known form.

    Digits of any script are equal, separators of groups and decimals are ignored, Chinese, Ethiopic and Tamil numerals
    are read, and zeros at the ends do not count, so that 4.5 million equals 4,500,000 and 450万. Numbers that often
    become words are not checked: up to 31, of one significant digit (50, 300, 10,000; in Yoruba of up to three, in Akan
    any), English ordinals and decades. Times of day (7.30 pm, 19:30), shortened years (1950-53), centuries (1800-luku,
    19th) and years of another calendar are recognised.

    >>> lost_digits("In 1987 they sold 1,250.5 tons.", "१९८७ में उन्होंने बेचा।", "eng_Latn", "hin_Deva")
    ['12505']
    """
    if not _DIGIT.search(source):
        return []
    source, translation = _ascii_digits(source), _ascii_digits(translation)
    ends = (LANGUAGES[source_lang].iso639_3, LANGUAGES[lang].iso639_3)
    significant = _SIGNIFICANT_OF.get(ends[1], _SIGNIFICANT)
    there = _Numbers(translation, (*_CALENDARS.get(ends[1], ()), *(-shift for shift in _CALENDARS.get(ends[0], ()))))
    lost = []
    for number in _asked(source):
        digits = _digits(number)
        if not _is_small(digits) and len(digits.strip("0")) >= significant and not there.has(number):
            lost.append(digits)
    return lost


def _asked(text: str) -> Iterator[str]:
    """Yield the numbers of a source that have a digit, without ordinals and decades; Chinese units are read."""
    spans = []
    for match in _composed(text):
        spans.append(match.span())
        if re.search("[0-9]", match[0]):
            yield str(_value(match[0]))
    for match in _NUMBER.finditer(text):
        inside = any(start <= match.start() < end for start, end in spans)
        if not inside and not _AS_WORD.match(text, match.end()):
            yield match[0]


def _composed(text: str) -> Iterator[re.Match[str]]:
    """Return the numbers with at least one numeral; most languages have none, and their texts are not searched."""
    if text.isascii() or not _NUMERAL.search(text):
        return iter(())
    return (match for match in _COMPOSED.finditer(text) if _NUMERAL.search(match[0]))


class _Numbers:
    """The numbers of a translation."""

    def __init__(self, text: str, calendars: tuple[int, ...]) -> None:
        self._runs = set(re.findall("[0-9]+", text))
        self._joined = re.sub(r"(?<=[0-9])[.,٬٫'’\s](?=[0-9])", "", text)
        values = [_digits(number) for number in _NUMBER.findall(text)]
        values += [str(_value(match[0])) for match in _composed(text)]
        self._significant = {value.strip("0") for value in (*values, *self._runs)}
        self._calendars = calendars

    def has(self, number: str) -> bool:
        """Tell whether the translation has a number of its source, in any form."""
        digits = _digits(number)
        significant = digits.strip("0")
        if significant in self._significant or (len(significant) > 2 and significant in self._joined):
            return True
        if len(digits) == 2 and any(len(run) == 4 and run[0] in "12" and run.endswith(digits) for run in self._runs):
            return True
        if len(digits) == 4 and digits == number and digits[0] in "12":
            shifted = {str(int(digits) + shift) for shift in self._calendars}
            century = str(int(digits[:2]) + 1) if digits.endswith("00") else digits[2:]
            return century in self._runs or bool(shifted & self._runs)
        # The parts of a list (`33,34`), a date (`31,2021`, `6.11`) or a time of day (`5.30`).
        parts = re.findall("[0-9]+", number)
        missing = [part for part in parts if part not in self._runs]
        return len(parts[-1]) > 1 and len(missing) < len(parts) and all(map(_is_small, missing))


def _is_small(digits: str) -> bool:
    return len(digits) <= 2 and int(digits) <= _WORDS_UP_TO


def _ascii_digits(text: str) -> str:
    """Return the text with digits of every script as 0 to 9, and spaces between the parts of a date.

    >>> _ascii_digits("๔.๑๐.๑๙๑๘")
    '4 10 1918'
    """
    if not text.isascii():
        text = _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    return _DATE.sub(r"\1 \2 \3", text)


def _digits(number: str) -> str:
    return re.sub("[^0-9]", "", number)


def _value(number: str) -> int:
    """Return the value of a number with numerals; a decimal mark is ignored, which keeps the significant digits.

    >>> _value("37万5,000"), _value("二〇一八"), _value("፲፱፻፺"), _value("三十五")
    (375000, 2018, 1990, 35)
    """
    total = section = current = 0
    for piece in _PIECE.findall(number):
        if piece[0].isascii():
            current = int(_digits(piece)[:30])
            continue
        value = int(unicodedata.numeric(piece))
        if value < 100 and piece in _ETHIOPIC:
            current += value
        elif value < 10:
            current = current * 10 + value
        elif value < 10_000:
            section += (current or 1) * value
            current = 0
        else:
            total += (section + current or 1) * value
            section = current = 0
    return total + section + current
