"""jobs/photos.yaml runs as it stands, with the tagger's probabilities, in two languages."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ambiguous import parts

import xner_ray

JOB = Path(__file__).parents[2] / "jobs" / "photos.yaml"
pytestmark = pytest.mark.usefixtures("one_thread")


def _right(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many of the entities that the tagger found where gold has one have gold's label."""
    gold = {}
    for part in json.loads(row["extra"])["gold"].split(", "):
        ends, label = part.split()
        gold[ends] = label
    offsets = row["source_offsets"]
    found = [
        (f"{offsets[span['start']]['start']}-{offsets[span['end'] - 1]['end']}", span["label"])
        for span in row["source_spans"]
    ]
    return sum(gold.get(ends) == label for ends, label in found), sum(ends in gold for ends, _ in found)


def test_the_job_with_pictures_runs_as_it_stands(tmp_path: Path) -> None:
    report = xner_ray.project(JOB, tmp_path / "run", overrides=["engine.executor=inline"])
    table = parts(tmp_path / "run")
    images = report["images"]
    assert report["rows"]["rejected"] == 0 and report["flags"]["image_broken"] == 2
    assert images["used"] == images["rows"] - 2 < table.num_rows
    swahili, spanish = (table.filter(pa.compute.equal(table.column("lang"), lang)) for lang in ("swh_Latn", "spa_Latn"))
    for name in ("source_spans", "image_id", "image_evidence", "image_labels", "source_tags"):
        assert swahili.column(name).equals(spanish.column(name)), f"{name} is the same for all languages"
    good, all_of = map(sum, zip(*(_right(row) for row in spanish.to_pylist()), strict=True))
    assert all_of > 90 and good >= 0.97 * all_of
    tags = [cell for row in spanish.column("source_tags").to_pylist() for cell in row]
    assert {cell["tag"] for cell in tags} >= {"O", "B-PER", "I-PER", "B-LOC", "B-ORG", "I-ORG"}
    html = (tmp_path / "run/report.html").read_text()
    assert len(re.findall('<img src="data:image/jpeg;base64,', html)) == images["used"]
