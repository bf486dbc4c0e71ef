"""The published figures as the table has them: complete, consistent, and those of the tables they come from."""

import os
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
from published_figures import TARGET, transcribed

from xner_ray.commands.reproduce.published import MACRO, beside, figures, languages, methods
from xner_ray.data.languages import resolve
from xner_ray.recipe.load import load_recipe

JOBS = Path(__file__).parents[2] / "jobs"
EXTRACTION = Path(os.environ.get("XNER_SHARED", Path(__file__).parents[3] / "shared")) / "reference/method.md"
SETS = {"europarl": 3, "masakhaner": 18, "wikiann": 39}


def test_every_run_of_the_paper_is_there_once() -> None:
    keys = Counter((one.set, one.lang, one.method, one.setting, one.measure, one.source) for one in figures())
    assert [key for key, n in keys.items() if n > 1] == []
    assert Counter(one.source for one in figures()) == {
        "paper": 993,
        "thesis-heuristic": 48,
        "thesis-matching": 93,
        "thesis-pipeline": 190,
        "thesis-quoted": 22,
    }
    assert {name: len(languages(name)) for name in SETS} == SETS
    assert {name: len(methods(name)) for name in SETS} == {"europarl": 7, "masakhaner": 13, "wikiann": 13}
    for name in SETS:
        for method in methods(name):
            assert list(beside(name, method)) == [*languages(name), MACRO]


def test_macros_are_the_means_of_the_languages() -> None:
    for name in SETS:
        for method in methods(name):
            found = {lang: one.value for lang, one in beside(name, method).items()}
            assert mean(found[lang] for lang in languages(name)) == pytest.approx(found[MACRO], abs=0.055), method
    for method in {one.method for one in figures() if one.source == "thesis-pipeline"}:
        values = {one.lang: one.value for one in figures() if (one.source, one.method) == ("thesis-pipeline", method)}
        average = values.pop(MACRO)
        assert len(values) == 18 and mean(values.values()) == pytest.approx(average, abs=0.11), method


@pytest.mark.parametrize(
    ("name", "method", "lang", "value"),
    [
        ("europarl", "N-a", "de", 92.0),
        ("europarl", "X-a", "de", 92.1),
        ("masakhaner", "Nb-a", "ibo", 67.3),
        ("masakhaner", "X-a", "lug", 80.8),
        ("masakhaner", "H-a", "macro", 67.29),
        ("wikiann", "Eb-s", "th", 0.0),
        ("wikiann", "MT", "macro", 50.87),
    ],
)
def test_a_few_values(name: str, method: str, lang: str, value: float) -> None:
    assert beside(name, method)[lang].value == value


def test_ours_has_nothing_beside_it() -> None:
    assert beside("masakhaner", "ours") == beside("wikiann", "X-a") == {}


@pytest.mark.parametrize(("name", "job"), [("masakhaner", "masakhaner2_nllb.yaml"), ("wikiann", "xtreme_nllb.yaml")])
def test_the_papers_codes_are_the_languages_of_our_recipes(name: str, job: str) -> None:
    assert [resolve(code) for code in languages(name)] == load_recipe(JOBS / job).input.lang


@pytest.mark.skipif(not EXTRACTION.is_file(), reason=f"no {EXTRACTION} (set XNER_SHARED)")
def test_the_table_is_what_its_script_makes() -> None:
    assert transcribed(EXTRACTION.read_text("utf-8")) == TARGET.read_text("utf-8")
