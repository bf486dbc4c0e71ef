"""Runs compared from their folders, which the tests make by hand."""

import contextlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from entities import corpus, row
from run_folders import finished
from typer.testing import CliRunner

import xner_ray
from xner_ray import cli
from xner_ray.commands.compare import compare, differing, method_text, settings, short_names
from xner_ray.errors import InputError, RunFolderError
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe

MADE = corpus(40, 1)


def _rows(right: bool, gold: bool = True, n: int = 40) -> list[dict[str, Any]]:
    return [row(one[0] if gold else None, one[0] if right else one[1]) for one in MADE[:n]]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    sides = {"base": (False, ()), "best": (True, ("match.solver=greedy",))}
    return [
        finished(tmp_path / name, {lang: _rows(right) for lang in ("spa_Latn", "swe_Latn")}, overrides)
        for name, (right, overrides) in sides.items()
    ]


def test_two_runs_from_their_folders(runs: list[Path]) -> None:
    found = xner_ray.compare(runs, samples=200, differ=2)
    assert [(run.run, run.name, run.method) for run in found.runs] == [
        (str(runs[0]), "base", "defaults"),
        (str(runs[1]), "best", "match.solver=greedy"),
    ]
    assert found.runs[1].keys == {"match.solver": "greedy"}
    assert [language.lang for language in found.languages] == ["spa_Latn", "swe_Latn"]
    for run, path in enumerate(runs):
        for language, alone in zip(found.languages, xner_ray.evaluate(path, samples=200), strict=True):
            assert language.results[run].rates == alone.overall
    against = found.languages[0].results[1].against
    assert against is not None and against.p_value == against.p_holm
    assert [one.right for one in found.sentences] == ["run"] * 4
    turned = compare(runs, samples=0, against=runs[1])
    assert (turned.reference, turned.languages[0].results[1].against) == (1, None)


def test_runs_of_other_units_and_another_order_of_languages(runs: list[Path], tmp_path: Path) -> None:
    rows = {lang: _rows(True) for lang in ("swe_Latn", "spa_Latn")}
    other = finished(tmp_path / "other", rows, ("match.solver=greedy",), unit_rows=7)
    one, two = (compare([runs[0], each], samples=0, differ=3) for each in (runs[1], other))
    assert one.languages == two.languages
    assert one.sentences == two.sentences


def _refused(runs: Sequence[Path], message: str, kind: type[Exception] = InputError, **options: Any) -> None:
    with pytest.raises(kind, match=message):
        compare(runs, **options)


def test_what_cannot_be_compared_is_one_message(runs: list[Path], tmp_path: Path) -> None:
    _refused(runs[:1], "1 run; allowed: two or more")
    _refused([*runs, runs[0]], "base is listed twice", RunFolderError)
    (tmp_path / "link").symlink_to(runs[0])
    _refused([runs[0], tmp_path / "link"], "link is listed twice", RunFolderError)
    _refused(runs, r"--against .*else is none of the runs; allowed: .*base, .*best", against=tmp_path / "else")
    _refused([runs[0], tmp_path / "nothing"], "nothing: no run here", RunFolderError)
    spanish = finished(tmp_path / "spanish", {"spa_Latn": _rows(True)})
    _refused([runs[0], spanish], "spanish has the languages spa_Latn, and .*base has spa_Latn, swe_Latn")
    fewer = finished(tmp_path / "fewer", {lang: _rows(True, n=n) for lang, n in (("spa_Latn", 40), ("swe_Latn", 30))})
    _refused([runs[0], fewer], "10 rows only in .*base, as swe_Latn row 30, id 's30'")
    without = finished(tmp_path / "without", {lang: _rows(True, gold=False) for lang in ("spa_Latn", "swe_Latn")})
    _refused([runs[0], without], "80 rows with other gold, as spa_Latn row 0")
    _refused(runs, "no doc_id", by="doc")
    (runs[1] / "_run/SEALED").unlink()
    _refused(runs, "best: not sealed yet; finish the run first", RunFolderError)


def test_two_runs_without_gold_agree_or_not(runs: list[Path], tmp_path: Path) -> None:
    made = [finished(tmp_path / f"{n}", {"swh_Latn": _rows(bool(n), gold=False)}) for n in (0, 1)]
    found = compare(made)
    (swahili,) = found.languages
    agreement = swahili.agreement[1]
    assert (found.by, swahili.results) == (None, []) and agreement is not None
    assert agreement.identical == sum(one[0] == one[1] for one in MADE)
    assert agreement.only_run_right is None


def _method(overrides: Sequence[str], models: Mapping[str, str] | None = None) -> dict[str, Any]:
    given = {"path": "/x/a.conll", "parallel": {"spa_Latn": "/x/es"}}
    recipe = load_recipe({"input": given, "targets": ["spa_Latn"]}, overrides)
    return settings(recipe, fingerprint(recipe, {}, {}, {"align.encoder": "0123456789abcdef", **(models or {})}))


def test_a_method_is_what_differs_and_is_no_default() -> None:
    paper = ["match.solver=greedy", "match.scores={align: 1}", "match.prior=none", "output.incomplete=reject"]
    found = differing([_method(["output.incomplete=reject", "engine.unit_rows=7", "align.workers=2"]), _method(paper)])
    assert [method_text(keys) for keys in found] == [
        "defaults",
        "match.prior=none match.scores={align: 1.0} match.solver=greedy",
    ]
    assert list(found[1]) == ["match.prior", "match.scores", "match.solver"]
    thresholds = [_method(["match.thresholds={align: 0.5}", "match.scores={align: 1}"]), _method([])]
    assert [method_text(keys) for keys in differing(thresholds)] == [
        "match.scores={align: 1.0} match.thresholds={align: 0.5}",
        "defaults",
    ]


def test_models_are_named_and_told_apart() -> None:
    other = _method(["align.encoder=/models/labse"], {"align.encoder": "fedcba9876543210"})
    assert [method_text(keys) for keys in differing([_method([]), other])] == [
        "align.encoder=builtin",
        "align.encoder=/models/labse",
    ]
    changed = _method([], {"align.encoder": "fedcba9876543210"})
    assert [method_text(keys) for keys in differing([_method([]), changed])] == [
        "align.encoder=builtin@0123456789ab",
        "align.encoder=builtin@fedcba987654",
    ]


TEST = {"direction": "test", "input": {"path": "/x/a.conll", "lang": "lug_Latn"}, "tag": {"engine": "spacy"}}


def test_methods_of_every_kind() -> None:
    """Each as one line that says what makes it another method; sections of stages that it has not are left out."""

    def texts(given: Sequence[tuple[list[str], dict[str, str]]]) -> list[str]:
        found = []
        for overrides, models in given:
            recipe = load_recipe(TEST, overrides)
            keys = fingerprint(recipe, {}, {}, models)
            found.append(settings(recipe, dict(sorted(keys.items()))))  # as fingerprint.json has them
            assert settings(recipe, keys) == found[-1]
        return [method_text(keys) for keys in differing(found)]

    tagger, nllb = {"tag.model": "2222"}, {"translate.model": "1111"}
    text = {"eng_Latn": {"/x/en.txt": "text 12"}}
    transfer = ["projector=transfer", "tag.engine=none", "target_tag={engine: hf, model: org/ner, labels: {M: null}}"]
    given: list[tuple[list[str], dict[str, str], dict[str, Any]]] = [
        ([], {**nllb, **tagger}, {}),
        (["translate.engine=ctranslate2", "translate.beams=4", "translate.model=org/mt"], {**tagger, **nllb}, {}),
        (transfer, {"target_tag.model": "4444"}, {}),
        (["input.parallel={eng_Latn: /x/en.txt}"], tagger, text),
        (["match.per_entity='>=1'", "match.heuristic.gap=2"], {**nllb, **tagger}, {}),
    ]
    found = []
    for overrides, models, parallel in given:
        recipe = load_recipe(TEST, overrides)
        found.append(settings(recipe, fingerprint(recipe, {"/x/a": "1"}, parallel, models)))
    model = "translate.model=facebook/nllb-200-distilled-600M"
    assert [method_text(keys) for keys in differing(found)] == [
        f"tag.engine=spacy translate.engine=nllb {model}",
        "tag.engine=spacy translate.beams=4 translate.engine=ctranslate2 translate.model=org/mt",
        "projector=transfer target_tag.engine=hf target_tag.labels={M: null} target_tag.model=org/ner",
        "input.parallel.eng_Latn=en.txt tag.engine=spacy",
        f"match.heuristic.gap=2 match.per_entity=>=1 tag.engine=spacy translate.engine=nllb {model}",
    ]
    checked, older = ({**nllb, **tagger, "translate.health": f"py3langid {version}"} for version in ("1.1.4", "1.0.0"))
    flagging, rejecting = ([f"translate.health.language={action}"] for action in ("flag", "reject"))
    assert texts([([], {**nllb, **tagger}), (flagging, checked), (rejecting, checked)]) == [
        "defaults",
        "translate.health.language=flag",
        "translate.health.language=reject",
    ]
    assert texts([(flagging, checked), (flagging, older)]) == [
        "translate.health.language=flag@py3langid 1.1.4",
        "translate.health.language=flag@py3langid 1.0.0",
    ]
    apertium, ct2 = ["translate.engine=apertium"], ["translate.engine=ctranslate2"]
    of_one = {**tagger, "translate.engine fra_Latn": "3.8.3, fra-eng 00"}
    first, second = ({**of_one, "translate.engine spa_Latn": f"3.8.3, spa-eng {digest}"} for digest in ("aa", "bb"))
    assert texts([(apertium, first), ([*apertium, "match.max_words=3"], first)]) == ["defaults", "match.max_words=3"]
    assert [line.split()[0] for line in texts([(apertium, first), (ct2, {**nllb, **tagger})])] == [
        "translate.engine=apertium",
        "translate.engine=ctranslate2",
    ]
    assert texts([(apertium, first), (apertium, second)]) == [
        "translate.engine=apertium@3.8.3, fra-eng 00; 3.8.3, spa-eng aa",
        "translate.engine=apertium@3.8.3, fra-eng 00; 3.8.3, spa-eng bb",
    ]
    versions = [{**nllb, **tagger, "translate.engine": f"ctranslate2 {version}"} for version in ("4.6.0", "4.7.0")]
    assert texts([(ct2, models) for models in versions]) == [
        "translate.engine=ctranslate2@ctranslate2 4.6.0",
        "translate.engine=ctranslate2@ctranslate2 4.7.0",
    ]
    combined = {"runs": ["a", "b"], "weights": [1.0, 2.0], "method": "vote"}
    recipe = load_recipe({**TEST, "projector": "combine", "combined": combined})
    assert settings(recipe, {"method": "vote", "match.solver of run 1": "greedy"}) == {
        "combine": "vote of a + b",
        "weights": [1.0, 2.0],
    }


def test_names_are_short_where_they_can_be() -> None:
    assert short_names(["runs/a", "s3://b/runs/c/"]) == ["a", "c"]
    assert short_names(["x/a", "y/a"]) == ["x/a", "y/a"]


@pytest.mark.parametrize("width", ["80", "120"])
def test_the_command_prints_tables(runs: list[Path], width: str) -> None:
    arguments = ["compare", *map(str, runs), "--samples", "50", "--differ", "1"]
    found = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": width})
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= int(width)
    for part in ("base and best differ", "only best is right", "match.solver=greedy", "mean of 2", "Holm", "neither"):
        assert part in found.output
    assert "2 best" in found.output


def test_the_command_as_json_and_as_markdown(runs: list[Path]) -> None:
    arguments = ["compare", *map(str, runs), "--samples", "50", "--seed", "3", "--against", str(runs[1])]
    found = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json", "--differ", "1"]).output)
    assert found == json.loads(json.dumps(compare(runs, samples=50, seed=3, against=runs[1], differ=1).to_dict()))
    assert (found["samples"], found["seed"], found["reference"], len(found["sentences"])) == (50, 3, 1, 2)
    text = CliRunner().invoke(cli.app, [*arguments, "--markdown"]).output
    assert "| spa_Latn | base | defaults |" in text
    assert "only best right | only the run right" in text


def test_the_command_ends_with_2_and_one_message(runs: list[Path]) -> None:
    err = io.StringIO()
    with (
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["xner-ray", "compare", str(runs[0])]),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    assert end.value.code == 2
    assert "compare: 1 run; allowed: two or more run folders" in err.getvalue()
    assert "Traceback" not in err.getvalue()


def test_a_run_of_an_earlier_matching_is_told_apart() -> None:
    recipe = load_recipe(TEST, [])
    now = fingerprint(recipe, {}, {}, {})
    before = {key: value for key, value in now.items() if key != "match version"}
    found = differing([settings(recipe, now), settings(recipe, before)])
    assert [method_text(keys) for keys in found] == ["defaults", "match version=1"]
