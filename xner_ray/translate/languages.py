"""How a translation model is told the languages of a direction, and its subwords.

    told by                     the encoder reads         the decoder begins with   as
    a token of each language    eng_Latn The cat . </s>   swh_Latn                  NLLB-200; M2M-100 with __en__,
                                                                                    mBART-50 with en_XX
    a token of the target       <2sw> The cat . </s>                                MADLAD-400; OPUS-MT with >>swh<<
    nothing                     The cat . </s>                                      OPUS-MT of one pair

Which of these a model knows is read off its vocabulary, not off its name. Codes of languages are ours (`eng_Latn`);
where a model spells them by ISO 639 alone, it may write another script: `translate.health.wrong_script` finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xner_ray.data.languages import LANGUAGES
from xner_ray.errors import RecipeError, did_you_mean

# Where models keep a code that ISO 639-1 has changed, or name a macrolanguage: MADLAD-400, M2M-100
_OTHERWISE = {"he": "iw", "nb": "no", "tl": "fil", "jv": "jw", "id": "in"}
_OF_A_LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}|__[a-z]{2,3}__|[a-z]{2}_[A-Z]{2}|<2[a-z]{2,3}(_\w+)?>|>>\w+<<")


@dataclass(frozen=True)
class Told:
    """How a model is told one direction.

    source: the language as the tokenizer takes it; None: it takes none. before: tokens that the encoder reads before
    the text. first: tokens that the decoder begins with, after its start token.
    """

    source: str | None
    before: tuple[int, ...]
    first: tuple[int, ...]


class Languages:
    """The languages that a model knows. key: of the recipe's section, for messages."""

    def __init__(self, tokenizer: Any, model: str, key: str = "translate") -> None:
        self.tokenizer, self._model, self._key = tokenizer, model, key
        self._told: dict[tuple[str, str], Told] = {}
        self._region: dict[str, str] | None = None

    def told(self, source: str, target: str) -> Told:
        """Return how the model is told a direction. RecipeError if it does not know a language."""
        if (source, target) not in self._told:
            self._told[source, target] = self._find(source, target)
        return self._told[source, target]

    def read(self, texts: Sequence[str], source: str, target: str) -> list[list[int]]:
        """Return what the encoder reads of texts in the language `source`, the end included."""
        told = self.told(source, target)
        ids = subwords(self.tokenizer, texts, told.source)
        return [[*told.before, *row] for row in ids] if told.before else ids

    def written(self, texts: Sequence[str], source: str, target: str) -> list[list[int]]:
        """Return the subwords of translations in the language `target`, without those of language and end."""
        if self.told(source, target).source is not None:
            return subwords(self.tokenizer, texts, self._both(target), special=False)
        if self.tokenizer.is_fast or not texts:
            return subwords(self.tokenizer, texts, None, special=False)
        # OPUS-MT cuts the two sides by models of their own
        found: list[list[int]] = self.tokenizer(
            text_target=list(texts), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return found

    def _find(self, source: str, target: str) -> Told:
        both = self._both(source), self._both(target)
        if None not in both:
            return Told(both[0], (), (self._id(self._token_of_both(target)),))
        if (token := self._of_target(target)) is not None:
            self._refuse_other_source(source)
            return Told(None, self._before(token), ())
        if both == (None, None) and (stated := self._of_pair("target")) is not None and _is_language(stated):
            self._refuse_other_source(source)
            if not _names(stated, target):
                raise self._lacks(target, [stated])
            return Told(None, (), ())
        code = target if both[1] is None else source
        raise self._lacks(code, [])

    def _refuse_other_source(self, source: str) -> None:
        """Raise RecipeError if the model says that it translates from another language."""
        stated = self._of_pair("source")
        if stated is not None and _is_language(stated) and not _names(stated, source):
            raise self._lacks(source, [stated])

    def _of_pair(self, side: str) -> str | None:
        """Return the language that a model of one pair states for a side; of a group of languages its name."""
        found = getattr(self.tokenizer, f"{side}_lang", None)
        return str(found) if found else None

    def _both(self, code: str) -> str | None:
        """Return a language as the tokenizer takes it, of a model with a token for each; None if it has none."""
        token = self._token_of_both(code)
        return token.strip("_") if token and token.startswith("__") else token

    def _token_of_both(self, code: str) -> str | None:
        for token in (code, *(f"__{iso}__" for iso in _iso(code)), *self._with_region(code)):
            if self._knows(token):
                return token
        return None

    def _with_region(self, code: str) -> list[str]:
        if self._region is None:
            added = [str(token) for token in self.tokenizer.get_added_vocab()]
            self._region = {token[:2]: token for token in added if re.fullmatch(r"[a-z]{2}_[A-Z]{2}", token)}
        return [self._region[iso] for iso in _iso(code) if iso in self._region]

    def _of_target(self, code: str) -> str | None:
        """Return the token that tells the target language alone."""
        script = code.partition("_")[2]
        for form in ("<2{}>", ">>{}<<"):
            for iso in _iso(code):
                for token in (form.format(f"{iso}_{script}"), form.format(iso)):
                    if self._knows(token):
                        return token
        return None

    def _before(self, token: str) -> tuple[int, ...]:
        """Return what the tokenizer makes of a target's token before a text; a mark of its own may precede it."""
        ids, own = self.tokenizer(f"{token} a", add_special_tokens=False)["input_ids"], self._id(token)
        return (*ids[: ids.index(own)], own) if own in ids else (own,)

    def _id(self, token: str | None) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def _knows(self, token: str) -> bool:
        found = self.tokenizer.convert_tokens_to_ids(token)
        return found is not None and found != self.tokenizer.unk_token_id

    def _lacks(self, code: str, known: Sequence[str]) -> RecipeError:
        known = known or list(self._all())
        meant = did_you_mean(code, known) if known else ""
        what = f"{self._key}.model: {self._model} has no language token {code!r}{meant}"
        return RecipeError(f"{what} Choose another model, or give the text under input.parallel")

    def _all(self) -> Iterator[str]:
        """Yield the tokens of languages that the model has."""
        listed = [*self.tokenizer.get_vocab(), *getattr(self.tokenizer, "lang_code_to_token", {}).values()]
        return (token for token in map(str, listed) if _OF_A_LANGUAGE.fullmatch(token))


def subwords(tokenizer: Any, texts: Sequence[str], lang: str | None, *, special: bool = True) -> list[list[int]]:
    """Return the subwords of texts; text that spells a special one stays text.

    lang: as the tokenizer takes it; None: it takes none. special: with those of language and end, where the tokenizer
    puts them in what the encoder reads.
    """
    if lang is not None:
        tokenizer.src_lang = lang
    if not tokenizer.is_fast:
        options = {"split_special_tokens": True, "add_special_tokens": special}
        found: list[list[int]] = tokenizer(list(texts), **options)["input_ids"] if texts else []
        return found
    tokenizer("", split_special_tokens=True, truncation=False, padding=False)  # tells its backend, which is faster
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    return [encoding.ids for encoding in encode(list(texts), add_special_tokens=special)]


def _iso(code: str) -> list[str]:
    """Return the ISO 639 codes of a language, those of two letters first.

    >>> _iso("swh_Latn"), _iso("heb_Hebr"), _iso("lug_Latn")
    (['sw', 'swh'], ['he', 'iw', 'heb'], ['lg', 'lug'])
    """
    language = LANGUAGES.get(code)
    if language is None:
        return []
    found = [language.iso639_1, _OTHERWISE.get(language.iso639_1, ""), language.iso639_3]
    return [iso for iso in found if iso]


def _is_language(name: str) -> bool:
    """Return whether a name is that of one language, not of a group."""
    return any(_names(name, code) for code in LANGUAGES)


def _names(name: str, code: str) -> bool:
    """Return whether a model's name of a language is that of a code.

    >>> _names("en", "eng_Latn"), _names("swa", "swh_Latn"), _names("mul", "eng_Latn"), _names("pt_br", "por_Latn")
    (True, True, False, True)
    """
    language = LANGUAGES.get(code)
    stem = name.lower().partition("_")[0]
    return language is not None and stem in {code.lower(), *_iso(code), *(alias.lower() for alias in language.aliases)}
