"""SIGKILL at named points of a run in this process. The same command resumes each time.

One run is killed at one point after the other, so that every resume meets what the kills before have left. `make chaos`
kills at random moments, workers of Ray too.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from given_files import write_recipe, write_sentences
from published import digests

import xner_ray

N_ROWS = 60
POINTS = ("part-temporary", "part-renamed", "refined", "two-files", "README.md", "report.json", "SEALED")

_DRIVER = '''
import os, signal, sys
import xner_ray
from xner_ray.engine import inline, second_pass, worker
from xner_ray.run import publish as sealed_files
from xner_ray.storage import files as storage

point, recipe, run = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(worker.PartWriter):
    """Dies with its second part, before or after the rename."""
    made = 0
    def write(self, unit, table, counted):
        Dying.made += 1
        if Dying.made == 2:
            replace = os.replace
            def dying(old, new):
                if point == "part-renamed":
                    replace(old, new)
                die()
            os.replace = dying
        return super().write(unit, table, counted)

seal_file, refine_parts, publish = sealed_files.seal_file, second_pass.refine_parts, storage.publish

def sealing(root, published):
    entry = seal_file(root, published)
    if published.file.endswith("00001-of-00003.parquet"):
        die()
    return entry

def refine(*arguments):
    refine_parts(*arguments)
    die()

def publishing(path, data):
    if point == "SEALED" and path.endswith("SEALED"):
        die()
    publish(path, data)
    if path.endswith("/" + point):
        die()

if point.startswith("part-"):
    inline.PartWriter = Dying
elif point == "refined":
    second_pass.refine_parts = refine
elif point == "two-files":
    sealed_files.seal_file = sealing
else:
    storage.publish = publishing
xner_ray.project(recipe, run)
'''


@pytest.mark.long
def test_a_run_that_is_killed_at_every_point(tmp_path: Path) -> None:
    write_sentences(tmp_path, N_ROWS, bad=11)
    path, run, expected = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "undisturbed"
    output = {"max_reject_rate": 0.5, "rows_per_file": 20}
    write_recipe(path, output=output, engine={"unit_rows": 10, "executor": "inline"})
    report = xner_ray.project(path, expected)
    assert report["units"] == 6
    assert report["rows"] == {"read": N_ROWS, "emitted": N_ROWS - 1, "rejected": 1}

    def state() -> dict[str, int]:
        count = {kind: len(list((run / f"_run/{kind}").rglob("*.parquet"))) for kind in ("parts", "refined")}
        names = ("README.md", "report.json", "_run/SEALED")
        files = len(list(run.glob("data/*/[!.]*.parquet")))
        return {**count, "files": files, **{name: int((run / name).exists()) for name in names}}

    seen = {}
    for point in POINTS:
        killed = subprocess.run(
            [sys.executable, "-c", _DRIVER, point, str(path), str(run)], capture_output=True, text=True
        )
        assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
        seen[point] = state()
    assert seen["part-temporary"]["parts"] < seen["part-renamed"]["parts"] < 6
    assert seen["refined"]["parts"] == 6 and seen["refined"]["refined"] > 0
    assert seen["two-files"]["refined"] == 6 and not seen["two-files"]["README.md"]
    assert 0 < seen["two-files"]["files"] <= 3
    assert seen["README.md"]["README.md"] and not seen["README.md"]["report.json"]
    assert seen["report.json"]["report.json"] and not seen["report.json"]["_run/SEALED"]
    assert not seen["SEALED"]["_run/SEALED"]

    xner_ray.project(path, run)
    assert digests(run) == digests(expected)
    leftovers = [p for p in run.rglob(".*") if p.name != ".lock"]
    assert all(p.name.endswith(".tmp") for p in leftovers), "what a killed writer leaves is hidden and no part"
    assert not any(p.is_relative_to(run / "data") for p in leftovers)
