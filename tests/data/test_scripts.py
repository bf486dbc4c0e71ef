"""Scripts of texts, and the languages written in them."""

import pytest

from xner_ray.data.languages import LANGUAGES
from xner_ray.data.scripts import NAMES, languages_in, scripts_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Nora went to Oslo, 1987", "Latn"),
        ("ọ́ lọ sí ọjà", "Latn"),
        ("नई दिल्ली", "Deva"),
        ("東京は日本の首都です", "Jpan"),
        ("中国人民关于发展", "Hans"),
        ("中國人民關於發展", "Hant"),
        ("한국어 中", "Hang"),
        ("ᱥᱟᱱᱛᱟᱲᱤ", "Olck"),
        ("ᏣᎳᎩ", "Cherokee"),
    ],
)
def test_the_script_of_a_text(text: str, script: str) -> None:
    assert next(iter(scripts_of([text]))) == script


def test_numbers_and_signs_have_none() -> None:
    assert scripts_of(["123 ... ", "😀"]) == {}


def test_every_script_of_the_table_has_names_and_languages() -> None:
    assert {language.script for language in LANGUAGES.values()} == NAMES.keys()
    assert all(languages_in(script) for script in NAMES)
    assert languages_in("Geor")[0].code == "kat_Geor"
