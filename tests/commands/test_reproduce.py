"""`reproduce paper`: what it plans, what it refuses, its table; and the whole command on invented sentences."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from published_folders import ENGLISH, RAW_SWAHILI, SWAHILI, europarl, lines, masakhaner, put
from rich.console import Console
from s3_server import S3Server
from typer.testing import CliRunner

from xner_ray import cli
from xner_ray.commands.reproduce import paper, table
from xner_ray.commands.reproduce.methods import ENCODER, MARKER, TAGGER, TRANSLATOR, parts, settings
from xner_ray.commands.reproduce.plan import Asked, planned
from xner_ray.commands.reproduce.table import Cell, SetTable
from xner_ray.commands.sweep import made
from xner_ray.errors import InputError, RecipeError, RunFolderError, XnerError
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sweep import Planned
from xner_ray.storage import files as storage

INLINE = ("engine.executor=inline",)
JOBS = Path(__file__).parents[2] / "jobs"


def _asked(folder: Path, *, models: Any = "paper", **given: Any) -> Asked:
    """Ask for the sets of these folders below `folder`; its runs are beside them."""
    folders = {name: str(given.pop(name)) for name in ("masakhaner", "wikiann", "europarl") if name in given}
    return Asked(str(folder / "runs"), folders, models=models, **given)


def _text(shown: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_papers_methods_on_the_papers_models(tmp_path: Path) -> None:
    (one,) = planned(_asked(tmp_path, masakhaner=masakhaner(tmp_path / "in", "swa", "lug")))
    recipes = {run.method: run.recipe for run in one.runs}
    assert set(recipes) == {*(f"{m}-{a}" for m in ("H", "N", "E", "X", "Hb", "Nb", "Eb") for a in "sa"), "MT", "ours"}
    assert one.codes == ["lug", "swa"] and one.langs == {"lug_Latn": "lug", "swh_Latn": "swa"}
    for method, recipe in recipes.items():
        assert recipe.target_tag.model == TAGGER and recipe.languages == ["lug_Latn", "swh_Latn"]
        assert recipe.projector == ("transfer" if method == "MT" else "match")
        assert (recipe.back_translate.engine == "nllb") == ("b" in parts(method))
    first = recipes[str(one.hands_on)]
    assert (first.translate.model, first.tag.model) == (TRANSLATOR, TAGGER)
    assert (first.align.encoder, first.align.layer, first.align.level) == (ENCODER, 8, "subword")
    assert first.tag.labels == {"MISC": None} and recipes["MT"].target_tag.labels == {"MISC": None}
    assert recipes["Nb-a"].back_translate.model == MARKER
    aligners = {a: recipes[f"N-{a}"].align for a in "sa"}
    assert (aligners["s"].similarity, aligners["s"].method) == ("cosine", "itermax")
    assert (aligners["a"].similarity, aligners["a"].method, aligners["a"].threshold) == ("dot", "softmax", 0.001)
    matchers = {m: recipes[f"{m}-s"].match for m in "HNEX"}
    assert {m: one.solver for m, one in matchers.items()} == {
        "H": "heuristic",
        "N": "greedy",
        "E": "greedy",
        "X": "exact",
    }
    assert [matchers[m].candidates for m in "NEX"] == ["ngram", "tagger", "ngram"]
    assert all(matchers[m].scores == {"align": 1} and matchers[m].min_score == 0 for m in "NEX")
    default = load_recipe({"input": {"path": "a"}, "targets": ["swh_Latn"]})
    assert recipes["ours"].match == default.match and recipes["ours"].align.center == default.align.center


def test_english_and_entities_are_made_once_for_a_set(tmp_path: Path) -> None:
    (one,) = planned(_asked(tmp_path, masakhaner=masakhaner(tmp_path / "in", "swa")))
    order = [run.method for run in one.runs]
    translating = [run.method for run in one.runs if run.source is None and "translate" in run.recipe.stages]
    assert translating == [one.hands_on] == ["H-s"]
    assert one.readers == {*order} - {"MT", "H-s", "N-s", "E-s", "X-s"}
    for run in one.runs:
        if run.method in one.readers and run.source is None:
            assert run.recipe.tag.engine == "provided" and "translated" in str(run.recipe.input.path)
        if run.source is not None:
            assert order.index(run.source) < order.index(run.method)


def test_nothing_is_translated_twice_even_where_the_user_names_a_translator(tmp_path: Path) -> None:
    folder = masakhaner(tmp_path / "in", "swa")
    wanted = {"translate.engine": "ctranslate2", "tag.model": "a/tagger"}
    asked = _asked(tmp_path, masakhaner=folder, overrides=[f"{k}={v}" for k, v in wanted.items()])
    (one,) = planned(asked)
    recipes = {run.method: run.recipe for run in one.runs}
    assert recipes["H-s"].translate.engine == "ctranslate2" and recipes["H-s"].tag.model == "a/tagger"
    assert recipes["ours"].tag.engine == "provided" and recipes["MT"].tag.engine == "none"


def test_europarl_has_peoples_labels_and_nothing_is_tagged_but_for_mt_and_e(tmp_path: Path) -> None:
    (one,) = planned(_asked(tmp_path, europarl=europarl(tmp_path / "in"), models="builtin"))
    assert one.hands_on is None and one.codes == ["es"]
    for run in one.runs:
        assert run.recipe.input.lang == "eng_Latn" and run.recipe.targets == ["spa_Latn"]
        assert run.recipe.tag.engine == "none" and "translate" not in run.recipe.stages
        assert "b" not in parts(run.method)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, RecipeError, "name at least one folder of data, as in --europarl FOLDER"),
        ({"methods": ["Q"]}, RecipeError, "--methods: 'Q' is no method here"),
        ({"langs": ["swha"]}, RecipeError, "--langs: 'swha' is not a language code"),
        ({"langs": ["xho"]}, InputError, r"--langs xho: no test file of it in \S+; there: swa, pcm$"),
        ({"overrides": ["match.solver=greedy"]}, RecipeError, "--set match.solver: is what the methods differ in"),
        ({"overrides": ["align.method=mwmf"]}, RecipeError, "--set align.method: is what the methods differ in"),
        ({"overrides": ["align={encoder: x}"]}, RecipeError, r"--set align: a whole section .* write align\.<key>"),
        ({"overrides": ["input.path=x"]}, RecipeError, "--set input.path: comes from the folders; use --masakhaner"),
        ({"overrides": ["tag.modell=x"]}, RecipeError, "unknown key 'tag.modell'"),
        ({"models": "builtin"}, RecipeError, "no translator is built in, and H-s on masakhaner needs English; give it"),
        ({"english": "a.txt"}, RecipeError, r"--english a\.txt: needs \{lang\} in it"),
        (
            {"english": "no/{lang}.txt"},
            InputError,
            r"no file no/swa\.txt or no/swh_Latn\.txt; leave swa out with --langs",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    given: dict[str, Any], error: type[XnerError], message: str, tmp_path: Path
) -> None:
    folders = {"masakhaner": masakhaner(tmp_path / "in", "swa", "pcm")} if given else {}
    with pytest.raises(error, match=message) as caught:
        paper.reproduce(_asked(tmp_path, **folders, **given), made)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_back_translation_is_not_built_in(tmp_path: Path) -> None:
    english = put(tmp_path / "swa.txt", "a\nb\n").parent
    asked = _asked(tmp_path, masakhaner=masakhaner(tmp_path / "in", "swa"), english=f"{english}/{{lang}}.txt")
    with pytest.raises(RecipeError, match="back-translation needs a translator that keeps brackets, and none is built"):
        planned(replace(asked, models="builtin", methods=["Hb"]))


def test_english_belongs_to_one_set_and_europarl_needs_its_own(tmp_path: Path) -> None:
    put(tmp_path / "wiki/sw/test", RAW_SWAHILI)
    two = {"masakhaner": masakhaner(tmp_path / "in", "swa"), "wikiann": tmp_path / "wiki"}
    with pytest.raises(RecipeError, match="--english: belongs to one set that is translated"):
        planned(_asked(tmp_path, **two, english="{lang}.txt"))
    (europarl(tmp_path / "euro") / "en-europarl.test.conll02").unlink()
    with pytest.raises(InputError, match=r"has no en-europarl\.test\.conll02, whose entities are projected"):
        planned(_asked(tmp_path, europarl=tmp_path / "euro"))


def test_languages_that_are_missing_or_of_no_use_are_named(tmp_path: Path) -> None:
    folder = masakhaner(tmp_path / "in", "swa", "lug", "pcm")
    put(folder / "MasakhaNER2.0/data/hau/train.txt", lines(SWAHILI))
    said = _text(paper.plan(_asked(tmp_path, masakhaner=folder, langs=["swh_Latn"])))
    assert "1 of the paper's 18 languages" in said and "not in the folder: bam, ewe, fon, ibo, kin, luo" in said
    assert "in the folder, but without a test file: hau" in said and "left out by --langs: lug" in said
    assert "in the folder, not in the paper: pcm (--langs takes them)" in said
    assert "English and entities of H-s" in said and not (tmp_path / "runs").exists()


def test_a_set_without_work_is_named_and_no_work_at_all_is_refused(tmp_path: Path) -> None:
    folders = {"masakhaner": masakhaner(tmp_path / "in", "swa"), "europarl": europarl(tmp_path / "euro")}
    said = _text(paper.plan(_asked(tmp_path, **folders, langs=["es"])))
    assert "MasakhaNER 2.0: left out, as it has none of these languages or methods" in said and "Europarl" in said
    with pytest.raises(RecipeError, match="no set has these languages by these methods"):
        planned(_asked(tmp_path, **folders, langs=["en"]))


def _differs(folder: Path, **given: Any) -> str:
    asked = _asked(folder, **given)
    (one,) = planned(asked)
    return "\n".join(table.differences(one, asked))


def test_each_difference_from_the_paper_is_named(tmp_path: Path) -> None:
    folder = masakhaner(tmp_path / "in", "swa", "lug")
    said = _differs(tmp_path, masakhaner=folder, overrides=["engine.executor=ray"])
    assert "encoder" not in said and "translator is" not in said and "--set" not in said and "not run" not in said
    assert "the program is another than the paper's" in said and "mean: over the languages here" in said
    said = _differs(tmp_path, masakhaner=folder, limit=5, overrides=["translate.model=x/y", "tag.model=z/z"])
    assert "the translator is x/y, the paper's facebook/nllb-200-3.3B" in said
    assert "the tagger of the English is z/z" in said and "first 5 sentences" in said
    assert "by --set: translate.model=x/y, tag.model=z/z" in said
    put(tmp_path / "flat/swa.txt", lines(SWAHILI))
    english = put(tmp_path / "flat/english/swa.txt", "Anna lives in Nairobi .\nThe city of Berlin is big\n").parent
    given = {"masakhaner": tmp_path / "flat", "english": f"{english}/{{lang}}.txt"}
    said = _differs(tmp_path, **given, models="builtin", methods=["H", "MT"])
    assert "the English was given by --english, so no published figure stands beside ours" in said
    assert "file names do not say which split" in said and "the encoder is builtin" in said
    assert "methods of the paper that were not run: Hb-s, Hb-a, N-s" in said


def _cells(*cells: tuple[str, str, float, float | None]) -> list[Cell]:
    return [
        Cell("masakhaner", lang, method, ours, theirs, "paper", 1, 2, 3, 4, 0) for lang, method, ours, theirs in cells
    ]


def _table(methods: Sequence[str], cells: list[Cell]) -> SetTable:
    langs = list(dict.fromkeys(cell.lang for cell in cells))
    return SetTable("masakhaner", "MasakhaNER 2.0", langs, list(methods), cells, {}, ["differs: all"], [])


def test_ours_theirs_and_the_difference_and_the_means() -> None:
    cells = _cells(
        ("swa", "MT", 80.0, 87.7), ("swa", "ours", 90.04, None), ("zul", "MT", 45.0, 41.4), ("zul", "ours", 50, None)
    )
    one = _table(["MT", "ours"], cells)
    text, plain, tsv = table.files([one])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| swa | ours | 80.0 | 90.0 |",
        "|  | publ. | 87.7 | - |",
        "|  | diff. | -7.7 | - |",
        "| zul | ours | 45.0 | 50.0 |",
        "|  | publ. | 41.4 | - |",
        "|  | diff. | +3.6 | - |",
        "| mean | ours | 62.50 | 70.02 |",
        "|  | publ. | 64.55 | - |",
        "|  | diff. | -2.05 | - |",
    ]
    assert "differs: all" in text and "MT: model transfer" in text and "H: heuristic" not in text
    assert tsv.splitlines()[1] == "masakhaner\tswa\tMT\t80.00\t87.70\t-7.70\tpaper\t1\t2\t3\t4\t0"
    assert json.loads(plain)["sets"][0]["mean"]["MT"] == {"ours": 62.5, "published": pytest.approx(64.55)}


def test_no_mean_of_some_languages_and_no_published_lines_without_figures() -> None:
    cells = _cells(("swa", "MT", 80.0, None), ("zul", "MT", 45.0, None), ("swa", "ours", 90.0, None))
    text, _, _ = table.files([_table(["MT", "ours"], cells)])
    assert "| mean | ours | 62.50 | - |" in text and "publ." not in text


def test_wide_tables_are_cut_for_a_terminal_but_not_in_the_file() -> None:
    methods = [f"{m}-{a}" for m in ("H", "N", "E", "X", "Hb") for a in "sa"]
    one = _table(methods, _cells(*(("swa", method, 50.0, 50.0) for method in methods)))
    console = Console(file=io.StringIO(), width=80)
    console.print(table.shown(one))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(method in said for method in methods) and said.count("publ.") == 2 and said.count("differs: all") == 1
    head = table.markdown(one).splitlines()[2]
    assert head == "|  | F1 | " + " | ".join(methods) + " |"


def test_another_paper_is_refused_in_one_line() -> None:
    ended = CliRunner().invoke(cli.app, ["reproduce", "papre", "runs"])
    assert isinstance(ended.exception, RecipeError) and "no such paper; did you mean 'paper'?" in str(ended.exception)


def test_a_model_that_is_not_at_hand_leads_to_those_of_the_package(tmp_path: Path) -> None:
    def make(runs: Sequence[Planned], root: str, **_: Any) -> None:
        raise XnerError("europarl/MT: target_tag.model: the hub does not answer")

    with pytest.raises(XnerError, match="the hub does not answer; without the hub, --models builtin projects"):
        paper.reproduce(_asked(tmp_path, europarl=europarl(tmp_path / "in")), make)


def test_the_copies_keep_their_bytes_and_their_times(tmp_path: Path) -> None:
    folder = europarl(tmp_path / "in")

    def make(runs: Sequence[Planned], root: str, **_: Any) -> None:
        raise XnerError("stopped")

    for _ in range(2):
        with pytest.raises(XnerError, match="stopped"):
            paper.reproduce(_asked(tmp_path, europarl=folder), make)
        copies = sorted((tmp_path / "runs/data/europarl").iterdir())
        assert [copy.name for copy in copies] == ["eng_Latn.conll", "spa_Latn.conll"]
        assert copies[1].read_bytes() == (folder / "es-europarl.test.conll02").read_bytes()
        times = [copy.stat().st_mtime_ns for copy in copies]
    assert times == [copy.stat().st_mtime_ns for copy in copies]
    recipe = yaml.safe_load((tmp_path / "runs/europarl.yaml").read_text())
    assert recipe["targets"] == ["spa_Latn"] and load_recipe(tmp_path / "runs/europarl.yaml").align.encoder == ENCODER


@pytest.mark.slow
def test_two_sets_are_run_resumed_and_tabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "wiki/sw/test", RAW_SWAHILI)
    put(
        tmp_path / "english/sw.txt",
        lines(ENGLISH).replace(" O\n", " ").replace(" B-PER\n", " ").replace(" B-LOC\n", " "),
    )
    arguments = ["reproduce", "paper", str(tmp_path / "runs"), "--europarl", str(europarl(tmp_path / "euro"))]
    arguments += ["--wikiann", str(tmp_path / "wiki"), "--english", str(tmp_path / "english/{lang}.txt")]
    arguments += ["--models", "builtin", "--methods", "MT,H-s,N-s,ours", "--set", INLINE[0]]
    ended = CliRunner().invoke(cli.app, arguments)
    assert ended.exit_code == 0, ended.output
    assert "1/4 europarl/MT, projected" in ended.output and "N-s, rematched from H-s" in ended.output
    text = (tmp_path / "runs/table.md").read_text()
    assert "| es | ours |" in text and "| sw | ours |" in text and text.count("publ.") == 1
    cells = [line.split("\t") for line in (tmp_path / "runs/table.tsv").read_text().splitlines()[1:]]
    assert {(cell[0], cell[1]) for cell in cells} == {("europarl", "es"), ("wikiann", "sw")} and len(cells) == 8
    figures = {(cell[0], cell[2]): float(cell[3]) for cell in cells}
    assert figures["europarl", "ours"] == 100.0 and figures["wikiann", "ours"] > 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    again = CliRunner().invoke(cli.app, [*arguments, "--methods", "MT,H-s,N-s,X-s,ours"])
    assert again.exit_code == 0 and "europarl/MT" in again.output
    same = [path for path, time in before.items() if path.exists() and path.stat().st_mtime_ns == time]
    assert len(same) == len(before) - 3 and (tmp_path / "runs/europarl/X-s/data").is_dir()  # but for the tables
    monkeypatch.chdir(tmp_path)
    other = _asked(tmp_path, europarl=tmp_path / "euro", models="builtin", methods=["MT"], limit=1, overrides=INLINE)
    with pytest.raises(RunFolderError, match=r"(?s)europarl/MT: .*input\.limit: None there, 1 now"):
        paper.reproduce(other, made)


@pytest.mark.slow
def test_data_and_runs_on_an_object_store(tmp_path: Path) -> None:
    store = S3Server()
    try:
        for file in europarl(tmp_path).iterdir():
            store.put(f"/bucket/euro/{file.name}", file.read_bytes())
        folders = {"europarl": store.uri("bucket/euro")}
        asked = Asked(store.uri("bucket/runs"), folders, methods=["MT"], models="builtin", overrides=INLINE)
        (one,) = paper.reproduce(asked, made)
        assert [cell.lang for cell in one.cells] == ["es"]
        assert storage.read_bytes(store.uri("bucket/runs/table.md")).decode().startswith("Europarl-NER.")
        assert storage.exists(store.uri("bucket/runs/data/europarl/spa_Latn.conll"))
    finally:
        store.close()


@pytest.mark.slow
def test_runs_that_read_the_english_of_another_are_as_if_they_had_made_it(tmp_path: Path) -> None:
    source = (JOBS / "data/templates.sw.conll").read_text("utf-8").strip().split("\n\n")[:12]
    put(tmp_path / "in/swa/test.txt", "\n\n".join(source) + "\n")
    own = [*INLINE, "translate.model=tiny-nllb", "input.limit=10"]
    asked = _asked(
        tmp_path, masakhaner=tmp_path / "in", models="builtin", methods=["H-s", "N-a", "ours"], overrides=own
    )
    (first,) = paper.reproduce(asked, made)
    (one,) = planned(asked)
    assert one.hands_on == "H-s" and one.readers == {"N-a", "ours"}
    alone = replace(asked, runs=str(tmp_path / "alone"), methods=["N-a"])
    (second,) = paper.reproduce(alone, made)
    third = paper.reproduce(replace(asked, runs=str(tmp_path / "ours"), methods=["ours"]), made)[0]
    found = {cell.method: cell for cell in first.cells}
    assert [found["N-a"], found["ours"]] == [*second.cells, *third.cells]
    assert found["ours"].rows == 10 and found["ours"].exact > 0


@pytest.mark.long
def test_europarl_reaches_what_is_known_of_it(tmp_path: Path) -> None:
    folder = europarl(tmp_path / "in")
    for code in ("en", "es"):
        put(folder / f"{code}-europarl.test.conll02", (JOBS / f"data/europarl.{code}.conll").read_text("utf-8"))
    asked = _asked(tmp_path, europarl=folder, models="builtin", limit=200, overrides=INLINE)
    (one,) = paper.reproduce(asked, made)
    figures = {cell.method: cell.ours for cell in one.cells}
    assert len(figures) == 10
    assert min(figures[method] for method in ("ours", "H-s", "H-a", "N-s", "N-a", "X-s", "X-a")) > 85
    assert max(figures[method] for method in ("MT", "E-s", "E-a")) < 75  # their tagger knows no MISC


def test_settings_of_a_method_name_no_key_that_is_unknown() -> None:
    base = {"input": {"path": "a"}, "targets": ["swh_Latn"], "target_tag": {"engine": "builtin"}}
    for method in ("H-s", "N-a", "X-s", "E-a", "ours", "MT"):
        load_recipe(
            base, [f"{key}={json.dumps(value)}" for key, value in settings(method, "europarl", "builtin").items()]
        )
