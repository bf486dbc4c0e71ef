"""A GPU that is not there: our host code around models whose steps take the time of a roofline.

A device does one thing at a time, for all processes that share it, and the interpreter is free meanwhile, as in a wait
for a real one. What is not simulated: launching kernels, which holds the interpreter (12 ms a step of decoding on one
core, docs/sizing.md), the start of processes, memory, and noise.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xner_ray.align.encoder import Encoder
from xner_ray.models import network, windows
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.kept import KeptStates
from xner_ray.recipe.sections import ModelRuntime
from xner_ray.sizing.roofline import Device, Model, decode_step_seconds, encode_seconds
from xner_ray.translate.languages import Languages
from xner_ray.translate.nllb import NllbTranslator, tokenizer_of

GPU_TOKENS = ModelRuntime.gpu_tokens
_WIDTH = 16  # of a simulated vector: enough to be told apart


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


class SimulatedNllb(NllbTranslator):
    """An NLLB that knows its answers. seconds: what a batch takes, by its rows, source width, and steps."""

    def __init__(
        self,
        device: SimulatedDevice,
        answers: Mapping[str, str],
        langs: tuple[str, str],
        seconds: Callable[[int, int, int], float],
        beams: int = 1,
    ) -> None:
        self.name, self.beams, self.max_new_tokens, self.positions, self.tokens = "simulated", beams, None, 1024, 0
        self.micro_batch_tokens = self.budget = GPU_TOKENS
        self.tokenizer = tokenizer_of("tiny-nllb")
        self.languages = Languages(self.tokenizer, self.name)
        self.device, self.seconds = device, seconds
        source, target = langs
        self.tokenizer.src_lang = source
        asked = self.tokenizer(list(answers), split_special_tokens=True)["input_ids"]
        self.tokenizer.src_lang = target
        given = self.tokenizer(list(answers.values()), split_special_tokens=True)["input_ids"]
        start = self.tokenizer.eos_token_id
        self.answers = {tuple(ids): [start, *out] for ids, out in zip(asked, given, strict=True)}
        self.simulation_s = 0.0

    def _run(
        self, ids: list[list[int]], first: tuple[int, ...], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        started = time.process_time()
        rows = [self.answers[tuple(row)][: limit + 1] for row in ids]
        steps = max(map(len, rows)) - 1
        sequences = np.full((len(rows), steps + 1), self.tokenizer.pad_token_id, dtype=np.int64)
        for number, row in enumerate(rows):
            sequences[number, : len(row)] = row
        self.simulation_s += time.process_time() - started
        self.device.run(self.seconds(len(rows), max(map(len, ids)), steps))
        return sequences, np.full((len(rows), steps), -0.5, dtype=np.float32)


class SimulatedEncoder(Encoder):
    """The built-in encoder's tokenizer, and a vector for each subword. seconds: of a pass, by its rows and width."""

    def __init__(self, device: SimulatedDevice, seconds: Callable[[int, int], float]) -> None:
        tokenizer = network.fast_tokenizer(str(builtin_folder()), "align.encoder")
        windows.WindowReader.__init__(self, tokenizer, 512, torch.device("cpu"), GPU_TOKENS)
        self.layers, self.dim, self.precision = [1], _WIDTH, "float16"
        self.kept = KeptStates("cpu")
        vectors = torch.randn(len(tokenizer), _WIDTH, generator=torch.Generator().manual_seed(0))
        self.simulation_s = 0.0

        def states(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            started = time.process_time()
            found = vectors[inputs["input_ids"]]
            self.simulation_s += time.process_time() - started
            device.run(seconds(*inputs["input_ids"].shape))
            return found

        self.network: Any = states


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
