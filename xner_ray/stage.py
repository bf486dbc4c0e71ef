"""The contract of a stage, and what all stages around a model share.

A stage is a plain class that never heard of Ray: built from the recipe, it loads its model; called with a table of rows
it returns the same rows in the same order with its columns filled. A row that it cannot handle is rejected with a
reason; rows that are rejected already pass through. `tokens` counts what its model read, `model_seconds` the wall time
in it (0 without a model), `micro_batch_tokens` is what the engine halves when memory runs out; `recall` is there where
a row's bytes depend on the rows beside it.
"""

from __future__ import annotations

import os
from typing import Literal, Protocol

import pyarrow as pa

from xner_ray.errors import RetryableError
from xner_ray.recall import Recall
from xner_ray.sections import Runtime

FAKE_GPU = "XNER_RAY_FAKE_GPU"
"""Set to 1 on a test cluster whose GPUs Ray only counts: what asks for one then runs on the CPU. Nowhere else."""


class Stage(Protocol):
    name: str
    micro_batch_tokens: int  # 0: works row by row

    @property
    def tokens(self) -> int: ...

    @property
    def recall(self) -> Recall | None: ...

    @property
    def model_seconds(self) -> float: ...

    def __call__(self, table: pa.Table) -> pa.Table: ...


class Budgeted(Protocol):
    """A model that counts its tokens and seconds, and works in micro-batches."""

    micro_batch_tokens: int

    @property
    def tokens(self) -> int: ...

    @property
    def model_seconds(self) -> float: ...


class ModelStage:
    """Passes the counters of its model on."""

    def __init__(self, model: Budgeted) -> None:
        self._model = model

    @property
    def tokens(self) -> int:
        return self._model.tokens

    @property
    def recall(self) -> Recall | None:
        return getattr(self._model, "recall", None)

    @property
    def model_seconds(self) -> float:
        return self._model.model_seconds

    @property
    def micro_batch_tokens(self) -> int:
        return self._model.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self._model.micro_batch_tokens = value


def kind_of_device(section: Runtime) -> Literal["cpu", "cuda"]:
    """What a stage asks for. Nothing is looked at, so a driver without a GPU may ask too."""
    return "cuda" if section.gpus and os.environ.get(FAKE_GPU) != "1" else "cpu"


def device_of(section: Runtime, n_visible: int | None = None) -> Literal["cpu", "cuda"]:
    """Where this process runs the models of a stage. A stage that asks for a GPU never runs on the CPU instead.

    n_visible: CUDA devices that the stage's library sees; None asks torch. RetryableError if there is none: that is
    this node's fault (its driver, or a build without CUDA), and another node may do better.
    """
    kind = kind_of_device(section)
    if kind == "cuda":
        if n_visible is None:
            import torch  # takes seconds, and the recipe's checks need none of it

            n_visible = torch.cuda.device_count()
        if n_visible == 0:
            raise RetryableError(
                f"gpus is {section.gpus:g}, but this worker sees no CUDA device: look at the driver of its node and at "
                f"the build of the library (torch, ctranslate2); gpus: 0 computes on CPUs, and {FAKE_GPU}=1 is for "
                "test clusters whose GPUs Ray only counts"
            )
    return kind
