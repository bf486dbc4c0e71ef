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


def test_files_of_strangers_are_read_and_written_whole(tmp_path: Path) -> None:
    """Lines end with line feeds alone, halves of surrogate pairs can be written, and what is no object is said."""
    rows = [{"caption": "a\u2028b\x85c\x0b"}, {"caption": "\ud800 é"}]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows).replace("\\u2028", "\u2028"), "utf-8"
    )
    assert _run(tmp_path / "a.jsonl", tmp_path / "b.jsonl").returncode == 0
    made = [json.loads(line) for line in (tmp_path / "b.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [row["shuffled"] for row in made] == [row["caption"] for row in rows[::-1]]
    for line, said in ((b"{", "line 2 is no JSON"), (b"[1]", "line 2 is no object"), (b"\xff", "line 2 is no JSON")):
        (tmp_path / "a.jsonl").write_bytes(b'{"caption": "c"}\n' + line)
        done = _run(tmp_path / "a.jsonl", tmp_path / "c.jsonl")
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
