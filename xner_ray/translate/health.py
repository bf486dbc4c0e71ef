"""Health checks of translations: rules on the two texts alone, without a model, each a reason code.

A check must hold for 200 languages, of which data shows a few, so every rule is one formula for all of them with
bounds that leave room, and not a table fitted to each language. It finds what is plainly broken; what is subtly
wrong passes. Constants were set on NTREX-128 (English and ten languages, both directions): at most 1 % of good pairs
are flagged by any check in any language. `tests/bench/health_table.py` prints that, and what each check finds.

An empty or truncated translation is not looked for here: the translator knows (`Reason.TRANSLATION_EMPTY`,
`Reason.TRANSLATION_TRUNCATED`).
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections import Counter
from functools import cache
from itertools import groupby

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import MissingExtraError, Reason
from xner_ray.recipe.sections import Health
from xner_ray.translate.numbers import lost_digits

REPEATS = Reason.TRANSLATION_REPEATS
COPIED = Reason.TRANSLATION_COPIED
WRONG_SCRIPT = Reason.TRANSLATION_WRONG_SCRIPT
LENGTH = Reason.TRANSLATION_LENGTH
LOST_DIGITS = Reason.TRANSLATION_LOST_DIGITS
LANGUAGE = Reason.TRANSLATION_LANGUAGE

CHECKS: tuple[Reason, ...] = (REPEATS, COPIED, WRONG_SCRIPT, LENGTH, LOST_DIGITS)
"""The checks of `check`, in its order; `LANGUAGE` is apart, as it needs an identifier."""


def check(source: str, translation: str, source_lang: str, lang: str) -> list[Reason]:
    """The reason codes of every check that fires, in the order of `CHECKS`. The codes are those of `LANGUAGES`.

    >>> check("They met in Paris in 1987.", "Sie trafen sich in Paris.", "eng_Latn", "deu_Latn")
    [<Reason.TRANSLATION_LOST_DIGITS: 'translation_lost_digits'>]
    """
    fired = (
        repeats(source, translation),
        copied(source, translation, source_lang, lang),
        wrong_script(source, translation, lang),
        odd_length(source, translation),
        bool(lost_digits(source, translation, source_lang, lang)),
    )
    return [name for name, fires in zip(CHECKS, fired, strict=True) if fires]


# The first words of the Unicode names of each script's letters; a few scripts write with several.
_SCRIPTS: dict[str, tuple[str, ...]] = {
    "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Cyrl": ("CYRILLIC",), "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",), "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",),
    "Hang": ("HANGUL", "CJK"), "Hans": ("CJK",), "Hant": ("CJK",), "Hebr": ("HEBREW",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA"), "Khmr": ("KHMER",), "Knda": ("KANNADA",), "Laoo": ("LAO",),
    "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mymr": ("MYANMAR",), "Olck": ("OL",), "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",), "Taml": ("TAMIL",), "Telu": ("TELUGU",), "Tfng": ("TIFINAGH",), "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
}  # fmt: skip
# How many letters of an alphabet say as much as one of these, from the medians of NTREX (Hangul: two, by its jamo).
_WEIGHTS = {"CJK": 3.0, "HIRAGANA": 2.0, "KATAKANA": 2.0, "HANGUL": 2.0, "ETHIOPIC": 1.5}


@cache
def _script(character: str) -> str:
    """The first word of a letter's Unicode name, its script in all but name; "" for what is no letter.

    >>> _script("é"), _script("ア"), _script("ｱ"), _script("1")
    ('LATIN', 'KATAKANA', 'KATAKANA', '')
    """
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    first, _, rest = unicodedata.name(character, "").partition(" ")
    return rest.partition(" ")[0] if first in ("FULLWIDTH", "HALFWIDTH") else first


@cache
def _in_word(character: str) -> bool:
    """Letters and marks: for `re`, most vowels of India are no part of a word."""
    return unicodedata.category(character)[0] in "LM"


class _Spaces(dict[int, str]):
    """For `str.translate`: what is neither letter, mark nor number becomes a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if _in_word(character) or character.isnumeric() else " "
        return self[code]


_SPACES = _Spaces()


def _plain(text: str) -> str:
    """Words and numbers with one space between, in one case."""
    return " ".join(text.casefold().translate(_SPACES).split())


def _words(text: str) -> list[str]:
    return text.translate(_SPACES).split()


def _weight(text: str) -> float:
    """How much text there is, in letters of an alphabet; neither white space nor accents count."""
    return sum(
        _WEIGHTS.get(_script(character), 1.0) * count
        for character, count in Counter(text).items()
        if not character.isspace() and unicodedata.combining(character) < 200
    )


_LOOP = re.compile(r"(?=\S)(.{1,80}?)\1{3,}", re.DOTALL)
_LOOP_TIMES, _LOOP_LENGTH = 4, 12
_GRAM, _DENSE_GRAM = 12, 5  # characters; Dense: Chinese, Japanese, Korean
_REPEATED_SHARE = 0.3


def repeats(source: str, translation: str) -> bool:
    """A loop, the translator's own: the source has nothing like it.

    Either a piece of at most 80 characters stands four or more times in a row, over 12 characters or more, and over
    twice as often as any piece of the source; or the share of character 12-grams (5-grams where most letters are
    Chinese, Japanese or Korean) that occurred before is 0.3 higher than the source's share, and there are two grams'
    length of them: a clause that comes back, a text given twice. Case and punctuation do not count. Reduplication
    (`anak-anak`) says a word twice, and people who say `no` five times are translated by people who do so too.

    >>> repeats("He came home.", "Alikuja na na na na na na na"), repeats("The children.", "Anak-anak itu.")
    (True, False)
    """
    source, translation = _plain(source), _plain(translation)
    # Any such loop has four repeated 6-grams; to count them is ten times faster than to look for it.
    if _repeated_grams(translation, 6)[0] >= 4:
        loop = _longest_loop(translation, _LOOP_LENGTH)
        if loop >= _LOOP_TIMES and loop > 2 * _longest_loop(source, 0):
            return True
    n = _gram(translation)
    count, share = _repeated_grams(translation, n)
    return count >= 2 * n and share - _repeated_grams(source, _gram(source))[1] >= _REPEATED_SHARE


def _longest_loop(text: str, least: int) -> int:
    """How often the most repeated piece with a letter stands in a row, of rows of at least so many characters."""
    found = (match for match in _LOOP.finditer(text) if len(match[0]) >= least)
    return max((len(m[0]) // len(m[1]) for m in found if any(map(_in_word, m[1]))), default=0)


def _gram(text: str) -> int:
    if text.isascii():
        return _GRAM
    dense = sum(_WEIGHTS.get(_script(character), 1.0) >= 2 for character in text)
    return _DENSE_GRAM if 2 * dense > len(text) else _GRAM


def _repeated_grams(text: str, n: int) -> tuple[int, float]:
    """How many n-grams occurred before, and their share of all."""
    total = len(text) - n + 1
    if total <= 0:
        return 0, 0.0
    count = total - len({text[start : start + n] for start in range(total)})
    return count, count / total


_ORDINARY_WORDS, _COPIED_SHARE, _COPIED_WEIGHT = 4, 0.8, 24
# Languages between which most words of a right translation may be the source's.
_ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "arb acm acq aeb ajp apc ars ary arz", "bos hrv srp", "dan nob nno swe", "ces slk", "ind zsm min bjn",
        "spa glg ast", "ita vec lmo lij scn fur srd", "zho yue", "bod dzo", "hin awa bho mag mai hne npi", "pes prs",
        "kin run", "zul xho ssw", "aka twi", "eng pcm",
    )
)  # fmt: skip


def copied(source: str, translation: str, source_lang: str, lang: str) -> bool:
    """The source was not translated: at least 0.8 of its ordinary words stand in the translation.

    Ordinary are words without a capital, which names have in most scripts; four of them or more, as fewer may be
    foreign in any language. In a source without spaces the whole text is compared, at 24 letters' worth or more. Not
    asked between languages so near (`_ALIKE`) that the answer means nothing, nor between two codes of one language.

    >>> copied("It rains here every day.", "it rains here every day", "eng_Latn", "deu_Latn")
    True
    """
    pair = {LANGUAGES[source_lang].iso639_3, LANGUAGES[lang].iso639_3}
    if len(pair) == 1 or any(pair <= group for group in _ALIKE):
        return False
    if not LANGUAGES[source_lang].spaces:
        plain = _plain(source)
        return _weight(plain) >= _COPIED_WEIGHT and plain == _plain(translation)
    ordinary = [word for word in _words(source) if word == word.lower() and not word.isnumeric()]
    if len(ordinary) < _ORDINARY_WORDS:
        return False
    there = set(_words(translation.casefold()))
    return sum(word.casefold() in there for word in ordinary) >= _COPIED_SHARE * len(ordinary)


_SCRIPT_LETTERS, _SCRIPT_SHARE = 10, 0.5
_TELLING = 4


def wrong_script(source: str, translation: str, lang: str) -> bool:
    """Less than half of the letters are of the script of `lang`.

    Names may stay as they are: words that the source writes with a capital do not count, and a Chinese character
    counts as three letters, as it says as much. Ten letters at least must be left. Of Chinese
    characters: Japanese with ten has some kana, Chinese has no four kana; and of those that only the simplified
    (GB 2312) or only the traditional standard (Big5) has, four or more, at least half are of the code's side.

    >>> wrong_script("The prime minister resigned.", "Premyer-ministr iste'foga chiqdi.", "rus_Cyrl")
    True
    """
    script = LANGUAGES[lang].script
    own_names = _SCRIPTS[script]
    source, translation = (unicodedata.normalize("NFC", text) for text in (source, translation))
    names = {word.casefold() for word in _words(source) if word != word.lower()}
    total = own = 0.0
    for name, group in groupby(translation, _script):
        run = "".join(group)
        if name and run.casefold() not in names:
            weight = len(run) * _WEIGHTS.get(name, 1.0)
            total += weight
            own += weight * (name in own_names)
    if total >= _SCRIPT_LETTERS and own < _SCRIPT_SHARE * total:
        return True
    if script not in ("Jpan", "Hans", "Hant"):
        return False
    han = [character for character in translation if _script(character) == "CJK"]
    kana = sum(_script(character) in ("HIRAGANA", "KATAKANA") for character in translation)
    if script == "Jpan":
        return len(han) >= _SCRIPT_LETTERS and not kana
    telling = [only for character in han if (only := _only_in(character))]
    return kana >= _TELLING or (len(telling) >= _TELLING and 2 * telling.count(script) < len(telling))


@cache
def _only_in(han: str) -> str:
    """Whether a Chinese character is simplified or traditional alone, by the character sets of either side."""
    simplified, traditional = (bool(han.encode(name, "ignore")) for name in ("gb2312", "big5"))
    return "" if simplified == traditional else "Hans" if simplified else "Hant"


_LENGTH_FACTOR, _LENGTH_SLACK = 5 / 3, 30


def odd_length(source: str, translation: str) -> bool:
    """One text is over 5/3 times as long as the other, after 30 letters more for both.

    The letters that the slack adds let short texts differ more. Length is counted in letters of an alphabet: a Chinese
    character counts as three, kana and Hangul as two, Ethiopic as one and a half; white space and accents as nothing.

    >>> odd_length("The president spoke to the press for an hour after the long meeting.", "O presidente.")
    True
    """
    shorter, longer = sorted((_weight(source) + _LENGTH_SLACK, _weight(translation) + _LENGTH_SLACK))
    return longer > _LENGTH_FACTOR * shorter


_PROBABILITY = 0.02
# Where py3langid has another code than ISO 639-3 or 639-1; its `ku` is Kurmanji, its `az` Latin.
_LID_CODES = {"nob": "no", "grn": "gug", "ckb": "", "azb": ""}


class LanguageIdentifier:
    """py3langid (BSD, offline, 140 languages): says whether a text is in another language than it should be.

    It only speaks of languages that it knows (`knows`), half of the table, and of ten letters or more. The right
    language must get a probability under 0.02. Even so a language that it does not know may be taken for a neighbour,
    and a sentence of foreign names for a foreign sentence: flag, do not reject.
    """

    def __init__(self, key: str = "translate.health.language") -> None:
        """key: of the recipe, that asks for it. MissingExtraError."""
        try:
            langid = importlib.import_module("py3langid.langid")
        except ImportError:
            raise MissingExtraError("py3langid", "lid", key) from None
        self._model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
        self._known = {str(code) for code in self._model.nb_classes}

    def knows(self, lang: str) -> bool:
        return self._code(lang) is not None

    def wrong(self, text: str, lang: str) -> bool:
        """Whether the text is in another language; False where the identifier does not know `lang`."""
        code = self._code(lang)
        letters = sum(_WEIGHTS.get(name, 1.0) for character in text if (name := _script(character)))
        if code is None or letters < _SCRIPT_LETTERS:
            return False
        return bool(dict(self._model.rank(text))[code] < _PROBABILITY)

    def _code(self, lang: str) -> str | None:
        language = LANGUAGES[lang]
        name = language.iso639_3
        codes = (_LID_CODES[name],) if name in _LID_CODES else (name, language.iso639_1)
        return next((code for code in codes if code in self._known), None)


class HealthChecker:
    """Applies `translate.health`. MissingExtraError if it asks for the language and the extra is missing."""

    def __init__(self, settings: Health) -> None:
        names = {check: str(check).removeprefix("translation_") for check in (*CHECKS, LANGUAGE)}
        self._actions = {check: getattr(settings, name) for check, name in names.items()}
        self._identifier = LanguageIdentifier() if settings.language != "off" else None

    def examine(
        self, source: str, translation: str, source_lang: str, lang: str
    ) -> tuple[list[str], tuple[Reason, str] | None]:
        """Flags of a translation, and the reason and detail of its reject, if it is one."""
        fired = check(source, translation, source_lang, lang)
        if self._identifier is not None and self._identifier.wrong(translation, lang):
            fired.append(LANGUAGE)
        flags = [str(flag) for flag in fired if self._actions[flag] == "flag"]
        for flag in fired:
            if self._actions[flag] == "reject":
                lost = lost_digits(source, translation, source_lang, lang) if flag == LOST_DIGITS else []
                shown = f"{', '.join(lost)} missing in " if lost else ""
                return flags, (flag, f"{shown}{translation[:200]!r}")
        return flags, None
