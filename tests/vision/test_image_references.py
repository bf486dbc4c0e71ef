"""References of pictures, and captions, through translation and projection: unchanged, and fed back to the next run."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ambiguous import parts
from students import training

import xner_ray
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder
from xner_ray.train.sources import load

JOBS = Path(__file__).parents[2] / "jobs"
PICTURES = JOBS / "data" / "pictures"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Rows of the pictures set with a caption, in a file; by id the reference and the caption."""
    folder = tmp_path_factory.mktemp("references")
    lines = [json.loads(line) for line in (PICTURES / "pictures.jsonl").read_text("utf-8").splitlines()[:14]]
    for n, line in enumerate(lines):
        line["caption"] = f"caption {n}, \t[x] <b>"
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"": (str(folder / "a.jsonl"), ""), **{line["id"]: (line["photo"], line["caption"]) for line in lines}}


def _project(given: dict[str, tuple[str, str]], run: Path, *overrides: str) -> pa.Table:
    own = [f"input.path={given[''][0]}", f"input.images={{roots: ['{PICTURES}']}}", "input.carry=[caption]"]
    xner_ray.project(JOBS / "photos.yaml", run, overrides=["engine.executor=inline", *own, *overrides])
    return parts(run)


@pytest.mark.parametrize("how", ["match", "marker", "back_translate"])
def test_translated_and_projected_rows_have_the_references_and_captions_of_their_sentences(
    given: dict[str, tuple[str, str]], tmp_path: Path, how: str
) -> None:
    overrides = {
        "match": (),
        "marker": ("projector=marker",),
        "back_translate": ("back_translate={engine: nllb, model: tiny-nllb}",),
    }
    table = _project(given, tmp_path / "run", *overrides[how])
    assert set(table.column("lang").to_pylist()) == {"swh_Latn", "spa_Latn"} and table.num_rows == 2 * (len(given) - 1)
    for row in table.to_pylist():
        assert (row["image"], row["caption"]) == given[row["id"]], row["status"]


def test_a_projected_run_teaches_a_student_with_captions_and_gives_its_pictures_to_the_next_run(
    given: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    table = _project(given, tmp_path / "run")
    taught, _ = load(training({"run": str(tmp_path / "run")}, model={"context": "caption"}), "data")
    accepted = [row for row in table.to_pylist() if row["status"] == "ok"]
    assert sorted(taught.column("context").to_pylist()) == sorted(row["caption"] for row in accepted)

    back: dict[str, Any] = load_recipe(JOBS / "photos.yaml").model_dump(
        mode="json", include={"image": {"engine", "model", "prompts", "weight", "slope"}}
    )
    back["input"] = {
        "path": str(tmp_path / "run" / "data" / "spa_Latn"),  # whose source side is read
        "format": "run",
        "lang": "eng_Latn",
        "columns": {"image": "image"},
        "images": {"roots": [str(PICTURES)]},
    }
    back |= {"targets": ["swh_Latn"], "translate": {"engine": "nllb", "model": "tiny-nllb"}}
    report = xner_ray.project({**back, "engine": {"executor": "inline"}}, tmp_path / "back")
    found = {row["id"]: row for row in parts(tmp_path / "back").to_pylist()}
    wanted = {row["id"]: row for row in accepted if row["lang"] == "spa_Latn"}
    assert found.keys() == wanted.keys()
    for name, row in found.items():
        one = wanted[name]
        assert [row[key] for key in ("image", "image_id", "caption")] == [
            one[key] for key in ("image", "image_id", "caption")
        ]
        ends = [[(span["start"], span["end"]) for span in each["source_spans"]] for each in (row, one)]
        assert ends[0] == ends[1]
    assert report["images"]["used"] == sum(row["image_id"] is not None for row in wanted.values()) > 5
    assert RunFolder(str(tmp_path / "back")).recipe().input.format == "run"
