"""Word alignment: our encoder and itermax against simalign, one pair a call, on the same model and sentences.

    python tests/bench/bench_align.py [PAIRS]

Europarl English-Spanish from jobs/data, built-in encoder, hidden state 7. Both are given words, run on one thread, and
must find the same links, near ties aside; a warm-up call of each is left out of the times.
"""

import sys
import time
from pathlib import Path

import torch
from simalign import SentenceAligner

from xner_ray.align import extract, make_links, similarity
from xner_ray.builtin_encoder import LAYER, builtin_folder
from xner_ray.encode import Encoder
from xner_ray.errors import Reason

DATA = Path(__file__).parents[2] / "jobs" / "data"
Pair = tuple[list[str], list[str]]


def pairs(number: int) -> list[Pair]:
    sides = []
    for name in ("europarl.en.conll", "europarl.es.conll"):
        blocks = (DATA / name).read_text(encoding="utf-8").strip().split("\n\n")
        sides.append([[line.split("\t")[0] for line in block.splitlines()] for block in blocks])
    return list(zip(*sides, strict=True))[:number]


def ours(encoder: Encoder, data: list[Pair]) -> list[set[tuple[int, int]]]:
    vectors = encoder.encode([source for source, _ in data] + [target for _, target in data])
    found = []
    for source, target in zip(vectors[: len(data)], vectors[len(data) :], strict=True):
        assert not isinstance(source, Reason)
        assert not isinstance(target, Reason)
        links = make_links(similarity(source, target))
        found.append(set(extract(links, len(source), len(target), "itermax")))
    return found


def main() -> None:
    data = pairs(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    torch.set_num_threads(1)
    encoder = Encoder("builtin", threads=1)
    aligner = SentenceAligner(model=str(builtin_folder()), token_type="word", matching_methods="i", layer=LAYER)
    torch.set_num_threads(1)
    ours(encoder, data[:2])
    aligner.get_word_aligns(*data[0])

    started = time.perf_counter()
    found = ours(encoder, data)
    our_seconds = time.perf_counter() - started
    started = time.perf_counter()
    expected = [set(aligner.get_word_aligns(*pair)["itermax"]) for pair in data]
    their_seconds = time.perf_counter() - started

    same = sum(a == b for a, b in zip(found, expected, strict=True))
    print(f"{len(data)} pairs, equal links in {same}")
    print(f"simalign 0.4 (baseline)  {len(data) / their_seconds:6.1f} pairs/s")
    print(f"xner_ray                 {len(data) / our_seconds:6.1f} pairs/s")
    print(f"ratio                    {their_seconds / our_seconds:6.2f}")


if __name__ == "__main__":
    main()
