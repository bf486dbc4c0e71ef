"""A GPU that is not there: our host code around models whose steps take the time of a roofline.

What is not simulated: launching kernels, which holds the interpreter (12 ms a step of decoding on one core,
docs/sizing.md), the start of processes, memory, and noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from simulated_times import WIDTH, SimulatedDevice

from xner_ray.align.encoder import Encoder
from xner_ray.models import network, windows
from xner_ray.models.e5 import builtin_folder
from xner_ray.models.kept import KeptStates
from xner_ray.recipe.sections import ModelRuntime
from xner_ray.translate.languages import Languages
from xner_ray.translate.nllb import NllbTranslator, tokenizer_of

GPU_TOKENS = ModelRuntime.gpu_tokens


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
        self.layers, self.dim, self.precision = [1], WIDTH, "float16"
        self.kept = KeptStates("cpu")
        vectors = torch.randn(len(tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))
        self.simulation_s = 0.0

        def states(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            started = time.process_time()
            found = vectors[inputs["input_ids"]]
            self.simulation_s += time.process_time() - started
            device.run(seconds(*inputs["input_ids"].shape))
            return found

        self.network: Any = states
