"""The engine around the models: what it costs a row, and how it scales when the models' work is only waited for.

    python tests/bench/bench_scale.py empty [--rows 200000]        rows per second with stages that do nothing
    python tests/bench/bench_scale.py workers [--workers 1,2,4,8,16,32,64] [--units 6] [--seconds 10]
    python tests/bench/bench_scale.py memory [--rows 200000,2000000] [--unit-rows 4096]
    python tests/bench/bench_scale.py encoder [--pairs 5120]       the real encoder in a process, and through the engine
    python tests/bench/bench_scale.py plot --log FILE              docs/scale.svg of what `workers --log FILE` logged

Everything but the stages is the real run: Parquet input with text, words, labels and given links, reading, Arrow
through Ray, the whole schema, accounting, part files, sealing. Times come from the files that a run publishes: from its
first part on, so that the start of Ray and of the workers is left out. Workers that only wait import no torch. With
`--log FILE` the figures are appended as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
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
from ray.data import DataContext

import xner_ray
from xner_ray.engine import ray_cluster, ray_data
from xner_ray.engine.guard import run_stage
from xner_ray.engine.stages import build
from xner_ray.match.projection import WRITES
from xner_ray.read.index.build import build_index
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.load import load_recipe
from xner_ray.stage import Stage

ROOT = Path(__file__).parents[2]
SENTENCE = "the minister of the interior met Ada Lovelace in Rome on Monday and spoke of work"
WORDS = SENTENCE.split(" ")
TAGS = ["O"] * 6 + ["B-PER", "I-PER", "O", "B-LOC"] + ["O"] * 6
ENCODER_UNIT_ROWS = 256  # small: at the end one of two workers waits for the other, up to a unit long


def make_input(folder: Path, n_rows: int, *, parallel: bool = True) -> dict[str, Any]:
    """A recipe over `n_rows` sentences of 16 words with two entities; with `parallel`, translation and links given."""
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
    source = {"path": str(folder / "in.parquet"), "lang": "eng_Latn", "columns": {"tags": "tags"}}
    if not parallel:
        return {
            "input": source,
            "targets": ["spa_Latn"],
            "translate": {"model": "tiny-nllb"},
            "match": {"prior": "none"},
        }
    return {
        "input": {
            **source,
            "parallel": {"spa_Latn": str(folder / "out.parquet")},
            "links": str(folder / "links.txt"),
        },
        "targets": ["spa_Latn"],
        "align": {"backend": "provided"},
        "match": {"prior": "none"},
    }


def waiting(seconds: float) -> type[ray_data.WritingWorker]:
    """Workers whose first stage waits as long as a model would compute; each fills what the real one fills."""

    class Waiting(ray_data.WritingWorker):
        def load(self, name: str) -> Stage:
            return Empty(name, seconds if self.name.startswith(name) else 0.0)

    class Empty:
        tokens = micro_batch_tokens = 0
        model_seconds = 0.0

        def __init__(self, name: str, wait: float) -> None:
            self.name, self.wait = name, wait

        def __call__(self, table: pa.Table) -> pa.Table:
            time.sleep(self.wait)
            if self.name == "translate":
                for column in ("text", "tokens", "offsets"):
                    place = table.schema.get_field_index(column)
                    table = table.set_column(place, table.schema.field(place), table.column(f"source_{column}"))
            values = {"complete": True, "optimal": True, "objective": 0.0, "solver": "none"}
            for column in {"align": ("links",), "match": WRITES}.get(self.name, ()):
                field = table.schema.field(column)
                cells = pa.array([[] if pa.types.is_list(field.type) else values.get(column)], field.type)
                place = table.schema.get_field_index(column)
                table = table.set_column(place, field, pa.repeat(cells[0], len(table)))
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
        ray_data.WORKERS = (ray_data.Worker, waiting(0.0))
        recipe["engine"] = {"unit_rows": options.unit_rows, "executor": "ray"}
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
        # A look at all processes costs as much as Ray's own loop, so it is taken seldom
        with tempfile.TemporaryDirectory() as name, cpus(count), memory(5.0) as most:
            folder = Path(name)
            recipe = make_input(folder, n_units * options.unit_rows, parallel=False)
            recipe["engine"] = {"unit_rows": options.unit_rows, "executor": "ray"}
            for section in ("translate", "align", "match"):
                recipe.setdefault(section, {}).update(workers=count, cpus=0.9)
            ray_data.WORKERS = (ray_data.Worker, waiting(options.seconds))
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
    # All at work before the first unit: the start of 64 processes on few cores is no part of a steady state
    DataContext.get_current().wait_for_min_actors_s = 900
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
        recipe["engine"] = {"unit_rows": options.unit_rows, "executor": "ray"}
        ray_data.WORKERS = (ray_data.Worker, waiting(0.0))
        with ray_cluster.cluster("local"):
            before = psutil.Process().memory_info().rss / 1e6
            with memory() as most:
                xner_ray.project(recipe, folder / "run")
        parts, sealed = times(folder / "run")
        rate = n_rows / (sealed - parts[0])
        figures = f"{rate:,.0f} | {most['driver']:.0f} | {before:.0f} | {most['worker']:.0f}"
        print(f"| {n_rows:,} | {len(parts):,} | {figures} |", flush=True)
        log(options, "memory", rows=n_rows, units=len(parts), driver=most["driver"], worker=most["worker"], rate=rate)


def europarl(folder: Path, n_pairs: int) -> dict[str, Any]:
    """A recipe over `n_pairs` real sentence pairs, the quick start's again and again."""
    for side in ("en", "es"):
        blocks = (ROOT / f"jobs/data/europarl.{side}.conll").read_text(encoding="utf-8").strip().split("\n\n")
        chosen = [blocks[(number * 31) % len(blocks)] for number in range(n_pairs)]
        (folder / f"in.{side}.conll").write_text("\n\n".join(chosen) + "\n", encoding="utf-8")
    return {
        "input": {"path": str(folder / "in.en.conll"), "parallel": {"spa_Latn": str(folder / "in.es.conll")}},
        "targets": ["spa_Latn"],
        "target_tag": {"engine": "none"},
        "match": {"prior": "none"},
        "engine": {"unit_rows": ENCODER_UNIT_ROWS, "executor": "ray"},
    }


def in_process(recipe: dict[str, Any], threads: int, share: slice, ready: Any, go: Any, seconds: Any) -> None:
    """Some of the units through the stages, in a process of its own, timed from `go` on."""
    import torch

    torch.set_num_threads(threads)
    loaded = load_recipe({**recipe, "align": {"threads": threads}})
    index = build_index(loaded)
    tables = [read_unit(unit, ReadPlan(loaded, index.extra)) for unit in index.units]
    stages = [build(name, loaded) for name in loaded.stages]
    for stage in stages:
        stage(tables[0].slice(0, 8))
    ready.release()
    go.wait()
    started = time.perf_counter()
    for table in tables[share]:
        for stage in stages:
            table, _ = run_stage(stage, table)
    seconds.put(time.perf_counter() - started)


def encoder(options: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = europarl(folder, options.pairs)
        for label, shares in (
            ("one process, 2 threads", [slice(None)]),
            ("two processes, 1 thread", [slice(0, None, 2), slice(1, None, 2)]),
        ):
            ready, go, seconds = context.Semaphore(0), context.Event(), context.Queue()
            threads = 2 // len(shares)
            processes = [
                context.Process(target=in_process, args=(recipe, threads, share, ready, go, seconds))
                for share in shares
            ]
            for process in processes:
                process.start()
            for _ in processes:
                ready.acquire()
            go.set()
            rates[label] = options.pairs / max(seconds.get() for _ in processes)
            for process in processes:
                process.join()
        xner_ray.project(recipe, folder / "run")
        report = json.loads((folder / "run/report.json").read_text())
        assert report["rows"]["emitted"] == options.pairs
        parts, _ = times(folder / "run")
        # From the first two parts on: until then the workers load the model, one after the other.
        rates["engine, 2 workers, 1 thread"] = (options.pairs - 2 * ENCODER_UNIT_ROWS) / (parts[-1] - parts[1])
    best = max(rate for label, rate in rates.items() if "process" in label)
    print(f"{options.pairs:,} pairs of Europarl, built-in encoder and matching, units of {ENCODER_UNIT_ROWS} rows\n")
    print("| way | pairs/s | of the best in a process |")
    print("| --- | ---: | ---: |")
    for label, rate in rates.items():
        print(f"| {label} | {rate:.1f} | {rate / best:.1%} |")
        log(options, "encoder", way=label, rate=rate, share=rate / best)


def plot(options: argparse.Namespace) -> None:
    """docs/scale.svg: what the runs of `workers` have logged. Needs matplotlib."""
    from matplotlib import pyplot

    found = [json.loads(line) for line in Path(options.log).read_text(encoding="utf-8").splitlines()]
    points = sorted((e["workers"], e["rate"], e["efficiency"]) for e in found if e["kind"] == "workers")
    count, rate, efficiency = zip(*points, strict=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5))
    left.loglog(count, rate, "o-", base=2)
    left.loglog(count, [rate[0] / efficiency[0] / count[0] * n for n in count], "--", color="grey", base=2)
    left.set(xlabel="workers", ylabel="rows per second", title="units of 4,096 rows, 10 s each")
    right.semilogx(count, efficiency, "o-", base=2)
    right.set(xlabel="workers", ylabel="efficiency", ylim=(0, 1.05))
    figure.tight_layout()
    figure.savefig(ROOT / "docs/scale.svg", metadata={"Date": None})


def log(options: argparse.Namespace, kind: str, **figures: Any) -> None:
    if options.log:
        with open(options.log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **figures}) + "\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "empty": empty,
    "workers": workers,
    "memory": memories,
    "encoder": encoder,
    "plot": plot,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", default="empty", choices=COMMANDS)
    parser.add_argument("--rows", default=None)
    parser.add_argument("--unit-rows", type=int, default=4096)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=5120)
    parser.add_argument("--log", default=None)
    options = parser.parse_args(arguments)
    if options.command == "empty":
        options.rows = int(options.rows or 200_000)
    else:
        options.rows = options.rows or "200000,2000000"
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
