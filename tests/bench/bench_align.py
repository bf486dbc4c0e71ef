"""Word alignment: words to links by our encoder and aligner, against simalign, on the same model and sentences.

    python tests/bench/bench_align.py [PAIRS] [THREADS] [cpu|cuda]

Europarl English-Spanish from jobs/data, built-in encoder, hidden state 7, one pair a call for simalign, one list for
us; the same number of threads. Each way runs three times in turn, the fastest counts, and a warm-up call of each is
left out. The device is ours; simalign stays on the CPU. "Equal" counts links of itermax that both float32 ways find;
near ties differ.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from xner_ray.align import align
from xner_ray.aligner import BatchAligner
from xner_ray.builtin_encoder import LAYER
from xner_ray.encode import Encoder
from xner_ray.links import Links
from xner_ray.simalign_backend import SimAligner

DATA = Path(__file__).parents[2] / "jobs" / "data"
ROUNDS = 3
Cells = set[tuple[int, int, int]]


def sentences(number: int) -> list[list[list[str]]]:
    sides = []
    for name in ("europarl.en.conll", "europarl.es.conll"):
        blocks = (DATA / name).read_text(encoding="utf-8").strip().split("\n\n")
        sides.append([[line.split("\t")[0] for line in block.splitlines()] for block in blocks][:number])
    return sides


def keys(links: Links) -> Cells:
    return set(zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True))


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    source, target = sentences(number)
    number = len(source)
    torch.set_num_threads(threads)

    # simalign alone, without what our backend adds
    theirs = {
        f"simalign 0.4 {method}": SimAligner("builtin", layer=LAYER, methods=[method], threads=threads).aligner
        for method in ("itermax", "mwmf")
    }
    theirs["simalign 0.4 itermax"].matching_methods = ["itermax"]
    theirs["simalign 0.4 mwmf"].matching_methods = ["mwmf"]
    ours = {
        f"xner_ray {dtype} {method}": BatchAligner(
            Encoder("builtin", dtype=dtype, device=device, threads=threads), methods=[method]
        )
        for dtype, method in (("float32", "itermax"), ("float32", "mwmf"), ("bfloat16", "itermax"), ("int8", "itermax"))
        if device == "cpu" or dtype != "int8"
    }  # fmt: skip

    def run_theirs(name: str, n: int) -> Cells:
        method = name.split()[-1]
        pairs = zip(source[:n], target[:n], strict=True)
        return {(row, i, j) for row, pair in enumerate(pairs) for i, j in theirs[name].get_word_aligns(*pair)[method]}

    def run_ours(name: str, n: int) -> Cells:
        return keys(ours[name].align(source[:n], target[:n])[0].hard(name.split()[-1]))

    ways: dict[str, Callable[[str, int], Cells]] = {
        **dict.fromkeys(theirs, run_theirs),
        **dict.fromkeys(ours, run_ours),
    }
    best, found = dict.fromkeys(ways, float("inf")), {}
    for name, way in ways.items():
        way(name, 2)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way(name, number)
            best[name] = min(best[name], time.perf_counter() - started)

    base = best["simalign 0.4 itermax"]
    print(f"{number} pairs, {sum(map(len, source)) / number:.0f} source words each; {threads} threads, {device}\n")
    print("| way | pairs/s | against simalign, same method | equal links | links changed from float32 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in ways:
        method = name.split()[-1]
        expected, exact = found[f"simalign 0.4 {method}"], found[f"xner_ray float32 {method}"]
        ratio = best[f"simalign 0.4 {method}"] / best[name]
        same = len(found[name] & expected) / len(expected)
        changed = len(found[name] ^ exact)
        print(f"| {name} | {number / best[name]:.1f} | {ratio:.1f} | {same:.2%} | {changed} of {len(exact)} |")

    print(f"\nsimalign itermax: {base / number * 1e3:.1f} ms a pair. Ours, encoder + alignment:")
    for name, aligner in ours.items():
        started = time.perf_counter()
        vectors = aligner.encoder.encode([*source, *target])
        between = time.perf_counter()
        align(vectors[:number], vectors[number:], aligner.options, methods=aligner.methods)  # type: ignore[arg-type]
        ended = time.perf_counter()
        print(f"{name}: {(between - started) / number * 1e3:.2f} + {(ended - between) / number * 1e3:.2f} ms a pair")


if __name__ == "__main__":
    main()
