"""Health checks of translations: rules on the two texts alone, one reason code each.

A check must hold for 200 languages, and there is data for a few, so every rule is one formula for all languages with
generous bounds, not a table fitted to each. It finds what is plainly broken; what is subtly wrong passes. Constants
were set on NTREX-128 (English and ten languages, both directions): at most 1 % of good pairs are flagged by any check
in any language. `tests/bench/health_table.py` prints that, and what each check finds.

`check` applies the rules, each a function below with its constants; `LanguageIdentifier` is optional; `HealthChecker`
turns what fired into flags and rejects by the recipe. Empty and truncated translations are the translator's to report.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import groupby

from xner_ray import extras
from xner_ray.data.languages import LANGUAGES
from xner_ray.data.scripts import NAMES, only_in, script_name
from xner_ray.errors import Reason
from xner_ray.recipe.sections import Health
from xner_ray.translate.numbers import lost_digits

REPEATS = Reason.TRANSLATION_REPEATS
COPIED = Reason.TRANSLATION_COPIED
WRONG_SCRIPT = Reason.TRANSLATION_WRONG_SCRIPT
LENGTH = Reason.TRANSLATION_LENGTH
LOST_DIGITS = Reason.TRANSLATION_LOST_DIGITS
LANGUAGE = Reason.TRANSLATION_LANGUAGE

CHECKS: tuple[Reason, ...] = (REPEATS, COPIED, WRONG_SCRIPT, LENGTH, LOST_DIGITS)
"""The checks of `check`, in its order; `LANGUAGE` needs an identifier."""

GARBLED = frozenset((REPEATS, COPIED, WRONG_SCRIPT, LENGTH))
"""The checks that say that the translation as a whole is none; a lost number says little about names."""


def check(source: str, translation: str, source_lang: str, lang: str) -> list[Reason]:
    """Return the reason codes of the checks that fire, in the order of `CHECKS`; languages are codes of `LANGUAGES`.

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


# How many letters of an alphabet one of these is worth, from the medians of NTREX (Hangul: two, by its jamo).
_WEIGHTS = {"CJK": 3.0, "HIRAGANA": 2.0, "KATAKANA": 2.0, "HANGUL": 2.0, "ETHIOPIC": 1.5}


@cache
def _in_word(character: str) -> bool:
    """Tell whether a character is a letter or a mark; `re` does not count most Indian vowels as part of a word."""
    return unicodedata.category(character)[0] in "LM"


class _Spaces(dict[int, str]):
    """A table for `str.translate` that makes a space of all but letters, marks and numbers."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if _in_word(character) or character.isnumeric() else " "
        return self[code]


_SPACES = _Spaces()
# Where combining marks and letters of other alphabets begin, and those letters that count double or more
_NOT_LATIN, _HEAVY = re.compile("[^\0-\u02ff]"), re.compile("[\u1100-\U0010ffff]")


def _plain(text: str) -> str:
    """Return words and numbers with one space between, case-folded."""
    return " ".join(text.casefold().translate(_SPACES).split())


def _words(text: str) -> list[str]:
    return text.translate(_SPACES).split()


def _weight(text: str) -> float:
    """Return the length of a text in letters of an alphabet; neither white space nor accents count."""
    if not _NOT_LATIN.search(text):
        return len("".join(text.split()))
    return sum(
        _WEIGHTS.get(script_name(character), 1.0) * count
        for character, count in Counter(text).items()
        if not character.isspace() and unicodedata.combining(character) < 200
    )


_LOOP = re.compile(r"(?=\S)(.{1,80}?)\1{3,}", re.DOTALL)
_LOOP_TIMES, _LOOP_LENGTH = 4, 12
_GRAM, _DENSE_GRAM = 12, 5  # characters; Dense: Chinese, Japanese, Korean
_REPEATED_SHARE = 0.3


def repeats(source: str, translation: str) -> bool:
    """Tell whether the translation has a loop that the source has not.

    A loop is a piece of at most 80 characters that is repeated four or more times in a row, over 12 characters or more,
    and more than twice as often as any piece of the source; or a clause or text that comes again: the share of
    character 12-grams (5-grams where most letters are Chinese, Japanese or Korean) that occurred before is 0.3 higher
    than in the source, and there are at least twice as many of them as a gram is long. Case and punctuation do not
    count. Reduplication (`anak-anak`) repeats a word once, and a source that says `no` five times may be translated so.

    >>> repeats("He came home.", "Alikuja na na na na na na na"), repeats("The children.", "Anak-anak itu.")
    (True, False)
    """
    source, translation = _plain(source), _plain(translation)
    repeated = _repeated_grams(translation, 6)[0]
    if repeated >= 4 and _may_loop(translation):
        loop = _longest_loop(translation, _LOOP_LENGTH)
        if loop >= _LOOP_TIMES and loop > 2 * _longest_loop(source, 0):
            return True
    n = _gram(translation)
    if n > 6 and repeated < 2 * n:  # a repeated gram begins with a repeated 6-gram
        return False
    count, share = _repeated_grams(translation, n)
    return count >= 2 * n and share - _repeated_grams(source, _gram(source))[1] >= _REPEATED_SHARE


def _may_loop(text: str) -> bool:
    """Tell whether a text can have a loop, a hundred times faster than `_longest_loop` finds it.

    Four times a piece of p characters, 12 or more in all, are at least 3 p - 5, and 4, repeated 6-grams in a row, of
    which none has its like more than p characters before it.
    """
    last: dict[str, int] = {}
    run, nearest = 0, len(text)
    for at in range(len(text) - 5):
        gram = text[at : at + 6]
        before = last.get(gram)
        last[gram] = at
        if before is None:
            run, nearest = 0, len(text)
            continue
        run, nearest = run + 1, min(nearest, at - before)
        if run >= max(4, 3 * nearest - 5):
            return True
    return False


def _longest_loop(text: str, least: int) -> int:
    """Return the most repetitions in a row of a piece with a letter, over at least `least` characters."""
    found = (match for match in _LOOP.finditer(text) if len(match[0]) >= least)
    return max((len(m[0]) // len(m[1]) for m in found if any(map(_in_word, m[1]))), default=0)


def _gram(text: str) -> int:
    if not _HEAVY.search(text):
        return _GRAM
    dense = sum(_WEIGHTS.get(script_name(character), 1.0) >= 2 for character in text)
    return _DENSE_GRAM if 2 * dense > len(text) else _GRAM


def _repeated_grams(text: str, n: int) -> tuple[int, float]:
    """Return how many n-grams occurred before, and their share of all."""
    total = len(text) - n + 1
    if total <= 0:
        return 0, 0.0
    count = total - len({text[start : start + n] for start in range(total)})
    return count, count / total


_ORDINARY_WORDS, _COPIED_SHARE, _COPIED_WEIGHT = 4, 0.8, 24
# Groups of languages so similar that a right translation may have most words of the source.
_ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "arb acm acq aeb ajp apc ars ary arz", "bos hrv srp", "dan nob nno swe", "ces slk", "ind zsm min bjn",
        "spa glg ast", "ita vec lmo lij scn fur srd", "zho yue", "bod dzo", "hin awa bho mag mai hne npi", "pes prs",
        "kin run", "zul xho ssw", "aka twi", "eng pcm",
    )
)  # fmt: skip


def copied(source: str, translation: str, source_lang: str, lang: str) -> bool:
    """Tell whether the source was not translated: at least 0.8 of its ordinary words are in the translation.

    Ordinary words have no capital, as names have in most scripts; a source with fewer than four passes. Of a source
    without spaces the whole text is compared, from 24 letters' worth on. Languages of one group of `_ALIKE` pass, and
    so do two codes of one language.

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
    """Tell whether less than half of the letters are in the script of `lang`.

    Names may stay as they are: words that the source writes with a capital do not count. A Chinese character counts as
    three letters. A translation with fewer than ten letters left passes. Further: Japanese with ten Chinese characters
    must have kana; Chinese must have fewer than four kana, and if it has four or more characters that are in GB 2312
    (simplified) or in Big5 (traditional) alone, at least half of these must be of the script of `lang`.

    >>> wrong_script("The prime minister resigned.", "Premyer-ministr iste'foga chiqdi.", "rus_Cyrl")
    True
    """
    script = LANGUAGES[lang].script
    own_names = NAMES[script]
    translation = unicodedata.normalize("NFC", translation)
    if not {name for name in map(script_name, set(translation)) if name} <= {*own_names}:
        source = unicodedata.normalize("NFC", source)
        names = {word.casefold() for word in _words(source) if word != word.lower()}
        total = own = 0.0
        for name, group in groupby(translation, script_name):
            run = "".join(group)
            if name and run.casefold() not in names:
                weight = len(run) * _WEIGHTS.get(name, 1.0)
                total += weight
                own += weight * (name in own_names)
        if total >= _SCRIPT_LETTERS and own < _SCRIPT_SHARE * total:
            return True
    if script not in ("Jpan", "Hans", "Hant"):
        return False
    han = [character for character in translation if script_name(character) == "CJK"]
    kana = sum(script_name(character) in ("HIRAGANA", "KATAKANA") for character in translation)
    if script == "Jpan":
        return len(han) >= _SCRIPT_LETTERS and not kana
    telling = [only for character in han if (only := only_in(character))]
    return kana >= _TELLING or (len(telling) >= _TELLING and 2 * telling.count(script) < len(telling))


_LENGTH_FACTOR, _LENGTH_SLACK = 5 / 3, 30


def odd_length(source: str, translation: str) -> bool:
    """Tell whether one text is over 5/3 times as long as the other, with 30 letters added to both.

    The added letters let short texts differ more. Length is counted in letters of an alphabet: a Chinese character
    counts as three, kana and Hangul as two, Ethiopic as one and a half; white space and accents do not count.

    >>> odd_length("The president spoke to the press for an hour after the long meeting.", "O presidente.")
    True
    """
    shorter, longer = sorted((_weight(source) + _LENGTH_SLACK, _weight(translation) + _LENGTH_SLACK))
    return longer > _LENGTH_FACTOR * shorter


_PROBABILITY = 0.02
# Codes of py3langid that are not ISO 639-3 or 639-1; its `ku` is Kurmanji, its `az` Latin.
_LID_CODES = {"nob": "no", "grn": "gug", "ckb": "", "azb": ""}


class LanguageIdentifier:
    """Tells whether a text is in another language than it should be, by py3langid (BSD, offline, 140 languages).

    A text is wrong if the right language gets a probability under 0.02. Languages that py3langid does not know (half of
    our table) and texts under ten letters pass. A sentence of foreign names may still count as a foreign sentence, so
    flag, do not reject.
    """

    def __init__(self, key: str = "translate.health.language") -> None:
        """Load the model; MissingExtraError, with the `key` of the recipe that asks for it, without py3langid."""
        try:
            langid = importlib.import_module("py3langid.langid")
        except ImportError:
            raise extras.missing("py3langid", "lid", key) from None
        self._model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
        self._known = {str(code) for code in self._model.nb_classes}

    def knows(self, lang: str) -> bool:
        return self._code(lang) is not None

    def wrong(self, text: str, lang: str) -> bool:
        """Tell whether the text is in another language; False if the identifier does not know `lang`."""
        code = self._code(lang)
        letters = sum(_WEIGHTS.get(name, 1.0) for character in text if (name := script_name(character)))
        if code is None or letters < _SCRIPT_LETTERS:
            return False
        return bool(dict(self._model.rank(text))[code] < _PROBABILITY)

    def likely(self, text: str, langs: Iterable[str]) -> list[tuple[str, float]]:
        """Return those of some languages that the model knows, with the probability of each, the likeliest first.

        Languages that are one to the model share a probability.
        """
        ranked = {str(code): float(probability) for code, probability in self._model.rank(text)}
        found = [(lang, ranked[code]) for lang in langs if (code := self._code(lang)) is not None]
        return sorted(found, key=lambda pair: -pair[1])

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
        """Return the flags of a translation, and the reason and detail of its reject, if it is one."""
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
