"""Every recipe in jobs/ runs for real. What needs a hub or a GPU runs on the test model instead, and says so."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import xner_ray
from xner_ray.recipe import load_recipe

JOBS = Path(__file__).parent.parent / "jobs"
RUN_HERE = {
    "quickstart.yaml",
    "quickstart_nllb.yaml",
    "nllb.yaml",
    "own_data.yaml",
    "masakha_join.yaml",
    "translate_test.yaml",
}

pytestmark = pytest.mark.usefixtures("ray_here")


def _adds_up(report: dict[str, Any]) -> None:
    for counters in (report, *report["languages"].values()):
        rows, entities = counters["rows"], counters["entities"]
        assert rows["read"] == rows["emitted"] + rows["rejected"]
        assert entities["source"] == entities["projected"] + sum(entities["unprojected"].values())


def test_every_recipe_has_a_test() -> None:
    assert {path.name for path in JOBS.glob("*.yaml")} == RUN_HERE


@pytest.mark.slow
def test_quickstart_reaches_the_wanted_f1(tmp_path: Path) -> None:
    report = xner_ray.project(JOBS / "quickstart.yaml", tmp_path / "run")
    _adds_up(report)
    assert report["rows"] == {"read": 799, "emitted": 799, "rejected": 0}
    assert report["entities"]["source"] == 702
    (result,) = xner_ray.evaluate(tmp_path / "run")
    assert result.overall.gold == 697
    assert result.overall.f1 >= 0.93


@pytest.mark.slow
def test_quickstart_with_the_tiny_model(tmp_path: Path) -> None:
    report = xner_ray.project(JOBS / "quickstart_nllb.yaml", tmp_path / "run")
    _adds_up(report)
    assert set(report["languages"]) == {"swh_Latn", "spa_Latn"}
    assert report["rows"]["rejected"] == 0
    assert report["entities"]["projected"] / report["entities"]["source"] >= 0.95


@pytest.mark.slow
def test_own_data_maps_labels_and_carries_columns(tmp_path: Path) -> None:
    report = xner_ray.project(JOBS / "own_data.yaml", tmp_path / "run")
    _adds_up(report)
    assert report["labels"] == {"kept": ["PER", "LOC", "ORG"], "dropped": {"note": 1}}
    assert report["entities"]["unprojected"]["nested"] == 1
    row = xner_ray.sample(tmp_path / "run", "swh_Latn", 1)[0]
    assert (row["id"], row["extra"]) == ("news-1", '{"source": "invented"}')


@pytest.mark.slow
def test_production_recipe_on_the_test_model(tmp_path: Path) -> None:
    """The recipe as it stands, but for the models, the GPU, and the size of the input."""
    recipe = load_recipe(JOBS / "nllb.yaml")
    assert (recipe.translate.gpus, recipe.align.gpus) == (1, 1)
    overrides = [
        "translate.model=tiny-nllb",
        "translate.gpus=0",
        "align.gpus=0",
        "align.encoder=builtin",
        "align.layer=auto",
        "targets=[swh_Latn]",
        "input.limit=20",
        "output.max_reject_rate=1",
    ]
    report = xner_ray.project(JOBS / "nllb.yaml", tmp_path / "run", overrides=overrides)
    _adds_up(report)
    assert report["rows"]["read"] == 20
    assert report["labels"]["dropped"] == {"MISC": 2}


@pytest.mark.slow
def test_translate_test_with_the_tiny_model(tmp_path: Path) -> None:
    report = xner_ray.project(JOBS / "translate_test.yaml", tmp_path / "run")
    _adds_up(report)
    assert list(report["stages"]) == ["read", "translate", "tag", "align", "match", "refine"]
    (result,) = xner_ray.evaluate(tmp_path / "run")
    assert result.lang == "swh_Latn"
    assert result.overall.f1 >= 0.5
    row = xner_ray.sample(tmp_path / "run", "swh_Latn", 1)[0]
    assert row["source_lang"] == "eng_Latn"
    assert row["translation_score"] is not None


@pytest.mark.slow
def test_raw_text_is_tagged_translated_and_projected(tmp_path: Path) -> None:
    """Direction train from unlabelled text: the tagger supplies the entities."""
    (tmp_path / "raw.txt").write_text("Amina Otieno travelled to Nairobi on Monday.\n\nNobody came.\n")
    recipe = {
        "input": {"path": str(tmp_path / "raw.txt")},
        "targets": ["spa_Latn"],
        "translate": {"model": "tiny-nllb"},
        "tag": {"engine": "spacy"},
    }
    report = xner_ray.project(recipe, tmp_path / "run")
    _adds_up(report)
    assert report["rows"] == {"read": 3, "emitted": 2, "rejected": 1}
    assert report["rejects"] == {"empty": 1}
    assert report["labels"]["kept"] == ["LOC", "ORG", "PER"]
    row = xner_ray.sample(tmp_path / "run", "spa_Latn", 1)[0]
    projected = {(" ".join(row["tokens"][s["start"] : s["end"]]), s["label"]) for s in row["spans"]}
    assert ("Nairobi", "LOC") in projected


@pytest.mark.slow
def test_direction_test_on_human_english(tmp_path: Path, shared_data: Path) -> None:
    spec = importlib.util.spec_from_file_location("masakha_join", JOBS / "masakha_join.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = module.convert(shared_data / "masakha-join-dev", tmp_path)
    assert counts == {"lug_Latn": 703, "pcm_Latn": 751, "twi_Latn": 510}
    overrides = [f"input.path={tmp_path}/{{lang}}.conll", f"input.parallel.eng_Latn={tmp_path}/{{lang}}.eng_Latn.txt"]
    report = xner_ray.project(JOBS / "masakha_join.yaml", tmp_path / "run", overrides=overrides)
    _adds_up(report)
    assert report["labels"]["dropped"].keys() == {"DATE"}
    f1 = {result.lang: result.overall.f1 for result in xner_ray.evaluate(tmp_path / "run")}
    floors = {"lug_Latn": 0.56, "pcm_Latn": 0.55, "twi_Latn": 0.51}
    assert {lang: f1[lang] for lang in floors if f1[lang] < floors[lang]} == {}, f1
