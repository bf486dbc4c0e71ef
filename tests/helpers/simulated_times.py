"""A device that is not there: whose turn it is, and what a step takes; for the code of any version.

A device does one thing at a time, for all processes that share it, and the interpreter is free meanwhile, as in a wait
for a real one. Of xner_ray nothing is imported but the roofline, which stands alone.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence

import numpy as np

from xner_ray.sizing.roofline import Device, Model, decode_step_seconds, encode_seconds

WIDTH = 16  # of a simulated vector: enough to be told apart


class SimulatedDevice:
    """A device, and how long it was busy: shared by the processes that this one forks."""

    def __init__(self) -> None:
        self._free = multiprocessing.Lock()
        self._busy = multiprocessing.Value("d", 0.0)

    def run(self, seconds: float) -> None:
        """Take the device for some seconds."""
        with self._free:
            started = time.perf_counter()
            time.sleep(seconds)
            self._busy.value += time.perf_counter() - started

    @property
    def busy_s(self) -> float:
        return float(self._busy.value)


def translate_seconds(model: Model, gpu: Device, beams: int) -> Callable[[int, int, int], float]:
    """Return the time of a batch: one pass of the encoder, a step a token, one pass of the decoder for the score."""

    def seconds(rows: int, width: int, steps: int) -> float:
        decoding = sum(decode_step_seconds(model, gpu, rows, beams, n, source_tokens=width) for n in range(steps))
        # Scoring reads every token at once: the weights of the decoder, and the logits in chunks
        tokens = rows * steps
        weights = model.decoder_weights + model.vocabulary * model.width
        scoring = gpu.seconds(2 * weights + 12 * tokens * model.vocabulary, 2 * weights * tokens, 300)
        return encode_seconds(model, gpu, rows, width) + decoding + scoring

    return seconds


def align_seconds(model: Model, gpu: Device, layers: int) -> Callable[[int, int], float]:
    """Return the time of a pass of an encoder that is cut after some layers."""
    return lambda rows, width: encode_seconds(model, gpu, rows, width, layers)


def unlike(sentences: Sequence[str], number: int, seed: int = 0) -> list[str]:
    """Return so many sentences with the words of these, of their lengths, no two alike: words of two are mixed."""
    draw = np.random.default_rng(seed)
    words = [sentence.split(" ") for sentence in sentences]
    found = []
    for index in range(number):
        own, other = words[index % len(words)], words[draw.integers(len(words))]
        cut = int(draw.integers(len(own) + 1))
        found.append(" ".join([*own[:cut], *other[cut : len(own)], f"{index}"]))
    return found
