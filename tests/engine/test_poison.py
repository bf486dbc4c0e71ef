"""Rows of six kinds that cannot be handled, one in a thousand of each: all of them and no other is rejected."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults import in_stage
from given_files import LINKS, write_recipe

import xner_ray

N_ROWS = 6000
KINDS = {  # row % 1000 -> reason
    7: "malformed",
    131: "bad_utf8",
    257: "bad_token",
    400: "duplicate_id",
    613: "too_long",
    888: "stage_error",
}


def _line(row: int) -> bytes:
    tokens = ["Ada", "met", "Bo", "in", f"Rome{row}"]
    record: dict[str, Any] = {"id": f"r{row}", "tokens": tokens, "tags": ["B-PER", "O", "B-PER", "O", "B-LOC"]}
    kind = KINDS.get(row % 1000)
    if kind == "malformed":
        return b'{"id": "r%d", "tokens": ["Ada", ' % row
    if kind == "bad_utf8":
        return json.dumps(record).encode().replace(b"Ada", b"Ad\xff")
    if kind == "duplicate_id":
        record["id"] = f"r{row - 1}"
    if kind == "too_long":
        record |= {"tokens": ["word"] * 41, "tags": ["O"] * 41}
    return json.dumps(record).encode()


def _translation(row: int) -> str:
    text = f"In Rom{row} traf Ada Bo"
    return text.replace(" traf ", "\u00a0traf ") if KINDS.get(row % 1000) == "bad_token" else text


def _check(row: Mapping[str, Any]) -> None:
    if row["row"] % 1000 == 888:
        raise RecursionError(f"row {row['row']} has no end")


@pytest.mark.slow
def test_all_and_only_the_poison_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"".join(_line(row) + b"\n" for row in range(N_ROWS)))
    (tmp_path / "out.txt").write_text("".join(f"{_translation(row)}\n" for row in range(N_ROWS)))
    (tmp_path / "links.txt").write_text(f"{LINKS}\n" * N_ROWS)
    given = {"path": "in.jsonl", "columns": {"tags": "tags"}, "max_words": 40}
    recipe = write_recipe(tmp_path / "recipe.yaml", input=given, engine={"unit_rows": 512, "executor": "inline"})
    in_stage(monkeypatch, "match", _check)
    report = xner_ray.project(recipe, tmp_path / "run")
    assert report["rejects"] == dict.fromkeys(KINDS.values(), N_ROWS // 1000)
    rejected = [row for path in tmp_path.glob("run/rejects/*/*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["row"]: row["reason"] for row in rejected} == {
        row: KINDS[row % 1000] for row in range(N_ROWS) if row % 1000 in KINDS
    }
    assert all(row["detail"] for row in rejected)
    details = Counter(row["detail"] for row in rejected if row["reason"] == "stage_error")
    assert details["match: RecursionError: row 5888 has no end"] == 1
    rows = [row for path in sorted(tmp_path.glob("run/data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["row"] for row in rows] == [row for row in range(N_ROWS) if row % 1000 not in KINDS]
    assert all(len(row["spans"]) == 3 and not row["flags"] for row in rows)
