"""The built-in tagger on one core: alone against the nine layers that it has, and beside `align`.

    python tests/bench/bench_tagger.py [--rows 799] [--rounds 3]

Baselines: the encoder's nine lower layers over the same micro-batches, without words, classes or spans; and `align`
over the same rows. Prints CPU milliseconds a sentence, the tagger's speed as a share of the bare layers', and what it
adds to `align`, with shared states and without. Rounds alternate; the least time of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sample_text import SAMPLES, conll  # noqa: E402

from xner_ray.align.aligner import BatchAligner  # noqa: E402
from xner_ray.align.encoder import Encoder  # noqa: E402
from xner_ray.models import e5, network  # noqa: E402
from xner_ray.models.kept import KEPT_BYTES  # noqa: E402
from xner_ray.models.windows import Ints, WindowReader  # noqa: E402
from xner_ray.recipe.sections import Tag  # noqa: E402
from xner_ray.tag.builtin import BuiltinTagger  # noqa: E402

UNIT_ROWS = 256


class Bare(WindowReader):
    """Nine layers and nothing else."""

    def __init__(self) -> None:
        tokenizer, module = network.load(str(e5.builtin_folder()), torch.float32)
        super().__init__(tokenizer, network.positions_of(module, tokenizer), torch.device("cpu"), 4096)
        self.network = network.Network(module, [9], tokenizer)
        assert self.network.speed_up("float32")

    def __call__(self, sentences: list[list[str]]) -> None:
        windows = self.split(sentences)

        def forward(inputs: dict[str, torch.Tensor], _batch: Ints) -> None:
            self.network(inputs)

        self.read(windows, np.arange(len(windows.lengths)), forward)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=799)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, target = (conll(SAMPLES / f"europarl.{side}.conll")[: options.rows] for side in ("en", "es"))
    units = [slice(at, at + UNIT_ROWS) for at in range(0, len(source), UNIT_ROWS)]
    bare, tagger, aligner = Bare(), BuiltinTagger(Tag(engine="builtin")), BatchAligner(Encoder("builtin", threads=1))
    kept = KEPT_BYTES["cpu"]

    def tag(unit: slice) -> None:
        tagger.tag([(words, [True] * len(words)) for words in source[unit]])

    def align(unit: slice) -> None:
        aligner.align(source[unit], target[unit])
        aligner.forget()

    def both(unit: slice) -> None:
        tag(unit)
        align(unit)

    def apart(unit: slice) -> None:
        tagger.shared.kept._left = 0
        both(unit)
        tagger.shared.kept._left = kept

    def alone(unit: slice) -> None:
        tagger.shared.kept.wanted = False
        tag(unit)
        tagger.shared.kept.wanted = True

    ways: dict[str, Callable[[slice], None]] = {
        "nine bare layers": lambda unit: bare(source[unit]),
        "tagger alone": alone,
        "align alone": align,
        "tagger and align": both,
        "the same, nothing shared": apart,
    }
    least = dict.fromkeys(ways, float("inf"))
    for number in range(options.rounds + 1):  # the first round warms up
        for name, way in ways.items():
            started = time.process_time()
            for unit in units:
                way(unit)
            if number:
                least[name] = min(least[name], time.process_time() - started)
    cost = {name: 1e3 * seconds / len(source) for name, seconds in least.items()}
    for name, each in cost.items():
        print(f"{name:26}{each:7.2f} ms a sentence")
    print(f"the tagger alone has {cost['nine bare layers'] / cost['tagger alone']:.2f} of the bare layers' speed")
    for name in ("tagger and align", "the same, nothing shared"):
        print(f"{name}: {cost[name] - cost['align alone']:.2f} ms more than align alone")


if __name__ == "__main__":
    main()
