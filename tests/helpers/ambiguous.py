"""The ambiguous set as the input of runs that load no aligner: each name with pictures of three kinds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from given_files import over_links
from rich.console import Console

import xner_ray
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder

FOLDER = Path(__file__).parents[2] / "jobs" / "data" / "ambiguous"
LANG = "spa_Latn"
PROMPTS = {
    "PER": ["a photo of {}, a person", "a portrait of {}"],
    "LOC": ["a photo of {}, a place", "a map of {}"],
    "ORG": ["a photo of {}, an organisation", "the logo of {}"],
}
IMAGE = {
    "engine": "clip",
    "model": "tiny-clip",
    "prompts": PROMPTS,
    "weight": 1,
    "slope": 2,
    "depicted": {"PER": 0.65, "LOC": 0.6, "ORG": 0.6},
}
OWL = {**IMAGE, "engine": "owl", "model": "tiny-owl"}


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "ambiguous.jsonl").read_text("utf-8").splitlines()]


def four_ways() -> list[dict[str, Any]]:
    """Return each row with its picture, a plain one, none, and one of another kind."""
    given = rows()
    found = []
    for way, photo in {
        "true": lambda n: given[n]["photo"],
        "plain": lambda n: f"plain-{n % 3}.png",
        "none": lambda n: None,
        "other": lambda n: given[n - n % 3 + (n + 1) % 3]["photo"],
    }.items():
        found += [{**row, "id": f"{row['id']}/{way}", "photo": photo(n)} for n, row in enumerate(given)]
    return found


def written(folder: Path, given: Iterable[Mapping[str, Any]], **sections: Any) -> dict[str, Any]:
    """Write rows, their pictures, the same text as its translation, and links; return a recipe over them."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in FOLDER.glob("*.png"):
        shutil.copy(picture, folder)
    given = list(given)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    texts = [row["text"] for row in given]
    (folder / "es.txt").write_text("".join(f"{text}\n" for text in texts))
    counts = [len(text.split()) for text in texts]
    (folder / "links.txt").write_text("".join(" ".join(f"{n}-{n}" for n in range(count)) + "\n" for count in counts))
    own = {"columns": {"image": "photo"}, **sections.pop("input", {})}
    files = {"path": "a.jsonl", "parallel": {LANG: "es.txt"}, "links": "links.txt"}
    where = {
        name: str(folder / path) if isinstance(path, str) else {LANG: str(folder / "es.txt")}
        for name, path in files.items()
    }
    recipe = over_links(**{"targets": [LANG], "engine": {"executor": "inline"}, "image": IMAGE, **sections})
    return recipe | {"input": where | own}


def finished(folder: Path, image: Mapping[str, Any]) -> Path:
    """Return a folder with recipe.yaml and its finished run, all four ways in three units. image: IMAGE or OWL."""
    recipe = written(folder, four_ways(), image=image, engine={"executor": "inline", "unit_rows": 80})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    xner_ray.project(folder / "recipe.yaml", folder / "run")
    return folder


def assert_true_pictures_help(run: Path) -> None:
    """Assert that true pictures help, plain ones do no harm, wrong ones do, and none leave the labels alone."""
    good, changed = right(parts(run))
    assert good["none"] == 20 and changed["none"] == 0
    assert good["true"] >= 30
    assert good["plain"] <= 22 and changed["plain"] <= 8
    assert good["other"] < 20


def shown(printed: Any) -> str:
    """Return what a terminal shows."""
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(printed)
    return console.export_text()


def parts(run: Path) -> pa.Table:
    """Return all rows of a run, in order."""
    found = RunFolder(str(run)).final_parts()
    return pa.concat_tables(part_files.read_part(path) for _, path in sorted(found.items()))


def right(table: pa.Table) -> tuple[Counter[str], Counter[str]]:
    """Return how many rows of each way have the label that their picture's kind is, and how many a changed one."""
    good, changed = Counter[str](), Counter[str]()
    for row in table.to_pylist():
        way = row["id"].partition("/")[2]
        good[way] += row["source_spans"][0]["label"] == json.loads(row["extra"])["kind"]
        changed[way] += "image_relabelled" in (row["flags"] or ())
    return good, changed


def encodings(monkeypatch: Any) -> list[int]:
    """Return a list that gets the number of pictures of every call of the image tower."""
    from xner_ray.vision.towers import Towers

    calls: list[int] = []
    encode: Callable[..., Any] = Towers.of_pictures

    def counted(self: Any, pictures: Any) -> Any:
        calls.append(len(pictures))
        return encode(self, pictures)

    monkeypatch.setattr(Towers, "of_pictures", counted)
    return calls
