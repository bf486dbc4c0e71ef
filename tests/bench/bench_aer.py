"""Alignment error rate of every hard method: prints a Markdown table.

    python tests/bench/bench_aer.py [--dtype float32] [--level word] [--layer auto] [--center pair]

Gold links are read from the folder in XNER_SHARED (default ../shared): French, Romanian and Hindi with English, and
ten languages of XL-WA (at most --pairs sentences each). Built-in encoder, or --encoder. `dot` is awesome-align's rule
on dot products.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))
from aer import Gold, rates, read_gold, read_xl_wa  # noqa: E402

from xner_ray.align.encoder import Encoder  # noqa: E402
from xner_ray.align.linking import AlignOptions, align  # noqa: E402
from xner_ray.data.links import METHODS, Links  # noqa: E402
from xner_ray.errors import Reason  # noqa: E402


def gold_sets(pairs: int) -> dict[str, list[Gold]]:
    shared = Path(os.environ.get("XNER_SHARED", ROOT.parent / "shared")) / "data"
    sets = {name: read_gold(shared / "gold-alignments", name) for name in ("enfr", "roen", "enhi")}
    sets |= {path.stem: read_xl_wa(path) for path in sorted((shared / "xl-wa-dev").glob("*.tsv"))}
    return {name: gold[:pairs] for name, gold in sets.items()}


def error_rate(links: Links, gold: list[Gold]) -> float:
    found: list[set[tuple[int, int]]] = [set() for _ in gold]
    for row, i, j in zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True):
        found[row].add((i, j))
    return rates(found, gold).aer * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--layer", default="auto", help="auto, a number, or several separated by commas")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--level", default="word", choices=("word", "subword"))
    parser.add_argument("--center", default="none", choices=("none", "pair"))
    parser.add_argument("--distortion", type=float, default=0.0)
    parser.add_argument("--temperature", type=float, default=None)
    parser.add_argument("--thresholds", default="", help="of softmax on cosines, separated by commas: one column each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    layer = options.layer if options.layer == "auto" else [int(number) for number in options.layer.split(",")]
    encoder = Encoder(
        options.encoder, layer=layer, dtype=options.dtype, threads=options.threads, device=options.device
    )  # fmt: skip
    encode = encoder.encode_subwords if options.level == "subword" else encoder.encode
    thresholds = [float(value) for value in options.thresholds.split(",") if value]
    columns = [*METHODS, "dot", *(f"softmax {value}" for value in thresholds)]
    table: dict[str, list[float]] = {}
    for name, gold in gold_sets(options.pairs).items():
        found = encode([g.source for g in gold] + [g.target for g in gold])
        whole = [index for index in range(len(gold)) if not isinstance(found[index], Reason)]
        whole = [index for index in whole if not isinstance(found[index + len(gold)], Reason)]
        sides = [[found[index + shift] for index in whole] for shift in (0, len(gold))]
        gold = [gold[index] for index in whole]

        def links(sides: list = sides, **more: object) -> Links:
            given = {"level": options.level, "center": options.center, "distortion": options.distortion, **more}
            return align(*sides, AlignOptions(**given), methods=METHODS, device=options.device)  # type: ignore[arg-type]

        cosine, dot = links(temperature=options.temperature), links(similarity="dot")
        table[name] = [error_rate(cosine.hard(method), gold) for method in METHODS]
        table[name].append(error_rate(dot.hard("softmax"), gold))
        for value in thresholds:
            other = links(temperature=options.temperature, threshold=value)
            table[name].append(error_rate(other.hard("softmax"), gold))
    print("| AER | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    table["mean of XL-WA"] = np.mean([table[name] for name in list(table)[3:]], axis=0).tolist()
    for name, values in table.items():
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


if __name__ == "__main__":
    main()
