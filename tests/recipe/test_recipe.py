from pathlib import Path
from typing import Any

import pytest

from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError
from xner_ray.recipe.input import Labels
from xner_ray.recipe.load import load_recipe

BASE: dict[str, Any] = {"input": {"path": "a.conll"}, "targets": ["spa_Latn"]}


def _with(**sections: Any) -> dict[str, Any]:
    return {**BASE, **sections}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"targets": ["spa_Latn"]}, "input is missing"),
        ({"input": {}, "targets": ["spa_Latn"]}, "input.path is missing"),
        (_with(algn={}), "unknown key 'algn' (value {}); did you mean 'align'?"),
        (_with(align={"methd": "x"}), "unknown key 'align.methd' (value 'x'); did you mean 'method'?"),
        (
            _with(input={"path": "a", "columns": {"tkens": "x"}}),
            "'input.columns.tkens' (value 'x'); did you mean 'tokens'?",
        ),
        (_with(align={"method": "x"}), "align.method is 'x': input should be 'argmax',"),
        (_with(align={"layer": "x"}), "align.layer is 'x'"),
        (_with(input={"path": 3}), "input.path is 3"),
        (_with(targets=["swa_Latn"]), "targets.0 is 'swa_Latn'"),
        (_with(targets=[]), "targets: direction train needs at least one language code"),
        (_with(targets=["eng_Latn"]), "targets: eng_Latn is the language of the input itself"),
        (_with(targets=["spa_Latn", "spa_Latn"]), "targets: spa_Latn is listed twice"),
        (_with(align={"workers": 0}), "align.workers is 0: allowed: a whole number from 1, or [min, max]"),
        (_with(align={"workers": [3, 1]}), "align.workers is [3, 1]"),
        (_with(match={"scores": {"align": float("inf")}}), "match.scores.align is inf"),
        (_with(align={"temperature": 1e9}), "align.temperature is 1000000000.0"),
        (
            _with(input={"path": "a", "labels": {"keep": ["A", "A"]}}),
            "input.labels: keep: ['A', 'A'] names a label twice",
        ),
        (_with(input={"path": {"train": "a", "test": "a"}}), "input: path: two splits name the same files"),
        (_with(input={"path": "a", "labels": {"rename": {"A": " B"}}}), "input.labels: ' B' is no label"),
        (_with(align={"micro_batch_tokens": 1}), "align.micro_batch_tokens is 1"),
        (_with(input={"path": "a", "limit": 1, "sample": {"rows": 1}}), "limit and sample exclude each other"),
        (_with(translate={"engine": "provided"}), "input.parallel has no text for spa_Latn"),
        (_with(input={"path": "a", "parallel": {"fra_Latn": "b"}}), "fra_Latn is not among targets"),
        (_with(direction="test"), "leave targets out"),
        (
            {"direction": "test", "input": {"path": "a", "lang": "swh_Latn"}},
            "tag.engine: direction test needs one",
        ),
        (_with(tag={"engine": "spacy"}, input={"path": "a", "lang": "swh_Latn"}), "tag.engine: spacy reads eng_Latn"),
        (_with(tag={"engine": "hf"}), "tag: model: engine hf needs a token classifier"),
        (_with(tag={"engine": "spacy", "labels": {"A": "B"}}), "tag: labels: engine spacy has a map of its own"),
        (
            _with(match={"candidates": "window+ngrams"}),
            "match.candidates is 'window+ngrams': allowed: window, ngram",
        ),
        (
            {
                "direction": "test",
                "input": {"path": "a", "lang": "swh_Latn"},
                "tag": {"engine": "spacy"},
                "projector": "marker",
            },
            "projector: marker makes its own target text",
        ),
        (_with(projector="marker", input={"path": "a", "parallel": {"spa_Latn": "b"}}), "leave input.parallel out"),
        (_with(projector="marker", back_translate={"engine": "nllb"}), "back_translate.engine: only projector match"),
        (_with(projector="constrained", evidence={"plugin": "a.py"}), "evidence.plugin: only projector match uses it"),
        (_with(projector="constrained", target_tag={"engine": "spacy"}), "target_tag.engine: only projector match"),
        (_with(projector="constrained", match={"solver": "heuristic"}), "match.solver: heuristic reads links"),
        (_with(constrained={"min_ratio": -1}), "constrained.min_ratio is -1"),
        (_with(constrained={"engine": "llm"}), "constrained.engine is 'llm'"),
        (_with(projector="transfer"), "projector: transfer needs target_tag.engine; allowed: builtin, hf, spacy"),
        (
            _with(projector="transfer", target_tag={"engine": "spacy"}, likelihood={"engine": "nllb"}),
            "likelihood.engine: only",
        ),
        (_with(translate={"dtype": "int8"}), "translate: dtype: int8 needs engine: ctranslate2"),
        (
            _with(translate={"health": {"repeats": "drop"}}),
            "translate.health.repeats is 'drop': input should be 'off'",
        ),
        (
            _with(match={"candidates": "tagger"}, target_tag={"engine": "none"}),
            "match.candidates needs target_tag.engine; allowed",
        ),
        (
            _with(match={"scores": {"tagger": 1}}, target_tag={"engine": "none"}),
            "match.scores or match.filters: tagger needs target_tag.engine",
        ),
        (
            _with(match={"filters": {"tagger_spans": 0.2}}, target_tag={"engine": "none"}),
            "match.filters: tagger_spans needs target_tag.engine",
        ),
        (_with(match={"filters": {"edges": 0.2}}), "match: filters: edges exists only with a prior"),
        (_with(match={"thresholds": {"align": 0.2}}), "match: thresholds: align is not among scores (soft, edges)"),
        (_with(match={"scores": {"likelihood": 1}}), "match.scores: likelihood needs likelihood.engine, which is none"),
        (
            _with(match={"scores": {"likelihood": 1}}, likelihood={"engine": "nllb"}),
            "match.prior: likelihood is computed for the cells of one matching; set match.prior: none",
        ),
        (
            {"direction": "test", "tag": {"engine": "spacy"}, "input": {"path": "a", "lang": ["swh_Latn", "zul_Latn"]}},
            "'a' needs {lang}",
        ),
        (
            _with(tag={"engine": "provided"}),
            "tag.engine: provided is for direction test; in direction train the labels",
        ),
        (
            {"direction": "test", "tag": {"engine": "provided"}, "input": {"path": "a", "lang": "swh_Latn"}},
            "tag.engine: provided, but input.parallel has no text for eng_Latn; its labels are the entities",
        ),
        (_with(tag={"engine": "provided", "labels": {"A": "B"}}), "tag: labels: engine provided has no tagger"),
        (
            _with(target_tag={"model": "dslim/bert-base-NER"}),
            "target_tag: model: engine auto has its own; leave 'dslim/bert-base-NER' out, or take engine: hf",
        ),
        (
            _with(target_tag={"engine": "provided"}),
            "target_tag.engine is 'provided': input should be 'auto', 'none'",
        ),
        (_with(align={"backend": "provided"}), "input.links and align.backend: provided need each other"),
        (_with(input={"path": "a", "links": "l"}), "input.links and align.backend: provided need each other"),
        (
            _with(align={"backend": "provided"}, input={"path": "a", "links": "l"}),
            "align.backend: provided, but input.parallel has no text for spa_Latn; links count the words of given text",
        ),
        (
            _with(
                align={"backend": "provided"},
                input={"path": "a", "parallel": {"spa_Latn": "b", "swh_Latn": "c"}, "links": "l"},
                targets=["spa_Latn", "swh_Latn"],
            ),
            "input.links: 'l' needs {lang}, since there are several languages",
        ),
        (
            _with(
                align={"backend": "provided"},
                input={"path": "a", "parallel": {"spa_Latn": "b"}, "links": "l"},
                back_translate={"engine": "nllb"},
            ),
            "back_translate.engine: input.links cannot count the words of a back-translation",
        ),
        (_with(input={"path": "a", "format": "links"}), "input.format is 'links'"),
        (_with(translate={"engine": "llm"}), "translate: model: engine llm needs an instruction-tuned decoder"),
        (
            _with(translate={"engine": "llm", "model": "m", "beams": 2}),
            "translate: beams: engine llm takes the likeliest",
        ),
        (_with(translate={"engine": "llm", "model": "m", "dtype": "int8"}), "dtype: int8 needs engine: ctranslate2"),
        (_with(translate={"llm": {"context_tokens": 1}}), "translate.llm.context_tokens is 1"),
        (
            _with(translate={"engine": "llm", "model": "m"}, projector="marker"),
            "translate.engine: the prompt of engine llm does not mention markers",
        ),
        (_with(tag={"engine": "llm", "labels": {"PER": None}}), "tag: model: engine llm needs an instruction-tuned"),
        (_with(tag={"engine": "llm", "model": "m"}), "tag: labels: engine llm needs its labels and what they mean"),
        (_with(tag={"engine": "llm", "model": "m", "labels": {" P": None}}), "tag: labels: ' P' is no label"),
        (_with(tag={"engine": "llm", "model": "m", "labels": {"O": None}}), "tag: labels: 'O' is no label"),
        (
            _with(tag={"engine": "llm", "model": "m", "labels": {"PER": "a\nb"}}),
            "tag: labels: PER has the meaning 'a\\nb'; allowed: one line of text, or null",
        ),
        (_with(back_translate={"engine": "llm"}), "back_translate.engine is 'llm'"),
    ],
)
def test_bad_recipes_name_key_value_and_what_is_allowed(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(data)
    assert message in str(error.value).replace(str(Path.cwd()) + "/", "")
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a readable YAML file"),
        ("- a", "a recipe is a mapping of sections"),
        ("!!python/object:os.x {}", "YAML"),
    ],
)
def test_bad_yaml_is_named_and_runs_nothing(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)


def test_missing_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")


def test_overrides_are_yaml_values_and_make_sections(tmp_path: Path) -> None:
    recipe = load_recipe(BASE, ["align.workers=[1, 4]", "align.method=argmax", "input.labels.keep=[PER]"])
    assert recipe.align.workers == (1, 4)
    assert recipe.align.method == "argmax"
    assert recipe.input.labels.keep == ["PER"]
    with pytest.raises(RecipeError, match=r"--set align: write it as section\.key=value"):
        load_recipe(BASE, ["align"])


def test_paths_are_relative_to_the_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "input: {path: d/a.conll, parallel: {spa_Latn: /abs/b.txt, swh_Latn: 's3://x/c.txt'}}\n"
        "targets: [spa_Latn, swh_Latn]\nalign: {encoder: ./enc}\ntranslate: {model: models/mine}\n"
    )
    (tmp_path / "models/mine").mkdir(parents=True)
    recipe = load_recipe(path)
    assert recipe.translate.model == str(tmp_path / "models/mine")
    assert recipe.input.path == str(tmp_path / "d/a.conll")
    assert recipe.input.parallel == {"spa_Latn": "/abs/b.txt", "swh_Latn": "s3://x/c.txt"}
    assert recipe.align.encoder == str(tmp_path / "enc")


def test_aliases_become_codes() -> None:
    recipe = load_recipe(_with(targets=["swa"]))
    assert recipe.targets == ["swh_Latn"]


def test_resolved_recipe_survives_yaml() -> None:
    import yaml

    recipe = load_recipe(_with(align={"workers": [1, 2]}))
    again = type(recipe).model_validate(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json"))))
    assert again == recipe


def test_a_label_is_renamed_before_it_is_kept() -> None:
    labels = Labels(rename={"GPE": "LOC", "LOC": "PLACE"}, keep=["LOC"])
    assert labels.map([Span(0, 1, "GPE", 0.5), Span(1, 2, "LOC")]) == [Span(0, 1, "LOC", 0.5)]


def test_a_bare_off_of_yaml_is_off() -> None:
    recipe = load_recipe(BASE, ["translate.health.copied=off"])
    assert (recipe.translate.health.copied, recipe.translate.health.language) == ("off", "off")
    with pytest.raises(RecipeError, match=r"translate\.health\.copied"):
        load_recipe(BASE, ["translate.health.copied=on"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targets: [no]", "targets.0 is False: YAML reads no, off and false as false: write the whole code, as nob"),
        ("targets: ['no']", "'no' is not a language code (FLORES-200, like swh_Latn); did you mean nob_Latn"),
        ("targets: [yes, swh_Latn]", "YAML reads yes, on and true as true: write the whole code or quote it"),
        ("targets: [2024-01-02]", "YAML reads bare numbers and dates so; quote the text"),
        ("targets: [010]", "recipe.yaml:2: YAML reads 010 as the number 8: quote it, as in \"010\", or write 8"),
        ("targets: [1:30]", "recipe.yaml:2: YAML reads 1:30 as the number 90"),
    ],
)  # fmt: skip
def test_what_yaml_makes_of_a_bare_word_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"input: {{path: a.conll}}\n{text}\n")
    with pytest.raises(RecipeError) as raised:
        load_recipe(tmp_path / "recipe.yaml")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lang: no", "input.lang is False: YAML reads no, off and false as false"),
        ("lang: [no, swh_Latn]", "input.lang.0 is False: YAML reads no, off and false as false"),
        ("parallel: {no: a.txt}", "input.parallel.0 is False: YAML reads no, off"),
        ("columns: {id: on}", "input.columns.id is True: input should be a valid string; YAML reads yes, on and true"),
        ("columns: {id: 010}", "YAML reads 010 as the number 8"),
        ("labels: {keep: [NO, PER]}", "input.labels.keep.0 is False: input should be a valid string; YAML reads no"),
        ("labels: {rename: {X: off}}", 'input.labels.rename.X is False: input should be a valid string; YAML reads no'),
        ("labels: {names: [O, 1.0e+3]}", "YAML reads bare numbers and dates so; quote the text, as in '1000.0'"),
        ("format: off", "YAML reads no, off and false so; quote the text, as in 'no'"),
    ],
)  # fmt: skip
def test_what_yaml_makes_of_a_bare_name_in_the_input_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"input: {{path: a.conll, {text}}}\ntargets: [swh_Latn]\n")
    with pytest.raises(RecipeError) as raised:
        load_recipe(tmp_path / "recipe.yaml")
    assert message in str(raised.value)


def test_numbers_that_are_meant_as_such_stay(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "input: {path: a.conll, limit: 10, columns: {tokens: 2}}\ntargets: [swh_Latn]\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml", ["engine.unit_rows=0x10", "input.sample=null"])
    assert (recipe.input.limit, recipe.input.columns.tokens, recipe.engine.unit_rows) == (10, "2", 16)
    with pytest.raises(RecipeError, match=r"--set engine.unit_rows=010: YAML reads 010 as the number 8"):
        load_recipe(tmp_path / "recipe.yaml", ["engine.unit_rows=010"])


def test_the_tagger_that_judges_has_the_labels_new_names_and_the_device_of_what_it_stands_beside() -> None:
    given = {"input": {"path": "a", "labels": {"rename": {"PER": "PERSON", "X": "LOC"}}}, "targets": ["spa_Latn"]}
    assert load_recipe({**given, "align": {"gpus": 1}}).target_tag.labels == {"PER": "PERSON"}
    assert load_recipe({**given, "align": {"gpus": 1}}).target_tag.gpus == 1
    linked = {"path": "a", "links": "l", "parallel": {"spa_Latn": "b"}}
    tagged = {"tag": {"engine": "builtin", "gpus": 1}, "align": {"backend": "provided"}}
    recipe = load_recipe({"input": linked, "targets": ["spa_Latn"], **tagged})
    assert (recipe.target_tag.engine, recipe.target_tag.gpus) == ("builtin", 1)
    assert not load_recipe({**given, "target_tag": {"engine": "llm", "model": "m", "labels": {"PER": None}}}).opines
