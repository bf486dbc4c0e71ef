"""Write docs/sizing.md: what `xner-ray plan` computes for 3,000,000 sentences, by recipe and by nodes.

python tests/helpers/sizing_page.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import xner_ray
from xner_ray.report.tables import Table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "sizing.md"
ROWS, PRICE = 3_000_000, 2.5
_FIVE = "targets=[swh_Latn, hau_Latn, yor_Latn, ibo_Latn, zul_Latn]"
_LARGE = [
    *("translate.model=facebook/nllb-200-3.3B", "align.encoder=FacebookAI/xlm-roberta-large", "align.layer=16"),
    *("translate.micro_batch_tokens=null", "align.micro_batch_tokens=null"),
]
_SMALL = ["translate.micro_batch_tokens=null", "align.micro_batch_tokens=null"]
CASES: dict[str, tuple[str, list[str]]] = {
    "NLLB 600M greedy, mBERT": ("nllb", [_FIVE, "translate.beams=1", *_SMALL]),
    "NLLB 600M with 4 beams, mBERT": ("nllb", [_FIVE, *_SMALL]),
    "NLLB 3.3B greedy, XLM-R-large": ("nllb", [_FIVE, "translate.beams=1", *_LARGE]),
    "NLLB 3.3B with 4 beams, XLM-R-large": ("nllb", [_FIVE, *_LARGE]),
}
NODES = ("8 H100 and 192 CPUs", "cpus=192,gpus=8,gpu=H100"), ("8 A100 and 96 CPUs", "cpus=96,gpus=8,gpu=A100")
NODES += (("8 nodes of a L4 and 8 CPUs", "cpus=8,gpus=1,nodes=8,gpu=L4"),)
_HEAD = f"""\
# How large a run is

`xner-ray plan` prints an estimate of any recipe: rows a second by stage, which pool the others wait for, hours, GPU
hours, and the cost where you give a price. It multiplies rates; it runs nothing.

    xner-ray plan jobs/nllb.yaml --offline \\
        --assume cpus=192,gpus=8,memory_gb=2000,gpu=H100,gpu_hour=2.5,rows={ROWS}

`cpus`, `gpus` and `memory_gb` are those of a node, `nodes` their number. `gpu` names the GPU by its published figures,
`gpu_hour` is the price of one, and `rows` puts so many source sentences in the place of the input's, with its words a
sentence. A run's own `engine.price_per_hour`, of the whole cluster, comes before `gpu_hour`.

**Measured or simulated.** Each rate says which it is. Measured ones are in `xner_ray/sizing/rates.toml` with machine,
date and source; they are of one CPU thread, and taken as linear in threads. **No GPU was at hand, so every rate of a
GPU is simulated**: a roofline (`xner_ray/sizing/roofline.py`) over the published bandwidth and 16-bit operations of the
device, of which 60 % and 40 % are taken as reached, 2.5 microseconds a kernel, 12 kernels a layer, the weights read
once a step, the cache of keys and values copied and read, and the projection to the vocabulary. Added are two times of
the host, which were measured: no step of decoding is shorter than the host's part of it (12.7 ms at the depth of the
600M model, greedy), and the device waits while its worker tokenises, checks and links (0.3 ms a row in translation,
0.25 in alignment). Workers that share a GPU (`gpus: 0.5` is two) fill one another's waits, up to what the device can
do: the largest gain there is, since a worker that launches a step's kernels one by one keeps the interpreter, and a
thread of the same process could do nothing meanwhile. Each needs memory for a model and a batch of its own: some 12 GB
for the 600M model; state `micro_batch_tokens` where there is less. Sentences that do not end, scores of beams, and
loading models are left out. Where no rate is known, `plan` says so and gives no estimate.

A sentence has 27.9 words here (Europarl), 1.4 subwords a word in English and 1.8 in the other language.

## 3,000,000 sentences into five languages

15,000,000 rows: each sentence is translated, aligned and matched five times. Prices are an example: {PRICE:g} an hour
for every GPU, in any currency, GPUs alone.
"""
_FOOT = """
A source sentence is encoded once for its five languages, each translation once.

## How busy a GPU is

`python tests/bench/bench_device.py` runs the real stages `translate` and `align` around a simulated H100, whose steps
take the roofline's time and leave the interpreter free. Launching kernels is not simulated, so what a real device waits
for beyond this is the 12.7 ms a step above. With `--before CHECKOUT` the stages of commit 852dcb8, with its own
batches, run each case right before. 2026-12-01, 2,048 rows in units of 1,024, new words in nearly every sentence, 2 CPU
cores that others use too; the host's CPU milliseconds are those of one worker, its share of before is without links:

| a row takes the device | before: busy, rows/s | one worker | two | rows/s of two | host | of before |
|---|---:|---:|---:|---:|---:|---:|
| 4 ms | 74 %, 185 | 86 % | 94 % | 230 | 0.67 ms | 0.41 |
| 1 ms | 47 %, 458 | 66 % | 76 % | 747 | 0.54 ms | 0.35 |
| NLLB 600M greedy, XLM-R-large | 85 %, 105 | 84 % | 90 % | 345 | 0.52 ms | 0.29 |
| NLLB 600M with 4 beams, XLM-R-large | 91 %, 60 | 95 % | 98 % | 83 | 0.56 ms | 0.28 |
| NLLB 3.3B greedy, XLM-R-large | 95 %, 34 | 94 % | 97 % | 104 | 0.59 ms | 0.30 |
| XLM-R-large alone, 0.1 ms | 12 %, 1,478 | 31 % | 50 % | 3,431 | 0.31 ms | 0.30 |

The old code kept the device busy with small batches: 600M greedy is 3.3 times as fast as before. Host CPU by part,
600M greedy: the encoder's host part 0.10 ms (0.48 before), tokenising, tensors and decoding 0.09 (0.40), health checks
0.13 (0.38), words 0.05 (0.11), tables 0.06 (0.07), links, which are the device's on a GPU, 0.10 (0.11). Two workers on
two busy cores cost a quarter more each.

## Alignment alone

Text that is given is not translated. 3,000,000 pairs, the built-in encoder (`jobs/quickstart.yaml`):
"""
_LAST = """
## The whole estimate of one of them

`xner-ray plan jobs/nllb.yaml --offline --assume cpus=192,gpus=8,gpu=H100,gpu_hour=2.5,rows=3000000`
with `--set 'targets=[swh_Latn, hau_Latn, yor_Latn, ibo_Latn, zul_Latn]' --set translate.beams=1`:

"""
_MADE = """
Made by `python tests/helpers/sizing_page.py --write`; a test compares. Your own first hour replaces all of this:
`xner-ray status RUN` says rows a second and the cost so far, from the first finished units on.
"""


def estimate(recipe: str, overrides: list[str], assume: str) -> Table:
    """Return the estimate of `xner-ray plan`."""
    shown: Any = xner_ray.plan(
        ROOT / f"jobs/{recipe}.yaml", overrides=overrides, assume=f"{assume},rows={ROWS},gpu_hour={PRICE}", offline=True
    )
    return next(each for each in shown.renderables if isinstance(each, Table) and each.title == "Estimate")


def _cells(table: Table) -> list[str]:
    """Return rows a second, time, GPU hours, cost, what it waits for, and the kinds of the rates."""
    sentence = table.notes[0]
    _, _, rest = sentence.partition(" rows at ")
    rate, _, rest = rest.partition(" rows/s: ")
    found, _, rest = rest.partition("; it waits for ")
    time, *more = found.split(", ")
    gpu_hours = next((part.removesuffix(" GPU hours") for part in more if part.endswith("GPU hours")), "-")
    cost = next((part.removeprefix("cost ").partition(" (")[0] for part in more if part.startswith("cost ")), "-")
    waits = rest.partition(";")[0]
    kinds = {row.cells[0]: row.cells[1].partition(",")[0] for row in table.rows}
    return [rate, time, gpu_hours, cost, waits, kinds[waits.partition(" + ")[0]]]


def _table(first: str, rows: list[list[str]]) -> str:
    heads = [first, "nodes", "rows/s", "time", "GPU hours", "cost", "waits for", "whose rate is"]
    lines = [heads, ["---", "---", "---:", "---:", "---:", "---:", "---", "---"], *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page() -> str:
    """Return the page."""
    rows = [
        [name, nodes, *_cells(estimate(recipe, overrides, assume))]
        for name, (recipe, overrides) in CASES.items()
        for nodes, assume in NODES
    ]
    cpu = [
        ["float32", "64 CPUs, one thread a worker", *_cells(estimate("quickstart", [], "cpus=64"))],
        ["float32", "2 CPUs", *_cells(estimate("quickstart", [], "cpus=2"))],
        ["float16", "one H100", *_cells(estimate("quickstart", ["align.gpus=1"], "cpus=24,gpus=1,gpu=H100"))],
    ]
    name = next(iter(CASES))
    whole = estimate(*CASES[name], NODES[0][1]).markdown()
    return _HEAD + _table("models", rows) + _FOOT + _table("number format", cpu) + _LAST + whole + "\n" + _MADE


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page(), end="")
