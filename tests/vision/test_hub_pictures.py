"""Pictures of data sets on the hub, against a hub on loopback: inside tables, as `datasets` writes them, and files."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer, serving_data
from pictures import plain

from xner_ray.read.index.build import build_index
from xner_ray.read.inputs import picture_folders, shared_folders
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.load import load_recipe
from xner_ray.vision.loader import Loader

DATA = "hf://datasets/owner/ner"
SPANS = [{"start": 0, "end": 3, "label": "PER"}]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    yield from serving_data(tmp_path, monkeypatch)


def _flags(path: str) -> dict[str | None, str]:
    """Return what comes of the references of an input."""
    recipe = load_recipe({"input": {"path": path, "columns": {"image": "image"}}, "targets": ["swh_Latn"]})
    index = build_index(recipe)
    plan = ReadPlan(recipe, index.extra, shared_folders(recipe))
    images = pa.concat_tables(read_unit(unit, plan) for unit in index.units).column("image").to_pylist()
    (folders,) = picture_folders(recipe).values()
    loader = Loader.of(recipe.input, *folders, side=24)
    found = {one.reference: str(one.fault.flag) if one.fault else "used" for one in loader.load(filter(None, images))}
    return {image: found.get(image, "") for image in images}


def test_pictures_inside_tables_of_the_hub(server: HubServer) -> None:
    cells = [{"bytes": plain("red"), "path": "a.png"}, {"bytes": b"none", "path": "b.png"}, None]
    table = pa.table(
        {
            "text": ["Ada waves ."] * 3,
            "spans": [SPANS] * 3,
            "image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1)
    server.put("datasets/owner/ner", {"data/train-00000-of-00001.parquet": sink.getvalue()})
    name = "train-00000-of-00001.parquet"
    assert _flags(DATA) == {f"{name}#0": "used", f"{name}#1": "image_refused", None: ""}


def test_pictures_beside_lines_of_the_hub(server: HubServer) -> None:
    references = [
        "img/a.png",
        "img/no.png",
        "../../other/secret.png",
        "../../../../x.png",
        "hf://datasets/owner/other/b.png",
    ]
    lines = [json.dumps({"text": "Ada waves .", "spans": SPANS, "image": one}) + "\n" for one in references]
    files = {"data/train.jsonl": "".join(lines).encode(), "data/img/a.png": plain("red")}
    server.put("datasets/owner/ner", files)
    server.put("datasets/owner/other", {"secret.png": plain("blue"), "b.png": plain("blue")})
    refused = dict.fromkeys(references[2:], "image_refused")
    assert _flags(f"{DATA}/data/train.jsonl") == {"img/a.png": "used", "img/no.png": "image_missing", **refused}
