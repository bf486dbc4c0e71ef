"""The engine around the models: what it costs a row, and how it scales when the models' work is only waited for.

    python tests/bench/bench_scale.py empty [--rows 200000]        rows per second with stages that do nothing
    python tests/bench/bench_scale.py workers [--workers 1,2,4,8,16,32,64] [--units 6] [--seconds 10]
    python tests/bench/bench_scale.py memory [--rows 200000,2000000] [--unit-rows 4096]
    python tests/bench/bench_scale.py encoder [--pairs 5000]       the real encoder in a process, and through the engine
    python tests/bench/bench_scale.py plot FILE                    docs/scale.svg from what the others appended to FILE

Everything but the stages is the real run: Parquet input with text, words, labels and given links, reading, Arrow
through Ray, the whole schema, accounting, part files, sealing. Times come from the files that a run publishes: from its
first part on, so that the start of Ray and of the workers is left out. Workers that only wait import no torch. With
`--log FILE` the figures are appended as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import xner_ray
from xner_ray import engine
from xner_ray.projection import WRITES
from xner_ray.stage import Stage

ROOT = Path(__file__).parents[2]
SENTENCE = "the minister of the interior met Ada Lovelace in Rome on Monday and spoke of work"
WORDS = SENTENCE.split(" ")
TAGS = ["O"] * 6 + ["B-PER", "I-PER", "O", "B-LOC"] + ["O"] * 6


def make_input(folder: Path, n_rows: int) -> dict[str, Any]:
    """A recipe over `n_rows` sentences of 16 words with two entities, their translation and links given."""
    chunk = 100_000
    schema = pa.schema([("id", pa.string()), ("tokens", pa.list_(pa.string())), ("tags", pa.list_(pa.string()))])
    with (
        pq.ParquetWriter(folder / "in.parquet", schema) as given,
        pq.ParquetWriter(folder / "out.parquet", schema.remove(2)) as target,
        open(folder / "links.txt", "w", encoding="utf-8") as links,
    ):
        for start in range(0, n_rows, chunk):
            n = min(chunk, n_rows - start)
            ids = pa.array([f"row-{start + number}" for number in range(n)])
            words = pa.array([[*WORDS[:-1], f"w{number % 97}"] for number in range(n)])
            given.write_table(pa.table([ids, words, pa.array([TAGS] * n)], schema=schema))
            target.write_table(pa.table([ids, words], schema=schema.remove(2)))
            links.write((" ".join(f"{place}-{place}" for place in range(len(WORDS))) + "\n") * n)
    return {
        "input": {
            "path": str(folder / "in.parquet"),
            "lang": "eng_Latn",
            "columns": {"tags": "tags"},
            "parallel": {"spa_Latn": str(folder / "out.parquet")},
            "links": str(folder / "links.txt"),
        },
        "targets": ["spa_Latn"],
        "align": {"backend": "provided"},
        "match": {"prior": "none"},
    }


def waiting(seconds: float) -> type[engine.WritingWorker]:
    """Workers whose stage waits as long as a model would compute and fills what matching fills."""

    class Waiting(engine.WritingWorker):
        def load(self, name: str) -> Stage:
            return Empty(name, seconds)

    class Empty:
        tokens = micro_batch_tokens = 0
        model_seconds = 0.0
        recall = None

        def __init__(self, name: str, wait: float) -> None:
            self.name, self.wait = name, wait

        def __call__(self, table: pa.Table) -> pa.Table:
            time.sleep(self.wait)
            if self.name == "match":
                values = {"complete": True, "optimal": True, "objective": 0.0, "solver": "none"}
                for column in WRITES:
                    field = table.schema.field(column)
                    value = [] if pa.types.is_list(field.type) else values.get(column)
                    cells = pa.array([value], field.type)
                    table = table.set_column(
                        table.schema.get_field_index(column), field, pa.repeat(cells[0], len(table))
                    )
            return table

    return Waiting


@contextmanager
def memory(seconds: float = 0.2) -> Iterator[dict[str, float]]:
    """Highest resident memory of this process (the driver) and of one worker meanwhile, in MB."""
    most = {"driver": 0.0, "worker": 0.0}
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(seconds):
            most["driver"] = max(most["driver"], me.memory_info().rss / 1e6)
            for process in psutil.process_iter(["name", "cmdline", "memory_info"]):
                if process.info["memory_info"] and "MapWorker" in " ".join(process.info["cmdline"] or []):
                    most["worker"] = max(most["worker"], process.info["memory_info"].rss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def times(run: Path) -> tuple[list[float], float]:
    """When each part was published, in order, and when the run was sealed."""
    parts = sorted(path.stat().st_mtime for path in (run / "_run/parts").rglob("*.parquet"))
    return parts, (run / "_run/SEALED").stat().st_mtime


def empty(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make_input(folder, options.rows)
        engine.WORKERS = (engine.Worker, waiting(0.0))
        recipe["engine"] = {"unit_rows": options.unit_rows}
        started = time.perf_counter()
        report = xner_ray.project(recipe, folder / "run")
        wall = time.perf_counter() - started
        assert report["rows"] == {"read": options.rows, "emitted": options.rows, "rejected": 0}
        parts, sealed = times(folder / "run")
        rows = options.rows - options.unit_rows
        made, whole = rows / (parts[-1] - parts[0]), rows / (sealed - parts[0])
        print(f"{options.rows:,} rows in {len(parts)} units of {options.unit_rows:,}, empty stages")
        print(
            f"parts {made:,.0f} rows/s; parts and seal {whole:,.0f} rows/s; start-up {wall - (sealed - parts[0]):.1f} s"
        )
        log(options, "empty", rows=options.rows, parts=made, whole=whole)


def workers(options: argparse.Namespace) -> None:
    counts = [int(number) for number in options.workers.split(",")]
    print(f"units of {options.unit_rows:,} rows, {options.seconds:g} s each, {options.units} a worker\n")
    print("| workers | units/s | rows/s | efficiency | worker MB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in counts:
        n_units = options.units * count
        with tempfile.TemporaryDirectory() as name, cpus(count), memory() as most:
            folder = Path(name)
            recipe = make_input(folder, n_units * options.unit_rows)
            recipe["engine"] = {"unit_rows": options.unit_rows, "address": "local"}
            for section in ("align", "match"):
                recipe.setdefault(section, {}).update(workers=count, cpus=0.9)
            engine.WORKERS = (engine.Worker, waiting(options.seconds))
            xner_ray.project(recipe, folder / "run")
            parts, _ = times(folder / "run")
        # Steady: without the first unit of each worker and without the last, when some have nothing left to do.
        steady = parts[count - 1 : len(parts) - count]
        rate = (len(steady) - 1) / (steady[-1] - steady[0])
        efficiency = rate * options.seconds / count
        print(
            f"| {count} | {rate:.2f} | {rate * options.unit_rows:,.0f} | {efficiency:.3f} | {most['worker']:.0f} |",
            flush=True,
        )
        log(options, "workers", workers=count, rate=rate * options.unit_rows, efficiency=efficiency)


@contextmanager
def cpus(count: int) -> Iterator[None]:
    """A Ray here that believes in enough CPUs for `count` workers that only wait."""
    ray.init(address="local", num_cpus=count + 2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def memories(options: argparse.Namespace) -> None:
    print("| rows | units | rows/s | driver MB | driver MB at start | worker MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_rows in [int(number) for number in options.rows.split(",")]:
        # In a process of its own, or the second would begin with what the first has left.
        if (child := os.fork()) == 0:
            one_memory(n_rows, options)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def one_memory(n_rows: int, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make_input(folder, n_rows)
        recipe["engine"] = {"unit_rows": options.unit_rows}
        engine.WORKERS = (engine.Worker, waiting(0.0))
        with engine.cluster("local"):
            before = psutil.Process().memory_info().rss / 1e6
            with memory() as most:
                xner_ray.project(recipe, folder / "run")
        parts, sealed = times(folder / "run")
        rate = n_rows / (sealed - parts[0])
        figures = f"{rate:,.0f} | {most['driver']:.0f} | {before:.0f} | {most['worker']:.0f}"
        print(f"| {n_rows:,} | {len(parts):,} | {figures} |", flush=True)
        log(options, "memory", rows=n_rows, units=len(parts), driver=most["driver"], worker=most["worker"], rate=rate)


def log(options: argparse.Namespace, kind: str, **figures: float) -> None:
    if options.log:
        with open(options.log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **figures}) + "\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {"empty": empty, "workers": workers, "memory": memories}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", default="empty", choices=COMMANDS)
    parser.add_argument("--rows", default=None)
    parser.add_argument("--unit-rows", type=int, default=4096)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--log", default=None)
    options = parser.parse_args(arguments)
    if options.command == "empty":
        options.rows = int(options.rows or 200_000)
    else:
        options.rows = options.rows or "200000,2000000"
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
