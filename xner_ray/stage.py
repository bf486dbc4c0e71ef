"""The contract of a stage, and what all stages around a model share.

A stage is a plain class that knows nothing of an executor: built from the recipe, it loads its model; called with a
table of rows, it returns the same rows in the same order with its columns filled. It rejects a row that it cannot
handle, with a reason; rows rejected earlier pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

A = TypeVar("A")
R = TypeVar("R")


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
    """Passes on the counters and the budget of its model, and lets it forget."""

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

    def forget(self) -> None:
        """Let go of what was read for the unit before."""
        if (forgets := getattr(self._model, "forget", None)) is not None:
            forgets()


def forget(stage: Stage) -> None:
    """Let a stage forget what it read for the unit before, if it remembers that."""
    if (forgets := getattr(stage, "forget", None)) is not None:
        forgets()


class LastResult(Generic[A, R]):
    """What a function gave for its last argument.

    The units of one range of rows, one a language, have the same source side: what reads it reads it once for all of
    them, if it is asked for all of its rows, whatever became of them in one language. An argument is kept, and must
    not be changed.
    """

    def __init__(self) -> None:
        self._last: tuple[A, R] | None = None

    def of(self, argument: A, function: Callable[[A], R]) -> R:
        """Return function(argument), from the call before if that was with an equal argument."""
        if self._last is None or self._last[0] != argument:
            self._last = None  # its memory may be needed
            self._last = argument, function(argument)
        return self._last[1]

    def forget(self) -> None:
        self._last = None
