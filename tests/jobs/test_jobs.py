"""Every recipe in jobs/ runs for real, in this process, on the test model where it needs a hub or a GPU.

Or the list says where its test is.
"""

import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
from apertium_texts import INSTALL
from rich.console import Console
from tiny_taggers import table_model

import xner_ray
from xner_ray.recipe.load import load_recipe
from xner_ray.run.counters import Report

JOBS = Path(__file__).parents[2] / "jobs"
RUN_HERE = {
    "quickstart.yaml",
    "quickstart_nllb.yaml",
    "nllb.yaml",
    "own_data.yaml",
    "spelling.yaml",
    "masakha_join.yaml",
    "masakha_transfer.yaml",
    "ntrex.yaml",
    "uner_transfer.yaml",
    "bambara.yaml",
    "constrained.yaml",  # in test_constrained_runs.py
    "photos.yaml",  # in test_photos.py
    "easyproject.yaml",
    "masakhaner2_nllb.yaml",  # in test_jobs_plan.py
    "xtreme_nllb.yaml",  # in test_jobs_plan.py
    "back_translation.yaml",
    "translate_test.yaml",
    "llm_teacher.yaml",  # in test_jobs_plan.py
    "sweep.yaml",  # in test_sweep.py
    "grid.yaml",  # its methods are those of sweep.yaml; its data sets run here
    "pud.yaml",
    "student.yaml",
    "students.yaml",
    "students_filters.yaml",
    "students_masakha.yaml",
    "students_translate.yaml",  # in test_translate_jobs.py, as the next two
    "translate_train.yaml",
    "translate_train_test.yaml",
    "loop_lug.yaml",  # in test_loop_rounds.py, as the next one
    "loop_nya.yaml",
    "nya.yaml",  # in test_jobs_plan.py
    "adapt_encoder.yaml",  # in test_adapt.py
    "adapt_tagger.yaml",
    "teacher.yaml",  # in test_teachers.py, as the next two
    "teachers.yaml",
    "teachers_run.yaml",
    "teachers_domains.yaml",  # loaded there; docs/teachers.md has its figures
}


def _adds_up(report: Report) -> None:
    for counters in (report, *report["languages"].values()):
        rows, entities = counters["rows"], counters["entities"]
        assert rows["read"] == rows["emitted"] + rows["rejected"]
        assert entities["source"] == entities["projected"] + sum(entities["unprojected"].values())
    for counters in report["stages"].values():  # a stage with a model has spent time in it, and not all of its time
        assert bool(counters["model_seconds"]) == bool(counters["tokens"])
        assert counters["model_seconds"] <= counters["seconds"]
    by_stages = sum(sum(counters["rejects"].values()) for counters in report["stages"].values())
    assert by_stages + report["rejects"].get("incomplete", 0) == report["rows"]["rejected"]  # by no stage, in writing


def _converted(name: str, data: Path, output: Path) -> dict[str, int]:
    """What jobs/<name>.py says of the input that it wrote."""
    spec = importlib.util.spec_from_file_location(name, JOBS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts: dict[str, int] = module.convert(data, output)
    return counts


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
    report = xner_ray.project(JOBS / "quickstart_nllb.yaml", tmp_path / "run", overrides=["input.limit=80"])
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
def test_a_score_of_ones_own_finds_names_that_links_miss(tmp_path: Path) -> None:
    """docs/evidence.md has these figures."""
    report = xner_ray.project(JOBS / "spelling.yaml", tmp_path / "run")
    _adds_up(report)
    assert report["stages"]["evidence"]["rows"] == 16
    xner_ray.rematch(
        tmp_path / "run", tmp_path / "links", overrides=["match.scores={soft: 1, edges: 0.2}", "match.min_score=0.6"]
    )
    xner_ray.rematch(tmp_path / "run", tmp_path / "all", overrides=["match.scores={soft: 1}", "match.min_score=0"])
    scores = {name: xner_ray.evaluate(tmp_path / name).languages[0].overall for name in ("run", "links", "all")}
    assert {name: (score.exact, score.predicted, score.gold) for name, score in scores.items()} == {
        "run": (50, 50, 50),
        "links": (47, 47, 50),
        "all": (49, 50, 50),
    }
    rows = xner_ray.sample(tmp_path / "run", "rus_Cyrl", 16)
    assert [row["photo"] for row in rows][:2] == ["market.jpg", "bus.jpg"]


@pytest.mark.slow
def test_production_recipe_on_the_test_model(tmp_path: Path) -> None:
    """The recipe as it stands, but for the models, the GPU, and the size of the input."""
    recipe = load_recipe(JOBS / "nllb.yaml")
    assert (recipe.translate.gpus, recipe.align.gpus) == (0.5, 0.5)
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
    report = xner_ray.project(JOBS / "translate_test.yaml", tmp_path / "run", overrides=["input.limit=100"])
    _adds_up(report)
    assert list(report["stages"]) == ["read", "translate", "tag", "target_tag", "align", "match", "refine"]
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
    report = xner_ray.project(recipe, tmp_path / "run", allow_rejects=True)
    _adds_up(report)
    assert report["rows"] == {"read": 3, "emitted": 2, "rejected": 1}
    assert report["rejects"] == {"left_out": 1}
    assert report["labels"]["kept"] == ["LOC", "ORG", "PER"]
    row = xner_ray.sample(tmp_path / "run", "spa_Latn", 1)[0]
    projected = {(" ".join(row["tokens"][s["start"] : s["end"]]), s["label"]) for s in row["spans"]}
    assert ("Nairobi", "LOC") in projected


@pytest.mark.long
def test_direction_test_on_human_english(tmp_path: Path, shared_data: Path) -> None:
    counts = _converted("masakha_join", shared_data / "masakha-join-dev", tmp_path)
    assert counts == {"lug_Latn": 703, "pcm_Latn": 751, "twi_Latn": 510}
    overrides = [f"input.path={tmp_path}/{{lang}}.conll", f"input.parallel.eng_Latn={tmp_path}/{{lang}}.eng_Latn.txt"]
    report = xner_ray.project(JOBS / "masakha_join.yaml", tmp_path / "run", overrides=overrides)
    _adds_up(report)
    assert report["labels"]["dropped"].keys() == {"DATE"}
    f1 = {result.lang: result.overall.f1 for result in xner_ray.evaluate(tmp_path / "run")}
    floors = {"lug_Latn": 0.77, "pcm_Latn": 0.69, "twi_Latn": 0.63}
    assert {lang: f1[lang] for lang in floors if f1[lang] < floors[lang]} == {}, f1

    # The baseline without projection, and both joined
    xner_ray.project(JOBS / "masakha_transfer.yaml", tmp_path / "transfer", overrides=overrides[:1])
    transfer = {result.lang: result.overall.f1 for result in xner_ray.evaluate(tmp_path / "transfer")}
    assert all(transfer[lang] < f1[lang] for lang in floors)
    assert transfer["lug_Latn"] >= 0.65
    report = xner_ray.combine([tmp_path / "run", tmp_path / "transfer"], tmp_path / "both", method="vote")
    assert report["rows"] == {"read": 1964, "emitted": 1964, "rejected": 0}
    both = {result.lang: result.overall for result in xner_ray.evaluate(tmp_path / "both")}
    assert all(both[lang].recall < f1[lang] for lang in floors)  # a vote of two keeps what both have


@pytest.mark.slow
def test_robustness_over_scripts_with_gold_and_without(tmp_path: Path, shared_data: Path) -> None:
    recipe = load_recipe(JOBS / "ntrex.yaml")
    ntrex, few = shared_data / "ntrex-128", ("amh_Ethi", "jpn_Jpan")
    paths = {lang: f"{ntrex}/{Path(str(path)).name}" for lang, path in recipe.input.parallel.items() if lang in few}
    given = [f"input.path={ntrex}/eng.txt", f"input.parallel={json.dumps(paths)}", f"targets={json.dumps(few)}"]
    _adds_up(xner_ray.project(JOBS / "ntrex.yaml", tmp_path / "ntrex", overrides=[*given, "input.limit=20"]).report)
    corpora = {"slk_Latn": "Slovak-SNK/sk_snk", "zho_Hans": "Chinese-GSDSIMP/zh_gsdsimp"}
    for lang, name in corpora.items():
        shutil.copy(shared_data / f"uner/UNER_{name}-ud-test.iob2", tmp_path / f"{lang}.iob2")
    given = [f"input.path={tmp_path}/{{lang}}.iob2", f"input.lang={json.dumps([*corpora])}", "input.limit=30"]
    xner_ray.project(JOBS / "uner_transfer.yaml", tmp_path / "uner", overrides=given)
    found = xner_ray.robustness([tmp_path / "ntrex", tmp_path / "uner"], samples=20)
    assert {one.lang: one.with_gold for one in found.languages} == {
        **dict.fromkeys(few, 0),
        "slk_Latn": 30,
        "zho_Hans": 30,
    }
    scripts = {one.name: set(one.figures) for one in found.groups if one.dimension == "script"}
    assert {name for name, figures in scripts.items() if "f1" in figures} == {"Latn", "Hans"}
    assert {name for name, figures in scripts.items() if "missing" in figures} == {"Ethi", "Jpan"}


@pytest.mark.slow
def test_a_chain_of_given_links_and_entities(tmp_path: Path, shared_data: Path) -> None:
    counts = _converted("bambara", shared_data / "bambara-chain", tmp_path)
    assert counts == {"sentences": 600, "links": 13923, "links left out": 0}
    overrides = [
        f"input.path={tmp_path}/{{lang}}.conll",
        f"input.parallel.eng_Latn={tmp_path}/{{lang}}.eng_Latn.conll",
        f"input.links={tmp_path}/{{lang}}.links",
    ]
    report = xner_ray.project(JOBS / "bambara.yaml", tmp_path / "run", overrides=overrides)
    _adds_up(report)
    assert report["rows"] == {"read": 600, "emitted": 600, "rejected": 0}
    assert list(report["stages"]) == ["read", "match", "refine"]
    (result,) = xner_ray.evaluate(tmp_path / "run")
    assert result.overall.gold == 548
    assert result.overall.f1 >= 0.6076
    xner_ray.rematch(tmp_path / "run", tmp_path / "again", overrides=["match.solver=heuristic"])
    (again,) = xner_ray.evaluate(tmp_path / "again")
    assert again.overall.f1 >= 0.63


def test_links_of_no_word_are_left_out_and_counted(tmp_path: Path) -> None:
    for name, text in (("test-bam.txt", "a O\nb O\n"), ("test-translate-bam-en-preds.txt", "x O\ny O\nz O\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "bam-en-alignments.txt").write_text("0\t0-0 1-2 2-0 0-3\n")
    counts = _converted("bambara", tmp_path, tmp_path / "out")
    assert counts == {"sentences": 1, "links": 2, "links left out": 2}
    assert (tmp_path / "out/bam_Latn.links").read_text() == "0-0 2-1\n"  # English word-Bambara word


@pytest.mark.slow
def test_a_tagger_and_a_likelihood_on_the_target_side(tmp_path: Path) -> None:
    """No recipe of jobs/ has these: their models need a hub. Tiny ones stand in, so quality is not asked."""
    tagger = table_model(tmp_path / "tagger", ["O", "B-PER", "I-PER"], {"<unk>": {"B-PER": 0.9}})  # capitals
    overrides = [
        "input.limit=40",
        f"target_tag={{engine: hf, model: {tagger}}}",
        "likelihood={engine: nllb, model: tiny-nllb}",
        "match.candidates=window+tagger",
        "match.scores={soft: 1, tagger_spans: 0.2, likelihood: 0.2}",
        "match.prior=none",
    ]
    run = tmp_path / "run"
    report = xner_ray.project(JOBS / "translate_test.yaml", run, overrides=overrides)
    _adds_up(report)
    assert list(report["stages"]) == [
        "read",
        "translate",
        "tag",
        "target_tag",
        "align",
        "likelihood",
        "match",
    ]
    assert all(report["stages"][name]["tokens"] > 0 for name in ("target_tag", "likelihood"))
    rows = xner_ray.sample(run, "swh_Latn", 40)
    assert len(rows) > 30
    for row in rows:
        assert {cell["tag"] for cell in row["target_tags"]} <= {"O", "B-PER"}
        assert {cell["score"] for cell in row["evidence"]} == {"likelihood"}
    card = (run / "README.md").read_text()
    assert "target words tagged" in card
    assert "likelihood" in card
    again = xner_ray.rematch(
        run, tmp_path / "again", overrides=["match.scores={soft: 1, tagger_spans: 1}", "match.prior=auto"]
    )
    _adds_up(again)


@pytest.mark.slow
def test_what_a_translator_does_to_markers_is_counted_and_no_row_is_lost(tmp_path: Path) -> None:
    """tiny-nllb has never seen a bracket: it drops them all, and every entity says so."""
    overrides = ["input.limit=10", "back_translate={engine: nllb, model: tiny-nllb}"]
    report = xner_ray.project(JOBS / "translate_test.yaml", tmp_path / "run", overrides=overrides)
    _adds_up(report)
    assert list(report["stages"]) == [
        "read",
        "translate",
        "tag",
        "back_translate",
        "target_tag",
        "align",
        "match",
        "refine",
    ]
    assert report["rows"] == {"read": 10, "emitted": 10, "rejected": 0}
    assert report["entities"]["unprojected"] == {"marker_lost": report["entities"]["source"]}
    console = Console(width=150, file=io.StringIO())
    console.print(xner_ray.explain(tmp_path / "run", "tmpl-0001"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "bridge" in shown
    assert "marker_lost, not projected" in shown


def _needs_apertium() -> None:
    if shutil.which("apertium") is None:
        pytest.skip(f"needs apertium: {INSTALL}")


@pytest.mark.slow
def test_easyproject_and_the_alignment_route_agree_on_the_same_translation(tmp_path: Path) -> None:
    _needs_apertium()
    report = xner_ray.project(JOBS / "easyproject.yaml", tmp_path / "marked", overrides=["input.limit=250"])
    _adds_up(report)
    assert report["rows"] == {"read": 250, "emitted": 250, "rejected": 0}
    assert report["entities"]["projected"] >= 0.99 * report["entities"]["source"]
    (path,) = xner_ray.export(tmp_path / "marked")
    overrides = [f"input.parallel={{spa_Latn: {path}}}", "input.limit=250"]
    xner_ray.project(JOBS / "quickstart.yaml", tmp_path / "aligned", overrides=overrides)
    (result,) = xner_ray.evaluate(tmp_path / "aligned")
    assert result.overall.f1 >= 0.96  # of all 799 sentences 0.98: the prior has too few names that begin small


@pytest.mark.slow
def test_back_translation_on_real_text(tmp_path: Path) -> None:
    _needs_apertium()
    report = xner_ray.project(JOBS / "back_translation.yaml", tmp_path / "run", overrides=["input.limit=300"])
    _adds_up(report)
    assert list(report["stages"]) == ["read", "back_translate", "target_tag", "align", "match", "refine"]
    (result,) = xner_ray.evaluate(tmp_path / "run")
    assert result.overall.f1 >= 0.92


@pytest.mark.long
def test_pud_teaches_a_student(tmp_path: Path) -> None:
    """pud.yaml on a tenth of its sentences; student.yaml and students.yaml then learn from that, for two epochs."""
    from xner_ray.commands.train import train
    from xner_ray.commands.validation.recipe import load_experiment
    from xner_ray.train.load import load_training

    run = tmp_path / "run"
    report = xner_ray.project(JOBS / "pud.yaml", run, overrides=["input.limit=100"])
    _adds_up(report)
    assert report["rows"]["emitted"] == 200
    assert [each.overall.f1 > 0.7 for each in xner_ray.evaluate(run)] == [True, True]
    recipe = load_training(JOBS / "student.yaml").model_dump(mode="json", exclude_unset=True)
    for source in (*recipe["data"], *recipe["evaluate"]):
        source["run"] = str(run)
    few = ["fit.epochs=2", "model.layers=8"]
    found = train(recipe, tmp_path / "student", overrides=few)
    assert found["sentences"]["data"][0]["read"] == 100
    assert found["sentences"]["data"][1]["read"] == 200
    assert [one["overall"]["f1"] > 0.3 for one in found["evaluation"]["languages"]] == [True, True]
    for name in ("students", "students_filters", "students_masakha", "teachers", "teachers_domains"):
        assert len(load_experiment(JOBS / f"{name}.yaml").students) >= 4
