"""What decides the rows of a run, and what does not."""

from typing import Any

import pytest

from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import THRESHOLDS

BASE: dict[str, Any] = {"input": {"path": "a.conll"}, "targets": ["spa_Latn"]}


def _keys(*overrides: str) -> dict[str, Any]:
    return fingerprint(load_recipe(BASE, overrides), {"a.conll": "1-2"}, {}, {"align.encoder": "abc"})


@pytest.mark.parametrize(
    "override",
    [
        "align.workers=7",
        "match.cpus=0.5",
        "align.threads=2",
        "align.micro_batch_tokens=99",
        "output.max_reject_rate=0.5",
        "engine.unit_rows=7",
        "engine.address=auto",
        "targets=[spa_Latn, swh_Latn]",
        "tag.model=x",  # no tagger runs
        "back_translate.beams=4",
        "likelihood.dtype=float16",
        "translate.engine=nllb",  # what null means here
        "input.format=conll",  # the files' identity has it
    ],
)
def test_fingerprint_ignores_what_changes_no_row(override: str) -> None:
    assert _keys(override) == _keys()


@pytest.mark.parametrize(
    "override",
    [
        "align.method=argmax",
        "align.layer=3",
        "match.max_words=3",
        "match.solver=greedy",
        "input.labels.keep=[PER]",
        "input.limit=3",
        "translate.beams=4",
        "translate.health.length=reject",
        "output.incomplete=reject",
        "direction=test",
    ],
)
def test_fingerprint_has_what_changes_rows(override: str) -> None:
    overrides = (
        [override, "targets=[]", "tag.engine=spacy", "input.lang=swh_Latn"] if "test" in override else [override]
    )
    assert _keys(*overrides) != _keys()


def test_fingerprint_has_the_thresholds_of_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["target_tag={engine: hf, model: m}", "match.scores={soft: 1, tagger: 1}"]
    keys = _keys(*given)
    monkeypatch.setitem(THRESHOLDS, "tagger", 0.06)
    assert {key for key, value in _keys(*given).items() if keys[key] != value} == {"match.thresholds.tagger"}


TAGGED = ["direction=test", "targets=[]", "input.lang=swh_Latn", "target_tag.engine=none", "input.parallel={}"]


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ([], {"match version": 3}),  # target_tag decides scores alone
        (["match.solver=heuristic"], {}),
        ([*TAGGED, "tag.engine=builtin"], {"match version": 3, "tag version": 3}),
        ([*TAGGED, "tag={engine: hf, model: m}"], {"match version": 3, "tag version": 3}),
        ([*TAGGED, "tag.engine=spacy"], {"match version": 3}),
        (["projector=transfer", "target_tag.engine=builtin"], {"tag version": 3}),
        (["match.candidates=window+tagger"], {"match version": 3, "tagger candidates version": 3}),
        (["input.parallel={spa_Latn: b.txt}"], {"match version": 3, "given text version": 2}),
    ],
)
def test_fingerprint_has_the_versions_of_what_the_code_makes(overrides: list[str], found: dict[str, int]) -> None:
    keys = _keys(*overrides)
    assert {key: value for key, value in keys.items() if key.endswith(" version")} == found


def test_fingerprint_has_inputs_and_models() -> None:
    recipe = load_recipe(BASE)
    assert fingerprint(recipe, {"a": "1"}, {}, {}) != fingerprint(recipe, {"a": "2"}, {}, {})
    assert fingerprint(recipe, {}, {}, {"align.encoder": "1"}) != fingerprint(recipe, {}, {}, {"align.encoder": "2"})
    given = {"spa_Latn": {"b": "1"}}
    assert fingerprint(recipe, {}, given, {})["parallel spa_Latn b"] == "1"


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        (["translate.engine=apertium"], ["translate.beams=4", "translate.max_new_tokens=9", "translate.dtype=float16"]),
        (["back_translate.engine=apertium"], ["back_translate.beams=4"]),
        (["tag.engine=spacy"], ["tag.temperature=2", "tag.pooling=max"]),
        (["target_tag.engine=spacy"], ["target_tag.dtype=float16"]),
    ],
)
def test_fingerprint_ignores_keys_that_an_engine_does_not_read(given: list[str], idle: list[str]) -> None:
    assert _keys(*given) != _keys()
    assert _keys(*given, *idle) == _keys(*given)
    assert _keys("translate.engine=apertium", "engine.unit_rows=7") != _keys("translate.engine=apertium")
