"""Runs with a user's own score functions: where they run, and that no command on a run runs them."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from plugged import SAME, stage_of
from rich.console import Console
from synthetic_runs import SPANISH, digests, make_run

import xner_ray
from xner_ray.commands import inspect
from xner_ray.commands.rematch import rematch
from xner_ray.engine.resolve import resolve
from xner_ray.errors import RecipeError
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder

# runs that are there


TRAP = "import os, pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n" + SAME


def test_no_command_on_a_run_runs_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "same.py").write_text(TRAP)
    sys.modules.pop("xner_ray_plugin", None)
    own = [f"evidence.plugin={tmp_path / 'same.py'}", "match.scores={soft: 1, same: 1}", "match.min_score=0.3"]
    run = make_run(tmp_path / "run", own, SPANISH)
    inspect.run_progress(run)
    new = tmp_path / "new"
    rematch(run, new, overrides=["match.scores.same=0.5"])
    xner_ray.status(new)
    xner_ray.evaluate(new)
    xner_ray.write_page(new)
    rematch(run, tmp_path / "newer", overrides=["match.scores.same=0.1"])
    xner_ray.compare([new, tmp_path / "newer"])
    xner_ray.export(new)
    console = Console()
    with console.capture():
        console.print(xner_ray.explain(new, "s3"))
    resolve(RunFolder(str(new)).recipe().model_copy())  # nor does looking at a recipe
    assert not (tmp_path / "same.ran").exists()
    assert "xner_ray_plugin" not in sys.modules
    stage_of(RunFolder(str(new)).recipe())
    assert (tmp_path / "same.ran").exists()  # the trap works


@pytest.mark.parametrize("key", ["match.candidates=ngram", "match.max_words=3", "align.method=argmax"])
def test_cells_that_were_never_scored_are_not_rematched(tmp_path: Path, key: str) -> None:
    own = ["evidence.plugin=/nowhere/same.py", "match.scores={soft: 1, same: 1}"]
    run = make_run(tmp_path / "run", own, SPANISH)
    with pytest.raises(RecipeError, match=f"^rematch cannot set {key.split('=')[0]}: evidence.plugin was called only"):
        rematch(run, tmp_path / "new", overrides=[key])
    assert not (tmp_path / "new").exists()


def test_the_card_names_the_plugin_and_not_its_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ["evidence.plugin=/home/me/same.py", "match.scores={soft: 1, same: 1}"], SPANISH)
    rematch(run, tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "- evidence: same, by the plug-in same.py" in card
    assert "/home/me" not in card


# real runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 sentences whose links are worth little, and pictures that tell who is meant."""
    folder = tmp_path_factory.mktemp("data")
    names = ["Ana", "Bo", "Cy", "Di", "Ed", "Flo", "Gil"]
    rows, parallel, links = [], [], []
    for n in range(70):
        one, two = names[n % 7], names[(n + 1 + n // 7 % 5) % 7]
        text = f"Mr {one} met {two}"
        spans = [[3, 3 + len(one), "PER"], [len(text) - len(two), len(text), "PER"]]
        rows.append({"id": f"s{n}", "text": text, "spans": spans, "image": {"left": two, "right": one}, "other": n})
        parallel.append(f"don {two} y don {one}")
        links.append(f"1-{1 + 3 * (n % 2)} 3-{1 + 3 * ((n + n % 3 // 2) % 2)}")
    rows.append({**rows[-1], "id": "s0"})  # rejected, and its picture with it
    parallel.append(parallel[-1])
    links.append(links[-1])
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "b.txt").write_text("\n".join(parallel))
    (folder / "c.links").write_text("\n".join(links))
    (folder / "shown.py").write_text(
        "import json\n"
        "def shown(row, entity, candidates):\n"
        "    side = {name: side for side, name in json.loads(row['image']).items()}[entity['text']]\n"
        "    place = {'left': 1, 'right': 4}[side]\n"
        "    return [float((c['start'], c['end']) == (place, place + 1)) for c in candidates]\n"
    )
    (folder / "recipe.yaml").write_text(
        """
input: {path: a.jsonl, parallel: {spa_Latn: b.txt}, links: c.links, carry: [image]}
targets: [spa_Latn]
align: {backend: provided}
evidence: {plugin: shown.py}
match: {candidates: ngram, max_words: 5, scores: {soft: 1, edges: 0.2, shown: 3}, min_score: 0.3}
engine: {unit_rows: 16}
"""
    )
    return folder


@pytest.mark.slow
def test_runs_with_a_plugin(data: Path, tmp_path: Path, ray_here: None) -> None:
    recipe = data / "recipe.yaml"
    report = xner_ray.project(recipe, tmp_path / "run", overrides=["evidence.workers=1", "match.workers=1"])
    assert report["rows"] == {"read": 71, "emitted": 70, "rejected": 1}
    assert report["priors"]["spa_Latn"]["used"]
    rows = xner_ray.sample(tmp_path / "run", "spa_Latn", 70)
    for row in rows:  # every name stands where its picture has it
        assert {(s["start"], row["source_spans"][s["source"]]["start"]) for s in row["spans"]} == {(1, 3), (4, 1)}
        assert set(json.loads(row["image"])) == {"left", "right"}
    (file,) = (tmp_path / "run" / "rejects" / "spa_Latn").glob("*.parquet")
    assert json.loads(part_files.read_part(str(file)).column("image")[0].as_py()).keys() == {"left", "right"}
    # Other weights from what is stored, while the plug-in is gone: as if made with them, and by two workers
    other = ["match.scores={soft: 1, shown: 0.1}", "match.min_score=0.5", "match.thresholds={shown: 0.2}"]
    two = ["evidence.workers=2", "evidence.cpus=0.2", "match.workers=1", "match.cpus=0.1"]
    xner_ray.project(recipe, tmp_path / "made", overrides=[*other, *two])
    source = (data / "shown.py").read_text()
    (data / "shown.py").unlink()
    rematch(tmp_path / "run", tmp_path / "again", overrides=other)
    assert digests(tmp_path / "again")["sealed"] == digests(tmp_path / "made")["sealed"]
    assert RunFolder(str(tmp_path / "again")).keys() == RunFolder(str(tmp_path / "made")).keys()
    assert digests(tmp_path / "made")["sealed"] != digests(tmp_path / "run")["sealed"]
    # An edited plug-in is another run
    (data / "shown.py").write_text(source + "# edited\n")
    with pytest.raises(xner_ray.errors.RunFolderError, match=r"evidence\.plugin identity"):
        xner_ray.project(recipe, tmp_path / "run")
    (data / "shown.py").write_text(source)
    # What is carried comes back in files, features and exports
    import datasets

    loaded = datasets.load_dataset(str(tmp_path / "run"), "spa_Latn", cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["image"] == '{"left": "Bo", "right": "Ana"}'
    assert loaded.features["ner_tags"].feature.names == ["O", "B-PER", "I-PER"]
    (export,) = xner_ray.export(tmp_path / "run", to="jsonl")
    assert json.loads(Path(export).read_text().splitlines()[0])["image"] == '{"left": "Bo", "right": "Ana"}'
    (part,) = (tmp_path / "run" / "data" / "spa_Latn").glob("*.parquet")
    assert part_files.read_part(str(part)).schema.field("image").type == pa.string()
    console = Console(width=160)
    with console.capture() as capture:
        console.print(xner_ray.explain(tmp_path / "run", "s0"))
    assert "shown" in capture.get()
    assert "1.0000" in capture.get()
