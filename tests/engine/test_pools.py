from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import vllm_stub
from tiny_chat import chat_model

from xner_ray.engine.pools import READ_CPUS, Capacity, bundles, group, needs, readers, shrink
from xner_ray.engine.resolve import check_tags, model_lines, notices, resolve
from xner_ray.errors import MissingExtraError, RecipeError
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe, run_labels
from xner_ray.recipe.sections import Directions, Resolved, Section
from xner_ray.translate import apertium

ROOT = Path(__file__).parents[2]
LAPTOP = Capacity(cpus=2, gpus=0, local=True, memory_gb=16, node=(2, 0, 16))
GPU_MACHINE = Capacity(cpus=8, gpus=1, local=True)
CLUSTER = Capacity(cpus=64, gpus=8, local=False)


def _recipe(**sections: Any) -> Recipe:
    return load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"], "tag": {"engine": "spacy"}, **sections})


def test_a_laptop_has_one_pool_that_leaves_room_to_read() -> None:
    groups = group(_recipe(), LAPTOP, 100)
    assert [g.stages for g in groups] == [("translate", "tag", "align", "match")]
    assert groups[0].workers == (2, 2)
    assert sum(g.workers[1] * g.cpus for g in groups) + READ_CPUS <= LAPTOP.cpus


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("gpus", [0, 1])
def test_default_pools_always_fit(cpus: int, gpus: int) -> None:
    sections = {s: {"gpus": 1} for s in ("translate", "tag", "align")} if gpus else {"match": {"threads": 2}}
    for n_units in (1, 3, 1000):
        groups = group(_recipe(**sections), Capacity(cpus, gpus, local=True), n_units)
        assert sum(g.workers[1] * g.cpus for g in groups) + READ_CPUS <= cpus
        assert all(g.workers[1] <= max(1, n_units) for g in groups)


def test_one_gpu_serves_three_stages_in_one_actor() -> None:
    groups = group(
        _recipe(translate={"gpus": 1}, tag={"engine": "spacy", "gpus": 1}, align={"gpus": 1}), GPU_MACHINE, 100
    )
    assert [(g.stages, g.gpus) for g in groups] == [(("translate", "tag", "align"), 1.0), (("match",), 0.0)]
    assert groups[0].workers == (1, 1)


def test_a_cluster_scales_from_one() -> None:
    groups = group(_recipe(translate={"gpus": 1}, tag={"engine": "spacy", "gpus": 1}, align={"gpus": 1}), CLUSTER, 1000)
    assert groups[0].workers == (1, 8)


def test_fractional_gpus_make_more_workers() -> None:
    sections = {s: {"gpus": 0.25} for s in ("translate", "align")} | {"tag": {"engine": "spacy", "gpus": 0.25}}
    assert group(_recipe(**sections), GPU_MACHINE, 1000)[0].workers == (4, 4)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"align": {"gpus": 1}}, "need at least 1 GPUs (align: 1 x 1), but this machine has 0; set gpus: 0"),
        ({"align": {"workers": 3}}, "need at least 4.80 CPUs"),
        ({"align": {"cpus": 4}}, "align.cpus is 4 for one worker, but the largest node of the cluster has 2"),
        ({"align": {"cpus": 1.5}}, "but this machine has 2; lower workers or cpus of a stage"),
        (
            {"align": {"memory_gb": 100}},
            "memory_gb: the recipe's stages need at least 100 GB, but this machine has 16.0",
        ),
    ],
)
def test_what_the_cluster_can_never_give_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        group(_recipe(**sections), LAPTOP, 10)
    assert message in str(error.value)


def test_two_pools_that_each_want_the_only_gpu_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"at least 2 GPUs.*share an actor"):
        group(_recipe(translate={"gpus": 1}, align={"gpus": 1}), GPU_MACHINE, 10)


def test_an_autoscaler_is_asked_instead_of_refusing() -> None:
    """Head without CPUs, nothing started yet: nothing is refused here, and minima are what the autoscaler is asked."""
    empty = Capacity(0, 0, local=False, memory_gb=2, node=(0, 0, 2), autoscaled=True)
    gpu = {"gpus": 1, "workers": (2, 4), "memory_gb": 3}
    recipe = _recipe(translate=gpu, tag={"engine": "spacy", **gpu}, align=gpu, match={"workers": 1})
    groups = group(recipe, empty, 100)
    assert [(g.stages, g.workers) for g in groups] == [(("translate", "tag", "align"), (2, 4)), (("match",), (1, 1))]
    gpu_bundle = {"CPU": 0.95, "GPU": 1.0, "memory": 3e9}
    assert bundles(groups) == [gpu_bundle, gpu_bundle, {"CPU": 0.95}, {"CPU": READ_CPUS}]
    assert needs(groups) == "2.85 CPUs, 2 GPUs, 6 GB of memory (translate+tag+align: 2 workers, match: 1 workers)"
    assert not empty.holds(groups)
    unstated = group(_recipe(translate={"gpus": 1}), empty, 300)
    assert [(g.workers, g.cpus) for g in unstated] == [((1, 300), 0.95)] * 2, "they grow as far as the cluster does"
    assert Capacity(3, 2, local=False, memory_gb=8, node=(2, 1, 4), autoscaled=True).holds(groups)
    assert not Capacity(3, 2, local=False, memory_gb=8, node=(2, 1, 2), autoscaled=True).holds(groups), "one by one"
    assert not Capacity(3, 1, local=False, memory_gb=8, node=(2, 1, 4), autoscaled=True).holds(groups)


def test_shrink_never_leaves_an_idle_worker() -> None:
    groups = group(_recipe(), Capacity(16, 0, local=True), 100)
    assert shrink(groups, 3)[0].workers == (3, 3)


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
    assert set(identities) == {"translate.model", "tag.model", "align.encoder"}
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
    with pytest.raises(MissingExtraError, match="xner_ray\\[ctranslate2\\]"):
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
    """A model's folder; vllm is the stand-in of vllm_stub.py."""
    vllm_stub.install(monkeypatch, tmp_path / "site", lambda ids, params: ("", "stop"))
    return chat_model(tmp_path / "chat")


def _chats(model: str, **options: Any) -> Recipe:
    tag = {"engine": "llm", "model": model, "gpus": 1, "labels": {"PER": None, "LOC": "a place"}}
    return _recipe(translate={"engine": "llm", "model": model, "gpus": 1, **options}, tag=tag)


def test_language_models_are_pinned_with_the_version_of_vllm_and_the_prompt(chat: str) -> None:
    recipe, identities = resolve(_chats(chat))
    assert set(identities) == {"translate.model", "translate.engine", "tag.model", "tag.engine", "align.encoder"}
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
    with pytest.raises(RecipeError, match=r"translate\.gpus is 0, but engine llm needs a GPU; set translate\.gpus: 1"):
        resolve(_chats(chat, gpus=0))
    with pytest.raises(RecipeError, match="need at least 1 GPUs"):
        group(_chats(chat), LAPTOP, 1)
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


@pytest.mark.parametrize(("workers", "most"), [(1, 2), (2, 2), (5, 3), ((1, 64), 32), ((1, 640), 64)])
def test_reads_are_bounded_by_the_first_pool(workers: int | tuple[int, int], most: int) -> None:
    recipe = _recipe(translate={"workers": workers}, match={"workers": 100})
    assert readers(group(recipe, Capacity(cpus=1000, gpus=0, local=False), 10_000)) == most
