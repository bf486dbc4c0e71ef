"""The language codes: FLORES-200 / NLLB, each with its name, its script and the spacing of its words.

The table is `languages.tsv` beside this file: the 202 codes of the NLLB tokenizer, and a few that NLLB does not know
but that given text may be in (`nllb` is false there, so a translator can refuse them). Four columns need a comment:

- `script` is the script of text under that code (ISO 15924). It is the last part of the code except for `sat_Beng`:
  NLLB's name for Santali, whose text is in Ol Chiki.
- `spaces` says whether white space separates words. It is true for Vietnamese, where it separates syllables:
  nothing else separates words there.
- `aliases` are other spellings that mean this code and no other: ISO 639-3 where one script is listed, ISO 639-1,
  the codes of MasakhaNER, XTREME and NTREX, the renamings of FLORES+. `ku`, `kr`, `ks`, `ff`, `no` and `az` fit
  several codes, or none exactly, and are refused; `zh` is simplified Chinese, as in XTREME.
- `limits` says where a word of `words.py` is less or more than a word: an entity then ends inside a word, or takes
  in what is written together with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from xner_ray.errors import RecipeError

# Codes that fit several languages of the table: refused, with these as suggestions.
_SEVERAL = {
    "no": ("nob_Latn", "nno_Latn"),
    "nor": ("nob_Latn", "nno_Latn"),
    "kur": ("kmr_Latn", "ckb_Arab"),
    "aze": ("azj_Latn", "azb_Arab"),
    "ful": ("fuv_Latn",),
    "cmn": ("zho_Hans", "zho_Hant"),
}


@dataclass(frozen=True, slots=True)
class Language:
    """One line of the table, e.g. `LANGUAGES["swh_Latn"].name == "Swahili"`."""

    code: str
    name: str
    iso639_3: str
    iso639_1: str  # empty where there is none
    script: str
    direction: Literal["ltr", "rtl"]
    spaces: bool
    nllb: bool  # NLLB translates from and into it
    aliases: tuple[str, ...]
    limits: str  # of its words as borders of entities; empty if none is known


def _load() -> dict[str, Language]:
    languages = {}
    table = Path(__file__).with_name("languages.tsv").read_text(encoding="utf-8")
    for line in table.splitlines()[1:]:
        code, name, iso639_3, iso639_1, script, direction, spaces, nllb, aliases, limits = line.split("\t")
        languages[code] = Language(
            code=code,
            name=name,
            iso639_3=iso639_3,
            iso639_1=iso639_1,
            script=script,
            direction="rtl" if direction == "rtl" else "ltr",
            spaces=spaces == "true",
            nllb=nllb == "true",
            aliases=tuple(aliases.split()),
            limits=limits,
        )
    return languages


LANGUAGES: Mapping[str, Language] = MappingProxyType(_load())
_BY_ALIAS: Mapping[str, str] = {alias: code for code, x in LANGUAGES.items() for alias in (code, *x.aliases)}


def resolve(code: str, *, key: str = "lang") -> str:
    """Return the canonical code for a code or an accepted alias; anything else is a `RecipeError`.

    >>> resolve("swa"), resolve("zho-CN"), resolve("swh_Latn")
    ('swh_Latn', 'zho_Hans', 'swh_Latn')
    """
    if code in _BY_ALIAS:
        return _BY_ALIAS[code]
    near = " or ".join(f"{x.code} ({x.name})" for x in _near(code))
    hint = f"did you mean {near}?" if near else "`xner-ray languages` lists them all."
    raise RecipeError(f"{key}: {code!r} is not a language code (FLORES-200, like swh_Latn); {hint}")


def search(text: str) -> list[Language]:
    """Return the languages with `text` in a code, alias, name or script, in any case; the whole table for "".

    >>> [language.code for language in search("kanuri")]
    ['knc_Arab', 'knc_Latn']
    """
    wanted = text.strip().casefold()
    return [
        language
        for language in LANGUAGES.values()
        if any(wanted in field.casefold() for field in (*_keys(language), language.script))
    ]


def _keys(language: Language) -> tuple[str, ...]:
    """Return all codes and names of a language.

    >>> _keys(LANGUAGES["swh_Latn"])
    ('swh_Latn', 'Swahili', 'swh', 'sw', 'swh', 'sw', 'swa')
    """
    return (language.code, language.name, language.iso639_3, language.iso639_1, *language.aliases)


def _near(value: str, *, most: int = 3) -> list[Language]:
    """Return the languages that `value` probably means, best first.

    First those whose code, ISO code or alias is the part before `_` or `-` (`swa_Latn`: `swa`), the same script
    first; if there are none, those with a word in the name that starts so (`kurd`); then near spellings.

    >>> [language.code for language in _near("swa_Latn")]
    ['swh_Latn']
    """
    folded = value.strip().casefold()
    stem, _, script = folded.replace("-", "_").partition("_")
    if not stem:
        return []
    if stem in _SEVERAL:
        return [LANGUAGES[code] for code in _SEVERAL[stem]]
    keys = {x.code: {key.casefold() for key in _keys(x)} for x in LANGUAGES.values()}
    found = [x for x in LANGUAGES.values() if keys[x.code] & {folded, stem}]
    found.sort(key=lambda x: x.script.casefold() != script)  # stable: table order within
    if not found and len(stem) >= 3:
        found = [x for x in LANGUAGES.values() if any(w.startswith(stem) for w in x.name.casefold().split())]
        found.sort(key=lambda x: not x.iso639_1)  # `arabic`: the standard language before its dialects
    if not found:
        by_key = {key: x for x in reversed(list(LANGUAGES.values())) for key in keys[x.code] if key}
        close = difflib.get_close_matches(folded, by_key, n=2 * most, cutoff=0.6)
        found = list(dict.fromkeys(by_key[key] for key in close))
    return found[:most]
