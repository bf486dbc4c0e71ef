"""The contract of a stage, and what all stages around a model share.

A stage is a plain class that never heard of Ray: built from the recipe, it loads its model; called with a table of rows
it returns the same rows in the same order with its columns filled. A row that it cannot handle is rejected with a
reason; rows that are rejected already pass through. `tokens` counts what its model read, `model_seconds` the wall time
in it (0 without a model), `micro_batch_tokens` is what the engine halves when memory runs out; `recall` is there where
a row's bytes depend on the rows beside it.
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from xner_ray.models.replay import Recall


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
