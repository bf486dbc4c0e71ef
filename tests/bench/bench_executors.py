"""Both executors on the recipes of jobs/: the same bytes, and the time of each.

    python tests/bench/bench_executors.py [--limit 60] [--only quickstart_nllb ...]

A recipe that needs a hub or a GPU runs on the test model. Ray is the baseline; a ratio above 1 says how many times
faster the run in this process was. Ray is started before the first run and its start printed by itself, so a ratio is
that of actors and units alone. Exit status 1 if any bytes differ.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))
from published import digests  # noqa: E402

import xner_ray  # noqa: E402
from xner_ray.engine.ray_data import RayExecutor  # noqa: E402

JOBS = ROOT / "jobs"
TINY = ["translate.model=tiny-nllb", "translate.gpus=0", "align.gpus=0", "align.encoder=builtin", "align.layer=auto"]
RECIPES: dict[str, list[str]] = {  # recipe -> what lets it run here
    "quickstart": [],
    "quickstart_nllb": [],
    "nllb": [*TINY, "targets=[swh_Latn]", "output.max_reject_rate=1"],
    "own_data": [],
    "spelling": [],
    "easyproject": [],
    "back_translation": [],
    "translate_test": [],
    "pud": [],
}


def run(recipe: str, executor: str, limit: int, folder: Path) -> tuple[float, dict[str, Any]]:
    """Project a recipe by an executor; return the seconds and what was published."""
    started = time.perf_counter()
    overrides = [*RECIPES[recipe], f"input.limit={limit}", "engine.unit_rows=20", f"engine.executor={executor}"]
    xner_ray.project(JOBS / f"{recipe}.yaml", folder / recipe / executor, overrides=overrides)
    return time.perf_counter() - started, digests(folder / recipe / executor)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    given = parser.parse_args()
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        inline = {recipe: run(recipe, "inline", given.limit, Path(folder)) for recipe in given.only}
        started = time.perf_counter()
        with RayExecutor.at("local"):
            print(f"Ray started in {time.perf_counter() - started:.1f} s")
            print(f"{'recipe':<20} {'inline s':>9} {'Ray s':>9} {'ratio':>6}  bytes")
            for recipe, (here, published) in inline.items():
                there, others = run(recipe, "ray", given.limit, Path(folder))
                same = published == others
                differing += [] if same else [recipe]
                print(f"{recipe:<20} {here:9.1f} {there:9.1f} {there / here:6.1f}  {'same' if same else 'DIFFERENT'}")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
