"""Input that wants to do harm. Columns that run code: test_formats_tables, test_cli; pickled weights: test_ct2,
test_network, test_hf_refused; secrets in addresses: test_files; tokens of clusters: test_cluster."""

import json
import os
from pathlib import Path

import pytest
import yaml
from given_files import write_recipe
from markupsafe import escape
from rich.console import Console

import xner_ray
from xner_ray.commands import inspect
from xner_ray.errors import RecipeError
from xner_ray.recipe.load import load_recipe
from xner_ray.report import tables

ROOT = Path(__file__).parent.parent
LANG = "spa_Latn"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_a_recipe_runs_no_code(tag: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    call = f"{tag} ['touch {mark}']"
    path = tmp_path / "recipe.yaml"
    path.write_text(f"input: {{path: {call}}}\ntargets: [{LANG}]\n")
    with pytest.raises(RecipeError, match="YAML"):
        load_recipe(path)
    path.write_text(f"input: {{path: a.conll}}\ntargets: [{LANG}]\n")
    with pytest.raises(RecipeError):
        load_recipe(path, [f"input.path={call}"])
    assert not mark.exists()


IDS = [
    "../../outside",
    "/etc/passwd",
    "[bold]x[/]",
    "<script>alert(1)</script>",
    "$(touch mark)",
    "`touch mark`; touch mark",
]


@pytest.mark.slow
def test_text_ids_and_labels_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a whole run: no path, no markup, no shell. Files lie inside the run, and output shows what was given."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    label = "<b>|x"
    rows = [
        {
            "id": name,
            "tokens": [name.replace(" ", "_"), "met", "[/red]", "$(touch${IFS}mark)"],
            "tags": [f"B-{label}", "O", f"B-{label}", "O"],
        }
        for name in IDS
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "out.txt").write_text("\n".join(f"{name.replace(' ', '_')} ; [/red] met" for name in IDS) + "\n")
    (folder / "links.txt").write_text("0-0 1-3 2-2 3-1\n" * len(IDS))
    given = {"path": "in.jsonl", "parallel": {LANG: "out.txt"}, "columns": {"tags": "tags"}}
    write_recipe(folder / "recipe.yaml", input=given, targets=[LANG])
    before = {path for path in tmp_path.rglob("*") if folder / "run" not in path.parents}
    report = xner_ray.project("recipe.yaml", "run")
    assert report["rejects"] == {}
    assert report["rows"] == {"read": len(IDS), "emitted": len(IDS), "rejected": 0}
    assert {path for path in tmp_path.rglob("*") if folder / "run" not in path.parents} == {*before, folder / "run"}

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(width=200, record=True, file=nowhere)
        sentences = inspect.sample("run", LANG, len(IDS))
        tables.print_sentences(console, sentences, report["labels"]["kept"])
        for name in IDS:
            console.print(xner_ray.explain("run", name))
        console.print(xner_ray.status("run"))
        console.print(tables.run_tables(report.report))
        shown = console.export_text()
    for name in IDS:
        assert name in shown
    assert "[/red]" in shown
    html = (folder / "run/report.html").read_text()
    for name in IDS[:4]:
        assert escape(name) in html
    assert html.count("<script>") == 1 and "<b>|x" not in html
    card = (folder / "run/README.md").read_text()
    assert "<b>" not in card
    assert yaml.safe_load(card.split("---")[1])["configs"]


def test_a_submitted_working_folder_leaves_out_what_is_private_or_large() -> None:
    lines = (ROOT / ".rayignore").read_text().split()
    assert {".git/", ".venv/", "runs/"} <= set(lines)
