"""The contract of a stage, and what all stages around a model share.

A stage is a plain class that knows nothing of an executor: built from the recipe, it loads its model; called with a
table of rows, it returns the same rows in the same order with its columns filled. It rejects a row that it cannot
handle, with a reason; rows rejected earlier pass through.
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Budgeted(Protocol):
    """The counters of a model, and its budget.

    tokens: read since the start; never more than 0 without a model.
    model_seconds: wall time in the model since the start.
    micro_batch_tokens: what to halve when memory runs out; 0 if there is nothing to halve.
    """

    micro_batch_tokens: int

    @property
    def tokens(self) -> int: ...

    @property
    def model_seconds(self) -> float: ...


class Stage(Budgeted, Protocol):
    name: str

    def __call__(self, table: pa.Table) -> pa.Table: ...


class ModelStage:
    """Passes on the counters and the budget of its model."""

    def __init__(self, model: Budgeted) -> None:
        self._model = model

    @property
    def tokens(self) -> int:
        return self._model.tokens

    @property
    def model_seconds(self) -> float:
        return self._model.model_seconds

    @property
    def micro_batch_tokens(self) -> int:
        return self._model.micro_batch_tokens

    @micro_batch_tokens.setter
    def micro_batch_tokens(self, value: int) -> None:
        self._model.micro_batch_tokens = value
