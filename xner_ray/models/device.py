"""The device, the number format and the time of a model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from xner_ray.errors import RetryableError

if TYPE_CHECKING:
    import torch

    from xner_ray.recipe.sections import ModelRuntime, Runtime

FAKE_GPU = "XNER_RAY_FAKE_GPU"
"""Set to 1 on a test cluster whose GPUs Ray only counts: stages that ask for one then run on the CPU. Nowhere else."""


class Timed:
    """A class around a model. `model_seconds` is the wall time in `with self.in_model():` blocks, failed ones included.

    On a GPU a block must hold the transfer of its results to the host: without it, a call only queues work.
    """

    model_seconds: float = 0.0

    @contextmanager
    def in_model(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.model_seconds += time.perf_counter() - started


def pick_dtype(name: Literal["auto", "float32", "bfloat16", "float16"], device: str) -> torch.dtype:
    """Return torch's type; `auto` is float32 on a CPU and float16 on a GPU.

    Of 200 translations of tiny-nllb bfloat16 changes 7, float16 none; of the built-in encoder's links 0.5 to 0.7 % and
    0.07 to 0.14 %. What overflows in float16 is no finite number, which is looked for.
    """
    import torch  # takes seconds, and checks of a recipe need none of it

    if name == "auto":
        return torch.float32 if device == "cpu" else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def kind_of_device(section: Runtime) -> Literal["cpu", "cuda"]:
    """Return the kind of device that a stage asks for; no device is looked at, so a driver without a GPU may ask."""
    return "cuda" if section.gpus and os.environ.get(FAKE_GPU) != "1" else "cpu"


def budget_of(section: ModelRuntime) -> int:
    """Return the padded tokens of one forward pass: those that are stated, else by the device.

    Workers that share a GPU (`gpus: 0.25`) have the same budget: smaller batches would lose what sharing gains.
    """
    if section.micro_batch_tokens is not None:
        return section.micro_batch_tokens
    return section.gpu_tokens if kind_of_device(section) == "cuda" else section.cpu_tokens


def device_of(section: Runtime, n_visible: int | None = None) -> Literal["cpu", "cuda"]:
    """Return the device on which this process runs the models of a stage: a GPU if it asks for one, never the CPU.

    n_visible: CUDA devices that the stage's library sees; None asks torch. RetryableError if there are none: the fault
    is this node's (its driver, or a build without CUDA), and another node may do better.
    """
    kind = kind_of_device(section)
    if kind == "cuda":
        if n_visible is None:
            import torch

            n_visible = torch.cuda.device_count()
        if n_visible == 0:
            raise RetryableError(
                f"gpus is {section.gpus:g}, but this worker sees no CUDA device: check the driver of its node and the "
                f"build of the library (torch, ctranslate2); gpus: 0 computes on CPUs, and {FAKE_GPU}=1 is for test "
                "clusters whose GPUs Ray only counts"
            )
    return kind
