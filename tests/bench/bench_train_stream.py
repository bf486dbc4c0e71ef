"""A training over a run of millions of rows: the time until the first step, and each worker's memory.

    python tests/bench/bench_train_stream.py [--rows 200000] [--workers 1] [--seconds 60] [--s3] [--folder DIR]
    python tests/bench/bench_train_stream.py --rows 3000000 --workers 2 --seconds 600     # the whole

Makes a finished run of so many sentences of 20 made-up words with two entities each, all different, and trains the
built-in student on it by the command line, until `--seconds` after the first step, when it is ended. Baseline in the
same run: the bytes of the sentences as one table, which every worker would hold. Prints when the first line and the
first step came, the rates, and the largest resident memory of each worker, polled ten times a second. --folder: where
the run is made and kept, so that it serves again. --s3: the run is read from an S3 server on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import pyarrow as pa  # noqa: E402

from xner_ray.data.row import OK, ROW  # noqa: E402
from xner_ray.read.index.units import unit_name  # noqa: E402
from xner_ray.recipe.load import load_recipe  # noqa: E402
from xner_ray.run import parts as part_files  # noqa: E402
from xner_ray.run import publish  # noqa: E402
from xner_ray.run.folder import RunFolder  # noqa: E402

LANG, UNIT, WORDS, VOCABULARY = "swh_Latn", 2048, 20, 50_000


class _Unit(NamedTuple):
    name: str
    lang: str
    split: str
    n_rows: int


def vocabulary() -> pa.Array:
    drawn = np.random.default_rng(0)
    syllables = [c + v for c in "bcdfghjklmnpqrstvwyz" for v in "aeiou"]
    made = {"".join(drawn.choice(syllables, drawn.integers(1, 5))) for _ in range(2 * VOCABULARY)}
    return pa.array(sorted(made)[:VOCABULARY])


def unit_table(start: int, n: int, words: pa.Array) -> pa.Table:
    drawn = np.random.default_rng([1, start])
    ids = np.minimum(drawn.zipf(1.3, n * WORDS), len(words)) - 1
    ids[::WORDS] = (start + np.arange(n)) % len(words)  # with the next word, no sentence twice
    ids[1::WORDS] = (start + np.arange(n)) // len(words)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * WORDS)
    pairs = pa.array(np.arange(n + 1, dtype=np.int32) * 2)
    at = np.stack([drawn.integers(2, 9, n), drawn.integers(10, 18, n)], axis=1).astype(np.int32).ravel()
    length = drawn.integers(1, 3, 2 * n).astype(np.int32)
    labels = pa.array(np.array(["PER", "LOC", "ORG"], dtype=object)[drawn.integers(0, 3, 2 * n)].tolist())
    cells = {"start": at, "end": at + length, "label": labels}
    spans = {**cells, "score": np.round(drawn.random(2 * n), 4).astype(np.float32), "source": np.tile([0, 1], n)}
    columns: dict[str, Any] = {
        "row": np.arange(start, start + n),
        "id": pa.array([f"s{number}" for number in range(start, start + n)]),
        "split": pa.array(["train"] * n),
        "lang": pa.array([LANG] * n),
        "tokens": pa.ListArray.from_arrays(offsets, words.take(pa.array(ids))),
        "spans": _lists(pairs, spans, ROW.field("spans").type),
        "complete": pa.array([True] * n),
        "status": pa.array([OK] * n),
        "flags": pa.array([[]] * n, ROW.field("flags").type),
    }
    return pa.table([pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in ROW], ROW)


def _lists(offsets: pa.Array, fields: dict[str, Any], kind: pa.ListType) -> pa.Array:
    struct = kind.value_type
    arrays = [
        pa.array(fields[struct.field(number).name], struct.field(number).type) for number in range(struct.num_fields)
    ]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(struct)), type=kind)


def make_run(path: str, n_rows: int) -> None:
    folder, words = RunFolder(path), vocabulary()
    recipe = load_recipe({"input": {"path": "/nowhere"}, "targets": [LANG]})
    folder.begin(recipe, {}, b"", 100)
    units, paths = [], {}
    for start in range(0, n_rows, UNIT):
        n = min(UNIT, n_rows - start)
        unit = _Unit(unit_name(LANG, start), LANG, "train", n)
        paths[unit.name] = folder.path("_run", "parts", "0001", f"{unit.name}.parquet")
        part_files.write_part(paths[unit.name], unit_table(start, n, words), {})
        units.append(unit)
    files = publish.plan_files(units, paths, ["PER", "LOC", "ORG"], rows_per_file=100_000, split_incomplete=False)
    publish.seal(folder.root, files, {})


def watch(driver: psutil.Process, peaks: dict[int, int], ended: threading.Event) -> None:
    while not ended.wait(0.1):
        with suppress(psutil.NoSuchProcess):
            for child in driver.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "RayTrainWorker" in child.name() or "RayTrainWorker" in " ".join(child.cmdline()):
                        peaks[child.pid] = max(peaks.get(child.pid, 0), child.memory_info().rss)


def train(run: str, folder: Path, options: argparse.Namespace) -> None:
    recipe = {
        "data": [{"run": run}],
        "fit": {"epochs": 1},
        "resources": {"workers": options.workers, "cpus": 0.5, "threads": 1},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    command = [sys.executable, "-m", "xner_ray", "train", str(folder / "recipe.yaml"), str(folder / "model"), "--fresh"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    began, peaks, ended = time.monotonic(), dict[int, int](), threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    threading.Thread(target=watch, args=(psutil.Process(process.pid), peaks, ended), daemon=True).start()
    end = timer = None
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{time.monotonic() - began:7.1f} s  {line.rstrip()}", flush=True)
        if "first step is done" in line:
            end = time.monotonic() - began
            timer = threading.Timer(options.seconds, process.terminate)
            timer.start()
    process.wait()
    ended.set()
    if timer is not None:
        timer.cancel()
    print(f"first step after {end:.1f} s" if end is not None else "no step was made")
    print("largest memory of each worker: " + ", ".join(f"{peak / 1e9:.2f} GB" for peak in peaks.values()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = options.folder or Path(name)
        run = home / f"run_{options.rows}"
        if not RunFolder(str(run)).is_run():
            began = time.monotonic()
            make_run(str(run), options.rows)
            print(f"made a run of {options.rows:,} rows in {time.monotonic() - began:.0f} s")
        one = unit_table(0, UNIT, vocabulary()).select(["tokens", "spans", "id", "lang", "row"])
        print(f"as one table the sentences are {one.nbytes / UNIT * options.rows / 1e9:.2f} GB")
        place = str(run)
        if options.s3:
            from s3_server import S3Server

            server = S3Server()
            for file in run.rglob("*"):
                if file.is_file() and "parts" not in file.parts:
                    server.objects[f"/bucket/run/{file.relative_to(run)}"] = file.read_bytes(), time.time()
            place = server.uri("bucket/run")
            os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
        train(place, Path(name), options)


if __name__ == "__main__":
    main()
