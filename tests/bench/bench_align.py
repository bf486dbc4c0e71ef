"""Word alignment: words to links by our encoder and aligner, against simalign, on the same model and sentences.

    python tests/bench/bench_align.py [--pairs 100] [--threads 2] [--device cpu|cuda] [--shape builtin|mbert|xlmr-large]

Europarl English-Spanish from jobs/data, one pair a call for simalign, one list for us; the same number of threads and
the same device. The built-in encoder gives hidden state 7; the other shapes are those of the published configurations
with random weights and the built-in tokenizer, cut after state 8. Each way runs three times in turn, the fastest
counts, and a warm-up call of each is left out. "Equal" counts links that both float32 ways find; near ties differ.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from xner_ray.align.aligner import BatchAligner
from xner_ray.align.encoder import Encoder
from xner_ray.align.linking import align
from xner_ray.align.simalign import SimAligner
from xner_ray.data.links import Links
from xner_ray.models.e5 import LAYER, builtin_folder

DATA = Path(__file__).parents[2] / "jobs" / "data"
ROUNDS = 3
Cells = set[tuple[int, int, int]]
PIECES = 250_002  # of the built-in tokenizer; what a row of the embedding costs does not depend on their number
SHAPES = {
    "mbert": (BertConfig, BertModel, 768, 12, 12, 3072),
    "xlmr-large": (XLMRobertaConfig, XLMRobertaModel, 1024, 24, 16, 4096),
}


def sentences(number: int) -> list[list[list[str]]]:
    sides = []
    for name in ("europarl.en.conll", "europarl.es.conll"):
        blocks = (DATA / name).read_text(encoding="utf-8").strip().split("\n\n")
        sides.append([[line.split("\t")[0] for line in block.splitlines()] for block in blocks][:number])
    return sides


def keys(links: Links) -> Cells:
    return set(zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True))


def make(shape: str, folder: Path) -> str:
    """A model folder of a published shape with random weights."""
    configuration, network, width, layers, heads, inner = SHAPES[shape]
    for file in builtin_folder().glob("tokenizer*"):
        shutil.copy(file, folder)
    torch.manual_seed(0)
    config = configuration(
        vocab_size=PIECES, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=514, pad_token_id=1,
    )  # fmt: skip
    network(config).save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shape", default="builtin", choices=("builtin", *SHAPES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.shape == "builtin":
            compare("builtin", LAYER, options.pairs, options.threads, options.device)
        else:
            compare(make(options.shape, Path(folder)), 8, options.pairs, options.threads, options.device)


def compare(model: str, layer: int, number: int, threads: int, device: str) -> None:
    source, target = sentences(number)
    number = len(source)
    torch.set_num_threads(threads)

    # simalign alone, without what our backend adds
    theirs = {
        f"simalign 0.4 {method}": SimAligner(
            model, layer=layer, methods=[method], threads=threads, device=device
        ).aligner
        for method in ("itermax", "mwmf")
    }
    theirs["simalign 0.4 itermax"].matching_methods = ["itermax"]
    theirs["simalign 0.4 mwmf"].matching_methods = ["mwmf"]
    ours = {
        f"xner_ray {dtype} {method}": BatchAligner(
            Encoder(model, layer=layer, dtype=dtype, device=device, threads=threads), methods=[method]
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
        vectors = aligner.encoder.encode([*source, *target]).arrays()
        between = time.perf_counter()
        align(vectors[:number], vectors[number:], aligner.options, methods=aligner.methods)  # type: ignore[arg-type]
        ended = time.perf_counter()
        print(f"{name}: {(between - started) / number * 1e3:.2f} + {(ended - between) / number * 1e3:.2f} ms a pair")


if __name__ == "__main__":
    main()
