"""Translations that the user gives: checked as those that a translator makes, flagged or rejected."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from given_files import over_links, write
from reading import read_all

import xner_ray
from xner_ray.errors import MissingExtraError
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.translate.given import examined

ENGLISH = "Ada Lovelace met her brother in the old town of Rome ."
GERMAN = [
    "Ada Lovelace traf ihren Bruder in der Altstadt von Rom .",
    "Ada Lovelace traf " + "in der Altstadt " * 8 + ".",
    ENGLISH,
    "Ада Лавлейс встретила брата в старом городе Риме .",
    "In der Altstadt von Rom traf Ada Lovelace ihren Bruder .",
]
FLAGS = [[], ["translation_repeats", "translation_length"], ["translation_copied"], ["translation_wrong_script"], []]
OFF = {"health": dict.fromkeys(("repeats", "copied", "wrong_script", "length", "lost_digits"), "off")}


def _recipe(folder: Path, direction: str = "train", **translate: Any) -> dict[str, Any]:
    """Return a recipe over ENGLISH and GERMAN that loads no model. In direction test the input is German."""
    words = "\n".join(f"{word} {'B-PER' if word == 'Ada' else 'O'}" for word in ENGLISH.split())
    english = write(folder / "en.conll", f"{words}\n\n" * len(GERMAN))
    german = write(folder / "de.txt", "".join(f"{text}\n" for text in GERMAN))
    write(folder / "links.txt", "0-0\n" * len(GERMAN))
    recipe = over_links(translate=translate)
    recipe["input"] |= {"path": english, "parallel": {"deu_Latn": german}, "links": str(folder / "links.txt")}
    if direction == "test":
        recipe["input"] |= {"path": german, "lang": "deu_Latn", "format": "text", "parallel": {"eng_Latn": english}}
        recipe |= {"direction": "test", "tag": {"engine": "provided"}}
        del recipe["targets"]
    return recipe


def _checked(recipe: Recipe) -> pa.Table:
    return examined(read_all(recipe), recipe)


@pytest.mark.parametrize("direction", ["train", "test"])
def test_given_translations_get_the_flags_of_made_ones(tmp_path: Path, direction: str) -> None:
    """In direction test the English side is the translation: what loops in the original loops there by right."""
    table = _checked(load_recipe(_recipe(tmp_path, direction)))
    found = [flags or [] for flags in table.column("flags").to_pylist()]
    assert set(table.column("status").to_pylist()) == {"ok"}
    if direction == "train":
        assert found == FLAGS
    else:
        assert found[2] == ["translation_copied"] and "translation_repeats" not in found[1] and found[0] == []


def test_what_is_to_be_rejected_is(tmp_path: Path) -> None:
    table = _checked(load_recipe(_recipe(tmp_path, health={"copied": "reject", "repeats": "off"})))
    assert table.column("reason").to_pylist() == [None, None, "translation_copied", None, None]
    assert repr(ENGLISH) in table.column("detail")[2].as_py()
    assert table.column("flags").to_pylist()[1] == ["translation_length"]


def test_a_run_has_them_in_its_rows_and_its_report(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, health={"wrong_script": "reject"})
    run = xner_ray.project(recipe, tmp_path / "run", overrides=["output.max_reject_rate=1", "engine.executor=inline"])
    flags = [found or [] for found in run.to_arrow("deu_Latn").column("flags").to_pylist()]
    assert flags == [each for each in FLAGS if "translation_wrong_script" not in each]
    assert run.report.rejects == {"translation_wrong_script": 1}
    assert run.report.flags == {"translation_repeats": 1, "translation_length": 1, "translation_copied": 1}


def test_checks_that_look_at_given_text_decide_its_rows_and_the_others_do_not(tmp_path: Path) -> None:
    def keys(**translate: Any) -> dict[str, Any]:
        found = fingerprint(load_recipe(_recipe(tmp_path, **translate)), {}, {}, {})
        return {key: value for key, value in found.items() if key.startswith("translate.")}

    assert {key for key in keys() if "health" in key} == {
        f"translate.health.{key}" for key in [*OFF["health"], "language"]
    }
    # As runs of earlier versions were, which these settings resume
    assert [key for key in keys(**OFF) if "health" in key] == []
    alone = load_recipe({"input": {"path": "a.conll", "lang": "eng_Latn"}, "targets": ["deu_Latn"]})
    assert not alone.given_is_checked and fingerprint(alone, {}, {}, {})["translate.health.copied"] == "flag"


def test_its_language_is_told_where_the_recipe_asks(tmp_path: Path) -> None:
    from xner_ray.engine.resolve import check_cheap

    recipe = load_recipe(_recipe(tmp_path, health={"language": "flag"}))
    try:
        table = _checked(recipe)
    except MissingExtraError:
        with pytest.raises(MissingExtraError, match=r"translate\.health\.language"):
            check_cheap(recipe)
        return
    assert table.column("flags").to_pylist()[2] == ["translation_copied", "translation_language"]


def test_what_is_still_to_be_translated_passes_by(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path))
    rows = read_all(recipe)
    empty = pa.nulls(rows.num_rows, pa.string())
    untranslated = rows.set_column(rows.schema.get_field_index("text"), "text", empty)
    assert examined(untranslated, recipe).equals(untranslated)
