"""Two `project` commands that begin at once on one folder: one run and one refusal."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from given_files import write_recipe, write_sentences
from s3_server import S3Server

N_ROWS, ROUNDS = 150, 3
_CODE = """
import signal, sys
import xner_ray.commands.project
from xner_ray.__main__ import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""


def _recipe(folder: Path) -> Path:
    write_sentences(folder, N_ROWS)
    # The run lasts for longer than the other waits for a lock that somebody only looks at
    (folder / "slow.py").write_text(
        "import time\ndef slow(row, entity, candidates):\n    time.sleep(0.01)\n    return [0.0] * len(candidates)\n"
    )
    engine = {"unit_rows": 10, "executor": "inline"}
    return write_recipe(folder / "recipe.yaml", evidence={"plugin": "slow.py"}, engine=engine)


def _together(recipe: Path, run: str) -> None:
    """Begin twice at once: one ends with 0, the other is refused by what the first holds."""
    command = [sys.executable, "-c", _CODE, "project", str(recipe), run]
    drivers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "300"},
        )
        for _ in range(2)
    ]
    for driver in drivers:
        assert driver.stdout is not None and driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("\n")
        driver.stdin.flush()
    ended = sorted((driver.communicate()[1], driver.returncode) for driver in drivers)
    opening = f"project {recipe} {run}: make the data set of RECIPE in RUN ...\n"
    (first, done), (message, refused) = [(said.removeprefix(opening), status) for said, status in ended]
    assert (first, done, refused) == ("", 0, 2), ended
    assert "another xner-ray works in this folder" in message and len(message.splitlines()) == 1


def _rounds(
    recipe: Path, place: Callable[[int], str], digest: Callable[[str], str], halve: Callable[[str], int]
) -> None:
    _together(recipe, place(0))
    expected = digest(place(0))
    for number in range(1, ROUNDS):
        _together(recipe, place(number))
        assert digest(place(number)) == expected
    for _ in range(ROUNDS):
        assert halve(place(0)) > 2
        _together(recipe, place(0))
        assert digest(place(0)) == expected


@pytest.mark.long
def test_on_a_disk(tmp_path: Path) -> None:
    def digest(run: str) -> str:
        files = sorted(Path(run, "data").rglob("*.parquet"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def halve(run: str) -> int:
        """Leave the half of a run, as after a kill."""
        Path(run, "_run/SEALED").unlink()
        parts = sorted(Path(run, "_run/parts").rglob("*.parquet"))[::2]
        for path in [*parts, *Path(run, "data").rglob("*.parquet")]:
            path.unlink()
        return len(parts)

    _rounds(_recipe(tmp_path), lambda number: str(tmp_path / f"run{number}"), digest, halve)


@pytest.mark.long
def test_on_an_object_store(tmp_path: Path, s3: S3Server) -> None:
    def named(run: str, part: str) -> list[str]:
        prefix = "/" + run.partition("://")[2].partition("?")[0] + part
        return sorted(path for path in s3.objects if path.startswith(prefix) and path.endswith(".parquet"))

    def digest(run: str) -> str:
        assert not any("LOCK" in path for path in s3.objects)
        return hashlib.sha256(b"".join(s3.objects[path][0] for path in named(run, "/data/"))).hexdigest()

    def halve(run: str) -> int:
        with s3.lock:
            parts = named(run, "/_run/parts/")[::2]
            sealed = "/" + run.partition("://")[2].partition("?")[0] + "/_run/SEALED"
            for path in [*parts, *named(run, "/data/"), sealed]:
                del s3.objects[path]
        return len(parts)

    _rounds(_recipe(tmp_path), lambda number: s3.uri(f"bucket/run{number}"), digest, halve)
