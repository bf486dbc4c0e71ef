"""Whole runs with pictures, on the tiny CLIP: what pictures change, what they must not, and what survives faults."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from ambiguous import (
    IMAGE,
    LANG,
    assert_true_pictures_help,
    encodings,
    finished,
    parts,
    right,
    rows,
    shown,
    written,
)
from faults import ended_after_first_of_three
from markupsafe import escape
from pictures import HARMFUL
from rich.console import Console

import xner_ray
from xner_ray.commands import inspect
from xner_ray.data.row import IMAGES
from xner_ray.errors import InputError, RecipeError, RunFolderError
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.vision.formula import LEAST_BACKGROUND
from xner_ray.vision.pixels import decode
from xner_ray.vision.towers import Towers

pytestmark = pytest.mark.usefixtures("one_thread")
BACKGROUND = "_run/image_background.safetensors"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the ambiguous set with true, plain, no and wrong pictures, in three units."""
    return finished(tmp_path_factory.mktemp("ambiguous"), IMAGE)


def test_true_pictures_help_plain_ones_do_no_harm_and_wrong_ones_do(house: Path) -> None:
    assert_true_pictures_help(house / "run")


def test_the_report_counts_pictures_and_what_exchanged_ones_would_do(house: Path) -> None:
    table, report = parts(house / "run"), json.loads((house / "run/report.json").read_text())
    images = report["images"]
    assert (images["rows"], images["used"], images["entities"], images["compared"]) == (180, 180, 180, 180)
    judged = [cell for row in table.column("image_labels").to_pylist() for cell in row or ()]
    assert (
        images["relabelled"]
        == sum(cell["text"] != cell["image"] for cell in judged)
        == report["flags"]["image_relabelled"]
    )
    assert images["relabelled_by_exchanged"] == sum(cell["text"] != cell["exchanged"] for cell in judged) > 0
    assert report["stages"]["image"]["rows"] == 240


def test_labels_follow_from_the_evidence_that_is_stored(house: Path) -> None:
    for row in parts(house / "run").to_pylist():
        if row["image_id"] is None:
            assert row["image_evidence"] is None and row["image_labels"] is None
            continue
        (judged,) = row["image_labels"]
        scores = {c["label"]: np.log(max(c["text"], 1e-4)) + c["image"] for c in row["image_evidence"]}
        best = max(scores.values())
        assert scores[judged["image"]] >= best - 2e-4
        assert row["source_spans"][0]["label"] == judged["image"] == row["spans"][0]["label"]


def test_explain_prints_the_table_of_a_span(house: Path) -> None:
    changed = next(row for row in parts(house / "run").to_pylist() if row["flags"])
    said = shown(xner_ray.explain(house / "run", changed["id"]))
    (judged,) = changed["image_labels"]
    assert f"picture {changed['image']}: SHA-256 {changed['image_id'][:12]}" in said
    assert (
        f"{judged['text']} by the text, {judged['image']} with the picture, {judged['exchanged']} with another one"
        in said
    )
    assert all(f"{cell['image']:+.4f}" in said for cell in changed["image_evidence"])


def test_the_page_shows_thumbnails_and_loads_nothing(house: Path) -> None:
    html = (house / "run/report.html").read_text()
    assert "img-src data:;" in html and "default-src 'none'" in html
    sources = re.findall(r'<img src="([^"]*)"', html)
    assert len(sources) > 100 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert str(house) not in html
    assert "by the picture" in html and "with another picture" in html


def test_the_background_is_sealed_and_named_nowhere_else(house: Path) -> None:
    sealed = json.loads((house / "run/_run/SEALED").read_text())
    assert BACKGROUND in {entry["file"] for entry in sealed["others"]}
    assert RunFolder(str(house / "run")).recipe().image.background_file is None
    keys = RunFolder(str(house / "run")).keys()
    assert {"image.model identity", "image.pillow identity", "image.weight", "engine.unit_rows"} <= keys.keys()
    assert not {"image.cache", "image.gpus", "image.background_file", "input.images.roots"} & keys.keys()


def _same(run: Path, house: Path) -> bool:
    return parts(run).equals(parts(house / "run"))


def test_a_resume_after_an_end_gives_the_same_rows_and_keeps_the_background(house: Path, tmp_path: Path) -> None:
    with ended_after_first_of_three(tmp_path / "run"):
        xner_ray.project(house / "recipe.yaml", tmp_path / "run")
    before = (tmp_path / "run" / BACKGROUND).stat().st_mtime_ns
    xner_ray.project(house / "recipe.yaml", tmp_path / "run")
    assert (tmp_path / "run" / BACKGROUND).stat().st_mtime_ns == before
    assert _same(tmp_path / "run", house)


def test_a_damaged_background_is_made_again(house: Path, tmp_path: Path) -> None:
    shutil.copytree(house / "run", tmp_path / "run")
    path = tmp_path / "run" / BACKGROUND
    good = path.read_bytes()
    path.write_bytes(good[:-4] + b"abcd")
    report = xner_ray.project(house / "recipe.yaml", tmp_path / "run")
    assert path.read_bytes() == good and report["rows"]["read"] == 240
    xner_ray.project(house / "recipe.yaml", tmp_path / "run", fresh=True)
    assert _same(tmp_path / "run", house)


@pytest.mark.long
@pytest.mark.usefixtures("ray_here")
def test_several_workers_give_the_same_rows(house: Path, tmp_path: Path) -> None:
    own = ["engine.executor=ray", "image.workers=2", "image.cpus=0.3", "match.workers=1", "match.cpus=0.3"]
    xner_ray.project(house / "recipe.yaml", tmp_path / "run", overrides=own)
    assert _same(tmp_path / "run", house)


def test_halved_memory_gives_the_same_labels(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Towers.of_pictures

    def small(self: Any, pictures: Any) -> Any:
        if self.micro_batch_tokens > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, pictures)

    ready = RunFolder(str(house / "run"))
    xner_ray.project(house / "recipe.yaml", tmp_path / "run", overrides=["image.micro_batch_tokens=512"])
    assert _same_labels(tmp_path / "run", house)
    monkeypatch.setattr(Towers, "of_pictures", small)
    (tmp_path / "again/_run").mkdir(parents=True)
    shutil.copy(ready.background_path, tmp_path / "again" / BACKGROUND)
    xner_ray.project(house / "recipe.yaml", tmp_path / "again")
    table = parts(tmp_path / "again")
    assert all("memory_halved" in flags for flags in table.column("flags").to_pylist())
    assert _same_labels(tmp_path / "again", house)


def _same_labels(run: Path, house: Path) -> bool:
    one, other = (parts(each).column("image_labels") for each in (run, house / "run"))
    return one.equals(other)


def test_a_picture_that_makes_the_model_raise_rejects_its_rows_alone(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = parts(house / "run")
    poison = table.column("image_id")[0].as_py()
    encode = Towers.of_pictures
    shape = decode((house / table.column("image")[0].as_py()).read_bytes(), 48, 10**6).tobytes()  # type: ignore[union-attr]

    def raises(self: Any, pictures: Any) -> Any:
        if any(picture.tobytes() == shape for picture in pictures):
            raise ValueError("this picture")
        return encode(self, pictures)

    (tmp_path / "run/_run").mkdir(parents=True)
    shutil.copy(house / "run" / BACKGROUND, tmp_path / "run" / BACKGROUND)
    monkeypatch.setattr(Towers, "of_pictures", raises)
    recipe = yaml.safe_load((house / "recipe.yaml").read_text())
    recipe["output"] = {"max_reject_rate": 0.5}
    report = xner_ray.project(recipe, tmp_path / "run")
    found = parts(tmp_path / "run")
    gone = [row["image"] for row in found.to_pylist() if row["status"] == "rejected"]
    assert set(gone) == {row["image"] for row in table.to_pylist() if row["image_id"] == poison}
    assert report["rejects"] == {"stage_error": len(gone)}


def test_rows_without_pictures_and_equal_pictures_are_as_the_text_alone(tmp_path: Path) -> None:
    given = rows()
    text = written(tmp_path / "text", [{**row, "photo": None} for row in given], image={})
    text["input"].pop("columns")
    xner_ray.project(text, tmp_path / "run")
    alone = parts(tmp_path / "run").drop_columns(["extra"])
    for name, photo, extra in (
        ("none", None, {}),
        ("equal", "jordan-per.png", {}),
        ("off", "jordan-per.png", {"ablation": "none"}),
    ):
        own = {"input": {"images": extra}} if extra else {}
        recipe = written(tmp_path / name, [{**row, "photo": photo} for row in given], **own)
        report = xner_ray.project(recipe, tmp_path / f"run-{name}")
        table = parts(tmp_path / f"run-{name}")
        assert table.drop_columns([*IMAGES.names, "extra"]).equals(alone), name
        assert report["images"]["relabelled"] == 0
        assert report["images"]["used"] == (60 if name == "equal" else 0)


def test_shuffled_pictures_are_those_of_the_unit_and_help_no_more(house: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, rows(), input={"images": {"ablation": "shuffled"}})
    xner_ray.project(recipe, tmp_path / "run")
    table = parts(tmp_path / "run")
    assert right(table)[0][""] < 30
    true = {row["id"].partition("/")[0]: row["image_id"] for row in parts(house / "run").to_pylist()[:60]}
    assert {row["id"]: row["image_id"] for row in table.to_pylist()} == true, "the id is that of the row's own picture"


def test_faults_have_flags_and_are_no_markup(tmp_path: Path) -> None:
    names = [
        '<img src=x onerror="alert(1)">\u202e.png',
        "../../etc/passwd",
        "http://127.0.0.1:9/x.png",
        "[red]x[/red].png",
    ]
    given = rows()
    for row, name in zip(given, [*HARMFUL, *names], strict=False):
        row["photo"] = name
    recipe = written(tmp_path / "in", given)
    for name, (data, _) in HARMFUL.items():
        (tmp_path / "in" / name).write_bytes(data)
    report = xner_ray.project(recipe, tmp_path / "run")
    wanted = {flag: sum(one == flag for _, one in HARMFUL.values()) for _, flag in HARMFUL.values()}
    flags = {flag: n for flag, n in report["flags"].items() if flag not in ("image_relabelled", "snapped")}
    copied = flags.pop("translation_copied")  # the given text of most rows is the same on both sides
    assert copied == 45
    assert flags == {**wanted, "image_refused": wanted["image_refused"] + 2, "image_missing": 2}
    assert report["images"]["used"] == 60 - len(HARMFUL) - 4
    table = parts(tmp_path / "run").to_pylist()
    assert [row["image_id"] for row in table[: len(HARMFUL) + 4]] == [None] * (len(HARMFUL) + 4)
    html = (tmp_path / "run/report.html").read_text()
    assert "onerror=&#34;alert" in html and "<img src=x" not in html
    assert escape(names[0][:20]) in html
    for row in table[: len(HARMFUL) + 4]:
        assert "image_" in shown(xner_ray.explain(tmp_path / "run", row["id"]))
    recipe["input"]["images"] = {"missing": "reject"}
    recipe["output"] = {"max_reject_rate": 0.5}
    rejected = xner_ray.project(recipe, tmp_path / "rejecting")
    assert rejected["rejects"] == flags
    details = [row["detail"] for row in parts(tmp_path / "rejecting").to_pylist() if row["status"] == "rejected"]
    assert all(detail.isprintable() and str(tmp_path) not in detail for detail in details) and any(
        "12000 x 12000 pixels" in detail for detail in details
    )


def test_vectors_are_kept_for_other_runs(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = encodings(monkeypatch)
    own = [f"image.cache={tmp_path / 'cache'}"]
    xner_ray.project(house / "recipe.yaml", tmp_path / "one", overrides=own)
    distinct = len({one for one in parts(house / "run").column("image_id").to_pylist() if one})
    assert sum(calls) == distinct
    assert _same(tmp_path / "one", house)
    xner_ray.project(house / "recipe.yaml", tmp_path / "two", overrides=own)
    assert sum(calls) == distinct and _same(tmp_path / "two", house)
    shards = sorted((tmp_path / "cache").rglob("*.parquet"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:50])
    xner_ray.project(house / "recipe.yaml", tmp_path / "three", overrides=own)
    assert sum(calls) == 2 * distinct and _same(tmp_path / "three", house)
    xner_ray.project(house / "recipe.yaml", tmp_path / "four", overrides=[*own, "image.dtype=bfloat16"])
    assert sum(calls) > 2 * distinct, "vectors of another number format are others"


@pytest.mark.long
def test_after_a_kill_nothing_that_was_published_is_encoded_again(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is killed for real, with SIGKILL, as soon as two units have published their vectors."""
    own = [f"image.cache={tmp_path / 'cache'}", "image.background=8", "engine.unit_rows=20"]
    code = "import sys, xner_ray; xner_ray.project(sys.argv[1], sys.argv[2], overrides=sys.argv[3:])"
    command = [sys.executable, "-c", code, str(house / "recipe.yaml"), str(tmp_path / "run"), *own]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(list((tmp_path / "cache").rglob("*.parquet"))) < 3 and driver.poll() is None:
            time.sleep(0.005)
        assert driver.poll() is None, "it ended before it could be killed"
    finally:
        driver.kill()
        driver.wait()
    shards = list((tmp_path / "cache").rglob("*.parquet"))
    published = {one for shard in shards for one in pq.read_table(shard).column("id").to_pylist()}
    calls = encodings(monkeypatch)
    xner_ray.project(house / "recipe.yaml", tmp_path / "run", overrides=own)
    distinct = {one for one in parts(tmp_path / "run").column("image_id").to_pylist() if one}
    assert 0 < len(published) < len(distinct)
    assert sum(calls) == len(distinct - {one.hex() for one in published})
    xner_ray.project(house / "recipe.yaml", tmp_path / "undisturbed", overrides=own[1:])
    assert parts(tmp_path / "run").equals(parts(tmp_path / "undisturbed"))


def test_pictures_and_run_on_an_object_store(house: Path, s3: Any, tmp_path: Path) -> None:
    for path in house.glob("*.*"):
        storage.publish(s3.uri(f"bucket/in/{path.name}"), path.read_bytes())
    recipe = yaml.safe_load((house / "recipe.yaml").read_text())
    recipe["input"] |= {"path": s3.uri("bucket/in/a.jsonl"), "links": s3.uri("bucket/in/links.txt")}
    recipe["input"]["parallel"] = {LANG: s3.uri("bucket/in/es.txt")}
    recipe["image"] = {**IMAGE, "cache": s3.uri("bucket/cache")}
    run = s3.uri("bucket/run")
    xner_ray.project(recipe, run)
    found = RunFolder(run).final_parts()
    table, wanted = (
        pa.concat_tables(part_files.read_part(path) for _, path in sorted(found.items())),
        parts(house / "run"),
    )
    assert [name for name in table.schema.names if not table.column(name).equals(wanted.column(name))] == []


def test_other_runs_over_rows_with_pictures(house: Path, tmp_path: Path) -> None:
    """Matched again, combined, exported, and given to another run as its input."""
    again = xner_ray.rematch(house / "run", tmp_path / "again", overrides=["match.min_score=0.1"])
    assert again["images"]["relabelled"] == json.loads((house / "run/report.json").read_text())["images"]["relabelled"]
    xner_ray.combine([house / "run", tmp_path / "again"], tmp_path / "both")
    xner_ray.export(house / "run", to="jsonl", output=tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / f"out/{LANG}.train.jsonl").read_text().splitlines()]
    assert lines[0]["image"] == "jordan-per.png" and not {"image_id", "image_labels", "source_tags"} & lines[0].keys()
    recipe = yaml.safe_load((house / "recipe.yaml").read_text())
    back = {
        "path": str(house / "run"),
        "format": "run",
        "columns": {"image": "image"},
        "images": {"roots": [str(house)]},
    }
    recipe["input"] |= back
    xner_ray.project(recipe, tmp_path / "back")
    one, other = (parts(run).select(["id", "image", "image_id"]) for run in (tmp_path / "back", house / "run"))
    assert one.equals(other)


def _refused(house: Path, error: type[Exception], message: str, *overrides: str) -> None:
    with pytest.raises(error, match=message) as found:
        xner_ray.project(house / "recipe.yaml", house / "nothing", overrides=overrides)
    assert "\n" not in str(found.value)
    assert not RunFolder(str(house / "nothing")).is_run()


def test_recipes_that_cannot_work(house: Path) -> None:
    refused = "image.engine: clip needs pictures; name their column under input.columns.image"
    _refused(house, RecipeError, refused, "input.columns={}")
    _refused(
        house,
        RecipeError,
        r"image.prompts: 'WORK' is none of this run's labels \(LOC, ORG, PER\)",
        "image.prompts.WORK=['{} on a wall']",
    )
    _refused(
        house, RecipeError, "each is one line with one {}, where the mention stands", "image.prompts.PER=['a person']"
    )
    _refused(house, RecipeError, "needs sentences for two labels or more", "image.prompts={PER: ['{}']}")
    _refused(
        house,
        RecipeError,
        r"image.model 'tiny-nllb' has no text tower .model_type m2m_100.; give a model",
        "image.model=tiny-nllb",
    )
    _refused(house, RecipeError, "needs a model with an image tower", "image.model=null")
    _refused(house, RecipeError, "never fetched from the web", "input.images.roots=['https://h/pictures']")
    _refused(house, RecipeError, "nothing looks at the pictures", "image.engine=none", "input.images.ablation=none")
    _refused(house, InputError, "input.columns.image is 'foto'", "input.columns.image=foto")
    _refused(house, RecipeError, "depicted: MISC has no prompts", "image.depicted.MISC=0.5")


def test_other_settings_are_another_run(house: Path) -> None:
    for change in (
        "image.weight=0.5",
        "input.images.ablation=shuffled",
        "input.images.max_mb=1",
        "image.background=64",
    ):
        with pytest.raises(RunFolderError, match="holds a run of another recipe"):
            xner_ray.project(house / "recipe.yaml", house / "run", overrides=[change])
    report = xner_ray.project(
        house / "recipe.yaml", house / "run", overrides=["image.threads=2", "input.images.roots=['.']"]
    )
    assert report["rows"]["read"] == 240


def test_a_few_pictures_change_no_label(tmp_path: Path) -> None:
    given = rows()[: LEAST_BACKGROUND - 1]
    labelled = {span["label"] for row in rows() for span in row["spans"]}
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    recipe = written(tmp_path, given)
    recipe["image"] = {**IMAGE, "prompts": {label: IMAGE["prompts"][label] for label in sorted(labelled)}}  # type: ignore[index]
    report = xner_ray.project(recipe, tmp_path / "run", console=console)
    assert report["images"]["relabelled"] == 0
    assert "too few to compare with, so no label changes" in console.export_text()


def test_pictures_of_the_test_direction_judge_the_translations_entities(house: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, rows())
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    own = [{key: row[key] for key in ("id", "text", "photo", "kind")} for row in lines]
    (tmp_path / "es.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    beside = [{"text": row["text"], "spans": row["spans"]} for row in lines]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in beside))
    given = {"path": str(tmp_path / "es.jsonl"), "lang": LANG, "parallel": {"eng_Latn": str(tmp_path / "en.jsonl")}}
    recipe["input"] = {**given, "links": str(tmp_path / "links.txt"), "columns": {"image": "photo"}}
    del recipe["targets"]
    xner_ray.project(recipe | {"direction": "test", "tag": {"engine": "provided"}}, tmp_path / "run")
    assert right(parts(tmp_path / "run"))[0][""] >= 30


def test_a_run_is_planned_and_shown_with_its_pictures(house: Path) -> None:
    planned = shown(xner_ray.plan(house / "recipe.yaml"))
    assert "tiny-clip is a test model" in planned and "image.pillow" in planned and "image_labels" in planned
    assert "labels weighed against pictures: tiny-clip" in (house / "run/README.md").read_text()
    assert "image" in shown(xner_ray.status(house / "run"))
    assert inspect.sample(house / "run", LANG, 1)[0]["image"] == "jordan-per.png"
