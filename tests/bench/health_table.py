"""The health checks on NTREX-128: prints two Markdown tables.

    python tests/bench/health_table.py [--seed 0]

False alarms: the share of good pairs that each check flags, from English and into it. Found: the share of spoilt
translations from English that the check in the head of the column flags, with any check in brackets. The column of
`translation_language` appears where py3langid is installed.
"""

import argparse
import os
import random
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from xner_ray.data.languages import LANGUAGES, resolve  # noqa: E402
from xner_ray.errors import MissingExtraError  # noqa: E402
from xner_ray.translate import health  # noqa: E402

ENGLISH = "eng_Latn"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
Spoil = Callable[[str, str], str | None]


def ntrex(shared_data: Path) -> dict[str, list[str]]:
    """The sentences of every language by its code, line-parallel."""
    texts = {}
    for path in sorted((shared_data / "ntrex-128").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        texts[resolve(path.stem)] = [line.strip() for line in lines]
    return texts


def false_alarms(sources: list[str], translations: list[str], source_lang: str, lang: str) -> dict[str, float]:
    """Per cent of pairs that each check flags."""
    flags = [
        name for pair in zip(sources, translations, strict=True) for name in health.check(*pair, source_lang, lang)
    ]
    return {name: 100 * flags.count(name) / len(sources) for name in health.CHECKS}


def found(
    sources: list[str], translations: list[str], lang: str, spoil: Spoil, name: str, notice: Callable[[str], bool]
) -> tuple[float, float]:
    """Per cent of spoilt translations from English that one check flags, and that any check flags."""
    one = either = total = 0
    for source, translation in zip(sources, translations, strict=True):
        spoilt = spoil(source, translation)
        if spoilt is not None:
            flags = health.check(source, spoilt, ENGLISH, lang)
            if name == health.LANGUAGE and notice(spoilt):
                flags.append(name)
            total, one, either = total + 1, one + (name in flags), either + bool(flags)
    return 100 * one / max(total, 1), 100 * either / max(total, 1)


def loop(lang: str, source: str, translation: str) -> str:
    """The last word, or the last four characters, ten times more."""
    if LANGUAGES[lang].spaces:
        return translation + (" " + translation.split()[-1]) * 10
    return translation + translation[-4:] * 10


def clauses(source: str, translation: str) -> str:
    """The second half three times more."""
    return translation + translation[len(translation) // 2 :] * 3


def doubled(source: str, translation: str) -> str:
    return f"{translation} {translation}"


def half(source: str, translation: str) -> str:
    return translation[: len(translation) // 2]


def source_itself(source: str, translation: str) -> str:
    return source


def numbers_in(source: str, translation: str, *, large: bool) -> list[re.Match[str]]:
    """Numbers of the translation, if both sides have one. large: only over 31 with two significant digits."""
    found = NUMBER.finditer(translation) if NUMBER.search(source) else ()
    if not large:
        return list(found)
    digits = {match: re.sub(r"\D", "", match[0]) for match in found}
    return [match for match, number in digits.items() if len(number.strip("0")) > 1 and int(number) > 31]


def number_gone(rng: random.Random, large: bool, source: str, translation: str) -> str | None:
    """One number of the translation deleted; None without a number in both."""
    numbers = numbers_in(source, translation, large=large)
    if not numbers:
        return None
    match = rng.choice(numbers)
    return translation[: match.start()] + translation[match.end() :]


def digit_changed(rng: random.Random, large: bool, source: str, translation: str) -> str | None:
    """One digit of one number made another."""
    numbers = numbers_in(source, translation, large=large)
    if not numbers:
        return None
    match = rng.choice(numbers)
    index = rng.choice([index for index in range(*match.span()) if translation[index].isdecimal()])
    new = rng.choice([digit for digit in "123456789" if digit != translation[index]])
    return translation[:index] + new + translation[index + 1 :]


def spoils(lang: str, others: dict[str, str], seed: int) -> dict[str, tuple[Spoil, str]]:
    """The columns of the second table. others: by source, its translation into another language."""
    return {
        "looped word": (partial(loop, lang), health.REPEATS),
        "looped clause": (clauses, health.REPEATS),
        "doubled": (doubled, health.REPEATS),
        "source copied": (source_itself, health.COPIED),
        "other script": (lambda source, _: others[source], health.WRONG_SCRIPT),
        "half": (half, health.LENGTH),
        "number deleted": (partial(number_gone, random.Random(seed), False), health.LOST_DIGITS),
        "digit changed": (partial(digit_changed, random.Random(seed), False), health.LOST_DIGITS),
        "number > 31 deleted": (partial(number_gone, random.Random(seed), True), health.LOST_DIGITS),
        "digit of > 31 changed": (partial(digit_changed, random.Random(seed), True), health.LOST_DIGITS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shared = Path(os.environ.get("XNER_SHARED", ROOT.parent / "shared")) / "data"
    texts = ntrex(shared)
    english = texts.pop(ENGLISH)
    try:
        identifier = health.LanguageIdentifier()
    except MissingExtraError:
        identifier = None
    names = [*health.CHECKS, *([health.LANGUAGE] if identifier else [])]
    heads = " | ".join(name.removeprefix("translation_") for name in names)
    print(f"| false alarms, % | {heads} |\n| --- |" + " ---: |" * len(names))
    for lang, translations in texts.items():
        for pair in ((ENGLISH, lang), (lang, ENGLISH)):
            sides = (english, translations) if pair[0] == ENGLISH else (translations, english)
            alarms = false_alarms(*sides, *pair)
            if identifier:
                wrong = sum(identifier.wrong(text, pair[1]) for text in sides[1])
                alarms[health.LANGUAGE] = 100 * wrong / len(english)
            print(f"| {pair[0]} > {pair[1]} | " + " | ".join(f"{alarms[name]:.2f}" for name in names) + " |")
    print()
    for number, (lang, translations) in enumerate(texts.items()):
        script = LANGUAGES[lang].script
        other = "hin_Deva" if script == "Latn" else "swh_Latn"
        columns = spoils(lang, dict(zip(english, texts[other], strict=True)), options.seed)
        if identifier:
            near = dict(zip(english, texts["swh_Latn" if lang != "swh_Latn" else "zul_Latn"], strict=True))
            columns["Swahili or Zulu"] = (lambda source, _, near=near: near[source], health.LANGUAGE)
        if not number:
            print("| found, % | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
        notice = partial(identifier.wrong, lang=lang) if identifier else bool
        rates = [found(english, translations, lang, spoil, name, notice) for spoil, name in columns.values()]
        print(f"| {lang} | " + " | ".join(f"{one:.0f} ({either:.0f})" for one, either in rates) + " |")


if __name__ == "__main__":
    main()
