"""`translate.engine: auto` is settled once, at a run's start, and a resume keeps what it stood for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tiny_encoders import tiny

from xner_ray.engine import resolve
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.run.folder import RunFolder


def _recipe(**translate: Any) -> Recipe:
    section = {"engine": "auto", "model": "tiny-nllb", **translate}
    return load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"], "translate": section})


def _without_ctranslate2(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(resolve, "find_spec", lambda name: None if name == "ctranslate2" else real(name))


def test_it_is_the_fast_one_where_that_is_installed_and_serves(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="needs the extra 'ctranslate2'")
    assert resolve.with_engine(_recipe()).translate_engine == "ctranslate2"
    assert resolve.with_engine(_recipe(gpus=1, dtype="bfloat16")).translate_engine == "ctranslate2"
    assert resolve.with_engine(_recipe(dtype="bfloat16")).translate_engine == "nllb"  # a CPU does not compute so there
    assert resolve.with_engine(_recipe(model=tiny(tmp_path, "bart"))).translate_engine == "nllb"
    stated = load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"]})
    assert resolve.with_engine(stated) is stated


def test_it_is_transformers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_ctranslate2(monkeypatch)
    assert resolve.with_engine(_recipe()).translate_engine == "nllb"


def test_a_resume_keeps_it_on_a_machine_that_would_take_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe()
    with monkeypatch.context() as there:
        _without_ctranslate2(there)
        begun, _ = resolve.resolve(recipe)
    folder = RunFolder(str(tmp_path / "run"))
    keys = {"translate.engine": begun.translate_engine}
    folder.begin(begun, keys, b"", 10, asked=resolve.asked(recipe))
    kept, _ = resolve.resolve(recipe, recorded=resolve.recorded(recipe, folder))
    assert kept.translate_engine == "nllb"
    # Another wish than at the start is another recipe, and not overruled
    stated = _recipe(engine="nllb")
    assert "translate.engine" not in resolve.recorded(stated, folder)


def test_eight_bits_are_not_left_open() -> None:
    with pytest.raises(resolve.RecipeError, match="dtype: int8 needs engine: ctranslate2"):
        _recipe(dtype="int8")
