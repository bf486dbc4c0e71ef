"""Recipes in jobs/ whose models need a hub or a GPU, and whose data is not here: checked and planned, not run."""

import importlib.util
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from tiny_taggers import table_model

import xner_ray
from xner_ray.data.languages import LANGUAGES
from xner_ray.engine.pools import Capacity, group
from xner_ray.errors import MissingExtraError, RecipeError
from xner_ray.recipe.columns import Columns
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_language_model_as_teacher_is_checked_and_refused_where_vllm_is_missing() -> None:
    """Loaded, validated and sized, as its comment advises too, but not run: its models need a GPU and a hub."""
    recipe = load_recipe(JOBS / "llm_teacher.yaml")
    assert [name for name in recipe.stages if recipe.engine_of(name) == "llm"] == ["tag"]
    assert sorted(recipe.tag.labels) == ["LOC", "ORG", "PER"]
    (pool, _) = group(recipe, Capacity(cpus=8, gpus=1, local=True), 4)
    assert (pool.stages, pool.gpus) == (("translate", "tag", "target_tag", "align"), 1.0)
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(MissingExtraError) as error:
            xner_ray.plan(JOBS / "llm_teacher.yaml")
        assert str(error.value) == "tag.engine llm needs the package 'vllm': pip install vllm==0.29.0"
    with_shares, on_cpus = _advice(JOBS / "llm_teacher.yaml")
    both = load_recipe(JOBS / "llm_teacher.yaml", with_shares)
    assert [name for name in both.stages if both.engine_of(name) == "llm"] == ["translate", "tag"]
    assert both.translate.model == both.tag.model
    (pool, _) = group(both, Capacity(cpus=8, gpus=1, local=True), 4)
    assert (pool.stages, pool.gpus) == (("translate", "tag", "target_tag", "align"), 1.0)
    with pytest.raises(RecipeError, match=r"translate\.llm\.gpu_memory_share: vLLM would take 1\.45 of the memory"):
        group(load_recipe(JOBS / "llm_teacher.yaml", with_shares[:2]), Capacity(cpus=8, gpus=1, local=True), 4)
    on_cpu = load_recipe(JOBS / "llm_teacher.yaml", on_cpus)
    assert (on_cpu.tag.gpus, on_cpu.tag.llm.gpu_memory_share) == (0, None)
    assert group(on_cpu, Capacity(cpus=8, gpus=0, local=True), 4)


def _advice(recipe: Path) -> tuple[list[str], list[str]]:
    """Return the settings that the comment of a recipe advises: for one model in two stages, and for CPUs."""
    comment = " ".join(line for line in recipe.read_text().splitlines() if line.startswith("#"))
    both, on_cpus = (re.findall(r"--set (\S+)", part) for part in comment.split("Where vLLM is its build for CPUs"))
    return both, on_cpus


def _filled(recipe: Recipe, folder: Path) -> list[str]:
    """Return settings that put made sentences in the place of input that is not here."""
    given = recipe.input
    paths = [given.path] if isinstance(given.path, str) else list(given.path.values())
    if all(Path(path).exists() for path in paths):
        return []
    langs = recipe.languages
    text = {"out": folder / "{lang}.txt", "links": folder / "{lang}.links"}
    for lang in {*langs, recipe.source_side}:
        (folder / f"{lang}.conll").write_text("Anna B-PER\nx O\n\ny O\n\n")
        (folder / f"{lang}.parallel.conll").write_text("Anna B-PER\nx O\n\ny O\n\n")
        (folder / f"{lang}.links").write_text("0-0 1-1\n0-0\n")
        pq.write_table(pa.table({"tokens": [["Anna"]], "ner_tags": [["B-PER"]]}), folder / f"{lang}.parquet")
    ending = "parquet" if given.format == "parquet" else "conll"
    settings = [f"input.path={folder}/{{lang}}.{ending}"]
    settings += [f"input.parallel.{lang}={folder}/{{lang}}.parallel.conll" for lang in given.parallel]
    settings += ["input.columns={}"] if given.columns != Columns() else []  # the files above have others
    return settings + ([f"input.links={text['links']}"] if given.links else [])


RECIPES = [path.stem for path in sorted(JOBS.glob("*.yaml")) if "input" in yaml.safe_load(path.read_text("utf-8"))]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_planned_for_machines_that_are_not_here(name: str, tmp_path: Path) -> None:
    """As somebody sizes a cluster from a laptop: without the models, without a hub, without vLLM."""
    recipe = load_recipe(JOBS / f"{name}.yaml")
    overrides = _filled(recipe, tmp_path)
    if recipe.projector == "constrained":  # its model is made first, by a script
        overrides.append("constrained.model=tiny-nllb")
    if name == "teachers_run":  # and this one's tagger by a training
        overrides.append("tag={engine: builtin}")
    assume = "gpus=8,cpus=64,memory_gb=512,gpu=A100,gpu_hour=2.5,rows=3000000"
    console = Console(width=200, file=io.StringIO())
    console.print(xner_ray.plan(JOBS / f"{name}.yaml", overrides=overrides, assume=assume, offline=True))
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Pools (what is assumed has 64 CPUs, 8 GPUs)" in said and "models were not looked at (--offline)" in said
    recipe = load_recipe(JOBS / f"{name}.yaml", overrides)
    n_rows = 3_000_000 * len(recipe.languages)
    assert f"{n_rows:,} rows at " in said or "no estimate: " in said
    for stage in recipe.stages:
        assert f" {stage} " in said
    if any(recipe.engine_of(stage) == "llm" for stage in recipe.stages):
        lacks = "tag.engine llm needs the package 'vllm'" in said
        assert lacks == (importlib.util.find_spec("vllm") is None)


def test_there_are_recipes() -> None:
    assert {"quickstart", "nllb", "llm_teacher", "masakhaner2_nllb"} <= set(RECIPES) and len(RECIPES) > 12


def _nllb_of_all_languages(folder: Path) -> Path:
    """A random model of NLLB's architecture whose tokenizer has the code of every language that NLLB knows."""
    from tokenizers import Tokenizer, models
    from transformers import M2M100Config, M2M100ForConditionalGeneration, PreTrainedTokenizerFast

    codes = [code for code, language in LANGUAGES.items() if language.nllb]
    words = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=codes, **names)
    fast.save_pretrained(folder)
    size = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": len(fast)}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    M2M100ForConditionalGeneration(M2M100Config(**size, **heads)).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "languages"), [("masakhaner2_nllb", 18), ("xtreme_nllb", 39)])
def test_recipes_of_the_paper_pass_plan(name: str, languages: int, tmp_path: Path) -> None:
    """On made-up sentences, with random models of every language and label: neither data nor hub is here."""
    recipe = load_recipe(JOBS / f"{name}.yaml")
    assert len(recipe.languages) == languages
    for lang in recipe.languages:
        folder = tmp_path / lang
        folder.mkdir()
        (folder / "test.txt").write_text("Anna B-PER\nx O\n\ny B-DATE\n")
        rows = {"tokens": [["Anna", "x"], ["y"]], "ner_tags": [["B-PER", "O"], ["B-DATE"]]}
        pq.write_table(pa.table(rows), folder / "test.parquet")
    tagger = table_model(tmp_path / "tagger", ["O", "B-MISC", "I-MISC", "I-ORG", "I-PER", "I-LOC", "B-LOC"], {})
    overrides = [
        f"input.path={tmp_path}/{{lang}}/test.{'txt' if recipe.input.format == 'conll' else 'parquet'}",
        f"translate.model={_nllb_of_all_languages(tmp_path / 'nllb')}",
        f"tag.model={tagger}",
        "align.encoder=builtin",
        "align.layer=auto",
        *(f"{section}.gpus=0" for section in ("translate", "tag", "align")),
    ]
    console = Console(width=200, file=io.StringIO())
    console.print(xner_ray.plan(JOBS / f"{name}.yaml", overrides=overrides))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(lang in said for lang in recipe.languages)
    assert "translate + tag + target_tag + align + match" in said
    assert "labels: PER, LOC, ORG; dropped: DATE" in said
    assert "CC BY-NC 4.0" in said
