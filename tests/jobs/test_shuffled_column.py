"""jobs/shuffled_column.py: each text in another row, the same ones, and nothing else changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from given_files import write

SCRIPT = Path(__file__).parents[2] / "jobs" / "shuffled_column.py"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_each_text_stands_in_another_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"s{n}", "caption": f"Ü{n}" if n % 3 else None} for n in range(40)]
    write(tmp_path / "a.jsonl", rows)
    assert _run(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--seed", 1).returncode == 0
    made = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text("utf-8").splitlines()]
    assert [{key: row[key] for key in ("text", "caption")} for row in made] == rows
    assert Counter(row["shuffled"] for row in made) == Counter(row["caption"] for row in made)
    assert all(
        (row["shuffled"] is None) if row["caption"] is None else row["shuffled"] != row["caption"] for row in made
    )
    assert _run(tmp_path / "a.jsonl", tmp_path / "c.jsonl", "--seed", 1).returncode == 0
    assert (tmp_path / "c.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "s", "caption": "c", "shuffled": "x"}])
    for arguments, said in [
        (("--column", "blip"), "no row has a text under 'blip'"),
        ((), "has a column 'shuffled' alre"),
    ]:
        done = _run(tmp_path / "a.jsonl", tmp_path / "b.jsonl", *arguments)
        assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "b.jsonl").exists()
